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

/// The alarm that is set. It lives in the actor, for the reason that the [`Call`](super::Call) does.
pub(super) struct Alarm {
    number: u64,
    /// When it rings, in tokio's time.
    rings: Instant,
    /// Made at the first poll: a timer can only be made inside the runtime, which an actor that is dropped
    /// with its arbiter has left already.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Rings too when the clocks jump. For actors that refresh by themselves.
    jump: Option<Jump>,
    /// The context's, from when it polled this last.
    poller: Waker,
}

impl Alarm {
    /// Rings after `delay`, but in a minute at the latest: tokio's time stands still while the machine sleeps. In
    /// background mode nobody asks for the token, and so nobody sees that the wall clock was set: there it rings when
    /// the clock tells of a jump, or, where the clock cannot tell, once a second. Ringing for nothing is harmless.
    pub(super) fn new(number: u64, delay: Duration, clock: &Arc<dyn Clock>, background: bool) -> Self {
        let jump = if background { clock.jump() } else { None };
        let longest = Duration::from_secs(if background && jump.is_none() { 1 } else { 60 });
        let rings = Instant::now() + delay.min(longest);
        Self { number, rings, sleep: None, jump, poller: Waker::noop().clone() }
    }

    /// Whether it rings in so long a time, or as good as that.
    pub(super) fn rings_within(&self, delay: Duration) -> bool {
        /// The clock that says `delay` and tokio's are not read in the same instant. Timers are no finer.
        const TOLERANCE: Duration = Duration::from_millis(1);
        self.rings.saturating_duration_since(Instant::now()) <= delay.saturating_add(TOLERANCE)
    }

    /// As a [`Call`](super::Call) is given up.
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

/// What the context has of it: waits for the alarm with this number.
///
/// A future in an actor's context keeps the actor alive. That is right while somebody waits, and wrong for a
/// background refresh that nobody will hear of: so an idle actor whose last address has gone lets its alarm
/// end early. (The going of the last address wakes the context, which polls this.)
#[derive(Debug)]
pub(super) struct Ringing(pub(super) u64);

impl ActorFuture<TokenActor> for Ringing {
    /// Whether it rang, and was not set anew.
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
