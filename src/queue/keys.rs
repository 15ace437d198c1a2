//! Finds a waiter by the hash of its key.

use hashbrown::HashTable;

/// The number of tables.
const SHARDS: usize = 64;

/// A map from hashes to the numbers of waiters.
///
/// A table that grows moves all its entries at once. For a million waiters that would keep the arbiter from its
/// other tasks for a tenth of a second. Therefore there are many small tables. Each entry keeps its hash, so that
/// moving an entry needs no look at its waiter. The tables are made when the first key comes. Most queues never
/// have a key.
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

    /// Adds a waiter that is not in the table.
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
            shrink(table);
        }
    }

    /// Forgets all waiters before this number. Looks at every entry.
    pub(super) fn forget_before(&mut self, number: u64) {
        for table in &mut self.0 {
            table.retain(|entry| entry.number >= number);
            shrink(table);
        }
    }

    #[cfg(test)]
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flatten().map(|entry| entry.number)
    }

    /// How many keys could be held without more memory.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.0.iter().map(HashTable::capacity).sum()
    }
}

/// The tables themselves use the lowest bits and the highest seven. This uses other bits.
#[allow(clippy::cast_possible_truncation)] // only the low bits are kept
fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

/// Gives memory back if seven of eight entries are gone.
fn shrink(table: &mut HashTable<Entry>) {
    if table.capacity() > 64 && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2, |entry| entry.hash);
    }
}
