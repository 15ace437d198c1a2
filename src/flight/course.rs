//! The course of a flight: attempts, pauses, success or failure, and the effect of time.

use std::time::Duration;

use super::{Caller, Cooldown, Effect, Flight, Machine, Note, Out, Phase, ReportShare, Withholding};
use crate::clock::Timestamp;
use crate::error::{SourceError, TokenError};
use crate::queue::CHUNK;
use crate::source::{Challenge, FetchContext, Reason};
use crate::token::Token;

/// The minimum between two flights that nobody asked for, also for very short lifetimes and cooldowns.
pub(super) const LEAST_INTERVAL: Duration = Duration::from_millis(500);
/// The minimum between two attempts of a background refresh for which nobody waits, also without `backoff`.
pub(super) const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// The steps of a flight.
impl<W: Caller> Machine<W> {
    /// Starts a flight, or joins the one under way.
    pub(super) fn fly(&mut self, reason: Reason, now: Timestamp, out: &mut Out<W>) {
        self.fly_for(reason, None, now, out);
    }

    /// The same for an API with a requirement on the token.
    pub(super) fn fly_for(
        &mut self,
        reason: Reason,
        challenge: Option<Challenge>,
        now: Timestamp,
        out: &mut Out<W>,
    ) {
        if let Some(flight) = &mut self.flight {
            self.counters.coalesced += 1;
            flight.challenge = flight.challenge.take().or(challenge);
            flight.hurry(reason, out);
            return;
        }
        if self.held.is_some() {
            // The source gave this discarded token in an earlier flight.
            self.withdrawn = None;
        }
        self.counters.flights += 1;
        self.flight = Some(Flight {
            reason,
            attempt: 0,
            started: now.boot,
            deadline: Duration::MAX,
            phase: Phase::Pausing { until: now.boot },
            report: ReportShare::None,
            challenge,
            is_passed_on: false,
            spare: None,
            withholding: Withholding::NotYet,
            is_urgent: reason != Reason::Ahead,
        });
        out.push(Effect::Note(Note::Started { reason }));
        self.attempt(now, out);
    }

    /// Calls the source, or asks the gate for a call.
    pub(super) fn attempt(&mut self, now: Timestamp, out: &mut Out<W>) {
        if !self.is_gated {
            return self.call(now, out);
        }
        let Some(flight) = &mut self.flight else { return };
        flight.phase = Phase::Queued;
        out.push(Effect::Ask { is_urgent: flight.is_urgent });
    }

    pub(super) fn refresh_ahead(&mut self, now: Timestamp, out: &mut Out<W>) {
        let near_end = self.held.as_ref().is_some_and(|held| {
            held.token.remaining_at(now) <= held.margins.ahead.max(held.margins.min_validity)
        });
        let may = self.may_fly_unasked && !self.stopped;
        if near_end && may && self.flight.is_none() && self.running_cooldown(now).is_none() {
            self.fly(Reason::Ahead, now, out);
        }
    }

    pub(super) fn call(&mut self, now: Timestamp, out: &mut Out<W>) {
        let previous = self.to_be_replaced().cloned();
        let Some(flight) = &mut self.flight else { return };
        self.fetches += 1;
        self.counters.attempts += 1;
        if flight.attempt == 0 {
            flight.begin(now.boot, self.policy.flight_limit());
        }
        flight.attempt += 1;
        let own_end = now.boot.saturating_add(self.policy.attempt_limit());
        let until = own_end.min(flight.deadline);
        flight.phase = Phase::Fetching { id: self.fetches, until, cut: until < own_end };
        let cx = FetchContext::new(flight.reason).with_attempt(flight.attempt).with_deadline(until);
        flight.is_passed_on = flight.challenge.is_some();
        let cx = match &flight.challenge {
            Some(challenge) => cx.with_challenge(challenge.clone()),
            None => cx,
        };
        let cx = match previous {
            Some(previous) => {
                let discarded = self.reports.is_discarded(&previous);
                cx.with_previous(previous).with_discarded(discarded)
            }
            None => cx,
        };
        out.push(Effect::Fetch { id: self.fetches, cx });
    }

