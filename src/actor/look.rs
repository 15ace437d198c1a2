//! Looks for a token that another process has fetched: one look at a time, and rarely.

use std::time::Duration;

/// The minimum time between two looks at a store, for any number of reports.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Looks {
    is_under_way: bool,
    next: Duration,
}

impl Looks {
    /// Whether a look may begin now, on the boot clock. If so, this function marks it as begun.
    pub(crate) fn begin(&mut self, now: Duration) -> bool {
        if self.is_under_way || now < self.next {
            return false;
        }
        self.is_under_way = true;
        self.next = now.saturating_add(INTERVAL);
        true
    }

    pub(crate) fn end(&mut self) {
        self.is_under_way = false;
    }

    /// When the next look may begin. `Duration::MAX` while a look is under way, `None` before the first look.
    #[cfg(feature = "registry")]
    pub(crate) fn next_at(&self) -> Option<Duration> {
        if self.is_under_way {
            return Some(Duration::MAX);
        }
        (!self.next.is_zero()).then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_at_a_time_and_one_a_second() {
        let at = Duration::from_millis;
        let mut looks = Looks::default();
        assert!(looks.begin(at(5_000)));
        assert!(!looks.begin(at(7_000)), "one is under way");
        looks.end();
        assert!(!looks.begin(at(5_999)));
        assert!(looks.begin(at(6_000)));
    }
}
