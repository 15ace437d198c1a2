//! A registry keeps each promise for each key. One module for each promise; `histories` has all of them at random.

mod bounds;
mod eviction;
mod exactly_once;
mod failures;
#[cfg(feature = "shared")]
mod fleet;
#[cfg(feature = "oauth2")]
mod gate;
mod histories;
mod limits;
mod lives;
mod observed;
mod reports;
#[cfg(feature = "shared")]
mod shared;
mod single_flight;
mod support;
mod time;