    /// The token that the source must replace. A discarded token that the source has given out comes before the
    /// token in use. Without both, a source that keeps tokens may still have the one that was discarded last.
    fn to_be_replaced(&self) -> Option<&Token> {
        self.withdrawn.as_ref().or(self.token()).or(self.reports.discarded.back())
    }

    pub(super) fn fetched(
        &mut self,
        id: u64,
        result: Result<Token, SourceError>,
        now: Timestamp,
        out: &mut Out<W>,
    ) {
        // A fetch that was given up may still report. Its result is ignored.
        if !matches!(&self.flight, Some(Flight { phase: Phase::Fetching { id: current, .. }, .. }) if *current == id)
        {
            return;
        }
        match result.and_then(|token| self.accept(token, now)) {
            Ok(token) if self.asks_again(&token, now, out) => self.release(now, out),
            Ok(token) if self.was_asked_for_less(now) => self.ask_for_more(token, now, out),
            Ok(token) => self.land(token, now, out),
            Err(error) => self.attempt_failed(error, now, out),
        }
    }

    fn attempt_failed(&mut self, error: SourceError, now: Timestamp, out: &mut Out<W>) {
        self.release(now, out);
        let dice = self.dice.f64();
        let Some(flight) = &mut self.flight else { return };
        let requested = error.retry_after().map_or(Duration::ZERO, |delay| self.policy.capped(delay));
        let is_unasked = self.wanting.is_empty() && self.renewing.is_empty();
        let least =
            if is_unasked && self.policy.refreshes_by_itself() { LEAST_PAUSE } else { Duration::ZERO };
        let pause = self.policy.backoff_after(flight.attempt, dice).max(requested).max(least);
        let until = now.boot.saturating_add(pause);
        let is_last = flight.attempt >= self.policy.max_attempts() || flight.spare.is_some();
        if error.ends_the_flight() || is_last || until >= flight.deadline {
            return self.fail(error, now, out);
        }
        flight.phase = Phase::Pausing { until };
        out.push(Effect::Note(Note::Retrying { attempt: flight.attempt, pause, error }));
    }

    fn fail(&mut self, cause: SourceError, now: Timestamp, out: &mut Out<W>) {
        if self.land_spare(now, out) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let cooldown = self.cooldown_for(&cause);
        self.end_without(cause, cooldown, now, out);
    }

    /// One failure, one error: all waiters get the same error, and so do all callers during the cooldown.
    pub(super) fn end_without(
        &mut self,
        cause: SourceError,
        cooldown: Duration,
        now: Timestamp,
        out: &mut Out<W>,
    ) {
        self.release(now, out);
        let Some(flight) = self.flight.take() else { return };
        let (reason, attempts) = (flight.reason, flight.attempt);
        self.last_flight = Some(now.boot);
        self.counters.count_failure(reason);
        let error = TokenError::flight_failed(cause, attempts, cooldown);
        let until = now.boot.saturating_add(cooldown);
        self.cooldown = Some(Cooldown { until, error: error.clone() });
        self.last_error = Some(error.clone());
        out.push(Effect::QuietUntil(until));
        out.push(Effect::Note(Note::Failed {
            reason,
            attempts,
            took: now.boot.saturating_sub(flight.started),
            waiters: self.waiters(),
            cooldown,
            error: error.clone(),
        }));
        let wanted = match self.usable(now) {
            // Possible if the wall clock was set back meanwhile.
            Some(held) => Ok(held.token.clone()),
            None => self.instead_of(error.clone(), now),
        };
        self.tell_all(wanted, Err(error));
    }

