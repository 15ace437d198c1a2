//! The log lines of a flight. No line in this crate contains a secret or an auth server's answer.
//!
//! An outage is one WARN when it begins (an ERROR if the auth server refuses), a reminder each minute, and one WARN
//! with its length when it ends. Rejections beyond the budget of reports are logged in the same way. All other
//! lines are `debug`. Times are in milliseconds.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::duration::millis;
use crate::error::{TokenError, printable_name};
use crate::flight::{Note, Repeat, ReportAnswer, ReportKind};

/// The target for log filters. All lines have the same target, whatever file they come from.
const TARGET: &str = "tokenflight";

/// The time between two lines about the same trouble.
const REMINDER: Duration = Duration::from_secs(60);

/// Writes the log of one actor, and remembers which troubles are not over.
#[derive(Debug)]
pub(super) struct Journal {
    /// On one line, whatever name the user gave.
    name: Arc<str>,
    outage: Option<Trouble>,
    rejections: Option<Trouble>,
    /// The source has given out a rejected token again, and no other token since.
    repeats: bool,
}

/// A trouble that is not over, by the boot clock.
#[derive(Debug)]
struct Trouble {
    since: Duration,
    /// When the last line about this trouble was written.
    told: Duration,
    /// When the trouble was last seen.
    seen: Duration,
    times: u32,
    /// The last line was an error.
    is_refusal: bool,
}

impl Trouble {
    fn new(now: Duration) -> Self {
        Self { since: now, told: now, seen: now, times: 1, is_refusal: false }
    }

    /// Records another occurrence. Returns whether it is time for a reminder.
    fn again(&mut self, now: Duration) -> bool {
        self.times = self.times.saturating_add(1);
        self.seen = now;
        self.is_due(now)
    }

    /// Whether it is time for a reminder, which is then written.
    fn is_due(&mut self, now: Duration) -> bool {
        let due = now.saturating_sub(self.told) >= REMINDER;
        if due {
            self.told = now;
        }
        due
    }

    /// For an outage.
    fn goes_on(&self, level: log::Level, name: &str, error: &TokenError, now: Duration) {
        let (length, times) = (whole_seconds(now.saturating_sub(self.since)), self.times);
        log::log!(target: TARGET, level, token = name, outage_ms = millis(length), failed_flights = times;
            "token {name}: the outage goes on for {length:?}, {times} refreshes have failed: {error}");
    }
}

impl Journal {
    pub(super) fn new(name: &Arc<str>) -> Self {
        Self { name: printable_name(name), outage: None, rejections: None, repeats: false }
    }

    /// `in_rounds`: the callers on handles, which the machine does not count.
    pub(super) fn note(&mut self, note: &Note, in_rounds: usize, now: Duration) {
        let name = &*self.name;
        match note {
            Note::Started { reason } => {
                log::debug!(target: TARGET, token = name, reason = reason.as_str();
                    "token {name}: refresh started ({})", reason.as_str());
            }
            Note::Retrying { attempt, pause, error } => {
                log::debug!(target: TARGET, token = name, attempt = *attempt, pause_ms = millis(*pause);
                    "token {name}: attempt {attempt} failed, next in {pause:?}: {error}");
            }
            Note::AskingAgain { pause } => {
                log::debug!(target: TARGET, token = name, pause_ms = millis(*pause);
                    "token {name}: the source gave out a token that was reported; asking once more in {pause:?}");
            }
            Note::Landed { reason, attempts, took, waiters, lifetime, expires_at, outage, repeat } => {
                let waiters = waiters + in_rounds;
                log::debug!(target: TARGET,
                    token = name, reason = reason.as_str(), outcome = "ok", attempts = *attempts,
                    waiters = waiters, took_ms = millis(*took), lifetime_ms = millis(*lifetime),
                    expires_at_ms = millis(expires_at.duration_since(UNIX_EPOCH).unwrap_or_default());
                    "token {name}: refreshed in {took:?} ({}, attempts: {attempts}), lasts {lifetime:?}; telling {waiters}",
                    reason.as_str(),
                );
                self.landed(*outage, *repeat, now);
            }
            Note::Received { lifetime, expires_at, outage } => {
                log::debug!(target: TARGET,
                    token = name, lifetime_ms = millis(*lifetime),
                    expires_at_ms = millis(expires_at.duration_since(UNIX_EPOCH).unwrap_or_default());
                    "token {name}: received a token that another process has fetched, lasts {lifetime:?}");
                self.landed(*outage, Repeat::No, now);
            }
            Note::Failed { reason, attempts, took, waiters, cooldown, error } => {
                let waiters = waiters + in_rounds;
                log::debug!(target: TARGET,
                    token = name, reason = reason.as_str(), outcome = "error", attempts = *attempts,
                    waiters = waiters, took_ms = millis(*took), cooldown_ms = millis(*cooldown);
                    "token {name}: no refresh after {took:?} ({}, attempts: {attempts}); telling {waiters}; next not before {cooldown:?}",
                    reason.as_str(),
                );
                self.failed(error, *cooldown, now);
            }
            Note::Reported { kind, answer, next_in } => {
                log::debug!(target: TARGET, token = name, report = kind.as_str(), answer = answer.as_str();
                    "token {name}: reported as rejected ({}): {}", kind.as_str(), answer.as_str());
                if *answer == ReportAnswer::OverBudget {
                    self.over_budget(*next_in, now);
                }
            }
        }
    }

