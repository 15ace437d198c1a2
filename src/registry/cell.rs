//! The state that a registry keeps of each key: a window for readers, in a map that they read without a lock, and
//! behind it a cell.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::SystemTime;

use foldhash::fast::RandomState;

use super::arrivals::Arrivals;
use super::unkept::Unkept;
use super::window::{Frame, Window};
use crate::clock::{Clock, Timestamp};
use crate::slot::{Read, Single, Slot, nanos};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock};
use crate::token::Token;

/// One key's token, for its shard and for reports. Only the key's shard makes and removes it.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) slot: Slot<Single>,
    pub(super) arrivals: Arrivals,
    /// The number of its entry in the shard.
    pub(super) entry: u32,
}

type Windows<K> = papaya::HashMap<K, Window, RandomState>;

/// The cells of all keys, and the readers' time.
pub(super) struct Cells<K> {
    map: Windows<K>,
    hashes: RandomState,
    moment: Moment,
    clock: Arc<dyn Clock>,
    unkept: Mutex<Unkept<K>>,
    /// Whether a token of any key was ever discarded.
    has_discarded: AtomicBool,
    /// Keys in the map.
    pub(super) keys: AtomicUsize,
}

impl<K: Hash + Eq + Clone> Cells<K> {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let hashes = RandomState::default();
        // A window that was removed holds a token. It is dropped as soon as no reader uses it.
        let collector = seize::Collector::new().batch_size(1);
        Self {
            map: papaya::HashMap::builder().hasher(hashes.clone()).collector(collector).build(),
            hashes,
            moment: Moment::default(),
            clock,
            unkept: Mutex::new(Unkept::new()),
            has_discarded: AtomicBool::new(false),
            keys: AtomicUsize::new(0),
        }
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The key's hash. It decides which shard the key belongs to.
    pub(super) fn hash(&self, key: &K) -> u64 {
        self.hashes.hash_one(key)
    }

    /// The key's token, if there is a usable one.
    #[inline]
    pub(super) fn read(&self, key: &K) -> Read {
        let windows = self.map.pin();
        let Some(window) = windows.get(key) else { return Read { token: None, reports: false } };
        window.note_use();
        window.read(self.moment.now(&*self.clock))
    }

    pub(super) fn get(&self, key: &K) -> Option<Arc<Cell>> {
        self.map.pin().get(key).map(|window| Arc::clone(&window.cell))
    }

    pub(super) fn note_use(&self, key: &K) {
        if let Some(window) = self.map.pin().get(key) {
            window.note_use();
        }
    }

    /// Whether the key was used since the last call with this mark.
    pub(super) fn was_used(&self, key: &K, since: u8) -> bool {
        self.map.pin().get(key).is_some_and(|window| window.was_used(since))
    }

    /// An API rejected this token of this key. `None`: the key is not kept. See [`Slot::invalidate`].
    pub(super) fn invalidate(&self, key: &K, token: &Token) -> Option<bool> {
        let cell = self.get(key)?;
        Some(cell.slot.invalidate(token, &Frame { cells: self, key, cell: &cell }))
    }

    /// The token is no longer given out, whether the key is kept or not.
    ///
    /// A discarded token is remembered by its key, or, if the key is not kept, in `unkept`. A change of the two, and a
    /// look at both, hold the lock of `unkept`. Therefore a discarded token is always found in one of them.
    pub(super) fn discard(&self, key: &K, token: &Token) {
        let mut unkept = lock(&self.unkept);
        match self.get(key) {
            Some(cell) => cell.slot.discard(token, &Frame { cells: self, key, cell: &cell }),
            None => unkept.remember(self.hash(key), key.clone(), token.clone(), false),
        }
        self.has_discarded.store(true, Ordering::Release);
    }

    /// Whether the token was discarded, also while a caller waited for it.
    ///
    /// First the secret is remembered. Then the flag is set. Then `discard` returns. Therefore a caller that knows of
    /// the discard sees the flag. A crowd that is woken needs no lock for this, as long as nothing was discarded.
    pub(super) fn is_discarded(&self, key: &K, token: &Token) -> bool {
        if !self.has_discarded.load(Ordering::Acquire) {
            return false;
        }
        let unkept = lock(&self.unkept);
        unkept.knows(self.hash(key), key, token)
            || self.get(key).is_some_and(|cell| cell.slot.is_discarded(token))
    }

