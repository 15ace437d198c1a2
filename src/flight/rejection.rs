//! The effects of a report: "an API answered 401 to this token". `docs/reports.md` has the states and the reasons.

use std::time::Duration;

use super::{
    Caller, Effect, Flight, Held, Machine, Note, Out, Phase, Rejection, ReportAnswer, ReportKind,
    ReportShare, Withholding,
};
use crate::clock::Timestamp;
use crate::error::TokenError;
use crate::policy::WITHHELD_AT_MOST;
use crate::source::Reason;
use crate::token::Token;

/// In a token's first minute an API may not know it yet. Therefore a reporter gets the predecessor at once.
const FIRST_MINUTE: Duration = Duration::from_secs(60);

impl<W: Caller> Machine<W> {
    /// The reporter waits for the flight. If no flight may start, it gets the predecessor or the same token at
    /// once. All other callers keep the token.
    pub(super) fn replace(
        &mut self,
        waiter: W,
        token: &Token,
        rejection: Rejection,
        now: Timestamp,
        out: &mut Out<W>,
    ) {
        self.counters.replaces += 1;
        if self.stopped {
            return out.push(Effect::Tell(waiter, Err(TokenError::stopped())));
        }
        let Some(held) = self.named(token, now) else {
            self.remember_late(token);
            if waiter.is_gone() {
                // It is late, and nobody waits for the answer.
                return out.push(Effect::Tell(waiter, Ok(token.clone())));
            }
            return self.want(waiter, None, now, out);
        };
        let same = held.token.clone();
        let is_confirmed = rejection.is_confirmed;
        let is_young = now.boot < held.since.saturating_add(FIRST_MINUTE) && !is_confirmed;
        self.counters.requests += 1;
        let is_asking = rejection.challenge.is_some();
        let is_for_many = rejection.is_for_many;
        let answer = self.report(ReportKind::Replace, rejection, now, out);
        // A reporter that knows of a revocation gets the same token, and reports again when the token has
        // settled. A revocation of a token of seconds mostly revokes its predecessor too.
        let is_told_to_wait = is_confirmed && answer == ReportAnswer::Settling;
        let may_help = !is_asking && !is_told_to_wait && !is_for_many;
        // First the report is remembered. Then a predecessor is looked for. Therefore the first report that a
        // token was rejected from its birth is answered like the next one.
        let predecessor = self.reports.offer(&same, now).filter(|_| may_help).cloned();
        match predecessor {
            Some(predecessor) if is_young || answer != ReportAnswer::Flight => {
                out.push(Effect::Tell(waiter, Ok(predecessor)));
            }
            _ if answer == ReportAnswer::Flight => self.await_flight(waiter, now, out),
            _ => out.push(Effect::Tell(waiter, Ok(same))),
        }
    }

    /// If the report starts or joins a flight, callers wait for the end of the next attempt, but only briefly.
    pub(super) fn invalidate(&mut self, token: &Token, now: Timestamp, out: &mut Out<W>) {
        self.counters.invalidates += 1;
        if self.named(token, now).is_none() {
            self.remember_late(token);
        } else if self.flight.is_none() && !self.may_fly_unasked {
            // The token stays in use, and a later report starts a flight.
        } else if self.report(ReportKind::Invalidate, Rejection::default(), now, out) == ReportAnswer::Flight
            && let Some(flight) = &mut self.flight
        {
            flight.withhold(now.boot);
        }
        // A handle withholds the token by itself until the machine has decided. Therefore the machine always
        // publishes whether the token is withheld, even if the token has ended and the report is late.
        let until = self.flight.as_ref().and_then(Flight::withheld_until);
        out.push(until.map_or(Effect::Release, Effect::Withhold));
    }

    /// The token is never given out again.
    pub(super) fn discard(&mut self, token: &Token, now: Timestamp, out: &mut Out<W>) {
        self.counters.discards += 1;
        self.reports.discard(token);
        if let Some(held) = self.held.take_if(|held| held.token.is_same(token)) {
            self.withdrawn = Some(held.token);
            self.counters.rejections += 1;
            if let Some(flight) = &mut self.flight {
                flight.reason = Reason::Rejected;
            }
            out.push(Effect::Publish(None));
            self.note_report(ReportKind::Discard, ReportAnswer::Discarded, now, out);
        }
        self.take_back(token, now, out);
        self.refresh_unasked(now, out);
    }

