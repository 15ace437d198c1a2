//! A flight's life in the log. Nothing here, or anywhere else, logs a secret or an auth server's answer.

use crate::flight::Note;

/// An outage is one line when it begins and one when it ends, at `info`; the rest is `debug`.
///
/// `in_round`: the callers on handles, of whom the machine knows nothing.
pub(super) fn report(name: &str, note: &Note, in_round: usize) {
    match note {
        Note::Started { reason } => {
            log::debug!(target: "tokenflight", token = name, reason = reason.as_str(); "token {name}: refresh started ({})", reason.as_str());
        }
        Note::Retrying { attempt, pause, error } => {
            log::debug!(target: "tokenflight", token = name, attempt = *attempt; "token {name}: attempt {attempt} failed, next in {pause:?}: {error}");
        }
        Note::Landed { reason, attempts, took, waiters, lifetime, outage } => {
            let waiters = waiters + in_round;
            log::debug!(target: "tokenflight",
                token = name, reason = reason.as_str(), attempts = *attempts, waiters = waiters;
                "token {name}: refreshed in {took:?} ({}, attempts: {attempts}), lasts {lifetime:?}; telling {waiters}",
                reason.as_str(),
            );
            if *outage > 0 {
                log::info!(target: "tokenflight", token = name, failed_flights = *outage; "token {name}: the outage is over after {outage} failed refreshes");
            }
        }
        Note::Failed { reason, attempts, took, waiters, cooldown, error, first } => {
            let waiters = waiters + in_round;
            log::debug!(target: "tokenflight",
                token = name, reason = reason.as_str(), attempts = *attempts, waiters = waiters;
                "token {name}: no refresh after {took:?} ({}, attempts: {attempts}); telling {waiters}; next not before {cooldown:?}",
                reason.as_str(),
            );
            if *first {
                log::info!(target: "tokenflight", token = name; "token {name}: an outage begins: {error}; trying again after {cooldown:?}");
            }
        }
        Note::Rejected { streak } => {
            log::debug!(target: "tokenflight", token = name, streak = *streak; "token {name}: the api rejected it (young ones in a row: {streak})");
        }
    }
}
