//! The errors of a vault.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::redactor::printable;

/// A cause with a path or a host fits into this. Longer texts are cut.
const LONGEST: usize = 600;

/// A failure of a vault.
///
/// Its text is one printable line that says what to do, and contains nothing of the record.
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
    /// For your own vault: it cannot be reached, or does not answer. The text is logged. Therefore it must contain
    /// no secret. It is shown on one line, cut after 600 bytes.
    pub fn unavailable(cause: impl fmt::Display) -> Self {
        Self::new(Kind::Unavailable, cause)
    }

    /// For your own vault: another process holds it. The text as in [`unavailable`](Self::unavailable).
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

    /// The same error, with the name of the file at fault.
    #[cfg(unix)]
    pub(super) fn at(self, file: &str) -> Self {
        Self::new(self.kind, format_args!("{file}: {}", self.message))
    }

    /// An error of the operating system about `what`.
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

    /// Other users could read or replace the record: a mode, an owner or a link is wrong.
    pub fn is_insecure(&self) -> bool {
        self.kind == Kind::Insecure
    }

    /// The contents are not a whole record of a version that this crate reads. They are never replaced. An operator
    /// must check them.
    pub fn is_damaged(&self) -> bool {
        self.kind == Kind::Damaged
    }

    /// There is no space: the disc is full, or a quota or a limit is reached.
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// The name of the error's kind: `"busy"`, `"insecure"`, `"damaged"`, `"full"` or `"unavailable"`. A later
    /// version may add kinds.
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
