//! The folder of the file, and the files that may be opened in it.
//!
//! The folder is opened once in each step, and all names are looked up in the opened folder. Therefore no other
//! folder can take its place between the check and the use.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::redactor::printable;
use crate::vault::VaultError;

const STICKY: u32 = 0o1000;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const OPEN_TO_OTHERS: u32 = 0o077;
const ROOT: u32 = 0;

pub(super) struct Folder {
    folder: File,
    path: PathBuf,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, VaultError> {
        let shown = || printable(&path.display().to_string(), 200);
        let failed = |error: io::Error| {
            VaultError::io(format_args!("the folder {} cannot be opened", shown()), &error)
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?);
        let data = folder.metadata().map_err(failed)?;
        if data.uid() != geteuid().as_raw() && data.uid() != ROOT {
            return Err(VaultError::insecure(format_args!(
                "the folder {} belongs to the user {}, who could replace the file: use a folder of the user that runs \
                 this program",
                shown(),
                data.uid()
            )));
        }
        let mode = data.permissions().mode();
        if mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0 {
            return Err(VaultError::insecure(format_args!(
                "the group or others can write to the folder {} (mode {:04o}), and so could replace the file: run \
                 `chmod go-w` on it",
                shown(),
                mode & 0o7777
            )));
        }
        Ok(Self { folder, path: path.to_owned() })
    }

    /// The path of a file in it, for an error.
    pub(super) fn shown(&self, name: &OsStr) -> String {
        printable(&self.path.join(name).display().to_string(), 200)
    }

    /// The whole contents of a file of this user, of at most `limit` bytes. `None`: the file does not exist.
    pub(super) fn read(&self, name: &OsStr, limit: usize) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        // A pipe with this name must not block the program.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Some(file) = self.own(name, flags)? else { return Ok(None) };
        let failed = |error| VaultError::io(format_args!("{} cannot be read", self.shown(name)), &error);
        let length = file.metadata().map_err(failed)?.len();
        let length = usize::try_from(length).ok().filter(|length| *length <= limit).ok_or_else(|| {
            VaultError::damaged(format_args!(
                "{} has {length} bytes: it is no record of a vault",
                self.shown(name)
            ))
        })?;
        // Capacity for the whole file from the beginning: a buffer that grows leaves its old memory behind unwiped.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
        file.take(length as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    /// A file of this user, opened for writing from its beginning. `None`: the file does not exist.
    pub(super) fn open_own(&self, name: &OsStr) -> Result<Option<File>, VaultError> {
        self.own(name, OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    /// A new file, which only its owner can open.
    pub(super) fn create(&self, name: &OsStr) -> Result<File, VaultError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR);
        file.map(File::from).map_err(|error| self.failed(name, "cannot be created", error))
    }

    /// Does nothing if the file does not exist.
    pub(super) fn remove(&self, name: &OsStr) -> Result<(), VaultError> {
        match unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed(name, "is a leftover file, and cannot be removed", error)),
        }
    }

    pub(super) fn rename(&self, name: &OsStr, to: &OsStr) -> Result<(), VaultError> {
        renameat(&self.folder, name, &self.folder, to)
            .map_err(|error| self.failed(to, "cannot be replaced", error))
    }

    /// When this returns, the names in the folder are on the disc.
    pub(super) fn sync(&self) -> Result<(), VaultError> {
        self.folder.sync_all().map_err(|error| {
            let shown = printable(&self.path.display().to_string(), 200);
            VaultError::io(format_args!("it is not known whether the folder {shown} is on the disc"), &error)
        })
    }

    fn own(&self, name: &OsStr, flags: OFlags) -> Result<Option<File>, VaultError> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            // One error on Linux, the other on FreeBSD.
            Err(Errno::LOOP | Errno::MLINK) => {
                return Err(VaultError::insecure(format_args!(
                    "{} is a symbolic link, which a write would replace: name the file itself",
                    self.shown(name)
                )));
            }
            Err(error) => return Err(self.failed(name, "cannot be opened", error)),
        };
        let data = file
            .metadata()
            .map_err(|error| VaultError::io(format_args!("{} cannot be read", self.shown(name)), &error))?;
        self.check(name, &data)?;
        Ok(Some(file))
    }

    fn check(&self, name: &OsStr, data: &Metadata) -> Result<(), VaultError> {
        let insecure = |what: &str| Err(VaultError::insecure(format_args!("{} {what}", self.shown(name))));
        if !data.is_file() {
            return insecure("is no ordinary file");
        }
        if data.uid() != geteuid().as_raw() {
            let (owner, own) = (data.uid(), geteuid().as_raw());
            return insecure(&format!(
                "belongs to the user {owner}, and this program runs as {own}: run `chown {own}` on it, if you trust \
                 its contents"
            ));
        }
        let mode = data.permissions().mode();
        if mode & OPEN_TO_OTHERS != 0 {
            return insecure(&format!(
                "is open to the group or others (mode {:04o}): run `chmod 600` on it, and log in again if somebody \
                 may have read it",
                mode & 0o7777
            ));
        }
        Ok(())
    }

    fn failed(&self, name: &OsStr, what: &str, error: Errno) -> VaultError {
        VaultError::io(format_args!("{} {what}", self.shown(name)), &error.into())
    }
}
