//! What a fleet of processes shares: the [`SharedStore`] trait, and what its operations say to each other.
//!
//! A store holds, for each [`SharedKey`], a token, a lease on the right to replace it, the pause after a failed
//! refresh, and marks of credentials that were refused. All of these are bytes that it cannot read. So whoever writes
//! to the store can make nobody believe anything. All of the protocol that uses it is in
//! [`SharedSource`](crate::source::SharedSource).

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::redactor::printable;

mod key;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
mod slots;

#[cfg(feature = "redis")]
pub use self::redis::{RedisCredentials, RedisStore, RedisStoreBuilder};
pub use key::SharedKey;
pub(crate) use key::hex;
pub use memory::MemoryStore;
pub use slots::{SlotAnswer, SlotAsk};

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

    /// Looks what is there, and takes the lease of [`Ask::take`] if nothing stands against it: in one step, so that
    /// no token can come in between and be fetched a second time. A store that has been given something of another
    /// kind or size than it keeps takes that away, and says so ([`Look::Mended`]) instead of looking further.
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

    /// Makes the lease last `time` from now, with the value that it has now. `false`: it is somebody else's, or nobody's.
    ///
    /// # Errors
    /// The store cannot be reached.
    fn renew(
        &self,
        key: &SharedKey,
        lease: &Lease,
        time: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Puts a value in the token's place for so long, ends the lease, any pause, and the mark of the lease's owner, and
    /// sends the news. All of it happens while the lease is this one, or while there is no lease and no later one has
    /// been given (the store has lost this one); and else nothing (`false`). If the value in place was committed under
    /// this very lease, nothing is left to do (`true`): the answer to an earlier try may have been lost.
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

    /// Ends the lease without a token, leaves the [`Failure`] behind, and sends the news: all of it while the lease is
    /// this one, and else nothing (`false`).
    ///
    /// # Errors
    /// The store cannot be reached; the lease then runs out by itself.
    fn fail(
        &self,
        key: &SharedKey,
        lease: &Lease,
        failure: &Failure,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Whether it keeps [`slots`](Self::slots). Default: no.
    fn keeps_slots(&self) -> bool {
        false
    }

    /// Takes slots of this key that all processes share, keeps them, and gives them back: the asker says each time how many
    /// it holds from now on at most. All processes together never hold more than there are, as long as the store forgets
    /// nothing. News is sent where slots become free that somebody wants.
    ///
    /// # Errors
    /// The store cannot be reached; or, by default, it keeps no slots.
    fn slots(
        &self,
        key: &SharedKey,
        ask: &SlotAsk,
    ) -> impl Future<Output = Result<SlotAnswer, StoreError>> + Send {
        let _ = (key, ask);
        std::future::ready(Err(StoreError::new("this store keeps no slots")))
    }
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

    fn keeps_slots(&self) -> bool {
        S::keeps_slots(self)
    }

    fn slots(
        &self,
        key: &SharedKey,
        ask: &SlotAsk,
    ) -> impl Future<Output = Result<SlotAnswer, StoreError>> + Send {
        S::slots(self, key, ask)
    }
}

/// What a process asks of the store.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The lease to take, if it is free.
    pub take: Option<Take>,
    /// The id of a value that the asker will not have; it has it already, or cannot use it.
    pub refused: Option<String>,
    /// The refused value is no good for anybody (it is compromised): take it away.
    pub discard: bool,
    /// Names the asker's credential: [`Look::Paused`] by a mark of this name concerns it.
    pub mark: String,
    /// Leases, pauses and marks that the asker does not mind: their time is over.
    pub passed: Vec<Vec<u8>>,
    /// Leases, pauses and marks that nobody has written who may: take them away, if they are still there.
    pub void: Vec<Vec<u8>>,
}

impl Ask {
    /// Whether the store is to look past this value.
    pub(crate) fn is_past(&self, value: &[u8]) -> bool {
        self.passed.iter().chain(&self.void).any(|other| other == value)
    }
}

/// A lease to take.
#[derive(Clone, Debug)]
pub struct Take {
    /// What it will be. Its fence has to be greater than [`Free::fence`].
    pub lease: Lease,
    /// How long it lasts without being renewed.
    pub time: Duration,
}

