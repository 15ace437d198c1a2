//! The times of the events: of each request, and at the auth server.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::options::{Mode, Strategy};

/// From when to when.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

/// The calls to an auth server. Written by whoever is nearest to the truth: the built-in server itself, or
/// the client of a real one. Read when the run is over.
#[derive(Default)]
pub(crate) struct CallLog(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    spans: Vec<Span>,
    /// How many were taken away: a call that ends after that must not end another one's span.
    taken: usize,
}

impl CallLog {
    /// A call that has begun. It ends when the value is dropped, so that a call that nobody waits for any
    /// more is counted too.
    pub(crate) fn begin(&self) -> Call<'_> {
        let now = Instant::now();
        let mut calls = self.lock();
        calls.spans.push(Span { began: now, ended: now });
        Call { log: self, number: calls.taken + calls.spans.len() - 1 }
    }

    /// What was logged so far; the log is empty again.
    pub(crate) fn take(&self) -> Vec<Span> {
        let mut calls = self.lock();
        calls.taken += calls.spans.len();
        std::mem::take(&mut calls.spans)
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`CallLog::begin`].
pub(crate) struct Call<'a> {
    log: &'a CallLog,
    number: usize,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut calls = self.log.lock();
        if let Some(index) = self.number.checked_sub(calls.taken) {
            calls.spans[index].ended = Instant::now();
        }
    }
}

/// What a request is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for its token.
    Waiting,
    /// It has a token, and waits for one of the connections to the API.
    Queued,
    /// The API works on it.
    Served,
}

/// Why a request came to nothing.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    NoToken(String),
    Api(String),
}

/// A request's life.
pub(crate) struct Request {
    pub(crate) began: Instant,
    /// Each phase with its end; the next one begins there.
    pub(crate) phases: Vec<(Phase, Instant)>,
    pub(crate) failure: Option<Failure>,
}

impl Request {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), phases: Vec::new(), failure: None }
    }

    /// What it was doing until now.
    pub(crate) fn did(&mut self, phase: Phase) {
        self.phases.push((phase, Instant::now()));
    }

    pub(crate) fn latency(&self) -> Duration {
        self.phases.last().map_or(Duration::ZERO, |&(_, end)| end - self.began)
    }
}

/// All requests of one strategy in one mode, from a cold start.
pub(crate) struct Run {
    pub(crate) strategy: Strategy,
    pub(crate) mode: Mode,
    pub(crate) began: Instant,
    pub(crate) requests: Vec<Request>,
    pub(crate) auth_calls: Vec<Span>,
    /// How many `TokenReady` came, over all tickets.
    pub(crate) token_ready: usize,
    /// When the first token had expired and the second half of the requests began, from the start.
    pub(crate) turn: Option<Duration>,
}

impl Run {
    pub(crate) fn ok(&self) -> usize {
        self.requests.iter().filter(|request| request.failure.is_none()).count()
    }

    /// How many requests failed in the way that the first of them did, and how, in a sentence.
    pub(crate) fn failure(&self) -> Option<String> {
        let failures = || self.requests.iter().filter_map(|request| request.failure.as_ref());
        let first = failures().next()?;
        let same = failures().filter(|failure| *failure == first).count();
        let of = format!("{same} of {} requests", self.requests.len());
        Some(match first {
            Failure::NoToken(why) => format!("{of} got no token: {why}"),
            Failure::Api(why) => format!("{of} failed at the API: {why}"),
        })
    }

    /// The latency that `percent` of the successful requests did not exceed.
    pub(crate) fn percentiles<const N: usize>(&self, percents: [usize; N]) -> [Duration; N] {
        let successful = self.requests.iter().filter(|request| request.failure.is_none());
        let mut latencies: Vec<_> = successful.map(Request::latency).collect();
        latencies.sort_unstable();
        percents.map(|percent| {
            let rank = (latencies.len() * percent).div_ceil(100);
            latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        })
    }
}
