//! The sources of tokens: the [`TokenSource`] trait, and a closure as a source.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::error::SourceError;
use crate::token::Token;

mod any;
#[cfg(feature = "registry")]
mod asked;
mod boxed;
mod challenge;
#[cfg(feature = "oauth2")]
mod client_credentials;
mod exec;
mod file_token;
mod function;
#[cfg(feature = "oauth2")]
mod github_app;
#[cfg(feature = "http")]
mod given;
#[cfg(feature = "oauth2")]
mod hashicorp_vault;
#[cfg(feature = "http")]
pub(crate) mod json_endpoint;
#[cfg(feature = "oauth2")]
mod jwt_bearer;
#[cfg(feature = "registry")]
mod keyed;
mod link;
#[cfg(feature = "http")]
pub(crate) mod metadata;
#[cfg(feature = "oauth2")]
mod refresh_token;
#[cfg(feature = "shared")]
pub(crate) mod shared;
#[cfg(feature = "oauth2")]
mod signed_jwt;
#[cfg(feature = "oauth2")]
mod token_exchange;

#[cfg(feature = "oauth2")]
pub use crate::oauth::ClientAuth;
pub use any::SourceSettings;
#[cfg(feature = "registry")]
pub(crate) use asked::Asked;
pub use boxed::BoxSource;
pub(crate) use boxed::Fetching;
pub use challenge::Challenge;
#[cfg(feature = "oauth2")]
pub use client_credentials::{ClientCredentials, ClientCredentialsBuilder, ClientCredentialsGrant};
pub use exec::{ExecCredential, ExecCredentialBuilder, ExecFormat};
pub use file_token::{FileToken, FileTokenBuilder};
pub use function::{SourceFn, source_fn};
#[cfg(feature = "http")]
pub(crate) use given::Given;
#[cfg(feature = "http")]
pub use json_endpoint::{JsonEndpoint, JsonEndpointBuilder};
#[cfg(feature = "registry")]
pub(crate) use keyed::BoxKeyed;
#[cfg(feature = "registry")]
pub use keyed::{Group, KeyedSource};
#[cfg(feature = "oauth2")]
pub use metadata::{AwsWebIdentity, AwsWebIdentityBuilder};
#[cfg(feature = "http")]
pub use metadata::{
    AzureArc, AzureArcBuilder, AzureImds, AzureImdsBuilder, GcpMetadata, GcpMetadataBuilder, Metadata,
};
#[cfg(all(feature = "shared", feature = "registry"))]
pub use shared::SharedKeys;
#[cfg(feature = "shared")]
pub use shared::{OnOutage, SealKey, SharedSource, SharedSourceBuilder, SharedStats};

#[cfg(feature = "oauth2")]
pub use {
    github_app::{GithubApp, GithubAppBuilder},
    hashicorp_vault::{Vault, VaultBuilder},
    jwt_bearer::{JwtBearer, JwtBearerGrant},
    refresh_token::{AfterCrash, NeedsLogin, RefreshToken, RefreshTokenGrant},
    signed_jwt::{SignedJwt, SignedJwtBuilder},
    token_exchange::{TokenExchange, TokenExchangeGrant},
};

/// The part with which a source says, in [`TokenSource::identify`], that it cannot name something that decides its
/// token. The value describes this thing for human readers.
pub const UNNAMED: &str = "unnamed";

/// The part with which a source says that other processes cannot use its tokens. The value gives the reason and the
/// correction.
#[cfg(any(feature = "http", feature = "shared"))]
pub(crate) const UNSHARED: &str = "tokenflight:unshared";

/// Gets a new token: one call, one token or one error.
///
/// The actor does the rest: it never calls again before the last call has ended, it retries, enforces timeouts,
/// remembers failures, and catches a panic. The future runs on the actor's arbiter, so it must not block. It is
/// dropped when it takes longer than the policy's `attempt_timeout`.
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
    /// [`SourceError::transient`] if another attempt may help, [`SourceError::terminal`] if it will not.
    fn fetch(&self, cx: FetchContext) -> impl Future<Output = Result<Token, SourceError>> + Send;

    /// A token that is newer than the [previous](FetchContext::previous) one, if there is one without a call:
    /// another process may have fetched it. This is called after a report that may start no flight, at most once a
    /// second. It is given up at the context's [deadline](FetchContext::deadline), after the policy's
    /// `attempt_timeout`.
    ///
    /// Default: there is no such token.
    fn look(&self, cx: FetchContext) -> impl Future<Output = Option<Token>> + Send {
        let _ = cx;
        std::future::ready(None)
    }

    /// Whether [`look`](Self::look) can return a token. Default: no.
    fn can_look(&self) -> bool {
        false
    }

    /// Finishes work that must not be interrupted when the process ends: a request that may use a one-time
    /// credential, and the write of its result. The actor awaits this before it answers a
    /// [`Shutdown`](crate::Shutdown), for at most 2 min. A source that wraps another one must forward this call.
    ///
    /// Default: there is no such work.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Names, part by part, everything that decides which token comes: the issuer, the client, the grant, scopes,
    /// audiences, resources. Therefore sources that get different tokens never share one (`SharedSource`, which
    /// keeps only a hash of the parts). A client's own secret is not a part, because a new secret gets the same
    /// tokens.
    ///
    /// A source that cannot name something, such as a closure's result, calls `part` with [`UNNAMED`] and describes
    /// it. Then a program that shares the source must name it. A value must stay the same in all versions of a
    /// program. Therefore it must never be a `Debug` output.
    ///
    /// Default: everything is [`UNNAMED`].
    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part(UNNAMED, "what the source asks for");
    }

    /// Names, part by part, the credential of the next call: a secret, or the id of a key. Therefore a fleet in
    /// which one process has an old secret knows which processes are refused (`SharedSource`, which keeps a keyed
    /// hash of the credential).
    ///
    /// Default: nothing. Then all processes that share the source count as users of one credential.
    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        let _ = part;
    }

    /// Gives a stored token of this source, which was kept as bytes, the key to which it is bound. A source that
    /// wraps another must forward this call. Default: the token unchanged.
    #[doc(hidden)]
    fn rebind(&self, token: Token) -> Token {
        token
    }
}

