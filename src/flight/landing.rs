//! A token that has come: whether it is accepted, or its source is asked once more; and the landing of a flight.

use std::time::Duration;

use super::course::{LEAST_INTERVAL, LEAST_PAUSE};
use super::{Caller, Effect, Held, Machine, Note, Out, Phase, Repeat, ReportShare};
use crate::clock::Timestamp;
use crate::error::SourceError;
use crate::policy::Margins;
use crate::token::Token;

impl<W: Caller> Machine<W> {
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
    pub(super) fn accept(&mut self, token: Token, now: Timestamp) -> Result<Token, SourceError> {
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
    pub(super) fn asks_again(&mut self, token: &Token, now: Timestamp, out: &mut Out<W>) -> bool {
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
        let margins = self.margins_at_landing(&token, now);
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

    /// A token that comes when it is near its end is the one that was to be replaced, or as old: its source had no
    /// newer one. Then the next refresh ahead comes after a pause, as after a failure. Otherwise each read would start it.
    fn margins_at_landing(&mut self, token: &Token, now: Timestamp) -> Margins {
        let margins = self.policy.margins_of(token, self.dice.f64());
        let remaining = token.remaining_at(now);
        if remaining > margins.ahead {
            return margins;
        }
        let pause = self.policy.cooldown_after(1, self.dice.f64()).max(LEAST_INTERVAL);
        // While there is time, it comes before callers have to wait.
        let pause = pause.min(remaining.saturating_sub(margins.min_validity) / 2).max(LEAST_PAUSE);
        Margins { ahead: remaining.saturating_sub(pause), ..margins }
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
}
