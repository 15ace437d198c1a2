//! A flight's life in the log. Nothing here, or anywhere else, logs a secret or an auth server's answer.

use std::time::{Duration, UNIX_EPOCH};

use crate::flight::Note;

/// What log filters know it by, whatever file a line comes from.
const TARGET: &str = "tokenflight";

/// An outage is one line when it begins and one when it ends, at `info`, and so is a server that rejects the
/// tokens of its own auth server; the rest is `debug`. Times are in milliseconds.
///
/// `in_round`: the callers on handles, of whom the machine knows nothing.
pub(super) fn report(name: &str, note: &Note, in_round: usize) {
    match note {
        Note::Started { reason } => {
            log::debug!(target: TARGET, token = name, reason = reason.as_str();
                "token {name}: refresh started ({})", reason.as_str());
        }
        Note::Retrying { attempt, pause, error } => {
            log::debug!(target: TARGET, token = name, attempt = *attempt, pause_ms = millis(*pause);
                "token {name}: attempt {attempt} failed, next in {pause:?}: {error}");
        }
        Note::Landed { reason, attempts, took, waiters, lifetime, expires_at, outage } => {
            let waiters = waiters + in_round;
            log::debug!(target: TARGET,
                token = name, reason = reason.as_str(), outcome = "ok", attempts = *attempts,
                waiters = waiters, took_ms = millis(*took), lifetime_ms = millis(*lifetime),
                expires_at_ms = millis(expires_at.duration_since(UNIX_EPOCH).unwrap_or_default());
                "token {name}: refreshed in {took:?} ({}, attempts: {attempts}), lasts {lifetime:?}; telling {waiters}",
                reason.as_str(),
            );
            if *outage > 0 {
                log::info!(target: TARGET, token = name, failed_flights = *outage;
                    "token {name}: the outage is over after {outage} failed refreshes");
            }
        }
        Note::Failed { reason, attempts, took, waiters, cooldown, error, first } => {
            let waiters = waiters + in_round;
            log::debug!(target: TARGET,
                token = name, reason = reason.as_str(), outcome = "error", attempts = *attempts,
                waiters = waiters, took_ms = millis(*took), cooldown_ms = millis(*cooldown);
                "token {name}: no refresh after {took:?} ({}, attempts: {attempts}); telling {waiters}; next not before {cooldown:?}",
                reason.as_str(),
            );
            if *first {
                log::info!(target: TARGET, token = name, cooldown_ms = millis(*cooldown);
                    "token {name}: an outage begins: {error}; trying again after {cooldown:?}");
            }
        }
        Note::Rejected { streak } => {
            log::debug!(target: TARGET, token = name, streak = *streak;
                "token {name}: the api rejected it (young ones in a row: {streak})");
            if *streak == 2 {
                log::info!(target: TARGET, token = name, streak = *streak;
                    "token {name}: the api rejects new tokens too; refreshes are held back more and more");
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
