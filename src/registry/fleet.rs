//! A limit of calls for all processes of a fleet: slots in a store that they share.
//!
//! A process asks the store for as many slots as it has calls for, and its gate lets so many calls through. All slots of a
//! process have one lease, and one command keeps them all. `docs/registry.md` has the rules with their reasons.

mod course;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::BuildError;
use crate::panics::ContainedFor;
use crate::store::{News, SharedKey, SharedStore, SlotAnswer, SlotAsk, StoreError};
use crate::sync::{AtomicBool, AtomicUsize, Ordering};

pub(super) use course::Course;

/// How many calls all processes of a fleet make at once: for
/// [`calls_of_fleet`](super::TokenRegistryBuilder::calls_of_fleet).
///
/// Each process takes slots from the store while it has calls for them, and gives them back. Where processes want more than
/// there are, each has the same share; where there are fewer slots than processes, they take turns of a second. A process
/// that dies holds its slots until its lease ends. A process costs the store about one command a second while its calls
/// change or have to wait, one a third of the lease while they do not, and none while it makes no calls.
///
/// While the store does not answer, each process keeps to its own [`max_calls`](super::TokenRegistryBuilder::max_calls)
/// alone, and one WARN says so. The store gives efficiency, not mutual exclusion: a process that is suspended past its
/// lease's end, or a store that forgets, can lead to more calls for a moment. Slots are not sealed: whoever can write to the
/// store can keep them from the fleet.
pub struct FleetCalls {
    store: Box<dyn Slots>,
    name: String,
    calls: usize,
    lease: Duration,
}

/// Far more than any fleet has, and far fewer than a store that computes with floating-point numbers can count.
const MOST_CALLS: usize = 1_000_000;

impl FleetCalls {
    /// `store`: where the processes meet. `name`: what they call the auth server, the same in all of them; 1 to 64 letters,
    /// digits, `-`, `_` or `.`. `calls`: how many run at once in the whole fleet, from 1 to 1,000,000, the same in all
    /// of them.
    pub fn new(store: impl SharedStore, name: impl Into<String>, calls: usize) -> Self {
        Self { store: Box::new(store), name: name.into(), calls, lease: Duration::from_secs(10) }
    }

    /// How long a process holds its slots without a sign of life: after that, those of a process that has died are free. 1 s
    /// to 60 s, default 10 s.
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
            return Err(BuildError::new("calls_of_fleet", "are 0: nothing could ever be fetched"));
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

/// What a registry knows of its fleet's slots. The course writes; whoever asks the gate reads.
pub(super) struct Fleet {
    store: Box<dyn Slots>,
    key: SharedKey,
    slots: usize,
    lease: Duration,
    owner: String,
    /// Wakes the course.
    stirs: Notify,
    /// The store may know of this process.
    has_asked: AtomicBool,
    /// How many slots are this process's; none bounds it while the store does not answer.
    held: AtomicUsize,
    /// It wants more than it has, and has said so.
    is_short: AtomicBool,
    /// It gives some back as soon as their calls have ended.
    gives_back: AtomicBool,
}

impl Fleet {
    /// The gate stands so. To be called whenever that may have changed.
    pub(super) fn note(&self, (running, demand): (usize, usize)) {
        let held = self.held.load(Ordering::Relaxed);
        let wants_more = demand > held && !self.is_short.load(Ordering::Relaxed);
        let has_ended = running < held && self.gives_back.load(Ordering::Relaxed);
        if wants_more || has_ended {
            self.stirs.notify_one();
        }
    }

    async fn ask(&self, wanted: usize, most: usize) -> Result<SlotAnswer, StoreError> {
        /// For one answer.
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

    /// `None`: there will be no news, and the next ask is due by time.
    async fn watch(&self, limit: Duration) -> Option<News> {
        let watching = ContainedFor::new(self.store.watch(&self.key));
        tokio::time::timeout(limit, watching).await.ok().flatten().and_then(Result::ok)
    }
}

type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What is needed of a store.
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
        // The call itself is foreign code, too: it runs when this is polled.
        Box::pin(async move { SharedStore::slots(self, key, ask).await })
    }

    fn watch<'a>(&'a self, key: &'a SharedKey) -> Answering<'a, News> {
        Box::pin(async move { SharedStore::watch(self, key).await })
    }
}
