//! A vault, and processes that share it.

use std::fs::{self, DirBuilder};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokenflight::clock::{Clock, SystemClock};
use tokenflight::vault::{
    FileVault, MemoryVault, Record, RefreshTokenStore, Stamp, Stored, Swap, VaultError,
};

/// A vault that processes share.
pub(crate) trait World {
    type Vault: RefreshTokenStore;

    /// As another process sees it.
    fn vault(&self) -> Self::Vault;
}

pub(crate) struct Memory(MemoryVault);

impl Memory {
    pub(crate) fn begin() -> Self {
        Self(MemoryVault::new())
    }
}

impl World for Memory {
    type Vault = MemoryVault;

    fn vault(&self) -> MemoryVault {
        self.0.clone()
    }
}

/// A folder of the test's own, which ends with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn begin() -> Self {
        let name = format!("tokenflight-vault-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("orders.vault")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) struct InFile(pub(crate) Folder);

impl InFile {
    pub(crate) fn begin() -> Self {
        Self(Folder::begin())
    }
}

impl World for InFile {
    type Vault = FileVault;

    fn vault(&self) -> FileVault {
        FileVault::new(self.0.file()).unwrap()
    }
}

pub(crate) fn now() -> SystemTime {
    SystemClock.now().wall
}

/// The first generation: no other text of a test has these words in it.
pub(crate) fn login() -> Record {
    Record::first("s3cret-r3fresh", "https://auth.example", "orders").unwrap()
}

#[track_caller]
pub(crate) fn done(swap: Result<Swap, VaultError>) -> Stamp {
    match swap.unwrap() {
        Swap::Done(stamp) => stamp,
        Swap::Moved(there) => panic!("somebody else has written {there:?}"),
    }
}

#[track_caller]
pub(crate) fn moved(swap: Result<Swap, VaultError>) -> Option<Stored> {
    match swap.unwrap() {
        Swap::Done(stamp) => panic!("nobody else has written, and {stamp:?} is there"),
        Swap::Moved(there) => there,
    }
}

/// Rotates until it has won so often. The generations that it has won.
pub(crate) async fn rotate(vault: &impl RefreshTokenStore, wins: usize) -> Vec<u64> {
    let mut won = Vec::new();
    let mut there = vault.load().await.unwrap().expect("a login");
    while won.len() < wins {
        let token = format!("{}-after-{}", there.record().generation() + 1, there.record().refresh_token());
        let next = there.record().next(Some(&token[..token.len().min(40)]), None).unwrap();
        let swap = match vault.swap(Some(there.stamp()), &next).await {
            // A slow disc, and many who wait: nothing was written.
            Err(error) if error.is_busy() => continue,
            swap => swap.unwrap(),
        };
        there = match swap {
            Swap::Done(stamp) => {
                won.push(next.generation());
                Stored::new(next, stamp)
            }
            Swap::Moved(there) => there.expect("nobody takes a record away"),
        };
    }
    won
}

/// Makes tests of functions over a [`World`]: each on the vault in memory, and on the one in a file, and
/// on Redis.
macro_rules! on_each_vault {
    ($($promise:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise(crate::vault::world::Memory::begin()).await;
                }
            )*
        }

        #[cfg(unix)]
        mod file {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise(crate::vault::world::InFile::begin()).await;
                }
            )*
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise(crate::vault::redis::InRedis::begin()).await;
                }
            )*
        }
    };
}
pub(crate) use on_each_vault;
