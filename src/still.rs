//! Whether tokio's time is paused while a clock continues (feature `test-util`).

use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::error::SourceError;

/// How long tokio's time is observed. The machine's clocks are finer.
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

/// Whether tokio's time is paused on this thread, and this clock continues. Then timers and tokens use two
/// different times.
pub(crate) fn is_mixed(clock: &dyn Clock) -> bool {
    let before = clock.now();
    is_tokio_paused() && clock.now() != before
}

/// The failure of a call with two different times. A flight that hid this failure would hide a test that tests
/// nothing.
pub(crate) fn refused(clock: &dyn Clock) -> Option<SourceError> {
    is_mixed(clock).then(|| SourceError::terminal(format!("the actor's clock {MIXED}")))
}
