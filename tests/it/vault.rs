//! The vaults of rotating refresh tokens. One suite runs on each vault.

mod acceptance;
#[cfg(unix)]
mod file;
#[cfg(unix)]
mod processes;
mod record;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod world;
