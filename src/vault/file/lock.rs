//! The lock against other processes, and against other tasks of this process.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::process;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::folder::Folder;
use crate::clock::{Clock, SystemClock};
use crate::vault::VaultError;

/// Held until it is dropped. The system ends it when the process ends.
pub(super) struct Lock(#[allow(dead_code)] File);

impl Lock {
    pub(super) fn take(folder: &Folder, name: &OsStr, limit: Duration) -> Result<Self, VaultError> {
        let begin = SystemClock.now().boot;
        loop {
            let mut file = Self::open(folder, name)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    // The file may have been removed meanwhile. Then other processes lock another file.
                    if is_there(folder, name, &file)? {
                        note_holder(&mut file);
                        return Ok(Self(file));
                    }
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => {
                    let what = format_args!("{} cannot be locked", folder.shown(name)).to_string();
                    return Err(VaultError::io(what, &error.into()));
                }
            }
            if SystemClock.now().boot.saturating_sub(begin) >= limit {
                return Err(VaultError::busy(format_args!(
                    "{} has held the lock {} for more than {limit:?}: does a second copy of this program run, or was \
                     one stopped?",
                    holder(&mut file),
                    folder.shown(name)
                )));
            }
            // At random, so that waiting processes do not try in step.
            thread::sleep(Duration::from_micros(fastrand::u64(500..5_000)));
        }
    }

    fn open(folder: &Folder, name: &OsStr) -> Result<File, VaultError> {
        loop {
            if let Some(file) = folder.open_own(name)? {
                return Ok(file);
            }
            match folder.create(name) {
                Ok(file) => return Ok(file),
                // Another process was faster.
                Err(_) if folder.open_own(name)?.is_some() => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_there(folder: &Folder, name: &OsStr, file: &File) -> Result<bool, VaultError> {
    let failed = |error| VaultError::io(format_args!("{} cannot be read", folder.shown(name)), &error);
    let Some(there) = folder.open_own(name)? else { return Ok(false) };
    let (there, own) = (there.metadata().map_err(failed)?, file.metadata().map_err(failed)?);
    Ok((there.dev(), there.ino()) == (own.dev(), own.ino()))
}

/// Writes the holder's number for the error of a process that does not get the lock in time. On a full disc this
/// fails, and the lock still holds.
fn note_holder(file: &mut File) {
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", process::id()));
}

/// The holder's number as it was written. In a container, another process may have this number.
fn holder(file: &mut File) -> String {
    let mut noted = String::new();
    let read = file.rewind().and_then(|()| Read::by_ref(file).take(16).read_to_string(&mut noted));
    match read.ok().and_then(|_| noted.trim().parse::<u32>().ok()) {
        Some(own) if own == process::id() => "another task of this process".to_owned(),
        Some(other) => format!("another process (probably {other})"),
        None => "another process".to_owned(),
    }
}
