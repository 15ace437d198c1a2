//! Protection against panics of foreign code: sources, wakers, and their destructors.

use std::any::Any;
use std::future::{self, Future};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs foreign code. `None` if it panicked.
///
/// The panic's own message is left to the panic hook, because it may contain anything. Its payload is dropped here.
/// A payload may panic when it is dropped. That second payload is leaked, otherwise there could be no end.
pub(crate) fn contain<T>(code: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(code)).map_err(drop_payload).ok()
}

fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

/// A foreign future. If it panics when it is polled, its output is `None`. It may also panic when it is dropped.
pub(crate) struct ContainedFor<'a, T: 'a>(Pin<Box<dyn Future<Output = T> + Send + 'a>>);

/// A foreign future that borrows nothing.
pub(crate) type Contained<T> = ContainedFor<'static, T>;

impl<'a, T> ContainedFor<'a, T> {
    pub(crate) fn new(future: Pin<Box<dyn Future<Output = T> + Send + 'a>>) -> Self {
        Self(future)
    }
}

impl<T> Future for ContainedFor<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<T>> {
        contain(|| self.0.as_mut().poll(task)).map_or(Poll::Ready(None), |poll| poll.map(Some))
    }
}

impl<T> Drop for ContainedFor<'_, T> {
    fn drop(&mut self) {
        let future = mem::replace(&mut self.0, Box::pin(future::pending()));
        contain(|| drop(future));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Bomb);
        }
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_is_contained() {
        assert_eq!(contain(|| 7), Some(7));
        assert_eq!(contain(|| -> u8 { std::panic::panic_any(Bomb) }), None);
    }
}