    /// The moment from which a report may start a flight, or join the one under way and withhold its token.
    pub(crate) fn reports_from(&self) -> Duration {
        match &self.flight {
            Some(Flight { withholding: Withholding::NotYet, .. }) => Duration::ZERO,
            Some(_) => Duration::MAX,
            None => self.next_flight_for_a_report(),
        }
    }

    /// If no flight is under way: the moment from which a report may start one.
    pub(crate) fn next_flight_for_a_report(&self) -> Duration {
        let settled = self.held.as_ref().map_or(Duration::ZERO, |held| self.settled_at(held));
        let cooldown = self.cooldown.as_ref().map_or(Duration::ZERO, |cooldown| cooldown.until);
        settled.max(cooldown).max(self.reports.budget.next_at(&self.policy))
    }

    /// Some APIs know a new token seconds late. Before this moment the token is not replaced.
    pub(super) fn settled_at(&self, held: &Held) -> Duration {
        held.since.saturating_add(self.policy.settle_for(held.token.whole_life()))
    }

    pub(super) fn is_withheld(&self, now: Timestamp) -> bool {
        matches!(&self.flight, Some(Flight { withholding: Withholding::Now { until, .. }, .. }) if now.boot < *until)
    }

    /// The current token is in use again, while the flight goes on.
    pub(super) fn release(&mut self, now: Timestamp, out: &mut Out<W>) {
        if !self.end_withholding(now) {
            return;
        }
        out.push(Effect::Release);
        if let Some(held) = self.usable(now) {
            let outcome = Ok(held.token.clone());
            self.tell_wanting(outcome);
        }
    }

    /// Returns whether the token was withheld.
    pub(super) fn end_withholding(&mut self, now: Timestamp) -> bool {
        let Some(flight) = &mut self.flight else { return false };
        let Withholding::Now { since, until } = flight.withholding else { return false };
        flight.withholding = Withholding::Over;
        self.counters.withheld += now.boot.min(until).saturating_sub(since);
        true
    }

    /// The token in use, if `token` names it. A report about an expired token has no effect: the next caller starts
    /// a flight.
    fn named(&self, token: &Token, now: Timestamp) -> Option<&Held> {
        self.usable(now).filter(|held| held.token.is_same(token))
    }

    /// A report about the token in use.
    fn report(
        &mut self,
        kind: ReportKind,
        rejection: Rejection,
        now: Timestamp,
        out: &mut Out<W>,
    ) -> ReportAnswer {
        let Some(held) = &self.held else { return ReportAnswer::Flight };
        let token = held.token.clone();
        let is_settling = now.boot < self.settled_at(held);
        let is_settled_by_source = self.reports.entry(&token).is_some_and(|entry| entry.settled);
        let answer = if self.flight.is_some() {
            ReportAnswer::Flight
        } else if self.running_cooldown(now).is_some() {
            ReportAnswer::CoolingDown
        } else if is_settling && rejection.challenge.is_none() {
            ReportAnswer::Settling
        } else if rejection.is_confirmed {
            ReportAnswer::Flight
        } else if now.boot < self.reports.budget.next_at(&self.policy) {
            ReportAnswer::OverBudget
        } else {
            self.reports.budget.spend(now, &self.policy);
            ReportAnswer::Flight
        };
        self.count_report(answer, rejection.is_confirmed);
        self.reports.remember(&token, is_settling && !rejection.knows_the_token());
        if let Some(held) = &mut self.held {
            held.suspect = true;
        }
        self.note_report(kind, answer, now, out);
        if answer == ReportAnswer::Flight {
            self.fly_for(Reason::Rejected, rejection.challenge, now, out);
            if let Some(flight) = &mut self.flight {
                flight.join_report(is_settled_by_source);
            }
        }
        answer
    }

