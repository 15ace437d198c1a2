//! The state that a fleet of processes shares: the [`SharedStore`] trait, with the types of its operations.
//!
//! A store holds, for each [`SharedKey`], a token, a lease on the right to replace it, the pause after a failed
//! refresh, and marks of refused credentials. All of these are bytes that the store cannot read. Therefore a writer
//! to the store cannot forge anything. The protocol is in [`SharedSource`](crate::source::SharedSource).

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

/// A store for processes: [`MemoryStore`] for tests and for actors in one process, `RedisStore` for a fleet.
///
/// Every operation is one atomic step, as seen from any process. A store gives **efficiency, not mutual
/// exclusion**: two processes may refresh at once if a lease ran out while its owner was suspended, or if a
/// failover lost the last writes. This costs one call to the auth server and does no harm.
///
/// The futures run on the actor's arbiter and must be `Send`. The caller limits their time. A dropped future must
/// do no harm: if no caller waits for its answer any more, it should leave no lease behind.
pub trait SharedStore: Send + Sync + 'static {
    /// Begins to watch the news of this key. The returned value receives all news after this returns.
    ///
    /// # Errors
    /// The store cannot be reached.
    fn watch(&self, key: &SharedKey) -> impl Future<Output = Result<News, StoreError>> + Send;

    /// Looks for the present state, and takes the lease of [`Ask::take`] if nothing prevents it. Both are one step.
    /// Therefore no token can arrive in between and be fetched a second time. If a value has another type or size
    /// than the store uses, the store deletes it and returns [`Look::Mended`] instead of looking further.
    ///
    /// # Errors
    /// The store cannot be reached, or its answer is invalid.
    fn look_or_lease(
        &self,
        key: &SharedKey,
        ask: &Ask,
    ) -> impl Future<Output = Result<Look, StoreError>> + Send;

    /// Looks for a token, and does nothing else.
    ///
    /// # Errors
    /// The store cannot be reached, or its answer is invalid.
    fn load(&self, key: &SharedKey) -> impl Future<Output = Result<Option<Stored>, StoreError>> + Send;

    /// Makes the lease last `time` from now, with its present value. `false`: the lease has another owner, or none.
    ///
    /// # Errors
    /// The store cannot be reached.
    fn renew(
        &self,
        key: &SharedKey,
        lease: &Lease,
        time: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Stores the token for this time, ends the lease, any pause, and the mark of the lease's owner, and sends the
    /// news. This needs that the lease is this one, or that there is no lease and no later one was given out (the
    /// store has lost this one). Otherwise nothing is done (`false`). If the present token was committed under this
    /// very lease, nothing needs to be done (`true`): the answer to an earlier try may have been lost.
    ///
    /// # Errors
    /// The store cannot be reached. Then it is unknown whether the commit was carried out.
    fn commit(
        &self,
        key: &SharedKey,
        lease: &Lease,
        value: &[u8],
        lives: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Ends the lease without a token, stores the [`Failure`], and sends the news, if the lease is this one.
    /// Otherwise nothing is done (`false`).
    ///
    /// # Errors
    /// The store cannot be reached. Then the lease runs out by itself.
    fn fail(
        &self,
        key: &SharedKey,
        lease: &Lease,
        failure: &Failure,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Whether it supports [`slots`](Self::slots). Default: no.
    fn keeps_slots(&self) -> bool {
        false
    }

    /// Takes slots of this key that all processes share, renews them, and gives them back. The process says each
    /// time the maximum that it holds from now on. All processes together never hold more slots than exist, unless
    /// the store loses data. If a slot becomes free that another process wants, news is sent.
    ///
    /// # Errors
    /// The store cannot be reached; or, by default, it supports no slots.
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

/// A request of a process to the store.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The lease to take, if it is free.
    pub take: Option<Take>,
    /// The id of a value that the process does not accept: it has the value already, or cannot use it.
    pub refused: Option<String>,
    /// The refused value is useless for all processes (it is compromised): delete it.
    pub discard: bool,
    /// The name of the process's credential. A [`Look::Paused`] by a mark of this name concerns the process.
    pub mark: String,
    /// Leases, pauses and marks that the process ignores, because their time is over.
    pub passed: Vec<Vec<u8>>,
    /// Leases, pauses and marks that no holder of the key has written: delete them, if they are still there.
    pub void: Vec<Vec<u8>>,
}

impl Ask {
    /// Whether the store must ignore this value.
    pub(crate) fn is_past(&self, value: &[u8]) -> bool {
        self.passed.iter().chain(&self.void).any(|other| other == value)
    }
}

/// A lease to take.
#[derive(Clone, Debug)]
pub struct Take {
    /// The new lease. Its fence must be greater than [`Free::fence`].
    pub lease: Lease,
    /// How long it lasts without a renewal.
    pub time: Duration,
}

/// The store's answer.
#[derive(Clone, Debug)]
pub enum Look {
    /// There is a token, and it is not the refused one.
    Found(Stored),
    /// There is no token, and nothing prevents a lease.
    Free(Free),
    /// The process has the lease of [`Ask::take`]. If it had the lease before, the lease lasts [`Take::time`] from
    /// now: the answer to an earlier try may have been lost.
    Leased,
    /// Another process has the lease.
    Taken(Held),
    /// A refresh failed recently. The auth server must not be called, by all processes, or by those with the same
    /// mark.
    Paused(Held),
    /// The number of values that no process can have written. They are deleted: look again.
    Mended(u64),
}

/// The requirements on a new lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// The store's clock, as the time since 1970.
    pub clock: Duration,
    /// The greatest fence in the store's memory.
    pub fence: u64,
}

/// A lease, a pause or a mark: bytes that the store cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The value as a process has stored it.
    pub value: Vec<u8>,
    /// How long the store keeps it.
    pub left: Duration,
    /// The store's clock, as the time since 1970.
    pub clock: Duration,
}

