//! A registry's log. No line at INFO or above names a key, or quotes an error that may contain a key.
//!
//! An outage of the auth server is one WARN when it begins, a reminder each minute, and one WARN when it is over, for
//! any number of keys. An auth server that answers only now and then does not fill the log: within a minute there is
//! one WARN, and the next one says how many outages were left out. Refused clients are logged in the same way, with
//! an ERROR. The failures and reports of single keys are counted, with one line a minute ([`OfKeys`]). All other
//! lines are `debug`.

use std::time::Duration;

use super::super::gate::GateStatus;
use super::Lines;
use super::of_keys::{Fault, OfKeys, Shut};
use crate::duration::millis;
use crate::error::{SourceError, TokenError};
use crate::flight::{Note, Repeat, ReportAnswer};
#[cfg(feature = "oauth2")]
use crate::oauth::OAuthError;
use crate::sync::{AtomicBool, Mutex, Ordering, lock};

/// The target for log filters. All lines have the same target, whatever file they come from.
pub(super) const TARGET: &str = "tokenflight";

/// The time between two lines about the same trouble.
pub(super) const REMINDER: Duration = Duration::from_secs(60);

/// Remembers which troubles are not over.
#[derive(Debug, Default)]
pub(super) struct Journal {
    troubles: Mutex<Troubles>,
    /// Whether there is a trouble. Without one, no shard needs the lock.
    has_trouble: AtomicBool,
}

#[derive(Debug, Default)]
struct Troubles {
    endpoint: Trouble,
    clients: Trouble,
    of_keys: OfKeys,
}

/// One kind of trouble, by the boot clock.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Duration>,
    /// Whether the log says that the trouble has begun.
    is_told: bool,
    /// When the log said so last.
    told: Option<Duration>,
    /// How many troubles have begun without a line. The next first line names them.
    untold: u32,
    /// The total duration of earlier troubles.
    lasted: Duration,
}

/// The lines to write after the gate's lock is released.
#[derive(Debug)]
pub(in crate::registry) enum Line {
    Closed { error: SourceError, pause: Duration, is_told: bool, untold: u32 },
    Open { lasted: Duration, is_told: bool },
    StillClosed { lasted: Duration },
    ClientsClosed { is_told: bool, untold: u32 },
    ClientsOpen { lasted: Duration, is_told: bool },
    ClientsStillClosed { lasted: Duration },
    KeysFail { keys: usize, kind: String, is_refusal: bool },
    KeysServed { lasted: Duration },
    OverBudget { times: u32 },
    WithinBudget { lasted: Duration, times: u32 },
    Repeats { times: u32 },
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

    /// The duration so far, if a reminder is due.
    fn remind(&mut self, now: Duration) -> Option<Duration> {
        let since = self.since?;
        self.told.take_if(|told| now.saturating_sub(*told) >= REMINDER)?;
        if !self.is_told {
            self.untold = self.untold.saturating_sub(1);
        }
        (self.told, self.is_told) = (Some(now), true);
        Some(now.saturating_sub(since))
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
        let Troubles { endpoint, clients, of_keys } = &mut *lock(&self.troubles);
        self.has_trouble.store(true, Ordering::Relaxed);
        let of_endpoint = match (&status.closed, endpoint.since) {
            (Some((error, until)), None) => {
                let (is_told, untold) = endpoint.begin(now);
                of_keys.gate_shut();
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
                of_keys.gate_shut();
                Some(Line::ClientsClosed { is_told, untold })
            }
            (0, Some(_)) => {
                clients.end(now).map(|lasted| Line::ClientsOpen { lasted, is_told: clients.is_told })
            }
            _ => None,
        };
        of_endpoint.into_iter().chain(of_clients).collect()
    }

    /// An event of a key's flight. The key is named by its hash.
    pub(super) fn note(&self, key: u64, note: &Note, now: Duration) -> Lines {
        // What neither begins a trouble nor may end one needs no lock.
        let begins = match note {
            Note::Failed { attempts, .. } => *attempts > 0,
            Note::Landed { repeat, .. } => *repeat == (Repeat::Confirmed { first: true }),
            Note::Received { .. } => false,
            Note::Reported { answer: ReportAnswer::OverBudget, .. } => true,
            Note::Reported { .. }
            | Note::Started { .. }
            | Note::Retrying { .. }
            | Note::AskingAgain { .. } => return Lines::new(),
        };
        if !begins && !self.has_trouble.load(Ordering::Relaxed) {
            return Lines::new();
        }
        let fault = Fault::of(note);
        let Troubles { endpoint, clients, of_keys } = &mut *lock(&self.troubles);
        if begins {
            self.has_trouble.store(true, Ordering::Relaxed);
        }
        let shut = Shut { endpoint: endpoint.since.is_some(), clients: clients.since.is_some() };
        of_keys.note(key, note, fault, shut, now).into_iter().collect()
    }

    /// The lines that are due after a round of a shard.
    pub(super) fn due(&self, now: Duration) -> Lines {
        if !self.has_trouble.load(Ordering::Relaxed) {
            return Lines::new();
        }
        let Troubles { endpoint, clients, of_keys } = &mut *lock(&self.troubles);
        let of_endpoint = endpoint.remind(now).map(|lasted| Line::StillClosed { lasted });
        let of_clients = clients.remind(now).map(|lasted| Line::ClientsStillClosed { lasted });
        let lines = of_endpoint.into_iter().chain(of_clients).chain(of_keys.due(now)).collect();
        if endpoint.since.is_none() && clients.since.is_none() && of_keys.is_quiet() {
            self.has_trouble.store(false, Ordering::Relaxed);
        }
        lines
    }

