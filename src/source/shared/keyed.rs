//! The shared source for the keys of a registry: each key has its own place in the store, its own lease and its own
//! news. The store, its connections, its breaker and the counters belong to all keys.
//!
//! This process remembers the newest value that it has seen for a limited number of keys, in two halves. When the
//! younger half is full, the older half is dropped. A forgotten key is like a key that this process has never seen.
//! It is served as before, and loses only the promise that no older token comes back.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use super::breaker::Breaker;
use super::lead::Returns;
use super::parts::{NAME_OF_KEY, Parts};
use super::stats::SharedStats;
use super::{Inner, Own, Settings, SharedSource};
use crate::error::SourceError;
use crate::source::{BoxSource, FetchContext, Group, KeyedSource, TokenSource};
use crate::store::{SharedKey, SharedStore};
use crate::token::Token;

/// The number of keys that are remembered.
const REMEMBERED: usize = 10_000;

/// Wraps the source of a registry's keys, so that all processes with the same store make one auth call per key and
/// token life. Made by [`SharedSourceBuilder::build_keyed`](super::SharedSourceBuilder::build_keyed). It has the
/// promises of a [`SharedSource`](super::SharedSource) for each key.
///
/// - A key that a registry has evicted gets its token from the store without a call.
/// - All keys share the store's connections. A key has a subscription only while a caller waits for it, and all
///   subscriptions are on one connection.
/// - While the store does not answer, it is not used for any key.
pub struct SharedKeys<K, S, St> {
    source: Arc<S>,
    store: Arc<St>,
    settings: Settings,
    /// The user's own parts.
    parts: Vec<(String, Zeroizing<String>)>,
    name: Naming<K>,
    breaker: Arc<Breaker>,
    retry_store: Duration,
    stats: SharedStats,
    returns: Arc<Returns>,
    seen: Mutex<Seen>,
}

pub(super) type Naming<K> = Box<dyn Fn(&K) -> String + Send + Sync>;

/// This process's memory of its keys.
struct Seen {
    younger: HashMap<SharedKey, Arc<Own>>,
    older: HashMap<SharedKey, Arc<Own>>,
    /// The number of keys in each half.
    half: usize,
}

impl Seen {
    fn of(&mut self, key: &SharedKey, make: impl FnOnce() -> Own) -> Arc<Own> {
        if let Some(own) = self.younger.get(key) {
            return Arc::clone(own);
        }
        let own = self.older.remove(key).unwrap_or_else(|| Arc::new(make()));
        if self.younger.len() >= self.half {
            self.older = mem::take(&mut self.younger);
        }
        self.younger.insert(key.clone(), Arc::clone(&own));
        own
    }
}

impl<K, S, St> SharedKeys<K, S, St> {
    pub(super) fn assemble(
        source: S,
        store: St,
        settings: Settings,
        parts: Vec<(String, Zeroizing<String>)>,
        retry_store: Duration,
        name: Naming<K>,
    ) -> Self {
        Self {
            source: Arc::new(source),
            store: Arc::new(store),
            stats: SharedStats::of(&settings.key),
            settings,
            parts,
            name,
            breaker: Arc::new(Breaker::new(retry_store)),
            retry_store,
            returns: Arc::default(),
            seen: Mutex::new(Seen { younger: HashMap::new(), older: HashMap::new(), half: REMEMBERED / 2 }),
        }
    }

    /// The number of keys for which this process remembers the newest token that it has seen. At least 2, default
    /// 10,000. Set it to the registry's [`max_keys`](crate::registry::TokenRegistryBuilder::max_keys).
    pub fn remember(mut self, keys: usize) -> Self {
        self.seen.get_mut().unwrap_or_else(PoisonError::into_inner).half = (keys / 2).max(1);
        self
    }

    /// The counters of all keys together. They can be read after a registry has taken the source.
    pub fn stats(&self) -> SharedStats {
        self.stats.clone()
    }
}

