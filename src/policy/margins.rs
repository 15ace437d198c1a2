//! When in its life a token is refreshed, when it is no longer given out, and when it is too young to be replaced.

use std::time::Duration;

use super::RefreshPolicy;
use crate::backoff::part;
use crate::token::Token;

/// How long before a token's end it is refreshed, and how long before its end it is no longer given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Margins {
    pub(crate) ahead: Duration,
    pub(crate) min_validity: Duration,
}

/// Margins shrink with the lifetime. Therefore a token of a second is neither refreshed on arrival nor unusable
/// from the start. `dice` is a random number in `0.0..1.0`.
impl RefreshPolicy {
    /// A refresh ahead, if requested, comes before the token is unusable: `min_validity < ahead`. Otherwise callers
    /// would wait although the source answers in time.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn margins(&self, lifetime: Duration, dice: f64) -> Margins {
        self.margins_within(lifetime, None, dice)
    }

    /// The same for a token. Its source may say how early a new token is available.
    pub(crate) fn margins_of(&self, token: &Token, dice: f64) -> Margins {
        self.margins_within(token.whole_life(), token.refresh_ahead(), dice)
    }

    fn margins_within(&self, lifetime: Duration, earliest: Option<Duration>, dice: f64) -> Margins {
        const MAX_AHEAD: Duration = Duration::from_secs(300);
        const MAX_MIN_VALIDITY: Duration = Duration::from_secs(10);
        let own = |margin: Duration| margin.min(lifetime / 2);
        let min_validity = self.min_validity.map_or((lifetime / 10).min(MAX_MIN_VALIDITY), own);
        let mut ahead = match (self.refresh_ahead, earliest) {
            (None, None) => (lifetime / 5).min(MAX_AHEAD),
            (None, Some(earliest)) => own(earliest),
            (Some(ahead), None) => own(ahead),
            (Some(ahead), Some(earliest)) => own(ahead.min(earliest)),
        };
        if ahead.is_zero() {
            return Margins { ahead, min_validity };
        }
        if ahead <= min_validity {
            let before = lifetime.saturating_sub(min_validity);
            ahead = min_validity.saturating_add((before / 5).min(MAX_AHEAD));
        }
        // At least half of the distance is left, for any random number and rounding.
        let distance = ahead.saturating_sub(min_validity);
        let later = part(distance, self.jitter.min(0.5) * dice).min(distance / 2);
        Margins { ahead: ahead.saturating_sub(later), min_validity }
    }

    /// How old a token must be before a report or a forced refresh may replace it.
    pub(crate) fn settle_for(&self, lifetime: Duration) -> Duration {
        self.settle_rule().settle_for(lifetime)
    }

    pub(crate) fn settle_rule(&self) -> Settle {
        Settle(self.settle)
    }
}

/// How old a token must be before a report may replace it, for code without a policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settle(Option<Duration>);

impl Settle {
    pub(crate) fn settle_for(self, lifetime: Duration) -> Duration {
        const MAX_SETTLE: Duration = Duration::from_secs(2);
        self.0.map_or((lifetime / 10).min(MAX_SETTLE), |own| own.min(lifetime / 2))
    }
}
