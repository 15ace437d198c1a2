//! What a shared source has counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A shared source's counters, to be read while an actor owns the source. A clone reads the same ones.
#[derive(Clone, Debug, Default)]
pub struct SharedStats(Arc<[AtomicU64; 9]>);

/// What is counted, as the place in the array.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Led,
    Adopted,
    Local,
    Pushes,
    Polls,
    Late,
    Unopened,
    StoreErrors,
    Mended,
}

impl SharedStats {
    pub(super) fn count(&self, what: Count) {
        self.add(what, 1);
    }

    pub(super) fn add(&self, what: Count, times: u64) {
        // Counters order nothing.
        self.0[what as usize].fetch_add(times, Ordering::Relaxed);
    }

    fn read(&self, what: Count) -> u64 {
        self.0[what as usize].load(Ordering::Relaxed)
    }

    /// Calls to the wrapped source under a lease, for the whole fleet.
    pub fn led(&self) -> u64 {
        self.read(Count::Led)
    }

    /// Tokens that another process had fetched.
    pub fn adopted(&self) -> u64 {
        self.read(Count::Adopted)
    }

    /// Calls to the wrapped source for this process alone, because the store did not answer, or no token came of it in
    /// time.
    pub fn local(&self) -> u64 {
        self.read(Count::Local)
    }

    /// Waits that ended with news from the store.
    pub fn pushes(&self) -> u64 {
        self.read(Count::Pushes)
    }

    /// Waits that ended with the lease, without news.
    pub fn polls(&self) -> u64 {
        self.read(Count::Polls)
    }

    /// Commits that were refused, because the lease had been lost.
    pub fn late(&self) -> u64 {
        self.read(Count::Late)
    }

    /// Values that did not open.
    pub fn unopened(&self) -> u64 {
        self.read(Count::Unopened)
    }

    /// Operations that failed, or took longer than `store_timeout`.
    pub fn store_errors(&self) -> u64 {
        self.read(Count::StoreErrors)
    }

    /// Things in the store that no process with a key had written, and that were taken away or are not minded.
    pub fn mended(&self) -> u64 {
        self.read(Count::Mended)
    }
}
