//! A token for each of many keys: a tenant, a user, a scope, an audience.
//!
//! A [`TokenRegistry`] keeps every promise of a [`TokenActor`](crate::TokenActor) for each key, and some promises
//! for all keys together. It keeps at most a fixed number of keys. It makes at most a fixed number of calls at
//! once. An auth server that is down gets a few calls, not one for each key.
//!
//! ```
//! use tokenflight::registry::TokenRegistry;
//! use tokenflight::{FetchContext, Token};
//!
//! # actix_rt::System::new().block_on(async {
//! let source = |tenant: u64, _cx: FetchContext| async move { Ok(Token::new(format!("token-of-{tenant}"))) };
//! let tokens = TokenRegistry::builder(source).max_keys(1_000).start()?;
//!
//! assert!(tokens.current(&7).is_none());
//! assert_eq!(tokens.get(&7).await?.secret(), "token-of-7");
//! assert_eq!(tokens.current(&7).unwrap().secret(), "token-of-7");
//! assert_eq!(tokens.len(), 1);
//! # tokens.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # How it works
//!
//! A [`KeyedSource`] gets the token of a key: a closure, a grant of OAuth for each key, or your own type. Keys that
//! share a [`Group`] share a part of the calls.
//!
//! Keys are spread over *shards*, one actor for each of the given arbiters. A shard drives the machines of its
//! keys. A key at rest is a small record. A read of its token needs no lock, no message and no allocation.
//! `docs/registry.md` in the repository has the rules, with the reason for each number.
//!
//! # Limits
//!
//! | limit | default | beyond it |
//! |---|---|---|
//! | [`max_keys`](TokenRegistryBuilder::max_keys) | 10,000 | a key that was not used recently is evicted; its next use costs a call |
//! | [`max_busy_keys`](TokenRegistryBuilder::max_busy_keys) | `max_keys` | [`is_too_many_keys`](crate::TokenError::is_too_many_keys) |
//! | [`max_waiters`](TokenRegistryBuilder::max_waiters), all keys together | 262,144 | [`is_overloaded`](crate::TokenError::is_overloaded) |
//! | [`RefreshPolicy::max_waiters`](crate::RefreshPolicy::max_waiters), one key | 65,536 | the same |
//! | [`idle_timeout`](TokenRegistryBuilder::idle_timeout) | 1 h | the key is evicted |
//! | [`max_calls`](TokenRegistryBuilder::max_calls) | 16 | the call waits for its turn |
//! | [`max_calls_per_group`](TokenRegistryBuilder::max_calls_per_group) | half of `max_calls` | the same |
//!
//! A key that is kept remembers its last 1,024 discarded tokens. Of the keys that are not kept, the last 256 discarded
//! tokens are remembered.

mod arrivals;
mod builder;
mod cell;
mod common;
#[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
mod evidences;
#[cfg(feature = "shared")]
mod fleet;
mod gate;
mod get;
mod handle;
mod message;
mod observe;
mod seats;
mod shard;
mod status;
mod unkept;
mod verdict;
mod window;

use std::fmt;
use std::sync::Arc;

use actix::Recipient;
use tokio::sync::oneshot;

use crate::actor::Status;
use crate::error::TokenError;
use crate::flight::Rejection;
pub use crate::source::{Group, KeyedSource};
use crate::sync::Ordering;
use crate::token::Token;

pub use builder::{RegistryLimits, TokenRegistryBuilder};
#[cfg(feature = "shared")]
pub use fleet::{FleetCalls, FleetCallsSettings};
pub use get::KeyGet;
pub use handle::KeyHandle;
pub use message::TokenReady;
pub use shard::Key;
pub use status::RegistryStatus;

use arrivals::Place;
use common::Common;
use get::Asking;
use message::{Caller, Keeps, Reply, Subscriber, ToShard};
use seats::{Searching, Seat};
use shard::Door;

