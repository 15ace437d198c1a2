//! The actor's one timer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::{ActorFuture, Context};
use tokio::time::{Instant, Sleep};

use super::TokenActor;

/// Rings once.
///
/// A future in an actor's context keeps the actor alive. That is right while somebody waits, and wrong for a
/// background refresh that nobody will hear of: so an idle actor whose last address has gone lets its alarm
/// end early. (The going of the last address wakes the context, which polls this.)
#[derive(Debug)]
pub(super) struct Alarm {
    rings: Instant,
    /// Made at the first poll: a timer can only be made inside the runtime, which an actor that is dropped
    /// with its arbiter has left already.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    pub(super) fn at(rings: Instant) -> Self {
        Self { rings, sleep: None }
    }
}

/// When an alarm rings that is set now.
///
/// At most a minute ahead: tokio's time stands still while the machine sleeps, so that a background refresh
/// that was an hour away would be as late as the sleep was long. Ringing for nothing is harmless.
pub(super) fn moment_after(delay: Duration) -> Instant {
    Instant::now() + delay.min(Duration::from_secs(60))
}

/// Whether an alarm rings in so long a time, or as good as that.
pub(super) fn rings_within(rings: Instant, delay: Duration) -> bool {
    /// The clock that says `delay` and tokio's are not read in the same instant. Timers are no finer.
    const TOLERANCE: Duration = Duration::from_millis(1);
    rings.saturating_duration_since(Instant::now()) <= delay.saturating_add(TOLERANCE)
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
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(this.rings)));
        sleep.as_mut().poll(task).map(|()| true)
    }
}
