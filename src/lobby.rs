//! The lobby: the place where handle callers wait. All callers that wait for the same flight are in one *round*.
//! For the actor, a round is one waiter and one message.

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

/// Where handles find the open round, if there is one.
#[derive(Debug)]
pub(crate) struct Lobby {
    open: Mutex<Option<Arc<Round>>>,
    /// Callers in any round, until they have been woken. A round that has closed counts too.
    seated: AtomicUsize,
    /// Reports in the actor's mailbox.
    under_way: AtomicUsize,
    timeouts: AtomicU64,
    overloads: AtomicU64,
    clock: Arc<dyn Clock>,
    wait_limit: Duration,
    waiters_limit: usize,
}

/// One round. It is open until its outcome is set.
#[derive(Debug)]
pub(crate) struct Round(Mutex<State>);

#[derive(Debug)]
struct State {
    outcome: Option<Outcome>,
    waiters: Waiters<Waker>,
}

/// A caller has no key. One that leaves removes its waker: [`Wait`] is a guard.
impl Waiter for Waker {}

impl Lobby {
    pub(crate) fn new(clock: Arc<dyn Clock>, wait_limit: Duration, waiters_limit: usize) -> Self {
        Self {
            open: Mutex::new(None),
            seated: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            timeouts: AtomicU64::new(0),
            overloads: AtomicU64::new(0),
            clock,
            wait_limit,
            waiters_limit,
        }
    }

    /// Callers that have not been answered.
    pub(crate) fn waiters(&self) -> usize {
        self.seated.load(Ordering::Relaxed)
    }

    /// Callers that have timed out so far.
    pub(crate) fn timeouts(&self) -> u64 {
        self.timeouts.load(Ordering::Relaxed)
    }

    /// Callers that found the lobby full so far.
    pub(crate) fn overloads(&self) -> u64 {
        self.overloads.load(Ordering::Relaxed)
    }

    /// Ends the round with this outcome. Returns the callers to wake.
    ///
    /// First the round is taken out of the lobby. Then its outcome is set, under the lock under which callers join
    /// the round. A caller may have found the round just before. If it joined before the outcome was set, it is
    /// among the returned callers. Otherwise it sees the outcome and opens the next round.
    pub(crate) fn close(self: &Arc<Self>, round: &Arc<Round>, outcome: &Outcome) -> Ended {
        lock(&self.open).take_if(|open| Arc::ptr_eq(open, round));
        let mut state = lock(&round.0);
        state.outcome = Some(outcome.clone());
        Ended { wakers: state.waiters.take(), lobby: Arc::clone(self) }
    }

    /// Answers the callers whose time has run out. Of a crowd only the first ones are answered, and the rest [are
    /// due](Self::next_deadline) still.
    pub(crate) fn expire(&self, now: Duration) {
        let Some(round) = lock(&self.open).clone() else { return };
        for _ in 0..CHUNK {
            // Wakers run foreign code. Therefore they never run under the lock.
            let Some(waker) = ({ lock(&round.0).waiters.pop_due(now) }) else { return };
            self.timeouts.fetch_add(1, Ordering::Relaxed);
            self.seated.fetch_sub(1, Ordering::Relaxed);
            contain(|| waker.wake());
        }
    }

    /// When to look for timeouts again. All callers have the same timeout. Therefore no later caller is due
    /// earlier, unless it was answered before, and then it says so. This is also true for an empty round.
    pub(crate) fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let open = lock(&self.open);
        let round = open.as_ref()?;
        let earliest = lock(&round.0).waiters.next_deadline();
        Some(earliest.unwrap_or(now.saturating_add(self.wait_limit)))
    }

    /// A place for a report on its way to the actor, if there is room. Callers do not take it.
    pub(crate) fn place(self: &Arc<Self>) -> Result<Place, TokenError> {
        self.reserve(&self.under_way)?;
        Ok(Place(Arc::clone(self)))
    }

    /// Reserves one more of these places, if there is room.
    fn reserve(&self, taken: &AtomicUsize) -> Result<(), TokenError> {
        let before = taken.fetch_add(1, Ordering::Relaxed);
        if before < self.waiters_limit {
            return Ok(());
        }
        taken.fetch_sub(1, Ordering::Relaxed);
        self.overloads.fetch_add(1, Ordering::Relaxed);
        Err(TokenError::overloaded(self.waiters_limit))
    }
}

