//! One auth call for a fleet of processes: a source that shares the tokens of the wrapped source.
//!
//! The order of the steps ensures correctness:
//!
//! 1. **Listen, then look.** A waiter gets news of everything after its look. Therefore it misses nothing.
//! 2. **Look and lease in one step.** No other process's token can arrive between "no token" and "this process may
//!    fetch". The process with the lease has looked in the same step.
//! 3. **Fetch while the lease is renewed.** Therefore the lease may be short: only the lease of a dead process runs
//!    out.
//! 4. **Commit only under the process's own lease.** An owner that was suspended past the lease's end is late. Its
//!    commit is refused, and it takes the token that another process has committed.
//! 5. **Send the news last.** A process that gets the news finds the token, with one look.
//!
//! A waiter looks again when there is news, or when the lease has run out, and at no other time.
//! No step is needed for a correct token. Without the store, each process refreshes for itself.
//!
//! The store is not trusted. Its values are sealed, and contain the times when they were made and when they end
//! (`seal`, `record`, `envelope`). A writer to the store without the key can cost calls, and can delay an attempt
//! by its patience (`visit`). It cannot forge a token, a lease or a pause. It also cannot bring a token back to a
//! process that has seen a newer one (`memory`, `verdict`).
//!
//! A failure is shared among the processes that it concerns (`lead`). A refusal leaves a mark of the credential,
//! and concerns the processes with this credential. Any other failure is a pause for all processes. An attempt
//! waits until the pause ends.

mod breaker;
mod builder;
mod envelope;
#[cfg(all(feature = "oauth2", feature = "redis", any(test, fuzzing)))]
pub(crate) mod fuzzing;
#[cfg(feature = "registry")]
mod keyed;
mod lead;
mod memory;
mod parts;
mod record;
pub(crate) mod seal;
mod stats;
mod verdict;
mod visit;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::{Clock, Timestamp};
use crate::error::SourceError;
use crate::panics::ContainedFor;
use crate::source::{FetchContext, TokenSource};
use crate::store::{SharedKey, SharedStore, StoreError};
use crate::token::Token;

use breaker::Breaker;
pub use builder::{OnOutage, SharedSourceBuilder};
#[cfg(feature = "registry")]
pub use keyed::SharedKeys;
use lead::Returns;
use memory::{Memory, Newest};
use seal::KeyRing;
pub use seal::SealKey;
use stats::Count;
pub use stats::SharedStats;
use visit::Visit;

/// Wraps a source, so that all processes with the same store and the same key make one auth call per token life. It
/// is a source like any other: pass it to [`TokenActor::builder`](crate::TokenActor::builder).
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
/// - A token that the API rejected in one process is replaced once, for all. The other processes keep it until
///   then.
/// - A forced refresh takes a token that another process has fetched since.
/// - A failed refresh is shared among the processes that it concerns: the fleet respects one cooldown and one
///   `Retry-After`. A refusal concerns the processes that send the same credential ([`TokenSource::credential`]).
/// - Values that a writer without the key has put into the store are deleted, and counted
///   ([`SharedStats::mended`]). A process never gets a token that is older than one it has seen.
/// - While the store does not answer, each process refreshes for itself ([`OnOutage`]), and tries the store again
///   only from time to time. The actor serves a usable token without the store.
/// - The store gives efficiency, not mutual exclusion: see [`SharedStore`].
pub struct SharedSource<S, St>(Arc<Inner<S, St>>);

pub(super) struct Inner<S, St> {
    source: S,
    store: St,
    settings: Settings,
    /// For all keys of this process.
    breaker: Arc<Breaker>,
    stats: SharedStats,
    /// For all keys of this process.
    returns: Arc<Returns>,
    own: Arc<Own>,
}

/// This process's memory of one key.
struct Own {
    memory: Mutex<Memory>,
    /// Waits without success, which concern only this key. `None`: the key is the only one, and uses the breaker of the store.
    patience: Option<Breaker>,
}

#[derive(Clone)]
struct Settings {
    ring: Arc<KeyRing>,
    key: SharedKey,
    lease: Duration,
    wait_limit: Option<Duration>,
    store_timeout: Duration,
    min_validity: Option<Duration>,
    missing_lifetime: Duration,
    cooldown: Duration,
    max_cooldown: Duration,
    max_retry_after: Duration,
    on_outage: OnOutage,
    clock: Arc<dyn Clock>,
}

impl SharedSource<(), ()> {
    /// Begins with a name for human readers: the purpose of the token. It is part of the key in the store.
    pub fn builder(name: impl Into<String>) -> SharedSourceBuilder {
        SharedSourceBuilder::new(name.into())
    }
}

impl<S, St> SharedSource<S, St> {
    fn assemble(source: S, store: St, settings: Settings, retry_store: Duration) -> Self {
        Self(Arc::new(Inner {
            source,
            store,
            breaker: Arc::new(Breaker::new(retry_store)),
            stats: SharedStats::of(&settings.key),
            settings,
            returns: Arc::default(),
            own: Arc::new(Own { memory: Mutex::default(), patience: None }),
        }))
    }

    /// The counters. They can be read after an actor has taken the source.
    pub fn stats(&self) -> SharedStats {
        self.0.stats.clone()
    }

    /// The key of its token in the store.
    pub fn key(&self) -> &SharedKey {
        &self.0.settings.key
    }
}

