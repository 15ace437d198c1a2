//! The course of a flight: attempts, pauses, a landing or a failure, and what time does to it.

use std::time::Duration;

use super::{Airborne, Cooldown, Effect, Held, Machine, Note, Out, Outcome, Phase};
use crate::clock::Timestamp;
use crate::error::{SourceError, TokenError};
use crate::queue::{CHUNK, Waiter};
use crate::source::{FetchContext, Reason};
use crate::token::Token;

/// What the flight does.
impl<W: Waiter> Machine<W> {
    /// Starts a flight, or joins the one under way.
    pub(super) fn fly(&mut self, reason: Reason, now: Timestamp, out: &mut Out<W>) {
        if self.flight.is_some() {
            self.counters.coalesced += 1;
            return;
        }
        self.counters.flights += 1;
        self.flight = Some(Airborne {
            reason,
            attempt: 0,
            started: now.boot,
            deadline: now.boot.saturating_add(self.policy.flight_limit()),
            phase: Phase::Pausing { until: now.boot },
        });
        out.push(Effect::Note(Note::Started { reason }));
        self.attempt(now, out);
    }

    pub(super) fn refresh_ahead(&mut self, now: Timestamp, out: &mut Out<W>) {
        let near_end = self.held.as_ref().is_some_and(|held| {
            held.token.remaining_at(now) <= held.margins.ahead.max(held.margins.min_validity)
        });
        if near_end && self.flight.is_none() && self.cooling(now).is_none() && !self.stopped {
            self.fly(Reason::Ahead, now, out);
        }
    }

    fn attempt(&mut self, now: Timestamp, out: &mut Out<W>) {
        let previous = self.token().or(self.rejected.as_ref()).cloned();
        let Some(flight) = &mut self.flight else { return };
        self.fetches += 1;
        self.counters.attempts += 1;
        flight.attempt += 1;
        let until = now.boot.saturating_add(self.policy.attempt_limit()).min(flight.deadline);
        flight.phase = Phase::Fetching { id: self.fetches, until };
        let cx = FetchContext::new(flight.reason, previous, flight.attempt);
        out.push(Effect::Fetch { id: self.fetches, cx });
    }

    pub(super) fn fetched(
        &mut self,
        id: u64,
        result: Result<Token, SourceError>,
        now: Timestamp,
        out: &mut Out<W>,
    ) {
        // A fetch that was given up may still report: too late.
        if !matches!(&self.flight, Some(Airborne { phase: Phase::Fetching { id: current, .. }, .. }) if *current == id)
        {
            return;
        }
        match result.and_then(|token| self.accept(token, now)) {
            Ok(token) => self.land(token, now, out),
            Err(error) => self.attempt_failed(error, now, out),
        }
    }

    /// A "success" that would not help anybody is a failed attempt.
    fn accept(&self, token: Token, now: Timestamp) -> Result<Token, SourceError> {
        if !token.is_presentable() {
            return Err(SourceError::transient(
                "the new token is empty or has characters that no header can carry",
            ));
        }
        if token.remaining_at(now).is_zero() {
            return Err(SourceError::transient("the new token had expired when it arrived"));
        }
        if self.rejected.as_ref().is_some_and(|rejected| rejected.same_secret(&token)) {
            return Err(SourceError::transient(
                "the source gave out again the token that the api had rejected",
            ));
        }
        Ok(token)
    }

    /// The order is the argument: publish, end the flight, then tell. A request that comes while the waiters
    /// are being told finds the new token; one that came before is among them; nobody falls in between, and
    /// nobody who was told finds the old state.
    fn land(&mut self, token: Token, now: Timestamp, out: &mut Out<W>) {
        let lifetime = token.whole_life();
        let margins = self.policy.margins(lifetime, self.dice.f64());
        out.push(Effect::Publish(Some((token.clone(), margins))));
        self.held = Some(Held { token: token.clone(), margins, since: now.boot });
        self.cooldown = None;
        let outage = std::mem::take(&mut self.failures);
        if let Some(flight) = self.flight.take() {
            self.counters.count_landing(flight.reason);
            out.push(Effect::Note(Note::Landed {
                reason: flight.reason,
                attempts: flight.attempt,
                took: now.boot.saturating_sub(flight.started),
                waiters: self.waiters(),
                lifetime,
                expires_at: token.end().wall,
                outage,
            }));
        }
        self.tell_all(Ok(token.clone()), Ok(token), out);
    }

    fn attempt_failed(&mut self, error: SourceError, now: Timestamp, out: &mut Out<W>) {
        let dice = self.dice.f64();
        let Some(flight) = &mut self.flight else { return };
        let wish = error.retry_after().map_or(Duration::ZERO, |delay| self.policy.capped(delay));
        let pause = self.policy.backoff_after(flight.attempt, dice).max(wish);
        let until = now.boot.saturating_add(pause);
        let hopeless = error.is_terminal() || error.is_panic();
        if hopeless || flight.attempt >= self.policy.max_attempts() || until >= flight.deadline {
            return self.fail(error, now, out);
        }
        flight.phase = Phase::Pausing { until };
        out.push(Effect::Note(Note::Retrying { attempt: flight.attempt, pause, error }));
    }