/// A place of a report. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place(Arc<Lobby>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The callers of a round that has ended, who have not been woken. Dropping this value wakes them. Therefore no
/// caller is forgotten.
#[derive(Debug)]
pub(crate) struct Ended {
    wakers: Line<Waker>,
    lobby: Arc<Lobby>,
}

impl Ended {
    /// Wakes the next caller, oldest first. `None` if there is none. The result says whether its waker, which is
    /// foreign code, panicked.
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

/// A caller's wait. When it is dropped, the caller leaves the round. The other callers continue to wait.
#[derive(Debug)]
pub(crate) struct Wait {
    lobby: Arc<Lobby>,
    /// The end of the caller's timeout, counted from when it first joined a round.
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

    /// Whether the caller has not joined a round, or has been answered.
    pub(crate) fn is_standing(&self) -> bool {
        self.seat.is_none()
    }

    /// Waits in the open round. A caller that finds no open round opens one, and `announce`s it to the actor. If
    /// this is polled again after an answer, the caller joins a round again, with the rest of its timeout. Its time may
    /// end before that of the others, so it `announce`s no round, and the actor looks when to wake.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        announce: impl FnOnce(Option<Arc<Round>>),
    ) -> Poll<Outcome> {
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
                // Before there is an outcome, only `expire` removes a caller.
                None => Err(TokenError::wait_timed_out()),
            },
        };
        drop(state);
        self.seat = None;
        Poll::Ready(outcome)
    }

    fn sit_down(&mut self, cx: &mut Context<'_>, announce: impl FnOnce(Option<Arc<Round>>)) -> Poll<Outcome> {
        // Cloning a waker runs foreign code, so it never happens under a lock. If it panics, nothing has changed
        // yet.
        let waker = cx.waker().clone();
        let lobby = &self.lobby;
        let now = lobby.clock.now().boot;
        let is_first_time = self.deadline.is_none();
        let deadline = *self.deadline.get_or_insert(now.saturating_add(lobby.wait_limit));
        if deadline <= now {
            lobby.timeouts.fetch_add(1, Ordering::Relaxed);
            return Poll::Ready(Err(TokenError::wait_timed_out()));
        }
        if let Err(error) = lobby.reserve(&lobby.seated) {
            return Poll::Ready(Err(error));
        }
        let mut open = lock(&lobby.open);
        let is_opener = open.is_none();
        let round = Arc::clone(open.get_or_insert_with(|| Arc::new(Round::new())));
        // First the caller joins the round. Then the lobby's lock is released. Then the actor is told of the
        // round. Therefore the actor cannot close or expire a round that its opener has not joined. The round in
        // the lobby has no outcome: `close` takes a round out of the lobby before it sets the outcome.
        let number = lock(&round.0).waiters.push(waker, deadline, !is_first_time);
        drop(open);
        self.seat = Some(Seat { round: Arc::clone(&round), number });
        if is_opener || !is_first_time {
            announce(is_opener.then_some(round));
        }
        Poll::Pending
    }

    /// Another task polls now.
    fn change_waker(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(seat) = &self.seat else { return Poll::Pending };
        let waker = cx.waker().clone();
        let mut state = lock(&seat.round.0);
        let old = match state.waiters.get_mut(seat.number) {
            Some(place) => mem::replace(place, waker),
            // The round has ended between the two locks. The old waker was woken, and this task may get no
            // wake-up.
            None => waker,
        };
        let is_over = state.outcome.is_some() || state.waiters.get_mut(seat.number).is_none();
        // The old waker may be the last owner of a task, and this task may be in this round too.
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
        // The waker is dropped after the lock is released. If the round has ended, the waker is already gone.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_caller_who_waits_needs_nothing_beside_its_place() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let lobby = Arc::new(Lobby::new(clock, Duration::from_secs(30), 10));
        let (mut first, mut second) = (Wait::new(Arc::clone(&lobby)), Wait::new(Arc::clone(&lobby)));
        let (mut round, mut cx) = (None, Context::from_waker(Waker::noop()));
        assert!(first.poll(&mut cx, |opened| round = opened).is_pending());
        assert!(second.poll(&mut cx, |_| panic!("the round is open")).is_pending());
        let bookmarks = lock(&round.expect("it was opened").0).waiters.bookmarks();
        assert_eq!(bookmarks, [0, u64::MAX], "neither a key nor a deadline of its own");
    }
}
