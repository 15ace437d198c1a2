//! The small record of an idle machine. Of ten thousand keys most are idle.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::reports::{Budget, Predecessor, Reports};
use super::{Caller, Cooldown, Counters, Held, Machine};
use crate::clock::Timestamp;
use crate::error::TokenError;
use crate::policy::RefreshPolicy;
use crate::token::Token;

/// A machine at rest: no waiter, and no flight. It needs a third of the memory.
#[derive(Debug, Default)]
pub(crate) struct Resting {
    held: Option<Held>,
    budget: Budget,
    failures: u32,
    last_flight: Option<Duration>,
    counters: Kept,
    /// The parts that most keys do not have.
    rare: Option<Box<Rare>>,
}

#[derive(Debug)]
struct Rare {
    withdrawn: Option<Token>,
    cooldown: Option<Cooldown>,
    last_error: Option<TokenError>,
    reported: VecDeque<super::reports::Entry>,
    discarded: VecDeque<Token>,
    predecessor: Option<Predecessor>,
}

/// Counters in half of the memory. A counter that has reached its limit stays there.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    numbers: [u32; Counters::NUMBERS],
    withheld: Duration,
}

impl Resting {
    /// Whether a caller is answered without a flight: by a usable token, or by the error of a cooldown.
    pub(crate) fn knows(&self, now: Timestamp) -> bool {
        let cooldown = self.rare.as_ref().and_then(|rare| rare.cooldown.as_ref());
        self.held.as_ref().is_some_and(|held| held.is_usable(now))
            || cooldown.is_some_and(|cooldown| now.boot < cooldown.until)
    }

    /// Makes the full machine again.
    pub(crate) fn resume<W: Caller>(self, policy: Arc<RefreshPolicy>, seed: u64) -> Machine<W> {
        let mut machine = Machine::new(policy, seed);
        machine.held = self.held;
        machine.failures = self.failures;
        machine.last_flight = self.last_flight;
        machine.counters = self.counters.into();
        machine.reports.budget = self.budget;
        if let Some(rare) = self.rare {
            machine.withdrawn = rare.withdrawn;
            machine.cooldown = rare.cooldown;
            machine.last_error = rare.last_error;
            machine.reports = Reports {
                reported: rare.reported,
                discarded: rare.discarded,
                predecessor: rare.predecessor,
                budget: self.budget,
            };
        }
        machine
    }
}

impl<W: Caller> Machine<W> {
    /// The record of the machine, if it is idle.
    pub(crate) fn rest(&mut self, now: Timestamp) -> Option<Resting> {
        if !self.is_idle() || self.stopped {
            return None;
        }
        self.reports.forget_ended(now);
        self.reports.predecessor.take_if(|predecessor| !predecessor.is_usable(now));
        let Reports { reported, discarded, predecessor, budget } = std::mem::take(&mut self.reports);
        let cooldown = self.cooldown.take().filter(|cooldown| now.boot < cooldown.until);
        let rare = Rare {
            withdrawn: self.withdrawn.take(),
            cooldown,
            last_error: self.last_error.take(),
            reported,
            discarded,
            predecessor,
        };
        Some(Resting {
            held: self.held.take(),
            budget,
            failures: self.failures,
            last_flight: self.last_flight,
            counters: self.counters.into(),
            rare: (!rare.is_empty()).then(|| Box::new(rare)),
        })
    }
}

impl Rare {
    fn is_empty(&self) -> bool {
        let Self { withdrawn, cooldown, last_error, reported, discarded, predecessor } = self;
        let tokens = withdrawn.is_none() && predecessor.is_none();
        tokens && cooldown.is_none() && last_error.is_none() && reported.is_empty() && discarded.is_empty()
    }
}

impl From<Counters> for Kept {
    fn from(counters: Counters) -> Self {
        let numbers = counters.numbers().map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        Self { numbers, withheld: counters.withheld }
    }
}

