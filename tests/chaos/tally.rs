//! The records: the requests, and their results.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokenflight::clock::{Clock, SystemClock, Timestamp};
use tokenflight::{Token, TokenError};

/// How long a caller waits, by the policy of all actors here.
pub(crate) const PATIENCE: Duration = Duration::from_millis(300);

/// By the crate's own clock: durations by the one that counts suspend, ends of tokens by the wall clock, in
/// which they are told. (Who sets it back while this runs breaks the books.)
pub(crate) fn moment() -> Timestamp {
    SystemClock.now()
}

pub(crate) fn now() -> Duration {
    moment().boot
}

/// The ways to ask for a token and await it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Way {
    Get,
    GetToken,
    Refresh,
    HandleRefresh,
    Replace,
    HandleReplace,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    pub(crate) sent: u64,
    pub(crate) token: u64,
    pub(crate) error: u64,
    /// By the caller itself, before the answer.
    pub(crate) dropped: u64,
    pub(crate) longest: Duration,
}

#[derive(Clone, Debug)]
struct Ticket {
    sent: Timestamp,
    limit: Duration,
    subscriptions: u8,
    answers: u8,
    /// Its subscriber has stopped, or is about to.
    may_be_lost: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tickets {
    pub(crate) sent: u64,
    pub(crate) subscribed_twice: u64,
    pub(crate) token: u64,
    pub(crate) error: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) missing: u64,
    pub(crate) latest: Duration,
}

