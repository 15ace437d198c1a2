//! What is known from outside: who asked and was told, when the source was asked, which tokens live.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokenflight::clock::{Clock, Timestamp};
use tokenflight::testing::ManualClock;
use tokenflight::{FetchContext, Token, TokenError};
use tokio::time::Instant;

use crate::support::*;

/// The policy's `wait_timeout`, and its `stale_if_error` where that is on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
pub(crate) const GRACE: Duration = Duration::from_secs(10);

type Outcome = Result<Token, TokenError>;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Handle,
    Message,
    Forced,
}

/// How a call to the source ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Landed,
    /// With the least time for which the source is to be left alone, whatever the policy says.
    Failed {
        least: Duration,
    },
    Refused,
    Panicked,
    GivenUp,
}

#[derive(Clone)]
pub(crate) struct Books(Arc<Mutex<Pages>>, ManualClock);

struct Pages {
    stale: bool,
    ended: bool,
    /// Each token's sending and life, by its secret.
    issued: BTreeMap<String, (Timestamp, Duration)>,
    tokens: Vec<Token>,
    rejected: BTreeSet<String>,
    last_rejected: Option<String>,
    /// Who waits, by a number, since when.
    asking: BTreeMap<u64, Instant>,
    asked: u64,
    told_ok: u64,
    /// When each subscription was made that has not been answered, by subscriber and ticket.
    subscribed: BTreeMap<(usize, u64), Instant>,
    calls: u64,
    running: bool,
    failures: u32,
    /// How and when the last call ended.
    last_end: Option<(End, Duration)>,
    faults: Vec<String>,
}

/// What all the histories together came to: their number, what was asked, calls to the source.
static TOTALS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

impl Books {
    pub(crate) fn new(clock: ManualClock, stale: bool) -> Self {
        let pages = Pages {
            stale,
            ended: false,
            issued: BTreeMap::new(),
            tokens: Vec::new(),
            rejected: BTreeSet::new(),
            last_rejected: None,
            asking: BTreeMap::new(),
            asked: 0,
            told_ok: 0,
            subscribed: BTreeMap::new(),
            calls: 0,
            running: false,
            failures: 0,
            last_end: None,
            faults: Vec::new(),
        };
        Self(Arc::new(Mutex::new(pages)), clock)
    }

    fn open(&self) -> MutexGuard<'_, Pages> {
        // A breach panics while the book is open; what follows may still read it.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Somebody asks, and awaits the answer.
    pub(crate) fn ask(&self, kind: Kind, answer: impl Future<Output = Option<Outcome>> + 'static) {
        let number = {
            let mut pages = self.open();
            pages.asked += 1;
            let number = pages.asked;
            pages.asking.insert(number, Instant::now());
            number
        };
        let books = self.clone();
        actix_rt::spawn(async move {
            let outcome = answer.await;
            match &outcome {
                Some(Ok(token)) => {
                    books.judge_token(token, kind != Kind::Forced);
                    books.open().told_ok += 1;
                }
                Some(Err(_)) => {}
                // A message that came after the end never arrived; any other has an answer.
                None if books.open().ended => {}
                None => books.fault("an answer was lost"),
            }
            books.open().asking.remove(&number);
        });
    }

    /// A pair that waits already is not owed a second answer.
    pub(crate) fn subscribes(&self, who: usize, ticket: u64) {
        let mut pages = self.open();
        if !pages.subscribed.contains_key(&(who, ticket)) {
            pages.asked += 1;
            pages.subscribed.insert((who, ticket), Instant::now());
        }
    }

    pub(crate) fn told_subscriber(&self, who: usize, ticket: u64, outcome: &Outcome) {
        if let Ok(token) = outcome {
            self.judge_token(token, true);
        }
        if self.open().subscribed.remove(&(who, ticket)).is_none() {
            self.fault(format!("subscriber {who} was told twice of ticket {ticket}"));
        }
    }

    pub(crate) fn subscriber_stops(&self, who: usize) {
        let mut pages = self.open();
        pages.subscribed.retain(|(of, _), _| *of != who);
    }

    pub(crate) fn ends(&self) {
        self.open().ended = true;
    }

    pub(crate) fn outstanding(&self) -> usize {
        let pages = self.open();
        pages.asking.len() + pages.subscribed.len()
    }

    pub(crate) fn told_ok(&self) -> u64 {
        self.open().told_ok
    }

    /// A panic here would end a task or an actor, and no test: so it is noted, and found at the next step.
    fn fault(&self, what: impl Into<String>) {
        self.open().faults.push(what.into());
    }

    /// No breach so far, and nobody has waited for too long.
    pub(crate) fn judge_waiting(&self) {
        let pages = self.open();
        assert!(pages.faults.is_empty(), "{:?}", pages.faults);
        for since in pages.asking.values().chain(pages.subscribed.values()) {
            let waited = since.elapsed();
            assert!(waited <= PATIENCE + millis(30), "somebody has waited for {waited:?}");
        }
    }

