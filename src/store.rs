//! What a fleet of processes shares: the [`SharedStore`] trait, and what its operations say to each other.
//!
//! A store holds, for each [`SharedKey`], a token, a lease on the right to replace it, and the pause after a
//! failed refresh. It knows nothing of tokens: values are bytes that it cannot read. All of the protocol that
//! uses it is in [`SharedSource`](crate::source::SharedSource).

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::backoff::doubled;
use crate::error::BuildError;

pub(crate) mod memory;
#[cfg(feature = "redis")]
mod redis;

#[cfg(feature = "redis")]
pub use self::redis::{RedisStore, RedisStoreBuilder};
pub use memory::MemoryStore;

/// Where processes meet: [`MemoryStore`] for tests and for actors in one process, `RedisStore` for a fleet.
///
/// Every operation is one atomic step, as seen from any process. A store gives **efficiency, not mutual
/// exclusion**: a lease that ran out while its owner was suspended, or a failover that lost the last writes,
/// lets two processes refresh at once. That costs a call to the auth server and breaks nothing.
///
/// The futures run on the actor's arbiter and must be `Send`; the caller limits their time, so one that is
/// dropped half-way must do no harm: an ask that nobody waits for any more should leave no lease behind.
pub trait SharedStore: Send + Sync + 'static {
    /// Begins to listen for news of this key. Everything that happens after this has returned is heard.
    ///
    /// # Errors
    /// The store cannot be reached.
    fn watch(&self, key: &SharedKey) -> impl Future<Output = Result<News, StoreError>> + Send;

    /// Looks for a token, and takes the lease if there is none: in one step, so that no token can come in
    /// between and be fetched a second time. If the asker has the lease already, it lasts [`Ask::lease`] from now,
    /// under the same fence: the answer to an earlier try may have been lost.
    ///
    /// # Errors
    /// The store cannot be reached, or answers nonsense.
    fn look_or_lease(
        &self,
        key: &SharedKey,
        ask: &Ask,
    ) -> impl Future<Output = Result<Look, StoreError>> + Send;

    /// Looks for a token, and leaves it at that.
    ///
    /// # Errors
    /// The store cannot be reached, or answers nonsense.
    fn load(&self, key: &SharedKey) -> impl Future<Output = Result<Option<Stored>, StoreError>> + Send;

    /// Makes the lease last `time` from now. `false`: it is somebody else's, or nobody's.
    ///
    /// # Errors
    /// The store cannot be reached.
    fn renew(
        &self,
        key: &SharedKey,
        lease: &Lease,
        time: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Puts a value in the token's place for so long, ends the lease and any pause, and sends the news: all of
    /// it while the lease is this one, and else nothing (`false`). If the value in place was committed under this very
    /// lease, nothing is left to do (`true`): the answer to an earlier try may have been lost.
    ///
    /// # Errors
    /// The store cannot be reached; whether it has done it is then unknown.
    fn commit(
        &self,
        key: &SharedKey,
        lease: &Lease,
        value: &[u8],
        lives: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends the lease without a token, begins a pause for everybody, and sends the news: all of it while the
    /// lease is this one, and else nothing (`false`).
    ///
    /// # Errors
    /// The store cannot be reached; the lease then runs out by itself.
    fn fail(
        &self,
        key: &SharedKey,
        lease: &Lease,
        failure: &Failure,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

impl<S: SharedStore> SharedStore for Arc<S> {
    fn watch(&self, key: &SharedKey) -> impl Future<Output = Result<News, StoreError>> + Send {
        S::watch(self, key)
    }

    fn look_or_lease(
        &self,
        key: &SharedKey,
        ask: &Ask,
    ) -> impl Future<Output = Result<Look, StoreError>> + Send {
        S::look_or_lease(self, key, ask)
    }

    fn load(&self, key: &SharedKey) -> impl Future<Output = Result<Option<Stored>, StoreError>> + Send {
        S::load(self, key)
    }

    fn renew(
        &self,
        key: &SharedKey,
        lease: &Lease,
        time: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        S::renew(self, key, lease, time)
    }

    fn commit(
        &self,
        key: &SharedKey,
        lease: &Lease,
        value: &[u8],
        lives: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        S::commit(self, key, lease, value, lives)
    }

    fn fail(
        &self,
        key: &SharedKey,
        lease: &Lease,
        failure: &Failure,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        S::fail(self, key, lease, failure)
    }
}

/// What a process asks of the store.
#[derive(Clone, Debug)]
pub struct Ask {
    /// A random name, unique to this attempt: whose lease it will be, and the id of the value committed under it.
    pub owner: String,
    /// How long the lease lasts without being renewed.
    pub lease: Duration,
    /// The id of a value that the asker will not have; it has it already, or cannot use it.
    pub refused: Option<String>,
    /// The refused value is no good for anybody (the API rejected it): take it away.
    pub discard: bool,
}

/// What the store answers.
#[derive(Clone, Debug)]
pub enum Look {
    /// There is a value, and it is not the refused one.
    Found(Stored),
    /// There was none, and the asker has the lease now.
    Leased(Lease),
    /// Somebody else has the lease, for so long unless they renew it.
    Taken(Duration),
    /// A refresh failed a moment ago: the auth server is to be left alone.
    Paused(Pause),
}

/// A value in the store.
#[derive(Clone)]
pub struct Stored {
    /// Unique to this value: the owner that committed it.
    pub id: String,
    /// The bytes that were committed.
    pub value: Vec<u8>,
    /// How long it lasts, by the store's clock.
    pub left: Duration,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value may be a token in clear.
        f.debug_struct("Stored").field("id", &self.id).field("left", &self.left).finish_non_exhaustive()
    }
}

/// The right to refresh, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// As in [`Ask::owner`].
    pub owner: String,
    /// Greater than that of each earlier lease on this key: a late owner's commit is told from a current one.
    pub fence: u64,
}

/// A refresh that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether trying again will not help until somebody acts.
    pub terminal: bool,
    /// The pause lasts at least this long (`Retry-After`).
    pub at_least: Duration,
    /// The pause after the first failure; it doubles with each one in a row.
    pub first: Duration,
    /// What the doubling stops at.
    pub limit: Duration,
}