/// A token for each of many keys. See the [module](self).
///
/// It can be used from any thread and any runtime. It lives until it is [shut down](Self::shutdown), or its
/// arbiters stop, or its last clone is dropped and no caller waits any more. A clone costs one reference count.
pub struct TokenRegistry<K: Key>(Arc<Inner<K>>);

struct Inner<K: Key> {
    common: Arc<Common<K>>,
    doors: Vec<Door<K>>,
}

/// A future that waits for a token does not keep the registry alive.
struct WeakRegistry<K: Key>(std::sync::Weak<Inner<K>>);

impl<K: Key> WeakRegistry<K> {
    fn upgrade(&self) -> Option<TokenRegistry<K>> {
        self.0.upgrade().map(TokenRegistry)
    }
}

impl<K: Key> TokenRegistry<K> {
    fn downgrade(&self) -> WeakRegistry<K> {
        WeakRegistry(Arc::downgrade(&self.0))
    }

    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    pub(crate) fn is_discarded(&self, key: &K, token: &Token) -> bool {
        self.0.common.cells.is_discarded(key, token)
    }

    /// Begins the settings of a registry that gets its tokens from `source`.
    pub fn builder(source: impl KeyedSource<K>) -> TokenRegistryBuilder<K> {
        TokenRegistryBuilder::new(source)
    }

    /// The key's token, if there is a usable one. This function is lock-free, never blocks, and never makes the
    /// caller wait for the source. A read near the token's end starts a refresh in the background. Also `None`
    /// while the token is [withheld](Self::invalidate).
    #[inline]
    pub fn current(&self, key: &K) -> Option<Token> {
        let read = self.0.common.cells.read(key);
        if read.reports {
            self.near_end(key);
        }
        read.token
    }

    /// A usable token for the key: the current one at once, otherwise the outcome of the key's flight under way, or
    /// of a new flight.
    ///
    /// The token is read when `get` is called. If it is not usable, the future waits, from its first poll on.
    /// Dropping the future does not affect the flight.
    ///
    /// # Errors
    /// As for [`TokenHandle::get`](crate::TokenHandle::get). While the auth server fails for several keys, a caller
    /// gets the auth server's error at once. There is one more error:
    /// [`is_too_many_keys`](TokenError::is_too_many_keys).
    pub fn get(&self, key: &K) -> KeyGet<K> {
        match self.current(key) {
            Some(token) => KeyGet::ready(Ok(token)),
            None => KeyGet::asking(self.clone(), key.clone(), Asking::Want),
        }
    }

    /// "An API answered 401 to this token of this key": see [`TokenHandle::replace`](crate::TokenHandle::replace).
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn replace(&self, key: &K, token: &Token) -> Result<Token, TokenError> {
        self.rejected(key, token, Rejection::default()).await
    }

    /// [`rejected`](Self::rejected), without waiting for the outcome, and without waiting for a seat.
    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    pub(crate) fn report(&self, key: &K, token: &Token, rejection: Rejection) {
        let seats = &self.0.common.seats;
        if let Some(seat) = seats.take() {
            drop(self.ask(key.clone(), Asking::Replace(token.clone(), rejection), seat));
        } else {
            self.search_for(None);
            seats.count_overload();
        }
    }

    /// The evidence of a middleware about the tokens of one key.
    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    pub(crate) fn evidence(&self, key: &K) -> Arc<crate::evidence::Evidence> {
        let common = &self.0.common;
        crate::sync::lock(&common.evidences).of(key, || {
            let clock = Arc::clone(common.cells.clock());
            crate::evidence::Evidence::new(Arc::clone(&common.name), common.policy.settle_rule(), clock)
        })
    }

    pub(crate) async fn rejected(
        &self,
        key: &K,
        token: &Token,
        rejection: Rejection,
    ) -> Result<Token, TokenError> {
        KeyGet::asking(self.clone(), key.clone(), Asking::Replace(token.clone(), rejection)).await
    }

