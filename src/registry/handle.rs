//! A handle for one key of a registry.

use std::fmt;

use super::{Key, KeyGet, TokenRegistry};
use crate::actor::Status;
use crate::error::{SourceError, TokenError};
use crate::source::{FetchContext, TokenSource, UNNAMED};
use crate::token::Token;

/// A handle for an application that needs one key's token and has no keys. A clone clones the key.
///
/// It is also a [`TokenSource`]: the token of a key can be the credential of another source.
pub struct KeyHandle<K: Key> {
    registry: TokenRegistry<K>,
    key: K,
}

impl<K: Key> KeyHandle<K> {
    pub(super) fn new(registry: TokenRegistry<K>, key: K) -> Self {
        Self { registry, key }
    }

    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The registry.
    pub fn registry(&self) -> &TokenRegistry<K> {
        &self.registry
    }

    /// See [`TokenRegistry::current`].
    pub fn current(&self) -> Option<Token> {
        self.registry.current(&self.key)
    }

    /// See [`TokenRegistry::get`].
    pub fn get(&self) -> KeyGet<K> {
        self.registry.get(&self.key)
    }

    /// See [`TokenRegistry::replace`].
    ///
    /// # Errors
    /// As for [`TokenRegistry::get`].
    pub async fn replace(&self, token: &Token) -> Result<Token, TokenError> {
        self.registry.replace(&self.key, token).await
    }

    /// See [`TokenRegistry::invalidate`].
    pub fn invalidate(&self, token: &Token) {
        self.registry.invalidate(&self.key, token);
    }

    /// See [`TokenRegistry::discard`].
    pub fn discard(&self, token: &Token) {
        self.registry.discard(&self.key, token);
    }

    /// See [`TokenRegistry::refresh`].
    ///
    /// # Errors
    /// As for [`TokenRegistry::get`].
    pub async fn refresh(&self) -> Result<Token, TokenError> {
        self.registry.refresh(&self.key).await
    }

    /// See [`TokenRegistry::status`].
    ///
    /// # Errors
    /// [`is_stopped`](TokenError::is_stopped).
    pub async fn status(&self) -> Result<Status, TokenError> {
        self.registry.status(&self.key).await
    }
}

impl<K: Key> Clone for KeyHandle<K> {
    fn clone(&self) -> Self {
        Self { registry: self.registry.clone(), key: self.key.clone() }
    }
}

/// Without the key, because a key may be a person's name.
impl<K: Key> fmt::Debug for KeyHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyHandle").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// A caller that depends on it waits for at most 9/10 of the time that is left for the attempt. Then there is time
/// for an error that names this link of the chain.
///
/// It does not name the parts of its request ([`UNNAMED`]).
impl<K: Key> TokenSource for KeyHandle<K> {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        cx.in_time("its registry", async { self.get().await.map_err(SourceError::from) }).await
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part(UNNAMED, "the registry behind a handle");
    }
}
