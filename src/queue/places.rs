//! Places in a line: each has a number that only grows, and leaving makes a hole and moves nobody.

use std::collections::VecDeque;
use std::ops::Range;

/// As many waiters are let in, told or sent away in one go, about a tenth of a millisecond's work; then the
/// arbiter's other tasks have their turn.
pub(crate) const CHUNK: usize = 1_024;

/// The places, in blocks.
///
/// One long buffer would move everybody whenever it grows; a million at once would keep the arbiter from its
/// other tasks. A block grows up to [`CHUNK`] places and goes when the last of them has left.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Places<T> {
    blocks: VecDeque<Block<T>>,
    /// The number of the first place of the first block.
    first: u64,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Block<T> {
    places: Vec<Option<T>>,
    taken: usize,
}

impl<T> Places<T> {
    pub(super) fn new() -> Self {
        Self { blocks: VecDeque::new(), first: 0 }
    }

    /// The numbers of all places, holes included.
    pub(super) fn numbers(&self) -> Range<u64> {
        let places = match self.blocks.back() {
            Some(last) => (self.blocks.len() - 1) * CHUNK + last.places.len(),
            None => 0,
        };
        self.first..self.first + places as u64
    }

    /// Takes the next place, and returns its number.
    pub(super) fn push(&mut self, who: T) -> u64 {
        let number = self.numbers().end;
        match self.blocks.back_mut() {
            Some(last) if last.places.len() < CHUNK => last.push(who),
            _ => {
                let mut block = Block { places: Vec::new(), taken: 0 };
                block.push(who);
                self.blocks.push_back(block);
            }
        }
        number
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let (block, place) = self.find(number)?;
        self.blocks.get(block)?.places.get(place)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (block, place) = self.find(number)?;
        self.blocks.get_mut(block)?.places.get_mut(place)?.as_mut()
    }

    /// Leaves a hole.
    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let (block, place) = self.find(number)?;
        let block = self.blocks.get_mut(block)?;
        let left = block.places.get_mut(place)?.take()?;
        block.taken -= 1;
        while self.blocks.front().is_some_and(Block::is_used_up) {
            self.blocks.pop_front();
            self.first += CHUNK as u64;
        }
        Some(left)
    }

    #[cfg(test)]
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.blocks.iter_mut().flat_map(|block| block.places.iter_mut().flatten())
    }

    fn find(&self, number: u64) -> Option<(usize, usize)> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        Some((index / CHUNK, index % CHUNK))
    }
}

impl<T> IntoIterator for Places<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { block: Vec::new().into_iter(), blocks: self.blocks.into_iter() }
    }
}

/// Everybody, oldest first.
#[derive(Debug)]
pub(super) struct IntoIter<T> {
    block: std::vec::IntoIter<Option<T>>,
    blocks: std::collections::vec_deque::IntoIter<Block<T>>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

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
    fn push(&mut self, who: T) {
        self.places.push(Some(who));
        self.taken += 1;
    }

    /// All have left, and nobody can come any more.
    fn is_used_up(&self) -> bool {
        self.taken == 0 && self.places.len() == CHUNK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_true_across_blocks() {
        let mut places = Places::new();
        let n = 3 * CHUNK as u64;
        assert!((0..n).all(|number| places.push(number) == number));
        for number in (0..n).filter(|number| number % 3 != 0) {
            assert_eq!(places.remove(number), Some(number));
            assert_eq!(places.remove(number), None);
        }
        assert!((0..n).all(|number| places.get(number).is_some() == (number % 3 == 0)));
        assert_eq!(places.push(n), n);
        assert!(places.into_iter().eq((0..=n).filter(|number| number % 3 == 0)));
    }

    #[test]
    fn who_has_left_takes_no_room() {
        let mut places = Places::new();
        for number in 0..100 * CHUNK as u64 {
            places.push(number);
            places.remove(number);
        }
        assert!(places.blocks.len() <= 1);
        assert_eq!(places.get_mut(0), None);
    }
}
