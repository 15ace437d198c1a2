//! What a registry says about itself.

use std::time::Duration;

use serde::Serialize;

use crate::duration;
use crate::error::TokenError;
use crate::flight::Counters;

/// What a registry is doing, and what it has done, for all its keys together. Serialised, times are seconds.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct RegistryStatus {
    /// Keys that it keeps.
    pub keys: usize,
    /// Of these, keys that are waited for, or whose token is being fetched.
    pub busy_keys: usize,
    /// Callers and subscribers that wait.
    pub waiters: usize,
    /// Calls to the source that are under way.
    pub calls: usize,
    /// How many calls may be under way at once now. Fewer than configured after a 429.
    pub max_calls: usize,
    /// Keys that wait for their turn to call the source.
    pub queued: usize,
    /// How long the auth server is left alone, because calls for several keys have failed. `None`: it is not. Zero: one
    /// call tries it now.
    #[serde(serialize_with = "duration::some_seconds")]
    pub closed: Option<Duration>,
    /// The error that closed it.
    pub closed_by: Option<TokenError>,
    /// How often it was closed.
    pub closures: u64,
    /// Clients that the auth server refuses, and whose keys are left alone.
    pub closed_clients: usize,
    /// How often a client was closed.
    pub client_closures: u64,
    /// Keys that were evicted for want of room.
    pub evicted: u64,
    /// Keys that went because nobody had asked for them for so long.
    pub idled: u64,
    /// Requests that found every key busy.
    pub too_many_keys: u64,
    /// Answers that found their subscriber stopped.
    pub lost: u64,
    /// What the keys have counted, together, those that have gone included.
    pub counters: Counters,
}

impl RegistryStatus {
    /// With what another shard says. Most is the same for all shards.
    pub(super) fn with(self, other: Self) -> Self {
        let mut counters = other.counters;
        counters.add(&Counters::default(), &self.counters);
        counters.withheld += self.counters.withheld;
        Self { lost: self.lost + other.lost, counters, ..other }
    }
}
