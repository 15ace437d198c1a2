//! The log lines of a registry, and its figures for a metrics recorder. Its status is elsewhere.

#[cfg(feature = "metrics")]
mod instruments;
mod journal;
mod of_keys;

use std::sync::Arc;
use std::time::Duration;

use super::gate::{Ending, GateStatus};
#[cfg(feature = "metrics")]
use super::status::RegistryStatus;
use crate::error::printable_name;
use crate::flight::Note;
use crate::panics::contain;

#[cfg(feature = "metrics")]
pub(super) use crate::actor::Told;
use journal::{Journal, Line};

/// The user's name of a key for the log and for metrics.
pub(super) type Label<K> = Arc<dyn Fn(&K) -> Option<String> + Send + Sync>;

pub(super) struct Meters<K> {
    /// The registry's name, on one line.
    name: Arc<str>,
    label: Option<Label<K>>,
    journal: Journal,
    #[cfg(feature = "metrics")]
    instruments: instruments::Instruments,
}

impl<K> Meters<K> {
    pub(super) fn new(name: &Arc<str>, label: Option<Label<K>>) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            instruments: instruments::Instruments::new(name),
            journal: Journal::default(),
            label,
            name: printable_name(name),
        }
    }

    /// The gate has closed or opened. This is called with the gate's lock held, so that the changes are seen in
    /// their order. The line is written after the lock is released, because a logger is foreign code.
    pub(super) fn gate_moved(&self, status: &GateStatus, now: Duration) -> Lines {
        self.journal.moved(status, now)
    }

    /// Writes the lines. `keys` and `waiters`: how many wait.
    pub(super) fn write(&self, lines: Lines, keys: usize, waiters: usize) {
        for line in lines {
            contain(|| line.write(&self.name, keys, waiters));
        }
    }

    /// The lines that are due after a round of a shard.
    pub(super) fn due(&self, now: Duration) -> Lines {
        self.journal.due(now)
    }

    /// An event in the life of a key's flight.
    pub(super) fn note(&self, key: &K, hash: u64, note: &Note, now: Duration) {
        self.write(self.journal.note(hash, note, now), 0, 0);
        let is_end = matches!(note, Note::Landed { .. } | Note::Failed { .. });
        if !log::log_enabled!(target: journal::TARGET, log::Level::Debug) && !is_end {
            return;
        }
        let label = self.label(key);
        // Loggers and recorders are foreign code.
        contain(|| journal::note(&self.name, label.as_deref(), note));
        #[cfg(feature = "metrics")]
        contain(|| self.instruments.note(label, note));
    }

    /// A call to the source has ended. `is_asked`: the auth server was called. Otherwise another process's token
    /// was used.
    #[cfg_attr(not(feature = "metrics"), allow(clippy::unused_self))]
    pub(super) fn call_ended(&self, key: &K, ending: &Ending, is_asked: bool, took: Duration) {
        #[cfg(feature = "metrics")]
        let outcome = if is_asked { outcome(ending) } else { "from_store" };
        #[cfg(feature = "metrics")]
        contain(|| self.instruments.call_ended(self.label(key), outcome, took));
        #[cfg(not(feature = "metrics"))]
        let _ = (key, ending, is_asked, took);
    }

    /// Called at a shutdown.
    pub(super) fn source_does_not_end(&self, limit: Duration) {
        contain(|| journal::source_does_not_end(&self.name, limit));
    }

    /// The state after a round of a shard.
    #[cfg(feature = "metrics")]
    pub(super) fn observe(&self, status: &RegistryStatus, overloads: u64, told: &mut Told, now: Duration) {
        contain(|| self.instruments.observe(status, overloads, self.journal.closed_for(now), told));
    }

    /// The user's closure for names is foreign code.
    fn label(&self, key: &K) -> Option<String> {
        let label = self.label.as_ref()?;
        contain(|| label(key)).flatten()
    }
}

pub(super) type Lines = Vec<Line>;

#[cfg(feature = "metrics")]
fn outcome(ending: &Ending) -> &'static str {
    match ending {
        Ending::Served => "ok",
        Ending::KeyOnly => "refused",
        Ending::ClientRefused(_) => "client_refused",
        Ending::TooMany { .. } => "too_many_requests",
        Ending::EndpointFailed { .. } => "unavailable",
        Ending::Abandoned => "abandoned",
    }
}
