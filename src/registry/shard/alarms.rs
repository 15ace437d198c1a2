//! The moments at which a shard's keys must be woken.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::entries::{Entries, Entry};

/// The alarms of all keys. The ones that are obsolete are removed when they come to the top, or when they are the
/// majority.
///
/// A key may have several alarms. Only the one that its entry names counts.
#[derive(Debug, Default)]
pub(super) struct Alarms(BinaryHeap<Reverse<Alarm>>);

/// A moment on the boot clock, and the number and the generation of the key.
type Alarm = (Duration, u32, u32);

impl Alarms {
    /// Wakes the key at this moment, if it is not woken before. The entry is out of its place.
    pub(super) fn set<K>(&mut self, number: u32, entry: &mut Entry<K>, wake: Duration, entries: &Entries<K>) {
        if entry.wake.is_some_and(|set| set <= wake) {
            return;
        }
        entry.wake = Some(wake);
        self.0.push(Reverse((wake, number, entry.generation)));
        if self.0.len() > (entries.numbers() as usize).saturating_mul(2).saturating_add(64) {
            self.tidy(number, entry, entries);
        }
    }

    fn tidy<K>(&mut self, number: u32, out: &Entry<K>, entries: &Entries<K>) {
        self.0.retain(|Reverse((moment, of, generation))| {
            let entry = if *of == number { Some(out) } else { entries.get(*of) };
            entry.is_some_and(|entry| entry.generation == *generation && entry.wake == Some(*moment))
        });
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(2 * self.0.len() + 64);
        }
    }

    /// The moment of the first alarm.
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.peek().map(|Reverse((moment, ..))| *moment)
    }

    /// Takes an alarm that is due. It may be obsolete.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<Alarm> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(alarm)| alarm)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::registry::cell::Cells;

    const FAR: Duration = Duration::MAX;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// This many keys.
    fn keys(count: u32) -> Entries<u32> {
        let (cells, mut entries) = (Cells::new(Arc::new(SystemClock)), Entries::new());
        for key in 0..count {
            let number = entries.reserve();
            let entry = entries.new_entry(key, 0, cells.make(&key, number));
            entries.put(number, entry);
        }
        entries
    }

    fn set(alarms: &mut Alarms, entries: &mut Entries<u32>, number: u32, wake: Duration) {
        let mut entry = entries.take(number).unwrap();
        alarms.set(number, &mut entry, wake, entries);
        entries.put(number, entry);
    }

    /// Rings what is due, as the shard does. Returns the keys that were woken.
    fn ring(alarms: &mut Alarms, entries: &mut Entries<u32>, now: Duration) -> Vec<u32> {
        let mut woken = Vec::new();
        while let Some((moment, number, generation)) = alarms.pop_due(now) {
            let Some(entry) = entries.get_mut(number).filter(|entry| entry.generation == generation) else {
                continue;
            };
            if entry.wake == Some(moment) {
                entry.wake = None;
                woken.push(number);
            }
        }
        woken
    }

    #[test]
    fn flights_whose_waiters_wait_for_ever_leave_no_alarms_behind() {
        let (mut alarms, mut entries) = (Alarms::default(), keys(10));
        for flight in 0..10_000_u32 {
            let (number, now) = (flight % 10, secs(flight.into()));
            // The waiter's timeout, then the attempt's.
            set(&mut alarms, &mut entries, number, FAR);
            set(&mut alarms, &mut entries, number, now + secs(10));
            ring(&mut alarms, &mut entries, now);
            assert!(alarms.0.len() <= 2 * 10 + 64, "{}", alarms.0.len());
        }
    }

    #[test]
    fn each_key_is_woken_at_its_earliest_moment_however_many_alarms_are_obsolete() {
        let (mut alarms, mut entries) = (Alarms::default(), keys(100));
        for round in (0..50).rev() {
            for number in 0..100 {
                set(&mut alarms, &mut entries, number, secs(1_000 * round + u64::from(number)));
            }
        }
        set(&mut alarms, &mut entries, 7, secs(5_000));
        for number in 0..100_u32 {
            assert_eq!(alarms.next().map(|next| next <= secs(number.into())), Some(true));
            assert_eq!(ring(&mut alarms, &mut entries, secs(number.into())), [number]);
        }
        assert!(ring(&mut alarms, &mut entries, FAR).is_empty());
    }

    #[test]
    fn an_alarm_of_an_earlier_key_with_the_same_number_wakes_nobody() {
        let cells = Cells::new(Arc::new(SystemClock));
        let (mut alarms, mut entries) = (Alarms::default(), keys(1));
        set(&mut alarms, &mut entries, 0, secs(1));
        let gone = entries.take(0).unwrap();
        entries.release(0);
        drop(gone);
        let number = entries.reserve();
        let entry = entries.new_entry(9, 0, cells.make(&9, number));
        entries.put(number, entry);
        for _ in 0..200 {
            set(&mut alarms, &mut entries, 0, FAR);
        }
        assert!(ring(&mut alarms, &mut entries, secs(1)).is_empty());
        assert_eq!(ring(&mut alarms, &mut entries, FAR), [0]);
    }
}