/// The reason for a fetch, the previous token, and the deadline.
///
/// The actor makes one for each call. A test can also make one, to call a source directly. A source that wraps
/// another passes its own context on.
///
/// ```
/// use std::time::Duration;
/// use tokenflight::{FetchContext, Reason, SourceError, Token, TokenSource, source_fn};
///
/// /// The tokens of another source, for at most a minute each.
/// struct Short<S>(S);
///
/// impl<S: TokenSource> TokenSource for Short<S> {
///     async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
///         let token = self.0.fetch(cx).await?;
///         let minute = Duration::from_secs(60);
///         let left = token.remaining().unwrap_or(minute);
///         Ok(token.with_lifetime(left.min(minute)))
///     }
///
///     fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
///         self.0.identify(part);
///     }
/// }
///
/// # actix_rt::System::new().block_on(async {
/// let source = Short(source_fn(|cx: FetchContext| async move {
///     Ok(Token::new(format!("{}-{}", cx.reason.as_str(), cx.attempt)))
/// }));
/// let cx = FetchContext::new(Reason::Rejected).with_previous(Token::new("old")).with_attempt(2);
/// let token = source.fetch(cx).await?;
/// assert_eq!(token.secret(), "rejected-2");
/// assert!(token.remaining() <= Some(Duration::from_secs(60)));
/// # Ok::<(), SourceError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FetchContext {
    /// The reason for the flight.
    pub reason: Reason,
    /// The token that is to be replaced. With [`Reason::Rejected`], the one that the API rejected.
    pub previous: Option<Token>,
    /// The number of the attempt in its flight, from 1.
    pub attempt: u32,
    discarded: bool,
    challenge: Option<Challenge>,
    clock: Arc<dyn Clock>,
    deadline: Option<Duration>,
    #[cfg(feature = "registry")]
    asked: Asked,
    #[cfg(feature = "http")]
    given: Option<Given>,
}

impl FetchContext {
    /// A first attempt without a previous token and without a deadline, by the [`SystemClock`].
    pub fn new(reason: Reason) -> Self {
        let clock = Arc::new(SystemClock);
        let (previous, challenge, deadline) = (None, None, None);
        #[cfg(feature = "registry")]
        let asked = Asked::default();
        Self {
            reason,
            previous,
            attempt: 1,
            discarded: false,
            challenge,
            clock,
            deadline,
            #[cfg(feature = "registry")]
            asked,
            #[cfg(feature = "http")]
            given: None,
        }
    }

    /// Sets the token to be replaced. Default: there is none.
    pub fn with_previous(mut self, token: Token) -> Self {
        self.previous = Some(token);
        self
    }

    /// Marks the previous token as compromised ([`discard`](crate::TokenHandle::discard)). Default: it is not.
    pub fn with_discarded(mut self, discarded: bool) -> Self {
        self.discarded = discarded;
        self
    }

    /// Sets the requirement of the API that rejected the previous token. Default: none.
    pub fn with_challenge(mut self, challenge: Challenge) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// Sets the number of the attempt in its flight. Default: 1.
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Sets the clock. Default: [`SystemClock`].
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the moment of the [boot clock](crate::clock::Timestamp::boot) at which the attempt is given up.
    /// Default: never.
    pub fn with_deadline(mut self, moment: Duration) -> Self {
        self.deadline = Some(moment);
        self
    }

    /// Whether the [previous](Self::previous) token is compromised. Then a source that keeps tokens for several
    /// callers must not give it out again.
    pub fn is_discarded(&self) -> bool {
        self.discarded
    }

    /// The requirement of the API that rejected the previous token, for the next token.
    pub fn challenge(&self) -> Option<&Challenge> {
        self.challenge.as_ref()
    }

    /// The actor's clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// When the attempt is given up: a moment of the boot clock. The end of `attempt_timeout` or of
    /// `flight_timeout`, whichever comes first.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The time until the [deadline](Self::deadline). Zero if it has passed. A source with its own time limit uses
    /// the shorter of the two.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_sub(self.clock.now().boot))
    }

    /// `limit`, or the remaining time, if that is less.
    #[cfg(feature = "shared")]
    pub(crate) fn at_most(&self, limit: Duration) -> Duration {
        self.time_left().map_or(limit, |left| left.min(limit))
    }
}

/// The reason for a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There has been no token yet.
    First,
    /// The token has expired, or will expire within `min_validity`.
    Expired,
    /// The token is still usable. It is replaced before a caller has to wait.
    Ahead,
    /// The API rejected the token.
    Rejected,
    /// A [`Refresh`](crate::Refresh) was sent.
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

impl<S: TokenSource> TokenSource for Arc<S> {
    fn fetch(&self, cx: FetchContext) -> impl Future<Output = Result<Token, SourceError>> + Send {
        S::fetch(self, cx)
    }

    fn look(&self, cx: FetchContext) -> impl Future<Output = Option<Token>> + Send {
        S::look(self, cx)
    }

    fn can_look(&self) -> bool {
        S::can_look(self)
    }

    fn finish(&self) -> impl Future<Output = ()> + Send {
        S::finish(self)
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        S::identify(self, part);
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        S::credential(self, part);
    }

    fn rebind(&self, token: Token) -> Token {
        S::rebind(self, token)
    }
}