    /// "An API answered 401 to this token of this key", from a handler that does [`get`](Self::get) again afterwards: see
    /// [`TokenHandle::invalidate`](crate::TokenHandle::invalidate).
    pub fn invalidate(&self, key: &K, token: &Token) {
        let Some(by_name) = self.0.common.cells.invalidate(key, token) else { return };
        let key = key.clone();
        self.send(if by_name {
            ToShard::Invalidate { key, token: token.clone() }
        } else {
            ToShard::Reported { key }
        });
    }

    /// "This token of this key is compromised": it is never given out again, also after the key has been evicted or
    /// removed. See [`TokenHandle::discard`](crate::TokenHandle::discard). A key that is kept remembers its last 1,024
    /// discarded tokens. Of all keys that are not kept, the last 256 are remembered.
    pub fn discard(&self, key: &K, token: &Token) {
        self.0.common.cells.discard(key, token);
        self.send(ToShard::Discard { key: key.clone() });
    }

    /// A new token for the key, even if the old one is still usable: see [`Refresh`](crate::Refresh).
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn refresh(&self, key: &K) -> Result<Token, TokenError> {
        KeyGet::asking(self.clone(), key.clone(), Asking::Refresh).await
    }

    /// Subscribes to a [`TokenReady`] that names the key. It is sent exactly once: see
    /// [`Subscribe`](crate::Subscribe). A subscription is the key, the recipient and the ticket. Beyond `max_waiters`
    /// the answer is the token, if there is a usable one, and otherwise an error that
    /// [`is_overloaded`](TokenError::is_overloaded).
    pub fn subscribe(&self, key: K, recipient: impl Into<Recipient<TokenReady<K>>>, ticket: u64) {
        // The shard knows whether the same subscription waits already. Therefore it also answers without a seat.
        let seats = Arc::clone(&self.0.common.seats);
        let seat = seats.take();
        if seat.is_none() {
            self.search_for(None);
        }
        let subscriber = Subscriber { key: key.clone(), ticket, recipient: recipient.into(), seat, seats };
        self.want(key, crate::actor::Ticket::keyed(subscriber));
    }

    /// A handle for one key, for the middlewares and for code without keys. It stores nothing: the key may be
    /// evicted, and comes back with its next use.
    pub fn handle(&self, key: K) -> KeyHandle<K> {
        KeyHandle::new(self.clone(), key)
    }

    /// Forgets the key and its token, but not its [discarded](Self::discard) tokens. Its waiters get an error that [`is_stopped`](TokenError::is_stopped). Returns
    /// whether the key was kept.
    pub async fn remove(&self, key: &K) -> bool {
        let (done, removed) = Reply::channel();
        self.send(ToShard::Remove { key: key.clone(), done });
        removed.await.unwrap_or_default()
    }

    /// [Removes](Self::remove) the keys for which `keeps` returns false. It runs on the arbiters of the shards.
    /// Returns how many were removed.
    pub async fn retain(&self, keeps: impl FnMut(&K) -> bool + Clone + Send + 'static) -> usize {
        let mut gone = 0;
        for door in &self.0.doors {
            let (done, removed) = Reply::channel();
            door.do_send(ToShard::Retain { keeps: Keeps::new(keeps.clone()), done });
            gone += removed.await.unwrap_or_default();
        }
        gone
    }

    /// How many keys it keeps.
    pub fn len(&self) -> usize {
        self.0.common.cells.keys.load(Ordering::Relaxed)
    }

    /// Whether it keeps no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key's present state, and its counters. A key that is not kept has the status of a key that was never used.
    ///
    /// # Errors
    /// [`is_stopped`](TokenError::is_stopped).
    pub async fn status(&self, key: &K) -> Result<Status, TokenError> {
        let (done, status) = Reply::channel();
        self.send(ToShard::Status { key: key.clone(), done });
        status.await.map_err(|_| TokenError::stopped())
    }

