//! A link of a chain, which keeps its token, like a separate actor for a link in code.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::SourceSettings;
use crate::clock::Timestamp;
use crate::error::{BuildError, SourceError};
use crate::policy::RefreshPolicy;
use crate::source::{BoxSource, FetchContext, Given, Reason, TokenSource};
use crate::token::Token;

/// The token of a source. It is fetched again only when it has ended or was refused. At most one call is under way,
/// and callers that come meanwhile share its outcome. The link makes no second attempt. Only the flight of the
/// source behind it does.
#[derive(Clone)]
pub(super) struct Kept(Arc<Inner>);

struct Inner {
    source: BoxSource,
    /// Whether its token is given again.
    is_kept: bool,
    /// The margins and lifetimes of an actor.
    policy: RefreshPolicy,
    /// How many calls have ended.
    ended: AtomicU64,
    /// Held during a whole call.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Token>,
    /// The server behind it refused the token in `held`.
    is_refused: bool,
    /// The failure of the call that ended last.
    failure: Option<SourceError>,
}

impl Kept {
    /// The link in this setting.
    pub(super) fn link(name: &str, settings: SourceSettings) -> Result<Self, BuildError> {
        let is_kept = settings.is_kept();
        let source = settings.build().map_err(|error| error.within(name))?;
        let (ended, state) = (AtomicU64::new(0), Mutex::default());
        Ok(Self(Arc::new(Inner { source, is_kept, policy: RefreshPolicy::default(), ended, state })))
    }

    /// The server behind this link refused a request with these tokens. It is not known whether the link's token
    /// was the reason. Therefore the next flight tries to get a new one. A token that has been replaced meanwhile
    /// does not matter any more.
    fn refused(&self, tokens: &[Token]) {
        // A call that is under way gets a new token anyway.
        if let Ok(mut state) = self.0.state.try_lock() {
            let is_held =
                state.held.as_ref().is_some_and(|held| tokens.iter().any(|token| token.is_same(held)));
            state.is_refused |= is_held;
        }
    }
}

impl Inner {
    async fn token(&self, cx: FetchContext) -> Result<Token, SourceError> {
        if !self.is_kept {
            return self.source.fetch(cx).await;
        }
        let ended = self.ended.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        let now = cx.clock().now();
        if let Some(token) =
            state.held.as_ref().filter(|token| !state.is_refused && self.is_usable(token, now))
        {
            return Ok(token.clone());
        }
        // If a call was under way when this one came, its outcome is shared.
        if self.ended.load(Ordering::Acquire) != ended
            && let Some(failure) = &state.failure
        {
            return Err(failure.clone());
        }
        let outcome = self.call(&state, cx, now).await;
        match &outcome {
            Ok(token) => *state = State { held: Some(token.clone()), ..State::default() },
            // After one refusal there is one try. If it fails, the present token may still be accepted.
            Err(failure) => {
                state.is_refused = false;
                state.failure = Some(failure.clone());
            }
        }
        self.ended.fetch_add(1, Ordering::AcqRel);
        outcome
    }

    async fn call(&self, state: &State, cx: FetchContext, now: Timestamp) -> Result<Token, SourceError> {
        let clock = Arc::clone(cx.clock());
        let cx = match &state.held {
            Some(token) => cx.with_previous(token.clone()),
            None => cx,
        };
        let reason = match &state.held {
            None => Reason::First,
            Some(_) if state.is_refused => Reason::Rejected,
            Some(_) => Reason::Expired,
        };
        let token = self.source.fetch(FetchContext { reason, ..cx }).await?;
        let (missing, longest) = (self.policy.assumed_lifetime(), self.policy.longest_lifetime());
        let token = token.stamped(now, &clock, missing, longest);
        if token.remaining_at(clock.now()).is_zero() {
            // A server that counts whole seconds gives out the last token until its very end.
            let error = SourceError::transient("its token had expired when it came");
            return Err(error.with_retry_after(Duration::from_secs(1)));
        }
        Ok(token)
    }

    /// Whether enough of its life is left, by the rule of an actor.
    fn is_usable(&self, token: &Token, now: Timestamp) -> bool {
        token.remaining_at(now) > self.policy.margins_of(token, 0.0).min_validity
    }
}

impl TokenSource for Kept {
    /// The kept token, or a new one. A source that depends on it waits for at most 9/10 of the time that is left
    /// for the attempt. Then there is time for an error that names this link.
    async fn fetch(&self, mut cx: FetchContext) -> Result<Token, SourceError> {
        let given = cx.take_given();
        let outcome = cx.in_time("its source", self.0.token(cx.clone())).await;
        if let Some(given) = given {
            given.note(outcome.as_ref().ok());
        }
        outcome
    }

    fn finish(&self) -> impl Future<Output = ()> + Send {
        self.0.source.finish()
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        self.0.source.identify(part);
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        self.0.source.credential(part);
    }

    fn rebind(&self, token: Token) -> Token {
        self.0.source.rebind(token)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

/// A source with links. If its server refuses a request, the links whose tokens were sent fetch new ones at the
/// next flight.
#[derive(Debug)]
struct Chain<S> {
    source: S,
    links: Vec<Kept>,
}

/// The source, which reports a refusal to its links.
pub(super) fn chain(source: impl TokenSource, links: Vec<Kept>) -> BoxSource {
    if links.is_empty() { BoxSource::new(source) } else { BoxSource::new(Chain { source, links }) }
}

impl<S: TokenSource> TokenSource for Chain<S> {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let given = Given::default();
        let outcome = self.source.fetch(cx.with_given(given.clone())).await;
        if outcome.as_ref().is_err_and(SourceError::is_terminal) {
            let tokens = given.tokens();
            for link in &self.links {
                link.refused(&tokens);
            }
        }
        outcome
    }

    fn look(&self, cx: FetchContext) -> impl Future<Output = Option<Token>> + Send {
        self.source.look(cx)
    }

    fn can_look(&self) -> bool {
        self.source.can_look()
    }

    fn finish(&self) -> impl Future<Output = ()> + Send {
        self.source.finish()
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        self.source.identify(part);
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        self.source.credential(part);
    }

    fn rebind(&self, token: Token) -> Token {
        self.source.rebind(token)
    }
}
