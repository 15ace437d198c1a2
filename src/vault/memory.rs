//! The vault for tests, and for programs that log in at each start.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Record, RefreshTokenStore, Stamp, Stored, Swap, VaultError, VaultLock, may_replace};

/// A vault in this process's memory. A clone is the same vault. When the process ends, the login is lost.
#[derive(Clone, Debug, Default)]
pub struct MemoryVault {
    place: Arc<Mutex<Place>>,
    lock: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Place {
    there: Option<Stored>,
    writes: u64,
}

impl MemoryVault {
    /// An empty vault.
    pub fn new() -> Self {
        Self::default()
    }

    /// One step. No other step can come in between.
    fn step<R>(&self, step: impl FnOnce(&mut Place) -> R) -> R {
        step(&mut self.place.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RefreshTokenStore for MemoryVault {
    async fn lock(&self, limit: Duration) -> Result<VaultLock, VaultError> {
        let held = tokio::time::timeout(limit, Arc::clone(&self.lock).lock_owned()).await;
        let held =
            held.map_err(|_| VaultError::busy(format_args!("another task has held it for {limit:?}")))?;
        Ok(VaultLock::new(held))
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        Ok(self.step(|place| place.there.clone()))
    }

    async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        // Like the other vaults, so that a record that is too long also fails in tests.
        record.to_bytes()?;
        Ok(self.step(|place| {
            if !may_replace(place.there.as_ref(), expected, record) {
                return Swap::Moved(place.there.clone());
            }
            place.writes += 1;
            let stamp = Stamp::new(place.writes.to_be_bytes());
            place.there = Some(Stored::new(record.clone(), stamp.clone()));
            Swap::Done(stamp)
        }))
    }
}
