//! The refresh token grant as a source (RFC 6749 section 6), for refresh tokens that may be used once.

mod login;
mod needs_login;
mod spend;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::{BuildError, SourceError};
use crate::oauth::rotation::{Memory, Rules};
use crate::oauth::{Client, Expected, GrantBuilder, GrantSettings};
use crate::secret::Secret;
use crate::source::{FetchContext, TokenSource};
use crate::token::Token;
use crate::transport::Form;
use crate::vault::{Record, RefreshTokenStore, VaultError};

pub use crate::oauth::rotation::AfterCrash;
pub use needs_login::NeedsLogin;

/// Tokens for a user who has logged in elsewhere (RFC 6749 section 6), whose refresh token may rotate (RFC 9700 section
/// 4.14).
///
/// ```
/// use tokenflight::oauth::Client;
/// use tokenflight::vault::MemoryVault;
///
/// let client = Client::builder("https://auth.example.com/token", "my-app").secret("s3cret").build()?;
/// let source = client.refresh_token(MemoryVault::new()).login("the first refresh token").build()?;
/// # let _ = source;
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// # A refresh token is never used twice
/// Before it is sent, the vault says *spending*; before the new access token is handed out, the vault has the new refresh
/// token. A process that dies in between finds *spending* when it starts again. Then it depends:
///
/// - Inside the server's [`grace`](GrantBuilder::grace) the token is sent once more.
/// - Outside of it nobody knows whether the server has spent the token. [`after_crash`](GrantBuilder::after_crash) decides:
///   by default somebody has to log in.
///
/// A request that has been sent goes on for up to 110 s, also when the attempt's own time has ended: the next fetch waits
/// for it, and uses what it brings.
///
/// # Errors of a fetch
/// Those of [`GrantSource`](crate::oauth::GrantSource), and:
///
/// - [`NeedsLogin`], found by [`cause`](SourceError::cause): terminal. The vault's record is dead, or there is none. Nothing is
///   sent until somebody [logs in](Self::log_in).
/// - The vault holds the login of another client, or at another server: terminal, and nothing was sent.
/// - The vault cannot be read or written, or another process holds its lock: transient, and nothing was sent.
/// - It is not known whether the server has spent the refresh token: transient. The next attempt decides as above.
pub struct RefreshToken<V> {
    inner: Arc<Inner<V>>,
}

/// What the exchange that goes on in the background shares with the source.
struct Inner<V> {
    client: Client,
    vault: V,
    /// The common parameters.
    common: Form,
    expected: Expected,
    rules: Rules,
    first: Option<Secret>,
    settings: GrantSettings,
    /// The exchange that is under way, or the last one. Held for a moment.
    running: Mutex<Option<watch::Receiver<Option<Outcome>>>>,
    /// Held for a whole exchange.
    state: tokio::sync::Mutex<State>,
}

/// What this process knows, from one fetch to the next.
struct State {
    memory: Memory,
    /// The names of the last writes of this process.
    writes: Vec<String>,
    /// A record that could not be written, with the newest refresh token in it.
    unsaved: Option<Record>,
}

type Outcome = Result<Token, SourceError>;

/// The settings of [`RefreshToken`] beside the common ones.
#[derive(Clone)]
pub struct RefreshTokenGrant<V> {
    vault: V,
    first: Option<Secret>,
    rules: Rules,
}

impl Client {
    /// Tokens by the refresh token in `vault` (RFC 6749 section 6).
    pub fn refresh_token<V: RefreshTokenStore>(&self, vault: V) -> GrantBuilder<RefreshTokenGrant<V>> {
        GrantBuilder::new(self, RefreshTokenGrant { vault, first: None, rules: Rules::default() })
    }
}

impl<V: RefreshTokenStore> GrantBuilder<RefreshTokenGrant<V>> {
    /// The first refresh token, from a login of the user. It is put into the vault if there is nothing yet; what is there
    /// has precedence, for it is newer. For a new login there is [`log_in`](RefreshToken::log_in). Default: none.
    pub fn login(mut self, refresh_token: impl Into<String>) -> Self {
        self.grant.first = Some(Secret::new(refresh_token));
        self
    }

