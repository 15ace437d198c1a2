//! The storage of a rotating refresh token: the [`RefreshTokenStore`] trait, and vaults in memory, in a file and in
//! Redis.
//!
//! An authorization server that rotates refresh tokens (RFC 9700 section 4.14) accepts each of them once. Some
//! servers end the whole login when they receive a refresh token a second time. Therefore two processes must not
//! send the same refresh token. After a crash it must be known whether the refresh token was sent. A vault makes
//! both possible. It keeps one [`Record`] for one login, and it has three operations:
//! [`lock`](RefreshTokenStore::lock), [`load`](RefreshTokenStore::load) and [`swap`](RefreshTokenStore::swap).
//!
//! # The order of the writes
//!
//! 1. First the record is written as *spending* ([`Record::spending`]).
//! 2. Then the refresh token is sent. Therefore, if a record is not *spending*, its refresh token has not been
//!    sent.
//! 3. If the refresh token was provably not used, the record is written as *idle* again ([`Record::idle`]). If the
//!    answer brings new tokens, the next generation is written ([`Record::next`]). If the server refuses the refresh
//!    token, the record is written as *dead* ([`Record::dead`]). A dead record is kept.
//!
//! # Why there are a lock and a compare-and-set
//!
//! A process holds the lock from before the load until after the last write. The lock is released when the process
//! dies. Therefore, if a process has the lock and finds *spending*, the exchange behind it is over. Without the
//! lock the other process might only be slow.
//!
//! A swap names the stamp of the record that it replaces. First one process writes *spending*, which changes the
//! stamp. Then any other process that loaded the same record swaps with the old stamp. Therefore the vault answers
//! [`Swap::Moved`], and the other process does not send the refresh token. This works even if a lock was lost, as
//! can happen in Redis. After a crash the record says *spending*, since when, and how often.
//!
//! # What a vault cannot promise
//!
//! A vault that is set back (a restored backup, a snapshot of a virtual machine, a copied file) holds a refresh
//! token that was used already. No vault can detect this.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

mod error;
mod file;
mod memory;
mod record;
#[cfg(feature = "redis")]
mod redis;

pub use error::VaultError;
pub use file::FileVault;
pub use memory::MemoryVault;
pub use record::{Access, Record, RecordBytes, State};
#[cfg(feature = "redis")]
pub use redis::RedisVault;

/// The longest record that a vault must be able to keep, in bytes of [`Record::to_bytes`].
pub const LONGEST_RECORD: usize = 1024 * 1024;

