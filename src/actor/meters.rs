//! What an actor measures beside what the machine counts; with feature `metrics`, all of it for a recorder.

use std::time::Duration;

use super::report;
use crate::flight::{Counters, Note};

#[derive(Debug)]
pub(super) struct Meters {
    name: std::sync::Arc<str>,
    /// Answers that found their subscriber stopped.
    pub(super) lost: u64,
    /// How long the last flight took.
    pub(super) took: Option<Duration>,
    #[cfg(feature = "metrics")]
    instruments: super::instruments::Instruments,
}

impl Meters {
    pub(super) fn new(name: std::sync::Arc<str>) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            instruments: super::instruments::Instruments::new(&name),
            name,
            lost: 0,
            took: None,
        }
    }

    /// A turn of a flight. `in_round`: the callers on handles, of whom the machine knows nothing.
    pub(super) fn note(&mut self, note: &Note, in_round: usize) {
        if let Note::Landed { took, .. } | Note::Failed { took, .. } = note {
            self.took = Some(*took);
        }
        #[cfg(feature = "metrics")]
        self.instruments.note(note, in_round);
        report::report(&self.name, note, in_round);
    }

    /// After each event.
    #[cfg_attr(not(feature = "metrics"), allow(clippy::unused_self))]
    pub(super) fn settle(&mut self, counters: &Counters, waiters: impl FnOnce() -> usize) {
        #[cfg(feature = "metrics")]
        self.instruments.settle(counters, waiters(), self.lost);
        #[cfg(not(feature = "metrics"))]
        let _ = (counters, waiters);
    }
}
