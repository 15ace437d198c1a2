//! The result of a message that is answered later.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, mem};

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Message};

use crate::panics::contain;

/// The result of a message that is answered later.
///
/// A handler returns this before it has the sender of the reply. Another thread may produce the answer before that.
/// Therefore both store their part here, and the second one sends. (With one future per waiter, each wake-up would
/// poll all of them.)
#[allow(unreachable_pub)] // named in the actor's public `Handler` impls, and nowhere else
pub struct Parked<T>(Arc<Mutex<Place<T>>>);

enum Place<T> {
    Empty,
    Sender(OneshotSender<T>),
    Answer(T),
    Done,
}

impl<T: Send + 'static> Parked<T> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Place::Empty)))
    }

    /// Returns false if the caller's waker panicked.
    pub(super) fn tell(&self, answer: T) -> bool {
        let mut place = self.place();
        match mem::replace(&mut *place, Place::Done) {
            Place::Empty => *place = Place::Answer(answer),
            Place::Sender(sender) => {
                drop(place);
                return send(sender, answer);
            }
            Place::Answer(_) | Place::Done => {}
        }
        true
    }

    fn park(&self, sender: OneshotSender<T>) {
        let mut place = self.place();
        match mem::replace(&mut *place, Place::Done) {
            Place::Answer(answer) => {
                drop(place);
                send(sender, answer);
            }
            Place::Empty => *place = Place::Sender(sender),
            Place::Sender(_) | Place::Done => {}
        }
    }

    pub(super) fn from(sender: OneshotSender<T>) -> Self {
        Self(Arc::new(Mutex::new(Place::Sender(sender))))
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(&*self.place(), Place::Sender(sender) if sender.is_closed())
    }

    fn place(&self) -> MutexGuard<'_, Place<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caller may have gone away. Then the answer is dropped. Its waker is foreign code, and runs outside of the lock.
fn send<T>(sender: OneshotSender<T>, answer: T) -> bool {
    contain(|| drop(sender.send(answer))).is_some()
}

impl<T> fmt::Debug for Parked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parked")
    }
}

impl<T> Clone for Parked<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T, A, M> MessageResponse<A, M> for Parked<T>
where
    T: Send + 'static,
    A: Actor,
    M: Message<Result = T>,
{
    fn handle(self, _: &mut A::Context, tx: Option<OneshotSender<T>>) {
        if let Some(sender) = tx {
            self.park(sender);
        }
    }
}
