//! Figures that the actor measures itself, beside the machine's counters. With feature `metrics` all of them go to
//! a recorder.

use std::sync::Arc;
use std::time::Duration;

use super::report::Journal;
use crate::clock::Timestamp;
use crate::flight::{Caller, Machine, Note};
use crate::lobby::Lobby;
use crate::panics::contain;

/// A logger, a recorder of metrics, and the text of an error are foreign code. A panic of theirs costs a line or a
/// figure.
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
        contain(|| self.instruments.note(note, in_rounds, now));
        contain(|| self.journal.note(note, in_rounds, now.boot));
    }

    /// Called at a shutdown.
    pub(crate) fn source_does_not_end(&self, limit: Duration) {
        contain(|| self.journal.source_does_not_end(limit));
    }

    /// Called after each event.
    pub(crate) fn observe<W: Caller>(
        &mut self,
        machine: &Machine<W>,
        lobby: &Lobby,
        lost: u64,
        now: Timestamp,
    ) {
        #[cfg(feature = "metrics")]
        contain(|| self.instruments.observe(machine, lobby, lost));
        #[cfg(not(feature = "metrics"))]
        let _ = (lobby, lost);
        if let Some(error) = machine.last_error() {
            contain(|| self.journal.remind(error, now.boot));
        }
    }

    /// The actor has ended: nobody waits, and there is no token.
    #[cfg_attr(not(feature = "metrics"), allow(clippy::unused_self))]
    pub(crate) fn end(&self) {
        #[cfg(feature = "metrics")]
        contain(|| self.instruments.end());
    }
}
