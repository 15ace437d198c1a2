//! The callers that want a key's token, and that its shard has not received yet.
//!
//! They wait in a line at the key, and the shard gets a message only for the first of them. With one message per
//! caller, the callers of all other keys would have to wait behind a crowd for this key.

use std::collections::VecDeque;

use crate::actor::Ticket;
use crate::flight::Caller as _;
use crate::queue::CHUNK;
use crate::sync::{Mutex, lock};

/// The line at a key. When its key is removed, no caller can join the line any more.
///
/// First a caller joins the line, under the lock. If the line was empty, the caller then tells the shard, without
/// the lock. The shard receives all callers, or receives some and comes again by itself. Therefore, while a caller
/// is in the line, a turn of the shard will follow.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Most keys have no callers in their lines.
    #[allow(clippy::box_collection)] // each key of a registry has one
    line: Option<Box<VecDeque<Ticket>>>,
    is_closed: bool,
}

/// Whether the shard must be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    First,
    Behind,
}

impl Arrivals {
    /// Joins the line. Returns the ticket if the key is being removed.
    pub(super) fn join(&self, ticket: Ticket) -> Result<Place, Ticket> {
        let mut state = lock(&self.0);
        if state.is_closed {
            return Err(ticket);
        }
        let place = if state.line.is_none() { Place::First } else { Place::Behind };
        state.line.get_or_insert_default().push_back(ticket);
        Ok(place)
    }

    /// The first callers of the line, and whether there are more.
    pub(super) fn next(&self) -> (VecDeque<Ticket>, bool) {
        let mut state = lock(&self.0);
        if let Some(line) = state.line.as_mut().filter(|line| line.len() > CHUNK) {
            return (line.drain(..CHUNK).collect(), true);
        }
        (state.line.take().map(|line| *line).unwrap_or_default(), false)
    }

    /// Removes the callers that have gone away. They are dropped without the lock.
    pub(super) fn purge(&self) {
        let gone: Vec<_> = {
            let mut state = lock(&self.0);
            let Some(line) = state.line.as_mut() else { return };
            let (gone, stay) = std::mem::take(&mut **line).into_iter().partition(Ticket::is_gone);
            **line = stay;
            Vec::from(gone)
        };
        for ticket in gone {
            crate::panics::contain(|| drop(ticket));
        }
    }

    /// How many callers are in the line.
    pub(super) fn len(&self) -> usize {
        lock(&self.0).line.as_ref().map_or(0, |line| line.len())
    }

    /// Closes the line if it is empty. Returns whether it is closed.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut state = lock(&self.0);
        state.is_closed |= state.line.is_none();
        state.is_closed
    }

    /// Closes the line. Its callers are answered when their tickets are dropped. This runs foreign code, so it
    /// happens without the lock.
    pub(super) fn close(&self) {
        let line = {
            let mut state = lock(&self.0);
            state.is_closed = true;
            state.line.take()
        };
        for ticket in line.into_iter().flat_map(|line| *line) {
            crate::panics::contain(|| drop(ticket));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::actor::Hearer;
    use crate::flight::Outcome;

    struct Counted(Arc<AtomicUsize>);

    impl Hearer for Counted {
        fn hear(self: Box<Self>, outcome: &Outcome) -> bool {
            assert!(outcome.as_ref().is_err_and(crate::TokenError::is_stopped));
            self.0.fetch_add(1, Ordering::Relaxed);
            true
        }

        fn is_gone(&self) -> bool {
            false
        }

        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    fn line(tickets: usize) -> (Arrivals, Arc<AtomicUsize>) {
        let (line, told) = (Arrivals::default(), Arc::default());
        for number in 0..tickets {
            let place = line.join(Ticket::keyed(Counted(Arc::clone(&told)))).unwrap();
            assert_eq!(place == Place::First, number == 0);
        }
        (line, told)
    }

    #[test]
    fn the_first_who_joins_and_the_first_after_the_line_was_emptied_tell_the_shard() {
        let (line, told) = line(CHUNK + 2);
        let (first, more) = line.next();
        assert!(first.len() == CHUNK && more);
        let behind = line.join(Ticket::keyed(Counted(Arc::clone(&told)))).unwrap();
        assert_eq!(behind, Place::Behind, "the shard comes again by itself");
        let (rest, more) = line.next();
        assert!(rest.len() == 3 && !more);
        assert_eq!(line.join(Ticket::keyed(Counted(told))).unwrap(), Place::First);
    }

    #[test]
    fn a_line_in_which_somebody_stands_stays_open() {
        let (line, told) = line(1);
        assert!(!line.close_if_empty());
        drop(line.next());
        assert!(line.close_if_empty());
        assert!(line.join(Ticket::keyed(Counted(told))).is_err());
    }

    #[test]
    fn a_line_that_is_closed_answers_all_who_stand_in_it() {
        let (line, told) = line(3);
        line.close();
        assert_eq!(told.load(Ordering::Relaxed), 3);
        assert!(line.join(Ticket::keyed(Counted(Arc::clone(&told)))).is_err());
        assert_eq!(told.load(Ordering::Relaxed), 4, "the ticket that came back was dropped");
    }
}
