//! A flight whose calls go through a gate. The machine asks the gate before each call, and the gate grants or
//! refuses it.
//!
//! The timeouts of an attempt and of a flight begin with the first call, not with the request to the gate. Waiters
//! have their own timeouts.

use std::time::Duration;

use super::{Caller, Effect, Machine, Out, Phase, Refusal};
use crate::clock::Timestamp;
use crate::error::TokenError;
use crate::queue::Waiters;

impl<W: Caller> Machine<W> {
    /// The same machine behind a gate.
    pub(crate) fn behind_a_gate(mut self) -> Self {
        self.is_gated = true;
        self
    }

    /// Whether a flight without a waiter may start from now on: a refresh ahead, or one for `invalidate`.
    pub(crate) fn let_fly_unasked(&mut self, may: bool) {
        self.may_fly_unasked = may;
    }

    pub(super) fn granted(&mut self, now: Timestamp, out: &mut Out<W>) {
        if self.is_queued() {
            self.call(now, out);
        }
    }

    /// The flight ends without this call. A closed gate says how long the auth server is not called. The key itself
    /// has not failed. Therefore its own cooldowns do not grow.
    pub(super) fn refused(&mut self, refusal: Refusal, now: Timestamp, out: &mut Out<W>) {
        if !self.is_queued() || self.land_spare(now, out) {
            return;
        }
        match refusal {
            Refusal::Closed { error, left } => self.end_without(error, left, now, out),
            Refusal::TooLong { expected } => self.give_way(expected, now, out),
        }
    }

    /// Whether the gate was asked, and has not answered.
    pub(crate) fn is_queued(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| matches!(flight.phase, Phase::Queued))
    }

    /// After the last waiter has timed out, the call is still made, but after those of keys with waiters. If a caller
    /// joins later, the call is [hurried](Effect::Hurry) again.
    pub(super) fn go_behind(&mut self, has_timed_out: bool, out: &mut Out<W>) {
        if !has_timed_out || !self.wanting.is_empty() || !self.renewing.is_empty() {
            return;
        }
        // Its next attempt is not urgent either.
        if let Some(flight) = &mut self.flight
            && std::mem::take(&mut flight.is_urgent)
            && matches!(flight.phase, Phase::Queued)
        {
            let asks_now = out.iter_mut().find_map(|effect| match effect {
                Effect::Ask { is_urgent } => Some(is_urgent),
                _ => None,
            });
            match asks_now {
                Some(is_urgent) => *is_urgent = false,
                None => out.push(Effect::Ask { is_urgent: false }),
            }
        }
    }

    /// How long the most patient waiter still waits. Without a waiter: as long as a new one would.
    pub(crate) fn patience(&self, now: Timestamp) -> Duration {
        let latest = [&self.wanting, &self.renewing].into_iter().filter_map(Waiters::last_deadline).max();
        let left = latest.map(|deadline| deadline.saturating_sub(now.boot)).filter(|left| !left.is_zero());
        left.unwrap_or(self.policy.wait_limit())
    }

    /// Nothing has failed. The next caller asks the gate again.
    fn give_way(&mut self, expected: Duration, now: Timestamp, out: &mut Out<W>) {
        self.release(now, out);
        let Some(_) = self.flight.take() else { return };
        self.counters.overloads += u64::try_from(self.waiters()).unwrap_or(u64::MAX);
        let error = TokenError::queue_too_long(expected);
        self.last_error = Some(error.clone());
        out.push(Effect::QuietUntil(now.boot));
        let wanted = match self.usable(now) {
            Some(held) => Ok(held.token.clone()),
            None => self.instead_of(error.clone(), now),
        };
        self.tell_all(wanted, Err(error));
    }
}
