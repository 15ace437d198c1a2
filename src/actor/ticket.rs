//! A ticket: the right to one answer. A ticket that is dropped answers with an error.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use actix::dev::OneshotSender;
use actix::{Message, Recipient};

use super::parked::Parked;
use crate::error::TokenError;
use crate::flight::{Caller, Outcome};
use crate::lobby::{Ended, Lobby, Round};
use crate::panics::contain;
use crate::queue::Waiter;
use crate::token::Token;

/// The answer to a subscription. Each subscription gets exactly one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenReady {
    /// The number that the subscription carried.
    pub ticket: u64,
    /// A usable token, or the error.
    pub result: Result<Token, TokenError>,
}

impl TokenReady {
    /// An answer, for a test of an actor that handles it.
    pub fn new(ticket: u64, result: Result<Token, TokenError>) -> Self {
        Self { ticket, result }
    }
}

impl Message for TokenReady {
    type Result = ();
}

/// Answers exactly once: [`tell`](Self::tell) consumes the ticket, and `Drop` answers a ticket that was not told.
#[derive(Debug)]
pub(crate) struct Ticket(Option<Holder>);

enum Holder {
    /// The sender of a [`Subscribe`](super::message::Subscribe).
    Subscriber { recipient: Recipient<TokenReady>, number: u64 },
    /// The sender of a message who awaits its result.
    Asker(Parked<Outcome>),
    /// The callers that wait on handles.
    Round { round: Arc<Round>, lobby: Arc<Lobby> },
    /// The same callers, when their round has ended and they have not been woken.
    Ended(Ended),
    /// A waiter for the token of one key among many.
    #[cfg(feature = "registry")]
    Keyed(Box<dyn Hearer>),
}

/// A waiter in a registry: a caller of `get`, or a subscriber to a key.
#[cfg(feature = "registry")]
pub(crate) trait Hearer: Send {
    /// Returns whether the answer was delivered.
    fn hear(self: Box<Self>, outcome: &Outcome) -> bool;

    /// A hash of the waiter's key, if the same waiter may come twice.
    fn key_hash(&self) -> Option<u64> {
        None
    }

    fn is_same(&self, other: &dyn std::any::Any) -> bool {
        let _ = other;
        false
    }

    fn as_any(&self) -> &dyn std::any::Any;

    fn is_gone(&self) -> bool;

    /// The error if it has no place among the waiters of all keys.
    fn turned_away(&self) -> Option<TokenError> {
        None
    }

    /// Takes a place, if it has none and there is one now.
    fn sit(&mut self) {}
}

/// The result of telling one waiter.
pub(crate) enum Told {
    /// The answer was delivered.
    Sent,
    /// The recipient had stopped.
    Lost,
    /// These callers find the answer when they are woken.
    Woken(Ended),
}

impl Ticket {
    pub(crate) fn subscriber(recipient: Recipient<TokenReady>) -> Self {
        Self(Some(Holder::Subscriber { recipient, number: 0 }))
    }

    pub(crate) fn asker() -> (Self, Parked<Outcome>) {
        let parked = Parked::new();
        (Self(Some(Holder::Asker(parked.clone()))), parked)
    }

    /// For the reporter of a token. Without a reply nobody waits.
    pub(crate) fn of(reply: Option<OneshotSender<Outcome>>) -> Self {
        Self(reply.map(|sender| Holder::Asker(Parked::from(sender))))
    }

    pub(crate) fn round(round: Arc<Round>, lobby: Arc<Lobby>) -> Self {
        Self(Some(Holder::Round { round, lobby }))
    }

    #[cfg(feature = "registry")]
    pub(crate) fn keyed(hearer: impl Hearer + 'static) -> Self {
        Self(Some(Holder::Keyed(Box::new(hearer))))
    }

    /// Takes a place among the waiters of all keys, if it has none and there is one now.
    #[cfg(feature = "registry")]
    pub(crate) fn sit(&mut self) {
        if let Some(Holder::Keyed(hearer)) = &mut self.0 {
            hearer.sit();
        }
    }

    pub(crate) fn set_number(&mut self, to: u64) {
        if let Some(Holder::Subscriber { number, .. }) = &mut self.0 {
            *number = to;
        }
    }

    #[inline]
    pub(crate) fn tell(mut self, outcome: &Outcome) -> Told {
        self.0.take().map_or(Told::Sent, |holder| holder.tell(outcome))
    }

    /// Drops the second ticket of a waiter that waits already, without an answer.
    pub(crate) fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(holder) = self.0.take() else { return };
        // Many tickets may be dropped in a row. A second panic during unwinding would end the process.
        contain(|| holder.tell(&Err(TokenError::stopped())));
    }
}

impl Holder {
    #[inline]
    fn tell(self, outcome: &Outcome) -> Told {
        match self {
            Self::Subscriber { recipient, number } => {
                if !recipient.connected() {
                    return Told::Lost;
                }
                // `try_send` drops the message when the mailbox is full; this does not.
                recipient.do_send(TokenReady::new(number, outcome.clone()));
                Told::Sent
            }
            Self::Asker(parked) => {
                if parked.tell(outcome.clone()) {
                    Told::Sent
                } else {
                    Told::Lost
                }
            }
            Self::Round { round, lobby } => Told::Woken(lobby.close(&round, outcome)),
            Self::Ended(ended) => Told::Woken(ended),
            #[cfg(feature = "registry")]
            Self::Keyed(hearer) => {
                if hearer.hear(outcome) {
                    Told::Sent
                } else {
                    Told::Lost
                }
            }
        }
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscriber { number, .. } => write!(f, "Subscriber({number})"),
            Self::Asker(_) => f.write_str("Asker"),
            Self::Round { .. } | Self::Ended(_) => f.write_str("Round"),
            #[cfg(feature = "registry")]
            Self::Keyed(_) => f.write_str("Keyed"),
        }
    }
}

