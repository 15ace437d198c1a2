//! When two states are equal: the key has everything that the future depends on, and nothing else.
//!
//! Moments are counted from now. Moments in the past are equal, because no rule depends on how long ago a deadline
//! was. Tokens are represented by the pattern of their identities. Counters and numbers of calls are left out.
//! Counts stop at the value from which they no longer matter. A test checks that merged states behave alike: see
//! `merged_states_behave_alike`.

use std::time::Duration;

use super::rules::{Name, Rules, Seat};
use super::world::World;
use crate::clock::Timestamp;
use crate::flight::{Phase, ReportShare, Withholding};
use crate::token::Token;

const NEVER: i64 = i64::MAX;

struct Writer<'a> {
    out: Vec<i64>,
    now: Timestamp,
    unit: Duration,
    /// The numbers of the waiters.
    seats: Vec<u64>,
    secrets: Vec<&'a str>,
}

/// A place in a line: the waiter, its deadline, and whether that is an own deadline.
type Place<'a> = Option<(&'a Seat, Duration, bool)>;

impl World {
    pub(super) fn set_key(&mut self, rules: &Rules) {
        let mut writer = Writer {
            out: Vec::with_capacity(96),
            now: self.now,
            unit: rules.unit,
            seats: self.waiting.iter().map(|waiting| waiting.number).collect(),
            secrets: Vec::new(),
        };
        writer.machine(self, rules);
        writer.surroundings(self, rules);
        self.key = writer.out;
    }
}

impl<'a> Writer<'a> {
    fn machine(&mut self, world: &'a World, rules: &Rules) {
        let machine = &world.machine;
        self.push(machine.stopped);
        self.token(machine.held.as_ref().map(|held| &held.token));
        if let Some(held) = &machine.held {
            self.since(held.since);
            self.push(held.suspect);
        }
        self.push(machine.failures.min(2));
        self.until(machine.cooldown.as_ref().map_or(Duration::ZERO, |cooldown| cooldown.until));
        // Until then callers get the error, or a stale token instead.
        let refused = machine
            .cooldown
            .as_ref()
            .is_some_and(|cooldown| cooldown.until > self.now.boot && cooldown.error.is_rejected());
        self.push(!rules.grace.is_zero() && refused);
        self.push(world.now.boot.saturating_sub(machine.purged) < Duration::from_secs(1));
        self.after_flight(machine.last_flight, rules);
        self.reports(world);
        self.flight(world);
        self.line(machine.wanting.places(), &machine.wanting.bookmarks());
        self.line(machine.renewing.places(), &machine.renewing.bookmarks());
        for telling in machine.telling.iter().filter(|telling| !telling.crowd.is_empty()) {
            self.secret(telling.outcome.as_ref().ok());
            self.push(telling.renewing);
            if rules.discards() {
                self.line(telling.crowd.places(), &telling.crowd.bookmarks());
            } else {
                // No waiter of this crowd waits again: deadlines and keys no longer matter.
                let places =
                    telling.crowd.places().map(|place| place.map(|(seat, ..)| (seat, Duration::ZERO, false)));
                self.line(places, &[]);
            }
        }
    }

    fn reports(&mut self, world: &'a World) {
        let reports = &world.machine.reports;
        self.until(reports.budget.full_at);
        let now = self.now.boot;
        // A token that has ended by this clock stays ended.
        let predecessor = reports.predecessor.as_ref().map(|predecessor| &predecessor.token);
        self.token(predecessor.filter(|token| token.end().boot > now));
        for entry in reports.reported.iter().filter(|entry| entry.token.end().boot > now) {
            self.secret(Some(&entry.token));
            self.until(entry.token.end().boot);
            self.push(entry.from_birth);
            self.push(entry.settled);
        }
        self.push(NEVER);
        for token in &reports.discarded {
            self.secret(Some(token));
        }
        self.push(NEVER);
        self.secret(world.machine.withdrawn.as_ref());
    }

    fn flight(&mut self, world: &'a World) {
        let machine = &world.machine;
        let Some(flight) = &machine.flight else { return self.push(-1) };
        self.push(flight.attempt);
        self.until(flight.deadline);
        let (kind, until) = match flight.phase {
            Phase::Fetching { id, until, .. } => (machine.fetches - id, until),
            Phase::Pausing { until } => (9, until),
            Phase::Queued => (10, flight.deadline),
        };
        self.push(i64::try_from(kind).unwrap_or(NEVER));
        self.until(until);
        self.push(match flight.report {
            ReportShare::None => 0,
            ReportShare::AsksAgain => 1,
            ReportShare::Takes => 2,
        });
        self.push(flight.challenge.is_some());
        self.push(flight.is_passed_on);
        self.token(flight.spare.as_ref());
        match flight.withholding {
            Withholding::NotYet => self.push(-1),
            Withholding::Now { until, .. } => self.until(until),
            Withholding::Over => self.push(-2),
        }
    }

