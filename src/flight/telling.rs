//! The telling of a crowd: its outcome is decided once. Then its callers are told one after the other, with other
//! events in between.
//!
//! Callers that are being told belong to the machine until their turn. Therefore the machine knows that they wait:
//! the same pair is not added a second time, they count against the limits, and a token that is discarded meanwhile
//! is not given to them.

use super::{Caller, Effect, Machine, Out, Outcome};
use crate::clock::Timestamp;
use crate::error::TokenError;
use crate::queue::{Frozen, Waiters};
use crate::source::Reason;
use crate::token::Token;

/// A crowd with its outcome.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Telling<W> {
    pub(super) crowd: Frozen<W>,
    pub(super) outcome: Outcome,
    /// The queue from which the crowd comes.
    pub(super) renewing: bool,
}

impl<W: Caller> Telling<W> {
    pub(super) fn callers(&self) -> usize {
        self.crowd.callers()
    }
}

impl<W: Caller> Machine<W> {
    /// Whether a waiter has an outcome, and was not told.
    pub(crate) fn is_telling(&self) -> bool {
        self.telling.iter().any(|telling| !telling.crowd.is_empty())
    }

    /// The next waiter to be told, with the outcome.
    pub(crate) fn next_to_tell(&mut self) -> Option<(W, &Outcome)> {
        while self.telling.front().is_some_and(|telling| telling.crowd.is_empty()) {
            self.telling.pop_front();
        }
        let telling = self.telling.front_mut()?;
        telling.crowd.pop().map(|waiter| (waiter, &telling.outcome))
    }

    /// Whether the same pair waits, or is being told.
    pub(super) fn waits(&self, waiter: &W) -> bool {
        self.wanting.contains(waiter) || self.telling.iter().any(|telling| telling.crowd.contains(waiter))
    }

    /// Decides the outcome of all waiters. A round closes at this moment. A later caller opens the next round, and
    /// gets the outcome of that one.
    pub(super) fn tell_all(&mut self, wanted: Outcome, renewed: Outcome) {
        self.tell_wanting(wanted);
        tell(&mut self.renewing, renewed, true, &mut self.telling);
    }

    /// The same for waiters that want a usable token.
    pub(super) fn tell_wanting(&mut self, outcome: Outcome) {
        tell(&mut self.wanting, outcome, false, &mut self.telling);
    }

    /// Takes back the telling of this token, which was discarded. Waiters that were not told are told the present
    /// result: another token may be in use, or a cooldown may run. If there is no result, they wait again, in front
    /// of all present waiters, because they came first.
    pub(super) fn take_back(&mut self, token: &Token, now: Timestamp, out: &mut Out<W>) {
        let wanted = self.known(now);
        // For a waiter that wants a new token, an expired token is no substitute for an error.
        let renewed = match &wanted {
            Some(Ok(_)) if self.usable(now).is_none() => self.cooling(now).map(Err),
            known => known.clone(),
        };
        let mut wait_again = Vec::new();
        for mut telling in std::mem::take(&mut self.telling) {
            if !telling.outcome.as_ref().is_ok_and(|told| told.is_same(token)) {
                self.telling.push_back(telling);
                continue;
            }
            // A decided round has closed. Its callers are woken, see that the token was discarded, and join the
            // next round.
            for round in telling.crowd.take_groups() {
                out.push(Effect::Tell(round, telling.outcome.clone()));
            }
            if telling.crowd.is_empty() {
                continue;
            }
            if let Some(known) = if telling.renewing { &renewed } else { &wanted } {
                self.telling.push_back(Telling { outcome: known.clone(), ..telling });
                continue;
            }
            wait_again.push(telling);
        }
        if wait_again.is_empty() {
            return;
        }
        // Each crowd is put in front of the waiters. Therefore the last crowd is put first, and the oldest is in
        // front at the end.
        for telling in wait_again.into_iter().rev() {
            let queue = if telling.renewing { &mut self.renewing } else { &mut self.wanting };
            let later = std::mem::replace(queue, telling.crowd.thaw());
            queue.append(later);
        }
        self.fly(Reason::Rejected, now, out);
    }

    pub(super) fn clear(&mut self, now: Timestamp, out: &mut Out<W>) {
        self.end_withholding(now);
        if self.flight.take().is_some() {
            out.push(Effect::Abort);
        }
        self.tell_all(Err(TokenError::stopped()), Err(TokenError::stopped()));
    }
}

fn tell<W: Caller>(
    queue: &mut Waiters<W>,
    outcome: Outcome,
    renewing: bool,
    telling: &mut std::collections::VecDeque<Telling<W>>,
) {
    if queue.is_empty() {
        return;
    }
    for round in queue.groups() {
        round.decide(&outcome);
    }
    let crowd = std::mem::replace(queue, Waiters::new()).freeze();
    telling.push_back(Telling { crowd, outcome, renewing });
}
