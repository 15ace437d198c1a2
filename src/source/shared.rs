//! One auth call for a fleet of processes: a source that shares what the wrapped one fetches.
//!
//! The order of the steps is the argument:
//!
//! 1. **Listen, then look.** Whatever happens after the look is heard, so a waiter cannot sleep through it.
//! 2. **Look and lease in one step.** There is no moment between "no token" and "mine to fetch" in which
//!    somebody else's token could come; who gets the lease has looked inside it.
//! 3. **Fetch while the lease is renewed**, so that it may be short: what runs out is the lease of the dead.
//! 4. **Commit only under one's own lease.** An owner who was suspended past the lease's end comes late; their
//!    commit is refused, and they take the token that came instead.
//! 5. **Tell last.** Who hears the news finds the token there, and needs one look to have it.
//!
//! A waiter looks again when there is news, or when the lease has run out: never for anything else.
//! No step is needed for a correct token. Without the store, each process refreshes for itself.

mod breaker;
mod builder;
mod envelope;
mod lead;
mod seal;
mod stats;
mod verdict;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::error::SourceError;
use crate::source::{FetchContext, Reason, TokenSource};
use crate::store::{Ask, Failure, Look, News, Pause, SharedKey, SharedStore, StoreError};
use crate::token::Token;

use breaker::Breaker;
pub use builder::{OnOutage, SharedSourceBuilder};
use lead::random_name;
use seal::KeyRing;
pub use seal::SealKey;
use stats::Count;
pub use stats::SharedStats;

/// Wraps a source, so that all processes with the same store and the same key make one auth call per token
/// life. A source like any other: give it to [`TokenActor::builder`](crate::TokenActor::builder).
///
/// ```
/// use tokenflight::source::{SealKey, SharedSource};
/// use tokenflight::store::MemoryStore;
/// use tokenflight::{Token, source_fn};
///
/// # use std::hash::{BuildHasher, Hasher, RandomState};
/// # let digits = || format!("{:016x}", RandomState::new().build_hasher().finish());
/// # let key_from_your_secret_store = &[digits(), digits(), digits(), digits()].concat();
/// let fetches = source_fn(|_cx| async { Ok(Token::new("abc")) });
/// let source = SharedSource::builder("orders-api")
///     .part("issuer", "https://auth.example.com")
///     .part("client", "my-app")
///     .part("scope", "orders.read")
///     .key(SealKey::from_hex("2026-11", key_from_your_secret_store)?)
///     .build(fetches, MemoryStore::new())?; // for processes: `store::RedisStore`, feature `redis`
/// # let _ = source;
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// - A token that the API rejected in one process is taken from the store and replaced once, for all.
/// - A forced refresh takes a token that another process has fetched since.
/// - A failed refresh is shared: the fleet respects one cooldown, and one `Retry-After`.
/// - While the store does not answer, each process refreshes for itself ([`OnOutage`]), and asks the store
///   again only now and then. A token that is still good is served by the actor without any of this.
/// - The store gives efficiency, not mutual exclusion: see [`SharedStore`].
pub struct SharedSource<S, St>(Arc<Inner<S, St>>);

pub(super) struct Inner<S, St> {
    source: S,
    store: St,
    settings: Settings,
    breaker: Breaker,
    stats: SharedStats,
    memory: Mutex<Memory>,
}

struct Settings {
    ring: KeyRing,
    key: SharedKey,
    lease: Duration,
    wait_limit: Duration,
    store_timeout: Duration,
    min_validity: Option<Duration>,
    missing_lifetime: Duration,
    cooldown: Duration,
    max_cooldown: Duration,
    max_retry_after: Duration,
    on_outage: OnOutage,
    clock: Arc<dyn Clock>,
}

/// What the last fetch left behind.
#[derive(Default)]
struct Memory {
    /// The token handed out last, and its id in the store.
    held: Option<(Token, String)>,
    /// The id of the value that did not open, once that has been reported.
    unopened: Option<String>,
}

impl SharedSource<(), ()> {
    /// Starts from a name for people: what the token is for. It is part of the key in the store.
    pub fn builder(name: impl Into<String>) -> SharedSourceBuilder {
        SharedSourceBuilder::new(name.into())
    }
}

impl<S, St> SharedSource<S, St> {
    fn assemble(source: S, store: St, settings: Settings, retry_store: Duration) -> Self {
        Self(Arc::new(Inner {
            source,
            store,
            settings,
            breaker: Breaker::new(retry_store),
            stats: SharedStats::default(),
            memory: Mutex::default(),
        }))
    }

    /// Its counters, which can be read after an actor has taken the source.
    pub fn stats(&self) -> SharedStats {
        self.0.stats.clone()
    }

    /// What its token is kept under.
    pub fn key(&self) -> &SharedKey {
        &self.0.settings.key
    }
}

/// The end of an attempt: its result, or the store's refusal to take part in it.
type Attempt = Result<Result<Token, SourceError>, StoreError>;

