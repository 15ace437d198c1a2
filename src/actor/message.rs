//! The actor's messages.

use std::time::Duration;

use actix::dev::OneshotSender;
use actix::{Message, Recipient};
use serde::Serialize;

use super::ticket::{Ticket, TokenReady};
use crate::clock::Timestamp;
use crate::duration;
use crate::error::TokenError;
use crate::flight::{Counters, FlightState, Machine, Outcome, Rejection};
use crate::lobby::Place;
use crate::token::Token;

/// "Send me a [`TokenReady`] as soon as there is a token": at once if there is one.
///
/// A subscription is the pair of recipient and ticket. The same pair again, while it waits, changes nothing.
/// Another ticket is another subscription. Each subscription gets exactly one answer. If a message is dropped
/// without being handled (its actor has stopped, or you never sent it), the answer is an error that
/// [`is_stopped`](TokenError::is_stopped). Only a subscriber that has itself stopped by then, or whose System has
/// stopped, gets none: see [what cannot be promised](crate#what-it-cannot-promise).
///
/// The recipient's actor is kept alive until it has got the answer.
#[derive(Debug)]
pub struct Subscribe {
    pub(super) ticket: Ticket,
    pub(super) timeout: Option<Duration>,
}

impl Subscribe {
    /// A subscription with ticket 0. The recipient may be the `Addr` of any actor that handles [`TokenReady`].
    pub fn new(recipient: impl Into<Recipient<TokenReady>>) -> Self {
        Self { ticket: Ticket::subscriber(recipient.into()), timeout: None }
    }

    /// The number that distinguishes this subscription's answer from other answers to the same recipient. Default
    /// 0.
    pub fn ticket(mut self, ticket: u64) -> Self {
        self.ticket.set_number(ticket);
        self
    }

    /// The time after which the answer is a timeout. Default: the policy's `wait_timeout`.
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

/// Requests a usable token: answered at once if there is one, otherwise when the flight has ended.
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
/// A token that has been replaced already is ignored. Therefore a storm of late 401s costs one refresh.
#[derive(Clone, Debug)]
pub struct Invalidate(pub Token);

impl Message for Invalidate {
    type Result = ();
}

/// "This token is compromised": it is never given out again. See
/// [`TokenHandle::discard`](crate::TokenHandle::discard), which takes effect before the actor handles this message.
#[derive(Clone, Debug)]
pub struct Discard(pub Token);

impl Message for Discard {
    type Result = ();
}

/// Requests a new token, even if the old one is usable. Joins the flight under way, if there is one. Meanwhile
/// callers of [`GetToken`] get the old token, while it is usable. No flight starts in a cooldown (the answer is its
/// error), nor for a token younger than the policy's `settle` (the answer is that token).
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

/// The actor's present state, and its counters. In serialised form, times are in seconds.
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
    /// The state of the machine.
    pub state: FlightState,
    /// Subscriptions, messages and handle callers that wait.
    pub waiters: usize,
    /// The age of the current token, counted from when it was requested. `None` if there is none.
    #[serde(serialize_with = "duration::some_seconds")]
    pub token_age: Option<Duration>,
    /// How long the current token lasts. Zero: it has expired. `None` if there is none.
    #[serde(serialize_with = "duration::some_seconds")]
    pub expires_in: Option<Duration>,
    /// The current token was reported, and since then neither replaced nor confirmed by the source. It is in use.
    pub suspect: bool,
    /// How long no report may start a flight: the token is settling, the budget is spent, or a cooldown runs.
    /// `None`: a report may start a flight now.
    #[serde(serialize_with = "duration::some_seconds")]
    pub next_report: Option<Duration>,
    /// How long the source is not called after a failure, from now. `None`: it may be called.
    #[serde(serialize_with = "duration::some_seconds")]
    pub cooldown: Option<Duration>,
    /// How long the last flight took, with any outcome, and with its time in the line of a registry's gate. `None`
    /// before the first flight has ended.
    #[serde(serialize_with = "duration::some_seconds")]
    pub last_refresh: Option<Duration>,
    /// The error of the last failed flight, with the time that is left of its cooldown now. Kept when later flights
    /// succeed.
    pub last_error: Option<TokenError>,
    /// Answers whose subscriber had stopped.
    pub lost: u64,
    /// The counters since the actor started.
    pub counters: Counters,
}

impl Status {
    /// The state of a machine. Its shell adds its own fields.
    pub(crate) fn of(machine: &Machine<Ticket>, now: Timestamp) -> Self {
        let token = machine.token();
        let next_report = machine.next_flight_for_a_report().saturating_sub(now.boot);
        let cooldown = machine.cooldown_left(now);
        Self {
            state: machine.state(now),
            waiters: machine.waiters(),
            token_age: token.map(|token| token.age_at(now)),
            expires_in: token.map(|token| token.remaining_at(now)),
            suspect: machine.is_suspect(),
            next_report: (!next_report.is_zero()).then_some(next_report),
            cooldown,
            last_refresh: None,
            last_error: machine
                .last_error()
                .map(|error| error.told_with_retry_after(cooldown.unwrap_or_default())),
            lost: 0,
            counters: machine.counters(),
        }
    }
}

/// Answers all waiters, then stops the actor. The reply comes when all have been answered.
///
/// A bare `System::stop()` cannot guarantee this: await this message first. A subscriber counts as answered when
/// the answer is in its mailbox. To handle the answer, the subscriber's own arbiter must continue to run.
///
/// Later requests get an error that [`is_stopped`](TokenError::is_stopped). Under a `Supervisor` the actor restarts
/// instead: without token and flight, with its counters and its cooldown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shutdown;

impl Message for Shutdown {
    type Result = ();
}

/// A [`Replace`] by a handle, or by a client that has more information about the rejection.
///
/// The reply has a place of its own, because actix drops a message whose caller has gone. A report counts all the same.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) token: Token,
    pub(crate) rejection: Rejection,
    /// `None`: nobody waits.
    pub(crate) reply: Option<OneshotSender<Outcome>>,
    /// While the message is in the mailbox. Reporters may come and go while the actor's arbiter is blocked.
    pub(crate) place: Place,
}

impl Message for Rejected {
    type Result = ();
}

/// A [`Shutdown`] by a handle. It is handled also if its caller has gone.
#[derive(Debug)]
pub(crate) struct End(pub(crate) OneshotSender<()>);

impl Message for End {
    type Result = ();
}

/// A round of handle callers has opened.
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

/// A reader noticed that the token's end is near, or past.
#[derive(Debug)]
pub(crate) struct NearEnd;

impl Message for NearEnd {
    type Result = ();
}
