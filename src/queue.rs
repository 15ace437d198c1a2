//! The waiters, in their order, with their deadlines. No two waiters in a queue have the same key.

mod frozen;
mod keys;
mod places;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;
use std::num::NonZeroU64;
use std::time::Duration;

pub(crate) use frozen::Frozen;
pub(crate) use places::CHUNK;

use keys::Keys;
use places::Places;

/// An entry of the queue.
pub(crate) trait Waiter {
    /// A hash of its key. `None` if it is equal to no other.
    fn key_hash(&self) -> Option<u64> {
        None
    }
    /// Whether both have a key, and the keys are equal.
    fn same_key(&self, _other: &Self) -> bool {
        false
    }
    /// Whether this is one caller, and not the place of many callers that are counted elsewhere. Always the same
    /// answer.
    fn is_one(&self) -> bool {
        true
    }
}

/// The waiters of a flight, oldest first.
///
/// A waiter is identified by a number. Therefore joining and leaving cost the same for any number of waiters. A
/// number is given out once: the number of a waiter that has left finds nothing.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Waiters<W> {
    line: Places<Place<W>>,
    live: usize,
    /// How many of them are [one caller](Waiter::is_one).
    callers: usize,
    /// The numbers of the other waiters, ascending. They are few.
    groups: Vec<u64>,
    /// The waiters that have a key.
    keys: Keys,
    /// No waiter before this number has a usual deadline. The usual deadlines ascend along the line, so one number
    /// is enough for all of them.
    cursor: u64,
    /// The last usual deadline, in nanoseconds.
    latest: u64,
    /// The deadlines outside of that order, in nanoseconds, each with its waiter's number. Some may name waiters
    /// that have left.
    own_deadlines: BinaryHeap<Reverse<(u64, u64)>>,
    /// How many waiters have a deadline of this kind.
    own: usize,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Place<W> {
    waiter: W,
    deadline: Deadline,
}

/// A deadline in nanoseconds, half the size of a `Duration`. The highest bit says whether it is in the heap of own
/// deadlines. It is never zero, so that an empty place needs no extra memory.
#[derive(Clone, Copy, Debug)]
struct Deadline(NonZeroU64);

impl<W: Waiter> Waiters<W> {
    pub(crate) fn new() -> Self {
        Self::starting_at(0)
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

    /// Puts `waiter` at the end of the line, and returns its number. The caller must have checked whether it [is
    /// there](Self::contains). Usual deadlines come in ascending order. With `own_deadline` this one need not.
    pub(crate) fn push(&mut self, waiter: W, deadline: Duration, own_deadline: bool) -> u64 {
        let nanos = Deadline::nanos_of(deadline);
        let own = own_deadline || nanos < self.latest;
        let hash = waiter.key_hash();
        let is_one = waiter.is_one();
        let number = self.line.push(Place { waiter, deadline: Deadline::new(nanos, own) });
        self.live += 1;
        self.callers += usize::from(is_one);
        if !is_one {
            self.groups.push(number);
        }
        if let Some(hash) = hash {
            self.keys.insert(hash, number);
        }
        if own {
            self.own += 1;
            self.own_deadlines.push(Reverse((nanos, number)));
        } else {
            self.latest = nanos;
        }
        number
    }

    /// Puts all of `other` behind the present waiters, with their deadlines and keys. They get new numbers. No key
    /// may be in both queues.
    pub(crate) fn append(&mut self, mut other: Self) {
        while let Some(place) = other.line.pop_front() {
            self.push(place.waiter, place.deadline.moment(), place.deadline.is_own());
        }
    }

    /// The waiter with this number, if it has not left.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut W> {
        self.line.get_mut(number).map(|place| &mut place.waiter)
    }

    /// The waiters that are not [one caller](Waiter::is_one), oldest first.
    pub(crate) fn groups(&mut self) -> impl Iterator<Item = &mut W> {
        self.line.pick_mut(&self.groups).map(|place| &mut place.waiter)
    }

    /// The earliest deadline of a waiter.
    pub(crate) fn next_deadline(&mut self) -> Option<Duration> {
        let usual = self.next_usual().map(|(_, deadline)| deadline);
        let own = self.next_own().map(|(_, deadline)| deadline);
        [usual, own].into_iter().flatten().min()
    }

    /// A moment that no deadline exceeds: the latest one of the present waiters, and of some that have left. `None` if
    /// there is no waiter.
    #[cfg(feature = "registry")]
    pub(crate) fn last_deadline(&self) -> Option<Duration> {
        let own = self.own_deadlines.iter().map(|Reverse((nanos, _))| *nanos).max();
        let latest = own.unwrap_or_default().max(self.latest);
        (self.live > 0).then(|| Duration::from_nanos(latest))
    }

    /// Takes out one waiter whose deadline has passed.
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

    /// Takes out the waiters that are gone.
    pub(crate) fn purge(&mut self, is_gone: impl Fn(&W) -> bool) -> Vec<W> {
        let (mut from, mut gone) = (0, Vec::new());
        while let Some(number) = self.line.first_from(from) {
            from = number + 1;
            if self.line.get(number).is_some_and(|place| is_gone(&place.waiter)) {
                gone.extend(self.remove(number));
            }
        }
        gone
    }