    fn surroundings(&mut self, world: &'a World, rules: &Rules) {
        self.push(world.breach.map_or(-1, |law| law as i64));
        self.push(world.skew);
        self.push(world.call.is_some());
        if let Some(call) = &world.call {
            // All tokens that would be expired on arrival are equal.
            self.push(whole(self.now.boot.saturating_sub(call.sent.boot).min(self.unit * 5)));
            self.push(skew(call.sent) - skew(self.now));
        }
        self.push(world.late.is_some());
        self.token(world.slot.as_ref().map(|shown| &shown.token));
        if let Some(shown) = &world.slot {
            self.since(shown.since);
            self.until(shown.quiet_until);
            self.until(shown.withheld_until.unwrap_or_default());
            self.push(shown.suspect);
        }
        self.books(world, rules);
        for waiting in &world.waiting {
            self.push(name(waiting.name));
            self.push(waiting.gone);
            self.push(waiting.renewing);
            let decided = world.waiting.iter().filter_map(|other| other.decided);
            let earlier = waiting.decided.map(|at| decided.filter(|other| *other < at).count());
            self.push(earlier.and_then(|earlier| i64::try_from(earlier).ok()).unwrap_or(-1));
            let is_over = waiting.decided.is_some() && !rules.discards();
            self.until(if is_over { Duration::ZERO } else { waiting.deadline });
        }
    }

    fn books(&mut self, world: &'a World, rules: &Rules) {
        let books = &world.books;
        self.token(books.old.as_ref());
        for entry in &books.reported {
            self.secret(Some(&entry.token));
            self.until(entry.token.end().boot);
            self.push(entry.from_birth);
            self.push(entry.confirmed);
        }
        self.push(NEVER);
        for token in &books.discarded {
            self.secret(Some(token));
        }
        self.push(NEVER);
        self.secret(books.again.as_ref());
        self.push(whole(books.purse));
        self.push(books.failures.min(2));
        self.until(books.cooldown.as_ref().map_or(Duration::ZERO, |cooldown| cooldown.until));
        let refused = books.cooldown.as_ref().is_some_and(|it| it.until > self.now.boot && it.refused);
        self.push(!rules.grace.is_zero() && refused);
        self.after_flight(books.last_flight, rules);
        self.until(books.retry_not_before.unwrap_or_default());
        match &books.flight {
            None => self.push(-1),
            Some(flight) => {
                self.until(flight.until);
                self.push(flight.attempt);
                self.push(flight.asks as i64);
                self.until(flight.withheld_until.unwrap_or_default());
                self.push(flight.withheld_until.is_some());
                self.push(flight.released);
                self.push(flight.demanded);
                self.push(flight.passed_on);
                self.token(flight.spare.as_ref());
            }
        }
    }

    fn push(&mut self, value: impl Into<i64>) {
        self.out.push(value.into());
    }

    /// A moment in the future, or the past. The queue cuts the longest timeout, so a moment that is very far away
    /// is not exact.
    fn until(&mut self, moment: Duration) {
        const FAR: Duration = Duration::from_secs(1_000_000);
        let left = moment.saturating_sub(self.now.boot);
        self.push(if left > FAR { NEVER } else { whole(left) });
    }

    /// How long ago. No rule of these policies distinguishes times above one unit.
    fn since(&mut self, moment: Duration) {
        self.push(whole(self.now.boot.saturating_sub(moment).min(self.unit)));
    }

    fn after_flight(&mut self, ended: Option<Duration>, rules: &Rules) {
        let moment = ended.filter(|_| rules.background).map(|ended| ended + Rules::LEAST_INTERVAL);
        self.until(moment.unwrap_or_default());
    }

    fn secret(&mut self, token: Option<&'a Token>) {
        let Some(token) = token else { return self.push(-1) };
        let known = self.secrets.iter().position(|secret| *secret == token.secret());
        let number = known.unwrap_or_else(|| {
            self.secrets.push(token.secret());
            self.secrets.len() - 1
        });
        self.push(i64::try_from(number).unwrap_or(NEVER));
    }

    fn token(&mut self, token: Option<&'a Token>) {
        self.secret(token);
        let Some(token) = token else { return };
        // After the longest grace period the token is expired by both clocks, for ever.
        let (left, over) =
            (token.end().boot.saturating_sub(self.now.boot), self.now.boot.saturating_sub(token.end().boot));
        if over > self.unit {
            return self.push(NEVER);
        }
        self.push(whole(left) - whole(over));
        self.push(skew(token.end()) - skew(self.now));
    }

    fn line<'s>(&mut self, places: impl Iterator<Item = Place<'s>>, bookmarks: &[u64]) {
        for place in places {
            let Some((seat, deadline, own)) = place else {
                self.push(-2);
                continue;
            };
            let at = self.seats.iter().position(|number| *number == seat.number);
            self.push(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-3));
            self.push(seat.decided);
            self.until(deadline);
            self.push(own);
        }
        for mark in bookmarks {
            self.push(i64::try_from(*mark).unwrap_or(NEVER));
        }
        self.push(NEVER);
    }
}

fn name(name: Name) -> i64 {
    name as i64
}

/// How far the wall clock is ahead of the other.
fn skew(moment: Timestamp) -> i64 {
    let wall = moment.wall.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    whole(wall) - whole(moment.boot)
}

/// In milliseconds.
fn whole(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(NEVER)
}
