//! The error that only a user's login can correct.

use std::fmt;
use std::time::SystemTime;

/// There is no refresh token that may be sent: the user must log in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NeedsLogin {
    /// The number of the refresh token in its login, from 1. `None`: there is no login in the vault.
    pub generation: Option<u64>,
    /// The reason, on one line.
    pub reason: String,
    /// Since when the login is needed.
    pub at: Option<SystemTime>,
}

impl NeedsLogin {
    /// For a login whose refresh token has this number, or for an empty vault, since an unknown moment: for tests.
    pub fn new(generation: Option<u64>, reason: impl Into<String>) -> Self {
        Self { generation, reason: reason.into(), at: None }
    }
}

impl fmt::Display for NeedsLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            Some(generation) => {
                write!(
                    f,
                    "a user must log in again: refresh token number {generation} can no longer be used: {}",
                    self.reason
                )
            }
            None => write!(f, "a user must log in: {}", self.reason),
        }
    }
}

impl std::error::Error for NeedsLogin {}
