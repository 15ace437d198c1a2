//! The errors of a source.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{BoxError, TokenError, chain};

/// The reason why a source got no token, and whether another attempt can help.
///
/// A [transient](SourceError::transient) failure is retried within the flight. A [terminal](SourceError::terminal)
/// or [ambiguous](SourceError::ambiguous) failure ends the flight.
///
/// Its text is one line that holds the text of the error in it, and of all sources of that error, each once. Line
/// breaks and control characters are escaped. Therefore [`source()`](StdError::source) is `None`, as for
/// [`TokenError`]. [`cause`](Self::cause) finds an error by its type.
#[derive(Clone)]
pub struct SourceError(Arc<SourceInner>);

#[derive(Clone)]
struct SourceInner {
    kind: Failure,
    retry_after: Option<Duration>,
    /// For an ambiguous failure: another attempt is safe.
    repeatable: bool,
    #[cfg(feature = "oauth2")]
    reach: Reach,
    /// The status of the answer that became this error.
    #[cfg(all(feature = "http", feature = "registry"))]
    status: Option<u16>,
    cause: Arc<BoxError>,
}

/// The progress of a request, for a source whose credential may be used only once.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing was sent, or the server said that it did not process the request.
    #[default]
    Unused,
    /// The request was sent, and no answer came that gives its result.
    Lost,
    /// The server refused the request.
    #[cfg(feature = "oauth2")]
    Refused,
    /// The server accepted the request, and its answer cannot be used.
    Used,
    /// The server accepted the request, and its answer broke off.
    UsedAndLost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Failure {
    Transient,
    Terminal,
    Ambiguous,
    Timeout,
    Panic,
}

impl SourceError {
    /// The part that decides how a flight continues.
    pub(super) fn kind(&self) -> Failure {
        self.0.kind
    }

    /// The error in it.
    pub(super) fn origin(&self) -> &(dyn StdError + 'static) {
        &**self.0.cause
    }

    fn new(kind: Failure, cause: BoxError) -> Self {
        Self(Arc::new(SourceInner {
            kind,
            retry_after: None,
            repeatable: false,
            #[cfg(feature = "oauth2")]
            reach: Reach::default(),
            #[cfg(all(feature = "http", feature = "registry"))]
            status: None,
            cause: Arc::new(cause),
        }))
    }

    /// Another attempt may help: the network, a 5xx, a rate limit, an unusable answer.
    pub fn transient(err: impl Into<BoxError>) -> Self {
        Self::new(Failure::Transient, err.into())
    }

    /// Another attempt will not help until an operator acts: wrong credentials, unknown scope.
    pub fn terminal(err: impl Into<BoxError>) -> Self {
        Self::new(Failure::Terminal, err.into())
    }

    /// It is not known whether the server has used up a one-time credential: the answer was lost, or was late. (A
    /// failure before anything was sent is [transient](Self::transient).)
    ///
    /// The flight makes no second attempt, unless the source marks the error as [`repeatable`](Self::repeatable).
    pub fn ambiguous(err: impl Into<BoxError>) -> Self {
        Self::new(Failure::Ambiguous, err.into())
    }

    /// Another attempt is safe after this [ambiguous](Self::ambiguous) failure: the source knows what it has sent,
    /// or the server accepts the credential once more. Then the flight continues as after a transient failure.
    /// Default: the flight ends.
    pub fn repeatable(mut self) -> Self {
        Arc::make_mut(&mut self.0).repeatable = true;
        self
    }