    /// Whether the source is asked once more because an API's requirement came while the source was being called. If
    /// no attempt or no time is left, or if there is no usable token meanwhile, the source's answer is accepted.
    pub(super) fn was_asked_for_less(&self, now: Timestamp) -> bool {
        let has_usable = self.usable(now).is_some();
        self.flight.as_ref().is_some_and(|flight| {
            let possible = flight.attempt < self.policy.max_attempts() && now.boot < flight.deadline;
            flight.challenge.is_some() && !flight.is_passed_on && has_usable && possible
        })
    }

    pub(super) fn ask_for_more(&mut self, token: Token, now: Timestamp, out: &mut Out<W>) {
        self.release(now, out);
        if let Some(flight) = &mut self.flight {
            flight.spare = Some(token);
        }
        self.attempt(now, out);
    }

    /// The flight cannot go on, and ends with the token that it has got before. Returns whether there is one.
    pub(super) fn land_spare(&mut self, now: Timestamp, out: &mut Out<W>) -> bool {
        let spare = self.flight.as_mut().and_then(|flight| flight.spare.take());
        let is_good = |token: &Token| !token.remaining_at(now).is_zero() && !self.reports.is_discarded(token);
        let Some(token) = spare.filter(is_good) else { return false };
        self.release(now, out);
        self.land(token, now, out);
        true
    }

    /// A report about another token says nothing about the token in use. But the reported token can no longer be a
    /// predecessor, nor be used past its end (`stale_if_error`).
    fn remember_late(&mut self, token: &Token) {
        if let Some(held) = self.held.as_mut().filter(|held| held.token.is_same(token)) {
            held.suspect = true;
        }
        self.reports.remember_predecessor(token);
    }

    fn count_report(&mut self, answer: ReportAnswer, is_confirmed: bool) {
        let counters = &mut self.counters;
        counters.rejections += 1;
        counters.reports_confirmed += u64::from(is_confirmed && answer == ReportAnswer::Flight);
        *match answer {
            ReportAnswer::Flight | ReportAnswer::Discarded => &mut counters.reports_honoured,
            ReportAnswer::Settling => &mut counters.refused_by_settle,
            ReportAnswer::OverBudget => &mut counters.refused_by_budget,
            ReportAnswer::CoolingDown => &mut counters.refused_by_cooldown,
        } += 1;
    }

    fn note_report(&self, kind: ReportKind, answer: ReportAnswer, now: Timestamp, out: &mut Out<W>) {
        let next_in = self.next_flight_for_a_report().saturating_sub(now.boot);
        out.push(Effect::Note(Note::Reported { kind, answer, next_in }));
    }
}

impl Flight {
    /// Called when the first call is made. The flight has begun before, if it waited in a line.
    pub(super) fn begin(&mut self, now: Duration, limit: Duration) {
        self.deadline = now.saturating_add(limit);
    }

    /// A caller that waits for the outcome joins the flight.
    pub(super) fn hurry<W>(&mut self, reason: Reason, out: &mut Out<W>) {
        if reason == Reason::Ahead || std::mem::replace(&mut self.is_urgent, true) {
            return;
        }
        if matches!(self.phase, Phase::Queued) {
            out.push(Effect::Hurry);
        }
    }

    fn join_report(&mut self, is_settled_by_source: bool) {
        self.reason = Reason::Rejected;
        if self.report == ReportShare::None {
            self.report = if is_settled_by_source { ReportShare::Takes } else { ReportShare::AsksAgain };
        }
    }

    /// Withholds the token from now on. Once per flight: a second report must not delay all callers again.
    fn withhold(&mut self, now: Duration) {
        if matches!(self.withholding, Withholding::NotYet) {
            let until = now.saturating_add(WITHHELD_AT_MOST);
            self.withholding = Withholding::Now { since: now, until };
        }
    }

    pub(super) fn withheld_until(&self) -> Option<Duration> {
        match self.withholding {
            Withholding::Now { until, .. } => Some(until),
            Withholding::NotYet | Withholding::Over => None,
        }
    }
}
