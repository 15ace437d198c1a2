//! What readers of a registry find: for each key a cell, in a map that they need no lock for.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foldhash::fast::RandomState;

use super::arrivals::Arrivals;
use crate::clock::{Clock, Timestamp};
use crate::slot::{Read, Single, Slot};
use crate::sync::{AtomicU8, AtomicU64, AtomicUsize, Mutex, Ordering};

/// One key's token, as its readers see it. Made and taken away by the key's shard alone.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) slot: Slot<Single>,
    pub(super) arrivals: Arrivals,
    /// The number of its entry in the shard.
    pub(super) entry: u32,
    used: AtomicU8,
}

impl Cell {
    /// Used since the hand of the eviction came by.
    pub(super) const SINCE_HAND: u8 = 1;
    /// Used since the last look for idle keys.
    pub(super) const SINCE_SWEEP: u8 = 2;
    const USED: u8 = Self::SINCE_HAND | Self::SINCE_SWEEP;

    pub(super) fn new(entry: u32, clock: Arc<dyn Clock>) -> Self {
        Self { slot: Slot::new(clock), arrivals: Arrivals::default(), entry, used: AtomicU8::new(Self::USED) }
    }

    /// The key goes: readers find no token, and whoever has not been seen is told.
    pub(super) fn close(&self) {
        self.slot.close();
        self.arrivals.close();
    }

    /// Relaxed is enough: a use that is seen late may cost a call, and nothing else.
    #[inline]
    pub(super) fn note_use(&self) {
        if self.used.load(Ordering::Relaxed) != Self::USED {
            self.used.store(Self::USED, Ordering::Relaxed);
        }
    }

    /// Whether it was used since this was asked last.
    pub(super) fn was_used(&self, since: u8) -> bool {
        self.used.fetch_and(!since, Ordering::Relaxed) & since != 0
    }
}

/// The cells of all keys, and the time that readers go by.
pub(super) struct Cells<K> {
    map: papaya::HashMap<K, Arc<Cell>, RandomState>,
    hashes: RandomState,
    moment: Moment,
    clock: Arc<dyn Clock>,
    /// Keys in the map.
    pub(super) keys: AtomicUsize,
}

impl<K: Hash + Eq> Cells<K> {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let hashes = RandomState::default();
        Self {
            map: papaya::HashMap::with_hasher(hashes.clone()),
            hashes,
            moment: Moment::default(),
            clock,
            keys: AtomicUsize::new(0),
        }
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The key's hash, which says which shard is its own.
    pub(super) fn hash(&self, key: &K) -> u64 {
        self.hashes.hash_one(key)
    }

    /// The key's token, if there is a usable one.
    #[inline]
    pub(super) fn read(&self, key: &K) -> Read {
        let cells = self.map.pin();
        let Some(cell) = cells.get(key) else { return Read { token: None, reports: false } };
        cell.note_use();
        cell.slot.read_at(self.moment.now(&*self.clock))
    }

    pub(super) fn get(&self, key: &K) -> Option<Arc<Cell>> {
        self.map.pin().get(key).map(Arc::clone)
    }

    pub(super) fn insert(&self, key: K, cell: Arc<Cell>) {
        self.map.pin().insert(key, cell);
        self.keys.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, key: &K) {
        if self.map.pin().remove(key).is_some() {
            self.keys.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The time, taken once a [pulse](Clock::pulse) for all keys.
#[derive(Debug, Default)]
struct Moment {
    /// The pulse in which it was taken; zero before the first.
    pulse: AtomicU64,
    boot: AtomicU64,
    wall: AtomicU64,
    /// Held by who takes it.
    taking: Mutex<()>,
}

impl Moment {
    /// A moment less than a second ago.
    ///
    /// The writer reads the pulse, then the clocks. Then it stores the clocks, then the pulse (release). A reader loads
    /// the pulse (acquire), then the clocks. Therefore a reader who finds its own pulse finds clocks that were read in
    /// this pulse or later; and as long as a pulse lasts, nobody has set the wall clock and less than a second passes.
    #[inline]
    fn now(&self, clock: &dyn Clock) -> Timestamp {
        let Some(pulse) = clock.pulse() else { return clock.now() };
        if self.pulse.load(Ordering::Acquire) == pulse.get() {
            let boot = Duration::from_nanos(self.boot.load(Ordering::Relaxed));
            let wall = SystemTime::UNIX_EPOCH + Duration::from_nanos(self.wall.load(Ordering::Relaxed));
            return Timestamp { boot, wall };
        }
        self.take(clock)
    }

    #[cold]
    fn take(&self, clock: &dyn Clock) -> Timestamp {
        // Who takes it now may have been put to sleep. Nobody waits for that.
        let Ok(_turn) = self.taking.try_lock() else { return clock.now() };
        let pulse = clock.pulse().map_or(0, std::num::NonZeroU64::get);
        let now = clock.now();
        let wall = now.wall.duration_since(SystemTime::UNIX_EPOCH).ok();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).ok();
        if let (Some(boot), Some(wall)) = (nanos(now.boot), wall.and_then(nanos)) {
            self.boot.store(boot, Ordering::Relaxed);
            self.wall.store(wall, Ordering::Relaxed);
            self.pulse.store(pulse, Ordering::Release);
        }
        now
    }
}
