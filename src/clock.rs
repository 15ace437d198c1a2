//! Time: one clock that counts suspend, and the wall clock, read together.
//!
//! A token's end is known as "N seconds from when the request was sent". Neither clock alone can watch
//! over that: a monotonic clock that stops during suspend believes an old token too long, and the wall
//! clock may be set to anything. So every decision takes a [`Timestamp`] that holds both, and a token is
//! valid only while **both** agree. This is the only file that reads the machine's clocks.

use std::fmt;
use std::time::{Duration, SystemTime};

/// A moment, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timestamp {
    /// Time since an arbitrary fixed point, never set back, and counting while the machine is suspended.
    pub boot: Duration,
    /// Wall-clock time, which anybody may set.
    pub wall: SystemTime,
}

/// Where the actor reads the time.
///
/// [`SystemClock`] is the default. Tests use `testing::ManualClock` (feature `test-util`).
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present moment on both clocks.
    fn now(&self) -> Timestamp;
}

/// The machine's clocks: `CLOCK_BOOTTIME` on Linux and Android, the continuous clock elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that reads the wall clock
    fn now(&self) -> Timestamp {
        Timestamp { boot: boot(), wall: SystemTime::now() }
    }
}

#[cfg(unix)]
fn boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let id = ClockId::Boottime;
    // On Apple's systems and the BSDs, CLOCK_MONOTONIC goes on during sleep.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let id = ClockId::Monotonic;
    // Neither clock runs before zero, so the conversion cannot fail.
    Duration::try_from(clock_gettime(id)).unwrap_or_default()
}

#[cfg(not(unix))]
#[allow(clippy::disallowed_methods)] // the one place that reads the monotonic clock
fn boot() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_never_goes_back() {
        let mut last = SystemClock.now().boot;
        for _ in 0..1_000 {
            let now = SystemClock.now().boot;
            assert!(now >= last);
            last = now;
        }
    }
}