/// What the store answers.
#[derive(Clone, Debug)]
pub enum Look {
    /// There is a value, and it is not the refused one.
    Found(Stored),
    /// There is none, and nothing stands against a lease.
    Free(Free),
    /// The lease of [`Ask::take`] is the asker's. If it was so before, it lasts [`Take::time`] from now: the answer to an
    /// earlier try may have been lost.
    Leased,
    /// Somebody else has the lease.
    Taken(Held),
    /// A refresh failed a moment ago: the auth server is to be left alone, by everybody, or by those who carry the
    /// asker's mark.
    Paused(Held),
    /// So many things were there that no process can have written. They are gone: look again.
    Mended(u64),
}

/// What a new lease has to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// The store's clock, as the time since 1970.
    pub clock: Duration,
    /// The greatest fence that the store remembers.
    pub fence: u64,
}

/// A lease, a pause or a mark: bytes that the store cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// As it was given to the store.
    pub value: Vec<u8>,
    /// How long the store keeps it.
    pub left: Duration,
    /// The store's clock, as the time since 1970.
    pub clock: Duration,
}

/// A value in the store.
#[derive(Clone)]
pub struct Stored {
    /// Unique to this value: the owner that committed it.
    pub id: String,
    /// Of the lease that it was committed under.
    pub fence: u64,
    /// The bytes that were committed.
    pub value: Vec<u8>,
    /// How long it lasts, by the store's clock.
    pub left: Duration,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value may be a token in clear.
        f.debug_struct("Stored")
            .field("id", &self.id)
            .field("fence", &self.fence)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// The right to refresh, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// A random name, unique to this lease: also the id of the value committed under it.
    pub owner: String,
    /// Greater than that of each earlier lease on this key: a late owner's commit is told from a current one.
    pub fence: u64,
    /// As in [`Ask::mark`].
    pub mark: String,
    /// What others find in its place.
    pub value: Vec<u8>,
}

/// What a refresh that failed leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// For everybody: a value, and how long it is kept.
    pub pause: Option<(Vec<u8>, Duration)>,
    /// For those who carry the mark of the lease's owner: a value, and how long it is kept.
    pub mark: Option<(Vec<u8>, Duration)>,
}

/// The longest value of a token that a store has to keep; anything else is far shorter.
pub const LONGEST_VALUE: usize = 128 * 1024;

/// The longest lease, pause or mark.
pub const LONGEST_RECORD: usize = 512;

/// How many marks a store keeps for a key. The one whose time is over first makes room.
pub const MOST_MARKS: usize = 8;

/// How far a fence may be ahead of the store's clock. One that is further ahead has been written by no process.
pub const FENCE_AHEAD: Duration = Duration::from_secs(3600);

/// Something happened to a key: a token came, a lease ended, or the connection was lost and nobody knows.
#[derive(Clone, Debug)]
pub struct News {
    counter: watch::Receiver<u64>,
    /// Dropped after the counter: tells the store that nobody listens.
    _guard: Option<Arc<dyn Any + Send + Sync>>,
}

impl News {
    /// News by a counter that goes up with each piece of it. What it stands at now is old.
    pub fn new(mut counter: watch::Receiver<u64>) -> Self {
        counter.mark_unchanged();
        Self { counter, _guard: None }
    }

    /// The same, and the last clone drops the guard.
    #[cfg(feature = "redis")]
    pub(crate) fn guarded(counter: watch::Receiver<u64>, guard: Arc<dyn Any + Send + Sync>) -> Self {
        Self { _guard: Some(guard), ..Self::new(counter) }
    }

    /// Waits for something that happened after the last call, or after [`SharedStore::watch`].
    pub async fn next(&mut self) {
        if self.counter.changed().await.is_err() {
            // The store is gone: no news will come, and the caller has a time limit.
            std::future::pending::<()>().await;
        }
    }
}

/// The store could not do it.
#[derive(Debug)]
pub struct StoreError(Box<dyn StdError + Send + Sync>);

impl StoreError {
    pub(crate) fn too_long() -> Self {
        Self::new(format!("a value of more than {LONGEST_VALUE} bytes is not kept"))
    }

    /// From what the store's client said. It will be logged, so it must hold no secret. Its text is shown on one line,
    /// cut after 200 bytes.
    pub fn new(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the shared store: {}", printable(&self.0.to_string(), 200))
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}
