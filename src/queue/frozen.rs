//! A crowd that is being told. No waiter joins it any more.

use super::{Waiter, Waiters};

/// The waiters of a crowd that is being told, oldest first. If it is dropped, it drops its waiters in that order.
///
/// Telling one waiter costs the same for any number of waiters. The key of a told waiter stays in the table and
/// finds nothing, because numbers are given out once.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Frozen<W>(pub(super) Waiters<W>);

impl<W: Waiter> Frozen<W> {
    /// Takes out the oldest waiter.
    pub(crate) fn pop(&mut self) -> Option<W> {
        let place = self.0.line.pop_front()?;
        self.0.count_out(&place);
        if !place.waiter.is_one() {
            // Groups are in the order of the line, so this waiter is the first of them.
            self.0.groups.remove(0);
        }
        Some(place.waiter)
    }

    /// Whether it is among the waiters that have not been told.
    pub(crate) fn contains(&self, waiter: &W) -> bool {
        self.0.contains(waiter)
    }

    /// How many callers have not been told.
    pub(crate) fn callers(&self) -> usize {
        self.0.callers()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out the waiters that are not [one caller](Waiter::is_one).
    pub(crate) fn take_groups(&mut self) -> Vec<W> {
        let numbers = self.0.groups.clone();
        numbers.into_iter().filter_map(|number| self.0.remove(number)).collect()
    }

    /// The waiters that have not been told wait again, with their deadlines and keys. This looks at the keys of
    /// all, including the told ones.
    pub(crate) fn thaw(mut self) -> Waiters<W> {
        match self.0.line.first_from(0) {
            Some(first) => self.0.keys.forget_before(first),
            None => self.0.clear(),
        }
        self.0.tidy_deadlines();
        self.0
    }
}

/// For the model, which compares whole states.
#[cfg(test)]
impl<W> Frozen<W> {
    /// See [`Waiters::places`].
    pub(crate) fn places(&self) -> impl Iterator<Item = Option<(&W, std::time::Duration, bool)>> {
        self.0.places()
    }

    /// See [`Waiters::bookmarks`].
    pub(crate) fn bookmarks(&self) -> Vec<u64> {
        self.0.bookmarks()
    }

    pub(crate) fn everybody_mut(&mut self) -> impl Iterator<Item = &mut W> {
        self.0.everybody_mut()
    }
}