    pub(crate) fn add_to_totals(&self) {
        let pages = self.open();
        for (total, more) in TOTALS.iter().zip([1, pages.asked, pages.calls]) {
            total.fetch_add(more, Ordering::Relaxed);
        }
        let [histories, asked, calls] = TOTALS.each_ref().map(|total| total.load(Ordering::Relaxed));
        if histories.is_multiple_of(1_000) {
            println!("{histories} histories: {asked} asked, {calls} calls to the source");
        }
    }
}

/// Tokens.
impl Books {
    pub(crate) fn issue(&self, sent: Timestamp, life: Duration) -> Token {
        let secret = format!("token-{}", self.open().issued.len());
        self.issue_as(secret, sent, life)
    }

    /// The token that the API rejected last, once more.
    pub(crate) fn issue_rejected(&self, sent: Timestamp, life: Duration) -> Token {
        let rejected = self.open().last_rejected.clone();
        rejected.map_or_else(|| self.issue(sent, life), |secret| self.issue_as(secret, sent, life))
    }

    fn issue_as(&self, secret: String, sent: Timestamp, life: Duration) -> Token {
        let token = Token::new(secret.clone()).with_lifetime(life);
        let mut pages = self.open();
        pages.issued.insert(secret, (sent, life));
        pages.tokens.push(token.clone());
        token
    }

    pub(crate) fn rejected(&self, token: &Token) {
        let mut pages = self.open();
        pages.rejected.insert(token.secret().to_owned());
        pages.last_rejected = Some(token.secret().to_owned());
    }

    /// One that is not in use.
    pub(crate) fn some_old(&self, current: Option<&Token>) -> Option<Token> {
        let pages = self.open();
        let current = current.map(Token::secret);
        pages.tokens.iter().rev().find(|token| Some(token.secret()) != current).cloned()
    }

    /// Nothing expired or rejected is handed out.
    pub(crate) fn judge_token(&self, token: &Token, may_be_stale: bool) {
        let (overdue, rejected, stale) = {
            let pages = self.open();
            let rejected = pages.rejected.contains(token.secret());
            (self.overdue(&pages, token), rejected, pages.stale && may_be_stale)
        };
        let secret = token.secret();
        if rejected {
            self.fault(format!("{secret} was handed out though the API rejected it"));
        }
        if overdue.is_some_and(|overdue| !stale || overdue > GRACE) {
            self.fault(format!("{secret} was handed out {overdue:?} after its end"));
        }
    }

    /// How long it has been past its end, by either clock.
    fn overdue(&self, pages: &Pages, token: &Token) -> Option<Duration> {
        let now = self.1.now();
        let (sent, life) = pages.issued[token.secret()];
        let by_boot = now.boot.checked_sub(sent.boot + life);
        by_boot.max(now.wall.duration_since(sent.wall + life).ok())
    }
}

/// Calls to the source.
impl Books {
    pub(crate) fn call_begins(&self, cx: &FetchContext) -> Timestamp {
        let now = self.1.now();
        let mut pages = self.open();
        if pages.running {
            pages.faults.push("two calls at a time".to_owned());
        }
        pages.running = true;
        pages.calls += 1;
        let not_before = if cx.attempt == 1 { pages.next_flight() } else { pages.next_attempt() };
        if now.boot < not_before {
            pages.faults.push(format!("attempt {} came {:?} too early", cx.attempt, not_before - now.boot));
        }
        now
    }

    pub(crate) fn end_with(&self, token: &Token) -> End {
        let pages = self.open();
        let useless = pages.last_rejected.as_deref() == Some(token.secret());
        if useless || self.overdue(&pages, token).is_some() {
            End::Failed { least: Duration::ZERO }
        } else {
            End::Landed
        }
    }

    pub(crate) fn call_ends(&self, end: End) {
        let mut pages = self.open();
        pages.running = false;
        pages.last_end = Some((end, self.1.now().boot));
    }
}

impl Pages {
    /// The flight before is over: when the next one may begin.
    fn next_flight(&mut self) -> Duration {
        let Some((end, when)) = self.last_end.take() else { return Duration::ZERO };
        let least = match end {
            End::Landed => {
                self.failures = 0;
                return Duration::ZERO;
            }
            End::Panicked if self.failures == 0 => {
                self.failures = 1;
                return Duration::ZERO;
            }
            End::Failed { least } => least,
            End::Refused => secs(5),
            End::Panicked | End::GivenUp => Duration::ZERO,
        };
        self.failures += 1;
        when + secs(1 << (self.failures - 1).min(5)).min(secs(10)).max(least)
    }

    /// When the flight may try again: never after a refusal or a panic.
    fn next_attempt(&mut self) -> Duration {
        match self.last_end {
            Some((End::Failed { least }, when)) => when + least,
            Some((End::GivenUp, when)) => when,
            _ => Duration::MAX,
        }
    }
}
