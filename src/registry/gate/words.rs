//! The inputs and outputs of the gate.

use std::time::Duration;

use super::breaker::Sent;
use crate::error::SourceError;

/// The gate's numbers. Its caller checks them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GateSettings {
    /// Calls at once, for all keys together. At least 1. 16.
    pub(crate) calls: usize,
    /// Calls at once for one group. At least 1. Half of `calls`.
    pub(crate) per_group: usize,
    /// The first time for which the gate is closed. It doubles with each probe that fails. 1 s.
    pub(crate) pause: Duration,
    /// The longest of these pauses. 10 s.
    pub(crate) max_pause: Duration,
    /// The first time for which a client with refused credentials is closed. 5 s.
    pub(crate) refusal_pause: Duration,
    /// The longest of these pauses. 60 s.
    pub(crate) max_refusal_pause: Duration,
    /// The maximum of a server's `Retry-After`. 60 s.
    pub(crate) max_retry_after: Duration,
    /// A pause is shorter by up to this share. 0.0 to 1.0; 0.5.
    pub(crate) jitter: f64,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self::with_calls(16)
    }
}

impl GateSettings {
    /// The usual numbers, with this number of calls at once.
    pub(crate) fn with_calls(calls: usize) -> Self {
        let calls = calls.max(1);
        Self {
            calls,
            per_group: (calls / 2).max(1),
            pause: Duration::from_secs(1),
            max_pause: Duration::from_secs(10),
            refusal_pause: Duration::from_secs(5),
            max_refusal_pause: Duration::from_secs(60),
            max_retry_after: Duration::from_secs(60),
            jitter: 0.5,
        }
    }
}

/// A key that wants to make a call. It asks once, and asks again only after its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ask<T> {
    /// Returned with the answer.
    pub(crate) who: T,
    pub(crate) key: u64,
    /// The group of the key: a tenant, or the key itself.
    pub(crate) group: u64,
    /// The client that proves its identity in this call.
    pub(crate) client: u64,
    /// Whether a caller waits for this key's token.
    pub(crate) urgent: bool,
    /// How long its waiters wait.
    pub(crate) patience: Duration,
}

/// A place in the lines. It is given out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Number(pub(super) u64);

/// The right to make one call. It occupies a slot until [`Gate::ended`](super::Gate::ended) takes it back.
#[derive(Debug, PartialEq, Eq, Hash)]
#[cfg_attr(test, derive(Clone))]
#[must_use = "a permit that is not given back occupies its slot for ever"]
pub(crate) struct Permit {
    pub(super) key: u64,
    pub(super) group: u64,
    pub(super) client: u64,
    pub(super) at: Duration,
    /// How often the limit had been cut when the call began.
    pub(super) cuts: u64,
    pub(super) to_endpoint: Sent,
    pub(super) as_client: Sent,
}

/// The slots that the fleet lends this process. By default none, and the store was not asked yet.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(not(feature = "shared"), allow(dead_code))] // used only by a fleet
pub(crate) struct Lent {
    /// The number of calls at once.
    pub(crate) slots: usize,
    /// The number of slots that this process could have now: its own, and the free ones.
    pub(crate) reach: usize,
    /// On the boot clock.
    pub(crate) until: Duration,
    /// The process wants more, and there are no more.
    pub(crate) is_short: bool,
}

/// The immediate answer to a key that asks.
#[derive(Debug)]
pub(crate) enum Answer<E = SourceError> {
    Granted(Permit),
    /// [`Gate::next_decided`](super::Gate::next_decided) answers later, or in the same lock.
    Waits(Number),
    Refused(Refusal<E>),
}

/// The answer to a waiting key.
#[derive(Debug)]
pub(crate) struct Decided<T, E = SourceError> {
    pub(crate) who: T,
    pub(crate) number: Number,
    pub(crate) how: Result<Permit, Refusal<E>>,
}

/// The reason why a key may not make its call. Times are on the boot clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal<E = SourceError> {
    /// The endpoint fails.
    Closed { error: E, until: Duration },
    /// The server refuses this client.
    ClientClosed { error: E, until: Duration },
    /// Its waiters would give up before its turn.
    TooLong { expected: Duration, patience: Duration },
}

/// The end of a call.
#[derive(Clone, Debug)]
pub(crate) enum Ending<E = SourceError> {
    Served,
    /// The server answered, and its answer concerns this key: `invalid_scope`, `invalid_grant`, an answer without
    /// a token.
    KeyOnly,
    /// 5xx, 408, no connection, no answer in time.
    EndpointFailed {
        error: E,
        retry_after: Option<Duration>,
    },
    /// 429.
    #[cfg_attr(not(any(test, feature = "http")), allow(dead_code))] // used only by errors with a status
    TooMany {
        error: E,
        retry_after: Option<Duration>,
    },
    /// `invalid_client`.
    #[cfg_attr(not(any(test, feature = "oauth2")), allow(dead_code))] // used only by OAuth's errors
    ClientRefused(E),
    /// The caller gave the call up. This proves nothing.
    Abandoned,
}

/// The state of the gate, for status and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GateStatus<E = SourceError> {
    /// Calls under way.
    pub(crate) calls: usize,
    /// How many may be under way now.
    pub(crate) limit: usize,
    /// Keys with waiters that wait for a call.
    pub(crate) urgent: usize,
    /// Keys that wait to refresh ahead.
    pub(crate) ahead: usize,
    /// The error that closed the gate, and the end of the closure. A time in the past means half open.
    pub(crate) closed: Option<(E, Duration)>,
    /// How often the gate was closed.
    pub(crate) closures: u64,
    /// How often a client was closed.
    pub(crate) client_closures: u64,
    /// Clients that are closed or half open.
    pub(crate) clients_shut: usize,
    /// The usual length of a call.
    pub(crate) usual: Option<Duration>,
}