    /// Takes out all waiters.
    pub(crate) fn take(&mut self) -> Line<W> {
        let next = Self::starting_at(self.line.next());
        Line(mem::replace(self, next).line.into_iter())
    }

    /// Closes the queue: no waiter joins or leaves any more, because these are going to be told.
    pub(crate) fn freeze(self) -> Frozen<W> {
        Frozen(self)
    }

    /// Takes out the waiter with this number, if it has not left.
    pub(crate) fn remove(&mut self, number: u64) -> Option<W> {
        let place = self.line.remove(number)?;
        self.count_out(&place);
        if self.live == 0 {
            self.clear();
            return Some(place.waiter);
        }
        if let Some(hash) = place.waiter.key_hash() {
            self.keys.remove(hash, number);
        }
        if !place.waiter.is_one() {
            self.groups.retain(|group| *group != number);
        }
        self.tidy_deadlines();
        Some(place.waiter)
    }

    /// Counts one waiter that has left the line.
    fn count_out(&mut self, place: &Place<W>) {
        self.live -= 1;
        self.callers -= usize::from(place.waiter.is_one());
        self.own -= usize::from(place.deadline.is_own());
    }

    /// Frees the lists beside an empty line.
    fn clear(&mut self) {
        *self = Self::starting_at(self.line.next());
    }

    /// Removes the own deadlines of waiters that have left: when they come to the top, or when they are the
    /// majority.
    ///
    /// Memory is given back step by step while the crowd leaves. If an allocator gets a large piece after the last
    /// of them, it may give all their memory back to the system in one step: 120 ms for a million.
    fn tidy_deadlines(&mut self) {
        if self.own_deadlines.len() > 2 * self.own + 64 {
            self.own_deadlines.retain(|Reverse((_, number))| self.line.get(*number).is_some());
        }
        if self.own_deadlines.len() < self.own_deadlines.capacity() / 4 {
            self.own_deadlines.shrink_to(2 * self.own_deadlines.len() + 64);
        }
    }

    fn next_usual(&mut self) -> Option<(u64, Duration)> {
        while let Some(number) = self.line.first_from(self.cursor) {
            self.cursor = number;
            let deadline = self.line.get(number)?.deadline;
            if !deadline.is_own() {
                return Some((number, deadline.moment()));
            }
            self.cursor += 1;
        }
        None
    }

    fn next_own(&mut self) -> Option<(u64, Duration)> {
        while let Some(&Reverse((nanos, number))) = self.own_deadlines.peek() {
            if self.line.get(number).is_some() {
                return Some((number, Duration::from_nanos(nanos)));
            }
            self.own_deadlines.pop();
        }
        None
    }
}

impl<W> Waiters<W> {
    /// `first` is the number of the next waiter.
    fn starting_at(first: u64) -> Self {
        Self {
            line: Places::starting_at(first),
            live: 0,
            callers: 0,
            groups: Vec::new(),
            keys: Keys::default(),
            cursor: first,
            latest: 0,
            own_deadlines: BinaryHeap::new(),
            own: 0,
        }
    }
}

impl Deadline {
    const OWN: u64 = 1 << 63;

    fn nanos_of(deadline: Duration) -> u64 {
        u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX).clamp(1, Self::OWN - 1)
    }

    fn new(nanos: u64, own: bool) -> Self {
        let bits = if own { nanos | Self::OWN } else { nanos };
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    fn is_own(self) -> bool {
        self.0.get() & Self::OWN != 0
    }

    fn moment(self) -> Duration {
        Duration::from_nanos(self.0.get() & !Self::OWN)
    }
}

/// All waiters of a queue, oldest first.
#[derive(Debug)]
pub(crate) struct Line<W>(places::IntoIter<Place<W>>);

impl<W> Iterator for Line<W> {
    type Item = W;

    #[inline]
    fn next(&mut self) -> Option<W> {
        self.0.next().map(|place| place.waiter)
    }
}

/// For the model, which compares whole states. Holes before the first waiter are in the past, and not counted.
#[cfg(test)]
impl<W> Waiters<W> {
    fn first_taken(&self) -> u64 {
        self.line.first_from(0).unwrap_or(self.line.next())
    }

    /// All places in the line, with the deadline and whether it is an own one. `None` for a hole.
    pub(crate) fn places(&self) -> impl Iterator<Item = Option<(&W, Duration, bool)>> {
        (self.first_taken()..self.line.next()).map(|number| {
            let place = self.line.get(number)?;
            Some((&place.waiter, place.deadline.moment(), place.deadline.is_own()))
        })
    }

    pub(crate) fn everybody_mut(&mut self) -> impl Iterator<Item = &mut W> {
        self.line.iter_mut().map(|place| &mut place.waiter)
    }

    /// The lists beside the line: the cursor, the keys, and own deadlines, counted from the first waiter.
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

#[cfg(test)]
mod tests;
