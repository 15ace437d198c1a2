//! Time: one clock that counts suspend, and the wall clock, read together.
//!
//! A token's end is known as "N seconds from when the request was sent". Neither clock alone can watch
//! over that: a monotonic clock that stops during suspend believes an old token too long, and the wall
//! clock may be set to anything. So every decision takes a [`Timestamp`] that holds both, and a token is
//! valid only while **both** agree. This is the only file that reads the machine's clocks.

use std::fmt;
use std::future::Future;
use std::num::NonZeroU64;
use std::pin::Pin;
#[cfg(feature = "oauth2")]
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A clock whose wall time is moved by so many seconds: that of a server, as far as it is known.
#[cfg(feature = "oauth2")]
#[derive(Debug)]
pub(crate) struct Moved {
    clock: Arc<dyn Clock>,
    seconds: i64,
}

#[cfg(feature = "oauth2")]
impl Moved {
    pub(crate) fn new(clock: Arc<dyn Clock>, seconds: i64) -> Self {
        Self { clock, seconds }
    }
}

#[cfg(feature = "oauth2")]
impl Clock for Moved {
    fn now(&self) -> Timestamp {
        let Timestamp { boot, wall } = self.clock.now();
        Timestamp { boot, wall: moved(wall, self.seconds) }
    }
}

/// The same moment by a clock that is so many seconds ahead. Where that cannot be expressed, the moment itself.
#[cfg(feature = "oauth2")]
pub(crate) fn moved(time: SystemTime, seconds: i64) -> SystemTime {
    let by = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 { time.checked_sub(by) } else { time.checked_add(by) };
    moved.unwrap_or(time)
}

/// By how many seconds a clock that shows `time` is ahead of one that shows `now`.
#[cfg(feature = "oauth2")]
pub(crate) fn seconds_ahead(time: SystemTime, now: SystemTime) -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(now) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    }
}

/// A moment, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timestamp {
    /// Time since an arbitrary fixed point, never set back, and counting while the machine is suspended.
    pub boot: Duration,
    /// Wall-clock time. It may be set forward and back.
    pub wall: SystemTime,
}

/// Where the actor reads the time.
///
/// [`SystemClock`] is the default. Tests use `testing::ManualClock` (feature `test-util`).
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present moment on both clocks.
    fn now(&self) -> Timestamp;

    /// The present stretch of time, by a number that costs a fraction of [`now`](Self::now), if there is such a
    /// number. As long as it stays the same, the wall clock was not set, the machine has not slept, and less
    /// than a second has passed.
    ///
    /// Readers of a token take the time once in such a stretch. Default: `None`, and each read takes the time.
    fn pulse(&self) -> Option<NonZeroU64> {
        None
    }

    /// Ends when the wall clock is set after this was called, if the clock can tell.
    ///
    /// A background actor awaits it, so that a token which a jump has ended is replaced though nobody asks. Default:
    /// `None`, and a background actor looks once a second, also after a sleep.
    fn jump(&self) -> Option<Jump> {
        None
    }
}

/// What [`Clock::jump`] returns.
pub type Jump = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The machine's clocks: `CLOCK_BOOTTIME` on Linux and Android, the continuous clock elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that reads the wall clock
    fn now(&self) -> Timestamp {
        Timestamp { boot: boot(), wall: SystemTime::now() }
    }

    /// The kernel's coarse monotonic clock: what that clock said at the last tick, of which there are at least 100
    /// a second. It is read without the hardware, and so in 3 ns; the two exact clocks take 48. (`CLOCK_BOOTTIME`
    /// has no coarse form, and the monotonic clock stops in sleep: it can tell *that* time has moved, and not
    /// whether a token is still good.)
    ///
    /// It never shows the same time twice, and it moves whenever something happens to time. Time passes: there is
    /// a tick. Somebody sets the wall clock, or the machine goes to sleep: Linux brings its clocks up to date
    /// first, the coarse ones too. A kernel that did not would be found out at the next tick, so that a jump
    /// would be seen 10 ms late, and never missed.
    ///
    /// A tick may be late where a hypervisor takes away the processor that keeps the time while this one runs
    /// on. The second that the trait allows is a hundred ticks.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn pulse(&self) -> Option<NonZeroU64> {
        use rustix::time::{ClockId, clock_gettime};
        let time = clock_gettime(ClockId::MonotonicCoarse);
        #[allow(clippy::useless_conversion)] // 32 bits on some targets
        let (secs, nanos) = (i64::from(time.tv_sec), i64::from(time.tv_nsec));
        NonZeroU64::new(secs.wrapping_mul(1_000_000_000).wrapping_add(nanos).cast_unsigned())
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

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_pulse_is_a_fraction_of_a_second() {
        let (mut pulses, begin) = (std::collections::HashSet::new(), SystemClock.now().boot);
        while SystemClock.now().boot < begin + Duration::from_millis(100) {
            pulses.insert(SystemClock.pulse().unwrap());
        }
        assert!((2..=1_000).contains(&pulses.len()), "{} in 100 ms", pulses.len());
    }

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
