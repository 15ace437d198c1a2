//! The course of a flight: attempts, pauses, success or failure, and the effect of time.

use std::time::Duration;

use super::{
    Caller, Cooldown, Effect, Flight, Held, Machine, Note, Out, Phase, Repeat, ReportShare, Withholding,
};
use crate::clock::Timestamp;
use crate::error::{SourceError, TokenError};
use crate::queue::CHUNK;
use crate::source::{Challenge, FetchContext, Reason};
use crate::token::Token;

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

    /// If a report may start no flight, a token that another process has fetched is still accepted, if its secret
    /// is new here. A flight that is under way gets its own token.
    pub(super) fn offered(&mut self, token: Token, now: Timestamp, out: &mut Out<W>) {
        let is_idle = self.flight.is_none() && !self.stopped;
        let is_held = self.held.as_ref().is_some_and(|held| held.token.is_same(&token));
        let is_news = !is_held && self.reports.entry(&token).is_none();
        if is_idle
            && is_news
            && let Ok(token) = self.accept(token, now)
        {
            self.land(token, now, out);
        }
    }

    /// A success with an unusable token counts as a failed attempt.
    fn accept(&mut self, token: Token, now: Timestamp) -> Result<Token, SourceError> {
        if let Some(flaw) = token.flaw() {
            return Err(SourceError::transient(format!("the new token {flaw}")));
        }
        if token.remaining_at(now).is_zero() {
            // A server that counts whole seconds gives out the last token until its very end.
            let error = SourceError::transient("the new token had expired when it arrived");
            return Err(error.with_retry_after(Duration::from_secs(1)));
        }
        if self.reports.is_discarded(&token) {
            self.withdrawn = Some(token);
            return Err(SourceError::transient("the source gave out again the token that was discarded"));
        }
        Ok(token)
    }

    /// Whether the source is asked once more: the flight has to do with a report, and the secret is a reported one.
    /// This happens once per flight. If no attempt or no time is left, or if there is no usable token meanwhile,
    /// the source's answer is accepted at once.
    fn asks_again(&mut self, token: &Token, now: Timestamp, out: &mut Out<W>) -> bool {
        let dice = self.dice.f64();
        let is_reported = self.reports.entry(token).is_some();
        let has_usable = self.usable(now).is_some();
        let Some(flight) = &mut self.flight else { return false };
        let pause = self.policy.backoff_after(flight.attempt, dice);
        let until = now.boot.saturating_add(pause);
        let possible = has_usable && flight.attempt < self.policy.max_attempts() && until < flight.deadline;
        if !is_reported || flight.report != ReportShare::AsksAgain || !possible {
            return false;
        }
        flight.report = ReportShare::Takes;
        flight.phase = Phase::Pausing { until };
        self.prolong(token, now, out);
        out.push(Effect::Note(Note::AskingAgain { pause }));
        true
    }

    /// The token in use came again with a later end. This end counts, whatever the second try brings.
    fn prolong(&mut self, token: &Token, now: Timestamp, out: &mut Out<W>) {
        let margins = self.policy.margins_of(token, self.dice.f64());
        let is_longer = |held: &&mut Held| {
            held.token.is_same(token) && held.token.remaining_at(now) < token.remaining_at(now)
        };
        if let Some(held) = self.held.as_mut().filter(is_longer) {
            held.token = token.clone();
            held.margins = margins;
            self.reports.renew(token);
            out.push(Effect::Publish(Some((token.clone(), margins))));
        }
    }

    /// First the token is published. Then the flight ends. Then the waiters are told. Therefore a request that
    /// comes during the telling finds the new token. A request that came before is among the waiters. No waiter
    /// that was told finds the old state.
    pub(super) fn land(&mut self, token: Token, now: Timestamp, out: &mut Out<W>) {
        let margins = self.policy.margins_of(&token, self.dice.f64());
        self.end_withholding(now);
        self.last_flight = Some(now.boot);
        let flight = self.flight.take();
        let for_report = flight.as_ref().is_some_and(|flight| flight.report != ReportShare::None);
        let repeat = self.judge_repeat(&token, for_report);
        let suspect = self.reports.entry(&token).is_some_and(|entry| !entry.settled);
        out.push(Effect::Publish(Some((token.clone(), margins))));
        let held = Held { token: token.clone(), margins, since: now.boot, suspect };
        if let Some(before) = self.held.replace(held)
            && !before.token.is_same(&token)
        {
            self.reports.succeed(before.token, before.margins.min_validity, now);
        }
        (self.cooldown, self.withdrawn) = (None, None);
        let outage = std::mem::take(&mut self.failures);
        if let Some(flight) = flight {
            self.counters.count_landing(flight.reason);
            out.push(Effect::Note(Note::Landed {
                reason: flight.reason,
                attempts: flight.attempt,
                took: now.boot.saturating_sub(flight.started),
                waiters: self.waiters(),
                lifetime: token.whole_life(),
                expires_at: token.end().wall,
                outage,
                repeat,
            }));
        } else {
            let (lifetime, expires_at) = (token.whole_life(), token.end().wall);
            out.push(Effect::Note(Note::Received { lifetime, expires_at, outage }));
        }
        self.tell_all(Ok(token.clone()), Ok(token));
    }

    /// A reported secret that the source gives again is accepted. A flight without a report accepts the secret too, but
    /// does not settle it.
    fn judge_repeat(&mut self, token: &Token, for_report: bool) -> Repeat {
        if self.reports.entry(token).is_none() {
            return Repeat::No;
        }
        self.counters.repeated_secrets += 1;
        self.reports.renew(token);
        Repeat::Confirmed { first: for_report && self.reports.settle(token) }
    }

    fn attempt_failed(&mut self, error: SourceError, now: Timestamp, out: &mut Out<W>) {
        self.release(now, out);
        let dice = self.dice.f64();
        let Some(flight) = &mut self.flight else { return };
        let requested = error.retry_after().map_or(Duration::ZERO, |delay| self.policy.capped(delay));
        let pause = self.policy.backoff_after(flight.attempt, dice).max(requested);
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
    }

    /// When to refresh without a request, in background mode.
    ///
    /// If a token is unusable by either clock, its refresh is due now, or when the cooldown ends. The remaining
    /// life is the shorter one of the two clocks. Therefore a change of the wall clock is noticed at the next look.
    pub(super) fn own_refresh(&self, now: Timestamp) -> Option<Duration> {
        /// The minimum, also for very short lifetimes and cooldowns.
        const LEAST_INTERVAL: Duration = Duration::from_millis(500);
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
