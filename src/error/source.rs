//! What a source reports.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{BoxError, TokenError, chain};

/// Why a source got no token, and whether trying again can help.
///
/// A [transient](SourceError::transient) failure is retried within the flight; a
/// [terminal](SourceError::terminal) or [ambiguous](SourceError::ambiguous) one ends it.
///
/// Its text is one line that holds the text of the error that it was made of, and of all sources of that error,
/// each once; line breaks and control characters are escaped. Therefore [`source()`](StdError::source) is
/// `None`, as for [`TokenError`]; [`cause`](Self::cause) finds an error by its type.
#[derive(Clone)]
pub struct SourceError(Arc<SourceInner>);

#[derive(Clone)]
struct SourceInner {
    kind: Failure,
    retry_after: Option<Duration>,
    /// For an ambiguous failure: another attempt does no harm.
    repeatable: bool,
    #[cfg(feature = "oauth2")]
    reach: Reach,
    cause: Arc<BoxError>,
}

/// How far a request came, for a source whose credential may be used only once.
#[cfg(feature = "http")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing was sent, or the server said that it did not look at it.
    #[default]
    Unused,
    /// It was sent, and no answer came that says what became of it.
    Lost,
    /// The server said no to it.
    #[cfg(feature = "oauth2")]
    Refused,
    /// The server accepted it, and its answer cannot be used.
    Used,
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
    /// What decides how a flight goes on.
    pub(super) fn kind(&self) -> Failure {
        self.0.kind
    }

    /// What it was made of.
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
            cause: Arc::new(cause),
        }))
    }

    /// Trying again may help: the network, a 5xx, a rate limit, nonsense instead of an answer.
    pub fn transient(err: impl Into<BoxError>) -> Self {
        Self::new(Failure::Transient, err.into())
    }

    /// Trying again will not help until an operator acts: wrong credentials, unknown scope.
    pub fn terminal(err: impl Into<BoxError>) -> Self {
        Self::new(Failure::Terminal, err.into())
    }

    /// It is not known whether the server has spent a credential that may be used once: the answer was lost, or did not
    /// come in time. (A failure before anything was sent is [transient](Self::transient).)
    ///
    /// The flight makes no second attempt, unless the source says that it is [`repeatable`](Self::repeatable).
    pub fn ambiguous(err: impl Into<BoxError>) -> Self {
        Self::new(Failure::Ambiguous, err.into())
    }

    /// Another attempt does no harm after this [ambiguous](Self::ambiguous) failure: the source knows what it has sent, or
    /// the server accepts the credential once more. Then the flight goes on as after a transient failure. Default: the
    /// flight ends.
    pub fn repeatable(mut self) -> Self {
        Arc::make_mut(&mut self.0).repeatable = true;
        self
    }

    /// The server asks not to be called again for so long (RFC 9110 section 10.2.3).
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        Arc::make_mut(&mut self.0).retry_after = Some(delay);
        self
    }

    /// Whether it was made by [`terminal`](Self::terminal).
    pub fn is_terminal(&self) -> bool {
        self.0.kind == Failure::Terminal
    }

    /// Whether it was made by [`ambiguous`](Self::ambiguous).
    pub fn is_ambiguous(&self) -> bool {
        self.0.kind == Failure::Ambiguous
    }

    /// Whether another attempt of the same flight cannot succeed, or does harm.
    pub(crate) fn ends_the_flight(&self) -> bool {
        match self.0.kind {
            Failure::Terminal | Failure::Panic => true,
            Failure::Ambiguous => !self.0.repeatable,
            Failure::Transient | Failure::Timeout => false,
        }
    }

    /// What [`with_retry_after`](Self::with_retry_after) was given.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The first error of type `T` in the chain of causes: the error that this was made of, or one of its sources.
    pub fn cause<T: StdError + 'static>(&self) -> Option<&T> {
        chain::find(&**self.0.cause)
    }

    /// The same, from a request that came so far.
    #[cfg(feature = "http")]
    #[cfg_attr(not(feature = "oauth2"), allow(unused_mut, unused_variables))]
    pub(crate) fn that(mut self, reach: Reach) -> Self {
        #[cfg(feature = "oauth2")]
        {
            Arc::make_mut(&mut self.0).reach = reach;
        }
        self
    }

    /// How far the request came.
    #[cfg(feature = "oauth2")]
    pub(crate) fn reach(&self) -> Reach {
        self.0.reach
    }

    /// The same, for a source that depends on the one that failed. `link` names the one that failed.
    #[cfg(feature = "http")]
    pub(crate) fn within(self, link: &str) -> Self {
        let whole = Within { link: link.to_owned(), cause: self.clone() };
        let cause = Arc::new(Box::new(whole) as BoxError);
        Self(Arc::new(SourceInner { cause, ..SourceInner::clone(&self.0) })).that(Reach::default())
    }

    /// The same, where another attempt may help after all.
    #[cfg(feature = "oauth2")]
    pub(crate) fn into_transient(mut self) -> Self {
        Arc::make_mut(&mut self.0).kind = Failure::Transient;
        self
    }

    /// The same, where the credential may have been spent by it.
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

/// What another actor's callers are told, for a source that depends on it.
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

/// A failure of something that the source depends on.
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
