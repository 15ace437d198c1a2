//! Looks at a source for what another process has fetched: one at a time, and seldom.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use std::{future, mem};

use crate::panics::contain;
use crate::source::Looking;
use crate::token::Token;

/// However many reports come, a store is looked at so often.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Looks {
    is_under_way: bool,
    next: Duration,
}

impl Looks {
    /// Whether a look may begin now, on the boot clock. If so, it has begun.
    pub(super) fn begin(&mut self, now: Duration) -> bool {
        if self.is_under_way || now < self.next {
            return false;
        }
        self.is_under_way = true;
        self.next = now.saturating_add(INTERVAL);
        true
    }

    pub(super) fn end(&mut self) {
        self.is_under_way = false;
    }
}

/// A look that panics has found nothing.
pub(super) struct Contained(pub(super) Looking);

/// Nor does it matter that it panics when it is dropped.
impl Drop for Contained {
    fn drop(&mut self) {
        let looking = mem::replace(&mut self.0, Box::pin(future::pending()));
        contain(|| drop(looking));
    }
}

impl Future for Contained {
    type Output = Option<Token>;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Token>> {
        contain(|| self.0.as_mut().poll(task)).unwrap_or(Poll::Ready(None))
    }
}
