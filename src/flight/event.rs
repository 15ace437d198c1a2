//! What the machine is told, what it says, and what it counts.

use std::time::{Duration, SystemTime};

use crate::error::{SourceError, TokenError};
use crate::policy::Margins;
use crate::queue::Line;
use crate::source::{FetchContext, Reason};
use crate::token::Token;

pub(crate) type Outcome = Result<Token, TokenError>;

/// What happens to the machine.
#[derive(Debug)]
pub(crate) enum Event<W> {
    /// Somebody needs a token; `timeout` if it is not the policy's.
    Want { waiter: W, timeout: Option<Duration> },
    /// Somebody wants a new token, whatever the old one is worth.
    Refresh { waiter: W },
    /// A reader saw that the token is near its end.
    NearEnd,
    /// The API rejected this token.
    Invalidate(Token),
    /// The fetch with this number ended. A token comes stamped.
    Fetched { id: u64, result: Result<Token, SourceError> },
    /// Time has passed; due at [`Machine::next_wake`](super::Machine::next_wake), harmless at any other time.
    Tick,
    /// The end: everybody is told.
    Stop,
    /// The actor begins anew, and has lost the fetch that was running.
    Restart,
}

/// What has to be done, in this order.
#[derive(Debug)]
pub(crate) enum Effect<W> {
    /// Call the source, and report the end as [`Event::Fetched`] with this number.
    Fetch { id: u64, cx: FetchContext },
    /// Drop the fetch that is running.
    Abort,
    /// From now on readers find this token, or none.
    Publish(Option<(Token, Margins)>),
    /// Readers need not report [`Event::NearEnd`] before this moment.
    QuietUntil(Duration),
    /// Tell one.
    Tell(W, Outcome),
    /// Tell all of these, oldest first.
    TellAll(Line<W>, Outcome),
    /// It waits already; this second one must not be told.
    Discard(W),
    /// Worth a line in the log.
    Note(Note),
}

/// A turn in the life of a flight.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    Started {
        reason: Reason,
    },
    Retrying {
        attempt: u32,
        pause: Duration,
        error: SourceError,
    },
    Landed {
        reason: Reason,
        attempts: u32,
        took: Duration,
        waiters: usize,
        lifetime: Duration,
        expires_at: SystemTime,
        outage: u32,
    },
    Failed {
        reason: Reason,
        attempts: u32,
        took: Duration,
        waiters: usize,
        cooldown: Duration,
        error: TokenError,
        first: bool,
    },
    Rejected {
        streak: u32,
    },
}

/// What the machine has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Requests and subscriptions that the actor has seen. A handle's read of a usable token is not among
    /// them, and the handle waiters of one flight count as one.
    pub requests: u64,
    /// Flights started.
    pub flights: u64,
    /// Calls to the source.
    pub attempts: u64,
    /// Flights that brought a token.
    pub landed: u64,
    /// Flights that failed.
    pub failed: u64,
    /// Tokens that the API rejected while they were current.
    pub rejections: u64,
    /// Requests that waited for a flight that somebody else had started.
    pub coalesced: u64,
    /// Requests whose own time ran out.
    pub timeouts: u64,
    /// Requests that found the queue full.
    pub overloads: u64,
    landed_by: [u64; Reason::COUNT],
    failed_by: [u64; Reason::COUNT],
}

impl Counters {
    /// Flights for this reason that brought a token.
    pub fn landed_by(&self, reason: Reason) -> u64 {
        self.landed_by[reason as usize]
    }

    /// Flights for this reason that failed.
    pub fn failed_by(&self, reason: Reason) -> u64 {
        self.failed_by[reason as usize]
    }

    pub(super) fn count_landing(&mut self, reason: Reason) {
        self.landed += 1;
        self.landed_by[reason as usize] += 1;
    }

    pub(super) fn count_failure(&mut self, reason: Reason) {
        self.failed += 1;
        self.failed_by[reason as usize] += 1;
    }
}

/// What the machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlightState {
    /// No flight.
    Idle,
    /// A call to the source is under way.
    Fetching,
    /// An attempt failed; the next one follows.
    Pausing,
    /// The last flight failed; the source is left alone for a while.
    Cooldown,
    /// It has stopped.
    Stopped,
}
