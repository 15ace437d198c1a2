//! Time: one clock that counts suspend, and the wall clock, read together.
//!
//! A token's end is "N seconds from when the request was sent". Neither clock alone can check this. A monotonic
//! clock that stops during suspend accepts an old token too long, and the wall clock may be set to any time.
//! Therefore every decision takes a [`Timestamp`] that holds both, and a token is valid only while **both** agree.
//! This is the only file that reads the machine's clocks.

use std::fmt;
use std::future::Future;
use std::num::NonZeroU64;
use std::pin::Pin;
#[cfg(feature = "oauth2")]
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A clock whose wall time is shifted by some seconds: a server's clock, as far as it is known.
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

/// The same moment by a clock that is so many seconds ahead. If that cannot be expressed, the moment itself.
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

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timestamp {
    /// Time since an arbitrary fixed point. It is never set back, and continues while the machine is suspended.
    pub boot: Duration,
    /// Wall-clock time. It may be set forward and back.
    pub wall: SystemTime,
}

/// The clock from which the actor reads the time.
///
/// [`SystemClock`] is the default. Tests use `testing::ManualClock` (feature `test-util`).
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present moment on both clocks.
    fn now(&self) -> Timestamp;

    /// A number that identifies the present stretch of time, if the clock has one. It costs a fraction of
    /// [`now`](Self::now). While the number stays the same, the wall clock was not set, the machine has not slept,
    /// and less than a second has passed.
    ///
    /// Readers of a token read the exact time once per stretch. Default: `None`, and each read takes the exact
    /// time.
    fn pulse(&self) -> Option<NonZeroU64> {
        None
    }

    /// A future that ends when the wall clock is set after this call, if the clock can detect it.
    ///
    /// A background actor awaits this future. Therefore a token that a jump has ended is replaced, even without a
    /// caller. Default: `None`, and a background actor checks once a second, also after a sleep.
    fn jump(&self) -> Option<Jump> {
        None
    }
}

/// The return type of [`Clock::jump`].
pub type Jump = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The machine's clocks: `CLOCK_BOOTTIME` on Linux and Android, the continuous clock elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that reads the wall clock
    fn now(&self) -> Timestamp {
        Timestamp { boot: boot(), wall: SystemTime::now() }
    }

    /// The kernel's coarse monotonic clock: its time at the last tick. There are at least 100 ticks a second. A
    /// read needs no hardware, and therefore takes 3 ns; the two exact clocks take 48. (`CLOCK_BOOTTIME` has no
    /// coarse form, and the monotonic clock stops in sleep. So this clock can tell *that* time has moved, but not
    /// whether a token is still usable.)
    ///
    /// The clock never shows the same time twice, and it moves with every change of time. When time passes, there
    /// is a tick. When a program sets the wall clock, or the machine goes to sleep, Linux first updates its clocks,
    /// including the coarse ones. A kernel without this update would move the clock at the next tick. Then a jump
    /// would be seen 10 ms late, and never missed.
    ///
    /// A tick may be late if a hypervisor stops the processor that keeps the time while this processor continues.
    /// The second that the trait allows is a hundred ticks.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn pulse(&self) -> Option<NonZeroU64> {
        use rustix::time::{ClockId, clock_gettime};
        let time = clock_gettime(ClockId::MonotonicCoarse);
        #[allow(clippy::useless_conversion)] // it has 32 bits on some targets
        let (secs, nanos) = (i64::from(time.tv_sec), i64::from(time.tv_nsec));
        NonZeroU64::new(secs.wrapping_mul(1_000_000_000).wrapping_add(nanos).cast_unsigned())
    }
}

#[cfg(unix)]
fn boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let id = ClockId::Boottime;
    // On Apple's systems and the BSDs, CLOCK_MONOTONIC continues during sleep.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let id = ClockId::Monotonic;
    // Neither clock shows a time before zero, so the conversion cannot fail.
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
