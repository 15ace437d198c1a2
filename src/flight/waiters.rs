//! Who waits, in which order, until when. A queue in which nobody waits twice under the same key.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use hashbrown::HashTable;

/// What can wait in the queue.
pub(crate) trait Waiter {
    /// A hash of its key; `None` if it is unlike any other.
    fn key_hash(&self) -> Option<u64>;
    /// Whether both have a key, and it is the same.
    fn same_key(&self, other: &Self) -> bool;
    /// Whether nobody is there any more to hear the answer.
    fn is_gone(&self) -> bool;
    /// Whether it is one caller, and not the place of many who are counted elsewhere.
    fn is_one(&self) -> bool {
        true
    }
}

/// The waiters of a flight, oldest first.
///
/// A waiter is known by its place in line, a number that only grows. Leaving makes a hole and moves nobody,
/// so that joining and leaving cost the same however many wait.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Waiters<W> {
    line: VecDeque<Option<Place<W>>>,
    /// The number of the first place in `line`.
    first: u64,
    live: usize,
    /// How many of them are [one](Waiter::is_one).
    callers: usize,
    /// Numbers of the waiters that have a key, found by its hash.
    keyed: HashTable<u64>,
    /// No waiter before this number is due by the usual timeout any more. Those that have the usual timeout
    /// are due in the order in which they came, so one number is enough.
    cursor: u64,
    /// Those with a timeout of their own; may name holes.
    own_deadlines: BinaryHeap<Reverse<(Duration, u64)>>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Place<W> {
    waiter: W,
    deadline: Duration,
    own_deadline: bool,
}

impl<W: Waiter> Waiters<W> {
    pub(crate) fn new() -> Self {
        Self {
            line: VecDeque::new(),
            first: 0,
            live: 0,
            callers: 0,
            keyed: HashTable::new(),
            cursor: 0,
            own_deadlines: BinaryHeap::new(),
        }
    }

    /// How many callers wait.
    pub(crate) fn callers(&self) -> usize {
        self.callers
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    pub(crate) fn contains(&self, waiter: &W) -> bool {
        let Some(hash) = waiter.key_hash() else { return false };
        self.keyed.find(hash, |&number| is_at(&self.line, self.first, number, waiter)).is_some()
    }

    /// Puts `waiter` at the end of the line, and returns its number. The caller has looked whether it
    /// [is there](Self::contains).
    pub(crate) fn push(&mut self, waiter: W, deadline: Duration, own_deadline: bool) -> u64 {
        let number = self.first + self.line.len() as u64;
        if let Some(hash) = waiter.key_hash() {
            let (line, first) = (&self.line, self.first);
            self.keyed.insert_unique(hash, number, |&number| hash_at(line, first, number));
        }
        if own_deadline {
            self.own_deadlines.push(Reverse((deadline, number)));
        }
        self.callers += usize::from(waiter.is_one());
        self.line.push_back(Some(Place { waiter, deadline, own_deadline }));
        self.live += 1;
        number
    }

    /// The waiter with this number, if it has not left.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut W> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.line.get_mut(index)?.as_mut().map(|place| &mut place.waiter)
    }

    /// The earliest moment at which somebody's patience ends.
    pub(crate) fn next_deadline(&mut self) -> Option<Duration> {
        let usual = self.next_usual().map(|(_, deadline)| deadline);
        let own = self.next_own().map(|(_, deadline)| deadline);
        [usual, own].into_iter().flatten().min()
    }

