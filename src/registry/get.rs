//! The future that waits for the token of a key.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::cell::Cells;
use super::seats::{Searching, Seat};
use super::{Key, TokenRegistry, WeakRegistry};
use crate::error::TokenError;
use crate::flight::{Outcome, Rejection};
use crate::token::Token;

/// The future that [`TokenRegistry::get`] returns. It owns all it needs.
#[must_use = "futures do nothing unless polled"]
pub struct KeyGet<K: Key>(Getting<K>);

/// The request to a shard.
pub(super) enum Asking {
    Want,
    Refresh,
    Replace(Token, Rejection),
}

enum Getting<K: Key> {
    Ready(Outcome),
    /// Not polled yet.
    Asking(TokenRegistry<K>, K, Asking),
    /// No seat was free. It asks again after a search for callers who have gone away.
    Searching(Searching, TokenRegistry<K>, K, Asking),
    /// It does not keep the registry alive, only its memory of discarded tokens.
    Waiting(oneshot::Receiver<Outcome>, WeakRegistry<K>, Arc<Cells<K>>, K),
    Over,
}

impl<K: Key> Getting<K> {
    fn waiting(registry: &TokenRegistry<K>, key: K, asking: Asking, seat: Seat) -> Self {
        let answer = registry.ask(key.clone(), asking, seat);
        Self::Waiting(answer, registry.downgrade(), Arc::clone(&registry.0.common.cells), key)
    }
}

impl<K: Key> KeyGet<K> {
    #[inline]
    pub(super) fn ready(outcome: Outcome) -> Self {
        Self(Getting::Ready(outcome))
    }

    pub(super) fn asking(registry: TokenRegistry<K>, key: K, asking: Asking) -> Self {
        Self(Getting::Asking(registry, key, asking))
    }
}

/// No field is pinned.
impl<K: Key> Unpin for KeyGet<K> {}

impl<K: Key> Future for KeyGet<K> {
    type Output = Result<Token, TokenError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match mem::replace(&mut self.0, Getting::Over) {
                Getting::Ready(outcome) => return Poll::Ready(outcome),
                Getting::Asking(registry, key, asking) => {
                    if matches!(asking, Asking::Want)
                        && let Some(token) = registry.current(&key)
                    {
                        return Poll::Ready(Ok(token));
                    }
                    let seats = &registry.0.common.seats;
                    self.0 = match seats.take() {
                        Some(seat) => Getting::waiting(&registry, key, asking, seat),
                        None => match registry.search() {
                            Some(search) => Getting::Searching(search, registry, key, asking),
                            None => return Poll::Ready(Err(seats.overloaded())),
                        },
                    };
                }
                Getting::Searching(mut search, registry, key, asking) => {
                    if Pin::new(&mut search).poll(cx).is_pending() {
                        self.0 = Getting::Searching(search, registry, key, asking);
                        return Poll::Pending;
                    }
                    let seats = &registry.0.common.seats;
                    self.0 = match seats.take() {
                        Some(seat) => Getting::waiting(&registry, key, asking, seat),
                        None => return Poll::Ready(Err(seats.overloaded())),
                    };
                }
                Getting::Waiting(mut answer, registry, cells, key) => {
                    let Poll::Ready(outcome) = Pin::new(&mut answer).poll(cx) else {
                        self.0 = Getting::Waiting(answer, registry, cells, key);
                        return Poll::Pending;
                    };
                    let outcome = outcome.unwrap_or_else(|_| Err(TokenError::stopped()));
                    // The token may have been discarded between the answer and this poll.
                    if !outcome.as_ref().is_ok_and(|token| cells.is_discarded(&key, token)) {
                        return Poll::Ready(outcome);
                    }
                    match registry.upgrade() {
                        Some(registry) => self.0 = Getting::Asking(registry, key, Asking::Want),
                        None => return Poll::Ready(Err(TokenError::stopped())),
                    }
                }
                // The contract of a future allows any behaviour after its end. This one stays pending.
                Getting::Over => return Poll::Pending,
            }
        }
    }
}

impl<K: Key> fmt::Debug for KeyGet<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyGet")
    }
}
