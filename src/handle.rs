//! The handle that an application holds, and the types that it returns.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix::Addr;
use tokio::sync::oneshot;

use crate::actor::{
    End, GetStatus, Invalidate, Join, NearEnd, Refresh, Rejected, Reported, Shared, Status, Subscribe,
    Ticket, TokenActor, gone,
};
use crate::error::{SourceError, TokenError};
pub use crate::flight::Counters;
use crate::flight::Rejection;
use crate::lobby::{Round, Wait};
pub use crate::slot::TokenWatch;
use crate::source::{FetchContext, Reason, TokenSource, UNNAMED};
use crate::token::Token;

/// A reference to a [`TokenActor`], for any thread and any runtime.
///
/// A read of a usable token needs no lock and no message. If there is no usable token, the first caller sends one
/// message, and all callers share the outcome.
///
/// The actor lives until it is [shut down](Self::shutdown), or its arbiter stops, or the last handle and `Addr` are
/// dropped and no caller waits any more. A handle may outlive its actor. Then it answers every call at once, with
/// an error that [`is_stopped`](TokenError::is_stopped).
///
/// Cloning a handle increments one reference count.
#[derive(Clone, Debug)]
pub struct TokenHandle(Arc<Inner>);

/// One copy for all clones. A clone of an `Addr` makes two allocations, and dropping it costs as much. Together
/// they made up a third of the cost of waking a task that owns a handle.
#[derive(Debug)]
struct Inner {
    addr: Addr<TokenActor>,
    shared: Shared,
}

impl TokenHandle {
    pub(crate) fn new(addr: Addr<TokenActor>, shared: Shared) -> Self {
        Self(Arc::new(Inner { addr, shared }))
    }

    /// The token, if there is a usable one. This function is lock-free, never blocks, and never makes the caller
    /// wait for the source. A read near the token's end starts a refresh in the background.
    ///
    /// Also `None` while the token is [withheld](Self::invalidate).
    pub fn current(&self) -> Option<Token> {
        let read = self.0.shared.slot.read();
        if read.reports {
            self.0.addr.do_send(NearEnd);
        }
        read.token
    }

    /// A usable token: the current one at once, otherwise the outcome of the flight under way, or of a new flight.
    ///
    /// The slot is read when `get` is called. If it has no usable token, the future waits, from its first poll on.
    /// Dropping the future does not affect the flight. The future needs no runtime of its own: the actor enforces
    /// `wait_timeout`, on its arbiter. Therefore do not block that arbiter while you wait for this future.
    ///
    /// # Errors
    /// The error of the flight, or [`is_timeout`](TokenError::is_timeout) after the policy's `wait_timeout`,
    /// [`is_overloaded`](TokenError::is_overloaded), [`is_stopped`](TokenError::is_stopped).
    #[inline]
    pub fn get(&self) -> Get {
        match self.current() {
            Some(token) => Get(Getting::Ready(Some(token))),
            None => self.wait(),
        }
    }

    #[inline(never)] // only the fast path is inlined into callers
    fn wait(&self) -> Get {
        Get(Getting::Waiting(self.clone(), Wait::new(Arc::clone(&self.0.shared.lobby))))
    }

    /// "An API answered 401 to this token": a token to repeat the request with, once.
    ///
    /// The first report starts one flight, or joins the one under way, and waits for its outcome. All other callers
    /// keep the token. A report about a token that has been replaced gets the token in use.
    ///
    /// If no flight may start, the answer comes at once. It is the token before this one, if that is usable and was
    /// never reported; otherwise the same token ([`is_same`](Token::is_same)). In a token's first minute such a
    /// predecessor is the answer although the flight starts: the API may not know the new token yet. The
    /// predecessor is also the answer if predecessor and token were both reported before they had settled. No
    /// flight may start in a cooldown, for a token younger than the policy's `settle`, or when the budget
    /// (`reports`, `report_every`) is spent. In each case repeat the request with the returned token, once.
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
    /// As for [`get`](Self::get). If the flight fails, the reporters get its error, and the token stays in use.
    pub async fn replace(&self, token: &Token) -> Result<Token, TokenError> {
        self.rejected(token, Rejection::default()).await
    }

    /// [`replace`](Self::replace), for a client that has more information about the rejection.
    pub(crate) async fn rejected(&self, token: &Token, rejection: Rejection) -> Result<Token, TokenError> {
        let place = self.0.shared.lobby.place()?;
        let (reply, outcome) = oneshot::channel();
        self.0.addr.do_send(Rejected { token: token.clone(), rejection, reply: Some(reply), place });
        let outcome = outcome.await.unwrap_or_else(|_| Err(TokenError::stopped()));
        self.unless_discarded(outcome).await
    }

    /// The token may have been discarded between the answer and this poll.
    async fn unless_discarded(&self, outcome: Result<Token, TokenError>) -> Result<Token, TokenError> {
        match outcome {
            Ok(token) if self.0.shared.slot.is_discarded(&token) => self.get().await,
            outcome => outcome,
        }
    }

