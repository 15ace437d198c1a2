//! Stops the use of a store that does not answer. Therefore an outage costs one wait, and not one for each refresh.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backoff::doubled;

/// Closed at first. A failure opens it for a while, and each further failure for twice as long. After that time one
/// refresh tries the store again.
#[derive(Debug)]
pub(super) struct Breaker {
    first: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Duration,
}

impl Breaker {
    /// Long enough that an outage costs little, and short enough that its end is noticed.
    const LIMIT: Duration = Duration::from_secs(60);

    pub(super) fn new(first: Duration) -> Self {
        Self { first, state: Mutex::default() }
    }

    /// How long the store is still not used. Zero: it may be used.
    pub(super) fn open_for(&self, now: Duration) -> Duration {
        self.state().open_until.saturating_sub(now)
    }

    /// Returns whether an outage begins. While the breaker is open, a failure changes nothing, because its
    /// operation began before.
    pub(super) fn failed(&self, now: Duration) -> bool {
        let mut state = self.state();
        if now < state.open_until {
            return false;
        }
        state.failures = state.failures.saturating_add(1);
        let pause = doubled(self.first, state.failures, Self::LIMIT.max(self.first));
        state.open_until = now.saturating_add(pause);
        state.failures == 1
    }

    /// Returns whether an outage ends.
    pub(super) fn answered(&self) -> bool {
        std::mem::take(&mut *self.state()).failures > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
