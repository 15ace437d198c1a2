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

/// It lives in the actor, not in its context: given up, it is gone at once, and not only when the context
/// comes round to it, so that no two calls ever overlap. (Nor is a future of the context ever cancelled: a
/// `Supervisor`'s restart counts them anew and forgets no cancellation, and so it would hit another one.)
pub(super) struct Call {
    id: u64,
    /// A source may panic when it is dropped too.
    fetching: Contained<Result<Token, SourceError>>,
    /// The context's, from when it polled this last.
    poller: Waker,
}

impl Call {
    pub(super) fn new(id: u64, fetching: Fetching) -> Self {
        Self { id, fetching: Contained::new(fetching), poller: Waker::noop().clone() }
    }

    /// What the context has of it is over too, and must find that out: it keeps the actor alive.
    pub(super) fn give_up(self) {
        self.poller.wake_by_ref();
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
        let result = ready!(Pin::new(&mut call.fetching).poll(task))
            .unwrap_or_else(|| Err(SourceError::panic("its message went to the panic hook")));
        actor.call = None;
        Poll::Ready(Some(result))
    }
}
