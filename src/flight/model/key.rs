//! When two states are one: everything that the future depends on, and nothing else.
//!
//! Moments count from now, and what is past is past: no rule asks how long ago a deadline was. Tokens go by
//! the pattern of who is whom, counters and numbers of calls are left out, and counts stop where they stop to
//! matter. That states which are merged do the same ever after is not believed but checked: see
//! `merged_states_behave_alike`.

use std::time::Duration;

use super::rules::{Name, SECOND, Seat};
use super::world::World;
use crate::clock::Timestamp;
use crate::flight::{Phase, Waiters};
use crate::token::Token;

const NEVER: i64 = i64::MAX;

struct Writer<'a> {
    out: Vec<i64>,
    now: Timestamp,
    secrets: Vec<&'a str>,
}

impl World {
    pub(super) fn set_key(&mut self) {
        let mut writer = Writer { out: Vec::with_capacity(64), now: self.now, secrets: Vec::new() };
        writer.machine(self);
        writer.surroundings(self);
        self.key = writer.out;
    }
}

impl<'a> Writer<'a> {
    fn machine(&mut self, world: &'a World) {
        let machine = &world.machine;
        self.push(machine.stopped);
        self.token(machine.held.as_ref().map(|held| &held.token));
        if let Some(held) = &machine.held {
            self.since(held.since);
        }
        self.secret(machine.rejected.as_ref());
        self.push(machine.streak.min(3));
        self.push(machine.failures.min(2));
        self.until(machine.cooldown.as_ref().map_or(Duration::ZERO, |cooldown| cooldown.until));
        self.push(world.now.boot.saturating_sub(machine.purged) < SECOND);
        match &machine.flight {
            None => self.push(-1),
            Some(flight) => {
                self.push(flight.reason as i64);
                self.push(flight.attempt);
                self.until(flight.deadline);
                let (kind, until) = match flight.phase {
                    Phase::Fetching { id, until } => (machine.fetches - id, until),
                    Phase::Pausing { until } => (9, until),
                };
                self.push(i64::try_from(kind).unwrap_or(NEVER));
                self.until(until);
            }
        }
        self.line(&machine.wanting);
        self.line(&machine.forcing);
    }

    fn surroundings(&mut self, world: &'a World) {
        self.push(world.breach.map_or(-1, |law| law as i64));
        self.push(world.skew);
        self.push(world.call.is_some());
        if let Some(call) = &world.call {
            // A token that would be dead on arrival is as good as another.
            self.push(whole(self.now.boot.saturating_sub(call.sent.boot).min(SECOND * 5)));
            self.push(skew(call.sent) - skew(self.now));
        }
        self.push(world.late.is_some());
        self.token(world.slot.as_ref().map(|shown| &shown.token));
        if let Some(shown) = &world.slot {
            self.since(shown.since);
            self.until(shown.quiet_until);
        }
        self.secret(world.rejected.as_ref());
        self.secret(world.old.as_ref());
        self.push(world.streak.min(3));
        self.push(world.failures.min(2));
        self.until(world.flight_not_before.unwrap_or_default());
        self.until(world.retry_not_before.unwrap_or_default());
        self.until(world.flight_until);
        for waiting in &world.waiting {
            self.seat(waiting.seat);
            self.until(waiting.deadline);
        }
    }

    fn push(&mut self, value: impl Into<i64>) {
        self.out.push(value.into());
    }

    /// A moment to come, or past.
    fn until(&mut self, moment: Duration) {
        let left = moment.saturating_sub(self.now.boot);
        self.push(if moment == Duration::MAX { NEVER } else { whole(left) });
    }

    /// How long ago. No rule of these policies tells three seconds from more.
    fn since(&mut self, moment: Duration) {
        self.push(whole(self.now.boot.saturating_sub(moment).min(SECOND * 3)));
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
        // Past the longest grace it is dead by either clock, for ever.
        let (left, over) =
            (token.end().boot.saturating_sub(self.now.boot), self.now.boot.saturating_sub(token.end().boot));
        if over > SECOND {
            return self.push(NEVER);
        }
        self.push(whole(left) - whole(over));
        self.push(skew(token.end()) - skew(self.now));
    }

    fn line(&mut self, line: &Waiters<Seat>) {
        for place in line.places() {
            let Some((seat, deadline, own)) = place else {
                self.push(-2);
                continue;
            };
            self.seat(*seat);
            self.until(deadline);
            self.push(own);
        }
        for mark in line.bookmarks() {
            self.push(i64::try_from(mark).unwrap_or(NEVER));
        }
        self.push(NEVER);
    }

    fn seat(&mut self, seat: Seat) {
        let name = match seat.name {
            Name::Ticket => 1,
            Name::Hasty => 2,
            Name::Asker => 3,
            Name::Round => 4,
            Name::Forcer => 5,
        };
        self.push(if seat.gone { name + 10 } else { name });
    }
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
