//! The lobby: where handle callers wait. Everybody who waits for the same flight sits in one *round*, and the actor
//! sees one waiter and one message.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Clock;
use crate::error::TokenError;
use crate::flight::Outcome;
use crate::panics::contain;
use crate::queue::{CHUNK, Line, Waiter, Waiters};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock};

/// Where handles find the round that is open, if any.
#[derive(Debug)]
pub(crate) struct Lobby {
    open: Mutex<Option<Arc<Round>>>,
    /// Callers who sit in any round, also in one that has closed, until they have been woken.
    seated: AtomicUsize,
    timeouts: AtomicU64,
    overloads: AtomicU64,
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
        Self {
            open: Mutex::new(None),
            seated: AtomicUsize::new(0),
            timeouts: AtomicU64::new(0),
            overloads: AtomicU64::new(0),
            clock,
            wait_limit,
            waiters_limit,
        }
    }

    /// Callers who have not been answered.
    pub(crate) fn waiters(&self) -> usize {
        self.seated.load(Ordering::Relaxed)
    }

    /// Callers whose own time ran out, so far.
    pub(crate) fn timeouts(&self) -> u64 {
        self.timeouts.load(Ordering::Relaxed)
    }

    /// Callers who found no room, so far.
    pub(crate) fn overloads(&self) -> u64 {
        self.overloads.load(Ordering::Relaxed)
    }

    /// Ends the round with this outcome. Returns those to wake.
    ///
    /// First the round is taken out of the lobby. Then its outcome is set, under the lock under which callers sit
    /// down. Therefore a caller who found the round just before either sits in it before the outcome is set, and is
    /// among those returned, or sees the outcome and opens the next round.
    pub(crate) fn close(self: &Arc<Self>, round: &Arc<Round>, outcome: &Outcome) -> Ended {
        lock(&self.open).take_if(|open| Arc::ptr_eq(open, round));
        let mut state = lock(&round.0);
        state.outcome = Some(outcome.clone());
        Ended { wakers: state.waiters.take(), lobby: Arc::clone(self) }
    }

    /// Sends away those whose time has run out; of a crowd the first, and the rest [are
    /// due](Self::next_deadline) still.
    pub(crate) fn expire(&self, now: Duration) {
        let Some(round) = lock(&self.open).clone() else { return };
        for _ in 0..CHUNK {
            // Wakers run code that is not ours: never under the lock.
            let Some(waker) = ({ lock(&round.0).waiters.pop_due(now) }) else { return };
            self.timeouts.fetch_add(1, Ordering::Relaxed);
            self.seated.fetch_sub(1, Ordering::Relaxed);
            contain(|| waker.wake());
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

    /// A place for one more caller, if there is room.
    fn admit(&self) -> bool {
        let before = self.seated.fetch_add(1, Ordering::Relaxed);
        if before < self.waiters_limit {
            return true;
        }
        self.seated.fetch_sub(1, Ordering::Relaxed);
        self.overloads.fetch_add(1, Ordering::Relaxed);
        false
    }
}

/// Those of a round that has ended, who have not been woken. Dropped, it wakes them: no way out of it forgets anybody.
#[derive(Debug)]
pub(crate) struct Ended {
    wakers: Line<Waker>,
    lobby: Arc<Lobby>,
}

impl Ended {
    /// Wakes the next one, oldest first. `None` if there is none; whether the waker, which is foreign code, panicked.
    pub(crate) fn wake_next(&mut self) -> Option<Result<(), ()>> {
        let waker = self.wakers.next()?;
        self.lobby.seated.fetch_sub(1, Ordering::Relaxed);
        Some(contain(|| waker.wake()).ok_or(()))
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        while self.wake_next().is_some() {}
    }
}

/// A caller's wait. When it is dropped, it leaves the round. The other callers go on waiting.
#[derive(Debug)]
pub(crate) struct Wait {
    lobby: Arc<Lobby>,
    /// The end of the caller's patience, from when it first sat down.
    deadline: Option<Duration>,
    seat: Option<Seat>,
}

#[derive(Debug)]
struct Seat {
    round: Arc<Round>,
    number: u64,
}

impl Wait {
    pub(crate) fn new(lobby: Arc<Lobby>) -> Self {
        Self { lobby, deadline: None, seat: None }
    }

    /// Whether the caller has not sat down, or has been answered.
    pub(crate) fn is_standing(&self) -> bool {
        self.seat.is_none()
    }

    /// Waits in the open round. Whoever finds none opens one, and `announce`s it to the actor. Polled again after an
    /// answer, the caller sits down anew, with what is left of its patience.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, announce: impl FnOnce(Arc<Round>)) -> Poll<Outcome> {
        let Some(seat) = &self.seat else { return self.sit_down(cx, announce) };
        let mut state = lock(&seat.round.0);
        let outcome = match &state.outcome {
            Some(outcome) => outcome.clone(),
            None => match state.waiters.get_mut(seat.number) {
                Some(waker) if waker.will_wake(cx.waker()) => return Poll::Pending,
                Some(_) => {
                    drop(state);
                    return self.change_waker(cx);
                }
                // Only `expire` takes a seat away before there is an outcome.
                None => Err(TokenError::wait_timed_out()),
            },
        };
        drop(state);
        self.seat = None;
        Poll::Ready(outcome)
    }

    fn sit_down(&mut self, cx: &mut Context<'_>, announce: impl FnOnce(Arc<Round>)) -> Poll<Outcome> {
        // A waker's clone is foreign code: never under a lock. If it panics, nothing has happened yet.
        let waker = cx.waker().clone();
        let lobby = &self.lobby;
        let now = lobby.clock.now().boot;
        let is_first_time = self.deadline.is_none();
        let deadline = *self.deadline.get_or_insert(now.saturating_add(lobby.wait_limit));
        if deadline <= now {
            return Poll::Ready(Err(TokenError::wait_timed_out()));
        }
        if !lobby.admit() {
            return Poll::Ready(Err(TokenError::overloaded(lobby.waiters_limit)));
        }
        let mut open = lock(&lobby.open);
        let is_opener = open.is_none();
        let round = Arc::clone(open.get_or_insert_with(|| Arc::new(Round::new())));
        // First the seat is taken. Then the lobby is released. Then the actor hears of the round. Therefore the
        // actor cannot close or expire a round in which its opener does not sit yet. The round in the lobby has no
        // outcome: `close` takes it out before it sets one.
        let number = lock(&round.0).waiters.push(waker, deadline, !is_first_time);
        drop(open);
        self.seat = Some(Seat { round: Arc::clone(&round), number });
        if is_opener {
            announce(round);
        }
        Poll::Pending
    }

    /// The task that polls is another one now.
    fn change_waker(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(seat) = &self.seat else { return Poll::Pending };
        let waker = cx.waker().clone();
        let mut state = lock(&seat.round.0);
        let old = match state.waiters.get_mut(seat.number) {
            Some(place) => mem::replace(place, waker),
            // Between the two locks the round has ended. The old waker was woken, and this task may never hear.
            None => waker,
        };
        let is_over = state.outcome.is_some() || state.waiters.get_mut(seat.number).is_none();
        // The old one may be the last to hold a task, which may sit in this round too.
        drop(state);
        drop(old);
        if is_over {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(Seat { round, number }) = self.seat.take() else { return };
        // The waker is dropped after the lock is released. If the round has ended, the waker is gone already.
        let waker = { lock(&round.0).waiters.remove(number) };
        if waker.is_some() {
            self.lobby.seated.fetch_sub(1, Ordering::Relaxed);
            contain(|| drop(waker));
        }
    }
}

impl Round {
    fn new() -> Self {
        Self(Mutex::new(State { outcome: None, waiters: Waiters::new() }))
    }
}
