//! Tells all waiters, with pauses for the arbiter's other tasks.

use std::collections::VecDeque;

use super::ticket::{Ticket, Told};
use crate::flight::{Machine, Outcome};
use crate::lobby::Ended;
use crate::panics::contain;
use crate::queue::CHUNK;

/// Tells the waiters that the machine names, chunk by chunk, and wakes the callers of rounds that have ended.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Whether a task in the actor's context continues the telling.
    pub(super) is_under_way: bool,
    /// Rounds that have ended, with the callers that have not been woken.
    ended: VecDeque<Ended>,
    /// Answers whose subscriber had stopped, or whose waker panicked.
    pub(crate) lost: u64,
}

impl Delivery {
    pub(super) fn is_idle(&self) -> bool {
        !self.is_under_way && self.ended.is_empty()
    }

    /// Tells one waiter. The callers of a round are woken by the next chunks.
    ///
    /// Recipients and wakers are foreign code. If one panics, only its own waiter is affected.
    pub(crate) fn tell(&mut self, ticket: Ticket, outcome: &Outcome) {
        match contain(|| ticket.tell(outcome)) {
            Some(Told::Sent) => {}
            Some(Told::Woken(ended)) => self.ended.push_back(ended),
            Some(Told::Lost) | None => self.lost += 1,
        }
    }

    /// Tells the next waiters. Returns whether there are more.
    pub(crate) fn tell_chunk(&mut self, machine: &mut Machine<Ticket>) -> bool {
        let mut left = CHUNK;
        while left > 0 {
            let told = contain(|| {
                while left > 0 {
                    left -= 1;
                    if !self.tell_next(machine) {
                        return false;
                    }
                }
                true
            });
            match told {
                Some(false) => return false,
                Some(true) => {}
                None => self.lost += 1,
            }
        }
        true
    }

    fn tell_next(&mut self, machine: &mut Machine<Ticket>) -> bool {
        while let Some(ended) = self.ended.front_mut() {
            if let Some(woken) = ended.wake_next() {
                self.lost += u64::from(woken.is_err());
                return true;
            }
            self.ended.pop_front();
        }
        let Some((ticket, outcome)) = machine.next_to_tell() else { return false };
        match ticket.tell(outcome) {
            Told::Sent => {}
            Told::Lost => self.lost += 1,
            Told::Woken(ended) => self.ended.push_back(ended),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_idle_when_nobody_goes_on_with_it_and_no_round_is_being_woken() {
        let mut delivery = Delivery::default();
        assert!(delivery.is_idle());
        delivery.is_under_way = true;
        assert!(!delivery.is_idle());
    }
}
