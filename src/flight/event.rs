//! The events, effects and notes of the machine.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::{SourceError, TokenError};
use crate::policy::Margins;
use crate::queue::Waiter;
use crate::source::{Challenge, FetchContext, Reason};
use crate::token::Token;

pub(crate) type Outcome = Result<Token, TokenError>;

/// A waiter in the machine's queues.
pub(crate) trait Caller: Waiter {
    /// The telling begins with this outcome. For the place of a round: the round closes now, and its callers are
    /// woken later in their turn. Other waiters get their outcome when they are told.
    fn decide(&mut self, outcome: &Outcome);

    /// Whether no receiver for the answer is left.
    fn is_gone(&self) -> bool;

    /// The error if there is no place for it outside the machine. It may wait already, and it may be told what is
    /// known.
    fn turned_away(&self) -> Option<TokenError> {
        None
    }
}

/// An input of the machine.
#[derive(Debug)]
pub(crate) enum Event<W> {
    /// A caller needs a token. `timeout` if it differs from the policy's.
    Want { waiter: W, timeout: Option<Duration> },
    /// A caller wants a new token, even if the old one is usable.
    Refresh { waiter: W },
    /// An API rejected this token, and the reporter waits for another one.
    Replace { waiter: W, token: Token, rejection: Rejection },
    /// An API rejected this token.
    Invalidate(Token),
    /// This token is compromised.
    Discard(Token),
    /// This token was discarded before the machine was made.
    #[cfg(feature = "registry")]
    Recall(Token),
    /// A reader noticed that the token is near its end, or expired.
    NearEnd,
    /// The fetch with this number ended. Its token is stamped already.
    Fetched { id: u64, result: Result<Token, SourceError> },
    /// A token that needed no call: another process has fetched it. It is stamped already.
    Offered(Token),
    /// The gate lets the next call through.
    #[cfg(feature = "registry")]
    Granted,
    /// The gate does not let the call through.
    #[cfg(feature = "registry")]
    Refused(Refusal),
    /// Time has passed. Due at [`Machine::next_wake`](super::Machine::next_wake), and harmless at any other time.
    Tick,
    /// The end: all waiters are told.
    Stop,
    /// The actor restarts, and has lost the running fetch.
    Restart,
}

/// Why the gate refuses a call.
#[cfg(feature = "registry")]
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The auth server fails for other keys too. It is not called for the time `left`.
    Closed { error: SourceError, left: Duration },
    /// So many keys wait before this one that its callers would time out.
    TooLong { expected: Duration },
}

/// An output of the machine. The effects are performed in their order.
#[derive(Debug)]
pub(crate) enum Effect<W> {
    /// Call the source, and report its end as [`Event::Fetched`] with this number.
    Fetch { id: u64, cx: FetchContext },
    /// Drop the running fetch, or withdraw the request to the gate.
    Abort,
    /// Ask the gate for a call. `is_urgent`: a caller waits for it. If the gate was asked and has not answered: no
    /// caller waits for the call any more.
    Ask { is_urgent: bool },
    /// A caller waits now for the call that the gate was asked for.
    Hurry,
    /// From now on readers find this token, or none.
    Publish(Option<(Token, Margins)>),
    /// Readers find no token before this moment, unless [`Release`](Self::Release) comes first.
    Withhold(Duration),
    /// Readers find the token again.
    Release,
    /// Readers need not report [`Event::NearEnd`] before this moment.
    QuietUntil(Duration),
    /// Tell one waiter.
    Tell(W, Outcome),
    /// This waiter waits already. The second one must not be told.
    Duplicate(W),
    /// A line for the log.
    Note(Note),
}

/// An event in the life of a flight.
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
    /// The source gave out a reported secret. It is asked once more.
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
        /// Failed flights in a row before this one.
        outage: u32,
        repeat: Repeat,
    },
    /// A token that another process has fetched is in use now. No flight was under way.
    Received {
        lifetime: Duration,
        expires_at: SystemTime,
        /// Failed flights in a row before.
        outage: u32,
    },
    Failed {
        reason: Reason,
        attempts: u32,
        took: Duration,
        waiters: usize,
        cooldown: Duration,
        error: TokenError,
    },
    /// The token in use was reported. (A report about another token is not logged.)
    Reported {
        kind: ReportKind,
        answer: ReportAnswer,
        /// The time until a report may start a flight again.
        next_in: Duration,
    },
}

impl Note {
    /// A report that would have started a flight without `settle` or the budget.
    pub(crate) fn is_refused_report(&self) -> bool {
        matches!(self, Self::Reported { answer: ReportAnswer::Settling | ReportAnswer::OverBudget, .. })
    }
}

/// Whether a new token's secret was new too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The secret had not been reported.
    No,
    /// The secret had been reported, and the source has given it again. `first`: for the first time with this
    /// secret.
    Confirmed { first: bool },
}

/// Facts about a rejection, beside the token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rejection {
    /// Several APIs that had accepted the token reject it now: its report needs no budget.
    pub(crate) is_confirmed: bool,
    /// The API asks for another kind of token. It knows this token.
    pub(crate) challenge: Option<Challenge>,
    /// The reporter gives its answer to all callers of another actor. A predecessor would replace their token.
    pub(crate) is_for_many: bool,
}

impl Rejection {
    /// Whether the API knew the token. Then the token is not too new for this API.
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

/// The result of a report about the token in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportAnswer {
    /// A flight was started for the report, or the report joined one.
    Flight,
    /// The token has not settled.
    Settling,
    /// The budget of flights for reports is spent.
    OverBudget,
    /// A cooldown runs after a failure.
    CoolingDown,
    /// The token was discarded, and callers wait for the next one.
    Discarded,
}

/// The state of the machine.
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
    /// An attempt failed, and the next one follows.
    Pausing,
    /// The last flight failed. The source is not called until the cooldown ends.
    Cooldown,
    /// The machine has stopped.
    Stopped,
}
