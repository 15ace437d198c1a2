//! The status of a registry.

use std::time::Duration;

use serde::Serialize;

use crate::duration;
use crate::error::TokenError;
use crate::flight::Counters;

/// The present state and the counters of a registry, for all its keys together. In serialised form, times are in
/// seconds.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct RegistryStatus {
    /// Keys that it keeps.
    pub keys: usize,
    /// Of these, keys with a waiter or a call.
    pub busy_keys: usize,
    /// Callers and subscribers that wait.
    pub waiters: usize,
    /// Calls to the source that are under way.
    pub calls: usize,
    /// How many calls may be under way at once now. Fewer than configured after a 429.
    pub max_calls: usize,
    /// Keys that wait for their turn to call the source.
    pub queued: usize,
    /// How long the auth server is not called, because calls for several keys have failed. `None`: the gate is
    /// open. Zero: one call tests the auth server now.
    #[serde(serialize_with = "duration::some_seconds")]
    pub closed: Option<Duration>,
    /// The error that closed the gate.
    pub closed_by: Option<TokenError>,
    /// How often the gate was closed.
    pub closures: u64,
    /// Clients that the auth server refuses. Their keys make no calls.
    pub closed_clients: usize,
    /// How often a client was closed.
    pub client_closures: u64,
    /// Keys that were evicted because there was no more room.
    pub evicted: u64,
    /// Keys that were evicted because they were not used for the idle time.
    pub idled: u64,
    /// Requests that found every key busy.
    pub too_many_keys: u64,
    /// Answers whose subscriber had stopped.
    pub lost: u64,
    /// The sum of the counters of all keys, including removed ones.
    pub counters: Counters,
}

impl RegistryStatus {
    /// Adds another shard's status. Most values are the same for all shards.
    pub(super) fn with(self, other: Self) -> Self {
        let mut counters = other.counters;
        counters.add(&Counters::default(), &self.counters);
        Self { lost: self.lost + other.lost, counters, ..other }
    }
}