    /// A new key.
    ///
    /// First it is put into the map. Then its discarded tokens are taken. A thread that discards between the two finds
    /// the key.
    pub(super) fn make(&self, key: &K, entry: u32) -> Arc<Cell> {
        let slot = Slot::new(Arc::clone(&self.clock));
        let cell = Arc::new(Cell { slot, arrivals: Arrivals::default(), entry });
        self.map.pin().insert(key.clone(), Window::blind(Arc::clone(&cell)));
        self.keys.fetch_add(1, Ordering::Relaxed);
        let mut unkept = lock(&self.unkept);
        for (token, is_counted) in unkept.take(self.hash(key), key) {
            if is_counted {
                cell.slot.recall(&token);
            } else {
                cell.slot.discard(&token, &Frame { cells: self, key, cell: &cell });
            }
        }
        drop(unkept);
        cell
    }

    /// Closes each key whose hash `is_meant`.
    pub(super) fn close_all(&self, is_meant: impl Fn(u64) -> bool) {
        let windows = self.map.pin();
        let meant: Vec<_> = windows
            .iter()
            .filter(|(key, _)| is_meant(self.hash(key)))
            .map(|(key, window)| (key.clone(), Arc::clone(&window.cell)))
            .collect();
        for (key, cell) in meant {
            self.close(&key, &cell);
        }
    }

    /// Removes the key: readers find no token, and callers that were not received are answered.
    pub(super) fn close(&self, key: &K, cell: &Cell) {
        self.remove(key);
        cell.slot.close(&());
        cell.arrivals.close();
    }

    /// Readers no longer find the key. Its discarded tokens are remembered.
    pub(super) fn remove(&self, key: &K) {
        let mut unkept = lock(&self.unkept);
        let windows = self.map.pin();
        let Some(window) = windows.remove(key) else { return };
        self.keys.fetch_sub(1, Ordering::Relaxed);
        for (token, is_counted) in window.cell.slot.discarded() {
            unkept.remember(self.hash(key), key.clone(), token, is_counted);
        }
    }

    pub(super) fn windows(&self) -> papaya::HashMapRef<'_, K, Window, RandomState, papaya::LocalGuard<'_>> {
        self.map.pin()
    }
}

/// A moment in nanoseconds: on the boot clock, and since 1970. A moment that is too large counts as later than any
/// other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nanos {
    pub(super) boot: u64,
    pub(super) wall: u64,
}

impl From<Timestamp> for Nanos {
    fn from(now: Timestamp) -> Self {
        let wall = now.wall.duration_since(SystemTime::UNIX_EPOCH).map_or(u64::MAX, nanos);
        Self { boot: nanos(now.boot), wall }
    }
}

/// The time, read once per [pulse](Clock::pulse) for all keys.
#[derive(Debug, Default)]
struct Moment {
    /// The pulse in which the time was read. Zero before the first.
    pulse: AtomicU64,
    boot: AtomicU64,
    wall: AtomicU64,
    /// Held by the thread that reads the time.
    taking: Mutex<()>,
}

impl Moment {
    /// A moment less than a second ago, on both clocks. As numbers, so that a reader needs no division.
    ///
    /// The writer first reads the pulse, then the clocks. Then it stores the clocks, then the pulse (release). A
    /// reader first loads the pulse (acquire), then the clocks. Therefore a reader that finds its own pulse finds
    /// clocks that were read in this pulse or later. While a pulse lasts, the wall clock was not set and less than
    /// a second passes.
    #[inline]
    fn now(&self, clock: &dyn Clock) -> Nanos {
        let Some(pulse) = clock.pulse() else { return clock.now().into() };
        if self.pulse.load(Ordering::Acquire) == pulse.get() {
            let load = |clock: &AtomicU64| clock.load(Ordering::Relaxed);
            return Nanos { boot: load(&self.boot), wall: load(&self.wall) };
        }
        self.take(clock)
    }

    #[cold]
    fn take(&self, clock: &dyn Clock) -> Nanos {
        // The thread that reads the time may be suspended. No other thread waits for it.
        let Ok(_turn) = self.taking.try_lock() else { return clock.now().into() };
        let pulse = clock.pulse().map_or(0, std::num::NonZeroU64::get);
        let now = Nanos::from(clock.now());
        self.boot.store(now.boot, Ordering::Relaxed);
        self.wall.store(now.wall, Ordering::Relaxed);
        self.pulse.store(pulse, Ordering::Release);
        now
    }
}
