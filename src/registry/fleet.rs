//! A limit of calls for all processes of a fleet: slots in a store that the processes share.
//!
//! A process asks the store for as many slots as it has calls for, and its gate lets that many calls through. All
//! slots of a process have one lease, and one command renews all of them. `docs/registry.md` has the rules with
//! their reasons.

mod course;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::duration;
use crate::error::BuildError;
use crate::panics::ContainedFor;
use crate::settings::settings;
use crate::store::{News, SharedKey, SharedStore, SlotAnswer, SlotAsk, StoreError};
use crate::sync::{AtomicBool, AtomicUsize, Ordering};

pub(super) use course::Course;

/// The number of calls at once of all processes of a fleet: for
/// [`calls_of_fleet`](super::TokenRegistryBuilder::calls_of_fleet).
///
/// Each process takes slots from the store while it has calls for them, and gives them back. If processes want more
/// slots than exist, each has the same share. If there are fewer slots than processes, they take turns of a second.
/// A registry that is shut down gives its slots back. A registry whose last handle is dropped gives them back when
/// its last call has ended. If a registry's arbiter stops, or its process dies, its slots may be held until the
/// lease ends. The cost for the store is about one command a second per process while its calls change or have to
/// wait, one per third of the lease while they do not, and none while it makes no calls.
///
/// While the store does not answer, each process uses only its own
/// [`max_calls`](super::TokenRegistryBuilder::max_calls), and one WARN says so. The store gives efficiency, not
/// mutual exclusion: a process that is suspended past its lease's end, or a store that loses data, can cause more
/// calls for a moment. Slots are not sealed. Therefore a writer to the store can withhold them from the fleet.
pub struct FleetCalls {
    store: Box<dyn Slots>,
    name: String,
    calls: usize,
    lease: Duration,
}

settings! {
    /// The settings of [`FleetCalls`] in a file. They are checked when the registry starts. `lease` may be missing.
    /// Unknown keys are refused.
    ///
    /// ```
    /// use tokenflight::registry::FleetCallsSettings;
    /// use tokenflight::store::MemoryStore;
    ///
    /// let file = r#"{ "name": "auth", "calls": 16, "lease": "5s" }"#;
    /// let calls = serde_json::from_str::<FleetCallsSettings>(file)?.with(MemoryStore::new());
    /// # let _ = calls;
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FleetCallsSettings {
        name: String,
        calls: usize,
        #[serde(default, deserialize_with = "duration::some_duration")]
        lease: Option<Duration>,
    }
}

impl FleetCallsSettings {
    /// With the store that the processes share.
    pub fn with(self, store: impl SharedStore) -> FleetCalls {
        let calls = FleetCalls::new(store, self.name, self.calls);
        match self.lease {
            Some(time) => calls.lease(time),
            None => calls,
        }
    }
}

/// Far more than any fleet has, and far fewer than a store with floating-point numbers can count.
const MOST_CALLS: usize = 1_000_000;

impl FleetCalls {
    /// `store`: the store that the processes share. `name`: the name of the auth server, the same in all processes;
    /// 1 to 64 letters, digits, `-`, `_` or `.`. `calls`: the number of calls at once in the whole fleet, from 1 to
    /// 1,000,000, the same in all processes.
    pub fn new(store: impl SharedStore, name: impl Into<String>, calls: usize) -> Self {
        Self { store: Box::new(store), name: name.into(), calls, lease: Duration::from_secs(10) }
    }

    /// How long a process holds its slots without renewing them. After this time the slots of a dead process are
    /// free. 1 s to 60 s, default 10 s.
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = time;
        self
    }

    pub(super) fn check(self) -> Result<Arc<Fleet>, BuildError> {
        if !self.store.keeps_slots() {
            return Err(BuildError::new(
                "calls_of_fleet",
                "has a store that keeps no slots: take MemoryStore or RedisStore, or implement `slots`",
            ));
        }
        if self.calls == 0 {
            return Err(BuildError::new("calls_of_fleet", "must be at least 1"));
        }
        if self.calls > MOST_CALLS {
            return Err(BuildError::new(
                "calls_of_fleet",
                format!("are {}: give at most {MOST_CALLS} calls", self.calls),
            ));
        }
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(60));
        if self.lease < least || self.lease > most {
            return Err(BuildError::new(
                "calls_of_fleet.lease",
                format!("is {:?}: give it from {least:?} to {most:?}", self.lease),
            ));
        }
        Ok(Arc::new(Fleet {
            key: SharedKey::new(&self.name, [("slots", "of a registry's calls")])?,
            store: self.store,
            slots: self.calls,
            lease: self.lease,
            owner: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            stirs: Notify::new(),
            has_asked: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            is_short: AtomicBool::new(false),
            gives_back: AtomicBool::new(false),
        }))
    }
}

