//! The vault of the processes of several machines: a value in Redis, sealed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::sync::oneshot;

use super::record::random_name;
use super::{Record, RefreshTokenStore, Stamp, Stored, Swap, VaultError, VaultLock};
use crate::error::BuildError;
use crate::source::SealKey;
use crate::source::shared::seal::{KeyRing, Purpose};
use crate::store::{RedisStore, SharedKey, hex};

/// A vault in Redis, for the processes of several machines. A clone is the same vault.
///
/// ```
/// use tokenflight::source::SealKey;
/// use tokenflight::store::RedisStore;
/// use tokenflight::vault::RedisVault;
///
/// let store = RedisStore::builder("redis://localhost:6379").build()?; // connects to nothing yet
/// let key = SealKey::from_hex("2026-11", "9f4e61c07a2b8d35e1f6047c93ab58d20c7e91b4f85a3d6672e0c94b1fa8d357")?;
/// let vault = RedisVault::new(&store, "orders", [key])?;
/// # let _ = vault;
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// - **The store decides.** While Redis does not answer, a load and a swap fail, and no refresh token is sent, as
///   with [`OnOutage::Fail`](crate::source::OnOutage::Fail). The access token in use stays in use until its end.
/// - **Sealed.** A reader of Redis cannot read a token, and a writer to Redis cannot forge a record. A value that
///   none of the keys opens is an error ([`VaultError::is_damaged`]), and is never replaced.
/// - **Keys.** The first key seals, and all keys open. To rotate: give every process the new key as its second one.
///   Then make it the first one everywhere. When the next refresh has sealed the record with it, remove the old
///   key.
/// - **The place** is `tokenflight:{NAME:hash}:vault`, under the prefix of the store. It has no expiry, so Redis
///   must not evict it: use `noeviction`, `volatile-lru` or `volatile-lfu`. `volatile-ttl` would evict the lock first.
///   The rights that [`RedisStore`] names are enough.
///
/// # What is lost when Redis loses data
///
/// By default Redis answers before a write is on its disc, and before a replica has it. If Redis then fails, it is set back
/// to an older record:
///
/// - If *spending* is lost, the next process sends a refresh token that was sent already. A server that receives it
///   again may end the login. Then promise 14 of this crate (a one-time credential is never used twice) does not
///   hold.
/// - If the next generation is lost, its refresh token is lost. A user must log in again.
/// - If everything is lost, the vault is empty. A user must log in again.
///
/// Therefore set `appendonly yes` and `appendfsync always`. Then Redis writes to the disc before it answers. A
/// failover to a replica can still lose the last writes. For a login that must not be lost, use a
/// [`FileVault`](super::FileVault) on one machine, or your own vault with a database that commits before it
/// answers.
///
/// A writer to Redis can also set the record back, or delete it: a seal does not prevent a copy of an older value.
#[derive(Clone)]
pub struct RedisVault(Arc<Inner>);

struct Inner {
    store: RedisStore,
    ring: KeyRing,
    key: SharedKey,
}

impl RedisVault {
    /// A vault of this name in a store. It does not connect yet. One name is one login of one client.
    ///
    /// # Errors
    /// No key, or two keys with the same id; a name that is empty, longer than 64 bytes, or contains other characters
    /// than letters, digits, `-`, `_` and `.`. A key that can be guessed is a WARN in the log.
    pub fn new(
        store: &RedisStore,
        name: &str,
        keys: impl IntoIterator<Item = SealKey>,
    ) -> Result<Self, BuildError> {
        let ring = KeyRing::new(keys.into_iter().collect(), false)?;
        // Not keyed by the ring: the record must be found after a change of the keys.
        let key = SharedKey::new(name, [("vault", name)])?;
        Ok(Self(Arc::new(Inner { store: store.clone(), ring, key })))
    }

    fn open(&self, value: &[u8]) -> Result<Stored, VaultError> {
        let opened = self.0.ring.open(&self.0.key, Purpose::Vault, value).map_err(|_| {
            VaultError::damaged(format_args!(
                "{} opens with none of the seal keys: a key is missing here, or a program without the key has written it",
                self.0.key.as_str()
            ))
        })?;
        Ok(Stored::new(Record::parse(&opened)?, Stamp::new(sha1(value).into_bytes())))
    }
}

/// How long a lock lasts after its process has died.
const LOCK: Duration = Duration::from_secs(5);
const KEEP_EVERY: Duration = Duration::from_secs(1);
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Renews the lock until the other end is dropped, and then releases it.
async fn keep(inner: Arc<Inner>, owner: String, mut held: oneshot::Receiver<()>) {
    while tokio::time::timeout(KEEP_EVERY, &mut held).await.is_err() {
        // After a failure the next renewal may succeed. Otherwise the lock is lost. Each write is a compare-and-set
        // in any case.
        let _ = inner.store.lock_kept(&inner.key, &owner, LOCK).await;
    }
    let _ = inner.store.lock_kept(&inner.key, &owner, Duration::ZERO).await;
}

impl RefreshTokenStore for RedisVault {
    /// It is renewed each second, and ends 5 s after its process has died.
    async fn lock(&self, limit: Duration) -> Result<VaultLock, VaultError> {
        let owner = random_name()?;
        let taken = async {
            while !self.0.store.lock_kept(&self.0.key, &owner, LOCK).await.map_err(VaultError::unavailable)? {
                tokio::time::sleep(TRY_EVERY).await;
            }
            Ok(())
        };
        match tokio::time::timeout(limit, taken).await {
            Ok(taken) => taken?,
            Err(_) => {
                return Err(VaultError::busy(format_args!("another process has held it for {limit:?}")));
            }
        }
        let (guard, held) = oneshot::channel::<()>();
        tokio::spawn(keep(Arc::clone(&self.0), owner, held));
        Ok(VaultLock::new(guard))
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        let value = self.0.store.kept(&self.0.key).await.map_err(VaultError::unavailable)?;
        value.map(|value| self.open(&value)).transpose()
    }

    async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        let Inner { store, ring, key } = &*self.0;
        let no_random = || VaultError::unavailable("the system has no random bytes");
        let value = ring.seal(key, Purpose::Vault, &record.to_bytes()?).ok_or_else(no_random)?;
        let done = || Ok(Swap::Done(Stamp::new(sha1(&value).into_bytes())));
        let swap = async |expected: Option<&Stamp>| {
            // A stamp of another vault is the hash of no value here. Then the swap finds another record, as it
            // should.
            let expected = expected.map(|stamp| String::from_utf8_lossy(stamp.as_bytes()));
            let swapped = store.swap_kept(key, expected.as_deref().unwrap_or_default(), &value).await;
            swapped.map_err(VaultError::unavailable)
        };
        let there = match swap(expected).await? {
            Ok(()) => return done(),
            Err(there) => there.map(|there| self.open(&there)).transpose()?,
        };
        match &there {
            // The answer to an earlier swap was lost. It was sealed with another nonce.
            Some(own) if own.record() == record => match swap(Some(own.stamp())).await? {
                Ok(()) => done(),
                Err(there) => Ok(Swap::Moved(there.map(|there| self.open(&there)).transpose()?)),
            },
            _ => Ok(Swap::Moved(there)),
        }
    }
}

impl fmt::Debug for RedisVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisVault").field("key", &self.0.key).field("store", &self.0.store).finish()
    }
}

/// The hash as Redis computes it. It distinguishes values that processes have sealed. An attacker gains nothing
/// from a collision.
fn sha1(value: &[u8]) -> String {
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, value).as_ref())
}
