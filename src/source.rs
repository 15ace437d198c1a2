//! Where tokens come from: the [`TokenSource`] trait, and a closure as a source.

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

/// The part by which a source says, in [`TokenSource::identify`], that it cannot name something that decides its
/// token. The value is for people: what this is.
pub const UNNAMED: &str = "unnamed";

/// The part by which a source says that no other process can use its tokens. The value says why, and the way out.
#[cfg(any(feature = "http", feature = "shared"))]
pub(crate) const UNSHARED: &str = "tokenflight:unshared";

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

    /// A token that is newer than the [previous](FetchContext::previous) one, if there is one without a call: another
    /// process may have fetched it. It is asked for after a report that may start no flight, at most once a second, and
    /// must not take long.
    ///
    /// Default: there is none.
    fn look(&self, cx: FetchContext) -> impl Future<Output = Option<Token>> + Send {
        let _ = cx;
        std::future::ready(None)
    }

    /// Whether it is of use to [`look`](Self::look). Default: no.
    fn can_look(&self) -> bool {
        false
    }

    /// Ends what must not be cut off when the process ends: a request that may spend a credential which may be used only
    /// once, and the write of what it brings. The actor awaits it before it answers a [`Shutdown`](crate::Shutdown), for
    /// at most 2 min. A source that wraps another one passes this on.
    ///
    /// Default: there is nothing.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Names, part by part, whatever decides which token comes: the issuer, the client, the grant, scopes,
    /// audiences, resources. So sources that get different tokens never share one (`SharedSource`, which keeps
    /// nothing of it but a hash). A client's own secret is not among them: a new one gets the same tokens.
    ///
    /// A source that cannot name something, such as a closure's result, calls `part` with [`UNNAMED`] and says what
    /// this is. Then a program that shares the source has to name it. A value must stay the same in all versions of a program:
    /// never a `Debug` output.
    ///
    /// Default: all of it is [`UNNAMED`].
    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part(UNNAMED, "what the source asks for");
    }

    /// Names, part by part, the credential that the next call sends: a secret, or the id of a key. So a fleet in which
    /// one process has an old secret can tell whose calls are refused (`SharedSource`, which keeps a keyed hash of it).
    ///
    /// Default: nothing. Then all processes that share the source count as carriers of one credential.
    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        let _ = part;
    }

    /// Gives a token of this source that was kept elsewhere, as bytes, the key that it is bound to. A source that wraps
    /// another passes it on. Default: the token as it is.
    #[doc(hidden)]
    fn rebind(&self, token: Token) -> Token {
        token
    }
}

/// Why a token is fetched, what came before, and until when there is time.
///
/// The actor makes one for each call. Anybody else can make one too, to test a source by hand; a source that
/// wraps another passes its own on.
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
    /// What started the flight.
    pub reason: Reason,
    /// The token that is to be replaced. With [`Reason::Rejected`], the one that the API rejected.
    pub previous: Option<Token>,
    /// Which attempt of the flight this is, from 1.
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

    /// Replaces this token. Default: there is none.
    pub fn with_previous(mut self, token: Token) -> Self {
        self.previous = Some(token);
        self
    }

    /// The previous token is compromised ([`discard`](crate::TokenHandle::discard)). Default: it is not.
    pub fn with_discarded(mut self, discarded: bool) -> Self {
        self.discarded = discarded;
        self
    }

    /// The API that rejected the previous token asks this of the next one. Default: nothing.
    pub fn with_challenge(mut self, challenge: Challenge) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// Is the `attempt`-th attempt of its flight. Default: 1.
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Where the time is read. Default: [`SystemClock`].
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The moment of the [boot clock](crate::clock::Timestamp::boot) at which the attempt is given up. Default:
    /// never.
    pub fn with_deadline(mut self, moment: Duration) -> Self {
        self.deadline = Some(moment);
        self
    }

    /// Whether the [previous](Self::previous) token is compromised: a source that keeps tokens for several
    /// callers must not hand it out again.
    pub fn is_discarded(&self) -> bool {
        self.discarded
    }

    /// What the API that rejected the previous token asks of the next one.
    pub fn challenge(&self) -> Option<&Challenge> {
        self.challenge.as_ref()
    }

    /// The clock of the actor that asks.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// When the attempt is given up: a moment of the boot clock. The end of `attempt_timeout` or of
    /// `flight_timeout`, whichever comes first.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// How much time there is until the [deadline](Self::deadline); zero if it has passed. A source with a time
    /// limit of its own uses the lesser of the two.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_sub(self.clock.now().boot))
    }

    /// For another source on which this one depends: the same clock and the same deadline, a flight of its own. That a
    /// token was rejected says nothing of those that it was made with.
    #[cfg(feature = "http")]
    pub(crate) fn for_link(&self) -> Self {
        let (clock, deadline) = (Arc::clone(&self.clock), self.deadline);
        let reason = match self.reason {
            Reason::Rejected | Reason::Forced => Reason::Expired,
            reason => reason,
        };
        Self { clock, deadline, attempt: self.attempt, given: self.given.clone(), ..Self::new(reason) }
    }

    /// `limit`, or the time that is left, if that is less.
    #[cfg(feature = "shared")]
    pub(crate) fn at_most(&self, limit: Duration) -> Duration {
        self.time_left().map_or(limit, |left| left.min(limit))
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
    /// The token is still usable. It is replaced before a caller has to wait.
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