    fn cooldown_for(&mut self, cause: &SourceError) -> Duration {
        let dice = self.dice.f64();
        // A panic is a fault in the program, and no sign of an overloaded server: the next request tries again.
        // Only repeated panics lead to a cooldown like other failures.
        if cause.is_panic() && self.failures == 1 {
            return Duration::ZERO;
        }
        let usual = self.policy.cooldown_after(self.failures, dice);
        let least = if cause.is_terminal() { self.policy.terminal_pause(dice) } else { Duration::ZERO };
        let requested = cause.retry_after().map_or(Duration::ZERO, |delay| self.policy.capped(delay));
        usual.max(least).max(requested)
    }
}

/// The effects of time.
impl<W: Caller> Machine<W> {
    pub(super) fn tick(&mut self, now: Timestamp, out: &mut Out<W>) {
        self.withheld_long_enough(now, out);
        match self.flight.as_ref().map(|flight| (&flight.phase, flight.deadline)) {
            Some((Phase::Fetching { until, cut, .. }, _)) if now.boot >= *until => {
                let error = if *cut {
                    SourceError::flight_timed_out(self.policy.flight_limit())
                } else {
                    SourceError::attempt_timed_out(self.policy.attempt_limit())
                };
                out.push(Effect::Abort);
                self.attempt_failed(error, now, out);
            }
            // The machine slept through the rest of the flight. A call would be given up as soon as it is sent.
            Some((Phase::Pausing { .. }, deadline)) if now.boot >= deadline => {
                self.fail(SourceError::flight_timed_out(self.policy.flight_limit()), now, out);
            }
            Some((Phase::Pausing { until }, _)) if now.boot >= *until => self.attempt(now, out),
            Some((Phase::Queued, end)) if now.boot >= end => {
                out.push(Effect::Abort);
                self.fail(SourceError::flight_timed_out(self.policy.flight_limit()), now, out);
            }
            Some(_) => {}
            None => self.refresh_unasked(now, out),
        }
        self.send_away(now, out);
    }

    fn withheld_long_enough(&mut self, now: Timestamp, out: &mut Out<W>) {
        let is_over = |flight: &Flight| matches!(flight.withholding, Withholding::Now { until, .. } if now.boot >= until);
        if self.flight.as_ref().is_some_and(is_over) {
            self.release(now, out);
        }
    }

    /// Answers the waiters whose timeout has ended. If some of a crowd remain, they are still due, so the next tick
    /// comes at once.
    fn send_away(&mut self, now: Timestamp, out: &mut Out<W>) {
        let mut left = CHUNK;
        for waiters in [&mut self.wanting, &mut self.renewing] {
            while left > 0
                && let Some(waiter) = waiters.pop_due(now.boot)
            {
                left -= 1;
                self.counters.timeouts += 1;
                out.push(Effect::Tell(waiter, Err(TokenError::wait_timed_out())));
            }
        }
        #[cfg(feature = "registry")]
        self.go_behind(left < CHUNK, out);
    }

    /// When to refresh without a request, in background mode.
    ///
    /// If a token is unusable by either clock, its refresh is due now, or when the cooldown ends. The remaining
    /// life is the shorter one of the two clocks. Therefore a change of the wall clock is noticed at the next look.
    pub(super) fn own_refresh(&self, now: Timestamp) -> Option<Duration> {
        if !self.policy.refreshes_by_itself() || self.flight.is_some() || self.stopped {
            return None;
        }
        let after_cooldown = self.cooldown.as_ref().map_or(Duration::ZERO, |cooldown| cooldown.until);
        let after_last =
            self.last_flight.map_or(Duration::ZERO, |ended| ended.saturating_add(LEAST_INTERVAL));
        let due = self.held.as_ref().map_or(Duration::ZERO, |held| {
            let margin = held.margins.ahead.max(held.margins.min_validity);
            now.boot.saturating_add(held.token.remaining_at(now).saturating_sub(margin))
        });
        Some(due.max(after_cooldown).max(after_last))
    }

    pub(super) fn refresh_unasked(&mut self, now: Timestamp, out: &mut Out<W>) {
        if self.own_refresh(now).is_some_and(|due| due <= now.boot) {
            let reason = if self.usable(now).is_some() { Reason::Ahead } else { self.reason() };
            self.fly(reason, now, out);
        }
    }
}
