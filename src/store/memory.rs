//! The store of actors in one process, and of tests: the same rules as in Redis, behind a lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::watch;

use super::slots::{self, OfOwner};
use crate::clock::{Clock, SystemClock};
use crate::store::{
    Ask, Failure, Free, Held, LONGEST_VALUE, Lease, Look, MOST_MARKS, News, SharedKey, SharedStore,
    SlotAnswer, SlotAsk, StoreError, Stored, is_ahead,
};

/// The minimum number of keys before a sweep.
const FEWEST_SWEPT: usize = 64;

/// A store in this process's memory. A clone is the same store.
///
/// For actors on several arbiters that share one token, and for tests: with [`with_clock`](Self::with_clock) a
/// fleet's day takes a moment.
#[derive(Clone, Debug)]
pub struct MemoryStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    of: HashMap<SharedKey, Entry>,
    /// At this number of keys, the empty ones are dropped.
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Entry {
    token: Option<Kept>,
    lease: Option<(Lease, Duration)>,
    pause: Option<Record>,
    /// By the names of the credentials.
    marks: HashMap<String, Record>,
    /// The greatest fence that was given out.
    fence: u64,
    /// By the names of processes.
    slots: HashMap<String, OfOwner>,
    news: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    stored: Stored,
    until: Duration,
}

/// A pause or a mark.
#[derive(Debug)]
struct Record {
    value: Vec<u8>,
    until: Duration,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// An empty store with this clock.
    pub fn with_clock(clock: impl Clock) -> Self {
        Self(Arc::new(Inner { clock: Arc::new(clock), entries: Mutex::default() }))
    }

