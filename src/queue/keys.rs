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

#[cfg(test)]
mod tests {
    use super::*;

    /// Another hash for each number, as a hasher gives them. (The factor is odd, so no two are equal.)
    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn with_keys(numbers: u64) -> Keys {
        let mut keys = Keys::default();
        (0..numbers).for_each(|number| keys.insert(hash(number), number));
        keys
    }

    #[test]
    fn no_table_has_many_more_keys_than_the_others() {
        let keys = with_keys(64_000);
        let largest = keys.0.iter().map(HashTable::len).max().unwrap();
        assert!(largest <= 2_000, "{largest} of 64,000 are in one of {SHARDS} tables");
    }

    #[test]
    fn keys_that_leave_give_their_memory_back_in_a_few_steps() {
        let all = 64_000;
        let mut keys = with_keys(all);
        let (mut before, mut steps) = (keys.room(), 0);
        for number in 0..all {
            assert_eq!(keys.find(hash(number), |found| found == number), Some(number));
            keys.remove(hash(number), number);
            assert_eq!(keys.find(hash(number), |found| found == number), None);
            let (room, left) = (keys.room(), usize::try_from(all - 1 - number).unwrap());
            assert!(room <= 32 * left + 64 * SHARDS, "room for {room}, where {left} stay");
            steps += usize::from(room != before);
            before = room;
        }
        assert!((SHARDS..4 * SHARDS).contains(&steps), "{steps} steps of {SHARDS} tables");
    }

    #[test]
    fn keys_of_the_past_are_forgotten_and_the_others_are_found() {
        let mut keys = with_keys(64_000);
        keys.forget_before(63_990);
        assert_eq!(keys.numbers().count(), 10);
        assert!(keys.room() <= 64 * SHARDS, "room for {}", keys.room());
        assert_eq!(keys.find(hash(63_989), |_| true), None);
        assert_eq!(keys.find(hash(63_990), |_| true), Some(63_990));
    }
}