impl fmt::Debug for FleetCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetCalls")
            .field("name", &self.name)
            .field("calls", &self.calls)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// The registry's state of its fleet's slots. The course writes it. Callers of the gate read it.
pub(super) struct Fleet {
    store: Box<dyn Slots>,
    key: SharedKey,
    slots: usize,
    lease: Duration,
    owner: String,
    /// Wakes the course.
    stirs: Notify,
    /// The store may have an entry of this process.
    has_asked: AtomicBool,
    /// How many slots this process has. There is no such limit while the store does not answer.
    held: AtomicUsize,
    /// The process wants more than it has, and has said so.
    is_short: AtomicBool,
    /// The process gives some slots back as soon as their calls have ended.
    gives_back: AtomicBool,
}

impl Fleet {
    /// The number of slots, for all processes.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Records the gate's state. Must be called whenever that may have changed.
    pub(super) fn note(&self, (running, demand): (usize, usize)) {
        let held = self.held.load(Ordering::Relaxed);
        let wants_more = demand > held && !self.is_short.load(Ordering::Relaxed);
        let has_ended = running < held && self.gives_back.load(Ordering::Relaxed);
        if wants_more || has_ended {
            self.stirs.notify_one();
        }
    }

    async fn ask(&self, wanted: usize, most: usize) -> Result<SlotAnswer, StoreError> {
        /// The time limit of one answer.
        const LIMIT: Duration = Duration::from_secs(2);
        let (owner, slots, time) = (self.owner.clone(), self.slots, self.lease);
        let ask = SlotAsk { owner, wanted, most, slots, time };
        self.has_asked.fetch_or(wanted > 0, Ordering::Relaxed);
        let answering = ContainedFor::new(self.store.slots(&self.key, &ask));
        match tokio::time::timeout(LIMIT.min(self.lease / 2), answering).await {
            Ok(answer) => {
                self.has_asked.fetch_and(wanted > 0 || !matches!(answer, Some(Ok(_))), Ordering::Relaxed);
                answer.unwrap_or_else(|| Err(StoreError::new("the store panicked")))
            }
            Err(_) => Err(StoreError::new("no answer in time")),
        }
    }

    /// `None`: there will be no news, and the next request comes at its time.
    async fn watch(&self, limit: Duration) -> Option<News> {
        let watching = ContainedFor::new(self.store.watch(&self.key));
        tokio::time::timeout(limit, watching).await.ok().flatten().and_then(Result::ok)
    }
}

type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The operations of a store that are needed here.
trait Slots: Send + Sync {
    fn keeps_slots(&self) -> bool;
    fn slots<'a>(&'a self, key: &'a SharedKey, ask: &'a SlotAsk) -> Answering<'a, SlotAnswer>;
    fn watch<'a>(&'a self, key: &'a SharedKey) -> Answering<'a, News>;
}

impl<S: SharedStore> Slots for S {
    fn keeps_slots(&self) -> bool {
        SharedStore::keeps_slots(self)
    }

    fn slots<'a>(&'a self, key: &'a SharedKey, ask: &'a SlotAsk) -> Answering<'a, SlotAnswer> {
        // The call itself is foreign code too: it runs when this future is polled.
        Box::pin(async move { SharedStore::slots(self, key, ask).await })
    }

    fn watch<'a>(&'a self, key: &'a SharedKey) -> Answering<'a, News> {
        Box::pin(async move { SharedStore::watch(self, key).await })
    }
}