pub(crate) struct Tally {
    requests: Mutex<BTreeMap<Way, Requests>>,
    /// A ticket's number is its place.
    tickets: Mutex<Vec<Ticket>>,
    told: Mutex<Tickets>,
    errors: Mutex<BTreeMap<&'static str, u64>>,
    /// Tokens that a source brought, and when first.
    received: Mutex<HashMap<String, SystemTime>>,
    /// Tokens that somebody has discarded, and when that had been done.
    discarded: Mutex<HashMap<String, Duration>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    breaches: Mutex<Vec<String>>,
    most_at_once: AtomicU64,
    lateness: AtomicU64,
    /// How long readers found nothing though there was a good token that nobody had discarded, at most.
    withheld: AtomicU64,
    crowd: AtomicU64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            requests: Mutex::default(),
            tickets: Mutex::default(),
            told: Mutex::default(),
            errors: Mutex::default(),
            received: Mutex::default(),
            discarded: Mutex::default(),
            counts: Mutex::default(),
            breaches: Mutex::default(),
            most_at_once: AtomicU64::new(0),
            lateness: AtomicU64::new(0),
            withheld: AtomicU64::new(0),
            crowd: AtomicU64::new(0),
        }
    }

    pub(crate) fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    pub(crate) fn breach(&self, what: String) {
        self.breaches.lock().unwrap().push(what);
    }

    pub(crate) fn machine_was_late(&self, by: Duration) {
        self.lateness.fetch_max(u64::try_from(by.as_nanos()).unwrap(), Ordering::Relaxed);
    }

    pub(crate) fn lateness(&self) -> Duration {
        Duration::from_nanos(self.lateness.load(Ordering::Relaxed))
    }

    pub(crate) fn withheld_for(&self, time: Duration) {
        self.withheld.fetch_max(u64::try_from(time.as_nanos()).unwrap(), Ordering::Relaxed);
    }

    pub(crate) fn withheld(&self) -> Duration {
        Duration::from_nanos(self.withheld.load(Ordering::Relaxed))
    }

    /// It took an actor so long to take in a crowd.
    pub(crate) fn crowd_took(&self, time: Duration) {
        self.crowd.fetch_max(u64::try_from(time.as_nanos()).unwrap(), Ordering::Relaxed);
    }

    pub(crate) fn longest_crowd(&self) -> Duration {
        Duration::from_nanos(self.crowd.load(Ordering::Relaxed))
    }

    /// So many calls of one actor's source run.
    pub(crate) fn calls_at_once(&self, running: u64) {
        self.most_at_once.fetch_max(running, Ordering::Relaxed);
    }

    pub(crate) fn most_at_once(&self) -> u64 {
        self.most_at_once.load(Ordering::Relaxed)
    }

    pub(crate) fn source_brought(&self, token: &Token) {
        self.received.lock().unwrap().entry(token.secret().to_owned()).or_insert_with(|| moment().wall);
    }

    /// To be called when the discard has taken effect.
    pub(crate) fn discarded(&self, token: &Token) {
        self.discarded.lock().unwrap().entry(token.secret().to_owned()).or_insert_with(now);
    }

    pub(crate) fn received(&self) -> Vec<String> {
        self.received.lock().unwrap().keys().cloned().collect()
    }

    pub(crate) fn sent(&self, way: Way) {
        self.requests.lock().unwrap().entry(way).or_default().sent += 1;
    }

    pub(crate) fn dropped(&self, way: Way) {
        self.requests.lock().unwrap().entry(way).or_default().dropped += 1;
    }

    /// A request that was sent at this moment has been answered.
    pub(crate) fn answered(&self, way: Way, sent: Timestamp, outcome: &Outcome) {
        let took = now().saturating_sub(sent.boot);
        self.check(sent, outcome, "a request");
        let mut requests = self.requests.lock().unwrap();
        let requests = requests.entry(way).or_default();
        requests.longest = requests.longest.max(took);
        *(if outcome.is_ok() { &mut requests.token } else { &mut requests.error }) += 1;
    }

    /// A ticket for a subscription that is about to be sent.
    pub(crate) fn ticket(&self, subscriptions: u8, limit: Duration) -> u64 {
        let ticket = Ticket { sent: moment(), limit, subscriptions, answers: 0, may_be_lost: false };
        let mut told = self.told.lock().unwrap();
        told.sent += 1;
        told.subscribed_twice += u64::from(subscriptions == 2);
        let mut tickets = self.tickets.lock().unwrap();
        tickets.push(ticket);
        tickets.len() as u64 - 1
    }

    /// The same for a crowd, the last of whom subscribe twice. Returns the first number.
    pub(crate) fn tickets_for_a_crowd(&self, number: u64, again: u64, limit: Duration) -> u64 {
        let mut told = self.told.lock().unwrap();
        told.sent += number;
        told.subscribed_twice += again;
        let mut tickets = self.tickets.lock().unwrap();
        let first = tickets.len() as u64;
        let sent = moment();
        tickets.extend((0..number).map(|place| {
            let subscriptions = if place + again >= number { 2 } else { 1 };
            Ticket { sent, limit, subscriptions, answers: 0, may_be_lost: false }
        }));
        first
    }

    /// A `TokenReady` has come.
    pub(crate) fn ready(&self, number: u64, outcome: &Outcome) {
        let (sent, late) = {
            let ticket = &mut self.tickets.lock().unwrap()[usize::try_from(number).unwrap()];
            ticket.answers += 1;
            (ticket.sent, now().saturating_sub(ticket.sent.boot + ticket.limit))
        };
        self.check(sent, outcome, "a ticket");
        let mut told = self.told.lock().unwrap();
        told.latest = told.latest.max(late);
        *(if outcome.is_ok() { &mut told.token } else { &mut told.error }) += 1;
    }

    /// The subscriber of this ticket stops: if it has not been answered, it need not be any more.
    pub(crate) fn may_be_lost(&self, number: u64) {
        self.tickets.lock().unwrap()[usize::try_from(number).unwrap()].may_be_lost = true;
    }

    /// Waits until no ticket is open, or it is too late for that.
    pub(crate) async fn all_tickets_answered(&self) {
        let deadline = now() + PATIENCE * 10;
        let open = || {
            let tickets = self.tickets.lock().unwrap();
            tickets.iter().any(|ticket| ticket.answers == 0 && !ticket.may_be_lost)
        };
        while now() < deadline && open() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is handed out: an error that is counted, or a token that was good after it was asked for and
    /// after it had come. (Not: at this moment. It was handed out earlier.)
    fn check(&self, asked: Timestamp, outcome: &Outcome, by: &str) {
        match outcome {
            Ok(token) => self.check_token(asked, token, by),
            Err(kind) => *self.errors.lock().unwrap().entry(kind).or_default() += 1,
        }
    }

    pub(crate) fn check_token(&self, asked: Timestamp, token: &Token, by: &str) {
        let secret = token.secret();
        let Some(came) = self.received.lock().unwrap().get(secret).copied() else {
            return self.breach(format!("{by} got {secret}, which no source has brought"));
        };
        if self.discarded.lock().unwrap().get(secret).is_some_and(|when| *when < asked.boot) {
            self.breach(format!("{by} got {secret}, which was discarded before it was asked for"));
        }
        let end = token.expires_at().expect("an actor has stamped it");
        let in_time = end > moment().wall;
        self.count(if in_time { "tokens alive on arrival" } else { "tokens that ended on the way" });
        if let Ok(late) = asked.wall.max(came).duration_since(end) {
            self.breach(format!("{by} got {secret}, which had expired {late:?} before it was handed out"));
        }
    }

    pub(crate) fn requests(&self) -> Vec<(Way, Requests)> {
        self.requests.lock().unwrap().clone().into_iter().collect()
    }

    pub(crate) fn tickets(&self) -> Tickets {
        let mut told = self.told.lock().unwrap().clone();
        for ticket in self.tickets.lock().unwrap().iter() {
            let open = u64::from(ticket.answers == 0);
            *(if ticket.may_be_lost { &mut told.lost } else { &mut told.missing }) += open;
            told.doubled += u64::from(ticket.answers.saturating_sub(ticket.subscriptions));
        }
        told
    }

    pub(crate) fn errors(&self) -> Vec<(&'static str, u64)> {
        self.errors.lock().unwrap().clone().into_iter().collect()
    }

    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        self.counts.lock().unwrap().clone().into_iter().collect()
    }

    pub(crate) fn breaches(&self) -> Vec<String> {
        self.breaches.lock().unwrap().clone()
    }
}

/// A token, or the kind of the error.
pub(crate) type Outcome = Result<Token, &'static str>;

pub(crate) fn named(outcome: Result<Token, TokenError>) -> Outcome {
    outcome.map_err(|error| match () {
        () if error.is_rejected() => "rejected",
        () if error.is_unavailable() => "unavailable",
        () if error.is_timeout() => "timeout",
        () if error.is_overloaded() => "overloaded",
        () if error.is_stopped() => "stopped",
        () if error.is_panic() => "panic",
        () => "of no kind",
    })
}
