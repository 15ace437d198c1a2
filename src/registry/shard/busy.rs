//! A busy key: it has a waiter or a flight. Its machine, and its call.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::super::gate::{Number, Permit};
use crate::actor::{Looks, Ticket};
use crate::clock::Timestamp;
use crate::error::SourceError;
use crate::flight::{Machine, Resting};
use crate::panics::Contained;
use crate::source::{Asked, Fetching};
use crate::sync::{Mutex, lock};
use crate::token::Token;

#[derive(Debug)]
pub(super) struct Busy {
    pub(super) machine: Machine<Ticket>,
    /// When the running fetch was sent. The token's life counts from this moment.
    pub(super) sent: Timestamp,
    pub(super) call: Option<Call>,
    /// The request to the gate that is not answered yet.
    pub(super) asked: Option<Number>,
    /// The gate's permit for the call that is running, or about to run.
    pub(super) permit: Option<Permit>,
    pub(super) looks: Looks,
    pub(super) took: Option<Duration>,
    /// Whether the shard is telling its crowd, chunk by chunk.
    pub(super) is_telling: bool,
}

impl Busy {
    pub(super) fn new(machine: Machine<Ticket>, now: Timestamp) -> Self {
        Self {
            machine,
            sent: now,
            call: None,
            asked: None,
            permit: None,
            looks: Looks::default(),
            took: None,
            is_telling: false,
        }
    }

    /// The small record of the key, if it is idle. While a look is under way, or the next look is not due, the key
    /// stays busy, because its record would lose that.
    pub(super) fn rest(&mut self, now: Timestamp) -> Option<Resting> {
        if self.is_telling || self.looks.next_at().is_some_and(|next| next > now.boot) {
            return None;
        }
        self.machine.rest(now)
    }

    /// The moment of the next event by itself.
    pub(super) fn next_wake(&mut self, now: Timestamp) -> Option<Duration> {
        let look = self.looks.next_at().filter(|next| *next < Duration::MAX);
        [self.machine.next_wake(now), look].into_iter().flatten().min()
    }
}

/// The call to the source that is under way. It lives here, and not among the futures that the shard polls.
/// Therefore a call that is given up is dropped at once, and two calls for a key never overlap.
#[derive(Clone)]
pub(super) struct Call {
    /// When it is given up.
    pub(super) deadline: Option<Duration>,
    /// Whether the auth server was called.
    pub(super) asked: Asked,
    running: Arc<Mutex<Running>>,
}

struct Running {
    fetching: Option<Contained<Result<Token, SourceError>>>,
    poller: Waker,
}

impl Call {
    pub(super) fn new(fetching: Fetching, deadline: Option<Duration>, asked: Asked) -> Self {
        let running = Running { fetching: Some(Contained::new(fetching)), poller: Waker::noop().clone() };
        Self { deadline, asked, running: Arc::new(Mutex::new(running)) }
    }

    /// The call ends without a result.
    pub(super) fn give_up(&self) {
        let (fetching, poller) = {
            let mut running = lock(&self.running);
            (running.fetching.take(), mem::replace(&mut running.poller, Waker::noop().clone()))
        };
        // Foreign code never runs under the lock.
        drop(fetching);
        poller.wake();
    }
}

impl Future for Call {
    /// `None` if it was given up.
    type Output = Option<Result<Token, SourceError>>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        // Only the shard polls and gives up, on one thread. Therefore the future can be taken out while it is
        // polled.
        let Some(mut fetching) = lock(&self.running).fetching.take() else { return Poll::Ready(None) };
        let Poll::Ready(result) = Pin::new(&mut fetching).poll(task) else {
            let mut running = lock(&self.running);
            running.fetching = Some(fetching);
            running.poller.clone_from(task.waker());
            return Poll::Pending;
        };
        Poll::Ready(Some(
            result.unwrap_or_else(|| Err(SourceError::panic("its message went to the panic hook"))),
        ))
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}
