//! An error of each kind, for a test of a program's reaction to it.
//!
//! The errors of this crate are opaque, and those with fields are `#[non_exhaustive]`. A test makes them here. A
//! [`SourceError`], an [`OAuthError`](crate::oauth::OAuthError), a [`NeedsLogin`](crate::source::NeedsLogin) and a
//! [`VaultError`](crate::vault::VaultError) have public constructors, since users' own sources and vaults make
//! them.
//!
//! ```
//! use std::time::Duration;
//! use tokenflight::testing::errors;
//! use tokenflight::{SourceError, TokenError};
//!
//! /// What a service answers where it has no token.
//! fn status(error: &TokenError) -> u16 {
//!     if error.is_rejected() { 502 } else { 503 }
//! }
//!
//! assert_eq!(status(&errors::rejected("invalid_client")), 502);
//! assert_eq!(status(&errors::unavailable("connection refused")), 503);
//!
//! let busy = SourceError::transient("too many requests").with_retry_after(Duration::from_secs(7));
//! assert_eq!(errors::failed(busy).retry_after(), Some(Duration::from_secs(7)));
//! ```

use std::fmt::Display;
use std::time::Duration;

use crate::error::{BuildError, SourceError, TokenError};
use crate::policy::RefreshPolicy;
use crate::token::PresentError;

/// The error that callers get if a flight's last attempt failed with `cause`. [`TokenError::cause`] finds the
/// cause. [`TokenError::retry_after`] is the pause after a first failure by the default policy, without jitter: the
/// cause's own, at most 5 min, and at least 1 s, or 5 s if the cause is terminal. A panic has no pause.
pub fn failed(cause: SourceError) -> TokenError {
    let pause = pause_after(&cause);
    TokenError::flight_failed(cause, 1, pause)
}

fn pause_after(cause: &SourceError) -> Duration {
    if cause.is_panic() {
        return Duration::ZERO;
    }
    let policy = RefreshPolicy::default().jitter(0.0);
    let least = if cause.is_terminal() { policy.terminal_pause(0.0) } else { Duration::ZERO };
    let requested = cause.retry_after().map_or(Duration::ZERO, |pause| policy.capped(pause));
    policy.cooldown_after(1, 0.0).max(least).max(requested)
}

/// [`TokenError::is_rejected`]: the auth server refused.
pub fn rejected(reason: impl Display) -> TokenError {
    failed(SourceError::terminal(reason.to_string()))
}

/// [`TokenError::is_unavailable`]: no attempt reached the auth server, or each got an unusable answer.
pub fn unavailable(reason: impl Display) -> TokenError {
    failed(SourceError::transient(reason.to_string()))
}

/// [`TokenError::is_ambiguous`]: it is not known whether a one-time credential was used.
pub fn ambiguous(reason: impl Display) -> TokenError {
    failed(SourceError::ambiguous(reason.to_string()))
}

/// [`TokenError::is_timeout`]: the source did not answer in time. It has a cause and a [`TokenError::retry_after`].
pub fn attempt_timed_out(limit: Duration) -> TokenError {
    failed(SourceError::attempt_timed_out(limit))
}

/// [`TokenError::is_timeout`]: the caller's own `wait_timeout` has passed.
pub fn wait_timed_out() -> TokenError {
    TokenError::wait_timed_out()
}

/// [`TokenError::is_overloaded`]: `max_waiters` callers waited already.
pub fn overloaded(max_waiters: usize) -> TokenError {
    TokenError::overloaded(max_waiters)
}

/// [`TokenError::is_too_many_keys`]: `max_busy_keys` keys of a registry had waiters already.
#[cfg(feature = "registry")]
pub fn too_many_keys(max_busy_keys: usize) -> TokenError {
    TokenError::too_many_keys(max_busy_keys)
}

/// [`TokenError::is_stopped`]: the actor has stopped.
pub fn stopped() -> TokenError {
    TokenError::stopped()
}

/// [`TokenError::is_panic`]: the source panicked. Its [`TokenError::retry_after`] is zero.
pub fn panicked() -> TokenError {
    failed(SourceError::panic("its message went to the panic hook"))
}

/// A setting that cannot work. Its text is the field's name, then `what`: "`timeout` is zero".
pub fn build(field: &'static str, what: impl Display) -> BuildError {
    BuildError::new(field, what.to_string())
}

/// A token that cannot be put on a request.
pub fn present(what: impl Display) -> PresentError {
    PresentError::of(what.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_token_error_can_be_made_and_no_other_is_left() {
        let all = [
            rejected("a"),
            unavailable("a"),
            ambiguous("a"),
            attempt_timed_out(Duration::from_secs(1)),
            wait_timed_out(),
            overloaded(1),
            stopped(),
            panicked(),
            #[cfg(feature = "registry")]
            too_many_keys(1),
        ];
        let kinds: Vec<_> = all.iter().map(TokenError::kind).collect();
        let expected = [
            "rejected",
            "unavailable",
            "ambiguous",
            "timeout",
            "timeout",
            "overloaded",
            "stopped",
            "panic",
            #[cfg(feature = "registry")]
            "too_many_keys",
        ];
        assert_eq!(kinds, expected);
        assert_eq!(rejected("a").cause::<SourceError>().map(SourceError::is_terminal), Some(true));
        assert_eq!(build("timeout", "is zero").to_string(), "`timeout` is zero");
        assert_eq!((build("timeout", "").field(), present("a").to_string().as_str()), ("timeout", "a"));
    }
}
