//! The facts that are visible from outside: the callers that asked and were told, the calls to the source, the
//! tokens that are alive.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokenflight::clock::{Clock, Timestamp};
use tokenflight::testing::ManualClock;
use tokenflight::{FetchContext, Reason, Token, TokenError};
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
    Reporter,
}

impl Kind {
    /// Whether it is answered as soon as a token can be read.
    fn wants_any(self) -> bool {
        matches!(self, Self::Handle | Self::Message)
    }
}

/// What the policy says of reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReportRules {
    pub(crate) settle: Duration,
    pub(crate) at_once: u32,
    pub(crate) every: Duration,
}

#[derive(Clone, Copy)]
struct Came {
    published: Duration,
    latest: Duration,
}

/// How a call to the source ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Landed,
    /// With a secret that was reported: it lands, or the source is asked once more.
    Repeated,
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
    rules: ReportRules,
    ended: bool,
    /// Each secret's sendings and lives: a source may give it out again.
    issued: BTreeMap<String, Vec<(Timestamp, Duration)>>,
    tokens: Vec<Token>,
    /// What observers see.
    shown: Option<String>,
    /// In their order.
    reported: Vec<String>,
    discarded: Vec<String>,
    /// Secrets whose discard is on its way.
    to_be_discarded: Vec<String>,
    /// The earliest report since a token could be read, if a token is withheld for it.
    withheld_since: Option<Duration>,
    /// When each secret came last, and may have been published: one that had been reported may not have been.
    came: BTreeMap<String, Came>,
    /// When all of the budget for reports will have come back.
    budget_full_at: Duration,
    /// Before this a usable token may have been out of sight.
    clock_set_back: Option<Instant>,
    /// Timers stood still, by which the actor sees that a second has passed.
    suspended: Option<Instant>,
    /// Since when the actor has been idle without a usable token, and how many calls there had been by then.
    barren: Option<(Instant, u64)>,
    /// Who waits, by a number, since when.
    asking: BTreeMap<u64, (Kind, Instant)>,
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
    pub(crate) fn new(clock: ManualClock, stale: bool, rules: ReportRules) -> Self {
        let pages = Pages {
            stale,
            rules,
            ended: false,
            issued: BTreeMap::new(),
            tokens: Vec::new(),
            shown: None,
            reported: Vec::new(),
            discarded: Vec::new(),
            to_be_discarded: Vec::new(),
            withheld_since: None,
            came: BTreeMap::new(),
            budget_full_at: Duration::ZERO,
            clock_set_back: None,
            suspended: None,
            barren: None,
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
            pages.asking.insert(number, (kind, Instant::now()));
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
        for since in pages.asking.values().map(|(_, since)| since).chain(pages.subscribed.values()) {
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

    /// A secret that was reported, once more, with a new life.
    pub(crate) fn issue_reported(&self, back: usize, sent: Timestamp, life: Duration) -> Token {
        let reported = self.open().reported.iter().rev().nth(back).cloned();
        reported.map_or_else(|| self.issue(sent, life), |secret| self.issue_as(secret, sent, life))
    }

    pub(crate) fn issue_discarded(&self, sent: Timestamp, life: Duration) -> Token {
        let discarded = self.open().discarded.last().cloned();
        discarded.map_or_else(|| self.issue(sent, life), |secret| self.issue_as(secret, sent, life))
    }

    fn issue_as(&self, secret: String, sent: Timestamp, life: Duration) -> Token {
        let token = Token::new(secret.clone()).with_lifetime(life);
        let mut pages = self.open();
        pages.issued.entry(secret).or_default().push((sent, life));
        pages.tokens.push(token.clone());
        token
    }

    pub(crate) fn reported(&self, token: &Token) {
        let mut pages = self.open();
        pages.reported.retain(|secret| secret != token.secret());
        pages.reported.push(token.secret().to_owned());
    }

    /// Callers may have to wait from now on.
    pub(crate) fn invalidated(&self, token: &Token) {
        self.reported(token);
        let now = self.1.now().boot;
        let since = &mut self.open().withheld_since;
        // An earlier one counts still, unless its second has passed.
        *since = since.filter(|since| now <= *since + secs(1)).or(Some(now));
    }

    pub(crate) fn will_be_discarded(&self, token: &Token) {
        self.open().to_be_discarded.push(token.secret().to_owned());
    }

    pub(crate) fn discarded(&self, token: &Token) {
        let mut pages = self.open();
        pages.discarded.retain(|secret| secret != token.secret());
        pages.discarded.push(token.secret().to_owned());
    }

    pub(crate) fn clock_was_set_back(&self) {
        self.open().clock_set_back = Some(Instant::now());
    }

    pub(crate) fn was_suspended(&self) {
        self.open().suspended = Some(Instant::now());
    }

    /// Whether it can be handed out, with something to spare.
    pub(crate) fn is_usable(&self, token: &Token) -> bool {
        let lives = &self.open().issued[token.secret()];
        let longest = lives.iter().map(|(_, life)| *life).max().unwrap_or_default();
        token.remaining().unwrap_or_default() > longest / 10 + millis(10)
    }

    /// No flight may start for a report that comes now: what the policy says, by what is known from outside.
    pub(crate) fn report_may_fly(&self, token: &Token) -> bool {
        let pages = self.open();
        let now = self.1.now().boot;
        let rest = pages.rules.every * (pages.rules.at_once - 1);
        let came = pages.came.get(token.secret());
        let settled = came.is_some_and(|came| came.latest + pages.rules.settle <= now);
        settled && pages.budget_full_at.saturating_sub(rest) <= now
    }

    pub(crate) fn calls(&self) -> u64 {
        self.open().calls
    }

    /// Observers lose sight of a token only by a discard, and by the end.
    pub(crate) fn judge_observer(&self, current: Option<&Token>) {
        let mut pages = self.open();
        let before = std::mem::replace(&mut pages.shown, current.map(|token| token.secret().to_owned()));
        let lost =
            before.filter(|secret| current.is_none() && !pages.ended && !pages.discarded.contains(secret));
        assert_eq!(lost, None, "this token is gone, and nobody has discarded it");
    }

    /// A usable token can be read, unless somebody has invalidated it in the last second. And where it can be read
    /// nobody waits for one.
    pub(crate) fn judge_reading(&self, current: Option<&Token>, read: Option<&Token>) {
        let usable = current.is_some_and(|token| self.is_usable(token));
        let now = self.1.now().boot;
        let mut pages = self.open();
        if read.is_some() {
            // Readers see the end of the second by themselves, and the actor by its alarm, a moment later.
            let end = pages.withheld_since.map(|since| since + secs(1));
            if end.is_some_and(|end| now >= end && now <= end + millis(5)) {
                return;
            }
            pages.withheld_since = None;
            let (set_back, suspended) = (pages.clock_set_back, pages.suspended);
            let waits = |since: &Instant| {
                let after = |moment: Option<Instant>| moment.is_none_or(|moment| *since > moment);
                after(set_back) && (after(suspended) || since.elapsed() > secs(1) + millis(30))
            };
            let asks = pages.asking.values().any(|(kind, since)| kind.wants_any() && waits(since));
            let subscribes = pages.subscribed.values().any(waits);
            assert!(!asks && !subscribes, "somebody waits though a token can be read");
        } else if usable {
            let since = pages.withheld_since.expect("a usable token can be read, unless it was invalidated");
            assert!(now <= since + secs(1) + millis(5), "withheld for {:?}", now - since);
        }
    }

    /// In background mode: no usable token means that a refresh is asked for, within two seconds, or a minute after a
    /// sleep.
    pub(crate) fn judge_background(&self, current: Option<&Token>, is_idle: bool) {
        let usable = current.is_some_and(|token| self.is_usable(token));
        let mut pages = self.open();
        let calls = pages.calls;
        if usable || !is_idle || pages.barren.is_some_and(|(_, before)| calls > before) {
            pages.barren = None;
            return;
        }
        let (since, _) = *pages.barren.get_or_insert((Instant::now(), calls));
        // Timers stood still in sleep, and this clock does not tell of it: the actor looks within a minute.
        let has_slept = pages.suspended.is_some_and(|moment| moment.elapsed() <= secs(61));
        let idle_for = since.elapsed();
        assert!(has_slept || idle_for <= secs(2), "no token, and nothing done for {idle_for:?}");
    }

    /// One that is not in use.
    pub(crate) fn some_old(&self, current: Option<&Token>) -> Option<Token> {
        let pages = self.open();
        let current = current.map(Token::secret);
        pages.tokens.iter().rev().find(|token| Some(token.secret()) != current).cloned()
    }

    /// Nothing expired or discarded is handed out.
    pub(crate) fn judge_token(&self, token: &Token, may_be_stale: bool) {
        let (overdue, discarded, stale, refused) = {
            let pages = self.open();
            let discarded = pages.discarded.iter().any(|secret| secret == token.secret());
            let refused = !pages.running && matches!(pages.last_end, Some((End::Refused, _)));
            (self.overdue(&pages, token), discarded, pages.stale && may_be_stale, refused)
        };
        let secret = token.secret();
        if discarded {
            self.fault(format!("{secret} was handed out though it was discarded"));
        }
        if overdue.is_some() && refused {
            self.fault(format!("{secret} was handed out {overdue:?} after its end, instead of a refusal"));
        }
        if overdue.is_some_and(|overdue| !stale || overdue > GRACE) {
            self.fault(format!("{secret} was handed out {overdue:?} after its end"));
        }
    }

    /// How long it has been past its end, by either clock.
    fn overdue(&self, pages: &Pages, token: &Token) -> Option<Duration> {
        let now = self.1.now();
        let overdue = |(sent, life): &(Timestamp, Duration)| {
            let by_boot = now.boot.checked_sub(sent.boot + *life);
            by_boot.max(now.wall.duration_since(sent.wall + *life).ok())
        };
        // The life that ends last is the one that counts: which one it has cannot be seen from outside.
        pages.issued[token.secret()].iter().map(overdue).min().flatten()
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
        if let (1, Some(previous)) = (cx.attempt, &cx.previous) {
            pages.judge_report_flight(cx.reason, previous, now.boot);
        }
        now
    }

    pub(crate) fn end_with(&self, token: &Token) -> End {
        let mut pages = self.open();
        let is = |secret: &String| secret == token.secret();
        let ended = token.expires_at().is_some() && token.remaining().is_some_and(|left| left.is_zero());
        if pages.discarded.iter().any(is) || ended || self.overdue(&pages, token).is_some() {
            return End::Failed { least: Duration::ZERO };
        }
        let now = self.1.now().boot;
        let is_reported = pages.reported.iter().any(is);
        let before = pages.came.get(token.secret()).filter(|_| is_reported);
        let published = before.map_or(now, |before| before.published);
        pages.came.insert(token.secret().to_owned(), Came { published, latest: now });
        if is_reported { End::Repeated } else { End::Landed }
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
            End::Landed | End::Repeated => {
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

    /// A flight for a report minds the age of the token and the budget; a forced one minds the age.
    fn judge_report_flight(&mut self, reason: Reason, previous: &Token, now: Duration) {
        let discards = self.discarded.iter().chain(&self.to_be_discarded);
        let is_discarded = discards.into_iter().any(|secret| secret == previous.secret());
        if is_discarded || !matches!(reason, Reason::Rejected | Reason::Forced) {
            return;
        }
        let age = self.came.get(previous.secret()).map(|came| now - came.published);
        if age.is_some_and(|age| age < self.rules.settle) {
            self.faults
                .push(format!("a token was to be replaced ({}) at the age of {age:?}", reason.as_str()));
        }
        if reason == Reason::Rejected {
            let rest = self.rules.every * (self.rules.at_once - 1);
            if now < self.budget_full_at.saturating_sub(rest) {
                self.faults.push("a flight for a report beyond the budget".to_owned());
            }
            self.budget_full_at = self.budget_full_at.max(now) + self.rules.every;
        }
    }

    /// When the flight may try again: never after a refusal or a panic.
    fn next_attempt(&mut self) -> Duration {
        match self.last_end {
            Some((End::Failed { least }, when)) => when + least,
            Some((End::GivenUp | End::Repeated, when)) => when,
            _ => Duration::MAX,
        }
    }
}