/// A value in the store.
#[derive(Clone)]
pub struct Stored {
    /// Unique to this value: the owner of the lease under which it was committed.
    pub id: String,
    /// The fence of the lease under which it was committed.
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

/// The right to refresh, for a limited time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// A random name, unique to this lease: also the id of the value committed under it.
    pub owner: String,
    /// Greater than the fence of each earlier lease on this key. It distinguishes a late owner's commit from a
    /// current one.
    pub fence: u64,
    /// As in [`Ask::mark`].
    pub mark: String,
    /// The value that other processes read.
    pub value: Vec<u8>,
}

/// The record of a failed refresh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// For all processes: a value, and how long it is kept.
    pub pause: Option<(Vec<u8>, Duration)>,
    /// For processes with the mark of the lease's owner: a value, and how long it is kept.
    pub mark: Option<(Vec<u8>, Duration)>,
}

/// The longest token value that a store must be able to keep. All other values are far shorter.
pub const LONGEST_VALUE: usize = 128 * 1024;

/// The longest lease, pause or mark.
pub const LONGEST_RECORD: usize = 512;

/// How many marks a store keeps for a key. If there are more, the one that ends first is dropped.
pub const MOST_MARKS: usize = 8;

/// How far a fence may be ahead of the store's clock. No process writes a fence that is further ahead.
pub const FENCE_AHEAD: Duration = Duration::from_secs(3600);

/// Whether a fence is further ahead of the store's clock than any process would make it.
pub(crate) fn is_ahead(fence: u64, clock: Duration) -> bool {
    Duration::from_millis(fence) > clock.saturating_add(FENCE_AHEAD)
}

/// News about a key: a token came, a lease ended, or the connection was lost and the state is unknown.
#[derive(Clone, Debug)]
pub struct News {
    counter: watch::Receiver<u64>,
    /// Dropped after the counter. It tells the store that this watch has ended.
    _guard: Option<Arc<dyn Any + Send + Sync>>,
}

impl News {
    /// News by a counter that increases with each message. Its present value counts as old.
    pub fn new(mut counter: watch::Receiver<u64>) -> Self {
        counter.mark_unchanged();
        Self { counter, _guard: None }
    }

    /// The same. The last clone drops the guard.
    #[cfg(feature = "redis")]
    pub(crate) fn guarded(counter: watch::Receiver<u64>, guard: Arc<dyn Any + Send + Sync>) -> Self {
        Self { _guard: Some(guard), ..Self::new(counter) }
    }

    /// Waits for news after the last call, or after [`SharedStore::watch`].
    pub async fn next(&mut self) {
        if self.counter.changed().await.is_err() {
            // The store is gone: no news will come. The caller has a time limit.
            std::future::pending::<()>().await;
        }
    }
}

/// A failure of the store.
#[derive(Debug)]
pub struct StoreError(Box<dyn StdError + Send + Sync>);

impl StoreError {
    pub(crate) fn too_long() -> Self {
        Self::new(TooLong)
    }

    /// Whether the store works, and does not keep this value.
    pub(crate) fn is_too_long(&self) -> bool {
        self.cause::<TooLong>().is_some()
    }

    /// The error from which this one was made, if it is of type `T`.
    pub fn cause<T: StdError + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }

    /// From the error of the store's client. It is logged. Therefore it must contain no secret. Its text is shown
    /// on one line, cut after 200 bytes.
    pub fn new(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// The value is longer than [`LONGEST_VALUE`].
#[derive(Debug)]
struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of more than {LONGEST_VALUE} bytes is not kept")
    }
}

impl StdError for TooLong {}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the shared store: {}", printable(&self.0.to_string(), 200))
    }
}

// The text already has the cause, on one line and cut. Therefore the cause is no `source`, whose own text would be
// printed a second time, as it is.
impl StdError for StoreError {}
