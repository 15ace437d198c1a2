//! The machine by itself: its effects and their order. Its promises are tested on the real actor.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::error::SourceError;
use crate::queue::Waiter;

mod edges;
#[cfg(feature = "registry")]
mod gated;
mod repeated;
mod reports;

/// A waiter with a number. Zero is equal to no other.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Name(u64);

impl Waiter for Name {
    fn key_hash(&self) -> Option<u64> {
        (self.0 != 0).then_some(self.0 % 3) // collisions on purpose
    }
    fn same_key(&self, other: &Self) -> bool {
        self.0 != 0 && self.0 == other.0
    }
}

impl Caller for Name {
    fn decide(&mut self, _: &Outcome) {}
    fn is_gone(&self) -> bool {
        self.0 >= 1_000
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn plain() -> RefreshPolicy {
    RefreshPolicy::default().backoff(Duration::ZERO)
}

/// A machine with the token "a" of an hour, which is a minute old.
fn holding(policy: RefreshPolicy) -> Bench {
    let mut bench = Bench::new(policy);
    bench.want(1);
    bench.fetched(1, "a");
    bench.pass(60 * SECOND);
    bench
}

struct Bench {
    machine: Machine<Name>,
    now: Timestamp,
}

impl Bench {
    fn new(policy: RefreshPolicy) -> Self {
        let now = Timestamp {
            boot: Duration::from_secs(1_000),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        };
        Self { machine: Machine::new(Arc::new(policy.jitter(0.0).settle(Duration::ZERO)), 7), now }
    }

    fn on(&mut self, event: Event<Name>) -> Vec<String> {
        let mut out = Vec::new();
        self.machine.on(event, self.now, &mut out);
        let mut said: Vec<String> = out.into_iter().filter_map(short).collect();
        said.extend(self.told());
        said
    }

    /// Tells all waiters. Returns one line for all that were told the same.
    fn told(&mut self) -> Option<String> {
        let mut told: Vec<(String, Vec<u64>)> = Vec::new();
        while let Some((Name(name), result)) = self.machine.next_to_tell() {
            let with = outcome(result.clone());
            match told.last_mut().filter(|(last, _)| *last == with) {
                Some((_, names)) => names.push(name),
                None => told.push((with, vec![name])),
            }
        }
        let lines: Vec<String> = told.iter().map(|(with, names)| format!("tell {names:?} {with}")).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    fn report(&mut self, secret: &str) -> Vec<String> {
        self.on(Event::Invalidate(Token::new(secret)))
    }

    fn replace(&mut self, name: u64, secret: &str) -> Vec<String> {
        self.rejected(name, secret, Rejection::default())
    }

    fn rejected(&mut self, name: u64, secret: &str, rejection: Rejection) -> Vec<String> {
        self.on(Event::Replace { waiter: Name(name), token: Token::new(secret), rejection })
    }

    fn discard(&mut self, secret: &str) -> Vec<String> {
        self.on(Event::Discard(Token::new(secret)))
    }

    fn want(&mut self, name: u64) -> Vec<String> {
        self.on(Event::Want { waiter: Name(name), timeout: None })
    }

    fn fetched(&mut self, id: u64, secret: &str) -> Vec<String> {
        self.fetched_for(id, secret, Duration::from_secs(3600))
    }

    fn fetched_for(&mut self, id: u64, secret: &str, lifetime: Duration) -> Vec<String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let token = Token::new(secret).with_lifetime(lifetime).stamped(self.now, &clock, lifetime, lifetime);
        self.on(Event::Fetched { id, result: Ok(token) })
    }

    fn failed(&mut self, id: u64, error: SourceError) -> Vec<String> {
        self.on(Event::Fetched { id, result: Err(error) })
    }

    fn wake(&mut self) -> Option<Duration> {
        self.machine.next_wake(self.now)
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now.boot += time;
        self.now.wall += time;
        self.on(Event::Tick)
    }
}

fn outcome(outcome: Outcome) -> String {
    outcome.map_or_else(|error| error.to_string(), |token| token.secret().to_owned())
}

fn short(effect: Effect<Name>) -> Option<String> {
    Some(match effect {
        Effect::Fetch { id, cx } => {
            let asked = cx.challenge().map(|asked| format!(" {}", asked.claims())).unwrap_or_default();
            format!("fetch {id} {}{asked}", cx.reason.as_str())
        }
        Effect::Abort => "abort".into(),
        Effect::Publish(token) => {
            format!("publish {}", token.map_or("none".into(), |(token, _)| token.secret().to_owned()))
        }
        Effect::Tell(Name(name), result) => format!("tell {name} {}", outcome(result)),
        Effect::Withhold(_) => "withhold".into(),
        Effect::Release => "release".into(),
        Effect::Duplicate(Name(name)) => format!("duplicate {name}"),
        Effect::Ask { is_urgent } => format!("ask {is_urgent}"),
        Effect::Hurry => "hurry".into(),
        Effect::QuietUntil(_) | Effect::Note(_) => return None,
    })
}

#[test]
fn publish_comes_before_telling_and_the_oldest_is_told_first() {
    let mut bench = Bench::new(RefreshPolicy::default());
    assert_eq!(bench.want(3), ["fetch 1 first"]);
    assert_eq!(bench.want(1), [""; 0]);
    assert_eq!(bench.want(2), [""; 0]);
    assert_eq!(bench.fetched(1, "new"), ["publish new", "tell [3, 1, 2] new"]);
    assert_eq!(bench.want(4), ["tell 4 new"]);
    assert_eq!(bench.wake(), None, "and then it rests");
}

#[test]
fn a_second_of_the_same_is_discarded_and_keyless_ones_never_are() {
    let mut bench = Bench::new(RefreshPolicy::default());
    bench.want(6);
    assert_eq!(bench.want(6), ["duplicate 6"]);
    bench.want(3); // the same hash, another key
    bench.want(0);
    bench.want(0);
    assert_eq!(bench.fetched(1, "new"), ["publish new", "tell [6, 3, 0, 0] new"]);
}

#[test]
fn a_second_of_the_same_is_discarded_though_the_old_token_is_good_again() {
    let mut bench = Bench::new(RefreshPolicy::default());
    bench.want(1);
    bench.fetched(1, "old");
    bench.now.wall += Duration::from_secs(4_000);
    assert_eq!(bench.want(1), ["fetch 2 expired"]);
    bench.now.wall -= Duration::from_secs(4_000);
    assert_eq!(bench.want(1), ["duplicate 1"]);
    assert_eq!(bench.want(2), ["tell 2 old"]);
    assert_eq!(bench.fetched(2, "new"), ["publish new", "tell [1] new"]);
}

#[test]
fn a_late_report_of_a_fetch_that_was_given_up_is_ignored() {
    let mut bench = Bench::new(RefreshPolicy::default().backoff(Duration::ZERO));
    bench.want(1);
    assert_eq!(bench.pass(Duration::from_secs(10)), ["abort"]);
    assert_eq!(bench.fetched(1, "late"), [""; 0]);
    assert_eq!(bench.pass(Duration::ZERO), ["fetch 2 first"]);
    assert_eq!(bench.fetched(1, "later"), [""; 0]);
    assert_eq!(bench.fetched(2, "right"), ["publish right", "tell [1] right"]);
}

#[test]
fn a_stopped_machine_tells_everybody_and_starts_nothing() {
    let mut bench = Bench::new(RefreshPolicy::default());
    bench.want(1);
    let stopped = "the token actor has stopped";
    assert_eq!(
        bench.on(Event::Stop),
        ["abort".to_owned(), "publish none".into(), format!("tell [1] {stopped}")]
    );
    assert_eq!(bench.want(2), [format!("tell 2 {stopped}")]);
    assert_eq!(bench.on(Event::Refresh { waiter: Name(3) }), [format!("tell 3 {stopped}")]);
    assert_eq!(bench.on(Event::NearEnd), [""; 0]);
    assert_eq!(bench.wake(), None);
    assert_eq!(bench.machine.state(bench.now), FlightState::Stopped);
}

#[test]
fn a_flight_that_was_slept_through_calls_nobody_any_more() {
    let mut bench = Bench::new(RefreshPolicy::default());
    bench.want(1);
    bench.failed(1, SourceError::transient("no").with_retry_after(Duration::from_secs(3)));
    let timed_out = "tell [1] token refresh timed out: the flight took longer than flight_timeout (30s)";
    assert_eq!(bench.pass(Duration::from_secs(30)), [timed_out]);
    assert_eq!(bench.machine.state(bench.now), FlightState::Cooldown);
}

#[test]
fn after_a_restart_readers_report_anew() {
    let mut bench = Bench::new(RefreshPolicy::default());
    bench.want(1);
    bench.fetched(1, "new");
    bench.pass(Duration::from_secs(3_400));
    assert_eq!(bench.on(Event::NearEnd), ["fetch 2 ahead"], "and from here on readers are quiet");
    let mut out = Vec::new();
    bench.machine.on(Event::Restart, bench.now, &mut out);
    let quiet_until = out.iter().find_map(|effect| match effect {
        Effect::QuietUntil(moment) => Some(*moment),
        _ => None,
    });
    assert_eq!(quiet_until, Some(bench.now.boot));
}

#[test]
fn waiters_leave_in_the_order_of_their_deadlines() {
    let mut bench = Bench::new(RefreshPolicy::default().wait_timeout(Duration::from_secs(5)));
    bench.on(Event::Want { waiter: Name(9), timeout: Some(Duration::from_secs(9)) });
    bench.want(1);
    bench.on(Event::Want { waiter: Name(2), timeout: Some(Duration::from_secs(2)) });
    bench.pass(Duration::from_secs(1));
    bench.want(3);
    let timeout = "no token within the caller's wait timeout";
    assert_eq!(bench.wake(), Some(Duration::from_secs(1_002)));
    assert_eq!(bench.pass(Duration::from_secs(1)), [format!("tell 2 {timeout}")]);
    assert_eq!(bench.pass(Duration::from_secs(3)), [format!("tell 1 {timeout}")]);
    assert_eq!(bench.pass(Duration::from_secs(1)), [format!("tell 3 {timeout}")]);
    assert_eq!(bench.pass(Duration::from_secs(3)), [format!("tell 9 {timeout}")]);
    assert_eq!(bench.machine.waiters(), 0);
}

#[test]
fn its_state_is_told() {
    let mut bench = Bench::new(RefreshPolicy::default().attempts(2));
    let state = |bench: &Bench| bench.machine.state(bench.now);
    assert_eq!(state(&bench), FlightState::Idle);
    bench.want(1);
    assert_eq!(state(&bench), FlightState::Fetching);
    bench.failed(1, SourceError::transient("no").with_retry_after(Duration::from_secs(3)));
    assert_eq!(state(&bench), FlightState::Pausing);
    assert_eq!(bench.wake(), Some(Duration::from_secs(1_003)));
    assert_eq!(bench.pass(Duration::from_secs(3)), ["fetch 2 first"]);
    bench.failed(2, SourceError::transient("no"));
    assert_eq!(state(&bench), FlightState::Cooldown);
    bench.pass(Duration::from_secs(1));
    assert_eq!(state(&bench), FlightState::Idle);
    let counters = bench.machine.counters();
    assert_eq!((counters.flights, counters.attempts, counters.failed, counters.landed), (1, 2, 1, 0));
}

#[test]
fn a_full_queue_makes_room_for_those_who_stay() {
    let mut bench = Bench::new(RefreshPolicy::default().max_waiters(2));
    bench.want(1_001);
    bench.want(1);
    assert_eq!(bench.want(2), ["tell 1001 the token actor has stopped"], "it is gone, and counts as lost");
    assert_eq!(bench.want(3), ["tell 3 too many requests wait for a token (max_waiters is 2)"]);
    assert_eq!(bench.fetched(1, "new"), ["publish new", "tell [1, 2] new"]);
}
