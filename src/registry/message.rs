//! What the handles of a registry tell its shards, and what subscribers are told.

use std::any::Any;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use actix::{Message, Recipient};
use tokio::sync::oneshot;

use super::common::Seat;
use super::status::RegistryStatus;
use crate::actor::{Hearer, Status, Ticket};
use crate::error::TokenError;
use crate::flight::{Outcome, Rejection};
use crate::token::Token;

/// The answer to a subscription to a key: sent exactly once for each.
#[derive(Clone)]
#[non_exhaustive]
pub struct TokenReady<K> {
    /// The key of the subscription.
    pub key: K,
    /// The number that the subscription carried.
    pub ticket: u64,
    /// A usable token, or why there is none.
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

/// Without the key, which may be a person's name.
impl<K> fmt::Debug for TokenReady<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReady")
            .field("ticket", &self.ticket)
            .field("result", &self.result)
            .finish_non_exhaustive()
    }
}

/// What a shard is told.
pub(super) enum ToShard<K> {
    /// Somebody needs this key's token.
    Want {
        key: K,
        ticket: Ticket,
    },
    /// Somebody stands in this key's [line](super::arrivals).
    Arrived {
        key: K,
    },
    /// Somebody wants a new token for this key.
    Refresh {
        key: K,
        ticket: Ticket,
    },
    /// An API did not take this token of this key, and somebody waits for another one.
    Replace {
        key: K,
        ticket: Ticket,
        token: Token,
        rejection: Rejection,
    },
    /// An API did not take this token of this key, and it is not the one that readers find.
    Invalidate {
        key: K,
        token: Token,
    },
    /// This token of this key is compromised.
    Discard {
        key: K,
        token: Token,
    },
    /// There are reports on the desk of this key.
    Reported {
        key: K,
    },
    /// A reader saw that this key's token is near its end, or past it.
    NearEnd {
        key: K,
    },
    /// Forget this key. Answered with whether it was there.
    Remove {
        key: K,
        done: oneshot::Sender<bool>,
    },
    /// Forget the keys that it says no to. Answered with how many went.
    Retain {
        keeps: Box<dyn FnMut(&K) -> bool + Send>,
        done: oneshot::Sender<usize>,
    },
    Status {
        key: K,
        done: oneshot::Sender<Status>,
    },
    Totals {
        done: oneshot::Sender<RegistryStatus>,
    },
    /// Callers who have gone away hold all the seats.
    Purge,
    Shutdown {
        done: oneshot::Sender<()>,
        /// Told when the shard has given up its calls.
        quiet: Option<oneshot::Sender<()>>,
        /// For the first shard: what the others tell.
        others: Vec<oneshot::Receiver<()>>,
    },
}

impl<K> ToShard<K> {
    /// The key that it is about.
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
            Self::Retain { .. } | Self::Totals { .. } | Self::Purge | Self::Shutdown { .. } => None,
        }
    }
}

impl<K: 'static> Message for ToShard<K> {
    type Result = ();
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
    /// A caller who has gone away does not mind. The seat is free before the answer is there. Therefore a caller who asks
    /// again at once finds it free.
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

/// Who subscribed to a key.
pub(super) struct Subscriber<K: Send + 'static> {
    pub(super) key: K,
    pub(super) ticket: u64,
    pub(super) recipient: Recipient<TokenReady<K>>,
    pub(super) seat: Option<Seat>,
}

impl<K: Eq + Send + 'static> Hearer for Subscriber<K> {
    fn hear(self: Box<Self>, outcome: &Outcome) -> bool {
        let Self { key, ticket, recipient, seat } = *self;
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

    /// Both stand in the queue of the same key.
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
}
