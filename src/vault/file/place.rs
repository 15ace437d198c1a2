//! The steps of a load and of a swap.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::folder::Folder;
use super::lock::Lock;
use crate::error::BuildError;
use crate::vault::{LONGEST_RECORD, Record, Stamp, State, Stored, Swap, VaultError, may_replace};

/// In bytes. An answer of an authorization server is rarely longer than a few KiB.
const ROOM: usize = 64 * 1024;

/// The file, and the files beside it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    names: Arc<Names>,
    pub(super) lock_timeout: Duration,
}

#[derive(Debug)]
struct Names {
    folder: PathBuf,
    file: OsString,
    /// A swap writes this file before it renames it.
    temporary: OsString,
    /// The reserved space for the swap after one to *spending*.
    room: OsString,
    /// Never replaced. Otherwise two processes could hold two locks.
    lock: OsString,
    /// The same for the lock of an exchange, which is held longer.
    spending: OsString,
}

impl Place {
    pub(super) fn new(path: &Path) -> Result<Self, BuildError> {
        let wrong = |what: &str| BuildError::new("path", format!("{what}: {}", path.display()));
        let whole = path::absolute(path).map_err(|_| wrong("is no path of a file"))?;
        let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        let (Some(folder), Some(file), false) = (whole.parent(), whole.file_name(), is_folder) else {
            return Err(wrong("names a folder and no file"));
        };
        let beside = |end: &str| {
            let mut name = OsString::from(".");
            name.push(file);
            name.push(end);
            name
        };
        let names = Names {
            folder: folder.to_owned(),
            file: file.to_owned(),
            temporary: beside(".tmp"),
            room: beside(".room"),
            lock: beside(".lock"),
            spending: beside(".spending"),
        };
        Ok(Self { names: Arc::new(names), lock_timeout: Duration::from_secs(5) })
    }

    pub(super) fn lock(&self, limit: Duration) -> Result<Lock, VaultError> {
        Lock::take(&Folder::open(&self.names.folder)?, &self.names.spending, limit)
    }

    pub(super) fn load(&self) -> Result<Option<Stored>, VaultError> {
        self.read(&Folder::open(&self.names.folder)?)
    }

    pub(super) fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        let bytes = record.to_bytes()?;
        let folder = Folder::open(&self.names.folder)?;
        let _lock = Lock::take(&folder, &self.names.lock, self.lock_timeout)?;
        let there = self.read(&folder)?;
        if !may_replace(there.as_ref(), expected, record) {
            return Ok(Swap::Moved(there));
        }
        // A crash may have left one.
        folder.remove(&self.names.temporary)?;
        let is_spending = matches!(record.state(), State::Spending { .. });
        if is_spending {
            // First the space for the answer is reserved. Then the record becomes *spending*. Therefore no refresh
            // token is sent whose answer has no space.
            self.keep_room(&folder, ROOM.max(2 * bytes.len()))?;
        }
        // Any other record uses the reserved space: it may be the record for which the space was reserved.
        let room = if is_spending { None } else { self.room(&folder)? };
        let (file, name) = match room {
            Some(file) => (file, &self.names.room),
            None => (folder.create(&self.names.temporary)?, &self.names.temporary),
        };
        if let Err(error) = fill(&folder, name, file, &bytes) {
            // The reserved space stays, for the next try.
            if *name == self.names.temporary {
                let _ = folder.remove(name);
            }
            return Err(error);
        }
        // First the new contents are on the disc. Then the file gets its name. Therefore a reader of the name finds
        // a whole record, even after a power failure.
        folder.rename(name, &self.names.file)?;
        folder.sync()?;
        Ok(Swap::Done(stamp_of(&bytes)))
    }

    fn read(&self, folder: &Folder) -> Result<Option<Stored>, VaultError> {
        let name = &self.names.file;
        let Some(bytes) = folder.read(name, LONGEST_RECORD)? else { return Ok(None) };
        let in_file = |error: VaultError| error.at(&folder.shown(name));
        let record = Record::parse(&bytes).map_err(in_file)?;
        Ok(Some(Stored::new(record, stamp_of(&bytes))))
    }

    /// The space that the last swap has reserved.
    fn room(&self, folder: &Folder) -> Result<Option<File>, VaultError> {
        let name = &self.names.room;
        match folder.open_own(name) {
            Ok(room) => Ok(room),
            // A link, for example: it is unknown which file would be written.
            Err(_) => folder.remove(name).map(|()| None),
        }
    }

    fn keep_room(&self, folder: &Folder, size: usize) -> Result<(), VaultError> {
        let name = &self.names.room;
        folder.remove(name)?;
        let file = folder.create(name)?;
        // Not zeros, because some file systems reserve no space for zeros.
        let filling: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(size).collect();
        fill(folder, name, file, &filling).inspect_err(|_| {
            let _ = folder.remove(name);
        })
    }
}

/// Replaces the whole contents of the file by these bytes, on the disc.
fn fill(folder: &Folder, name: &OsStr, mut file: File, bytes: &[u8]) -> Result<(), VaultError> {
    // First the bytes are written. Then the file is cut. The other order would release the reserved space.
    let written = file.write_all(bytes).and_then(|()| file.set_len(bytes.len() as u64));
    written
        .and_then(|()| file.sync_all())
        .map_err(|error| VaultError::io(format_args!("{} cannot be written", folder.shown(name)), &error))
}

/// Two records are never the same bytes, because each has a random name.
fn stamp_of(bytes: &[u8]) -> Stamp {
    Stamp::new(digest(&SHA256, bytes).as_ref())
}
