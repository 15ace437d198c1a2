//! What the machine is told, what it says, and what it counts.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::{SourceError, TokenError};
use crate::policy::Margins;
use crate::queue::Waiter;
use crate::source::{Challenge, FetchContext, Reason};
use crate::token::Token;

pub(crate) type Outcome = Result<Token, TokenError>;

/// Who waits in the machine's queues.
pub(crate) trait Caller: Waiter {
    /// The telling begins: this is its outcome. For the place of a round, which closes now, though its callers are
    /// woken in their turn. Others learn their outcome when they are told.
    fn decide(&mut self, outcome: &Outcome);
}

/// What happens to the machine.
#[derive(Debug)]
pub(crate) enum Event<W> {
    /// Somebody needs a token; `timeout` if it is not the policy's.
    Want { waiter: W, timeout: Option<Duration> },
    /// Somebody wants a new token, whatever the old one is worth.
    Refresh { waiter: W },
    /// An API did not take this token, and the reporter waits for another one.
    Replace { waiter: W, token: Token, rejection: Rejection },
    /// An API did not take this token.
    Invalidate(Token),
    /// This token is compromised.
    Discard(Token),
    /// A reader saw that the token is near its end, or past it.
    NearEnd,
    /// The fetch with this number ended. A token comes stamped.
    Fetched { id: u64, result: Result<Token, SourceError> },
    /// A token that cost no call: another process has fetched it. It comes stamped.
    Offered(Token),
    /// The gate lets the next call through.
    #[cfg(feature = "registry")]
    Granted,
    /// The gate does not let the call through.
    #[cfg(feature = "registry")]
    Refused(Refusal),
    /// Time has passed; due at [`Machine::next_wake`](super::Machine::next_wake), harmless at any other time.
    Tick,
    /// The end: everybody is told.
    Stop,
    /// The actor begins anew, and has lost the fetch that was running.
    Restart,
}

/// Why the gate lets no call through.
#[cfg(feature = "registry")]
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The auth server fails for others too. It is left alone for so long.
    Closed { error: SourceError, left: Duration },
    /// So many wait before this key that its callers would lose patience.
    TooLong { expected: Duration },
}

/// What has to be done, in this order.
#[derive(Debug)]
pub(crate) enum Effect<W> {
    /// Call the source, and report the end as [`Event::Fetched`] with this number.
    Fetch { id: u64, cx: FetchContext },
    /// Drop the fetch that is running, or take back what the gate was asked.
    Abort,
    /// Ask the gate for a call. Whether somebody waits for it.
    Ask { is_urgent: bool },
    /// Somebody waits by now for the call that the gate was asked for.
    Hurry,
    /// From now on readers find this token, or none.
    Publish(Option<(Token, Margins)>),
    /// Readers find no token before this moment, unless [`Release`](Self::Release) comes first.
    Withhold(Duration),
    /// Readers find the token again.
    Release,
    /// Readers need not report [`Event::NearEnd`] before this moment.
    QuietUntil(Duration),
    /// Tell one.
    Tell(W, Outcome),
    /// It waits already; this second one must not be told.
    Duplicate(W),
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
    /// The source gave out a secret that was reported; it is asked once more.
    AskingAgain {
        pause: Duration,
    },
    Landed {
        reason: Reason,
        attempts: u32,
        took: Duration,
        waiters: usize,
        lifetime: Duration,
        expires_at: SystemTime,
        /// Flights in a row that failed before.
        outage: u32,
        repeat: Repeat,
    },
    Failed {
        reason: Reason,
        attempts: u32,
        took: Duration,
        waiters: usize,
        cooldown: Duration,
        error: TokenError,
    },
    /// Somebody reported the token in use. (A report about another token is not worth a line.)
    Reported {
        kind: ReportKind,
        answer: ReportAnswer,
        /// Until a report may start a flight again.
        next_in: Duration,
    },
}

impl Note {
    /// A report that would have started a flight, but for `settle` or the budget.
    pub(crate) fn is_refused_report(&self) -> bool {
        matches!(self, Self::Reported { answer: ReportAnswer::Settling | ReportAnswer::OverBudget, .. })
    }
}

/// Whether a new token's secret was new too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The secret had not been reported.
    No,
    /// It had been reported, and the source has the last word. For the first time with this secret, or again.
    Confirmed { first: bool },
}

/// What is known of a rejection beside the token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rejection {
    /// Several APIs that had accepted the token reject it now: its report needs no budget.
    pub(crate) is_confirmed: bool,
    /// The API asks for another kind of token. It knows this one well.
    pub(crate) challenge: Option<Challenge>,
}

impl Rejection {
    /// Whether the API knew the token, so that it is not too new for that API.
    pub(super) fn knows_the_token(&self) -> bool {
        self.is_confirmed || self.challenge.is_some()
    }
}

/// The kinds of report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportKind {
    Replace,
    Invalidate,
    Discard,
}

/// What became of a report about the token in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportAnswer {
    /// A flight was started for it, or it joined one.
    Flight,
    /// The token has not settled.
    Settling,
    /// The budget of flights for reports is spent.
    OverBudget,
    /// The source is left alone after a failure.
    CoolingDown,
    /// The token is gone, and callers wait for the next one.
    Discarded,
}

/// What the machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FlightState {
    /// No flight.
    Idle,
    /// A call to the source is under way.
    Fetching,
    /// Waits until the registry's gate lets its call through.
    Queued,
    /// An attempt failed; the next one follows.
    Pausing,
    /// The last flight failed; the source is not called until the cooldown ends.
    Cooldown,
    /// It has stopped.
    Stopped,
}
