//! The requests of callers: for a token, for a new token, or the report that its end is near.

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
        // This check comes first. A crowd may be being told, or the wall clock may have been set back and the
        // old token is usable again. The second of a pair must not be answered while the first has not been
        // answered.
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

    /// Adds a waiter for the flight's outcome, unless the queue is full.
    pub(super) fn await_flight(&mut self, waiter: W, now: Timestamp, out: &mut Out<W>) {
        let Some(waiter) = self.admit(waiter, now, out) else { return };
        let deadline = now.boot.saturating_add(self.policy.wait_limit());
        self.renewing.push(waiter, deadline, false);
    }

    /// A reader reports once per token. If no flight follows, the machine must tell readers when to report again.
    pub(super) fn near_end(&mut self, now: Timestamp, out: &mut Out<W>) {
        /// A reader without a usable token has to wake nothing but a background refresh. Then a report once a
        /// second is enough. The same is true if no flight without a waiter may start.
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

    /// The answer, if it needs no flight: the token while it is usable; during a cooldown the error of the last
    /// flight; between the two, if the policy allows it, the expired token.
    pub(super) fn known(&self, now: Timestamp) -> Option<Outcome> {
        if self.stopped {
            return Some(Err(TokenError::stopped()));
        }
        if let Some(held) = self.usable(now) {
            return (!self.is_withheld(now)).then(|| Ok(held.token.clone()));
        }
        // While a flight is under way, callers wait for its outcome, even if an old cooldown has not ended.
        if self.flight.is_some() {
            return None;
        }
        self.cooling(now).map(|error| self.instead_of(error, now))
    }

    pub(super) fn usable(&self, now: Timestamp) -> Option<&Held> {
        self.held.as_ref().filter(|held| held.is_usable(now))
    }

    /// During a cooldown: the error of the last flight, with the time that is left now.
    pub(super) fn cooling(&self, now: Timestamp) -> Option<TokenError> {
        let cooldown = self.running_cooldown(now)?;
        Some(cooldown.error.told_with_retry_after(cooldown.until.saturating_sub(now.boot)))
    }

    pub(super) fn running_cooldown(&self, now: Timestamp) -> Option<&Cooldown> {
        self.cooldown.as_ref().filter(|cooldown| now.boot < cooldown.until)
    }

    /// `stale_if_error`: an expired token instead of an error. Not instead of a refusal: RFC 5861 section 4
    /// concerns servers that are not available. Not a reported token.
    pub(super) fn instead_of(&self, error: TokenError, now: Timestamp) -> Outcome {
        let grace = self.policy.grace();
        let stale = self.held.as_ref().filter(|held| !grace.is_zero() && held.token.overdue_at(now) <= grace);
        match stale {
            Some(held) if !error.is_rejected() && !held.suspect => Ok(held.token.clone()),
            _ => Err(error),
        }
    }

    /// A place in the queue, unless it is full. The place of a round is not counted: its callers are counted and
    /// limited in the lobby.
    pub(super) fn admit(&mut self, waiter: W, now: Timestamp, out: &mut Out<W>) -> Option<W> {
        const PURGE_INTERVAL: Duration = Duration::from_secs(1);
        let limit = self.policy.waiters_limit();
        if let Some(error) = waiter.turned_away() {
            out.push(Effect::Tell(waiter, Err(error)));
            return None;
        }
        if !waiter.is_one() {
            return Some(waiter);
        }
        // Waiters that left without notice still hold places. Finding them needs a walk through the queue.
        // Therefore a full queue of patient waiters does this only from time to time, and not for every request.
        if self.waiters() >= limit && now.boot.saturating_sub(self.purged) >= PURGE_INTERVAL {
            self.purged = now.boot;
            let gone = self.purge().into_iter();
            out.extend(gone.map(|waiter| Effect::Tell(waiter, Err(TokenError::stopped()))));
        }
        if self.waiters() < limit {
            return Some(waiter);
        }
        self.counters.overloads += 1;
        out.push(Effect::Tell(waiter, Err(TokenError::overloaded(limit))));
        None
    }

    /// Takes out the waiters that have gone away.
    pub(crate) fn purge(&mut self) -> Vec<W> {
        let mut gone = self.wanting.purge(W::is_gone);
        gone.append(&mut self.renewing.purge(W::is_gone));
        gone
    }

    pub(super) fn reason(&self) -> Reason {
        match (&self.held, &self.withdrawn) {
            (Some(_), _) => Reason::Expired,
            (None, Some(_)) => Reason::Rejected,
            (None, None) => Reason::First,
        }
    }
}