    /// One failure, one error: all who wait get the same, and so does everybody who comes in the cooldown.
    fn fail(&mut self, cause: SourceError, now: Timestamp, out: &mut Out<W>) {
        let Some(flight) = self.flight.take() else { return };
        let (reason, attempts) = (flight.reason, flight.attempt);
        self.failures = self.failures.saturating_add(1);
        self.counters.count_failure(reason);
        let cooldown = self.cooldown_for(&cause);
        let error = TokenError::flight_failed(cause, attempts, cooldown);
        // A rejected token's floor may last longer.
        let floor = self.cooldown.take().map_or(Duration::ZERO, |old| old.until);
        let until = now.boot.saturating_add(cooldown).max(floor);
        self.cooldown = Some(Cooldown { until, error: error.clone() });
        out.push(Effect::QuietUntil(until));
        out.push(Effect::Note(Note::Failed {
            reason,
            attempts,
            took: now.boot.saturating_sub(flight.started),
            waiters: self.waiters(),
            cooldown,
            error: error.clone(),
            first: self.failures == 1,
        }));
        let wanted = match self.usable(now) {
            // Possible where the wall clock was set back meanwhile.
            Some(held) => Ok(held.token.clone()),
            None => self.instead_of(&error, now),
        };
        self.tell_all(wanted, Err(error), out);
    }

    fn cooldown_for(&mut self, cause: &SourceError) -> Duration {
        let dice = self.dice.f64();
        // A panic is a fault in the program, not an overloaded server: the next request tries again. Only a
        // source that keeps panicking is left alone like any other.
        if cause.is_panic() && self.failures == 1 {
            return Duration::ZERO;
        }
        let usual = self.policy.cooldown_after(self.failures, dice);
        let least = if cause.is_terminal() { self.policy.terminal_pause(dice) } else { Duration::ZERO };
        let wish = cause.retry_after().map_or(Duration::ZERO, |delay| self.policy.capped(delay));
        usual.max(least).max(wish)
    }

    pub(super) fn tell_all(&mut self, wanted: Outcome, forced: Outcome, out: &mut Out<W>) {
        for (waiters, outcome) in [(&mut self.wanting, wanted), (&mut self.forcing, forced)] {
            if !waiters.is_empty() {
                out.push(Effect::TellAll(waiters.take(), outcome));
            }
        }
    }

    pub(super) fn clear(&mut self, out: &mut Out<W>) {
        if self.flight.take().is_some() {
            out.push(Effect::Abort);
        }
        self.tell_all(Err(TokenError::stopped()), Err(TokenError::stopped()), out);
    }
}

/// What time does.
impl<W: Waiter> Machine<W> {
    pub(super) fn tick(&mut self, now: Timestamp, out: &mut Out<W>) {
        match self.flight.as_ref().map(|flight| (&flight.phase, flight.deadline)) {
            Some((Phase::Fetching { until, .. }, _)) if now.boot >= *until => {
                out.push(Effect::Abort);
                self.attempt_failed(SourceError::timeout(self.policy.attempt_limit()), now, out);
            }
            // The machine slept through what was left of the flight: a call would be given up as it is sent.
            Some((Phase::Pausing { .. }, deadline)) if now.boot >= deadline => {
                self.fail(SourceError::timeout(self.policy.flight_limit()), now, out);
            }
            Some((Phase::Pausing { until }, _)) if now.boot >= *until => self.attempt(now, out),
            Some(_) => {}
            None => self.refresh_unasked(now, out),
        }
        // The rest of a crowd are due still, so the next tick comes at once.
        let mut left = CHUNK;
        for waiters in [&mut self.wanting, &mut self.forcing] {
            while left > 0
                && let Some(waiter) = waiters.pop_due(now.boot)
            {
                left -= 1;
                self.counters.timeouts += 1;
                out.push(Effect::Tell(waiter, Err(TokenError::wait_timed_out())));
            }
        }
    }

    /// When to refresh without being asked, in background mode.
    pub(super) fn own_refresh(&self) -> Option<Duration> {
        /// However short the tokens live.
        const LEAST_INTERVAL: Duration = Duration::from_millis(500);
        if !self.policy.refreshes_by_itself() || self.flight.is_some() || self.stopped {
            return None;
        }
        let after_cooldown = self.cooldown.as_ref().map_or(Duration::ZERO, |cooldown| cooldown.until);
        let due = self.held.as_ref().map_or(Duration::ZERO, |held| {
            let margin = held.margins.ahead.max(held.margins.min_validity);
            held.token.end().boot.saturating_sub(margin).max(held.since.saturating_add(LEAST_INTERVAL))
        });
        Some(due.max(after_cooldown))
    }

    pub(super) fn refresh_unasked(&mut self, now: Timestamp, out: &mut Out<W>) {
        if self.own_refresh().is_some_and(|due| due <= now.boot) {
            let reason = if self.usable(now).is_some() { Reason::Ahead } else { self.reason() };
            self.fly(reason, now, out);
        }
    }
}
