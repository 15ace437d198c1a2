//! The handle: what an application holds. Beside it the types that it returns.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix::Addr;

use crate::actor::{
    GetStatus, Invalidate, Join, NearEnd, Refresh, Rejected, Reported, Shared, Shutdown, Status, Subscribe,
    Ticket, TokenActor, gone,
};
use crate::error::{SourceError, TokenError};
use crate::flight::Rejection;
use crate::lobby::{Round, Wait};
pub use crate::slot::TokenWatch;
use crate::source::{FetchContext, TokenSource, UNNAMED};
use crate::token::Token;

/// A way to a [`TokenActor`] from any thread and any runtime.
///
/// Reading a usable token needs no lock and no message. Only when there is none, the first caller sends one
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
    /// waits. A read near the token's end starts a refresh in the background.
    ///
    /// `None` too while the token is [withheld](Self::invalidate).
    pub fn current(&self) -> Option<Token> {
        let read = self.0.shared.slot.read();
        if read.reports {
            self.0.addr.do_send(NearEnd);
        }
        read.token
    }

    /// A usable token: the current one at once, or the outcome of the flight under way, or of a new one.
    ///
    /// A usable token is read when `get` is called. Else the future waits, from its first poll on. Dropping it leaves
    /// the flight alone. It needs no runtime of its own: `wait_timeout` is watched over by the actor, on its arbiter.
    /// Do not block that arbiter to wait for this.
    ///
    /// # Errors
    /// What the flight failed of, or [`is_timeout`](TokenError::is_timeout) after the policy's
    /// `wait_timeout`, [`is_overloaded`](TokenError::is_overloaded), [`is_stopped`](TokenError::is_stopped).
    #[inline]
    pub fn get(&self) -> Get {
        match self.current() {
            Some(token) => Get(Getting::Ready(Some(token))),
            None => self.wait(),
        }
    }

    #[inline(never)] // callers have the short way in their own code, and this one behind a call
    fn wait(&self) -> Get {
        Get(Getting::Waiting(self.clone(), Wait::new(Arc::clone(&self.0.shared.lobby))))
    }

    /// "An API answered 401 to this token": a token to repeat the request with, once.
    ///
    /// The first report starts one flight, or joins the one under way, and waits for its outcome. All others
    /// keep the token. A report about a token that has been replaced gets the token in use.
    ///
    /// Where no flight may start, it is answered at once: with the token before this one, if that is usable and was
    /// never reported, else with the same token ([`is_same`](Token::is_same)). In a token's first minute such a
    /// predecessor is the answer though the flight starts: the API may not know the new token yet. So it is too if
    /// predecessor and token were both reported before they had settled. No flight may start in a cooldown, for a
    /// token younger than the policy's `settle`, or when the budget (`reports`, `report_every`) is spent. Repeat the
    /// request with what you get, either way, and only once.
    ///
    /// ```
    /// # use tokenflight::{Token, TokenActor, source_fn};
    /// # actix_rt::System::new().block_on(async {
    /// # async fn call(token: &Token) -> u16 { if token.secret() == "abc" { 200 } else { 401 } }
    /// # let tokens = TokenActor::builder(source_fn(|_cx| async { Ok(Token::new("abc")) })).start()?;
    /// let token = tokens.get().await?;
    /// let mut status = call(&token).await;
    /// if status == 401 {
    ///     status = call(&tokens.replace(&token).await?).await;
    /// }
    /// assert_eq!(status, 200);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As for [`get`](Self::get). If the flight fails, those who reported get its error, and the token stays in use.
    pub async fn replace(&self, token: &Token) -> Result<Token, TokenError> {
        self.rejected(token, Rejection::default()).await
    }

    /// [`replace`](Self::replace), for a client that knows more of the rejection.
    pub(crate) async fn rejected(&self, token: &Token, rejection: Rejection) -> Result<Token, TokenError> {
        self.0.addr.send(Rejected { token: token.clone(), rejection }).await.map_err(gone)?
    }

    /// "An API answered 401 to this token", from a handler that does [`get`](Self::get) again afterwards.
    ///
    /// If a flight may start (see [`replace`](Self::replace)) or is under way, callers who come now wait for its next
    /// attempt, at most 1 s. Then, or if no flight may start, the token is in use as before, to its end, and
    /// [`Status::suspect`] is true. If the token has been replaced already, nothing happens.
    pub fn invalidate(&self, token: &Token) {
        let by_name = self.0.shared.slot.invalidate(token, &());
        if by_name {
            self.0.addr.do_send(Invalidate(token.clone()));
        } else {
            self.0.addr.do_send(Reported);
        }
    }

    /// "This token is compromised": it is never handed out again, not even to a [`get`](Self::get) that follows at
    /// once, and not if the source brings it again. Callers get the outcome of the next flight. The last 1,024 are
    /// remembered.
    pub fn discard(&self, token: &Token) {
        self.0.shared.slot.discard(token, &());
        self.0.addr.do_send(Reported);
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

    /// The token for observers, and its changes: another secret, a [discard](Self::discard), the end. Not told when
    /// a token merely expires (ask [`Token::remaining`]) or is renewed with the same secret.
    pub fn watch(&self) -> TokenWatch {
        TokenWatch::new(Arc::clone(&self.0.shared.slot))
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

    /// What the middlewares know of this actor's tokens.
    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    pub(crate) fn evidence(&self) -> &crate::evidence::Evidence {
        &self.0.shared.evidence
    }

    /// [`rejected`](Self::rejected), without waiting for the outcome.
    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    pub(crate) fn report(&self, token: &Token, rejection: Rejection) {
        self.0.addr.do_send(Rejected { token: token.clone(), rejection });
    }

    fn announce(&self, round: Arc<Round>) {
        // To an actor that is gone the message is dropped, and the ticket in it answers the round.
        self.0.addr.do_send(Join(Ticket::round(round, Arc::clone(&self.0.shared.lobby))));
    }
}

/// What [`TokenHandle::get`] returns: a future that owns what it needs.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Get(Getting);

#[derive(Debug)]
enum Getting {
    /// `None` when the outcome has been returned.
    Ready(Option<Token>),
    Waiting(TokenHandle, Wait),
}

impl Future for Get {
    type Output = Result<Token, TokenError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            // A future that is polled again after its end may do anything. This one stays pending.
            Getting::Ready(token) => token.take().map_or(Poll::Pending, |token| Poll::Ready(Ok(token))),
            Getting::Waiting(..) => self.wait(cx),
        }
    }
}

