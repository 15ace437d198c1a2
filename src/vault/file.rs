//! The vault of the processes of one machine: a file.

use std::path::Path;
use std::time::Duration;

#[cfg(unix)]
mod folder;
#[cfg(unix)]
mod lock;
#[cfg(unix)]
mod place;

use super::{Record, RefreshTokenStore, Stamp, Stored, Swap, VaultError, VaultLock};
use crate::error::BuildError;

#[cfg(unix)]
use place::Place;

/// A vault in a file that only its owner can read. For the processes of one user on one machine, on Unix.
///
/// ```
/// use tokenflight::vault::{FileVault, Record, RefreshTokenStore, Swap};
///
/// # actix_rt::System::new().block_on(async {
/// # let folder = std::env::temp_dir();
/// # let name = format!("tokenflight-doc-{}", std::process::id());
/// # let path = folder.join(&name);
/// let vault = FileVault::new(&path)?;
/// assert!(vault.load().await?.is_none(), "nobody has logged in");
///
/// let login = Record::first("r3fresh", "https://auth.example", "orders")?;
/// assert!(matches!(vault.swap(None, &login).await?, Swap::Done(_)));
///
/// let stored = FileVault::new(&path)?.load().await?.expect("it is there, also for another process");
/// assert_eq!(stored.record(), &login);
/// # std::fs::remove_file(&path)?;
/// # std::fs::remove_file(folder.join(format!(".{name}.lock")))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// # Atomic and durable
///
/// The file is never changed. A swap writes a temporary file in the same folder, and asks the system to put it on
/// the disc (`fsync`). Then the temporary file takes the name of the file (`rename`), and the system is asked to
/// put the folder on the disc. Therefore a reader, and a program that starts after a crash, finds the old record or
/// the new one, and never a part. A record has a hash, so that other damage is found. A damaged file, or a file
/// that is not a record, is an error, and is never replaced.
///
/// The comparison of the stamps and the write happen under a lock (`flock`) on a second file, `.NAME.lock`, which
/// is never replaced. The system ends the lock when its process ends. A swap waits for the lock for at most
/// [`lock_timeout`](Self::lock_timeout). A load needs no lock.
///
/// A swap to *spending* also writes a file `.NAME.room` of 64 KiB, and the next swap writes into it. Therefore a
/// disc that becomes full after the refresh token was sent does not lose the answer. (A file system that copies on
/// write, such as Btrfs or ZFS, does not reserve this space.) After a crash the next swap overwrites or removes
/// `.NAME.room` and `.NAME.tmp`.
///
/// # Who may read it
///
/// These are errors ([`VaultError::is_insecure`]), at each load and each swap:
///
/// - The file can be read or written by the group or by others. A swap gives it mode 0600.
/// - The file belongs to another user, or is not a regular file.
/// - The file is a symbolic link. A swap would replace the link and not the file. Therefore name the file itself.
///   The path of the folder may contain links.
/// - The folder belongs to another user (who is not root), or the group or others can write to it and it has no sticky bit.
///   The folders above it are not checked.
///
/// # What it cannot do
///
/// The file holds the tokens in clear: root, backups and a thief of the disc can read them. Old contents may stay
/// on the disc. On a network file system the lock may have no effect on other machines. Therefore keep the file on
/// a local disc.
#[derive(Clone, Debug)]
pub struct FileVault {
    #[cfg(unix)]
    place: Place,
}

impl FileVault {
    /// A vault at this path. A relative path is made absolute now. Nothing is opened yet.
    ///
    /// # Errors
    /// A path that names no file; a system that is not Unix, because this crate cannot protect the file there.
    #[cfg(unix)]
    pub fn new(path: impl AsRef<Path>) -> Result<Self, BuildError> {
        Ok(Self { place: Place::new(path.as_ref())? })
    }

    /// A vault at this path.
    ///
    /// # Errors
    /// This system is not Unix, and this crate cannot protect the file there.
    #[cfg(not(unix))]
    pub fn new(_: impl AsRef<Path>) -> Result<Self, BuildError> {
        Err(BuildError::new("path", "cannot be protected on this system: FileVault works on Unix only"))
    }

    /// How long a swap waits for the lock, which another process or task may hold. Default 5 s.
    #[cfg_attr(not(unix), allow(unused_mut, unused_variables))]
    pub fn lock_timeout(mut self, limit: Duration) -> Self {
        #[cfg(unix)]
        {
            self.place.lock_timeout = limit;
        }
        self
    }
}

/// File operations block. If a caller drops the future, the step still continues.
#[cfg(unix)]
async fn in_the_background<R: Send + 'static>(
    step: impl FnOnce() -> Result<R, VaultError> + Send + 'static,
) -> Result<R, VaultError> {
    let no_runtime = |_| VaultError::unavailable("a file needs a tokio runtime to be read or written in");
    let runtime = tokio::runtime::Handle::try_current().map_err(no_runtime)?;
    let ended = |_| VaultError::unavailable("the runtime shuts down");
    runtime.spawn_blocking(step).await.map_err(ended)?
}

#[cfg(unix)]
impl RefreshTokenStore for FileVault {
    async fn lock(&self, limit: Duration) -> Result<VaultLock, VaultError> {
        let place = self.place.clone();
        in_the_background(move || place.lock(limit)).await.map(VaultLock::new)
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        let place = self.place.clone();
        in_the_background(move || place.load()).await
    }

    async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        let (place, expected, record) = (self.place.clone(), expected.cloned(), record.clone());
        in_the_background(move || place.swap(expected.as_ref(), &record)).await
    }
}

/// No value can exist.
#[cfg(not(unix))]
impl RefreshTokenStore for FileVault {
    async fn lock(&self, _: Duration) -> Result<VaultLock, VaultError> {
        Err(VaultError::unavailable("FileVault works on Unix only"))
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        Err(VaultError::unavailable("FileVault works on Unix only"))
    }

    async fn swap(&self, _: Option<&Stamp>, _: &Record) -> Result<Swap, VaultError> {
        Err(VaultError::unavailable("FileVault works on Unix only"))
    }
}
