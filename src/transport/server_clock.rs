//! The knowledge about a server's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use super::Answer;
use crate::clock::moved;

/// How far a server's clock is ahead of ours, in seconds, by the last `Date` that it sent. All clones share this.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerClock(Arc<AtomicI64>);

impl ServerClock {
    /// In seconds. 0 while the difference is unknown.
    pub(crate) fn offset(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The server's time when our clock shows this.
    pub(crate) fn wall(&self, ours: SystemTime) -> SystemTime {
        moved(ours, self.offset())
    }

    /// Learns from an answer that came when our clock showed this.
    pub(crate) fn learn(&self, answer: &Answer, ours: SystemTime) {
        if let Some(offset) = answer.clock_offset(ours) {
            self.0.store(offset, Ordering::Relaxed);
        }
    }

    /// Whether the date of a request with this offset was wrong by so many seconds, so that another request may help.
    pub(crate) fn is_far_from(&self, offset: i64, seconds: u64) -> bool {
        self.offset().abs_diff(offset) >= seconds
    }
}
