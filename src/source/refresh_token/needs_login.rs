//! The error that only a person can mend.

use std::fmt;
use std::time::SystemTime;

/// There is no refresh token that may be sent: the user has to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NeedsLogin {
    /// The number of the refresh token in its login, from 1. `None`: there is no login in the vault.
    pub generation: Option<u64>,
    /// Why, on one line.
    pub reason: String,
    /// Since when.
    pub at: Option<SystemTime>,
}

impl NeedsLogin {
    /// Of a login whose refresh token has this number, or of an empty vault, since an unknown moment: for tests.
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
                    "somebody has to log in again: refresh token number {generation} can no longer be used: {}",
                    self.reason
                )
            }
            None => write!(f, "somebody has to log in: {}", self.reason),
        }
    }
}

impl std::error::Error for NeedsLogin {}
