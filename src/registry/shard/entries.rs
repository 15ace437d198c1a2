//! A shard's keys, and the choice of the key to evict when there is no more room.
//!
//! The order of eviction is SIEVE: the keys are checked from the oldest to the newest. A key that was used since
//! its last check stays. The first key that was not used is evicted. Busy keys are not in the line. Therefore they
//! are never evicted.

use std::sync::Arc;
use std::time::Duration;

use super::super::cell::Cell;
use super::busy::Busy;
use crate::flight::Resting;

/// One key in its shard.
#[derive(Debug)]
pub(super) struct Entry<K> {
    pub(super) key: K,
    pub(super) hash: u64,
    pub(super) cell: Arc<Cell>,
    /// Distinguishes this key from earlier keys with the same number.
    pub(super) generation: u32,
    pub(super) state: State,
    /// The earliest alarm that is set for it.
    pub(super) wake: Option<Duration>,
    /// The number of searches in a row that found it unused.
    pub(super) idle: u8,
    /// How long its last flight took.
    pub(super) took: Option<Duration>,
    older: Option<u32>,
    newer: Option<u32>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // most keys are at rest, and each entry is boxed
pub(super) enum State {
    /// No waiter, and no flight.
    Resting(Resting),
    Busy(Box<Busy>),
}

/// Numbered places, and the line of the resting keys.
#[derive(Debug)]
pub(super) struct Entries<K> {
    places: Vec<Option<Box<Entry<K>>>>,
    free: Vec<u32>,
    generations: u32,
    oldest: Option<u32>,
    newest: Option<u32>,
    hand: Option<u32>,
}

impl<K> Entries<K> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), generations: 0, oldest: None, newest: None, hand: None }
    }

    /// How many numbers have been given out.
    pub(super) fn numbers(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    /// A number for a new key.
    pub(super) fn reserve(&mut self) -> u32 {
        if let Some(number) = self.free.pop() {
            return number;
        }
        self.places.push(None);
        self.numbers() - 1
    }

    /// A new key that was not used yet.
    pub(super) fn new_entry(&mut self, key: K, hash: u64, cell: Arc<Cell>) -> Box<Entry<K>> {
        self.generations = self.generations.wrapping_add(1);
        Box::new(Entry {
            key,
            hash,
            cell,
            generation: self.generations,
            state: State::Resting(Resting::default()),
            wake: None,
            idle: 0,
            took: None,
            older: None,
            newer: None,
        })
    }

    /// Takes the key out while it is processed. It [comes back](Self::put), or its number [is
    /// freed](Self::release).
    pub(super) fn take(&mut self, number: u32) -> Option<Box<Entry<K>>> {
        let entry = self.places.get_mut(number as usize)?.take()?;
        if matches!(entry.state, State::Resting(_)) {
            self.unlink(number, &entry);
        }
        Some(entry)
    }

    /// The same, if it is still this key.
    pub(super) fn take_same(&mut self, number: u32, generation: u32) -> Option<Box<Entry<K>>> {
        self.get(number).filter(|entry| entry.generation == generation)?;
        self.take(number)
    }

    pub(super) fn put(&mut self, number: u32, mut entry: Box<Entry<K>>) {
        if matches!(entry.state, State::Resting(_)) {
            self.link(number, &mut entry);
        }
        if let Some(place) = self.places.get_mut(number as usize) {
            *place = Some(entry);
        }
    }

    pub(super) fn release(&mut self, number: u32) {
        self.free.push(number);
    }

    pub(super) fn get(&self, number: u32) -> Option<&Entry<K>> {
        self.places.get(number as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Entry<K>> {
        self.places.get_mut(number as usize)?.as_deref_mut()
    }

    /// The next key to evict, among those without callers in their own lines. It is taken out of this line, and its
    /// number is not freed yet.
    pub(super) fn pick(&mut self, was_used: impl Fn(&K) -> bool) -> Option<(u32, Box<Entry<K>>)> {
        let mut number = self.hand.or(self.oldest)?;
        // The mark of each key that stays is cleared. Therefore the second pass finds a key, unless readers mark
        // all keys again meanwhile. There is no third pass.
        for _ in 0..=self.places.len().saturating_mul(2) {
            let entry = self.get(number)?;
            let next = entry.newer.or(self.oldest)?;
            if !was_used(&entry.key) && entry.cell.arrivals.close_if_empty() {
                self.hand = (next != number).then_some(next);
                return self.take(number).map(|entry| (number, entry));
            }
            number = next;
        }
        self.get(number).filter(|entry| entry.cell.arrivals.close_if_empty())?;
        self.take(number).map(|entry| (number, entry))
    }

    fn link(&mut self, number: u32, entry: &mut Entry<K>) {
        (entry.older, entry.newer) = (self.newest, None);
        match self.newest.and_then(|newest| self.get_mut(newest)) {
            Some(newest) => newest.newer = Some(number),
            None => self.oldest = Some(number),
        }
        self.newest = Some(number);
    }

    fn unlink(&mut self, number: u32, entry: &Entry<K>) {
        let Entry { older, newer, .. } = *entry;
        match older.and_then(|older| self.get_mut(older)) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| self.get_mut(newer)) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        if self.hand == Some(number) {
            self.hand = newer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::HashSet;

    use crate::clock::SystemClock;
    use crate::registry::cell::Cells;

    struct Line {
        entries: Entries<u32>,
        cells: Cells<u32>,
        used: RefCell<HashSet<u32>>,
    }

    fn line(keys: u32) -> Line {
        let cells = Cells::new(Arc::new(SystemClock));
        let mut line = Line { entries: Entries::new(), cells, used: RefCell::default() };
        (0..keys).for_each(|key| line.add(key));
        line
    }

    impl Line {
        fn add(&mut self, key: u32) {
            let number = self.entries.reserve();
            let entry = self.entries.new_entry(key, 0, self.cells.make(&key, number));
            self.entries.put(number, entry);
        }

        fn uses(&self, keys: impl IntoIterator<Item = u32>) {
            self.used.borrow_mut().extend(keys);
        }

        fn evict(&mut self) -> Option<u32> {
            let (number, entry) = self.entries.pick(|key| self.used.borrow_mut().remove(key))?;
            self.entries.release(number);
            Some(entry.key)
        }
    }

    #[test]
    fn the_oldest_that_was_not_used_goes_and_one_that_was_used_is_passed_over_once() {
        let mut line = line(4);
        line.uses([0, 2]);
        assert_eq!(line.evict(), Some(1));
        assert_eq!(line.evict(), Some(3));
        assert_eq!(line.evict(), Some(0), "its mark was wiped");
        assert_eq!(line.evict(), Some(2));
        assert_eq!(line.evict(), None);
    }

    #[test]
    fn a_key_that_is_taken_out_is_not_evicted() {
        let mut line = line(3);
        let busy = line.entries.take(0).unwrap();
        assert_eq!(line.evict(), Some(1));
        line.entries.put(0, busy);
        assert_eq!(line.evict(), Some(2), "it went to the end of the line");
        assert_eq!(line.evict(), Some(0));
    }

    #[test]
    fn a_number_that_is_used_again_is_another_key() {
        let mut line = line(1);
        let before = line.entries.get(0).unwrap().generation;
        assert_eq!(line.evict(), Some(0));
        line.add(9);
        assert!(line.entries.take_same(0, before).is_none());
        assert!(line.entries.take_same(0, before + 1).is_some());
    }

    #[test]
    fn where_readers_mark_all_keys_again_and_again_one_goes_all_the_same() {
        let mut line = line(3);
        line.uses(0..3);
        assert_eq!(line.evict(), Some(0));
        assert!(line.entries.pick(|_| true).is_some(), "readers may be as fast as the hand");
    }
}