    /// Called at a shutdown.
    pub(super) fn source_does_not_end(&self, limit: Duration) {
        let name = &*self.name;
        log::warn!(target: TARGET, token = name, limit_ms = millis(limit);
            "token {name}: its source has not finished within {limit:?}; its work is aborted");
    }

    fn failed(&mut self, error: &TokenError, cooldown: Duration, now: Duration) {
        let (name, is_refusal, level) = (&*self.name, error.is_rejected(), level_of(error));
        let Some(outage) = &mut self.outage else {
            log::log!(target: TARGET, level, token = name, cooldown_ms = millis(cooldown);
                "token {name}: an outage begins: {error}; trying again after {cooldown:?}");
            self.outage = Some(Trouble { is_refusal, ..Trouble::new(now) });
            return;
        };
        let due = outage.again(now);
        if due || (is_refusal && !outage.is_refusal) {
            outage.goes_on(level, name, error, now);
        }
        outage.is_refusal |= is_refusal;
    }

    /// A long cooldown has no failures, but callers get its error.
    pub(super) fn remind(&mut self, error: &TokenError, now: Duration) {
        if let Some(outage) = &mut self.outage
            && outage.is_due(now)
        {
            outage.goes_on(level_of(error), &self.name, error, now);
        }
    }

    fn landed(&mut self, failed: u32, repeat: Repeat, now: Duration) {
        let name = &*self.name;
        if let Some(outage) = self.outage.take() {
            let length = whole_seconds(now.saturating_sub(outage.since));
            log::warn!(target: TARGET, token = name, failed_flights = failed, outage_ms = millis(length);
                "token {name}: the outage is over after {length:?} and {failed} failed refreshes");
        }
        if repeat == (Repeat::Confirmed { first: true }) {
            log::warn!(target: TARGET, token = name;
                "token {name}: an API rejected the token, and its source gave the same token again: the token stays in use");
            self.repeats = true;
        }
        if repeat == Repeat::No && std::mem::take(&mut self.repeats) {
            log::warn!(target: TARGET, token = name; "token {name}: its source gives another token now");
        }
        if let Some(trouble) = self.rejections.take_if(|trouble| now.saturating_sub(trouble.seen) >= REMINDER)
        {
            let length = whole_seconds(trouble.seen.saturating_sub(trouble.since));
            log::warn!(target: TARGET, token = name, reports = trouble.times, rejections_ms = millis(length);
                "token {name}: no more reports beyond the budget, after {length:?} ({} reports)", trouble.times);
        }
    }

    fn over_budget(&mut self, next_in: Duration, now: Duration) {
        let name = &*self.name;
        let Some(trouble) = &mut self.rejections else {
            self.rejections = Some(Trouble::new(now));
            log::warn!(target: TARGET, token = name, next_report_ms = millis(next_in);
                "token {name}: APIs reject tokens more often than the budget of reports allows; the token stays in use, next refresh for a report in {next_in:?}");
            return;
        };
        if trouble.again(now) {
            log::warn!(target: TARGET, token = name, reports = trouble.times;
                "token {name}: APIs still reject tokens more often than the budget of reports allows ({} times)", trouble.times);
        }
    }
}

impl ReportKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Invalidate => "invalidate",
            Self::Discard => "discard",
        }
    }
}

impl ReportAnswer {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Flight => "the source is asked",
            Self::Settling => "too young to be replaced",
            Self::OverBudget => "the budget is spent",
            Self::CoolingDown => "a cooldown runs",
            Self::Discarded => "never handed out again",
        }
    }
}

fn level_of(error: &TokenError) -> log::Level {
    if error.is_rejected() { log::Level::Error } else { log::Level::Warn }
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}