impl Waiter for Ticket {
    fn key_hash(&self) -> Option<u64> {
        match &self.0 {
            Some(Holder::Subscriber { recipient, number }) => {
                Some(BuildHasherDefault::<DefaultHasher>::default().hash_one((recipient, number)))
            }
            #[cfg(feature = "registry")]
            Some(Holder::Keyed(hearer)) => hearer.key_hash(),
            _ => None,
        }
    }

    fn same_key(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (
                Some(Holder::Subscriber { recipient: left, number: one }),
                Some(Holder::Subscriber { recipient: right, number: other }),
            ) => one == other && left == right,
            #[cfg(feature = "registry")]
            (Some(Holder::Keyed(hearer)), Some(Holder::Keyed(other))) => hearer.is_same(other.as_any()),
            _ => false,
        }
    }

    fn is_one(&self) -> bool {
        !matches!(&self.0, Some(Holder::Round { .. } | Holder::Ended(_)))
    }
}

impl Caller for Ticket {
    fn decide(&mut self, outcome: &Outcome) {
        if let Some(Holder::Round { round, lobby }) = &self.0 {
            self.0 = Some(Holder::Ended(lobby.close(round, outcome)));
        }
    }

    fn is_gone(&self) -> bool {
        match &self.0 {
            Some(Holder::Subscriber { recipient, .. }) => !recipient.connected(),
            Some(Holder::Asker(parked)) => parked.is_gone(),
            Some(Holder::Round { .. } | Holder::Ended(_)) => false,
            #[cfg(feature = "registry")]
            Some(Holder::Keyed(hearer)) => hearer.is_gone(),
            None => true,
        }
    }

    #[cfg(feature = "registry")]
    fn turned_away(&self) -> Option<TokenError> {
        match &self.0 {
            Some(Holder::Keyed(hearer)) => hearer.turned_away(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};
    use std::time::Duration;

    use actix::Actor;

    use super::*;
    use crate::clock::SystemClock;
    use crate::lobby::Wait;

    struct Listener;

    impl Actor for Listener {
        type Context = actix::Context<Self>;
    }

    impl actix::Handler<TokenReady> for Listener {
        type Result = ();

        fn handle(&mut self, _: TokenReady, _: &mut Self::Context) {}
    }

    #[actix::test]
    async fn two_tickets_are_the_same_if_recipient_and_number_are() {
        let [one, other] = [(); 2].map(|()| Listener.start().recipient());
        let ticket = |recipient: &Recipient<TokenReady>, number| {
            let mut ticket = Ticket::subscriber(recipient.clone());
            ticket.set_number(number);
            ticket
        };
        let known = ticket(&one, 1);
        assert!(known.same_key(&ticket(&one, 1)) && known.key_hash() == ticket(&one, 1).key_hash());
        assert!(!known.same_key(&ticket(&one, 2)) && !known.same_key(&ticket(&other, 1)));
        assert!(!known.same_key(&Ticket::asker().0));
        assert_eq!(format!("{known:?}"), "Ticket(Some(Subscriber(1)))");
        assert_eq!(format!("{:?}", Ticket::asker()), "(Ticket(Some(Asker)), Parked)");
    }

    /// The caller that comes after the decision wants the outcome of the next flight.
    #[test]
    fn a_round_whose_outcome_is_decided_takes_no_more_callers() {
        let lobby = Arc::new(Lobby::new(Arc::new(SystemClock), Duration::from_secs(30), 10));
        let (mut first, mut later) = (Wait::new(Arc::clone(&lobby)), Wait::new(Arc::clone(&lobby)));
        let (mut cx, mut rounds) = (Context::from_waker(Waker::noop()), Vec::new());
        assert!(first.poll(&mut cx, |round| rounds.extend(round)).is_pending());
        let mut ticket = Ticket::round(rounds.remove(0), Arc::clone(&lobby));
        ticket.decide(&Err(TokenError::stopped()));
        assert!(later.poll(&mut cx, |round| rounds.extend(round)).is_pending());
        assert_eq!(rounds.len(), 1, "it has opened the next round");
        assert!(first.poll(&mut cx, |_| panic!("it waits already")).is_ready());
    }

    #[cfg(feature = "registry")]
    #[test]
    fn a_waiter_among_many_keys_has_no_key_of_its_own_unless_it_says_so() {
        struct Plain;

        impl Hearer for Plain {
            fn hear(self: Box<Self>, _: &Outcome) -> bool {
                true
            }

            fn as_any(&self) -> &dyn std::any::Any {
                self
            }

            fn is_gone(&self) -> bool {
                false
            }
        }

        let [one, other] = [(); 2].map(|()| Ticket::keyed(Plain));
        assert!(one.key_hash().is_none() && !one.same_key(&other));
    }
}
