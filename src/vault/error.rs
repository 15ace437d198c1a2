//! Why a vault could not do something.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::redactor::printable;

/// A cause that names a path or a host has room in this. Longer texts are cut.
const LONGEST: usize = 600;

/// The vault could not do it.
///
/// Its text is one printable line that says what to do, and shows nothing of the record.
#[derive(Debug)]
pub struct VaultError {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Busy,
    Insecure,
    Damaged,
    Full,
    Unavailable,
}

impl VaultError {
    /// For a vault of your own: it cannot be reached, or does not answer. The text will be logged, so it must hold no
    /// secret. It is shown on one line, cut after 600 bytes.
    pub fn unavailable(cause: impl fmt::Display) -> Self {
        Self::new(Kind::Unavailable, cause)
    }

    /// For a vault of your own: another process holds it up. The text as in [`unavailable`](Self::unavailable).
    pub fn busy(cause: impl fmt::Display) -> Self {
        Self::new(Kind::Busy, cause)
    }

    #[cfg_attr(not(unix), allow(dead_code))]
    pub(super) fn insecure(cause: impl fmt::Display) -> Self {
        Self::new(Kind::Insecure, cause)
    }

    pub(super) fn damaged(cause: impl fmt::Display) -> Self {
        Self::new(Kind::Damaged, cause)
    }

    /// The same, with the name of the file at fault.
    #[cfg(unix)]
    pub(super) fn at(self, file: &str) -> Self {
        Self::new(self.kind, format_args!("{file}: {}", self.message))
    }

    /// From what the operating system said about `what`.
    #[cfg_attr(not(unix), allow(dead_code))]
    pub(super) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let is_full = matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge);
        let kind = if is_full { Kind::Full } else { Kind::Unavailable };
        Self::new(kind, format_args!("{what}: {error}"))
    }

    fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self { kind, message: printable(&message.to_string(), LONGEST) }
    }

    /// Another process holds the vault. Trying again may help.
    pub fn is_busy(&self) -> bool {
        self.kind == Kind::Busy
    }

    /// Others could read or replace the record: a mode, an owner or a link is wrong.
    pub fn is_insecure(&self) -> bool {
        self.kind == Kind::Insecure
    }

    /// What is there is no whole record of a version that this crate reads. It is never replaced: somebody has to look at it.
    pub fn is_damaged(&self) -> bool {
        self.kind == Kind::Damaged
    }

    /// There is no room: the disc is full, or a quota or a limit is reached.
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// The name of the error's kind: `"busy"`, `"insecure"`, `"damaged"`, `"full"` or `"unavailable"`. There may be more
    /// kinds in a later version.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Busy => "busy",
            Kind::Insecure => "insecure",
            Kind::Damaged => "damaged",
            Kind::Full => "full",
            Kind::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for VaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the vault: {}", self.message)
    }
}

/// Without a `source()`: the text holds the text of the cause.
impl StdError for VaultError {}
