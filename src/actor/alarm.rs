//! The actor's one timer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker, ready};
use std::time::Duration;

use actix::{ActorFuture, Context};
use tokio::time::Sleep;

use super::TokenActor;

/// The alarm that is set. It lives in the actor, for the reason that the [`Call`](super::Call) does.
#[derive(Debug)]
pub(super) struct Alarm {
    number: u64,
    /// When it rings, by the boot clock.
    pub(super) at: Duration,
    delay: Duration,
    /// Made at the first poll: a timer can only be made inside the runtime, which an actor that is dropped
    /// with its arbiter has left already.
    sleep: Option<Pin<Box<Sleep>>>,
    /// The context's, from when it polled this last.
    poller: Waker,
}

impl Alarm {
    pub(super) fn new(number: u64, at: Duration, delay: Duration) -> Self {
        Self { number, at, delay, sleep: None, poller: Waker::noop().clone() }
    }

    /// As a [`Call`](super::Call) is given up.
    pub(super) fn give_up(self) {
        self.poller.wake_by_ref();
    }

    fn poll(&mut self, task: &mut TaskContext<'_>) -> Poll<()> {
        self.poller.clone_from(task.waker());
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.delay)));
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
