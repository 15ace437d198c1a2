//! What callers do: they want a token, or a new one, or see that its end is near.

use std::time::Duration;

use super::{Caller, Cooldown, Effect, Held, Machine, Out, Outcome};
use crate::clock::Timestamp;
use crate::error::TokenError;
use crate::source::Reason;

impl Held {
    pub(super) fn is_usable(&self, now: Timestamp) -> bool {
        let remaining = self.token.remaining_at(now);
        !remaining.is_zero() && remaining > self.margins.min_validity
    }
}

impl<W: Caller> Machine<W> {
    pub(super) fn want(&mut self, waiter: W, timeout: Option<Duration>, now: Timestamp, out: &mut Out<W>) {
        self.counters.requests += 1;
        // Before all else. A crowd may be being told, or the wall clock may have been set back and the old token is
        // good again: the second of a pair must not be answered while the first has not been.
        if self.waits(&waiter) {
            return out.push(Effect::Duplicate(waiter));
        }
        if let Some(outcome) = self.known(now) {
            let near_end = outcome.is_ok();
            out.push(Effect::Tell(waiter, outcome));
            if near_end {
                self.refresh_ahead(now, out);
            }
            return;
        }
        let Some(waiter) = self.admit(waiter, now, out) else { return };
        let deadline = now.boot.saturating_add(timeout.unwrap_or(self.policy.wait_limit()));
        self.wanting.push(waiter, deadline, timeout.is_some());
        self.fly(self.reason(), now, out);
    }

    pub(super) fn refresh(&mut self, waiter: W, now: Timestamp, out: &mut Out<W>) {
        self.counters.requests += 1;
        if self.stopped {
            return out.push(Effect::Tell(waiter, Err(TokenError::stopped())));
        }
        if self.flight.is_none() {
            if let Some(error) = self.cooling(now) {
                return out.push(Effect::Tell(waiter, Err(error)));
            }
            if let Some(held) = self.usable(now).filter(|held| now.boot < self.settled_at(held)) {
                let outcome = Ok(held.token.clone());
                return out.push(Effect::Tell(waiter, outcome));
            }
        }
        let reason = if self.usable(now).is_some() { Reason::Forced } else { self.reason() };
        self.await_flight(waiter, now, out);
        self.fly(reason, now, out);
    }

    /// A place among those who want the flight's outcome, unless the queue is full.
    pub(super) fn await_flight(&mut self, waiter: W, now: Timestamp, out: &mut Out<W>) {
        let Some(waiter) = self.admit(waiter, now, out) else { return };
        let deadline = now.boot.saturating_add(self.policy.wait_limit());
        self.renewing.push(waiter, deadline, false);
    }

    /// A reader reports once a token, so it must be told when to report again if no flight comes of it.
    pub(super) fn near_end(&mut self, now: Timestamp, out: &mut Out<W>) {
        /// A reader that finds nothing usable has nobody to wake but a background refresh. The same where no flight may
        /// start for which nobody waits.
        const ONCE_A: Duration = Duration::from_secs(1);
        let least = if self.usable(now).is_some() {
            self.refresh_ahead(now, out);
            if self.may_fly_unasked { now.boot } else { now.boot.saturating_add(ONCE_A) }
        } else {
            self.refresh_unasked(now, out);
            now.boot.saturating_add(ONCE_A)
        };
        if self.flight.is_none() {
            let until = self.cooldown.as_ref().map_or(least, |cooldown| cooldown.until.max(least));
            out.push(Effect::QuietUntil(until));
        }
    }

    /// The answer, if it needs no flight: the token while it is usable; the error of the last flight while
    /// the source is left alone; and in between, where the policy allows it, the token past its end.
    pub(super) fn known(&self, now: Timestamp) -> Option<Outcome> {
        if self.stopped {
            return Some(Err(TokenError::stopped()));
        }
        if let Some(held) = self.usable(now) {
            return (!self.is_withheld(now)).then(|| Ok(held.token.clone()));
        }
        // While a flight is under way its outcome is awaited, even if an old cooldown has not ended.
        if self.flight.is_some() {
            return None;
        }
        self.cooling(now).map(|error| self.instead_of(error, now))
    }

    pub(super) fn usable(&self, now: Timestamp) -> Option<&Held> {
        self.held.as_ref().filter(|held| held.is_usable(now))
    }

    /// The error of the last flight while the source is left alone, as it is told now.
    pub(super) fn cooling(&self, now: Timestamp) -> Option<TokenError> {
        let cooldown = self.running_cooldown(now)?;
        Some(cooldown.error.told_with_retry_after(cooldown.until.saturating_sub(now.boot)))
    }

    pub(super) fn running_cooldown(&self, now: Timestamp) -> Option<&Cooldown> {
        self.cooldown.as_ref().filter(|cooldown| now.boot < cooldown.until)
    }

    /// `stale_if_error`: a token past its end instead of an error. Not instead of a refusal: RFC 5861 section 4
    /// speaks of servers that are not available. And not one that was reported.
    pub(super) fn instead_of(&self, error: TokenError, now: Timestamp) -> Outcome {
        let grace = self.policy.grace();
        let stale = self.held.as_ref().filter(|held| !grace.is_zero() && held.token.overdue_at(now) <= grace);
        match stale {
            Some(held) if !error.is_rejected() && !held.suspect => Ok(held.token.clone()),
            _ => Err(error),
        }
    }

    /// A place in the queue, unless it is full. The place of a round takes none: its callers are counted, and
    /// limited, where they sit.
    pub(super) fn admit(&mut self, waiter: W, now: Timestamp, out: &mut Out<W>) -> Option<W> {
        const PURGE_INTERVAL: Duration = Duration::from_secs(1);
        let limit = self.policy.waiters_limit();
        if !waiter.is_one() {
            return Some(waiter);
        }
        // Those who left without a word hold places too. Looking for them takes a walk through the line, so
        // that a full queue of patient waiters must not pay for it with every request.
        if self.waiters() >= limit && now.boot.saturating_sub(self.purged) >= PURGE_INTERVAL {
            self.purged = now.boot;
            self.wanting.purge();
            self.renewing.purge();
        }
        if self.waiters() < limit {
            return Some(waiter);
        }
        self.counters.overloads += 1;
        out.push(Effect::Tell(waiter, Err(TokenError::overloaded(limit))));
        None
    }

    pub(super) fn reason(&self) -> Reason {
        match (&self.held, &self.withdrawn) {
            (Some(_), _) => Reason::Expired,
            (None, Some(_)) => Reason::Rejected,
            (None, None) => Reason::First,
        }
    }
}
