//! Pauses that double, and random shares of a pause.

use std::time::Duration;

/// A share from 0 to 1 of a time. `mul_f64` panics if the longest times are rounded up.
pub(crate) fn part(whole: Duration, share: f64) -> Duration {
    Duration::try_from_secs_f64(whole.as_secs_f64() * share).map_or(whole, |part| part.min(whole))
}

/// `first` doubled for each time after the first, up to `limit`.
pub(crate) fn doubled(first: Duration, times: u32, limit: Duration) -> Duration {
    let factor = 1u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(limit)
}