/// The end of an attempt: its result, or the reason why the store is not used.
type Attempt = Result<Result<Token, SourceError>, StoreError>;

impl<S: TokenSource, St: SharedStore> TokenSource for SharedSource<S, St> {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let inner = &self.0;
        note_asked(&cx, false);
        let open_for = inner.open_for();
        if !open_for.is_zero() {
            return inner.without_store(cx, open_for).await;
        }
        match Visit::new(inner, &cx).run().await {
            Ok(result) => result,
            Err(error) => {
                inner.note_outage(&error);
                inner.without_store(cx, inner.open_for()).await
            }
        }
    }

    /// A token that another process has committed since.
    async fn look(&self, cx: FetchContext) -> Option<Token> {
        let inner = &self.0;
        if !inner.open_for().is_zero() {
            return None;
        }
        let stored = inner.in_time(St::load).await.ok()??;
        inner.adopt(stored, &cx).ok()
    }

    fn can_look(&self) -> bool {
        true
    }

    async fn finish(&self) {
        self.0.source.finish().await;
        self.0.returns.end(self.0.settings.store_timeout).await;
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        self.0.source.identify(part);
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        self.0.source.credential(part);
    }

    fn rebind(&self, token: Token) -> Token {
        self.0.source.rebind(token)
    }
}

impl<S: TokenSource, St: SharedStore> Inner<S, St> {
    async fn without_store(&self, cx: FetchContext, open_for: Duration) -> Result<Token, SourceError> {
        match self.settings.on_outage {
            OnOutage::RefreshLocally => {
                self.stats.count(Count::Local);
                let sent = self.now();
                note_asked(&cx, true);
                let token = self.source.fetch(cx).await?;
                self.hold_own(&token, sent);
                Ok(token)
            }
            OnOutage::Fail => {
                Err(SourceError::transient("the shared store does not answer").with_retry_after(open_for))
            }
        }
    }

    /// Records a token that was fetched without the store. Older tokens in the store are not accepted any more.
    fn hold_own(&self, token: &Token, sent: Timestamp) {
        let by_wall = || sent.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut memory = self.memory();
        let fetched = memory.clock_at(sent.boot).unwrap_or_else(by_wall);
        let age = Newest { fence: memory.newest.fence, fetched, own: true };
        memory.hold(token, None, age);
    }

    /// How long the store is not used, for all keys or for this one.
    fn open_for(&self) -> Duration {
        let now = self.now().boot;
        let own = self.own.patience.as_ref().map(|patience| patience.open_for(now));
        self.breaker.open_for(now).max(own.unwrap_or_default())
    }

    fn note_outage(&self, error: &StoreError) {
        self.stats.count(Count::StoreErrors);
        let now = self.now().boot;
        if let Some(patience) = self.own.patience.as_ref().filter(|_| visit::is_of_one_key(error)) {
            patience.failed(now);
            return;
        }
        if self.breaker.failed(now) {
            log::warn!(target: "tokenflight", "shared {}: {error}; going on without the store", self.shown());
        }
    }

    fn note_answer(&self) {
        if let Some(patience) = &self.own.patience {
            patience.answered();
        }
        if self.breaker.answered() {
            log::warn!(target: "tokenflight", "shared {}: the store answers again", self.shown());
        }
    }

    /// The store contains a value that no holder of the key has written. Logged once, until a token is taken from
    /// the store or stored. With many keys, the first one is logged.
    fn report_fault(&self, number: u64) {
        let is_first = self.stats.mended() == 0;
        self.stats.add(Count::Mended, number);
        let is_told = std::mem::replace(&mut self.memory().fault_reported, true);
        if if self.is_one_of_many() { is_first } else { !is_told } {
            let key = self.shown();
            log::warn!(target: "tokenflight", "shared {key}: the store holds a value that no process with the key has written; deleting it");
        }
    }

    fn is_one_of_many(&self) -> bool {
        self.own.patience.is_some()
    }

    /// The name in the log. With many keys, no key is named.
    fn shown(&self) -> &str {
        let key = &self.settings.key;
        if self.is_one_of_many() { key.name() } else { key.as_str() }
    }

    /// If an operation of the store panics or takes too long, it has failed.
    async fn in_time<'a, T, F>(
        &'a self,
        operation: impl FnOnce(&'a St, &'a SharedKey) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let limit = self.settings.store_timeout;
        // The call itself is foreign code too: it runs when this future is polled.
        let answering = async { operation(&self.store, &self.settings.key).await };
        match tokio::time::timeout(limit, ContainedFor::new(Box::pin(answering))).await {
            Ok(answer) => answer.unwrap_or_else(|| Err(StoreError::new("the store panicked"))),
            Err(_) => Err(StoreError::new(format!("no answer within {limit:?}"))),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.own.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.settings.clock.now()
    }
}

/// Tells a registry's gate whether the auth server was called. Results of the store tell nothing about the auth
/// server.
#[cfg_attr(not(feature = "registry"), allow(unused_variables))]
fn note_asked(cx: &FetchContext, is_asked: bool) {
    #[cfg(feature = "registry")]
    cx.note_asked(is_asked);
}

impl<S, St> fmt::Debug for SharedSource<S, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSource").field("key", &self.key()).finish_non_exhaustive()
    }
}