    /// The server asks not to be called again for this time (RFC 9110 section 10.2.3).
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        Arc::make_mut(&mut self.0).retry_after = Some(delay);
        self
    }

    /// Whether the error was made by [`terminal`](Self::terminal).
    pub fn is_terminal(&self) -> bool {
        self.0.kind == Failure::Terminal
    }

    /// Whether the error was made by [`ambiguous`](Self::ambiguous).
    pub fn is_ambiguous(&self) -> bool {
        self.0.kind == Failure::Ambiguous
    }

    /// Whether another attempt of the same flight cannot succeed, or is not safe.
    pub(crate) fn ends_the_flight(&self) -> bool {
        match self.0.kind {
            Failure::Terminal | Failure::Panic => true,
            Failure::Ambiguous => !self.0.repeatable,
            Failure::Transient | Failure::Timeout => false,
        }
    }

    /// The delay that was passed to [`with_retry_after`](Self::with_retry_after).
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The first error of type `T` in the chain of causes: the error in this one, or one of its sources.
    pub fn cause<T: StdError + 'static>(&self) -> Option<&T> {
        chain::find(&**self.0.cause)
    }

    /// The same error, with the progress of its request.
    #[cfg(feature = "http")]
    #[cfg_attr(not(feature = "oauth2"), allow(unused_mut, unused_variables))]
    pub(crate) fn that(mut self, reach: Reach) -> Self {
        #[cfg(feature = "oauth2")]
        {
            Arc::make_mut(&mut self.0).reach = reach;
        }
        self
    }

    /// The progress of the request.
    #[cfg(feature = "oauth2")]
    pub(crate) fn reach(&self) -> Reach {
        self.0.reach
    }

    /// The same error, made from an answer with this status.
    #[cfg(feature = "http")]
    #[cfg_attr(not(feature = "registry"), allow(unused_mut, unused_variables))]
    pub(crate) fn answered(mut self, status: http::StatusCode) -> Self {
        #[cfg(feature = "registry")]
        {
            Arc::make_mut(&mut self.0).status = Some(status.as_u16());
        }
        self
    }

    /// The status of the answer that became this error, or an error that caused this one. `None` if no answer came,
    /// or if the source is a closure.
    #[cfg(all(feature = "http", feature = "registry"))]
    pub(crate) fn status(&self) -> Option<u16> {
        self.0.status.or_else(|| {
            let mut errors = chain::links(self.origin());
            errors.find_map(|error| error.downcast_ref::<Self>()?.0.status)
        })
    }

    /// The same error, for a source that depends on the failed one. `link` names the failed one.
    #[cfg(feature = "http")]
    pub(crate) fn within(self, link: &str) -> Self {
        let whole = Within { link: link.to_owned(), cause: self.clone() };
        let cause = Arc::new(Box::new(whole) as BoxError);
        Self(Arc::new(SourceInner { cause, ..SourceInner::clone(&self.0) })).that(Reach::default())
    }

    /// The same error, if another attempt may help nevertheless.
    #[cfg(feature = "oauth2")]
    pub(crate) fn into_transient(mut self) -> Self {
        Arc::make_mut(&mut self.0).kind = Failure::Transient;
        self
    }

    /// The same error, if its request may have used up the credential.
    #[cfg(feature = "oauth2")]
    pub(crate) fn into_ambiguous(mut self) -> Self {
        Arc::make_mut(&mut self.0).kind = Failure::Ambiguous;
        self
    }

    pub(crate) fn attempt_timed_out(limit: Duration) -> Self {
        Self::timed_out(format!("no answer within attempt_timeout ({limit:?})"))
    }

    pub(crate) fn flight_timed_out(limit: Duration) -> Self {
        Self::timed_out(format!("the flight took longer than flight_timeout ({limit:?})"))
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

/// The error of another actor's callers, for a source that depends on that actor.
impl From<TokenError> for SourceError {
    fn from(error: TokenError) -> Self {
        let (is_final, retry_after) = (error.is_rejected() || error.is_stopped(), error.retry_after());
        let is_repeatable = error.cause::<Self>().is_some_and(|cause| cause.0.repeatable);
        let error = match () {
            () if is_final => Self::terminal(error),
            () if error.is_ambiguous() && is_repeatable => Self::ambiguous(error).repeatable(),
            () if error.is_ambiguous() => Self::ambiguous(error),
            () => Self::transient(error),
        };
        match retry_after {
            Some(delay) => error.with_retry_after(delay),
            None => error,
        }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain::one_line(&**self.0.cause))
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

/// Without a `source()`: the text holds the texts of all causes.
impl StdError for SourceError {}

/// A failure of a dependency of the source.
#[cfg(feature = "http")]
#[derive(Debug)]
struct Within {
    link: String,
    cause: SourceError,
}

#[cfg(feature = "http")]
impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.link, self.cause)
    }
}

#[cfg(feature = "http")]
impl StdError for Within {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.cause)
    }
}
