//! The three error types: [`BuildError`] for settings, [`SourceError`] for failures of a source, [`TokenError`] for
//! callers.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

mod chain;
#[cfg(feature = "actix-web")]
mod response;
mod source;

pub(crate) use chain::printable_name;
use source::Failure;
#[cfg(feature = "http")]
pub(crate) use source::Reach;
pub use source::SourceError;

type BoxError = Box<dyn StdError + Send + Sync>;

/// The reason why a caller got no token.
///
/// Opaque and cheap to clone: every waiter of a failed flight holds the same error.
///
/// Its text is one line that holds the texts of all causes, each once. Line breaks and control characters are
/// escaped. Therefore [`source()`](StdError::source) is `None`: a program that prints an error and then its sources
/// prints each part once. A program that must *decide* uses the predicates for the kind of error, and
/// [`cause`](Self::cause) to find the source's own error.
///
/// ```
/// use std::io;
/// use tokenflight::{SourceError, TokenActor, source_fn};
///
/// # actix_rt::System::new().block_on(async {
/// let source = source_fn(|_cx| async {
///     Err(SourceError::terminal(io::Error::new(io::ErrorKind::PermissionDenied, "no access\nto the vault")))
/// });
/// let error = TokenActor::builder(source).start()?.get().await.unwrap_err();
///
/// assert!(error.is_rejected());
/// assert_eq!(error.to_string(), r"token refresh was refused: no access\nto the vault");
/// assert_eq!(error.cause::<io::Error>().unwrap().kind(), io::ErrorKind::PermissionDenied);
/// # Ok::<(), tokenflight::BuildError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct TokenError {
    inner: Arc<Inner>,
    /// Not in `inner`: callers of one failure are answered at different moments.
    retry_after: Option<Duration>,
}

struct Inner {
    kind: Kind,
    message: Cow<'static, str>,
    cause: Option<SourceError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Rejected,
    Unavailable,
    Ambiguous,
    Timeout,
    Overloaded,
    #[cfg(feature = "registry")]
    TooManyKeys,
    Stopped,
    Panic,
}

impl TokenError {
    /// The auth server refused, or the API refused the tokens. Another request soon will not help.
    pub fn is_rejected(&self) -> bool {
        self.inner.kind == Kind::Rejected
    }

    /// The auth server could not be reached, or gave an unusable answer, in every attempt of the flight.
    pub fn is_unavailable(&self) -> bool {
        self.inner.kind == Kind::Unavailable
    }

    /// It is not known whether the auth server has used up a one-time credential ([`SourceError::ambiguous`]). The
    /// source's own state says whether it can continue.
    pub fn is_ambiguous(&self) -> bool {
        self.inner.kind == Kind::Ambiguous
    }

    /// A timeout: the source's (attempt or flight), or the caller's own (`wait_timeout`).
    pub fn is_timeout(&self) -> bool {
        self.inner.kind == Kind::Timeout
    }

    /// Too many callers were waiting already (`max_waiters`).
    pub fn is_overloaded(&self) -> bool {
        match self.inner.kind {
            Kind::Overloaded => true,
            #[cfg(feature = "registry")]
            Kind::TooManyKeys => true,
            _ => false,
        }
    }

    /// So many keys of a registry have waiters that there is no room for another key (`max_busy_keys`). This error
    /// [is overloaded](Self::is_overloaded) too.
    #[cfg(feature = "registry")]
    pub fn is_too_many_keys(&self) -> bool {
        self.inner.kind == Kind::TooManyKeys
    }

    /// The actor has stopped, or restarted while this request waited.
    pub fn is_stopped(&self) -> bool {
        self.inner.kind == Kind::Stopped
    }

    /// The source panicked.
    pub fn is_panic(&self) -> bool {
        self.inner.kind == Kind::Panic
    }

    /// How long the source is not called, counted from when this caller got the error: the rest of the server's
    /// `Retry-After` (capped by the policy) or of the cooldown, whichever is longer. For a registry whose line of calls
    /// is too long: the time after which the line is expected to have passed. `None` for other errors without a failed
    /// flight.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The first error of type `T` in the chain of causes: the [`SourceError`] of the flight's last attempt, the
    /// error in it, or one of that error's sources.
    pub fn cause<T: StdError + 'static>(&self) -> Option<&T> {
        self.inner.cause.as_ref().and_then(|cause| chain::find(cause))
    }

    /// The name of the error's kind, for a status page or a metric: `"rejected"`, `"unavailable"`, `"ambiguous"`,
    /// `"timeout"`, `"overloaded"`, `"too_many_keys"`, `"stopped"` or `"panic"`. A later version may add kinds.
    pub fn kind(&self) -> &'static str {
        match self.inner.kind {
            Kind::Rejected => "rejected",
            Kind::Unavailable => "unavailable",
            Kind::Ambiguous => "ambiguous",
            Kind::Timeout => "timeout",
            Kind::Overloaded => "overloaded",
            #[cfg(feature = "registry")]
            Kind::TooManyKeys => "too_many_keys",
            Kind::Stopped => "stopped",
            Kind::Panic => "panic",
        }
    }

    fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        let inner = Inner { kind, message: message.into(), cause: None };
        Self { inner: Arc::new(inner), retry_after: None }
    }

    /// The same error for a caller that gets it later. `left` is the rest of the cooldown.
    pub(crate) fn told_with_retry_after(&self, left: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), retry_after: Some(left) }
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

    #[cfg(feature = "registry")]
    pub(crate) fn queue_too_long(expected: Duration) -> Self {
        let message =
            format!("too many keys wait for the auth server: this key would have to wait {expected:?}");
        Self { retry_after: Some(expected), ..Self::new(Kind::Overloaded, message) }
    }

    /// Every key that could be evicted has waiters.
    #[cfg(feature = "registry")]
    pub(crate) fn too_many_keys(limit: usize) -> Self {
        Self::new(Kind::TooManyKeys, format!("too many keys have waiters (max_busy_keys is {limit})"))
    }

    pub(crate) fn wait_timed_out() -> Self {
        Self::new(Kind::Timeout, "no token within the caller's wait timeout")
    }

    /// The error of a failed flight, from its last attempt.
    pub(crate) fn flight_failed(cause: SourceError, attempts: u32, retry_after: Duration) -> Self {
        let (kind, what) = match cause.kind() {
            Failure::Terminal => (Kind::Rejected, "token refresh was refused"),
            Failure::Transient => (Kind::Unavailable, "token refresh failed"),
            Failure::Ambiguous => (Kind::Ambiguous, "token refresh ended without a clear answer"),
            Failure::Timeout => (Kind::Timeout, "token refresh timed out"),
            Failure::Panic => (Kind::Panic, "token source panicked"),
        };
        let message = match attempts {
            0 | 1 => Cow::Borrowed(what),
            n => format!("{what} after {n} attempts").into(),
        };
        let inner = Inner { kind, message, cause: Some(cause) };
        Self { inner: Arc::new(inner), retry_after: Some(retry_after) }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        match &self.inner.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

/// The error's kind, its text, and how long to wait, in seconds.
impl Serialize for TokenError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut error = serializer.serialize_struct("TokenError", 3)?;
        error.serialize_field("kind", self.kind())?;
        error.serialize_field("message", &self.to_string())?;
        error.serialize_field("retry_after", &self.retry_after.map(|left| left.as_secs_f64()))?;
        error.end()
    }
}

impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenError")
            .field("kind", &self.inner.kind)
            .field("message", &self.to_string())
            .field("retry_after", &self.retry_after)
            .finish()
    }
}

/// Without a `source()`: the text holds the texts of all causes.
impl StdError for TokenError {}

/// A setting that cannot work, or a place in which the actor cannot start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    field: &'static str,
    /// Empty if the table is not known.
    table: String,
    message: Cow<'static, str>,
}

impl BuildError {
    pub(crate) fn new(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field, table: String::new(), message: message.into() }
    }

    /// Adds the table of the settings file that contains the setting. Each outer table is put in front, with a dot
    /// in between.
    ///
    /// ```
    /// use tokenflight::source::SourceSettings;
    ///
    /// // What stands in the table `source` of a program's settings.
    /// let settings = r#"{ "kind": "file", "path": "" }"#;
    /// let source = serde_json::from_str::<SourceSettings>(settings)?;
    /// let error = source.build().map_err(|error| error.within("source")).unwrap_err();
    /// assert_eq!((error.table(), error.field()), (Some("source"), "path"));
    /// assert!(error.to_string().starts_with("`source.path` "));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn within(mut self, table: &str) -> Self {
        let dot = if self.table.is_empty() { "" } else { "." };
        self.table = format!("{}{dot}{}", chain::printable(table), self.table);
        self
    }

    /// The same error, of a setting from which the one at fault comes.
    #[cfg(feature = "oauth2")]
    pub(crate) fn about(self, field: &'static str) -> Self {
        Self { field, ..self }
    }

    /// Says that the text comes from this variable of the environment.
    #[cfg(feature = "oauth2")]
    pub(crate) fn of_variable(self, name: &str) -> Self {
        let message = format!("{} (from the environment variable {name})", self.message);
        Self { message: message.into(), ..self }
    }

    /// The table of a settings file that contains the setting, if it is known. For a link in a chain this is the
    /// path to it (`authorization.subject`). `None` for a setting outside of any table, or in code.
    pub fn table(&self) -> Option<&str> {
        Some(self.table.as_str()).filter(|table| !table.is_empty())
    }

    /// The setting at fault, by the name that it has in a file. In most cases this is also the name of its setter.
    /// Exceptions are `client_secret` (setter `secret`) and `assertion_audience` (setter `audience`), for example.
    pub fn field(&self) -> &str {
        self.field
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.table.is_empty() { "" } else { "." };
        write!(f, "`{}{dot}{}` {}", self.table, self.field, self.message)
    }
}

impl StdError for BuildError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_later_in_a_cooldown_has_less_of_it_left() {
        let minute = Duration::from_secs(60);
        let error = TokenError::flight_failed(SourceError::transient("down"), 1, minute);
        let later = error.told_with_retry_after(Duration::from_secs(1));
        assert_eq!((error.retry_after(), later.retry_after()), (Some(minute), Some(Duration::from_secs(1))));
        assert_eq!(error.to_string(), later.to_string());
        assert!(Arc::ptr_eq(&error.inner, &later.inner), "the same failure");
    }

    #[test]
    fn an_actor_s_failure_is_that_of_a_source_which_depends_on_it() {
        let failed = |cause| TokenError::flight_failed(cause, 1, Duration::from_secs(7));
        let down: SourceError = failed(SourceError::transient("down")).into();
        assert!(!down.is_terminal() && down.retry_after() == Some(Duration::from_secs(7)));
        let refused: SourceError = failed(SourceError::terminal("no")).into();
        assert!(refused.is_terminal() && refused.cause::<TokenError>().is_some());
        assert!(SourceError::from(TokenError::stopped()).is_terminal());
    }

    #[test]
    fn the_errors_of_this_crate_name_no_source() {
        let error = SourceError::terminal(std::io::Error::other("no"));
        assert!(error.source().is_none());
        assert!(TokenError::flight_failed(error, 2, Duration::ZERO).source().is_none());
    }
}
