//! All numbers of the single flight. This file has the settings. [`check`] refuses impossible ones. [`margins`]
//! says when a token is refreshed and when it is no longer given out. [`pauses`] says how long a failed source is
//! not called.
//!
//! All functions are pure: the same policy and the same random number give the same result.

mod check;
mod margins;
mod pauses;

use std::time::Duration;

pub(crate) use margins::Margins;
#[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
pub(crate) use margins::Settle;

use crate::duration;
use crate::settings::settings;
use crate::token::LONGEST_LIFETIME;

/// A hundred years. A longer `report_every` is cut to this, so that the sums of the budget do not overflow.
const LONGEST_INTERVAL: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

settings! {
    #![serde(default)]

    /// The settings: when to refresh, how often to try, how long to wait, and the limits.
    ///
    /// Each setting has a default that suits a token of an hour as well as one of a second: margins shrink with the
    /// token's lifetime. The policy is checked when the actor is built. An impossible policy is a
    /// [`BuildError`](crate::BuildError) that names the field and the correction.
    ///
    /// In a file the settings are a table. Durations are text such as "30s". Unknown keys are refused:
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
        max_lifetime: Duration,
        #[serde(deserialize_with = "duration::some_duration")]
        settle: Option<Duration>,
        reports: u32,
        #[serde(deserialize_with = "duration::duration")]
        report_every: Duration,
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
            backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(30),
            max_waiters: 65_536,
            cooldown: Duration::from_secs(1),
            max_cooldown: Duration::from_secs(10),
            terminal_cooldown: Duration::from_secs(5),
            max_retry_after: Duration::from_secs(300),
            missing_lifetime: Duration::from_secs(300),
            max_lifetime: LONGEST_LIFETIME,
            settle: None,
            reports: 8,
            report_every: Duration::from_secs(60),
            stale_if_error: Duration::ZERO,
            background: false,
        }
    }
}

/// The longest time for which a report withholds the token in use from callers.
#[allow(dead_code)] // used by the rules of a report
pub(crate) const WITHHELD_AT_MOST: Duration = Duration::from_secs(1);

/// The settings.
impl RefreshPolicy {
    /// How long before its end a token is refreshed, while callers continue to use it.
    ///
    /// Default: a fifth of the token's lifetime, at most 5 min. A value that you set is cut to half the lifetime.
    /// Zero: a token is refreshed only when a caller finds no usable token.
    ///
    /// A refresh ahead must begin before the token is unusable. Therefore, if this value is not longer than
    /// [`min_validity`](Self::min_validity), the refresh is moved. It then begins 5 min earlier than
    /// `min_validity`, or earlier by a fifth of the time before `min_validity`, whichever is less.
    pub fn refresh_ahead(mut self, margin: Duration) -> Self {
        self.refresh_ahead = Some(margin);
        self
    }

    /// A token with less remaining life is not given out.
    ///
    /// Default: a tenth of the token's lifetime, at most 10 s. A value that you set is cut to half the lifetime.
    pub fn min_validity(mut self, margin: Duration) -> Self {
        self.min_validity = Some(margin);
        self
    }

