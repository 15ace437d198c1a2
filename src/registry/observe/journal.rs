//! A registry's log. No line at INFO or above names a key, or quotes an error that may contain a key.
//!
//! An outage of the auth server is one WARN when it begins and one INFO when it is over, for any number of keys. An
//! auth server that answers only now and then does not fill the log: within a minute there is one WARN, and the
//! next one says how many outages were left out. Refused clients are logged in the same way, with an ERROR. All
//! other lines are `debug`.

use std::time::Duration;

use super::super::gate::GateStatus;
use super::Lines;
use crate::duration::millis;
use crate::error::{SourceError, TokenError};
use crate::flight::Note;
#[cfg(feature = "oauth2")]
use crate::oauth::OAuthError;
use crate::sync::{Mutex, lock};

/// The target for log filters. All lines have the same target, whatever file they come from.
pub(super) const TARGET: &str = "tokenflight";

/// The time between two lines about the same trouble.
const REMINDER: Duration = Duration::from_secs(60);

/// Remembers which troubles are not over.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<Troubles>);

#[derive(Debug, Default)]
struct Troubles {
    endpoint: Trouble,
    clients: Trouble,
}

/// One kind of trouble, by the boot clock.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Duration>,
    /// Whether the log says that the trouble has begun.
    is_told: bool,
    /// When the log said so last.
    told: Option<Duration>,
    /// How often the trouble has begun since then, without a line.
    untold: u32,
    /// The total duration of earlier troubles.
    lasted: Duration,
}

/// The lines to write after the gate's lock is released.
#[derive(Debug)]
pub(in crate::registry) enum Line {
    Closed { error: SourceError, pause: Duration, is_told: bool, untold: u32 },
    Open { lasted: Duration, is_told: bool },
    ClientsClosed { is_told: bool, untold: u32 },
    ClientsOpen { lasted: Duration, is_told: bool },
}

impl Trouble {
    /// Whether a line is due, and how many were left out before.
    fn begin(&mut self, now: Duration) -> (bool, u32) {
        self.since = Some(now);
        self.is_told = self.told.is_none_or(|told| now.saturating_sub(told) >= REMINDER);
        if !self.is_told {
            self.untold = self.untold.saturating_add(1);
            return (false, self.untold);
        }
        self.told = Some(now);
        (true, std::mem::take(&mut self.untold))
    }

    /// The duration of the trouble.
    fn end(&mut self, now: Duration) -> Option<Duration> {
        let lasted = now.saturating_sub(self.since.take()?);
        self.lasted = self.lasted.saturating_add(lasted);
        Some(lasted)
    }
}

impl Journal {
    pub(super) fn moved(&self, status: &GateStatus, now: Duration) -> Lines {
        let Troubles { endpoint, clients } = &mut *lock(&self.0);
        let of_endpoint = match (&status.closed, endpoint.since) {
            (Some((error, until)), None) => {
                let (is_told, untold) = endpoint.begin(now);
                Some(Line::Closed { error: error.clone(), pause: until.saturating_sub(now), is_told, untold })
            }
            (None, Some(_)) => {
                endpoint.end(now).map(|lasted| Line::Open { lasted, is_told: endpoint.is_told })
            }
            _ => None,
        };
        let of_clients = match (status.clients_shut, clients.since) {
            (1.., None) => {
                let (is_told, untold) = clients.begin(now);
                Some(Line::ClientsClosed { is_told, untold })
            }
            (0, Some(_)) => {
                clients.end(now).map(|lasted| Line::ClientsOpen { lasted, is_told: clients.is_told })
            }
            _ => None,
        };
        [of_endpoint, of_clients]
    }

    /// The total time without calls to the auth server.
    #[cfg(feature = "metrics")]
    pub(super) fn closed_for(&self, now: Duration) -> Duration {
        let endpoint = &lock(&self.0).endpoint;
        let running = endpoint.since.map(|since| now.saturating_sub(since));
        endpoint.lasted.saturating_add(running.unwrap_or_default())
    }
}

