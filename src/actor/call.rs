//! The call to the source that is under way.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker, ready};
use std::{fmt, future, mem};

use actix::{ActorFuture, Context};

use super::TokenActor;
use crate::error::SourceError;
use crate::panics::contain;
use crate::source::Fetching;
use crate::token::Token;

/// It lives in the actor, not in its context: given up, it is gone at once, and not only when the context
/// comes round to it, so that no two calls ever overlap. (Nor is a future of the context ever cancelled: a
/// `Supervisor`'s restart counts them anew and forgets no cancellation, and so it would hit another one.)
pub(super) struct Call {
    id: u64,
    fetching: Fetching,
    /// The context's, from when it polled this last.
    poller: Waker,
}

impl Call {
    pub(super) fn new(id: u64, fetching: Fetching) -> Self {
        Self { id, fetching, poller: Waker::noop().clone() }
    }

    /// What the context has of it is over too, and must find that out: it keeps the actor alive.
    pub(super) fn give_up(self) {
        self.poller.wake_by_ref();
    }
}

/// A source may panic when it is dropped too.
impl Drop for Call {
    fn drop(&mut self) {
        let fetching = mem::replace(&mut self.fetching, Box::pin(future::pending()));
        contain(|| drop(fetching));
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", self.id)
    }
}

/// What the context has of it: polls the call with this number.
#[derive(Debug)]
pub(super) struct Calling(pub(super) u64);

impl ActorFuture<TokenActor> for Calling {
    /// `None` if it has been given up.
    type Output = Option<Result<Token, SourceError>>;

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut TokenActor,
        _: &mut Context<TokenActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<Self::Output> {
        let Some(call) = actor.call.as_mut().filter(|call| call.id == self.0) else {
            return Poll::Ready(None);
        };
        call.poller.clone_from(task.waker());
        let result = match contain(|| call.fetching.as_mut().poll(task)) {
            Some(poll) => ready!(poll),
            None => Err(SourceError::panic("its message went to the panic hook")),
        };
        actor.call = None;
        Poll::Ready(Some(result))
    }
}