impl Failure {
    /// How long to leave the auth server alone after the `streak`-th failure in a row.
    pub fn pause(&self, streak: u32) -> Duration {
        doubled(self.first, streak, self.limit).max(self.at_least)
    }
}

/// What is left of the pause after a failed refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// As in [`Failure::terminal`].
    pub terminal: bool,
    /// How long it still lasts.
    pub left: Duration,
}

/// Something happened to a key: a token came, a lease ended, or the connection was lost and nobody knows.
#[derive(Clone, Debug)]
pub struct News(watch::Receiver<u64>);

impl News {
    /// News by a counter that goes up with each piece of it. What it stands at now is old.
    pub fn new(mut counter: watch::Receiver<u64>) -> Self {
        counter.mark_unchanged();
        Self(counter)
    }

    /// Waits for something that happened after the last call, or after [`SharedStore::watch`].
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The store is gone: no news will come, and the caller has a time limit.
            std::future::pending::<()>().await;
        }
    }
}

/// What a shared token is kept under: a name, and a hash of everything that makes the token different.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SharedKey(Arc<str>);

impl SharedKey {
    /// `name` is for people; `parts` are what two configurations may differ in: issuer, client, grant, scope,
    /// audience, resource, subject, key of the proof of possession. Their order does not matter.
    ///
    /// # Errors
    /// A name that is empty, longer than 64 bytes, or has anything but letters, digits, `-`, `_` and `.` in it;
    /// no parts; the same part twice.
    pub fn new<'a>(
        name: &str,
        parts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, BuildError> {
        let mut hash = Sha256::new();
        Self::hashed(name, parts, |bytes| hash.update(bytes)).map(|name| name.with(&hash.finalize()))
    }

    /// The same with a keyed hash, so that nobody without the key can try out what the parts are.
    pub(crate) fn keyed<'a>(
        key: &[u8; 64],
        name: &str,
        parts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, BuildError> {
        let mut hash = <Hmac<Sha256> as KeyInit>::new(&(*key).into());
        Self::hashed(name, parts, |bytes| hash.update(bytes))
            .map(|name| name.with(&hash.finalize().into_bytes()))
    }

    /// Checks the name and the parts, and gives the parts to a hash.
    fn hashed<'a, 'n>(
        name: &'n str,
        parts: impl IntoIterator<Item = (&'a str, &'a str)>,
        mut hash: impl FnMut(&[u8]),
    ) -> Result<Checked<'n>, BuildError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(BuildError::new("name", "must be 1 to 64 letters, digits, `-`, `_` or `.`"));
        }
        let mut parts: Vec<(&str, &str)> = parts.into_iter().collect();
        parts.sort_unstable();
        if parts.is_empty() {
            let missing = "are missing: say what makes the token different (issuer, client, scope, …)";
            return Err(BuildError::new("parts", missing));
        }
        if parts.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(BuildError::new("parts", "name the same thing twice"));
        }
        // Each piece goes with its length, so that no two lists read the same.
        for piece in parts.iter().flat_map(|(part, value)| [part, value]) {
            hash(&(piece.len() as u64).to_be_bytes());
            hash(piece.as_bytes());
        }
        Ok(Checked(name))
    }

    /// `name:hash`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A key's name that can be used.
struct Checked<'n>(&'n str);

impl Checked<'_> {
    fn with(self, hash: &[u8]) -> SharedKey {
        /// 128 bits, so that no two configurations meet.
        const HASHED: usize = 16;
        SharedKey(format!("{}:{}", self.0, hex(&hash[..HASHED])).into())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The store could not do it.
#[derive(Debug)]
pub struct StoreError(Box<dyn StdError + Send + Sync>);

impl StoreError {
    /// From what the store's client said. It will be logged, so it must hold no secret.
    pub fn new(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the shared store: {}", self.0)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}