impl Get {
    #[inline(never)]
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<Token, TokenError>> {
        let Getting::Waiting(handle, wait) = &mut self.0 else { return Poll::Pending };
        let outcome = loop {
            if wait.is_standing()
                && let Some(token) = handle.current()
            {
                break Ok(token);
            }
            match wait.poll(cx, |round| handle.announce(round)) {
                Poll::Pending => return Poll::Pending,
                // Discarded after the round's outcome was decided: the caller sits down in the next round.
                Poll::Ready(Ok(token)) if handle.0.shared.slot.is_discarded(&token) => {}
                Poll::Ready(outcome) => break outcome,
            }
        };
        self.0 = Getting::Ready(None);
        Poll::Ready(outcome)
    }
}
/// The token of this actor as the credential of another source: the subject of a token exchange, a client's assertion. It
/// is fetched again only when it has expired, by a flight of its own. Whoever depends on it waits for at most 9/10 of the
/// time that is left for the attempt: then there is time for an error that names this link of the chain.
///
/// It names nothing of what it asks for ([`UNNAMED`]).
impl TokenSource for TokenHandle {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let Some(left) = cx.time_left() else { return self.get().await.map_err(SourceError::from) };
        let limit = left * 9 / 10;
        match tokio::time::timeout(limit, self.get()).await {
            Ok(outcome) => outcome.map_err(SourceError::from),
            Err(_) => Err(SourceError::transient(format!("its actor had no token within {limit:.1?}"))),
        }
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part(UNNAMED, "the actor behind a handle");
    }
}