/// Keeps one [`Record`], for one login of one client: [`MemoryVault`] for tests, [`FileVault`] for the processes of
/// one machine, `RedisVault` (feature `redis`) for the processes of several machines.
///
/// The futures must be `Send`. A caller may drop one at any moment. Then it is unknown whether the operation was
/// carried out, as after an error. A [`load`](Self::load) shows the result.
///
/// Your own vault, for example with a database, needs a compare-and-set that is durable when it returns:
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
/// use tokenflight::vault::{Record, RefreshTokenStore, Stamp, Stored, Swap, VaultError, VaultLock};
///
/// /// A row with a version, as a database has it, and a mutex in place of its advisory lock.
/// #[derive(Default)]
/// struct Row(Mutex<Option<(u64, Vec<u8>)>>, Arc<tokio::sync::Mutex<()>>);
///
/// fn stored(row: &Option<(u64, Vec<u8>)>) -> Result<Option<Stored>, VaultError> {
///     let Some((version, bytes)) = row else { return Ok(None) };
///     Ok(Some(Stored::new(Record::parse(bytes)?, Stamp::new(version.to_be_bytes()))))
/// }
///
/// impl RefreshTokenStore for Row {
///     async fn lock(&self, limit: Duration) -> Result<VaultLock, VaultError> {
///         let held = tokio::time::timeout(limit, self.1.clone().lock_owned()).await;
///         Ok(VaultLock::new(held.map_err(VaultError::busy)?))
///     }
///
///     async fn load(&self) -> Result<Option<Stored>, VaultError> {
///         stored(&self.0.lock().unwrap())
///     }
///
///     async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
///         let bytes = record.to_bytes()?;
///         let mut row = self.0.lock().unwrap(); // the transaction begins
///         let there = stored(&row)?;
///         let is_expected = there.as_ref().map(Stored::stamp) == expected;
///         let is_repeated = there.as_ref().is_some_and(|there| there.record() == record);
///         if !is_expected && !is_repeated {
///             return Ok(Swap::Moved(there));
///         }
///         let version = row.as_ref().map_or(1, |(version, _)| version + 1);
///         *row = Some((version, bytes.to_vec()));
///         Ok(Swap::Done(Stamp::new(version.to_be_bytes()))) // the transaction is committed
///     }
/// }
///
/// # futures_executor::block_on(async {
/// let row = Row::default();
/// let first = Record::first("r3fresh", "https://auth.example", "orders")?;
/// let Swap::Done(stamp) = row.swap(None, &first).await? else { panic!("the row was empty") };
///
/// assert!(matches!(row.swap(Some(&stamp), &first.next(Some("n3xt"), None)?).await?, Swap::Done(_)));
/// assert!(matches!(row.swap(Some(&stamp), &first.next(Some("late"), None)?).await?, Swap::Moved(_)));
/// assert_eq!(row.load().await?.unwrap().record().refresh_token(), "n3xt");
/// # Ok::<(), VaultError>(())
/// # }).unwrap();
/// ```
pub trait RefreshTokenStore: Send + Sync + 'static {
    /// The right to send the refresh token. One process has it at a time, and one task in this process. It is held
    /// from before the record is loaded until after the answer is written. It ends when it is dropped, and also
    /// when the process dies. Therefore, if its holder finds a record in [`State::Spending`], no other process is
    /// working on the record.
    ///
    /// `limit`: how long to wait for the lock.
    ///
    /// # Errors
    /// Another process or task has the lock ([`VaultError::is_busy`]); the vault cannot be reached.
    fn lock(&self, limit: Duration) -> impl Future<Output = Result<VaultLock, VaultError>> + Send;

    /// The present record, with its stamp. `None`: there has been no login yet.
    ///
    /// # Errors
    /// The vault cannot be read; its contents are not a record; other users could read or replace the record.
    fn load(&self) -> impl Future<Output = Result<Option<Stored>, VaultError>> + Send;

    /// Replaces the record with the stamp `expected` by `record` (`None`: there must be no record), in one step as
    /// seen from any process. If another record is there, nothing is changed ([`Swap::Moved`]).
    ///
    /// - **Durable.** First the record is stored so that a power failure cannot destroy it. Then the swap returns
    ///   [`Swap::Done`]. Therefore a refresh token that is sent after the swap is known to be *spending* after a
    ///   crash.
    /// - **May be repeated.** If this very record is already there (records of two writes are never equal), the
    ///   answer to the first try was lost. Then the swap is done again, and returns `Done`.
    /// - **Reserves space.** A swap to *spending* also reserves the space for the next record, if the vault can do
    ///   that. Without the space the swap fails, and the refresh token is not sent.
    ///
    /// # Errors
    /// The vault could not do it, or it is not known whether it has done it. Then a [`load`](Self::load) shows the
    /// result, and the same swap may be repeated. Contents that are not a record are never replaced.
    fn swap(
        &self,
        expected: Option<&Stamp>,
        record: &Record,
    ) -> impl Future<Output = Result<Swap, VaultError>> + Send;
}

impl<S: RefreshTokenStore> RefreshTokenStore for Arc<S> {
    fn lock(&self, limit: Duration) -> impl Future<Output = Result<VaultLock, VaultError>> + Send {
        S::lock(self, limit)
    }

    fn load(&self) -> impl Future<Output = Result<Option<Stored>, VaultError>> + Send {
        S::load(self)
    }

    fn swap(
        &self,
        expected: Option<&Stamp>,
        record: &Record,
    ) -> impl Future<Output = Result<Swap, VaultError>> + Send {
        S::swap(self, expected, record)
    }
}

/// The right to send the refresh token: see [`RefreshTokenStore::lock`]. It ends when this is dropped.
pub struct VaultLock(#[allow(dead_code)] Box<dyn Send + Sync>);

impl VaultLock {
    /// For your own vault: a guard that ends the lock when it is dropped.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for VaultLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultLock")
    }
}

/// A record in a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    record: Record,
    stamp: Stamp,
}

impl Stored {
    /// For your own vault.
    pub fn new(record: Record, stamp: Stamp) -> Self {
        Self { record, stamp }
    }

    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The stamp, with which the next [`swap`](RefreshTokenStore::swap) names the record.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }
}

/// Identifies a write of a vault: each write has another stamp, even with the same contents.
///
/// The vault chooses the bytes: a version, a hash, a random number. They hold no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Stamp(Box<[u8]>);

impl Stamp {
    /// For your own vault.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into_boxed_slice())
    }

    /// The bytes that were passed to [`new`](Self::new).
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        f.write_str("Stamp(")?;
        self.0.iter().take(SHOWN).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(if self.0.len() > SHOWN { "..)" } else { ")" })
    }
}

/// The result of a [`swap`](RefreshTokenStore::swap).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // One per swap. A swap takes a thousand times as long as a move of this value.
#[must_use = "a record that was not written may not be spent"]
pub enum Swap {
    /// The record is written, and durable. This is its stamp.
    Done(Stamp),
    /// Another process has written. Nothing is changed. This is the present record.
    Moved(Option<Stored>),
}

/// Whether `record` may replace the present record. That is so if the present record is the expected one, or the
/// caller's own earlier write whose answer was lost.
fn may_replace(there: Option<&Stored>, expected: Option<&Stamp>, record: &Record) -> bool {
    there.map(Stored::stamp) == expected || there.is_some_and(|there| there.record == *record)
}