impl From<Kept> for Counters {
    fn from(kept: Kept) -> Self {
        let mut counters = Self::default();
        counters.set_numbers(kept.numbers.map(u64::from));
        counters.withheld = kept.withheld;
        counters
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::flight::Outcome;
    use crate::queue::Waiter;

    #[test]
    fn a_machine_at_rest_takes_little_room() {
        assert!(size_of::<Resting>() <= 280, "{}", size_of::<Resting>());
    }

    /// A waiter that never comes.
    #[derive(Debug)]
    struct Nobody;

    impl Waiter for Nobody {}

    impl Caller for Nobody {
        fn decide(&mut self, _: &Outcome) {}
        fn is_gone(&self) -> bool {
            true
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    fn now() -> Timestamp {
        Timestamp { boot: 10 * MINUTE, wall: SystemTime::UNIX_EPOCH + 1_000 * MINUTE }
    }

    fn token(lifetime: Duration) -> Token {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Token::new("abc").with_lifetime(lifetime).stamped(now(), &clock, lifetime, lifetime)
    }

    fn at_rest(set: impl FnOnce(&mut Machine<Nobody>)) -> Resting {
        let mut machine = Machine::new(Arc::default(), 7);
        set(&mut machine);
        machine.rest(now()).expect("it is idle")
    }

    fn cooldown(until: Duration) -> Cooldown {
        Cooldown { until, error: TokenError::stopped() }
    }

    #[test]
    fn only_a_machine_with_a_past_has_the_larger_part() {
        assert!(at_rest(|_| {}).rare.is_none());
        let parts: [fn(&mut Machine<Nobody>); 6] = [
            |machine| machine.withdrawn = Some(token(MINUTE)),
            |machine| machine.cooldown = Some(cooldown(now().boot + MINUTE)),
            |machine| machine.last_error = Some(TokenError::stopped()),
            |machine| machine.reports.remember(&token(MINUTE), true),
            |machine| machine.reports.discard(&token(MINUTE)),
            |machine| machine.reports.predecessor = Some(predecessor(MINUTE)),
        ];
        for part in parts {
            assert!(at_rest(part).rare.is_some());
        }
    }

    fn predecessor(lifetime: Duration) -> Predecessor {
        Predecessor { token: token(lifetime), min_validity: Duration::from_secs(10) }
    }

    #[test]
    fn what_has_ended_is_forgotten_and_the_rest_is_there_again() {
        let past = |machine: &mut Machine<Nobody>| {
            machine.cooldown = Some(cooldown(now().boot));
            machine.reports.predecessor = Some(predecessor(Duration::from_secs(10)));
        };
        assert!(at_rest(past).rare.is_none());
        let resting = at_rest(|machine| machine.reports.predecessor = Some(predecessor(MINUTE)));
        let machine: Machine<Nobody> = resting.resume(Arc::default(), 7);
        assert!(machine.reports.predecessor.is_some_and(|known| known.token.is_same(&token(MINUTE))));
    }

    #[test]
    fn a_caller_is_answered_without_a_flight_until_the_cooldown_ends() {
        let resting = at_rest(|machine| machine.cooldown = Some(cooldown(now().boot + MINUTE)));
        let after = |time: Duration| Timestamp { boot: now().boot + time, wall: now().wall };
        assert!(resting.knows(now()) && resting.knows(after(Duration::new(59, 999_999_999))));
        assert!(!resting.knows(after(MINUTE)) && !resting.knows(after(2 * MINUTE)));
        assert!(!at_rest(|_| {}).knows(now()));
    }

    #[test]
    fn counters_survive_a_rest() {
        let mut counters = Counters::default();
        (counters.requests, counters.overloads) = (7, u64::MAX);
        counters.withheld = Duration::from_millis(3);
        let back = Counters::from(Kept::from(counters));
        assert_eq!(
            (back.requests, back.overloads, back.withheld),
            (7, u64::from(u32::MAX), counters.withheld)
        );
    }
}
