//! The life of a token: when it begins and ends, by both clocks, and how much of it is left.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Inner, MAX_LIFETIME, Token};
use crate::clock::{Clock, Timestamp};

/// The source's statement about the token's end.
#[derive(Clone, Copy)]
pub(super) enum Ends {
    Unknown,
    /// Not stated, and at most this long after its beginning.
    #[cfg(feature = "oauth2")]
    Within(Duration),
    After(Duration),
    At(SystemTime),
}

impl Inner {
    pub(super) fn lifetime(&self) -> Option<Duration> {
        match self.ends {
            Ends::Unknown => None,
            #[cfg(feature = "oauth2")]
            Ends::Within(_) => None,
            Ends::After(lifetime) => Some(lifetime),
            Ends::At(at) => Some(at.duration_since(self.sent.wall).unwrap_or_default().min(MAX_LIFETIME)),
        }
    }

    /// Begins a new life with this end.
    pub(super) fn begin(&mut self, ends: Ends) {
        if std::mem::take(&mut self.stamped) {
            self.sent = self.clock.now();
        }
        self.ends = ends;
        self.assumed = false;
    }

    /// Continues the same life on another clock. The boot clocks of two machines, or of a test and a machine, began
    /// at different moments. The wall clock is the same everywhere.
    fn go_on(&mut self, clock: &dyn Clock) {
        /// The two clocks are not read at the same moment.
        const TOLERANCE: Duration = Duration::from_secs(1);
        let (there, here) = (self.clock.now().boot, clock.now().boot);
        if there.abs_diff(here) <= TOLERANCE {
            return;
        }
        let age = there.saturating_sub(self.sent.boot);
        self.sent.boot = here.saturating_sub(age);
        // The token is older than this clock. The part of its life before the clock began cannot be expressed,
        // and is cut off at the beginning.
        let before = age.saturating_sub(here);
        if !before.is_zero() {
            self.ends = Ends::After(self.lifetime().unwrap_or_default().saturating_sub(before));
            self.sent.wall = self.sent.wall.checked_add(before).unwrap_or(self.sent.wall);
        }
    }
}

impl Token {
    pub(super) fn lifetime(&self) -> Option<Duration> {
        self.0.lifetime()
    }

    /// The same token, which lasts at most `limit`, counted as in [`with_lifetime`](Self::with_lifetime).
    #[cfg(feature = "oauth2")]
    pub(crate) fn with_lifetime_up_to(self, limit: Duration) -> Self {
        let limit = limit.min(MAX_LIFETIME);
        self.with(|inner| match inner.lifetime() {
            Some(lifetime) if lifetime <= limit => {}
            Some(_) => inner.begin(Ends::After(limit)),
            None => inner.ends = Ends::Within(limit),
        })
    }

    /// The same token. Its lifetime is only the time until its source is asked again.
    pub(crate) fn with_assumed_end(self) -> Self {
        self.with(|inner| inner.assumed = true)
    }

    /// How long the token lasts from now, if its issuer has stated an end.
    #[cfg(feature = "oauth2")]
    pub(crate) fn stated_remaining(&self) -> Option<Duration> {
        self.remaining().filter(|_| !self.0.assumed)
    }

    /// The token as an actor keeps it: its life counts from `sent` by this clock, and always has an end, at most
    /// `longest` after its beginning. A token that an actor has stamped before continues its present life.
    pub(crate) fn stamped(
        self,
        sent: Timestamp,
        clock: &Arc<dyn Clock>,
        missing: Duration,
        longest: Duration,
    ) -> Self {
        self.with(|inner| {
            if inner.stamped {
                inner.go_on(&**clock);
            } else {
                inner.sent = sent;
            }
            inner.stamped = true;
            inner.assumed |= inner.lifetime().is_none();
            inner.clock = Arc::clone(clock);
            #[cfg(feature = "oauth2")]
            let missing = if let Ends::Within(limit) = inner.ends { missing.min(limit) } else { missing };
            inner.ends = Ends::After(inner.lifetime().unwrap_or(missing).min(longest).min(MAX_LIFETIME));
        })
    }

    /// Its whole life. Zero if unknown, which a stamped token never is.
    pub(crate) fn whole_life(&self) -> Duration {
        self.lifetime().unwrap_or_default()
    }

    /// The token's end, on both clocks.
    pub(crate) fn end(&self) -> Timestamp {
        let Timestamp { boot, wall } = self.0.sent;
        let lifetime = self.whole_life();
        // If the wall clock is at its maximum, the token has no life left. The alternative would be an endless
        // life.
        Timestamp { boot: boot.saturating_add(lifetime), wall: wall.checked_add(lifetime).unwrap_or(wall) }
    }

    /// Both clocks must agree that the token is valid. Therefore the shorter remainder counts.
    pub(crate) fn remaining_at(&self, now: Timestamp) -> Duration {
        let end = self.end();
        let by_boot = end.boot.saturating_sub(now.boot);
        by_boot.min(end.wall.duration_since(now.wall).unwrap_or_default())
    }

    pub(crate) fn age_at(&self, now: Timestamp) -> Duration {
        now.boot.saturating_sub(self.0.sent.boot)
    }

    /// How long the token has been expired: the longer time of both clocks, and zero if it has not expired.
    pub(crate) fn overdue_at(&self, now: Timestamp) -> Duration {
        let end = self.end();
        let by_boot = now.boot.saturating_sub(end.boot);
        by_boot.max(now.wall.duration_since(end.wall).unwrap_or_default())
    }
}
