//! Looks for a token that another process has fetched: one look at a time, and rarely.

use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::TokenActor;
use crate::clock::Timestamp;
use crate::flight::Event;
use crate::panics::{Contained, contain};
use crate::source::{FetchContext, Reason, TokenSource};

/// The minimum time between two looks at a store, for any number of reports.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Looks {
    is_under_way: bool,
    next: Duration,
}

impl Looks {
    /// Whether a look may begin now, on the boot clock. If so, this function marks it as begun.
    pub(crate) fn begin(&mut self, now: Duration) -> bool {
        if self.is_under_way || now < self.next {
            return false;
        }
        self.is_under_way = true;
        self.next = now.saturating_add(INTERVAL);
        true
    }

    pub(crate) fn end(&mut self) {
        self.is_under_way = false;
    }

    /// When the next look may begin. `Duration::MAX` while a look is under way, `None` before the first look.
    #[cfg(feature = "registry")]
    pub(crate) fn next_at(&self) -> Option<Duration> {
        if self.is_under_way {
            return Some(Duration::MAX);
        }
        (!self.next.is_zero()).then_some(self.next)
    }
}

impl TokenActor {
    /// A report that may start no flight causes no call. But another process may have fetched a newer token.
    pub(super) fn look(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        // The source is foreign code.
        let can_look = || contain(|| self.source.can_look()).unwrap_or_default();
        let Some(token) = self.machine.token().filter(|_| can_look()).cloned() else { return };
        if !self.looks.begin(now.boot) {
            return;
        }
        let limit = self.policy.attempt_limit();
        let cx = FetchContext::new(Reason::Rejected)
            .with_previous(token)
            .with_clock(Arc::clone(self.clock()))
            .with_deadline(now.boot.saturating_add(limit));
        // While a look is under way, the actor lives, and does not look again.
        let looking = tokio::time::timeout(limit, Contained::new(self.source.look_later(cx)));
        ctx.spawn(looking.into_actor(self).map(move |found, actor, ctx| {
            actor.looks.end();
            // A look that panics, or takes too long, has found no token.
            if let Some(token) = found.ok().flatten().flatten() {
                actor.on(Event::Offered(actor.stamped(token, now)), ctx);
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_at_a_time_and_one_a_second() {
        let at = Duration::from_millis;
        let mut looks = Looks::default();
        assert!(looks.begin(at(5_000)));
        assert!(!looks.begin(at(7_000)), "one is under way");
        looks.end();
        assert!(!looks.begin(at(5_999)));
        assert!(looks.begin(at(6_000)));
    }
}
