//! The central value: an access token and its lifetime.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use zeroize::Zeroizing;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::secret::header;

mod flaw;
mod kind;
mod life;
#[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
mod mark;
mod present;
mod proof;

pub(crate) use flaw::stray;
pub use kind::TokenType;
#[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
pub(crate) use kind::is_token_byte;
pub(crate) use kind::{NO_PROOF, means_bearer};
use life::Ends;
#[cfg(feature = "dpop")]
pub(crate) use present::DPOP;
pub use present::PresentError;
#[cfg(feature = "dpop")]
pub(crate) use proof::Binding;
#[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
pub(crate) use proof::ProofNonce;

/// No token lives longer, unless the policy says so. Some servers send milliseconds in place of seconds.
pub(crate) const LONGEST_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Lifetimes are cut to this, a hundred years, so that no sum of times overflows.
const MAX_LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// An access token: a secret, its type, its scopes, and its end.
///
/// A [source](crate::TokenSource) makes it. The actor stamps it with the time at which its request was sent. A
/// clone costs one reference count. The secret is in one buffer, ready as a header's value. The buffer is wiped
/// when the last clone is dropped. `Debug` hides the secret. There is no `Display`, no `Serialize`, and no
/// `PartialEq`.
///
/// A token from an actor keeps its end everywhere. A source may return the
/// [previous](crate::FetchContext::previous) token, or a token of another actor. Neither begins a new life by that.
/// Only [`with_lifetime`](Self::with_lifetime) and [`with_expires_at`](Self::with_expires_at) begin one.
///
/// ```
/// use std::time::Duration;
/// use tokenflight::Token;
///
/// let token = Token::new("s3cret").with_lifetime(Duration::from_secs(3600));
/// assert_eq!(token.authorization(), "Bearer s3cret");
/// assert!(token.authorization().is_sensitive());
/// assert!(token.remaining() <= Some(Duration::from_secs(3600)));
/// assert!(!format!("{token:?}").contains("s3cret"));
/// ```
#[derive(Clone)]
pub struct Token(Arc<Inner>);

/// First come the fields that each request reads, then the rest. Two neighbouring [replicas](Token::replica) in
/// memory are used by different readers. Between the bytes that these readers touch there are more than the 128
/// bytes that processors fetch together.
#[derive(Clone)]
#[repr(C)]
struct Inner {
    text: Text,
    /// The index in `text` at which the secret begins.
    start: usize,
    /// `text`, without a copy. `None` if no header can carry the secret.
    header: Option<HeaderValue>,
    kind: TokenType,
    scopes: Arc<[String]>,
    ends: Ends,
    /// How long before its end the token is refreshed, if its source says so.
    ahead: Option<Duration>,
    /// When the token's request was sent. Before the token is stamped: when its present life began.
    sent: Timestamp,
    clock: Arc<dyn Clock>,
    /// Whether an actor has set the time of the request.
    stamped: bool,
    /// Whether `ends` is assumed: the issuer has not stated this end.
    assumed: bool,
    /// See [`mark`](Token::mark).
    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    mark: u64,
    /// For a token that is bound to a key: proves possession of the key.
    #[cfg(feature = "dpop")]
    key: Option<Arc<dyn Binding>>,
}

/// `"<scheme> <secret>"`, in a buffer that is wiped.
#[derive(Clone)]
struct Text(Arc<Zeroizing<Vec<u8>>>);

/// The same for a replica. Each `Bytes` counts its own clones. Therefore headers of several
/// [replicas](Token::replica) share the buffer and no reference count. The alignment keeps two of these counts in
/// different cache lines.
#[repr(align(128))]
struct Apart(Text);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Apart {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl Token {
    /// A bearer token without a stated lifetime, as of now.
    ///
    /// A secret that is empty, or contains a character that is not visible ASCII, cannot be in a header. An actor
    /// treats such a token as a failed attempt.
    pub fn new(secret: impl Into<String>) -> Self {
        let secret = Zeroizing::new(secret.into());
        Self::assemble(&secret, TokenType::Bearer)
    }

    /// The token lasts for `lifetime`, counted from when its request was **sent** (for a token that no actor gave
    /// out: from its creation). RFC 6749 section 5.1, `expires_in`.
    ///
    /// For a token from an actor this begins a new life, as of now.
    pub fn with_lifetime(self, lifetime: Duration) -> Self {
        self.with(|inner| inner.begin(Ends::After(lifetime.min(MAX_LIFETIME))))
    }

    /// The token lasts until this moment of the auth server's wall clock.
    ///
    /// For a token from an actor this begins a new life, as of now.
    pub fn with_expires_at(self, at: SystemTime) -> Self {
        self.with(|inner| inner.begin(Ends::At(at)))
    }

    /// The token's type, which is also the scheme of its `Authorization` header. Default: `Bearer`.
    pub fn with_type(self, kind: TokenType) -> Self {
        let secret = Zeroizing::new(self.secret().to_owned());
        let fresh = Self::assemble(&secret, kind.clone());
        self.with(|inner| {
            inner.text.clone_from(&fresh.0.text);
            inner.start = fresh.0.start;
            inner.header.clone_from(&fresh.0.header);
            inner.unbind_unless_dpop(&kind);
            inner.kind = kind;
        })
    }

