//! Finds a waiter by the hash of its key.

use hashbrown::HashTable;

/// As many tables as share the load.
const SHARDS: usize = 64;

/// From hashes to the numbers of waiters.
///
/// A table that grows moves all that it holds, at once: for a million waiters that would keep the arbiter from
/// its other tasks for a tenth of a second. So there are many small tables, and each entry keeps its hash, so
/// that no waiter need be looked at to move it. The tables are made when the first key comes; most queues never
/// see one.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Keys(Vec<HashTable<Entry>>);

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Entry {
    hash: u64,
    number: u64,
}

impl Keys {
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u64) -> bool) -> Option<u64> {
        let table = self.0.get(shard(hash))?;
        table.find(hash, |entry| entry.hash == hash && is_it(entry.number)).map(|entry| entry.number)
    }

    /// Adds a waiter that is not there.
    pub(super) fn insert(&mut self, hash: u64, number: u64) {
        if self.0.is_empty() {
            self.0.resize_with(SHARDS, HashTable::new);
        }
        if let Some(table) = self.0.get_mut(shard(hash)) {
            table.insert_unique(hash, Entry { hash, number }, |entry| entry.hash);
        }
    }

    pub(super) fn remove(&mut self, hash: u64, number: u64) {
        if let Some(table) = self.0.get_mut(shard(hash))
            && let Ok(entry) = table.find_entry(hash, |entry| entry.number == number)
        {
            entry.remove();
        }
    }

    #[cfg(test)]
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flatten().map(|entry| entry.number)
    }
}

/// The tables themselves use the lowest bits and the highest seven; these are others.
#[allow(clippy::cast_possible_truncation)] // only the low bits are kept
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}
