//! A number for each secret, by which the evidence about tokens finds the same secret again.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// The key of the numbers. It is new in each process, so a number tells nothing about its secret elsewhere.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Never zero, which means "no secret".
pub(super) fn of(secret: &str) -> u64 {
    KEY.hash_one(secret) | 1
}
