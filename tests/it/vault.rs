//! Where a refresh token that rotates is kept. One suite runs on each vault.

mod acceptance;
#[cfg(unix)]
mod file;
#[cfg(unix)]
mod processes;
mod record;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod world;
