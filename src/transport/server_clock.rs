//! What is known of a server's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use super::Answer;
use crate::clock::moved;

/// A difference between two clocks, in seconds, that is worth a second try.
const LARGE: u64 = 30;

/// How far a server's clock is ahead of ours, in seconds, by the last `Date` that it sent. Clones know the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerClock(Arc<AtomicI64>);

impl ServerClock {
    /// In seconds; 0 while nothing is known.
    pub(crate) fn offset(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// What it shows when ours shows this.
    pub(crate) fn wall(&self, ours: SystemTime) -> SystemTime {
        moved(ours, self.offset())
    }

    /// From an answer that came when ours showed this.
    pub(crate) fn learn(&self, answer: &Answer, ours: SystemTime) {
        if let Some(offset) = answer.clock_offset(ours) {
            self.0.store(offset, Ordering::Relaxed);
        }
    }

    /// Whether a request that was dated by this offset was dated so wrongly that it is worth another one.
    pub(crate) fn is_far_from(&self, offset: i64) -> bool {
        self.offset().abs_diff(offset) >= LARGE
    }
}
