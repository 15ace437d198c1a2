//! The error that only a person can mend.

use std::fmt;
use std::time::SystemTime;

/// There is no refresh token that may be sent: somebody has to log in.
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
