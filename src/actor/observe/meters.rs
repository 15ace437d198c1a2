//! Figures that the actor measures itself, beside the machine's counters. With feature `metrics` all of them go to
//! a recorder.

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

    /// An event in the life of a flight. `in_rounds`: the callers on handles, which the machine does not count.
    pub(crate) fn note(&mut self, note: &Note, in_rounds: usize, now: Timestamp) {
        if let Note::Landed { took, .. } | Note::Failed { took, .. } = note {
            self.took = Some(*took);
        }
        #[cfg(feature = "metrics")]
        self.instruments.note(note, in_rounds, now);
        self.journal.note(note, in_rounds, now.boot);
    }

    /// Called at a shutdown.
    pub(crate) fn source_does_not_end(&self, limit: Duration) {
        self.journal.source_does_not_end(limit);
    }

    /// Called after each event.
    #[cfg_attr(not(feature = "metrics"), allow(clippy::unused_self))]
    pub(crate) fn observe<W: Caller>(&mut self, machine: &Machine<W>, lobby: &Lobby, lost: u64) {
        #[cfg(feature = "metrics")]
        self.instruments.observe(machine, lobby, lost);
        #[cfg(not(feature = "metrics"))]
        let _ = (machine, lobby, lost);
    }
}
