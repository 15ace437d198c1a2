//! How long the source is not called after a failure. `dice` is a random number in `0.0..1.0`.

use std::time::Duration;

use super::RefreshPolicy;
use crate::backoff::{doubled, part};

impl RefreshPolicy {
    /// The pause after the `attempt`-th attempt of a flight. A random number alone could mean "at once", so there
    /// is a minimum.
    pub(crate) fn backoff_after(&self, attempt: u32, dice: f64) -> Duration {
        const LEAST: Duration = Duration::from_millis(100);
        part(doubled(self.backoff, attempt, self.max_backoff), dice).max(LEAST.min(self.backoff))
    }

    /// How long the source is not called after the `failures`-th failed flight in a row.
    pub(crate) fn cooldown_after(&self, failures: u32, dice: f64) -> Duration {
        part(doubled(self.cooldown, failures, self.max_cooldown), 1.0 - self.jitter * dice)
    }

    /// The minimum time without a call after a terminal failure. Jitter makes it longer. Therefore no process asks
    /// again before the configured time, and a fleet does not ask again all at once.
    pub(crate) fn terminal_pause(&self, dice: f64) -> Duration {
        self.terminal_cooldown.saturating_add(part(self.terminal_cooldown, self.jitter * dice))
    }

    pub(crate) fn capped(&self, retry_after: Duration) -> Duration {
        retry_after.min(self.max_retry_after)
    }
}
