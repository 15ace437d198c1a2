//! The call to the source that is under way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker, ready};

use actix::{ActorFuture, Context};

use super::TokenActor;
use crate::error::SourceError;
use crate::panics::Contained;
use crate::source::Fetching;
use crate::token::Token;

/// The call lives in the actor, not in its context. Therefore a call that is given up is dropped at once, and not
/// only at the context's next turn. Therefore two calls never overlap. (A future of the context is never cancelled
/// either. A `Supervisor`'s restart counts the futures anew and keeps pending cancellations, so a cancellation
/// would hit another future.)
pub(super) struct Call {
    id: u64,
    /// A source may also panic when it is dropped.
    fetching: Contained<Result<Token, SourceError>>,
    /// The context's waker, from the last poll.
    poller: Waker,
}

impl Call {
    pub(super) fn new(id: u64, fetching: Fetching) -> Self {
        Self { id, fetching: Contained::new(fetching), poller: Waker::noop().clone() }
    }

    /// The context's future is then over too. It must be woken to find this out, because it keeps the actor alive.
    pub(super) fn give_up(self) {
        self.poller.wake_by_ref();
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", self.id)
    }
}

/// The context's future: it polls the call with this number.
#[derive(Debug)]
pub(super) struct Calling(pub(super) u64);

impl ActorFuture<TokenActor> for Calling {
    /// `None` if the call was given up.
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
        let result = ready!(Pin::new(&mut call.fetching).poll(task))
            .unwrap_or_else(|| Err(SourceError::panic("its message went to the panic hook")));
        actor.call = None;
        Poll::Ready(Some(result))
    }
}
