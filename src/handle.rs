//! The handle: what an application holds.

use std::sync::Arc;

use actix::Addr;
use tokio::sync::watch;

use crate::actor::{
    GetStatus, Invalidate, Join, NearEnd, Refresh, Shared, Shutdown, Status, Subscribe, Ticket, TokenActor,
    gone,
};
use crate::error::TokenError;
use crate::round::Round;
use crate::token::Token;

/// A way to a [`TokenActor`] from any thread and any runtime.
///
/// Reading a usable token takes no lock and no message. Only when there is none, the first caller sends one
/// message, and all callers share the outcome.
///
/// The actor lives until it is [shut down](Self::shutdown), or its arbiter stops, or the last handle and `Addr`
/// of it have gone and nobody waits any more. A handle outlives it, and from then on answers everything at
/// once, with an error that [`is_stopped`](TokenError::is_stopped).
///
/// A clone is one reference count.
#[derive(Clone, Debug)]
pub struct TokenHandle(Arc<Inner>);

/// In one place for all clones: a clone of an `Addr` takes two allocations, and its end as much again, which made
/// up a third of what it took to wake a task that owns a handle.
#[derive(Debug)]
struct Inner {
    addr: Addr<TokenActor>,
    shared: Shared,
}

impl TokenHandle {
    pub(crate) fn new(addr: Addr<TokenActor>, shared: Shared) -> Self {
        Self(Arc::new(Inner { addr, shared }))
    }

    /// The token, if there is a usable one: lock-free, never blocks, never calls the source while the caller
    /// waits. A read near the token's end starts a refresh behind the reader's back.
    pub fn current(&self) -> Option<Token> {
        let (token, report) = self.0.shared.slot.read()?;
        if report {
            self.0.addr.do_send(NearEnd);
        }
        Some(token)
    }

    /// A usable token: the current one at once, or the outcome of the flight under way, or of a new one.
    ///
    /// Dropping the future leaves the flight alone. It needs no runtime of its own: `wait_timeout` is watched
    /// over by the actor, on its arbiter. Do not block that arbiter to wait for this.
    ///
    /// # Errors
    /// What the flight failed of, or [`is_timeout`](TokenError::is_timeout) after the policy's
    /// `wait_timeout`, [`is_overloaded`](TokenError::is_overloaded), [`is_stopped`](TokenError::is_stopped).
    pub async fn get(&self) -> Result<Token, TokenError> {
        if let Some(token) = self.current() {
            return Ok(token);
        }
        self.wait_for_one().await
    }

    /// "The API answered 401 to this token." From here on it is not handed out any more, not even to a
    /// [`get`](Self::get) that follows at once; if it has been replaced already, nothing happens.
    pub fn invalidate(&self, token: &Token) {
        self.0.shared.slot.reject(token, || self.0.addr.do_send(Invalidate(token.clone())));
    }

    /// A new token, whatever the old one is worth: see [`Refresh`].
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn refresh(&self) -> Result<Token, TokenError> {
        self.0.addr.send(Refresh).await.map_err(gone)?
    }

    /// Has a [`TokenReady`](crate::TokenReady) sent: see [`Subscribe`]. Takes a `Recipient`, or a
    /// `Subscribe` with a ticket and a timeout of its own.
    pub fn subscribe(&self, subscription: impl Into<Subscribe>) {
        self.0.addr.do_send(subscription.into());
    }

    /// Every change of the token, for observers: a new one when it is published, `None` when the API rejected
    /// it or the actor stopped. Not told when it merely expires: ask [`Token::remaining`].
    pub fn watch(&self) -> watch::Receiver<Option<Token>> {
        self.0.shared.slot.watch()
    }

    /// What the actor is doing, and what it has done.
    ///
    /// # Errors
    /// [`is_stopped`](TokenError::is_stopped).
    pub async fn status(&self) -> Result<Status, TokenError> {
        self.0.addr.send(GetStatus).await.map_err(gone)
    }

    /// Tells everyone who waits, then stops the actor. Returns when all have been told, also if it had
    /// stopped before: see [`Shutdown`].
    pub async fn shutdown(&self) {
        // An actor that is gone has told everyone as it went.
        let _ = self.0.addr.send(Shutdown).await;
    }

    /// The actor's address, for messages.
    pub fn addr(&self) -> &Addr<TokenActor> {
        &self.0.addr
    }

    async fn wait_for_one(&self) -> Result<Token, TokenError> {
        let mut rejected = self.0.shared.slot.rejected();
        loop {
            let outcome = self.0.shared.lobby.wait(|round| self.announce(round)).await;
            match (&outcome, rejected.take()) {
                // A round is open until its turn to be told has come. One that was about to be told of a token
                // that was rejected before this caller sat down is not for it; the next one is announced
                // behind the rejection.
                (Ok(token), Some(rejected)) if token.same_secret(&rejected) => {}
                _ => return outcome,
            }
        }
    }

    fn announce(&self, round: Arc<Round>) {
        // To an actor that is gone the message is dropped, and the ticket in it answers the round.
        self.0.addr.do_send(Join(Ticket::round(round, Arc::clone(&self.0.shared.lobby))));
    }
}