    /// The present state and the counters of all keys together.
    ///
    /// # Errors
    /// [`is_stopped`](TokenError::is_stopped).
    pub async fn totals(&self) -> Result<RegistryStatus, TokenError> {
        let mut totals = RegistryStatus::default();
        for door in &self.0.doors {
            let (done, status) = Reply::channel();
            door.do_send(ToShard::Totals { done });
            totals = totals.with(status.await.map_err(|_| TokenError::stopped())?);
        }
        totals.counters.overloads += self.0.common.seats.overloads();
        Ok(totals)
    }

    /// Answers all waiters, then stops. Returns when all have been answered, the source has finished, and the slots
    /// of a fleet have been given back, which takes at most 2 s.
    pub async fn shutdown(&self) {
        let (mut ends, mut others) = (Vec::new(), Vec::new());
        // The first shard comes last: it lets the source finish when the others have given up their calls.
        for (number, door) in self.0.doors.iter().enumerate().rev() {
            let (done, end) = Reply::channel();
            ends.push(end);
            door.do_send(if number == 0 {
                ToShard::Shutdown { done, quiet: None, others: std::mem::take(&mut others) }
            } else {
                let (quiet, is_quiet) = oneshot::channel();
                others.push(is_quiet);
                ToShard::Shutdown { done, quiet: Some(quiet), others: Vec::new() }
            });
        }
        let mut first = Ok(());
        for end in ends {
            first = end.await;
        }
        // The first shard has gone with its arbiter.
        if first.is_err() {
            self.0.common.finish_source().await;
        }
    }

    fn near_end(&self, key: &K) {
        self.send(ToShard::NearEnd { key: key.clone() });
    }

    /// Sends a message to the shard of its key.
    fn send(&self, message: ToShard<K>) {
        let shard = message.key().map_or(0, |key| self.0.common.shard_of(self.0.common.cells.hash(key)));
        if let Some(door) = self.0.doors.get(shard) {
            // If the shard is gone, the message is dropped, and its contents answer the caller.
            door.do_send(message);
        }
    }

    /// Sends a caller's request.
    fn ask(&self, key: K, asking: Asking, seat: Seat) -> oneshot::Receiver<crate::flight::Outcome> {
        let (ticket, answer) = Caller::ticket(seat);
        match asking {
            Asking::Want => self.want(key, ticket),
            Asking::Refresh => self.send(ToShard::Refresh { key, ticket }),
            Asking::Replace(token, rejection) => {
                self.send(ToShard::Replace { key, ticket, token, rejection });
            }
        }
        answer
    }

    /// Joins the line at the key. If the key has no open line, the shard gets a message for each caller.
    fn want(&self, key: K, ticket: crate::actor::Ticket) {
        let joined = match self.0.common.cells.get(&key) {
            Some(cell) => cell.arrivals.join(ticket),
            None => Err(ticket),
        };
        match joined {
            Ok(Place::First) => self.send(ToShard::Arrived { key }),
            Ok(Place::Behind) => {}
            Err(ticket) => self.send(ToShard::Want { key, ticket }),
        }
    }

    /// All seats are taken. The shards search for callers who have gone away. Returns the end of the search that is
    /// under way, if one is.
    fn search(&self) -> Option<Searching> {
        let (searcher, end) = oneshot::channel();
        self.search_for(Some(searcher)).then_some(end)
    }

    /// The same. The searcher, if there is one, is told of the end.
    fn search_for(&self, searcher: Option<oneshot::Sender<()>>) -> bool {
        let Inner { common, doors } = &*self.0;
        let send = |search| doors.iter().for_each(|door| door.do_send(ToShard::Purge(Arc::clone(&search))));
        common.seats.search(searcher, common.cells.clock().now().boot, send)
    }
}

impl<K: Key> Clone for TokenRegistry<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Key> fmt::Debug for TokenRegistry<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRegistry")
            .field("name", &self.0.common.name)
            .field("keys", &self.len())
            .finish_non_exhaustive()
    }
}