impl<K, S, St> SharedKeys<K, S, St>
where
    K: Clone + Send + Sync + 'static,
    S: KeyedSource<K>,
    St: SharedStore,
{
    /// The shared source of one key.
    async fn of(&self, key: &K) -> Result<SharedSource<OneOf<K, S>, Arc<St>>, SourceError> {
        let source = match self.source.one(key).await? {
            Some(source) => OneOf::Made(source),
            None => OneOf::Asked(Arc::clone(&self.source), key.clone()),
        };
        let place = self.place(key, &source)?;
        let make = || Own { memory: Mutex::default(), patience: Some(Breaker::new(self.retry_store)) };
        let own = self.seen.lock().unwrap_or_else(PoisonError::into_inner).of(&place, make);
        Ok(SharedSource(Arc::new(Inner {
            source,
            store: Arc::clone(&self.store),
            settings: Settings { key: place, ..self.settings.clone() },
            breaker: Arc::clone(&self.breaker),
            stats: self.stats.clone(),
            returns: Arc::clone(&self.returns),
            own,
        })))
    }

    /// The place of the key's token in the store. The user's name for the key is a separate part.
    fn place(&self, key: &K, source: &OneOf<K, S>) -> Result<SharedKey, SourceError> {
        let known = Parts::of(|part| source.identify(part));
        known.check_shared().map_err(SourceError::terminal)?;
        known.check_named(!self.parts.is_empty()).map_err(SourceError::terminal)?;
        let name = Zeroizing::new((self.name)(key));
        let parts = known.named.iter().map(|(part, value)| (part.as_str(), value.as_str()));
        let user = self.parts.iter().map(|(part, value)| (part.as_str(), value.as_str()));
        let all = parts.chain(user).chain([(NAME_OF_KEY, name.as_str())]);
        self.settings.ring.place(self.settings.key.name(), all).map_err(SourceError::terminal)
    }
}

impl<K, S, St> KeyedSource<K> for SharedKeys<K, S, St>
where
    K: Clone + Send + Sync + 'static,
    S: KeyedSource<K>,
    St: SharedStore,
{
    async fn fetch(&self, key: &K, cx: FetchContext) -> Result<Token, SourceError> {
        self.of(key).await?.fetch(cx).await
    }

    fn group(&self, key: &K) -> Option<Group> {
        self.source.group(key)
    }

    fn client(&self, key: &K) -> Option<Group> {
        self.source.client(key)
    }

    async fn look(&self, key: &K, cx: FetchContext) -> Option<Token> {
        self.of(key).await.ok()?.look(cx).await
    }

    fn can_look(&self) -> bool {
        true
    }

    async fn finish(&self) {
        self.source.finish().await;
        self.returns.end(self.settings.store_timeout).await;
    }

    fn identify(&self, key: &K, part: &mut dyn FnMut(&str, &str)) {
        self.source.identify(key, part);
    }

    fn identify_all(&self, part: &mut dyn FnMut(&str, &str)) {
        self.source.identify_all(part);
    }

    fn credential(&self, key: &K, part: &mut dyn FnMut(&[u8])) {
        self.source.credential(key, part);
    }

    fn rebind(&self, key: &K, token: Token) -> Token {
        self.source.rebind(key, token)
    }
}

impl<K, S, St> fmt::Debug for SharedKeys<K, S, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedKeys").field("name", &self.settings.key.name()).finish_non_exhaustive()
    }
}

/// One key's part of a source for many keys.
pub(super) enum OneOf<K, S> {
    /// Made for one call.
    Made(BoxSource),
    /// Asked for the key.
    Asked(Arc<S>, K),
}

impl<K: Send + Sync + 'static, S: KeyedSource<K>> TokenSource for OneOf<K, S> {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        match self {
            Self::Made(source) => source.fetch(cx).await,
            Self::Asked(source, key) => source.fetch(key, cx).await,
        }
    }

    async fn finish(&self) {
        match self {
            Self::Made(source) => source.finish().await,
            Self::Asked(source, _) => source.finish().await,
        }
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        match self {
            Self::Made(source) => source.identify(part),
            Self::Asked(source, key) => source.identify(key, part),
        }
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Made(source) => source.credential(part),
            Self::Asked(source, key) => source.credential(key, part),
        }
    }

    fn rebind(&self, token: Token) -> Token {
        match self {
            Self::Made(source) => source.rebind(token),
            Self::Asked(source, key) => source.rebind(key, token),
        }
    }
}
