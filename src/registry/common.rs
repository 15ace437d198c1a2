//! The state that the shards of a registry share with each other and with its handles.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

use super::cell::Cells;
use super::gate::{Decided, Ending, Gate, Permit};
use super::observe::Meters;
use super::seats::Seats;
use crate::actor::LONGEST_PARTING;
use crate::panics::{Contained, contain};
use crate::policy::RefreshPolicy;
use crate::source::BoxKeyed;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock};

/// The place of one key: its shard, its number there, and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Who {
    pub(super) shard: usize,
    pub(super) entry: u32,
    pub(super) generation: u32,
}

/// A message from another shard.
pub(super) enum Heard {
    /// The gate's decision for a key of this shard.
    Decided(Decided<Who>),
    /// Another shard has a new key, there is no more room, and it cannot evict one of its own keys.
    MakeRoom,
}

pub(super) struct Common<K> {
    pub(super) name: Arc<str>,
    pub(super) source: BoxKeyed<K>,
    /// Whether the source has finished, at a shutdown.
    pub(super) has_finished: AtomicBool,
    /// Held while a handle lets the source finish, because the first shard has gone.
    pub(super) finishing: tokio::sync::Mutex<()>,
    pub(super) policy: Arc<RefreshPolicy>,
    pub(super) cells: Arc<Cells<K>>,
    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    pub(super) evidences: Mutex<super::evidences::Evidences<K>>,
    pub(super) limits: Bounds,
    pub(super) seats: Arc<Seats>,
    /// Keys with a waiter or a flight.
    pub(super) busy: AtomicUsize,
    pub(super) gate: Mutex<Gate<Who>>,
    /// The channels to the shards for the gate's decisions.
    pub(super) doors: Vec<UnboundedSender<Heard>>,
    pub(super) counted: Counted,
    /// The gate's status when a shard last held its lock. A recorder reads it without the lock.
    #[cfg(feature = "metrics")]
    pub(super) figures: [AtomicU64; 7],
    #[cfg(feature = "shared")]
    pub(super) fleet: Option<Arc<super::fleet::Fleet>>,
    pub(super) meters: Meters<K>,
}

/// The limits, after the checks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) max_keys: usize,
    pub(super) max_busy_keys: usize,
    pub(super) idle: Duration,
}

/// The counters of all shards.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Keys that were evicted because there was no more room.
    pub(super) evicted: AtomicU64,
    /// Keys that were evicted because they were not used for the idle time.
    pub(super) idled: AtomicU64,
    /// Requests that found every key busy.
    pub(super) crowded: AtomicU64,
}

impl Bounds {
    /// All keys are looked at four times in the idle time.
    pub(super) fn sweep_interval(&self) -> Duration {
        (self.idle / 4).max(Duration::from_millis(1))
    }
}

impl<K: Hash + Eq> Common<K> {
    /// The shard of a key. It uses the high bits of the hash, because the map uses the low ones.
    pub(super) fn shard_of(&self, hash: u64) -> usize {
        let shards = self.doors.len().max(1) as u64;
        usize::try_from((hash >> 40) % shards).unwrap_or_default()
    }

    /// Called when the source has finished, or its time is up.
    pub(super) fn source_finished(&self, has_ended: bool) {
        self.has_finished.store(true, Ordering::Release);
        if !has_ended {
            self.meters.source_does_not_end(LONGEST_PARTING);
        }
    }

    /// Returns a permit to the gate. This may close or open something, which is logged.
    pub(super) fn end_call(&self, permit: Permit, ending: Ending, now: Duration) {
        let (lines, ahead) = {
            let mut gate = lock(&self.gate);
            let before = gate.is_shut();
            gate.ended(permit, ending, now);
            if gate.is_shut() == before {
                return;
            }
            let status = gate.status();
            (self.meters.gate_moved(&status, now), status.ahead)
        };
        let keys = self.busy.load(Ordering::Relaxed).saturating_sub(ahead);
        self.meters.write(lines, keys, self.seats.taken());
    }

    /// Sends the gate's decision to the key's shard. A shard that is gone needs no call.
    pub(super) fn send(&self, gate: &mut Gate<Who>, decided: Decided<Who>, now: Duration) {
        if let Some(door) = self.doors.get(decided.who.shard)
            && let Err(gone) = door.send(Heard::Decided(decided))
            && let Heard::Decided(decided) = gone.0
            && let Ok(permit) = decided.how
        {
            gate.ended(permit, Ending::Abandoned, now);
        }
    }

    /// Takes a place for another busy key.
    pub(super) fn take_busy_place(&self) -> bool {
        let next = |busy: usize| (busy < self.limits.max_busy_keys).then_some(busy + 1);
        self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Whether there are more keys than allowed.
    pub(super) fn is_too_full(&self) -> bool {
        self.cells.keys.load(Ordering::Relaxed) > self.limits.max_keys
    }

    /// Whether a key must be evicted before another one comes.
    pub(super) fn is_full(&self) -> bool {
        self.cells.keys.load(Ordering::Relaxed) >= self.limits.max_keys
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Common<K> {
    /// Lets the source finish work that must not be interrupted, once. A second shutdown waits for the first one.
    /// Without tokio's timers there is no limit.
    pub(super) async fn finish_source(&self) {
        let _finishing = self.finishing.lock().await;
        if self.has_finished.load(Ordering::Acquire) {
            return;
        }
        let mut finish = Contained::new(self.source.finish());
        // A runtime may have no timers. Then the timeout panics when it is made.
        if Handle::try_current().is_ok()
            && let Some(in_time) = contain(|| tokio::time::timeout(LONGEST_PARTING, &mut finish))
        {
            self.source_finished(in_time.await.is_ok());
        } else {
            finish.await;
            self.source_finished(true);
        }
    }
}

impl<K> fmt::Debug for Common<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
