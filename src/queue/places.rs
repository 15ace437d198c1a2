//! Places in a line. Each place has a number. A number is given out once, so a stale number finds nothing.

use std::collections::VecDeque;
use std::mem;

/// The maximum number of waiters that are admitted, told or removed in one step, about a tenth of a millisecond's
/// work. Then the arbiter's other tasks run.
pub(crate) const CHUNK: usize = 1_024;

/// The places, in blocks of [`CHUNK`] numbers, in the order of their numbers.
///
/// One long buffer would move all waiters when it grows, and a million waiters at once would keep the arbiter from
/// its other tasks. A block moves at most [`CHUNK`].
///
/// The memory depends on the present waiters, not on former ones. A waiter that leaves makes a hole. A block in
/// which three of four places are holes is compacted: the others move together, and the block stores their numbers.
/// An empty block is freed, also between two others. A linked list would have the same property, but two links and
/// a generation cost 12 bytes per waiter. Here a waiter in a block without many holes needs no memory beyond its
/// place.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Places<T> {
    blocks: VecDeque<Block<T>>,
    /// The number of the next place.
    next: u64,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Block<T> {
    /// The number of the block's first place.
    first: u64,
    places: Vec<Option<T>>,
    /// The numbers of the places, counted from `first`. Empty while the block has not been compacted: then the
    /// index gives the number.
    numbers: Vec<u16>,
    taken: usize,
    /// All places before this index are empty.
    head: usize,
}

impl<T> Places<T> {
    /// No places. `next` is the number of the first place to come.
    pub(super) fn starting_at(next: u64) -> Self {
        Self { blocks: VecDeque::new(), next }
    }

    /// The number of the next place.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Takes the next place, and returns its number.
    pub(super) fn push(&mut self, who: T) -> u64 {
        let number = self.next;
        self.next += 1;
        match self.blocks.back_mut() {
            Some(last) if last.covers(number) => last.push(who),
            _ => {
                let mut block =
                    Block { first: number, places: Vec::new(), numbers: Vec::new(), taken: 0, head: 0 };
                block.push(who);
                self.blocks.push_back(block);
            }
        }
        number
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let block = self.blocks.get(self.block_of(number)?)?;
        block.places.get(block.index_of(number)?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let block = self.block_of(number)?;
        let block = self.blocks.get_mut(block)?;
        let index = block.index_of(number)?;
        block.places.get_mut(index)?.as_mut()
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let position = self.block_of(number)?;
        let block = self.blocks.get_mut(position)?;
        let index = block.index_of(number)?;
        let left = block.places.get_mut(index)?.take()?;
        block.taken -= 1;
        if block.taken == 0 {
            self.blocks.remove(position);
            self.shrink();
        } else if !block.covers(self.next) && block.taken * 4 <= block.places.len() {
            // No more numbers are given out in this block. The next compaction is due when three of four
            // remaining waiters have gone. Therefore each leaving waiter pays for a third of a move.
            block.close_up();
        }
        Some(left)
    }

    /// Takes out the first in line. No other waiter is moved.
    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<T> {
        let block = self.blocks.front_mut()?;
        let index = block.taken_from(block.head)?;
        block.head = index + 1;
        block.taken -= 1;
        let first = block.places.get_mut(index)?.take();
        if block.taken == 0 {
            self.blocks.pop_front();
            self.shrink();
        }
        first
    }

    /// The first occupied place, from this number on.
    pub(super) fn first_from(&self, number: u64) -> Option<u64> {
        if self.get(number).is_some() {
            return Some(number);
        }
        let block = self.blocks.partition_point(|block| block.end() <= number);
        self.blocks.range(block..).find_map(|block| {
            let index = block.taken_from(block.head.max(block.index_at_least(number)))?;
            Some(block.number_of(index))
        })
    }

    /// The waiters with these numbers, which ascend.
    pub(super) fn pick_mut<'a>(&'a mut self, mut numbers: &'a [u64]) -> impl Iterator<Item = &'a mut T> {
        self.blocks.iter_mut().flat_map(move |block| {
            let (here, behind) = numbers.split_at(numbers.partition_point(|number| *number < block.end()));
            numbers = behind;
            block.pick_mut(here)
        })
    }

    #[cfg(test)]
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.blocks.iter_mut().flat_map(|block| block.places.iter_mut().flatten())
    }

    /// How many waiters could be held without more memory, and in how many blocks.
    #[cfg(test)]
    pub(super) fn room(&self) -> (usize, usize) {
        (self.blocks.iter().map(|block| block.places.capacity()).sum(), self.blocks.len())
    }

    /// The list of the blocks has grown together with the blocks.
    fn shrink(&mut self) {
        if self.blocks.is_empty() {
            self.blocks.shrink_to(1);
        }
    }

    fn block_of(&self, number: u64) -> Option<usize> {
        let distance = number.checked_sub(self.blocks.front()?.first)?;
        // True if no block between them has been freed.
        let guess = usize::try_from(distance).ok()? / CHUNK;
        if self.blocks.get(guess).is_some_and(|block| block.covers(number)) {
            return Some(guess);
        }
        let position = self.blocks.partition_point(|block| block.end() <= number);
        self.blocks.get(position).is_some_and(|block| block.covers(number)).then_some(position)
    }
}

impl<T> IntoIterator for Places<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { block: Vec::new().into_iter(), blocks: self.blocks.into_iter() }
    }
}