    /// The share of randomness, so that a fleet spreads its calls. 0 to 1, default 0.5.
    ///
    /// A refresh ahead comes later, by up to this share of the time between `refresh_ahead` and `min_validity`, but
    /// by at most half of that time. A cooldown is shorter by up to this share. A
    /// [`terminal_cooldown`](Self::terminal_cooldown) is longer by up to this share.
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Calls to the source in one flight, including the first. At least 1, default 3.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// How long one call to the source may take. Longer than zero, default 10 s.
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = limit;
        self
    }

    /// How long a flight may take with all its attempts and pauses. Longer than zero, default 30 s.
    pub fn flight_timeout(mut self, limit: Duration) -> Self {
        self.flight_timeout = limit;
        self
    }

    /// The limit of the pause after the first failed attempt. It doubles with each attempt, up to
    /// [`max_backoff`](Self::max_backoff). Default 500 ms. Zero: no pause,
    /// except in background mode while nobody waits: then it is at least 100 ms.
    ///
    /// The pause itself is a random part of that limit ("full jitter"). It is at least 100 ms, or `backoff` if that
    /// is less.
    pub fn backoff(mut self, first: Duration) -> Self {
        self.backoff = first;
        self
    }

    /// The longest pause between two attempts. Not shorter than `backoff`, default 5 s.
    pub fn max_backoff(mut self, limit: Duration) -> Self {
        self.max_backoff = limit;
        self
    }

    /// How long a caller waits for a token. Longer than zero, default 30 s.
    pub fn wait_timeout(mut self, limit: Duration) -> Self {
        self.wait_timeout = limit;
        self
    }

    /// The limit of waiters in the actor's queue: subscribers, messages, and callers of
    /// [`replace`](crate::TokenHandle::replace) and [`refresh`](crate::TokenHandle::refresh). And the same limit again
    /// for callers of [`get`](crate::TokenHandle::get) on its handles. One more is answered with an error that [`is_overloaded`](crate::TokenError::is_overloaded). At least 1, default 65,536.
    pub fn max_waiters(mut self, limit: usize) -> Self {
        self.max_waiters = limit;
        self
    }

    /// How long the source is not called after a failed flight. In this time callers get the error of that flight
    /// at once. It doubles with each failure in a row, up to [`max_cooldown`](Self::max_cooldown). Default 1 s.
    /// Zero: no cooldown. The first panic in a row of the source has none.
    pub fn cooldown(mut self, first: Duration) -> Self {
        self.cooldown = first;
        self
    }

    /// The longest cooldown. Not shorter than `cooldown`, default 10 s: a token is available at most about 10 s
    /// after the auth server is back.
    pub fn max_cooldown(mut self, limit: Duration) -> Self {
        self.max_cooldown = limit;
        self
    }

    /// The minimum cooldown after a terminal failure. Jitter makes it longer, never shorter. Default 5 s. Zero:
    /// only the usual cooldown.
    pub fn terminal_cooldown(mut self, least: Duration) -> Self {
        self.terminal_cooldown = least;
        self
    }

    /// A longer `Retry-After` is cut to this. Default 5 min.
    pub fn max_retry_after(mut self, limit: Duration) -> Self {
        self.max_retry_after = limit;
        self
    }

    /// The lifetime of a token if its source gives none. Longer than zero, default 5 min.
    pub fn missing_lifetime(mut self, lifetime: Duration) -> Self {
        self.missing_lifetime = lifetime;
        self
    }

    /// The longest lifetime of a token, whatever its source says. Longer than zero, default 30 days.
    pub fn max_lifetime(mut self, limit: Duration) -> Self {
        self.max_lifetime = limit;
        self
    }

    /// A token younger than this is not replaced because of a report or a forced refresh: some APIs know a new
    /// token seconds late.
    ///
    /// Default: a tenth of the token's lifetime, at most 2 s. A value that you set is cut to half the lifetime.
    /// Zero: a token is replaced at once. The middlewares wait at most 30 s for a token to settle.
    pub fn settle(mut self, time: Duration) -> Self {
        self.settle = Some(time);
        self
    }

    /// How many flights may start at once for reports that an API rejected a token. Then one more may start per
    /// [`report_every`](Self::report_every). At least 1, default 8.
    pub fn reports(mut self, flights: u32) -> Self {
        self.reports = flights;
        self
    }

    /// The time after which one more flight for a report may start. Longer than zero, at most a hundred years: a
    /// longer time is cut to this. Default 60 s.
    pub fn report_every(mut self, time: Duration) -> Self {
        self.report_every = time;
        self
    }

    /// How long past its end a token is given out if it cannot be refreshed, unless the API rejected it. Also if the
    /// queue of a registry's calls is too long. A caller whose `wait_timeout` ends before the flight gets the timeout
    /// all the same, because the flight may still succeed. Default zero: never.
    pub fn stale_if_error(mut self, grace: Duration) -> Self {
        self.stale_if_error = grace;
        self
    }

    /// Refreshes without a caller. Default off: no traffic and no timer without a caller.
    ///
    /// Such refreshes are at least 500 ms apart. This is also true for short-lived tokens, for a source that fails
    /// often, and with a cooldown of zero.
    pub fn background(mut self, on: bool) -> Self {
        self.background = on;
        self
    }
}

/// The parts without a rule.
#[allow(dead_code)] // some are used by the rules of a report
impl RefreshPolicy {
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

    pub(crate) fn assumed_lifetime(&self) -> Duration {
        self.missing_lifetime
    }

    pub(crate) fn longest_lifetime(&self) -> Duration {
        self.max_lifetime
    }

    pub(crate) fn max_reports(&self) -> u32 {
        self.reports
    }

    pub(crate) fn report_interval(&self) -> Duration {
        self.report_every.min(LONGEST_INTERVAL)
    }

    pub(crate) fn grace(&self) -> Duration {
        self.stale_if_error
    }

    pub(crate) fn jitter_share(&self) -> f64 {
        self.jitter
    }

    pub(crate) fn retry_after_limit(&self) -> Duration {
        self.max_retry_after
    }

    pub(crate) fn refreshes_by_itself(&self) -> bool {
        self.background
    }
}

#[cfg(test)]
mod tests;
