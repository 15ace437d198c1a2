//! What an actor measures beside what the machine counts; with feature `metrics`, all of it for a recorder.

use std::sync::Arc;
use std::time::Duration;

use super::report::Journal;
use crate::clock::Timestamp;
use crate::flight::{Caller, Machine, Note};
use crate::lobby::Lobby;

#[derive(Debug)]
pub(crate) struct Meters {
    journal: Journal,
    /// How long the last flight took.
    pub(crate) took: Option<Duration>,
    #[cfg(feature = "metrics")]
    instruments: super::instruments::Instruments,
}

impl Meters {
    pub(crate) fn new(name: &Arc<str>) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            instruments: super::instruments::Instruments::new(name),
            journal: Journal::new(name),
            took: None,
        }
    }

    /// A turn of a flight. `in_rounds`: the callers on handles, of whom the machine knows nothing.
    pub(crate) fn note(&mut self, note: &Note, in_rounds: usize, now: Timestamp) {
        if let Note::Landed { took, .. } | Note::Failed { took, .. } = note {
            self.took = Some(*took);
        }
        #[cfg(feature = "metrics")]
        self.instruments.note(note, in_rounds, now);
        self.journal.note(note, in_rounds, now.boot);
    }

    /// At a shutdown.
    pub(crate) fn source_does_not_end(&self, limit: Duration) {
        self.journal.source_does_not_end(limit);
    }

    /// After each event.
    #[cfg_attr(not(feature = "metrics"), allow(clippy::unused_self))]
    pub(crate) fn observe<W: Caller>(&mut self, machine: &Machine<W>, lobby: &Lobby, lost: u64) {
        #[cfg(feature = "metrics")]
        self.instruments.observe(machine, lobby, lost);
        #[cfg(not(feature = "metrics"))]
        let _ = (machine, lobby, lost);
    }
}
