//! The promises of the crate, each with the tests that catch its breach. One binary, so that it links once.
// A test that computes a wrong time should panic.
#![allow(clippy::unchecked_time_subtraction)]

mod bounds;
mod cancellation;
mod errors;
mod exactly_once;
#[cfg(feature = "oauth2")]
mod examples;
mod floors;
mod lifetimes;
#[cfg(feature = "oauth2")]
mod oidc;
mod outage;
mod rejection;
#[cfg(feature = "shared")]
mod shared;
mod single_flight;
mod support;
mod threads;
mod time;
mod usable;
