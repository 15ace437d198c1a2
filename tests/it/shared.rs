//! Many processes, one refresh. The suite of the store and that of the protocol run on each store: on the store in
//! memory in virtual time, and on a real Redis that the test starts.

mod acceptance;
mod fleet;
#[cfg(feature = "redis")]
mod hostile;
#[cfg(feature = "oauth2")]
mod identity;
mod interleavings;
mod jumps;
#[cfg(feature = "registry")]
mod keyed;
mod outage;
mod protocol;
#[cfg(feature = "redis")]
pub(crate) mod redis;
mod sealing;
pub(crate) mod world;
