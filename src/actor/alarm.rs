//! The actor's one timer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};
use std::time::Duration;

use actix::{ActorFuture, Context};
use tokio::time::{Instant, Sleep};

use super::TokenActor;
use crate::clock::{Clock, Jump};

/// The alarm that is set. It lives in the actor, for the same reason as the [`Call`](super::Call).
pub(super) struct Alarm {
    number: u64,
    /// When the alarm rings, in tokio's time.
    rings: Instant,
    /// Made at the first poll: a timer can only be made inside the runtime. An actor that is dropped with its
    /// arbiter is already outside of it.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Makes the alarm ring when the clocks jump. For actors that refresh by themselves.
    jump: Option<Jump>,
    /// The context's waker, from the last poll.
    poller: Waker,
}

impl Alarm {
    /// Rings after `delay`, but after a minute at the latest, because tokio's time stands still while the machine
    /// sleeps. In background mode no caller asks for the token, so no caller notices that the wall clock was set.
    /// There the alarm rings when the clock reports a jump. If the clock cannot report jumps, the alarm rings once
    /// a second. An early ring is harmless.
    pub(super) fn new(number: u64, delay: Duration, clock: &Arc<dyn Clock>, background: bool) -> Self {
        let jump = if background { clock.jump() } else { None };
        let longest = Duration::from_secs(if background && jump.is_none() { 1 } else { 60 });
        let rings = Instant::now() + delay.min(longest);
        Self { number, rings, sleep: None, jump, poller: Waker::noop().clone() }
    }

    /// Whether the alarm rings within `delay`, or at most a millisecond later.
    pub(super) fn rings_within(&self, delay: Duration) -> bool {
        /// The clock that gives `delay` and tokio's clock are not read in the same instant. Timers are no finer
        /// than this.
        const TOLERANCE: Duration = Duration::from_millis(1);
        self.rings.saturating_duration_since(Instant::now()) <= delay.saturating_add(TOLERANCE)
    }

    /// Gives up the alarm, as a [`Call`](super::Call) is given up.
    pub(super) fn give_up(self) {
        self.poller.wake_by_ref();
    }

    fn poll(&mut self, task: &mut TaskContext<'_>) -> Poll<()> {
        self.poller.clone_from(task.waker());
        if self.jump.as_mut().is_some_and(|jump| jump.as_mut().poll(task).is_ready()) {
            return Poll::Ready(());
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(self.rings)));
        sleep.as_mut().poll(task)
    }
}

/// The context's future: it waits for the alarm with this number.
///
/// A future in an actor's context keeps the actor alive. That is right while a caller waits. It is wrong for a
/// background refresh without an observer. Therefore an idle actor whose last address is dropped lets its alarm end
/// early. (Dropping the last address wakes the context, which polls this future.)
#[derive(Debug)]
pub(super) struct Ringing(pub(super) u64);

impl ActorFuture<TokenActor> for Ringing {
    /// Whether the alarm rang, and was not set anew.
    type Output = bool;

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut TokenActor,
        ctx: &mut Context<TokenActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<bool> {
        let given_up = !ctx.connected() && actor.is_idle();
        let Some(alarm) = actor.alarm.as_mut().filter(|alarm| alarm.number == self.0) else {
            return Poll::Ready(false);
        };
        if !given_up {
            ready!(alarm.poll(task));
        }
        actor.alarm = None;
        Poll::Ready(!given_up)
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alarm({})", self.number)
    }
}
