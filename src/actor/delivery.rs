//! Telling everybody, without keeping the arbiter from its other tasks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use super::ticket::{Ticket, Told};
use crate::flight::Outcome;
use crate::queue::{CHUNK, Line};

/// The same outcome for many. Dropped, it tells those who are left: no way out of it forgets anybody.
#[derive(Debug)]
pub(super) struct Delivery {
    first: Option<Ticket>,
    tickets: Option<Line<Ticket>>,
    /// Those of the ticket that was told last.
    wakers: Option<Line<Waker>>,
    outcome: Outcome,
    lost: u64,
}

impl Delivery {
    pub(super) fn to_one(ticket: Ticket, outcome: Outcome) -> Self {
        Self { first: Some(ticket), tickets: None, wakers: None, outcome, lost: 0 }
    }

    pub(super) fn to_all(tickets: Line<Ticket>, outcome: Outcome) -> Self {
        Self { first: None, tickets: Some(tickets), wakers: None, outcome, lost: 0 }
    }

    /// Tells the next ones. Returns whether there are more.
    ///
    /// Wakers are foreign code. One that panics costs its own waiter, not those behind it.
    pub(super) fn tell_chunk(&mut self) -> bool {
        let mut left = CHUNK;
        loop {
            let told = catch_unwind(AssertUnwindSafe(|| {
                while left > 0 {
                    left -= 1;
                    if !self.tell_next() {
                        return false;
                    }
                }
                true
            }));
            if let Ok(more) = told {
                return more;
            }
            self.lost += 1;
        }
    }

    /// How many had stopped, or could not be woken.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    fn tell_next(&mut self) -> bool {
        if let Some(waker) = self.wakers.as_mut().and_then(Iterator::next) {
            waker.wake();
            return true;
        }
        match self.first.take().or_else(|| self.tickets.as_mut()?.next()) {
            Some(ticket) => self.tell(ticket),
            None => return false,
        }
        true
    }

    fn tell(&mut self, ticket: Ticket) {
        match ticket.tell(&self.outcome) {
            Told::Sent => {}
            Told::Lost => self.lost += 1,
            Told::Laid(wakers) => self.wakers = Some(wakers),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        while self.tell_chunk() {}
    }
}