impl<S: TokenSource, St: SharedStore> TokenSource for SharedSource<S, St> {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let inner = &self.0;
        let open_for = inner.breaker.open_for(inner.now().boot);
        if !open_for.is_zero() {
            return inner.without_store(cx, open_for).await;
        }
        match inner.with_store(&cx).await {
            Ok(result) => result,
            Err(error) => {
                inner.note_outage(&error);
                inner.without_store(cx, inner.breaker.open_for(inner.now().boot)).await
            }
        }
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        self.0.source.identify(part);
    }
}

impl<S: TokenSource, St: SharedStore> Inner<S, St> {
    /// Steps 1 and 2, until there is a token, a reason why not, or a lease.
    async fn with_store(self: &Arc<Self>, cx: &FetchContext) -> Attempt {
        let started = self.now().boot;
        let key = &self.settings.key;
        let mut news = self.in_time(self.store.watch(key)).await?;
        let mut ask = Ask {
            owner: random_name()?,
            lease: self.settings.lease,
            refused: self.id_of(cx.previous.as_ref()),
            discard: cx.reason == Reason::Rejected,
        };
        loop {
            let look = self.in_time(self.store.look_or_lease(key, &ask)).await?;
            if self.breaker.answered() {
                log::info!(target: "tokenflight", "shared {}: the store answers again", key.as_str());
            }
            match look {
                Look::Found(stored) => match self.judge(&stored, cx) {
                    Ok(token) => {
                        self.stats.count(Count::Adopted);
                        self.remember(&token, stored.id);
                        return Ok(Ok(token));
                    }
                    // The next look takes the lease, unless something else has come meanwhile.
                    Err(_) => ask.refused = Some(stored.id),
                },
                Look::Paused(pause) => return Ok(Err(paused(pause))),
                Look::Leased(lease) => return Ok(self.lead(cx, lease).await),
                Look::Taken(left) => {
                    let waited = self.now().boot.saturating_sub(started);
                    let patience = cx.at_most(self.settings.wait_limit.saturating_sub(waited));
                    if patience.is_zero() {
                        return Ok(Err(SourceError::transient(
                            "another process has been refreshing too long",
                        )));
                    }
                    self.wait(&mut news, left, patience).await;
                }
            }
        }
    }

    /// Until there is news, or the lease has run out.
    async fn wait(&self, news: &mut News, left: Duration, patience: Duration) {
        /// Clocks are not read at the same moment: a look that comes too early would be one for nothing.
        const GRACE: Duration = Duration::from_millis(10);
        let limit = left.saturating_add(GRACE).min(patience);
        match tokio::time::timeout(limit, news.next()).await {
            Ok(()) => self.stats.count(Count::Pushes),
            Err(_) => self.stats.count(Count::Polls),
        }
    }

    async fn without_store(&self, cx: FetchContext, open_for: Duration) -> Result<Token, SourceError> {
        match self.settings.on_outage {
            OnOutage::RefreshLocally => {
                self.stats.count(Count::Local);
                self.source.fetch(cx).await
            }
            OnOutage::Fail => {
                Err(SourceError::transient("the shared store does not answer").with_retry_after(open_for))
            }
        }
    }

    fn note_outage(&self, error: &StoreError) {
        self.stats.count(Count::StoreErrors);
        if self.breaker.failed(self.now().boot) {
            log::warn!(target: "tokenflight", "shared {}: {error}; doing without it", self.settings.key.as_str());
        }
    }

    /// An operation of the store that takes too long has failed.
    async fn in_time<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit = self.settings.store_timeout;
        tokio::time::timeout(limit, operation)
            .await
            .unwrap_or_else(|_| Err(StoreError::new(format!("no answer within {limit:?}"))))
    }

    fn failure(&self, error: Option<&SourceError>) -> Failure {
        let requested = error.and_then(SourceError::retry_after).unwrap_or_default();
        Failure {
            terminal: error.is_some_and(SourceError::is_terminal),
            at_least: requested.min(self.settings.max_retry_after),
            first: self.settings.cooldown,
            limit: self.settings.max_cooldown,
        }
    }

    fn remember(&self, token: &Token, id: String) {
        self.memory().held = Some((token.clone(), id));
    }

    /// The id in the store of the token that is to be replaced, if it is the one handed out last.
    fn id_of(&self, previous: Option<&Token>) -> Option<String> {
        let memory = self.memory();
        let (token, id) = memory.held.as_ref()?;
        previous.is_some_and(|previous| previous.is_same(token)).then(|| id.clone())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.settings.clock.now()
    }
}

fn paused(Pause { terminal, left }: Pause) -> SourceError {
    let message = format!("a refresh failed in the fleet; the next one is in {left:?}");
    let error = if terminal { SourceError::terminal(message) } else { SourceError::transient(message) };
    error.with_retry_after(left)
}

impl<S, St> fmt::Debug for SharedSource<S, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSource").field("key", &self.key()).finish_non_exhaustive()
    }
}
