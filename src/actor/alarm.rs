//! The actor's one timer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::{ActorFuture, Context, SpawnHandle};
use tokio::time::{Instant, Sleep};

use super::TokenActor;

/// The alarm that is set.
#[derive(Debug)]
pub(super) struct Pending {
    /// When it rings, by the timers' clock. That one stands still while the machine is suspended, so the
    /// moment for which the alarm was set may be past before it rings.
    rings: Option<Instant>,
    pub(super) handle: SpawnHandle,
}

impl Pending {
    pub(super) fn new(delay: Duration, handle: SpawnHandle) -> Self {
        Self { rings: Instant::now().checked_add(delay), handle }
    }

    /// Whether it rings by `wake`, or so little later that it was no suspend that put it off.
    pub(super) fn rings_by(&self, wake: Duration, now: Duration) -> bool {
        const SLACK: Duration = Duration::from_millis(20);
        self.rings.is_some_and(|rings| {
            now.saturating_add(rings.saturating_duration_since(Instant::now())) <= wake.saturating_add(SLACK)
        })
    }
}

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