    /// The total time without calls to the auth server.
    #[cfg(feature = "metrics")]
    pub(super) fn closed_for(&self, now: Duration) -> Duration {
        let endpoint = &lock(&self.troubles).endpoint;
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
                log::log!(target: TARGET, level(is_told, log::Level::Warn), registry = name,
                    outage_ms = millis(lasted), waiting_keys = keys;
                    "registry {name:?}: the outage of the auth server is over after {lasted:.1?}; {keys} keys wait");
            }
            Self::ClientsClosed { is_told, untold } => {
                log::log!(target: TARGET, level(is_told, log::Level::Error), registry = name, untold = untold;
                    "registry {name:?}: the auth server refuses a client (invalid_client): its keys wait until its credentials are corrected{}",
                    Untold(untold));
            }
            Self::ClientsOpen { lasted, is_told } => {
                log::log!(target: TARGET, level(is_told, log::Level::Warn), registry = name,
                    outage_ms = millis(lasted);
                    "registry {name:?}: all clients are accepted again, after {lasted:.1?}");
            }
            Self::StillClosed { lasted } => {
                log::warn!(target: TARGET, registry = name, outage_ms = millis(lasted), waiting_keys = keys,
                    waiters = waiters;
                    "registry {name:?}: the outage of the auth server goes on for {lasted:.1?}: {keys} keys wait, {waiters} callers");
            }
            Self::ClientsStillClosed { lasted } => {
                log::error!(target: TARGET, registry = name, outage_ms = millis(lasted);
                    "registry {name:?}: the auth server still refuses a client (invalid_client), for {lasted:.1?}");
            }
            other => other.write_of_keys(name),
        }
    }

    fn write_of_keys(self, name: &str) {
        match self {
            Self::KeysFail { keys, kind, is_refusal } => {
                let level = if is_refusal { log::Level::Error } else { log::Level::Warn };
                log::log!(target: TARGET, level, registry = name, failing_keys = keys;
                    "registry {name:?}: refreshes fail for {keys} keys, the last one: {kind}");
            }
            Self::KeysServed { lasted } => {
                log::warn!(target: TARGET, registry = name, outage_ms = millis(lasted);
                    "registry {name:?}: no refresh of a key fails any more, after {lasted:.1?}");
            }
            Self::OverBudget { times } => {
                log::warn!(target: TARGET, registry = name, reports = times;
                    "registry {name:?}: APIs reject tokens of keys more often than the budget of reports allows ({times} times); the tokens stay in use");
            }
            Self::WithinBudget { lasted, times } => {
                log::warn!(target: TARGET, registry = name, reports = times;
                    "registry {name:?}: no more reports beyond the budget, after {lasted:.1?} ({times} reports)");
            }
            Self::Repeats { times } => {
                log::warn!(target: TARGET, registry = name, tokens = times;
                    "registry {name:?}: APIs rejected tokens of keys, and the source gave the same tokens again: {times} stay in use");
            }
            // Of the gate.
            Self::Closed { .. }
            | Self::Open { .. }
            | Self::StillClosed { .. }
            | Self::ClientsClosed { .. }
            | Self::ClientsOpen { .. }
            | Self::ClientsStillClosed { .. } => {}
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

/// The same of a flight's error.
pub(super) fn kind_of(error: &TokenError) -> String {
    #[cfg(feature = "oauth2")]
    if let Some(said) = error.cause::<OAuthError>() {
        return format!("{} (HTTP {})", error.kind(), said.status.as_u16());
    }
    error.kind().to_owned()
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
        Note::Started { reason } => {
            log::debug!(target: TARGET, registry = name, reason = reason.as_str();
                "registry {name:?}: {key}, refresh started ({})", reason.as_str());
        }
        Note::AskingAgain { pause } => {
            log::debug!(target: TARGET, registry = name, pause_ms = millis(*pause);
                "registry {name:?}: {key}, the source gave out a token that was reported; asking once more in {pause:?}");
        }
        Note::Reported { kind, answer, .. } => {
            log::debug!(target: TARGET, registry = name, report = kind.as_str(), answer = answer.as_str();
                "registry {name:?}: {key} reported as rejected ({}): {}", kind.as_str(), answer.as_str());
        }
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

    #[test]
    fn what_begins_no_trouble_leaves_the_lock_alone() {
        let journal = Journal::default();
        journal.note(1, &Note::Started { reason: crate::source::Reason::First }, at(1));
        journal.note(1, &Note::AskingAgain { pause: at(1) }, at(1));
        assert!(!journal.has_trouble.load(Ordering::Relaxed));
    }

    #[test]
    fn a_trouble_that_a_reminder_has_told_is_not_counted_as_left_out() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.begin(at(1)), (true, 0));
        trouble.end(at(4));
        assert_eq!(trouble.begin(at(10)), (false, 1));
        trouble.end(at(11));
        assert_eq!(trouble.begin(at(20)), (false, 2));
        assert_eq!(trouble.remind(at(61)), Some(at(41)));
        assert_eq!(trouble.remind(at(121)), Some(at(101)));
        trouble.end(at(122));
        assert_eq!(trouble.begin(at(200)), (true, 1));
    }
}
