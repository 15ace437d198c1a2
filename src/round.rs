//! A round: everybody who waits on a handle for the same flight. The actor sees one waiter, and one message.

use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Clock;
use crate::error::TokenError;
use crate::flight::Outcome;
use crate::queue::{CHUNK, Line, Waiter, Waiters};

/// Where handles find the round that is open, if any.
#[derive(Debug)]
pub(crate) struct Lobby {
    open: Mutex<Option<Arc<Round>>>,
    clock: Arc<dyn Clock>,
    wait_limit: Duration,
    waiters_limit: usize,
}

/// One round. It is open until it has an outcome.
#[derive(Debug)]
pub(crate) struct Round(Mutex<State>);

#[derive(Debug)]
struct State {
    outcome: Option<Outcome>,
    waiters: Waiters<Waker>,
}

impl Waiter for Waker {
    fn key_hash(&self) -> Option<u64> {
        None
    }
    fn same_key(&self, _: &Self) -> bool {
        false
    }
    fn is_gone(&self) -> bool {
        false // who goes takes its waker along: `Wait` is a guard
    }
}

impl Lobby {
    pub(crate) fn new(clock: Arc<dyn Clock>, wait_limit: Duration, waiters_limit: usize) -> Self {
        Self { open: Mutex::new(None), clock, wait_limit, waiters_limit }
    }

    /// Waits in the open round. Whoever finds none opens one, and `announce`s it to the actor.
    pub(crate) fn wait<F: FnOnce(Arc<Round>) + Unpin>(&self, announce: F) -> Wait<'_, F> {
        Wait { lobby: self, announce: Some(announce), seat: None }
    }

    pub(crate) fn waiters(&self) -> usize {
        lock(&self.open).as_ref().map_or(0, |round| lock(&round.0).waiters.callers())
    }

    /// Ends the round with this outcome. Returns whom to wake.
    ///
    /// It is taken out of the lobby first, so that whoever comes now opens the next one. Whoever found it
    /// just before still gets this outcome: it is set under the same lock under which they look.
    pub(crate) fn close(&self, round: &Arc<Round>, outcome: &Outcome) -> Line<Waker> {
        lock(&self.open).take_if(|open| Arc::ptr_eq(open, round));
        let mut state = lock(&round.0);
        state.outcome = Some(outcome.clone());
        state.waiters.take()
    }

    /// Sends away those whose time has run out; of a crowd the first, and the rest [are
    /// due](Self::next_deadline) still.
    pub(crate) fn expire(&self, now: Duration) {
        let Some(round) = lock(&self.open).clone() else { return };
        for _ in 0..CHUNK {
            // Wakers run code that is not ours: never under the lock.
            let Some(waker) = ({ lock(&round.0).waiters.pop_due(now) }) else { return };
            wake(waker);
        }
    }

    /// When to look for them again. All have the same patience, so nobody who joins later is due earlier;
    /// that holds for an empty round too.
    pub(crate) fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let open = lock(&self.open);
        let round = open.as_ref()?;
        let earliest = lock(&round.0).waiters.next_deadline();
        Some(earliest.unwrap_or(now.saturating_add(self.wait_limit)))
    }
}

/// A caller's wait. Dropped, it leaves the round and hurts nobody.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Wait<'a, F> {
    lobby: &'a Lobby,
    announce: Option<F>,
    seat: Option<(Arc<Round>, u64)>,
}

impl<F: FnOnce(Arc<Round>) + Unpin> Future for Wait<'_, F> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        match &this.seat {
            None => this.sit_down(cx),
            Some((round, number)) => {
                let mut state = lock(&round.0);
                let outcome = match &state.outcome {
                    Some(outcome) => outcome.clone(),
                    None => match state.waiters.get_mut(*number) {
                        Some(waker) if waker.will_wake(cx.waker()) => return Poll::Pending,
                        Some(waker) => {
                            let old = mem::replace(waker, cx.waker().clone());
                            // It may be the last to hold a task, which may sit in this round too.
                            drop(state);
                            drop(old);
                            return Poll::Pending;
                        }
                        // Only `expire` takes a seat away before there is an outcome.
                        None => Err(TokenError::wait_timed_out()),
                    },
                };
                drop(state);
                this.seat = None;
                Poll::Ready(outcome)
            }
        }
    }
}

impl<F: FnOnce(Arc<Round>) + Unpin> Wait<'_, F> {
    fn sit_down(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let lobby = self.lobby;
        let deadline = lobby.clock.now().boot.saturating_add(lobby.wait_limit);
        let mut open = lock(&lobby.open);
        let is_first = open.is_none();
        let round = Arc::clone(open.get_or_insert_with(|| Arc::new(Round::new())));
        // The seat is taken before the lobby is released and before the actor hears of the round, so that
        // the actor cannot close or expire a round in which its opener does not sit yet.
        let mut state = lock(&round.0);
        if state.waiters.callers() >= lobby.waiters_limit {
            return Poll::Ready(Err(TokenError::overloaded(lobby.waiters_limit)));
        }
        let number = state.waiters.push(cx.waker().clone(), deadline, false);
        drop(state);
        drop(open);
        self.seat = Some((Arc::clone(&round), number));
        if let (true, Some(announce)) = (is_first, self.announce.take()) {
            announce(round);
        }
        Poll::Pending
    }
}

impl<F> Drop for Wait<'_, F> {
    fn drop(&mut self) {
        if let Some((round, number)) = self.seat.take() {
            // The waker is dropped after the lock is released.
            let _waker = { lock(&round.0).waiters.remove(number) };
        }
    }
}

impl Round {
    fn new() -> Self {
        Self(Mutex::new(State { outcome: None, waiters: Waiters::new() }))
    }
}

/// Wakers are foreign code: one that panics costs its own waiter, and nobody else.
pub(crate) fn wake(waker: Waker) {
    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
}

/// Nothing that can panic runs under these locks, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