    /// Forgets everything, like a Redis that restarts without its disc.
    pub fn clear(&self) {
        for entry in self.entries().of.values_mut() {
            (entry.token, entry.lease, entry.pause) = (None, None, None);
            entry.marks.clear();
            entry.slots.clear();
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step: first everything that has run out is removed. Then `step` runs. No other step can come in between.
    fn step<R>(&self, key: &SharedKey, step: impl FnOnce(&mut Entry, Duration) -> R) -> R {
        let now = self.0.clock.now().boot;
        let mut entries = self.entries();
        entries.sweep(now);
        let entry = entries.of.entry(key.clone()).or_default();
        entry.pass(now);
        step(entry, now)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Entries {
    /// Drops keys whose token has ended and that no process uses. The last fence is lost too. This is harmless,
    /// because the next fence is at least the time of the clock.
    fn sweep(&mut self, now: Duration) {
        if self.of.len() < self.sweep_at.max(FEWEST_SWEPT) {
            return;
        }
        self.of.retain(|_, entry| {
            entry.pass(now);
            !entry.is_idle()
        });
        self.sweep_at = self.of.len() * 2;
    }
}

impl Entry {
    /// Removes everything that has run out.
    fn pass(&mut self, now: Duration) {
        self.token.take_if(|kept| kept.until <= now);
        self.lease.take_if(|(_, until)| *until <= now);
        self.pause.take_if(|pause| pause.until <= now);
        self.marks.retain(|_, mark| mark.until > now);
        self.slots.retain(|_, owner| owner.until > now);
    }

    /// The clock was set back: fences from before it would block all later ones. Returns the number of deleted values.
    fn mend(&mut self, clock: Duration) -> u64 {
        let mut mended = 0;
        if is_ahead(self.fence, clock) {
            self.fence = 0;
            mended += 1;
        }
        mended + u64::from(self.token.take_if(|kept| is_ahead(kept.stored.fence, clock)).is_some())
    }

    fn is_idle(&self) -> bool {
        let holds_something = self.token.is_some() || self.lease.is_some() || self.pause.is_some();
        let is_empty = self.marks.is_empty() && self.slots.is_empty();
        is_empty && !holds_something && self.news.receiver_count() == 0
    }

    fn stored(&self, now: Duration) -> Option<Stored> {
        self.token.as_ref().map(|kept| Stored { left: kept.until.saturating_sub(now), ..kept.stored.clone() })
    }

    fn look_or_lease(&mut self, ask: &Ask, now: Duration, clock: Duration) -> Look {
        match self.stored(now) {
            Some(stored) if ask.refused.as_ref() != Some(&stored.id) => return Look::Found(stored),
            Some(_) if ask.discard => self.token = None,
            _ => {}
        }
        self.lease.take_if(|(held, _)| ask.void.contains(&held.value));
        self.pause.take_if(|pause| ask.void.contains(&pause.value));
        self.marks.retain(|_, mark| !ask.void.contains(&mark.value));
        let held = |value: &[u8], until: Duration| Held {
            value: value.to_vec(),
            left: until.saturating_sub(now),
            clock,
        };
        let stands = |record: &&Record| !ask.is_past(&record.value);
        let pauses = [self.pause.as_ref(), self.marks.get(&ask.mark)];
        if let Some(pause) = pauses.into_iter().flatten().find(stands) {
            return Look::Paused(held(&pause.value, pause.until));
        }
        if let Some((lease, until)) = &mut self.lease {
            if let Some(take) = ask.take.as_ref().filter(|take| take.lease == *lease) {
                *until = now.saturating_add(take.time);
                return Look::Leased;
            }
            if !ask.is_past(&lease.value) {
                return Look::Taken(held(&lease.value, *until));
            }
        }
        match &ask.take {
            Some(take) if take.lease.fence > self.fence && !is_ahead(take.lease.fence, clock) => {
                self.fence = take.lease.fence;
                self.lease = Some((take.lease.clone(), now.saturating_add(take.time)));
                Look::Leased
            }
            _ => Look::Free(Free { clock, fence: self.fence }),
        }
    }

    /// Compares the name and the fence, because the value changes with each renewal.
    fn is_held_by(&self, lease: &Lease) -> bool {
        let is_it = |(held, _): &(Lease, _)| held.owner == lease.owner && held.fence == lease.fence;
        self.lease.as_ref().is_some_and(is_it)
    }

    /// Whether the lease is there, or was lost and no other lease was given out since.
    fn may_commit(&self, lease: &Lease) -> bool {
        let newest = self.token.as_ref().map_or(0, |kept| kept.stored.fence);
        let is_last = self.lease.is_none() && self.fence == lease.fence;
        newest < lease.fence && (self.is_held_by(lease) || is_last)
    }

    fn has_token_of(&self, lease: &Lease) -> bool {
        self.token
            .as_ref()
            .is_some_and(|kept| kept.stored.id == lease.owner && kept.stored.fence == lease.fence)
    }

    fn leave_mark(&mut self, name: &str, mark: Record) {
        if !self.marks.contains_key(name)
            && self.marks.len() == MOST_MARKS
            && let Some(first) =
                self.marks.iter().min_by_key(|(_, mark)| mark.until).map(|(name, _)| name.clone())
        {
            self.marks.remove(&first);
        }
        self.marks.insert(name.to_owned(), mark);
    }

    /// The last part of a step: a process that gets the news finds the rest done.
    fn tell(&mut self) {
        self.news.send_modify(|count| *count += 1);
    }
}

impl SharedStore for MemoryStore {
    async fn watch(&self, key: &SharedKey) -> Result<News, StoreError> {
        Ok(self.step(key, |entry, _| News::new(entry.news.subscribe())))
    }

    async fn look_or_lease(&self, key: &SharedKey, ask: &Ask) -> Result<Look, StoreError> {
        let clock = self.0.clock.now().wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(self.step(key, |entry, now| match entry.mend(clock) {
            0 => entry.look_or_lease(ask, now, clock),
            mended => Look::Mended(mended),
        }))
    }

    async fn load(&self, key: &SharedKey) -> Result<Option<Stored>, StoreError> {
        Ok(self.step(key, |entry, now| entry.stored(now)))
    }

    async fn renew(&self, key: &SharedKey, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
        Ok(self.step(key, |entry, now| {
            let held = entry.is_held_by(lease);
            if held {
                entry.lease = Some((lease.clone(), now.saturating_add(time)));
            }
            held
        }))
    }

    async fn commit(
        &self,
        key: &SharedKey,
        lease: &Lease,
        value: &[u8],
        lives: Duration,
    ) -> Result<bool, StoreError> {
        if value.len() > LONGEST_VALUE {
            return Err(StoreError::too_long());
        }
        Ok(self.step(key, |entry, now| {
            if entry.has_token_of(lease) {
                return true;
            }
            let may = entry.may_commit(lease);
            if may {
                let (id, fence) = (lease.owner.clone(), lease.fence);
                let stored = Stored { id, fence, value: value.to_vec(), left: lives };
                entry.token = Some(Kept { stored, until: now.saturating_add(lives) });
                (entry.lease, entry.pause) = (None, None);
                entry.marks.remove(&lease.mark);
                entry.tell();
            }
            may
        }))
    }

    async fn fail(&self, key: &SharedKey, lease: &Lease, failure: &Failure) -> Result<bool, StoreError> {
        Ok(self.step(key, |entry, now| {
            let held = entry.is_held_by(lease);
            if held {
                let record = |(value, time): &(Vec<u8>, Duration)| Record {
                    value: value.clone(),
                    until: now.saturating_add(*time),
                };
                entry.lease = None;
                if let Some(pause) = &failure.pause {
                    entry.pause = Some(record(pause));
                }
                if let Some(mark) = &failure.mark {
                    entry.leave_mark(&lease.mark, record(mark));
                }
                entry.tell();
            }
            held
        }))
    }

    fn keeps_slots(&self) -> bool {
        true
    }

    async fn slots(&self, key: &SharedKey, ask: &SlotAsk) -> Result<SlotAnswer, StoreError> {
        Ok(self.step(key, |entry, now| {
            let (answer, is_news) = slots::ask(&mut entry.slots, ask, now);
            if is_news {
                entry.tell();
            }
            answer
        }))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn keys_that_hold_nothing_any_more_take_no_memory() {
        let store = MemoryStore::new();
        let key = |number: u32| SharedKey::new("orders", [("number", number.to_string().as_str())]).unwrap();
        let lease = Lease { owner: "me".into(), fence: 1, mark: String::new(), value: Vec::new() };
        store.step(&key(0), |entry, _| entry.fence = 1);
        let first = key(0);
        let kept = store.commit(&first, &lease, b"a token", Duration::from_secs(3_600));
        assert!(kept.now_or_never().unwrap().unwrap());
        let watched = store.watch(&key(1)).now_or_never().unwrap().unwrap();
        let time = Duration::from_secs(60);
        let ask = SlotAsk { owner: "me".into(), wanted: 1, most: 1, slots: 1, time };
        assert_eq!(store.slots(&key(2), &ask).now_or_never().unwrap().unwrap().held, 1);
        for number in 3..10_000 {
            assert!(store.load(&key(number)).now_or_never().unwrap().unwrap().is_none());
        }
        assert!(store.entries().of.len() <= FEWEST_SWEPT, "{}", store.entries().of.len());
        assert!(store.load(&key(0)).now_or_never().unwrap().unwrap().is_some());
        assert!(store.entries().of.contains_key(&key(1)), "somebody waits for news of it");
        let other = SlotAsk { owner: "another".into(), ..ask };
        assert_eq!(store.slots(&key(2), &other).now_or_never().unwrap().unwrap().held, 0);
        drop(watched);
    }
}
