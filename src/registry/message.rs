//! The messages of a registry's handles to its shards, and the messages to subscribers.

use std::any::Any;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use actix::{Message, Recipient};
use tokio::sync::oneshot;

use super::seats::{Search, Seat, Seats};
use super::status::RegistryStatus;
use crate::actor::{Hearer, Status, Ticket};
use crate::error::TokenError;
use crate::flight::{Outcome, Rejection};
use crate::panics::contain;
use crate::token::Token;

/// The answer to a subscription to a key. Each subscription gets exactly one.
#[derive(Clone)]
#[non_exhaustive]
pub struct TokenReady<K> {
    /// The key of the subscription.
    pub key: K,
    /// The number that the subscription carried.
    pub ticket: u64,
    /// A usable token, or the error.
    pub result: Result<Token, TokenError>,
}

impl<K> TokenReady<K> {
    /// An answer, for a test of an actor that handles it.
    pub fn new(key: K, ticket: u64, result: Result<Token, TokenError>) -> Self {
        Self { key, ticket, result }
    }
}

impl<K: 'static> Message for TokenReady<K> {
    type Result = ();
}

/// Without the key, because a key may be a person's name.
impl<K> fmt::Debug for TokenReady<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReady")
            .field("ticket", &self.ticket)
            .field("result", &self.result)
            .finish_non_exhaustive()
    }
}

/// A message to a shard.
pub(super) enum ToShard<K> {
    /// A caller needs this key's token.
    Want {
        key: K,
        ticket: Ticket,
    },
    /// A caller has joined this key's [line](super::arrivals).
    Arrived {
        key: K,
    },
    /// A caller wants a new token for this key.
    Refresh {
        key: K,
        ticket: Ticket,
    },
    /// An API rejected this token of this key, and the reporter waits for another one.
    Replace {
        key: K,
        ticket: Ticket,
        token: Token,
        rejection: Rejection,
    },
    /// An API rejected this token of this key, and readers find another one.
    Invalidate {
        key: K,
        token: Token,
    },
    /// This token of this key is compromised.
    Discard {
        key: K,
    },
    /// There are reports on the desk of this key.
    Reported {
        key: K,
    },
    /// A reader noticed that this key's token is near its end, or past it.
    NearEnd {
        key: K,
    },
    /// Remove this key. The answer says whether it was kept.
    Remove {
        key: K,
        done: Reply<bool>,
    },
    /// Remove the keys for which the closure returns false. The answer is the number of removed keys.
    Retain {
        keeps: Keeps<K>,
        done: Reply<usize>,
    },
    Status {
        key: K,
        done: Reply<Status>,
    },
    Totals {
        done: Reply<RegistryStatus>,
    },
    /// Callers who have gone away may hold all the seats.
    Purge(Arc<Search>),
    Shutdown {
        done: Reply<()>,
        /// Notified when the shard has given up its calls.
        quiet: Option<oneshot::Sender<()>>,
        /// For the first shard: the notifications of the other shards.
        others: Vec<oneshot::Receiver<()>>,
    },
}

impl<K> ToShard<K> {
    /// The key of the message.
    pub(super) fn key(&self) -> Option<&K> {
        match self {
            Self::Want { key, .. }
            | Self::Arrived { key }
            | Self::Refresh { key, .. }
            | Self::Replace { key, .. }
            | Self::Invalidate { key, .. }
            | Self::Discard { key, .. }
            | Self::Reported { key }
            | Self::NearEnd { key }
            | Self::Remove { key, .. }
            | Self::Status { key, .. } => Some(key),
            Self::Retain { .. } | Self::Totals { .. } | Self::Purge(_) | Self::Shutdown { .. } => None,
        }
    }
}

impl<K: 'static> Message for ToShard<K> {
    type Result = ();
}

/// The answer to a message. If it is dropped, the caller is told that there is none.
///
/// The caller's waker is foreign code. If it panics, the shard goes on.
pub(super) struct Reply<T>(Option<oneshot::Sender<T>>);

impl<T> Reply<T> {
    pub(super) fn channel() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    /// The caller may have gone away.
    pub(super) fn send(mut self, answer: T) {
        if let Some(sender) = self.0.take() {
            contain(|| drop(sender.send(answer)));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        contain(|| drop(self.0.take()));
    }
}

/// The closure of `retain`. It is foreign code, also when it is dropped.
pub(super) struct Keeps<K>(Option<Keeping<K>>);

type Keeping<K> = Box<dyn FnMut(&K) -> bool + Send>;

impl<K> Keeps<K> {
    pub(super) fn new(keeps: impl FnMut(&K) -> bool + Send + 'static) -> Self {
        Self(Some(Box::new(keeps)))
    }

    /// If the closure panics, the key is kept.
    pub(super) fn keeps(&mut self, key: &K) -> bool {
        let Some(keeps) = &mut self.0 else { return true };
        contain(|| keeps(key)).unwrap_or(true)
    }
}

impl<K> Drop for Keeps<K> {
    fn drop(&mut self) {
        contain(|| drop(self.0.take()));
    }
}

/// A caller of `get`, or of another method that waits.
pub(super) struct Caller {
    sender: oneshot::Sender<Outcome>,
    seat: Seat,
}

impl Caller {
    pub(super) fn ticket(seat: Seat) -> (Ticket, oneshot::Receiver<Outcome>) {
        let (sender, receiver) = oneshot::channel();
        (Ticket::keyed(Self { sender, seat }), receiver)
    }
}

impl Hearer for Caller {
    /// The caller may have gone away. The seat is freed before the answer is stored. Therefore a caller that asks
    /// again at once finds a free seat.
    fn hear(self: Box<Self>, outcome: &Outcome) -> bool {
        let Self { sender, seat } = *self;
        drop(seat);
        let _ = sender.send(outcome.clone());
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }
}

/// A subscriber to a key.
pub(super) struct Subscriber<K: Send + 'static> {
    pub(super) key: K,
    pub(super) ticket: u64,
    pub(super) recipient: Recipient<TokenReady<K>>,
    pub(super) seat: Option<Seat>,
    /// For another try if there was no seat.
    pub(super) seats: Arc<Seats>,
}

impl<K: Eq + Send + 'static> Hearer for Subscriber<K> {
    fn hear(self: Box<Self>, outcome: &Outcome) -> bool {
        let Self { key, ticket, recipient, seat, .. } = *self;
        drop(seat);
        let connected = recipient.connected();
        if connected {
            // `try_send` drops the message when the mailbox is full; this does not.
            recipient.do_send(TokenReady::new(key, ticket, outcome.clone()));
        }
        connected
    }

    fn key_hash(&self) -> Option<u64> {
        Some(BuildHasherDefault::<DefaultHasher>::default().hash_one((&self.recipient, self.ticket)))
    }

    /// Both are in the queue of the same key.
    fn is_same(&self, other: &dyn Any) -> bool {
        let other = other.downcast_ref::<Self>();
        other.is_some_and(|other| other.ticket == self.ticket && other.recipient == self.recipient)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn is_gone(&self) -> bool {
        !self.recipient.connected()
    }

    fn turned_away(&self) -> Option<TokenError> {
        self.seat.is_none().then(|| TokenError::overloaded(self.seats.limit))
    }

    fn sit(&mut self) {
        if self.seat.is_none() {
            self.seat = self.seats.take();
        }
    }
}
