//! What the actor can be told and asked.

use std::time::Duration;

use actix::{Message, Recipient};
use serde::Serialize;

use super::ticket::{Ticket, TokenReady};
use crate::clock::Timestamp;
use crate::duration;
use crate::error::TokenError;
use crate::flight::{Counters, FlightState, Machine, Rejection};
use crate::token::Token;

/// "Send me a [`TokenReady`] as soon as there is a token": at once if there is one.
///
/// A subscription is the pair of recipient and ticket. The same pair again, while it waits, changes nothing;
/// another ticket is another subscription. Each gets one answer, whatever happens: a message that is
/// dropped unheard (its actor has stopped, or you never sent it) answers with an error that
/// [`is_stopped`](TokenError::is_stopped). Only a subscriber that has itself stopped by then, or whose System
/// has, gets none: see [what cannot be promised](crate#what-it-cannot-promise).
///
/// The recipient's actor is kept alive until it has been answered.
#[derive(Debug)]
pub struct Subscribe {
    pub(super) ticket: Ticket,
    pub(super) timeout: Option<Duration>,
}

impl Subscribe {
    /// A subscription with ticket 0. An `Addr` of any actor that handles [`TokenReady`] will do.
    pub fn new(recipient: impl Into<Recipient<TokenReady>>) -> Self {
        Self { ticket: Ticket::subscriber(recipient.into()), timeout: None }
    }

    /// The number that tells this subscription's answer from others to the same recipient. Default 0.
    pub fn ticket(mut self, ticket: u64) -> Self {
        self.ticket.set_number(ticket);
        self
    }

    /// How long to wait before the answer is a timeout. Default: the policy's `wait_timeout`.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }
}

impl From<Recipient<TokenReady>> for Subscribe {
    fn from(recipient: Recipient<TokenReady>) -> Self {
        Self::new(recipient)
    }
}

impl Message for Subscribe {
    type Result = ();
}

/// "A usable token, please": answered at once if there is one, else when the flight has ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct GetToken;

impl Message for GetToken {
    type Result = Result<Token, TokenError>;
}

/// "An API answered 401 to this token, and I want to repeat the request": see
/// [`TokenHandle::replace`](crate::TokenHandle::replace).
#[derive(Clone, Debug)]
pub struct Replace(pub Token);

impl Message for Replace {
    type Result = Result<Token, TokenError>;
}

/// "An API answered 401 to this token": see [`TokenHandle::invalidate`](crate::TokenHandle::invalidate).
///
/// A token that has been replaced already is ignored, so that a storm of late 401s costs one refresh.
#[derive(Clone, Debug)]
pub struct Invalidate(pub Token);

impl Message for Invalidate {
    type Result = ();
}

/// "This token is compromised": it is never handed out again. See
/// [`TokenHandle::discard`](crate::TokenHandle::discard), which takes effect before the actor has this message.
#[derive(Clone, Debug)]
pub struct Discard(pub Token);

impl Message for Discard {
    type Result = ();
}

/// "A new token, whatever the old one is worth": joins the flight under way, if there is one. Callers of
/// [`GetToken`] go on with the old token meanwhile, while it is usable. No flight starts in a cooldown (the answer is
/// its error), nor for a token younger than the policy's `settle` (the answer is that token).
#[derive(Clone, Copy, Debug, Default)]
pub struct Refresh;

impl Message for Refresh {
    type Result = Result<Token, TokenError>;
}

/// Asks for the actor's [`Status`].
#[derive(Clone, Copy, Debug, Default)]
pub struct GetStatus;

impl Message for GetStatus {
    type Result = Status;
}

/// What the actor is doing, and what it has done. Serialised, times are seconds.
///
/// ```
/// # use tokenflight::{Token, TokenActor, source_fn};
/// # actix_rt::System::new().block_on(async {
/// # let tokens = TokenActor::builder(source_fn(|_cx| async { Ok(Token::new("abc")) })).start()?;
/// tokens.get().await?;
/// let status = serde_json::to_value(tokens.status().await?)?;
/// assert_eq!(status["state"], "idle");
/// assert_eq!(status["suspect"], false);
/// assert_eq!(status["counters"]["attempts"], 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// What it is doing.
    pub state: FlightState,
    /// Subscriptions, messages and handle callers that wait.
    pub waiters: usize,
    /// The age of the token in hand, counted from when it was requested. `None` if there is none.
    #[serde(serialize_with = "duration::some_seconds")]
    pub token_age: Option<Duration>,
    /// How long the token in hand lasts. Zero: it has expired. `None` if there is none.
    #[serde(serialize_with = "duration::some_seconds")]
    pub expires_in: Option<Duration>,
    /// The token in hand was reported, and neither replaced nor confirmed by the source since. It is in use.
    pub suspect: bool,
    /// How long no report may start a flight: the token settles, the budget is spent, or a cooldown runs.
    /// `None`: one may start now.
    #[serde(serialize_with = "duration::some_seconds")]
    pub next_report: Option<Duration>,
    /// How long the source is not called after a failure, from now. `None`: it may be called.
    #[serde(serialize_with = "duration::some_seconds")]
    pub cooldown: Option<Duration>,
    /// How long the last flight took, whatever came of it. `None` before the first has ended.
    #[serde(serialize_with = "duration::some_seconds")]
    pub last_refresh: Option<Duration>,
    /// Why the last flight that failed did so. Kept when later ones succeed.
    pub last_error: Option<TokenError>,
    /// Answers that found their subscriber stopped.
    pub lost: u64,
    /// What it has counted since it started.
    pub counters: Counters,
}

impl Status {
    /// How a machine stands. Its shell adds what it knows itself.
    pub(crate) fn of(machine: &Machine<Ticket>, now: Timestamp) -> Self {
        let token = machine.token();
        let next_report = machine.next_flight_for_a_report().saturating_sub(now.boot);
        Self {
            state: machine.state(now),
            waiters: machine.waiters(),
            token_age: token.map(|token| token.age_at(now)),
            expires_in: token.map(|token| token.remaining_at(now)),
            suspect: machine.is_suspect(),
            next_report: (!next_report.is_zero()).then_some(next_report),
            cooldown: machine.cooldown_left(now),
            last_refresh: None,
            last_error: machine.last_error().cloned(),
            lost: 0,
            counters: machine.counters(),
        }
    }
}

/// "Tell everyone who waits, then stop." Answered when all have been told.
///
/// What a bare `System::stop()` cannot promise, this can: await it first. Subscribers have been told when the
/// answer lies in their mailbox; to handle it, their own arbiter has to run on.
///
/// Requests that come later get an error that [`is_stopped`](TokenError::is_stopped). Under a `Supervisor` the
/// actor begins anew instead: without token and flight, with its counters and its cooldown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shutdown;

impl Message for Shutdown {
    type Result = ();
}

/// A [`Replace`] by a client that knows more of the rejection.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) token: Token,
    pub(crate) rejection: Rejection,
}

impl Message for Rejected {
    type Result = Result<Token, TokenError>;
}

/// A round of handle waiters has opened.
#[derive(Debug)]
pub(crate) struct Join(pub(crate) Ticket);

impl Message for Join {
    type Result = ();
}

/// A handle has laid a report on the slot's desk.
#[derive(Debug)]
pub(crate) struct Reported;

impl Message for Reported {
    type Result = ();
}

/// A reader saw that the token's end is near, or past.
#[derive(Debug)]
pub(crate) struct NearEnd;

impl Message for NearEnd {
    type Result = ();
}
