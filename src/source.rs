//! Where tokens come from: the [`TokenSource`] trait, and a closure as a source.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::error::SourceError;
use crate::token::Token;

#[cfg(feature = "oauth2")]
mod client_credentials;
#[cfg(feature = "oauth2")]
mod json_endpoint;
#[cfg(feature = "shared")]
mod shared;

#[cfg(feature = "oauth2")]
pub use crate::oauth::ClientAuth;
#[cfg(feature = "oauth2")]
pub use client_credentials::{ClientCredentials, ClientCredentialsBuilder};
#[cfg(feature = "oauth2")]
pub use json_endpoint::{JsonEndpoint, JsonEndpointBuilder};
#[cfg(feature = "shared")]
pub use shared::{OnOutage, SealKey, SharedSource, SharedSourceBuilder, SharedStats};

/// Gets a new token from somewhere: one call, one token or one error.
///
/// The actor does all the rest: it never calls again before the last call ended, it retries, times out,
/// remembers failures, and catches a panic. The future runs on the actor's arbiter, so it must not block.
/// It is dropped when it takes longer than the policy's `attempt_timeout`.
///
/// ```
/// use std::time::Duration;
/// use tokenflight::{FetchContext, SourceError, Token, TokenSource};
///
/// struct FromFile(std::path::PathBuf);
///
/// impl TokenSource for FromFile {
///     async fn fetch(&self, _cx: FetchContext) -> Result<Token, SourceError> {
///         let text = tokio::fs::read_to_string(&self.0).await.map_err(SourceError::transient)?;
///         Ok(Token::new(text.trim()).with_lifetime(Duration::from_secs(60)))
///     }
/// }
/// ```
pub trait TokenSource: Send + Sync + 'static {
    /// Gets a new token.
    ///
    /// # Errors
    /// [`SourceError::transient`] where trying again may help, [`SourceError::terminal`] where it will not.
    fn fetch(&self, cx: FetchContext) -> impl Future<Output = Result<Token, SourceError>> + Send;

    /// Names, part by part, whatever decides which token comes: the issuer, the client, the grant, scopes,
    /// audiences, resources. So sources that get different tokens never share one (`SharedSource`, which keeps
    /// nothing of it but a hash). A client's own secret is not among them: a new one gets the same tokens.
    ///
    /// Default: nothing, and whoever shares the source has to say it.
    fn identify(&self, _part: &mut dyn FnMut(&str, &str)) {}
}

/// Why the actor asks for a token, and what it had before.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FetchContext {
    /// What started the flight.
    pub reason: Reason,
    /// The token that is to be replaced. With [`Reason::Rejected`], the one that the API rejected.
    pub previous: Option<Token>,
    /// Which attempt of the flight this is, from 1.
    pub attempt: u32,
}

impl FetchContext {
    pub(crate) fn new(reason: Reason, previous: Option<Token>, attempt: u32) -> Self {
        Self { reason, previous, attempt }
    }
}

/// What starts a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There has been no token yet.
    First,
    /// The token has expired, or is within `min_validity` of it.
    Expired,
    /// The token is good for a while yet; it is replaced before anybody has to wait.
    Ahead,
    /// The API rejected the token.
    Rejected,
    /// Somebody sent [`Refresh`](crate::Refresh).
    Forced,
}

impl Reason {
    pub(crate) const COUNT: usize = 5;

    /// The name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Expired => "expired",
            Self::Ahead => "ahead",
            Self::Rejected => "rejected",
            Self::Forced => "forced",
        }
    }
}

/// A closure as a [`TokenSource`].
///
/// ```
/// use tokenflight::{FetchContext, Token, source_fn};
///
/// let source = source_fn(|_cx: FetchContext| async { Ok(Token::new("abc")) });
/// # let _ = source;
/// ```
pub fn source_fn<F, Fut>(fetch: F) -> SourceFn<F>
where
    F: Fn(FetchContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Token, SourceError>> + Send,
{
    SourceFn(fetch)
}

/// What [`source_fn`] makes.
pub struct SourceFn<F>(F);

impl<F> fmt::Debug for SourceFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceFn")
    }
}

impl<F, Fut> TokenSource for SourceFn<F>
where
    F: Fn(FetchContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Token, SourceError>> + Send,
{
    fn fetch(&self, cx: FetchContext) -> impl Future<Output = Result<Token, SourceError>> + Send {
        (self.0)(cx)
    }
}

impl<S: TokenSource> TokenSource for std::sync::Arc<S> {
    fn fetch(&self, cx: FetchContext) -> impl Future<Output = Result<Token, SourceError>> + Send {
        S::fetch(self, cx)
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        S::identify(self, part);
    }
}

/// A call to a source.
pub(crate) type Fetching = Pin<Box<dyn Future<Output = Result<Token, SourceError>> + Send>>;

/// A source behind a pointer, so that the actor is one type whatever it fetches from.
pub(crate) trait ErasedSource: Send + Sync {
    /// The future owns its source, and calls it when first polled: what `fetch` does before its first await
    /// is inside the future too, and so is its panic.
    fn fetch_erased(self: std::sync::Arc<Self>, cx: FetchContext) -> Fetching;
}

impl<S: TokenSource> ErasedSource for S {
    fn fetch_erased(self: std::sync::Arc<Self>, cx: FetchContext) -> Fetching {
        Box::pin(async move { self.fetch(cx).await })
    }
}
