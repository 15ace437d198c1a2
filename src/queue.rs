//! Who waits, in which order, until when. A queue in which nobody waits twice under the same key.

mod keys;
mod places;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;
use std::time::Duration;

pub(crate) use places::CHUNK;

use keys::Keys;
use places::Places;

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
/// A waiter is known by the number of its place, so that joining and leaving cost the same however many wait.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Waiters<W> {
    line: Places<Place<W>>,
    live: usize,
    /// How many of them are [one](Waiter::is_one).
    callers: usize,
    /// Those that have a key.
    keys: Keys,
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
    /// In nanoseconds, half the size of a `Duration`; `None` for those with a timeout of their own.
    usual_deadline: Option<NonZeroU64>,
}

impl<W: Waiter> Waiters<W> {
    pub(crate) fn new() -> Self {
        Self {
            line: Places::new(),
            live: 0,
            callers: 0,
            keys: Keys::default(),
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
        let is_it = |number| self.line.get(number).is_some_and(|place| place.waiter.same_key(waiter));
        self.keys.find(hash, is_it).is_some()
    }

    /// Puts `waiter` at the end of the line, and returns its number. The caller has looked whether it
    /// [is there](Self::contains).
    pub(crate) fn push(&mut self, waiter: W, deadline: Duration, own_deadline: bool) -> u64 {
        let hash = waiter.key_hash();
        self.callers += usize::from(waiter.is_one());
        self.live += 1;
        let nanos = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        let usual_deadline = if own_deadline { None } else { NonZeroU64::new(nanos.max(1)) };
        let number = self.line.push(Place { waiter, usual_deadline });
        if let Some(hash) = hash {
            self.keys.insert(hash, number);
        }
        if own_deadline {
            self.own_deadlines.push(Reverse((deadline, number)));
        }
        number
    }

    /// The waiter with this number, if it has not left.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut W> {
        self.line.get_mut(number).map(|place| &mut place.waiter)
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
        for number in self.line.numbers() {
            if self.line.get(number).is_some_and(|place| place.waiter.is_gone()) {
                self.remove(number);
            }
        }
    }

    /// Takes out everybody.
    pub(crate) fn take(&mut self) -> Line<W> {
        let taken = std::mem::replace(self, Self::new());
        Line(taken.line.into_iter())
    }

    /// Takes out the waiter with this number, if it has not left.
    pub(crate) fn remove(&mut self, number: u64) -> Option<W> {
        let waiter = self.line.remove(number)?.waiter;
        if let Some(hash) = waiter.key_hash() {
            self.keys.remove(hash, number);
        }
        self.live -= 1;
        self.callers -= usize::from(waiter.is_one());
        Some(waiter)
    }

    fn next_usual(&mut self) -> Option<(u64, Duration)> {
        let numbers = self.line.numbers();
        self.cursor = self.cursor.max(numbers.start);
        while self.cursor < numbers.end {
            if let Some(deadline) = self.line.get(self.cursor).and_then(|place| place.usual_deadline) {
                return Some((self.cursor, Duration::from_nanos(deadline.get())));
            }
            self.cursor += 1;
        }
        None
    }

    fn next_own(&mut self) -> Option<(u64, Duration)> {
        while let Some(&Reverse((deadline, number))) = self.own_deadlines.peek() {
            if self.line.get(number).is_some() {
                return Some((number, deadline));
            }
            self.own_deadlines.pop();
        }
        None
    }
}

/// Everybody who was waiting, oldest first.
#[derive(Debug)]
pub(crate) struct Line<W>(places::IntoIter<Place<W>>);

impl<W> Iterator for Line<W> {
    type Item = W;

    fn next(&mut self) -> Option<W> {
        self.0.next().map(|place| place.waiter)
    }
}

/// For the model, which compares whole states. Holes before the first who waits are past, and not counted.
#[cfg(test)]
impl<W> Waiters<W> {
    fn first_taken(&self) -> u64 {
        let mut numbers = self.line.numbers();
        numbers.find(|&number| self.line.get(number).is_some()).unwrap_or(numbers.end)
    }

    /// Everybody in line, with the end of his patience and whether it is his own; `None` for a hole.
    pub(crate) fn places(&self) -> impl Iterator<Item = Option<(&W, Duration, bool)>> {
        (self.first_taken()..self.line.numbers().end).map(|number| {
            let place = self.line.get(number)?;
            let own = || self.own_deadlines.iter().find(|at| at.0.1 == number).map(|at| at.0.0);
            let deadline =
                place.usual_deadline.map(|nanos| Duration::from_nanos(nanos.get())).or_else(own)?;
            Some((&place.waiter, deadline, place.usual_deadline.is_none()))
        })
    }

    pub(crate) fn everybody_mut(&mut self) -> impl Iterator<Item = &mut W> {
        self.line.iter_mut().map(|place| &mut place.waiter)
    }

    /// What is noted beside the line: the cursor, the keys, and own deadlines, counted from who is first.
    pub(crate) fn bookmarks(&self) -> Vec<u64> {
        let first = self.first_taken();
        let counted = |numbers: &mut dyn Iterator<Item = u64>| {
            let mut counted: Vec<u64> = numbers.filter_map(|number| number.checked_sub(first)).collect();
            counted.sort_unstable();
            counted
        };
        let mut marks = vec![self.cursor.saturating_sub(first)];
        marks.extend(counted(&mut self.keys.numbers()));
        marks.push(u64::MAX);
        marks.extend(counted(&mut self.own_deadlines.iter().map(|at| at.0.1)));
        marks
    }
}
