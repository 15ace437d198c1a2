//! Where a refresh token that rotates is kept. One suite runs on each vault.

mod acceptance;
#[cfg(unix)]
mod file;
#[cfg(unix)]
mod processes;
mod record;
pub(crate) mod world;