    /// For how long after its first use the server accepts a refresh token again (Okta: 30 s; Auth0, Keycloak: 0 by
    /// default). A lost answer is survived inside of it, with 5 s to spare. Default: 0.
    pub fn grace(mut self, time: Duration) -> Self {
        self.grant.rules.grace = time;
        self
    }

    /// What is done with a refresh token of which nobody knows whether the server has spent it, outside the grace. Default:
    /// [`AfterCrash::NeedsLogin`].
    pub fn after_crash(mut self, rule: AfterCrash) -> Self {
        self.grant.rules.after_crash = rule;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting that cannot work; the error names it.
    pub fn build(self) -> Result<RefreshToken<V>, BuildError> {
        const LONGEST_GRACE: Duration = Duration::from_secs(3600);
        let (client, settings, grant) = self.into_parts();
        if grant.first.as_ref().is_some_and(|first| first.expose().is_empty()) {
            return Err(BuildError::new("login", "is an empty refresh token"));
        }
        if grant.rules.grace > LONGEST_GRACE {
            return Err(BuildError::new(
                "grace",
                "is longer than an hour: no server accepts a spent token for so long",
            ));
        }
        let (common, expected) = settings.checked(&["refresh_token"])?;
        let state = State { memory: Memory::new(0), writes: Vec::new(), unsaved: None };
        let (state, running) = (tokio::sync::Mutex::new(state), Mutex::default());
        let RefreshTokenGrant { vault, first, rules } = grant;
        let inner = Inner { client, vault, common, expected, rules, first, settings, running, state };
        Ok(RefreshToken { inner: Arc::new(inner) })
    }
}

impl<V: RefreshTokenStore> RefreshToken<V> {
    /// Puts a new login in the place of what is in the vault: after [`NeedsLogin`], with the refresh token of the user's new
    /// login. It waits for an exchange that is under way.
    ///
    /// # Errors
    /// The vault cannot be written, or another process holds its lock for longer than 8 s.
    pub async fn log_in(&self, refresh_token: impl Into<String>) -> Result<(), VaultError> {
        self.inner.log_in(Secret::new(refresh_token).expose()).await
    }
}

impl<V: RefreshTokenStore> Inner<V> {
    fn join_or_start(
        self: &Arc<Self>,
        cx: FetchContext,
    ) -> Result<watch::Receiver<Option<Outcome>>, SourceError> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| SourceError::terminal("an exchange needs a tokio runtime to go on in"))?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // One whose sender is gone has died with its runtime.
        let is_under_way = |running: &watch::Receiver<Option<Outcome>>| {
            running.borrow().is_none() && running.has_changed().is_ok()
        };
        if let Some(running) = running.as_ref().filter(|running| is_under_way(running)) {
            return Ok(running.clone());
        }
        let (done, outcome) = watch::channel(None);
        let inner = Arc::clone(self);
        runtime.spawn(async move {
            let outcome = inner.exchange(&cx).await;
            done.send_replace(Some(outcome));
            inner.save_at_last().await;
        });
        *running = Some(outcome.clone());
        Ok(outcome)
    }
}

impl<V: RefreshTokenStore> TokenSource for RefreshToken<V> {
    /// Starts an exchange, or waits for the one that an earlier fetch has started. It goes on if this future is dropped.
    async fn fetch(&self, cx: FetchContext) -> Outcome {
        let mut running = self.inner.join_or_start(cx)?;
        let outcome = running.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| {
            Err(SourceError::transient(
                "the runtime has ended, and with it the exchange of the refresh token",
            ))
        })
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("grant_type", "refresh_token");
        self.inner.client.identify(part);
        self.inner.settings.identify(part);
        part(super::UNNAMED, "the login in the vault");
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        self.inner.client.credential(part);
    }
}

impl<V> fmt::Debug for RefreshToken<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken")
            .field("client", &self.inner.client)
            .field("rules", &self.inner.rules)
            .finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for RefreshTokenGrant<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshTokenGrant").field("rules", &self.rules).finish_non_exhaustive()
    }
}