    /// The scopes that were granted.
    pub fn with_scopes<S: Into<String>>(self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.with(|inner| inner.scopes = scopes.into_iter().map(Into::into).collect())
    }

    /// How long before its end the token is refreshed at the earliest. For a source whose server gives a new token
    /// only near the end of the old one, or requires the renewal of a lease at a certain time.
    ///
    /// Default: the policy's margin. If this is set, this margin is used, unless the policy's own
    /// [`refresh_ahead`](crate::RefreshPolicy::refresh_ahead) is set and less.
    pub fn with_refresh_ahead(self, margin: Duration) -> Self {
        self.with(|inner| inner.ahead = Some(margin))
    }

    /// The margin that was passed to [`with_refresh_ahead`](Self::with_refresh_ahead).
    pub(crate) fn refresh_ahead(&self) -> Option<Duration> {
        self.0.ahead
    }

    /// The secret itself. The caller must protect it.
    pub fn secret(&self) -> &str {
        // Made from a `str` with the same boundary, so it is UTF-8.
        std::str::from_utf8(&self.0.text.as_ref()[self.0.start..]).unwrap_or_default()
    }

    /// The value of the `Authorization` header (RFC 6750 section 2.1), marked sensitive.
    ///
    /// Prebuilt: no copy of the secret and no allocation. If a header cannot carry the secret or the type (see
    /// [`new`](Self::new), [`TokenType::Other`]), the value is the word `Bearer` alone. Then the API refuses the
    /// request.
    pub fn authorization(&self) -> HeaderValue {
        match &self.0.header {
            Some(header) => header.clone(),
            None => HeaderValue::from_static("Bearer"),
        }
    }

    /// The token's end, by the wall clock. `None` if its source did not state it and no actor has set it.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.sent.wall.checked_add(self.lifetime()?)
    }

    /// How long the token lasts from now: the shorter time of both clocks, and zero if it has expired. `None` as
    /// for [`expires_at`](Self::expires_at).
    pub fn remaining(&self) -> Option<Duration> {
        self.lifetime().map(|_| self.remaining_at(self.0.clock.now()))
    }

    /// How long ago the token's request was sent, by the clock of its actor. For a token that no actor gave out:
    /// how long ago it was made.
    pub fn age(&self) -> Duration {
        self.age_at(self.0.clock.now())
    }

    /// Whether both have the same secret.
    ///
    /// ```
    /// use tokenflight::Token;
    ///
    /// assert!(Token::new("abc").is_same(&Token::new("abc").with_scopes(["read"])));
    /// assert!(!Token::new("abc").is_same(&Token::new("xyz")));
    /// ```
    pub fn is_same(&self, other: &Token) -> bool {
        Arc::ptr_eq(&self.0.text.0, &other.0.text.0) || self.secret() == other.secret()
    }

    /// The token's type.
    pub fn token_type(&self) -> &TokenType {
        &self.0.kind
    }

    /// The scopes that were granted; empty if the source did not say.
    pub fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    fn assemble(secret: &str, kind: TokenType) -> Self {
        let start = kind.as_str().len() + 1;
        let mut text = Zeroizing::new(Vec::with_capacity(start + secret.len()));
        text.extend_from_slice(kind.as_str().as_bytes());
        text.push(b' ');
        text.extend_from_slice(secret.as_bytes());
        let text = Text(Arc::new(text));
        let visible = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        let header = (visible && kind.is_scheme()).then(|| header(text.clone()).ok()).flatten();
        let (clock, scopes) = (Arc::new(SystemClock), Arc::default());
        Self(Arc::new(Inner {
            text,
            start,
            header,
            kind,
            scopes,
            ends: Ends::Unknown,
            ahead: None,
            sent: clock.now(),
            clock,
            stamped: false,
            assumed: false,
            #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
            mark: mark::of(secret),
            #[cfg(feature = "dpop")]
            key: None,
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The same token, with its own reference counts, for readers on another processor. If two processors count in
    /// the same place, each waits for the other.
    pub(crate) fn replica(&self) -> Self {
        let header = self.0.header.as_ref().and_then(|_| header(Apart(self.0.text.clone())).ok());
        Self(Arc::new(Inner { header, ..Inner::clone(&self.0) }))
    }

    /// A number that identifies the secret in this process. It is calculated once, when the token is made. Never zero.
    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    pub(crate) fn mark(&self) -> u64 {
        self.0.mark
    }

    /// Whether a header can carry the token.
    #[cfg(any(test, feature = "shared"))]
    pub(crate) fn is_presentable(&self) -> bool {
        self.0.header.is_some()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("secret", &"[redacted]")
            .field("type", &self.0.kind)
            .field("scopes", &self.0.scopes)
            .field("remaining", &self.remaining())
            .finish()
    }
}

#[cfg(test)]
mod tests;
