//! The actor's one timer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::{ActorFuture, Context};
use tokio::time::Sleep;

use super::TokenActor;

/// Rings once.
///
/// A future in an actor's context keeps the actor alive. That is right while somebody waits, and wrong for a
/// background refresh that nobody will hear of: so an idle actor whose last address has gone lets its alarm
/// end early. (The going of the last address wakes the context, which polls this.)
#[derive(Debug)]
pub(super) struct Alarm {
    delay: Duration,
    /// Made at the first poll: a timer can only be made inside the runtime, which an actor that is dropped
    /// with its arbiter has left already.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    pub(super) fn after(delay: Duration) -> Self {
        Self { delay, sleep: None }
    }
}

impl ActorFuture<TokenActor> for Alarm {
    /// Whether it rang.
    type Output = bool;

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut TokenActor,
        ctx: &mut Context<TokenActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<bool> {
        let this = self.get_mut();
        if !ctx.connected() && actor.is_idle() {
            return Poll::Ready(false);
        }
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.delay)));
        sleep.as_mut().poll(task).map(|()| true)
    }
}