impl Line {
    pub(super) fn write(self, name: &str, keys: usize, waiters: usize) {
        let level = |is_told, level| if is_told { level } else { log::Level::Debug };
        match self {
            Self::Closed { error, pause, is_told, untold } => {
                log::log!(target: TARGET, level(is_told, log::Level::Warn), registry = name,
                    waiting_keys = keys, waiters = waiters, pause_ms = millis(pause), untold = untold;
                    "registry {name:?}: an outage of the auth server begins ({}): {keys} keys wait, {waiters} callers; trying again after {pause:?}{}",
                    kind(&error), Untold(untold));
                // The auth server's text may contain a key.
                log::debug!(target: TARGET, registry = name; "registry {name:?}: the outage began with: {error}");
            }
            Self::Open { lasted, is_told } => {
                log::log!(target: TARGET, level(is_told, log::Level::Info), registry = name,
                    outage_ms = millis(lasted), waiting_keys = keys;
                    "registry {name:?}: the outage of the auth server is over after {lasted:.1?}; {keys} keys wait");
            }
            Self::ClientsClosed { is_told, untold } => {
                log::log!(target: TARGET, level(is_told, log::Level::Error), registry = name, untold = untold;
                    "registry {name:?}: the auth server refuses a client (invalid_client): its keys wait until its credentials are corrected{}",
                    Untold(untold));
            }
            Self::ClientsOpen { lasted, is_told } => {
                log::log!(target: TARGET, level(is_told, log::Level::Info), registry = name,
                    outage_ms = millis(lasted);
                    "registry {name:?}: all clients are accepted again, after {lasted:.1?}");
            }
        }
    }
}

/// The end of a line that stands for other lines too.
struct Untold(u32);

impl std::fmt::Display for Untold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => Ok(()),
            times => write!(f, " ({times} outages since the last line)"),
        }
    }
}

/// The kind of failure, in this crate's words only.
fn kind(error: &SourceError) -> String {
    #[cfg(feature = "oauth2")]
    if let Some(said) = error.cause::<OAuthError>() {
        return format!("HTTP {}", said.status.as_u16());
    }
    TokenError::flight_failed(error.clone(), 0, Duration::ZERO).kind().to_owned()
}

pub(super) fn source_does_not_end(name: &str, limit: Duration) {
    log::warn!(target: TARGET, registry = name;
        "registry {name:?}: its source has not finished within {limit:?}; its work is aborted");
}

/// One key's flight, at `debug`.
pub(super) fn note(name: &str, label: Option<&str>, note: &Note) {
    let key = Named(label);
    match note {
        Note::Landed { reason, attempts, took, waiters, lifetime, .. } => {
            log::debug!(target: TARGET, registry = name, reason = reason.as_str(), attempts = *attempts,
                waiters = *waiters, took_ms = millis(*took);
                "registry {name:?}: {key} refreshed in {took:?} ({}, attempts: {attempts}), lasts {lifetime:?}; telling {waiters}",
                reason.as_str());
        }
        Note::Failed { reason, attempts, took, waiters, cooldown, error } => {
            log::debug!(target: TARGET, registry = name, reason = reason.as_str(), attempts = *attempts,
                waiters = *waiters, took_ms = millis(*took), cooldown_ms = millis(*cooldown);
                "registry {name:?}: {key} not refreshed after {took:?} ({}, attempts: {attempts}): {error}; telling {waiters}; next not before {cooldown:?}",
                reason.as_str());
        }
        Note::Retrying { attempt, pause, error } => {
            log::debug!(target: TARGET, registry = name, attempt = *attempt, pause_ms = millis(*pause);
                "registry {name:?}: {key}, attempt {attempt} failed, next in {pause:?}: {error}");
        }
        Note::Received { lifetime, .. } => {
            log::debug!(target: TARGET, registry = name;
                "registry {name:?}: {key} received a token that another process has fetched, lasts {lifetime:?}");
        }
        Note::Started { .. } | Note::AskingAgain { .. } | Note::Reported { .. } => {}
    }
}

struct Named<'a>(Option<&'a str>);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(label) => write!(f, "key {label:?}"),
            None => f.write_str("a key"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn troubles_that_come_and_go_are_told_once_a_minute_and_the_next_line_counts_the_others() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.begin(at(1)), (true, 0));
        assert_eq!(trouble.end(at(4)), Some(at(3)));
        for times in 1..4 {
            assert_eq!(trouble.begin(at(10 + u64::from(times))), (false, times));
            assert_eq!(trouble.end(at(11 + u64::from(times))), Some(at(1)));
        }
        assert_eq!(trouble.begin(at(61)), (true, 3));
        assert_eq!(trouble.end(at(62)), Some(at(1)));
        assert_eq!(trouble.lasted, at(7));
    }
}
