//! The refresh token grant as a source (RFC 6749 section 6), for one-time refresh tokens.

mod bound;
mod guarded;
mod login;
mod needs_login;
mod observe;
mod request;
mod spend;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::{BuildError, SourceError};
use crate::oauth::dpop::DpopKey;
use crate::oauth::rotation::{Memory, Rules};
use crate::oauth::{Client, Expected, GrantBuilder, GrantSettings};
use crate::panics::ContainedFor;
use crate::secret::Secret;
use crate::secret::origin::cut;
use crate::source::{BoxSource, FetchContext, TokenSource};
use crate::token::Token;
use crate::transport::Form;
use crate::vault::{Record, RefreshTokenStore, VaultError};
use guarded::Guarded;
use observe::{Observer, OnNeedsLogin};

pub use crate::oauth::rotation::AfterCrash;
pub use needs_login::NeedsLogin;

/// How long before its time an attempt ends. Therefore its own error comes first.
const MARGIN: Duration = Duration::from_millis(100);

/// Tokens for a user who has logged in elsewhere (RFC 6749 section 6). The refresh token may rotate (RFC 9700
/// section 4.14).
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
/// First *spending* is written into the vault. Then the refresh token is sent. Then the new refresh token is
/// written into the vault. Then the new access token is given out. If the process dies in between, it finds
/// *spending* when it starts again. Then there are two cases:
///
/// - Inside the server's grace period ([`grace`](GrantBuilder::grace)) the token is sent once more.
/// - Outside of it, it is not known whether the server has used the token.
///   [`after_crash`](GrantBuilder::after_crash) decides. By default the user must log in.
///
/// A request that has been sent goes on for up to 110 s, even if the attempt's own time has ended. The next fetch
/// waits for it, and uses its result.
///
/// # Errors of a fetch
/// Those of [`GrantSource`](crate::oauth::GrantSource), and:
///
/// - [`NeedsLogin`], found by [`cause`](SourceError::cause): terminal. The vault's record is dead, or there is
///   none. No request is sent until a user [logs in](Self::log_in).
/// - The vault holds the login of another client, or at another server, or a refresh token that is bound to another
///   `DPoP` key: terminal, and nothing was sent.
/// - The vault cannot be read or written, or another process holds its lock: transient, and nothing was sent.
/// - It is not known whether the server has used the refresh token: [ambiguous](SourceError::is_ambiguous). Another
///   attempt of the same flight follows only inside the grace period, or with [`AfterCrash::TryOnce`].
/// - The attempt's time has ended, and the exchange goes on: ambiguous too, if the refresh token was sent by then.
///
/// A clone is the same source.
pub struct RefreshToken<V> {
    inner: Arc<Inner<V>>,
}

/// The state that the source shares with its exchange in the background.
struct Inner<V> {
    client: Client,
    vault: Guarded<V>,
    /// The common parameters.
    common: Form,
    expected: Expected,
    rules: Rules,
    first: Option<Secret>,
    settings: GrantSettings,
    /// The exchange that is under way, or the last one. The lock is held only briefly.
    running: Mutex<Option<watch::Receiver<Exchange>>>,
    /// Held during a whole exchange.
    state: tokio::sync::Mutex<State>,
}

/// The memory of this process from one fetch to the next.
struct State {
    memory: Memory,
    /// The names of the last writes of this process.
    writes: Vec<String>,
    /// A record that could not be written, with the newest refresh token in it.
    unsaved: Option<Record>,
    /// A user has logged in. If the vault is empty now, it has lost its record, and the first refresh token was used.
    has_login: bool,
    /// Alive while a task continues to write the unsaved record.
    saver: Option<watch::Receiver<()>>,
    /// A key from the vault, which another process had generated.
    found: Option<DpopKey>,
    observer: Observer,
}

type Outcome = Result<Token, SourceError>;

/// The progress of an exchange.
#[derive(Clone, Debug)]
enum Exchange {
    /// Nothing was sent.
    Begun,
    /// The refresh token may have been used.
    Sent,
    Over(Outcome),
}

impl Exchange {
    fn is_over(&self) -> bool {
        matches!(self, Self::Over(_))
    }
}

/// The settings of [`RefreshToken`] beside the common ones.
#[derive(Clone)]
pub struct RefreshTokenGrant<V> {
    vault: V,
    first: Option<Secret>,
    rules: Rules,
    on_needs_login: Option<OnNeedsLogin>,
}

