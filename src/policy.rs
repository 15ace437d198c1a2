//! Every number of the single flight: which token is usable, when it is refreshed, how long a failure is
//! remembered. Pure: given the same policy and the same roll of the dice, the same answer.

use std::time::Duration;

use crate::backoff::{doubled, part};
use crate::duration;
use crate::error::BuildError;
use crate::settings::settings;

settings! {
    #![serde(default)]

    /// When to refresh, how often to try, how long to wait, how much to hold.
    ///
    /// Every setting has a default that suits a token of an hour as well as one of a second: margins shrink with
    /// the token's lifetime. Checked when the actor is built: an impossible policy is a [`BuildError`] that names
    /// the field.
    ///
    /// From a file, durations are written for people and unknown keys are refused:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokenflight::RefreshPolicy;
    ///
    /// let policy: RefreshPolicy = serde_json::from_str(r#"{ "refresh_ahead": "2m", "attempts": 5 }"#)?;
    /// assert_eq!(policy, RefreshPolicy::default().refresh_ahead(Duration::from_secs(120)).attempts(5));
    /// assert!(serde_json::from_str::<RefreshPolicy>(r#"{ "refresh_aheda": "2m" }"#).is_err());
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Clone, Debug, PartialEq)]
    pub struct RefreshPolicy {
        #[serde(deserialize_with = "duration::some_duration")]
        refresh_ahead: Option<Duration>,
        #[serde(deserialize_with = "duration::some_duration")]
        min_validity: Option<Duration>,
        jitter: f64,
        attempts: u32,
        #[serde(deserialize_with = "duration::duration")]
        attempt_timeout: Duration,
        #[serde(deserialize_with = "duration::duration")]
        flight_timeout: Duration,
        #[serde(deserialize_with = "duration::duration")]
        backoff: Duration,
        #[serde(deserialize_with = "duration::duration")]
        max_backoff: Duration,
        #[serde(deserialize_with = "duration::duration")]
        wait_timeout: Duration,
        max_waiters: usize,
        #[serde(deserialize_with = "duration::duration")]
        cooldown: Duration,
        #[serde(deserialize_with = "duration::duration")]
        max_cooldown: Duration,
        #[serde(deserialize_with = "duration::duration")]
        terminal_cooldown: Duration,
        #[serde(deserialize_with = "duration::duration")]
        max_retry_after: Duration,
        #[serde(deserialize_with = "duration::duration")]
        missing_lifetime: Duration,
        #[serde(deserialize_with = "duration::duration")]
        stale_if_error: Duration,
        background: bool,
    }
}

impl Default for RefreshPolicy {
    fn default() -> Self {
        Self {
            refresh_ahead: None,
            min_validity: None,
            jitter: 0.5,
            attempts: 3,
            attempt_timeout: Duration::from_secs(10),
            flight_timeout: Duration::from_secs(30),
            backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(30),
            max_waiters: 65_536,
            cooldown: Duration::from_secs(1),
            max_cooldown: Duration::from_secs(60),
            terminal_cooldown: Duration::from_secs(5),
            max_retry_after: Duration::from_secs(300),
            missing_lifetime: Duration::from_secs(300),
            stale_if_error: Duration::ZERO,
            background: false,
        }
    }
}

/// The settings.
impl RefreshPolicy {
    /// How long before its end a token is refreshed while callers go on with it. Default: a fifth of its
    /// lifetime, at most 5 min. A value of your own is cut to half the lifetime. Zero: only when needed.
    pub fn refresh_ahead(mut self, margin: Duration) -> Self {
        self.refresh_ahead = Some(margin);
        self
    }

    /// A token with less than this to live is not handed out. Default: a tenth of its lifetime, at most
    /// 10 s. A value of your own is cut to half the lifetime.
    pub fn min_validity(mut self, margin: Duration) -> Self {
        self.min_validity = Some(margin);
        self
    }

    /// Up to which share of `refresh_ahead` the refresh is put off at random, so that a fleet spreads its
    /// calls; and by which share cooldowns vary. 0 to 1, default 0.5.
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Calls to the source in one flight, the first included. At least 1, default 3.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// How long one call to the source may take. Default 10 s.
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = limit;
        self
    }

    /// How long a flight may take with all its attempts and pauses. Default 30 s.
    pub fn flight_timeout(mut self, limit: Duration) -> Self {
        self.flight_timeout = limit;
        self
    }

    /// The pause after the first failed attempt; it doubles, and a random part of it is waited ("full
    /// jitter"). Default 200 ms.
    pub fn backoff(mut self, first: Duration) -> Self {
        self.backoff = first;
        self
    }

    /// The longest pause between two attempts. Default 5 s.
    pub fn max_backoff(mut self, limit: Duration) -> Self {
        self.max_backoff = limit;
        self
    }

    /// How long a caller waits for a token. Default 30 s.
    pub fn wait_timeout(mut self, limit: Duration) -> Self {
        self.wait_timeout = limit;
        self
    }

    /// How many may wait in the actor's queue, and as many again on its handles; one more is answered
    /// [`is_overloaded`](crate::TokenError::is_overloaded). At least 1, default 65,536.
    pub fn max_waiters(mut self, limit: usize) -> Self {
        self.max_waiters = limit;
        self
    }

    /// After a failed flight, callers get its error at once for so long, and the source is left alone. It
    /// doubles with each failure in a row. Default 1 s; zero: none.
    pub fn cooldown(mut self, first: Duration) -> Self {
        self.cooldown = first;
        self
    }

    /// The longest cooldown. Default 60 s.
    pub fn max_cooldown(mut self, limit: Duration) -> Self {
        self.max_cooldown = limit;
        self
    }

    /// The least cooldown after a terminal failure. Default 5 s; zero: none but the usual one.
    pub fn terminal_cooldown(mut self, least: Duration) -> Self {
        self.terminal_cooldown = least;
        self
    }

    /// A longer `Retry-After` is cut to this. Default 5 min.
    pub fn max_retry_after(mut self, limit: Duration) -> Self {
        self.max_retry_after = limit;
        self
    }

    /// How long a token lasts whose source did not say. Default 5 min.
    pub fn missing_lifetime(mut self, lifetime: Duration) -> Self {
        self.missing_lifetime = lifetime;
        self
    }

    /// How long past its end a token is handed out when it cannot be refreshed, unless the API rejected it.
    /// Default zero: never.
    pub fn stale_if_error(mut self, grace: Duration) -> Self {
        self.stale_if_error = grace;
        self
    }

    /// Refresh by itself, though nobody asks. Default off: no traffic and no timer without a caller.
    pub fn background(mut self, on: bool) -> Self {
        self.background = on;
        self
    }
}