    /// "An API answered 401 to this token", from a handler that calls [`get`](Self::get) again afterwards.
    ///
    /// If a flight may start (see [`replace`](Self::replace)) or is under way, new callers wait for its next
    /// attempt, at most 1 s. After this wait, or if no flight may start, the token is in use as before, until its
    /// end, and [`Status::suspect`] is true. If the token has been replaced already, nothing happens.
    pub fn invalidate(&self, token: &Token) {
        let by_name = self.0.shared.slot.invalidate(token, &());
        if by_name {
            self.0.addr.do_send(Invalidate(token.clone()));
        } else {
            self.0.addr.do_send(Reported);
        }
    }

    /// "This token is compromised": it is never given out again, not even to the next [`get`](Self::get), and not
    /// even if the source gives it again. Callers get the outcome of the next flight. The last 1,024 discarded
    /// tokens are remembered. A source that keeps tokens, such as the store of a fleet, learns of the discard with
    /// the next flight.
    pub fn discard(&self, token: &Token) {
        self.0.shared.slot.discard(token, &());
        self.0.addr.do_send(Reported);
    }

    /// A new token, even if the old one is still usable: see [`Refresh`].
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub async fn refresh(&self) -> Result<Token, TokenError> {
        let outcome = self.0.addr.send(Refresh).await.map_err(gone)?;
        self.unless_discarded(outcome).await
    }

    /// Subscribes to a [`TokenReady`](crate::TokenReady): see [`Subscribe`]. Takes a `Recipient`, or a `Subscribe`
    /// with its own ticket and timeout.
    pub fn subscribe(&self, subscription: impl Into<Subscribe>) {
        self.0.addr.do_send(subscription.into());
    }

    /// The token for observers, and its changes: another secret, a [discard](Self::discard), the end. Observers are
    /// not notified when a token merely expires (use [`Token::remaining`]) or is renewed with the same secret.
    pub fn watch(&self) -> TokenWatch {
        TokenWatch::new(Arc::clone(&self.0.shared.slot))
    }

    /// The actor's present state, and its counters.
    ///
    /// # Errors
    /// [`is_stopped`](TokenError::is_stopped).
    pub async fn status(&self) -> Result<Status, TokenError> {
        self.0.addr.send(GetStatus).await.map_err(gone)
    }

    /// Answers all waiters, then stops the actor. Returns when all have been answered, also if the actor had
    /// stopped before: see [`Shutdown`](crate::Shutdown). Dropping the future after its first poll does not undo it.
    pub async fn shutdown(&self) {
        let (reply, end) = oneshot::channel();
        self.0.addr.do_send(End(reply));
        let _ = end.await;
    }

    /// The actor's address, for messages.
    pub fn addr(&self) -> &Addr<TokenActor> {
        &self.0.addr
    }

    /// The middlewares' evidence about this actor's tokens.
    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    pub(crate) fn evidence(&self) -> &crate::evidence::Evidence {
        &self.0.shared.evidence
    }

    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    pub(crate) fn is_discarded(&self, token: &Token) -> bool {
        self.0.shared.slot.is_discarded(token)
    }

    /// [`rejected`](Self::rejected), without waiting for the outcome.
    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    pub(crate) fn report(&self, token: &Token, rejection: Rejection) {
        if let Ok(place) = self.0.shared.lobby.place() {
            self.0.addr.do_send(Rejected { token: token.clone(), rejection, reply: None, place });
        }
    }

    fn announce(&self, round: Option<Arc<Round>>) {
        match round {
            // If the actor is gone, the message is dropped, and the ticket in it answers the round.
            Some(round) => {
                self.0.addr.do_send(Join(Ticket::round(round, Arc::clone(&self.0.shared.lobby))));
            }
            None => self.0.addr.do_send(Reported),
        }
    }
}

/// The future that [`TokenHandle::get`] returns. It owns all it needs.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Get(Getting);

#[derive(Debug)]
enum Getting {
    /// `None` after the outcome has been returned.
    Ready(Option<Token>),
    Waiting(TokenHandle, Wait),
}

impl Future for Get {
    type Output = Result<Token, TokenError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            // The contract of a future allows any behaviour after its end. This one stays pending.
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
                // The token was discarded after the round's outcome was decided: the caller joins the next
                // round.
                Poll::Ready(Ok(token)) if handle.0.shared.slot.is_discarded(&token) => {}
                Poll::Ready(outcome) => break outcome,
            }
        };
        self.0 = Getting::Ready(None);
        Poll::Ready(outcome)
    }
}

/// The token of this actor as the credential of another source: the subject of a token exchange, a client's
/// assertion. It is fetched again only when it has expired, by a flight of its own actor. A caller that depends on
/// it waits for at most 9/10 of the time that is left for the attempt. Then there is time for an error that names
/// this link of the chain.
///
/// A handle may also be the whole source of another actor, which has the same token then. If that actor's token was
/// discarded or rejected, this actor learns of it, and fetches another one by its own rules.
///
/// It does not name the parts of its request ([`UNNAMED`]).
impl TokenSource for TokenHandle {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let answer = async {
            match &cx.previous {
                Some(previous) if cx.is_discarded() => {
                    self.discard(previous);
                    self.get().await
                }
                Some(previous) if cx.reason == Reason::Rejected => {
                    let challenge = cx.challenge().cloned();
                    let rejection = Rejection { challenge, is_for_many: true, ..Rejection::default() };
                    self.rejected(previous, rejection).await
                }
                _ => self.get().await,
            }
        };
        cx.in_time("its actor", async { answer.await.map_err(SourceError::from) }).await
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part(UNNAMED, "the actor behind a handle");
    }
}
