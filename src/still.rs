//! Whether tokio's time is paused while a clock goes on (feature `test-util`).

use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::error::SourceError;

/// Tokio's time is looked at for so long. The machine's clocks are finer.
const LOOK: Duration = Duration::from_micros(10);

pub(crate) const MIXED: &str = "goes on while tokio's time is paused: the token would never expire. Give the builder the \
                                clock that `tokenflight::testing::paused()` returns";

/// Whether tokio's time is paused on this thread.
pub(crate) fn is_tokio_paused() -> bool {
    let (paused, begin) = (tokio::time::Instant::now(), SystemClock.now().boot);
    loop {
        if tokio::time::Instant::now() != paused {
            return false;
        }
        if SystemClock.now().boot.saturating_sub(begin) >= LOOK {
            return true;
        }
    }
}

/// Whether tokio's time is paused on this thread, and this clock goes on. Then timers and tokens live in two times.
pub(crate) fn is_mixed(clock: &dyn Clock) -> bool {
    let before = clock.now();
    is_tokio_paused() && clock.now() != before
}

/// The failure of a call in two times. A flight that hid it would hide a test that tests nothing.
pub(crate) fn refused(clock: &dyn Clock) -> Option<SourceError> {
    is_mixed(clock).then(|| SourceError::terminal(format!("the actor's clock {MIXED}")))
}
