//! The vault of an exchange. A vault may be the user's own code: its panic is a failure of the vault.
//!
//! Without this a panic in a write would end the exchange, and with it the only copy of a new refresh token.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::panics::{ContainedFor, contain};
use crate::vault::{Record, RefreshTokenStore, Stamp, Stored, Swap, VaultError, VaultLock};

type Operation<'a, T> = Pin<Box<dyn Future<Output = Result<T, VaultError>> + Send + 'a>>;

pub(super) struct Guarded<V>(V);

/// The vault's lock. It ends when this is dropped.
pub(super) struct Held(Option<VaultLock>);

impl<V: RefreshTokenStore> Guarded<V> {
    pub(super) fn new(vault: V) -> Self {
        Self(vault)
    }

    pub(super) async fn lock(&self, limit: Duration) -> Result<Held, VaultError> {
        let lock = performed(|| Box::pin(self.0.lock(limit))).await?;
        Ok(Held(Some(lock)))
    }

    pub(super) async fn load(&self) -> Result<Option<Stored>, VaultError> {
        performed(|| Box::pin(self.0.load())).await
    }

    pub(super) async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        performed(|| Box::pin(self.0.swap(expected, record))).await
    }
}

async fn performed<'a, T: 'a>(begin: impl FnOnce() -> Operation<'a, T> + Send) -> Result<T, VaultError> {
    let outcome = match contain(begin) {
        Some(operation) => ContainedFor::new(operation).await,
        None => None,
    };
    outcome.unwrap_or_else(|| Err(VaultError::unavailable("the vault panicked")))
}

impl Drop for Held {
    fn drop(&mut self) {
        let lock = self.0.take();
        let _ = contain(|| drop(lock));
    }
}
