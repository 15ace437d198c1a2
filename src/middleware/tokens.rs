//! The tokens that a client carries: an actor's, or those of one key of a registry.

use std::fmt;
#[cfg(feature = "registry")]
use std::future::Future;
#[cfg(feature = "registry")]
use std::pin::Pin;
#[cfg(feature = "registry")]
use std::sync::Arc;

use crate::error::TokenError;
use crate::evidence::Evidence;
use crate::flight::Rejection;
use crate::handle::TokenHandle;
#[cfg(feature = "registry")]
use crate::registry::{Key, KeyHandle};
use crate::token::Token;

/// The tokens of a [`BearerAuth`](super::BearerAuth): made from a [`TokenHandle`], or (feature `registry`) from a
/// `KeyHandle`. A clone costs one reference count.
#[derive(Clone)]
pub struct Tokens(Whose);

#[derive(Clone)]
enum Whose {
    Actor(TokenHandle),
    #[cfg(feature = "registry")]
    Key(Arc<dyn OneKey>),
}

impl Tokens {
    pub(super) async fn get(&self) -> Result<Token, TokenError> {
        match &self.0 {
            Whose::Actor(handle) => handle.get().await,
            #[cfg(feature = "registry")]
            Whose::Key(key) => match key.current() {
                Some(token) => Ok(token),
                None => key.get().await,
            },
        }
    }

    pub(super) async fn rejected(&self, token: &Token, rejection: Rejection) -> Result<Token, TokenError> {
        match &self.0 {
            Whose::Actor(handle) => handle.rejected(token, rejection).await,
            #[cfg(feature = "registry")]
            Whose::Key(key) => key.rejected(token.clone(), rejection).await,
        }
    }

    /// [`rejected`](Self::rejected), without waiting for the outcome.
    pub(super) fn report(&self, token: &Token, rejection: Rejection) {
        match &self.0 {
            Whose::Actor(handle) => handle.report(token, rejection),
            #[cfg(feature = "registry")]
            Whose::Key(key) => key.report(token, rejection),
        }
    }

    pub(super) fn is_discarded(&self, token: &Token) -> bool {
        match &self.0 {
            Whose::Actor(handle) => handle.is_discarded(token),
            #[cfg(feature = "registry")]
            Whose::Key(key) => key.is_discarded(token),
        }
    }

    pub(super) fn evidence(&self) -> &Evidence {
        match &self.0 {
            Whose::Actor(handle) => handle.evidence(),
            #[cfg(feature = "registry")]
            Whose::Key(key) => key.evidence(),
        }
    }
}

impl From<&TokenHandle> for Tokens {
    fn from(handle: &TokenHandle) -> Self {
        Self(Whose::Actor(handle.clone()))
    }
}

impl From<TokenHandle> for Tokens {
    fn from(handle: TokenHandle) -> Self {
        Self(Whose::Actor(handle))
    }
}

/// All values of the same key share the evidence about its tokens. The registry keeps it for the 1,024 keys that were
/// used last, and for each key for which there is such a value. Therefore a value may be made for each request.
#[cfg(feature = "registry")]
impl<K: Key> From<KeyHandle<K>> for Tokens {
    fn from(handle: KeyHandle<K>) -> Self {
        let evidence = handle.registry().evidence(handle.key());
        Self(Whose::Key(Arc::new(WithEvidence { handle, evidence })))
    }
}

#[cfg(feature = "registry")]
impl<K: Key> From<&KeyHandle<K>> for Tokens {
    fn from(handle: &KeyHandle<K>) -> Self {
        handle.clone().into()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

#[cfg(feature = "registry")]
type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Token, TokenError>> + Send + 'a>>;

/// A handle for one key, of any type of key.
#[cfg(feature = "registry")]
trait OneKey: Send + Sync {
    fn current(&self) -> Option<Token>;
    fn get(&self) -> Waiting<'_>;
    fn rejected(&self, token: Token, rejection: Rejection) -> Waiting<'_>;
    fn report(&self, token: &Token, rejection: Rejection);
    fn is_discarded(&self, token: &Token) -> bool;
    fn evidence(&self) -> &Evidence;
}

#[cfg(feature = "registry")]
struct WithEvidence<K: Key> {
    handle: KeyHandle<K>,
    evidence: Arc<Evidence>,
}

#[cfg(feature = "registry")]
impl<K: Key> OneKey for WithEvidence<K> {
    fn current(&self) -> Option<Token> {
        self.handle.current()
    }

    fn get(&self) -> Waiting<'_> {
        Box::pin(self.handle.get())
    }

    fn rejected(&self, token: Token, rejection: Rejection) -> Waiting<'_> {
        Box::pin(async move { self.handle.registry().rejected(self.handle.key(), &token, rejection).await })
    }

    fn report(&self, token: &Token, rejection: Rejection) {
        self.handle.registry().report(self.handle.key(), token, rejection);
    }

    fn is_discarded(&self, token: &Token) -> bool {
        self.handle.registry().is_discarded(self.handle.key(), token)
    }

    fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}