/// All waiters, in their order. Faster than [`Places::pop_front`], because no waiter can be looked up any more.
#[derive(Debug)]
pub(super) struct IntoIter<T> {
    block: std::vec::IntoIter<Option<T>>,
    blocks: std::collections::vec_deque::IntoIter<Block<T>>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    #[inline] // waking a hundred thousand waiters takes a tenth less time
    fn next(&mut self) -> Option<T> {
        loop {
            match self.block.next() {
                Some(Some(who)) => return Some(who),
                Some(None) => {}
                None => self.block = self.blocks.next()?.places.into_iter(),
            }
        }
    }
}

impl<T> Block<T> {
    /// The number after its last.
    fn end(&self) -> u64 {
        self.first + CHUNK as u64
    }

    fn covers(&self, number: u64) -> bool {
        (self.first..self.end()).contains(&number)
    }

    fn push(&mut self, who: T) {
        self.places.push(Some(who));
        self.taken += 1;
    }

    fn index_of(&self, number: u64) -> Option<usize> {
        let offset = u16::try_from(number.checked_sub(self.first)?).ok()?;
        index_of(&self.numbers, offset)
    }

    /// The index of the first place with this number or a later one.
    fn index_at_least(&self, number: u64) -> usize {
        let offset = number.saturating_sub(self.first);
        if self.numbers.is_empty() {
            usize::try_from(offset).unwrap_or(usize::MAX)
        } else {
            self.numbers.partition_point(|number| u64::from(*number) < offset)
        }
    }

    fn number_of(&self, index: usize) -> u64 {
        self.first + u64::from(self.offset_of(index))
    }

    fn offset_of(&self, index: usize) -> u16 {
        let counted = || u16::try_from(index).unwrap_or(u16::MAX);
        self.numbers.get(index).copied().unwrap_or_else(counted)
    }

    /// The first index with a waiter, from this one on.
    fn taken_from(&self, start: usize) -> Option<usize> {
        let found = self.places.get(start..)?.iter().position(Option::is_some)?;
        Some(start + found)
    }

    /// Moves the remaining waiters together, and frees the rest of the memory.
    fn close_up(&mut self) {
        let mut places = Vec::with_capacity(self.taken);
        let mut numbers = Vec::with_capacity(self.taken);
        for (index, place) in mem::take(&mut self.places).into_iter().enumerate() {
            if place.is_some() {
                numbers.push(self.offset_of(index));
                places.push(place);
            }
        }
        (self.places, self.numbers, self.head) = (places, numbers, 0);
    }

    fn pick_mut<'a>(&'a mut self, wanted: &'a [u64]) -> impl Iterator<Item = &'a mut T> {
        let Self { first, places, numbers, .. } = self;
        let mut places = places.iter_mut();
        let mut passed = 0;
        wanted.iter().filter_map(move |number| {
            let index = index_of(numbers, u16::try_from(number.checked_sub(*first)?).ok()?)?;
            let place = places.nth(index.checked_sub(passed)?)?;
            passed = index + 1;
            place.as_mut()
        })
    }
}

fn index_of(numbers: &[u16], offset: u16) -> Option<usize> {
    if numbers.is_empty() { Some(usize::from(offset)) } else { numbers.binary_search(&offset).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_true_across_blocks() {
        let mut places = Places::starting_at(0);
        let n = 3 * CHUNK as u64;
        assert!((0..n).all(|number| places.push(number) == number));
        for number in (0..n).filter(|number| number % 7 != 0) {
            assert_eq!(places.remove(number), Some(number));
            assert_eq!(places.remove(number), None);
        }
        assert!((0..n).all(|number| places.get(number).is_some() == (number % 7 == 0)));
        assert_eq!(places.push(n), n);
        let in_line = std::iter::from_fn(|| places.pop_front());
        assert!(in_line.eq((0..=n).filter(|number| number % 7 == 0 || *number == n)));
        assert!(places.blocks.capacity() < 4, "the list of the blocks has shrunk");
    }

    #[test]
    fn who_has_left_takes_no_room() {
        let mut places = Places::starting_at(7);
        for _ in 0..100 * CHUNK {
            let number = places.push(());
            assert_eq!(places.room().1, 1);
            places.remove(number);
            assert_eq!(places.room(), (0, 0));
            assert_eq!(places.get_mut(number), None);
        }
    }

    #[test]
    fn one_of_each_hundred_who_stays_takes_the_room_of_a_few() {
        let mut places = Places::starting_at(0);
        let all = 100 * CHUNK as u64;
        (0..all).for_each(|number| assert_eq!(places.push(number), number));
        assert!((0..all).filter(|number| number % 100 != 0).all(|number| places.remove(number).is_some()));
        let stay = usize::try_from(all / 100).unwrap();
        let (room, _) = places.room();
        assert!(room <= 4 * stay + CHUNK, "room for {room}, where {stay} stay");
        assert!((0..all).all(|number| places.get(number).is_some() == (number % 100 == 0)));
    }

    #[test]
    fn the_next_who_is_there_is_found_from_any_number() {
        let mut places = Places::starting_at(3);
        let all = 6 * CHUNK as u64;
        assert!((3..all + 3).all(|number| places.push(()) == number));
        let stays = |number: u64| number % 500 == 3 && number / 1_500 != 1;
        assert!((3..all + 3).filter(|number| !stays(*number)).all(|number| places.remove(number).is_some()));
        for number in 0..all + 10 {
            assert_eq!(places.first_from(number), (number.max(3)..all + 3).find(|next| stays(*next)));
        }
        let picked: Vec<u64> = (0..all).filter(|number| number % 1_000 == 3).collect();
        assert_eq!(places.pick_mut(&picked).count(), picked.iter().filter(|number| stays(**number)).count());
    }
}
