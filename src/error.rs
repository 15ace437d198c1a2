//! What can go wrong, in three types: [`BuildError`] for settings, [`SourceError`] for what a source
//! reports, [`TokenError`] for what a caller is told.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a caller got no token.
///
/// Opaque and cheap to clone: every waiter of a failed flight holds the same error. Its text is one
/// lower-case sentence that ends with the cause; [`source()`](StdError::source) has the cause itself.
#[derive(Clone)]
pub struct TokenError(Arc<Inner>);

struct Inner {
    kind: Kind,
    message: Cow<'static, str>,
    cause: Option<SourceError>,
    retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Rejected,
    Unavailable,
    Timeout,
    Overloaded,
    Stopped,
    Panic,
}

impl TokenError {
    /// The auth server refused, or the API refused the tokens: asking again soon will not help.
    pub fn is_rejected(&self) -> bool {
        self.0.kind == Kind::Rejected
    }

    /// The auth server could not be reached, or answered nonsense, in every attempt of the flight.
    pub fn is_unavailable(&self) -> bool {
        self.0.kind == Kind::Unavailable
    }

    /// Time ran out: the source's (attempt or flight), or the caller's own (`wait_timeout`).
    pub fn is_timeout(&self) -> bool {
        self.0.kind == Kind::Timeout
    }

    /// Too many were waiting already (`max_waiters`).
    pub fn is_overloaded(&self) -> bool {
        self.0.kind == Kind::Overloaded
    }

    /// The actor has stopped, or restarted while this request waited.
    pub fn is_stopped(&self) -> bool {
        self.0.kind == Kind::Stopped
    }

    /// The source panicked.
    pub fn is_panic(&self) -> bool {
        self.0.kind == Kind::Panic
    }

    /// How long after the failure the source is asked again: the server's `Retry-After` (capped by the
    /// policy) or the cooldown, whichever is longer. `None` where no flight failed.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Its kind's name, in metrics.
    #[cfg(feature = "metrics")]
    pub(crate) fn kind(&self) -> &'static str {
        match self.0.kind {
            Kind::Rejected => "rejected",
            Kind::Unavailable => "unavailable",
            Kind::Timeout => "timeout",
            Kind::Overloaded => "overloaded",
            Kind::Stopped => "stopped",
            Kind::Panic => "panic",
        }
    }

    fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), cause: None, retry_after: None }))
    }

    pub(crate) fn stopped() -> Self {
        Self::new(Kind::Stopped, "the token actor has stopped")
    }

    pub(crate) fn overloaded(max_waiters: usize) -> Self {
        Self::new(
            Kind::Overloaded,
            format!("too many requests wait for a token (max_waiters is {max_waiters})"),
        )
    }

    pub(crate) fn wait_timed_out() -> Self {
        Self::new(Kind::Timeout, "no token within the caller's wait timeout")
    }

    pub(crate) fn tokens_rejected(streak: u32, retry_after: Duration) -> Self {
        let message = format!("the api rejected {streak} tokens in a row; the next refresh has to wait");
        Self(Arc::new(Inner {
            kind: Kind::Rejected,
            message: message.into(),
            cause: None,
            retry_after: Some(retry_after),
        }))
    }

    /// The error of a failed flight, from its last attempt.
    pub(crate) fn flight_failed(cause: SourceError, attempts: u32, retry_after: Duration) -> Self {
        let (kind, what) = match cause.0.kind {
            Failure::Terminal => (Kind::Rejected, "token refresh was refused"),
            Failure::Transient => (Kind::Unavailable, "token refresh failed"),
            Failure::Timeout => (Kind::Timeout, "token refresh timed out"),
            Failure::Panic => (Kind::Panic, "token source panicked"),
        };
        let message = match attempts {
            0 | 1 => Cow::Borrowed(what),
            n => format!("{what} after {n} attempts").into(),
        };
        Self(Arc::new(Inner { kind, message, cause: Some(cause), retry_after: Some(retry_after) }))
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenError")
            .field("kind", &self.0.kind)
            .field("message", &self.to_string())
            .field("retry_after", &self.0.retry_after)
            .finish()
    }
}

impl StdError for TokenError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_ref().map(|cause| cause as _)
    }
}

/// Why a source got no token, and whether trying again can help.
///
/// A [transient](SourceError::transient) failure is retried within the flight; a
/// [terminal](SourceError::terminal) one ends it.
#[derive(Clone)]
pub struct SourceError(Arc<SourceInner>);

#[derive(Clone)]
struct SourceInner {
    kind: Failure,
    retry_after: Option<Duration>,
    cause: Arc<BoxError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Failure {
    Transient,
    Terminal,
    Timeout,
    Panic,
}

impl SourceError {
    fn new(kind: Failure, cause: BoxError) -> Self {
        Self(Arc::new(SourceInner { kind, retry_after: None, cause: Arc::new(cause) }))
    }

    /// Trying again may help: the network, a 5xx, a rate limit, nonsense instead of an answer.
    pub fn transient(err: impl Into<BoxError>) -> Self {
        Self::new(Failure::Transient, err.into())
    }

    /// Trying again will not help until somebody acts: wrong credentials, unknown scope.
    pub fn terminal(err: impl Into<BoxError>) -> Self {
        Self::new(Failure::Terminal, err.into())
    }

    /// The server's wish not to be asked again for so long (RFC 9110 section 10.2.3).
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        Arc::make_mut(&mut self.0).retry_after = Some(delay);
        self
    }

    /// Whether it was made by [`terminal`](Self::terminal).
    pub fn is_terminal(&self) -> bool {
        self.0.kind == Failure::Terminal
    }

    /// What [`with_retry_after`](Self::with_retry_after) was given.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    pub(crate) fn timeout(after: Duration) -> Self {
        Self::timed_out(format!("no answer within {after:?}"))
    }

    pub(crate) fn timed_out(message: String) -> Self {
        Self::new(Failure::Timeout, message.into())
    }

    pub(crate) fn panic(message: &str) -> Self {
        Self::new(Failure::Panic, message.into())
    }

    pub(crate) fn is_panic(&self) -> bool {
        self.0.kind == Failure::Panic
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.cause.fmt(f)
    }
}

impl fmt::Debug for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceError")
            .field("kind", &self.0.kind)
            .field("message", &self.to_string())
            .field("retry_after", &self.0.retry_after)
            .finish()
    }
}

impl StdError for SourceError {
    /// The error that the source was given, so that it can be downcast.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&**self.0.cause)
    }
}

/// A setting that cannot work, or a place where the actor cannot start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    field: &'static str,
    message: Cow<'static, str>,
}

impl BuildError {
    pub(crate) fn new(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field, message: message.into() }
    }

    /// The setting at fault, by the name that its setter has.
    pub fn field(&self) -> &str {
        self.field
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.field, self.message)
    }
}

impl StdError for BuildError {}