    /// Takes out one whose patience has ended.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<W> {
        if let Some((number, deadline)) = self.next_own()
            && deadline <= now
        {
            return self.remove(number);
        }
        match self.next_usual() {
            Some((number, deadline)) if deadline <= now => self.remove(number),
            _ => None,
        }
    }

    /// Takes out those who are gone.
    pub(crate) fn purge(&mut self) {
        for number in self.first..self.first + self.line.len() as u64 {
            if self.place(number).is_some_and(|place| place.waiter.is_gone()) {
                self.remove(number);
            }
        }
    }

    /// Takes out everybody.
    pub(crate) fn take(&mut self) -> Line<W> {
        let taken = std::mem::replace(self, Self::new());
        Line { places: taken.line.into_iter() }
    }

    fn place(&self, number: u64) -> Option<&Place<W>> {
        at(&self.line, self.first, number)
    }

    fn next_usual(&mut self) -> Option<(u64, Duration)> {
        let end = self.first + self.line.len() as u64;
        self.cursor = self.cursor.max(self.first);
        while self.cursor < end {
            match self.place(self.cursor) {
                Some(place) if !place.own_deadline => return Some((self.cursor, place.deadline)),
                _ => self.cursor += 1,
            }
        }
        None
    }

    fn next_own(&mut self) -> Option<(u64, Duration)> {
        while let Some(&Reverse((deadline, number))) = self.own_deadlines.peek() {
            if self.place(number).is_some() {
                return Some((number, deadline));
            }
            self.own_deadlines.pop();
        }
        None
    }

    /// Takes out the waiter with this number, if it has not left.
    pub(crate) fn remove(&mut self, number: u64) -> Option<W> {
        let (line, first) = (&self.line, self.first);
        let hash = at(line, first, number)?.waiter.key_hash();
        if let Some(hash) = hash
            && let Ok(entry) = self.keyed.find_entry(hash, |&other| other == number)
        {
            entry.remove();
        }
        let place = self.line.get_mut(usize::try_from(number - self.first).ok()?)?.take()?;
        self.live -= 1;
        self.callers -= usize::from(place.waiter.is_one());
        while let Some(None) = self.line.front() {
            self.line.pop_front();
            self.first += 1;
        }
        Some(place.waiter)
    }
}

fn at<W>(line: &VecDeque<Option<Place<W>>>, first: u64, number: u64) -> Option<&Place<W>> {
    line.get(usize::try_from(number.checked_sub(first)?).ok()?)?.as_ref()
}

fn is_at<W: Waiter>(line: &VecDeque<Option<Place<W>>>, first: u64, number: u64, waiter: &W) -> bool {
    at(line, first, number).is_some_and(|place| place.waiter.same_key(waiter))
}

fn hash_at<W: Waiter>(line: &VecDeque<Option<Place<W>>>, first: u64, number: u64) -> u64 {
    at(line, first, number).and_then(|place| place.waiter.key_hash()).unwrap_or_default()
}

/// Everybody who was waiting, oldest first.
#[derive(Debug)]
pub(crate) struct Line<W> {
    places: std::collections::vec_deque::IntoIter<Option<Place<W>>>,
}

impl<W> Iterator for Line<W> {
    type Item = W;

    fn next(&mut self) -> Option<W> {
        self.places.by_ref().flatten().next().map(|place| place.waiter)
    }
}

/// For the model, which compares whole states.
#[cfg(test)]
impl<W> Waiters<W> {
    /// Everybody in line, with the end of his patience and whether it is his own; `None` for a hole.
    pub(super) fn places(&self) -> impl Iterator<Item = Option<(&W, Duration, bool)>> {
        self.line.iter().map(|place| place.as_ref().map(|p| (&p.waiter, p.deadline, p.own_deadline)))
    }

    pub(super) fn everybody_mut(&mut self) -> impl Iterator<Item = &mut W> {
        self.line.iter_mut().flatten().map(|place| &mut place.waiter)
    }

    /// What is noted beside the line: the cursor, the keys, and own deadlines, counted from its first place.
    pub(super) fn bookmarks(&self) -> Vec<u64> {
        let mut keys: Vec<u64> = self.keyed.iter().map(|number| number - self.first).collect();
        keys.sort_unstable();
        let mut own: Vec<u64> =
            self.own_deadlines.iter().filter_map(|at| at.0.1.checked_sub(self.first)).collect();
        own.sort_unstable();
        let mut marks = vec![self.cursor.saturating_sub(self.first)];
        marks.extend(keys);
        marks.push(u64::MAX);
        marks.extend(own);
        marks
    }
}