impl Client {
    /// Tokens by the refresh token in `vault` (RFC 6749 section 6).
    pub fn refresh_token<V: RefreshTokenStore>(&self, vault: V) -> GrantBuilder<RefreshTokenGrant<V>> {
        let grant = RefreshTokenGrant { vault, first: None, rules: Rules::default(), on_needs_login: None };
        GrantBuilder::new(self, grant)
    }
}

impl<V: RefreshTokenStore> GrantBuilder<RefreshTokenGrant<V>> {
    /// The first refresh token, from a login of the user. It is put into the vault if the vault is empty. An
    /// existing record has priority, because it is newer. For a new login use [`log_in`](RefreshToken::log_in).
    /// Default: none.
    ///
    /// If the vault is emptied later, this source does not write the first refresh token again. But a restarted
    /// program with an empty vault cannot know that this token was used. Therefore, if the vault may lose its
    /// contents, leave this setting out and log in by `log_in`.
    ///
    /// A line break at the end of the refresh token is cut off with a WARN.
    pub fn login(mut self, refresh_token: impl Into<String>) -> Self {
        self.grant.first = Some(Secret::new(cut("login", Secret::new(refresh_token).expose())));
        self
    }

    /// How long after its first use the server accepts a refresh token again (Okta: 30 s; Auth0, Keycloak: 0 by
    /// default). Inside this time, less 5 s, the loss of an answer does no harm. Default: 0.
    pub fn grace(mut self, time: Duration) -> Self {
        self.grant.rules.grace = time;
        self
    }

    /// The treatment outside the grace period, if it is not known whether the server has used the refresh token.
    /// Default: [`AfterCrash::NeedsLogin`].
    pub fn after_crash(mut self, rule: AfterCrash) -> Self {
        self.grant.rules.after_crash = rule;
        self
    }

    /// Calls this function when the user must log in: once, and again if the reason changes. It runs on the
    /// source's arbiter, so it must not block. Default: no function. There is an ERROR line in the log in any case.
    pub fn on_needs_login(mut self, callback: impl Fn(&NeedsLogin) + Send + Sync + 'static) -> Self {
        self.grant.on_needs_login = Some(Arc::new(callback));
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting that cannot work. The error names the setting.
    pub fn build(self) -> Result<RefreshToken<V>, BuildError> {
        const LONGEST_GRACE: Duration = Duration::from_secs(3600);
        let (client, settings, grant) = self.into_parts();
        if grant.first.as_ref().is_some_and(|first| first.expose().is_empty()) {
            return Err(BuildError::new("login", "is an empty refresh token"));
        }
        if grant.rules.grace > LONGEST_GRACE {
            return Err(BuildError::new(
                "grace",
                "is longer than an hour: no server accepts a used token for that long",
            ));
        }
        let (common, expected) = settings.checked(&["refresh_token"], client.dpop_key().is_some())?;
        let RefreshTokenGrant { vault, first, rules, on_needs_login } = grant;
        let state = State {
            memory: Memory::new(0),
            writes: Vec::new(),
            unsaved: None,
            has_login: false,
            saver: None,
            found: None,
            observer: Observer::new(client.id(), on_needs_login),
        };
        let (state, running) = (tokio::sync::Mutex::new(state), Mutex::default());
        let vault = Guarded::new(vault);
        let inner = Inner { client, vault, common, expected, rules, first, settings, running, state };
        Ok(RefreshToken { inner: Arc::new(inner) })
    }
}

impl<V: RefreshTokenStore> RefreshToken<V> {
    /// Replaces the record in the vault by a new login: after [`NeedsLogin`], with the refresh token of the user's
    /// new login. It waits for an exchange of this source that is under way, which takes up to 110 s.
    ///
    /// # Errors
    /// The refresh token is empty, the vault cannot be written, or another process (or another source) holds its lock for
    /// longer than 8 s.
    pub async fn log_in(&self, refresh_token: impl Into<String>) -> Result<(), VaultError> {
        let refresh_token = Secret::new(refresh_token);
        match cut("log_in", refresh_token.expose()) {
            "" => Err(VaultError::unavailable(
                "nothing was written: `log_in` was called with an empty refresh token",
            )),
            refresh_token => self.inner.log_in(refresh_token).await,
        }
    }