/// How much before a token's end it is refreshed, and how much before it is no longer handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Margins {
    pub(crate) ahead: Duration,
    pub(crate) min_validity: Duration,
}

/// The rules. `dice` is a random number in `0.0..1.0`.
impl RefreshPolicy {
    /// # Errors
    /// The first setting that cannot work.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let zero = |field, value: Duration| {
            if value.is_zero() { Err(BuildError::new(field, "must be longer than zero")) } else { Ok(()) }
        };
        zero("attempt_timeout", self.attempt_timeout)?;
        zero("flight_timeout", self.flight_timeout)?;
        zero("wait_timeout", self.wait_timeout)?;
        zero("missing_lifetime", self.missing_lifetime)?;
        if self.attempts == 0 {
            return Err(BuildError::new("attempts", "must be at least 1: the first call counts"));
        }
        if self.max_waiters == 0 {
            return Err(BuildError::new("max_waiters", "must be at least 1, or nobody can wait for a token"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(BuildError::new("jitter", format!("is {}, but must be from 0 to 1", self.jitter)));
        }
        if self.backoff > self.max_backoff {
            let (first, limit) = (self.backoff, self.max_backoff);
            return Err(BuildError::new(
                "backoff",
                format!("{first:?} exceeds max_backoff {limit:?}: raise that too"),
            ));
        }
        if self.cooldown > self.max_cooldown {
            let (first, limit) = (self.cooldown, self.max_cooldown);
            return Err(BuildError::new(
                "cooldown",
                format!("{first:?} exceeds max_cooldown {limit:?}: raise that too"),
            ));
        }
        match (self.refresh_ahead, self.min_validity) {
            (Some(ahead), Some(validity)) if !ahead.is_zero() && ahead < validity => Err(BuildError::new(
                "refresh_ahead",
                format!(
                    "{ahead:?} is shorter than min_validity {validity:?}: no token would be refreshed ahead"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Margins shrink with the lifetime, so that a short-lived token is neither refreshed on arrival nor
    /// unusable from birth.
    pub(crate) fn margins(&self, lifetime: Duration, dice: f64) -> Margins {
        const MAX_AHEAD: Duration = Duration::from_secs(300);
        const MAX_MIN_VALIDITY: Duration = Duration::from_secs(10);
        let own = |margin: Duration| margin.min(lifetime / 2);
        let ahead = self.refresh_ahead.map_or((lifetime / 5).min(MAX_AHEAD), own);
        let min_validity = self.min_validity.map_or((lifetime / 10).min(MAX_MIN_VALIDITY), own);
        Margins { ahead: part(ahead, 1.0 - self.jitter * dice), min_validity }
    }

    /// The pause after the `attempt`-th attempt of a flight.
    pub(crate) fn backoff_after(&self, attempt: u32, dice: f64) -> Duration {
        part(doubled(self.backoff, attempt, self.max_backoff), dice)
    }

    /// How long to leave the source alone after the `failures`-th failed flight in a row.
    pub(crate) fn cooldown_after(&self, failures: u32, dice: f64) -> Duration {
        part(doubled(self.cooldown, failures, self.max_cooldown), 1.0 - self.jitter * dice)
    }

    /// How long the `streak`-th token in a row that the API rejected must have been out before it is
    /// replaced: the first at once.
    pub(crate) fn floor_after(&self, streak: u32) -> Duration {
        match streak {
            0 | 1 => Duration::ZERO,
            n => doubled(self.cooldown, n - 1, self.max_cooldown),
        }
    }

    pub(crate) fn capped(&self, retry_after: Duration) -> Duration {
        retry_after.min(self.max_retry_after)
    }

    pub(crate) fn max_attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn attempt_limit(&self) -> Duration {
        self.attempt_timeout
    }

    pub(crate) fn flight_limit(&self) -> Duration {
        self.flight_timeout
    }

    pub(crate) fn wait_limit(&self) -> Duration {
        self.wait_timeout
    }

    pub(crate) fn waiters_limit(&self) -> usize {
        self.max_waiters
    }

    pub(crate) fn terminal_pause(&self) -> Duration {
        self.terminal_cooldown
    }

    pub(crate) fn assumed_lifetime(&self) -> Duration {
        self.missing_lifetime
    }

    pub(crate) fn grace(&self) -> Duration {
        self.stale_if_error
    }

    pub(crate) fn refreshes_by_itself(&self) -> bool {
        self.background
    }
}
