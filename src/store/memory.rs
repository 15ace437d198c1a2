//! The store of actors in one process, and of tests: the same rules as in Redis, behind a lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, SystemClock};
use crate::store::{Ask, Failure, Lease, Look, News, Pause, SharedKey, SharedStore, StoreError, Stored};

/// A store in this process's memory. A clone is the same store.
///
/// For actors on several arbiters that should share one token, and for tests: with
/// [`with_clock`](Self::with_clock) a fleet's day takes a moment.
#[derive(Clone, Debug)]
pub struct MemoryStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    entries: Mutex<HashMap<SharedKey, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    token: Option<Kept>,
    lease: Option<(Lease, Duration)>,
    pause: Option<(bool, Duration)>,
    streak: u32,
    fence: u64,
    news: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    stored: Stored,
    until: Duration,
    /// Of the lease that it was committed under.
    fence: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// An empty store that reads the time here.
    pub fn with_clock(clock: impl Clock) -> Self {
        Self(Arc::new(Inner { clock: Arc::new(clock), entries: Mutex::default() }))
    }

    /// Forgets everything, as a Redis does that restarts without its disk.
    pub fn clear(&self) {
        for entry in self.entries().values_mut() {
            (entry.token, entry.lease, entry.pause, entry.streak) = (None, None, None, 0);
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<SharedKey, Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step: everything that has run out is gone, then `step` happens, and nothing comes in between.
    fn step<R>(&self, key: &SharedKey, step: impl FnOnce(&mut Entry, Duration) -> R) -> R {
        let now = self.0.clock.now().boot;
        let mut entries = self.entries();
        let entry = entries.entry(key.clone()).or_default();
        entry.token.take_if(|kept| kept.until <= now);
        entry.lease.take_if(|(_, until)| *until <= now);
        entry.pause.take_if(|(_, until)| *until <= now);
        step(entry, now)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Entry {
    fn stored(&self, now: Duration) -> Option<Stored> {
        self.token.as_ref().map(|kept| Stored { left: kept.until.saturating_sub(now), ..kept.stored.clone() })
    }

    fn look_or_lease(&mut self, ask: &Ask, now: Duration) -> Look {
        match self.stored(now) {
            Some(stored) if ask.refused.as_ref() != Some(&stored.id) => return Look::Found(stored),
            Some(_) if ask.discard => self.token = None,
            _ => {}
        }
        if let Some((terminal, until)) = self.pause {
            return Look::Paused(Pause { terminal, left: until.saturating_sub(now) });
        }
        if let Some((held, until)) = &mut self.lease {
            if held.owner == ask.owner {
                *until = now.saturating_add(ask.lease);
                return Look::Leased(held.clone());
            }
            return Look::Taken(until.saturating_sub(now));
        }
        self.fence += 1;
        let lease = Lease { owner: ask.owner.clone(), fence: self.fence };
        self.lease = Some((lease.clone(), now.saturating_add(ask.lease)));
        Look::Leased(lease)
    }

    fn is_held_by(&self, lease: &Lease) -> bool {
        self.lease.as_ref().is_some_and(|(held, _)| held == lease)
    }

    fn has_token_of(&self, lease: &Lease) -> bool {
        self.token.as_ref().is_some_and(|kept| kept.stored.id == lease.owner && kept.fence == lease.fence)
    }

    /// The last thing in a step: whoever hears it finds the rest done.
    fn tell(&mut self) {
        self.news.send_modify(|count| *count += 1);
    }
}

impl SharedStore for MemoryStore {
    async fn watch(&self, key: &SharedKey) -> Result<News, StoreError> {
        Ok(self.step(key, |entry, _| News::new(entry.news.subscribe())))
    }

    async fn look_or_lease(&self, key: &SharedKey, ask: &Ask) -> Result<Look, StoreError> {
        Ok(self.step(key, |entry, now| entry.look_or_lease(ask, now)))
    }

    async fn load(&self, key: &SharedKey) -> Result<Option<Stored>, StoreError> {
        Ok(self.step(key, |entry, now| entry.stored(now)))
    }

    async fn renew(&self, key: &SharedKey, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
        Ok(self.step(key, |entry, now| match &mut entry.lease {
            Some((held, until)) if held == lease => {
                *until = now.saturating_add(time);
                true
            }
            _ => false,
        }))
    }

    async fn commit(
        &self,
        key: &SharedKey,
        lease: &Lease,
        value: &[u8],
        lives: Duration,
    ) -> Result<bool, StoreError> {
        Ok(self.step(key, |entry, now| {
            if entry.has_token_of(lease) {
                return true;
            }
            let held = entry.is_held_by(lease);
            if held {
                let stored = Stored { id: lease.owner.clone(), value: value.to_vec(), left: lives };
                entry.token = Some(Kept { stored, until: now.saturating_add(lives), fence: lease.fence });
                (entry.lease, entry.pause, entry.streak) = (None, None, 0);
                entry.tell();
            }
            held
        }))
    }

    async fn fail(&self, key: &SharedKey, lease: &Lease, failure: &Failure) -> Result<bool, StoreError> {
        Ok(self.step(key, |entry, now| {
            let held = entry.is_held_by(lease);
            if held {
                entry.streak = entry.streak.saturating_add(1);
                let until = now.saturating_add(failure.pause(entry.streak));
                (entry.lease, entry.pause) = (None, Some((failure.terminal, until)));
                entry.tell();
            }
            held
        }))
    }
}