    /// Whether the newest refresh token is only in memory, because the vault cannot be written. The write is tried
    /// again each second. If the process is killed meanwhile, the login is lost. A
    /// [shutdown](crate::TokenHandle::shutdown) waits for the write.
    pub async fn is_unsaved(&self) -> bool {
        self.inner.state.lock().await.unsaved.is_some()
    }
}

impl<V: RefreshTokenStore> Inner<V> {
    fn join_or_start(self: &Arc<Self>, cx: FetchContext) -> Result<watch::Receiver<Exchange>, SourceError> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| SourceError::terminal("an exchange needs a tokio runtime"))?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // If its sender is dropped, the exchange has ended with its runtime.
        let is_under_way = |running: &watch::Receiver<Exchange>| {
            !running.borrow().is_over() && running.has_changed().is_ok()
        };
        if let Some(running) = running.as_ref().filter(|running| is_under_way(running)) {
            return Ok(running.clone());
        }
        let (course, followed) = watch::channel(Exchange::Begun);
        let inner = Arc::clone(self);
        runtime.spawn(async move {
            let exchange = ContainedFor::new(Box::pin(inner.exchange(&cx, &course)));
            let outcome = exchange.await.unwrap_or_else(|| Err(panicked(&course)));
            course.send_replace(Exchange::Over(outcome));
            inner.save_at_last().await;
        });
        *running = Some(followed.clone());
        Ok(followed)
    }

    /// The exchange that this source has begun last.
    fn running(&self) -> Option<watch::Receiver<Exchange>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the exchange that is under way is over, and its result is written.
    async fn at_rest(&self) {
        if let Some(running) = self.running() {
            ended(running).await;
        }
        let saver = self.state.lock().await.saver.clone();
        if let Some(saver) = saver {
            ended(saver).await;
        }
    }
}

/// The outcome of an exchange in which foreign code panicked, such as the clock.
fn panicked(course: &watch::Sender<Exchange>) -> SourceError {
    let what = "the exchange of the refresh token panicked";
    match *course.borrow() {
        Exchange::Sent => SourceError::ambiguous(what),
        _ => SourceError::transient(what),
    }
}

/// Waits until the task with the sender has ended.
async fn ended<T>(mut task: watch::Receiver<T>) {
    while task.changed().await.is_ok() {}
}

/// The outcome of an exchange, if it comes slightly before the attempt's own time is over. `None`: the exchange has
/// ended with its runtime.
async fn outcome_of(mut exchange: watch::Receiver<Exchange>, limit: Option<Duration>) -> Option<Outcome> {
    let margin = |limit: Duration| (limit / 10).min(MARGIN);
    let over = async {
        let over = exchange.wait_for(Exchange::is_over).await;
        over.map(|over| over.clone()).ok()
    };
    let over = match limit {
        Some(limit) => tokio::time::timeout(limit.saturating_sub(margin(limit)), over).await,
        None => Ok(over.await),
    };
    let was_sent = matches!(*exchange.borrow(), Exchange::Sent);
    Some(match over {
        Ok(Some(Exchange::Over(outcome))) => outcome,
        Ok(_) => return None,
        Err(_) if was_sent => Err(SourceError::ambiguous(
            "the refresh token was sent, and there is no answer yet: it is waited for in the background, and the next \
             fetch has what it brings",
        )),
        Err(_) => Err(SourceError::transient(
            "the vault has not answered in time, and nothing was sent: the exchange goes on in the background",
        )),
    })
}

impl<V: RefreshTokenStore> TokenSource for RefreshToken<V> {
    /// Starts an exchange, or waits for the one that an earlier fetch has started. If this future is dropped, the
    /// exchange goes on.
    async fn fetch(&self, cx: FetchContext) -> Outcome {
        // An exchange of another runtime's fetch may end with that runtime. The second exchange is this fetch's
        // own.
        for _ in 0..2 {
            let exchange = self.inner.join_or_start(cx.clone())?;
            if let Some(outcome) = outcome_of(exchange, cx.time_left()).await {
                return outcome;
            }
        }
        Err(SourceError::transient("the runtime has ended, and with it the exchange of the refresh token"))
    }

    /// Waits for an exchange that is under way, and until its refresh token is in the vault.
    async fn finish(&self) {
        self.inner.at_rest().await;
        BoxSource::finish_all(self.inner.client.link()).await;
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

    fn rebind(&self, token: Token) -> Token {
        self.inner.client.rebind(token)
    }
}

impl<V> Clone for RefreshToken<V> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
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
