//! The single flight: all rules about which caller gets which token, and when, in one machine without I/O.
//!
//! [`Machine::on`] takes an event and the time, and returns effects. The actor performs the effects. This module
//! uses no clock, no actix and no tokio. Therefore the rules are in one place, and every order of events can be
//! tested. This file has the state. [`callers`] has the requests of callers, [`course`] the flight itself,
//! [`rejection`] the reports, [`telling`] the telling of a crowd, [`reports`] the memory of reported tokens. If
//! many keys share an auth server, [`gated`] asks a gate before each call. [`rest`] keeps the small record of an
//! idle machine.
//!
//! ```text
//!              want, token usable ──► told at once (and, near its end, a flight starts in the background)
//!                                          ┌──────────── retry: backoff, Retry-After ◄───┐
//!   idle ──── want, no usable token ──► fetching ──── failed, may try again ─────────────┘
//!    ▲                                   │      └──── failed for good ──► cooldown ──► idle
//!    └── publish, end, tell all ◄────────┘ token                          (the known error at once)
//! ```

mod callers;
mod counters;
mod course;
mod event;
#[cfg(feature = "registry")]
mod gated;
mod landing;
mod rejection;
mod reports;
#[cfg(feature = "registry")]
mod rest;
mod telling;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::TokenError;
use crate::policy::{Margins, RefreshPolicy};
use crate::queue::Waiters;
use crate::source::{Challenge, Reason};
use crate::token::Token;

pub use counters::Counters;
pub use event::FlightState;
#[cfg(feature = "registry")]
pub(crate) use event::Refusal;
pub(crate) use event::{Caller, Effect, Event, Note, Outcome, Rejection, Repeat, ReportAnswer, ReportKind};
use reports::Reports;
#[cfg(feature = "registry")]
pub(crate) use rest::Resting;
use telling::Telling;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))] // the model applies each event to a copy
pub(crate) struct Machine<W> {
    policy: Arc<RefreshPolicy>,
    dice: fastrand::Rng,
    /// Whether the machine asks a gate before each call.
    is_gated: bool,
    /// Whether a flight without a waiter may start.
    may_fly_unasked: bool,
    held: Option<Held>,
    /// The discarded token that was in use, or that the source has given out, until the next token arrives.
    withdrawn: Option<Token>,
    reports: Reports,
    flight: Option<Flight>,
    /// Failed flights in a row.
    failures: u32,
    cooldown: Option<Cooldown>,
    /// Waiters that want a usable token.
    wanting: Waiters<W>,
    /// Waiters that want the flight's outcome: a renewed token, or the error.
    renewing: Waiters<W>,
    /// Waiters whose outcome is known, and who have not been told. The oldest crowd first.
    telling: VecDeque<Telling<W>>,
    purged: Duration,
    stopped: bool,
    fetches: u64,
    /// When the last flight ended.
    last_flight: Option<Duration>,
    last_error: Option<TokenError>,
    counters: Counters,
}

/// The current token: usable, near its end, or expired. Never a discarded one.
#[derive(Clone, Debug)]
struct Held {
    token: Token,
    margins: Margins,
    /// When the token was published.
    since: Duration,
    /// The token was reported, and since then neither replaced nor confirmed.
    suspect: bool,
}

/// The flight under way.
#[derive(Clone, Debug)]
struct Flight {
    reason: Reason,
    attempt: u32,
    /// When it began. Behind a gate its first call may be later.
    started: Duration,
    deadline: Duration,
    phase: Phase,
    report: ReportShare,
    /// The API's requirement on the token, from a report. It applies from the next attempt on.
    challenge: Option<Challenge>,
    /// Whether the running call passes the challenge on.
    is_passed_on: bool,
    /// The token of a call that did not pass the challenge on. It is used if the next call gets none.
    spare: Option<Token>,
    withholding: Withholding,
    /// Whether a caller waits for this flight, as the gate was told.
    is_urgent: bool,
}

/// The relation of reports to a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReportShare {
    /// No report started or joined the flight.
    None,
    /// A report did. If a reported secret comes, the source is asked once more.
    AsksAgain,
    /// A report did. The next result is accepted.
    Takes,
}

/// Whether the current token is withheld from callers while this flight is under way. At most once per flight.
#[derive(Clone, Copy, Debug)]
enum Withholding {
    NotYet,
    Now { since: Duration, until: Duration },
    Over,
}

#[derive(Clone, Debug)]
enum Phase {
    /// The gate has been asked for a call. Before the first call a flight has no deadline.
    Queued,
    /// `cut`: its time ends with the flight's, before its own.
    Fetching {
        id: u64,
        until: Duration,
        cut: bool,
    },
    Pausing {
        until: Duration,
    },
}

#[derive(Clone, Debug)]
struct Cooldown {
    until: Duration,
    error: TokenError,
}

/// An event that happens by itself, and needs an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// The attempt's time ends, or the pause before the next one.
    Attempt,
    /// A withheld token is in use again.
    Withheld,
    /// The timeout of a waiter in the queues.
    Patience,
    /// In background mode: a refresh without a caller.
    OwnRefresh,
}

type Out<W> = Vec<Effect<W>>;

/// The obligations of the caller of [`on`](Self::on):
///
/// 1. `now` never goes back on the boot clock. The wall clock may.
/// 2. All effects are performed, in their order, before the next event.
/// 3. For each [`Effect::Fetch`] one [`Event::Fetched`] with its number follows, unless [`Effect::Abort`] or
///    [`Event::Restart`] came first. If it follows after these, it is ignored.
/// 4. After each event the caller calls [`next_wake`](Self::next_wake), and sends [`Event::Tick`] at that moment or
///    later. In background mode it also sends `Tick` once a second: the wall clock may be set, and no alarm rings
///    for that.
/// 5. While [`is_telling`](Self::is_telling), the caller calls [`next_to_tell`](Self::next_to_tell) again and
///    again. Other events may come in between.
/// 6. If a handle changes the slot (a report), the machine gets this report before any later event.
/// 7. For each [`Effect::Ask`] one [`Event::Granted`] or [`Event::Refused`] follows, unless [`Effect::Abort`] came
///    first. A second `Ask` before that belongs to the same request: it goes behind the urgent ones.
impl<W: Caller> Machine<W> {
    pub(crate) fn new(policy: Arc<RefreshPolicy>, seed: u64) -> Self {
        Self {
            policy,
            dice: fastrand::Rng::with_seed(seed),
            is_gated: false,
            may_fly_unasked: true,
            held: None,
            withdrawn: None,
            reports: Reports::default(),
            flight: None,
            failures: 0,
            cooldown: None,
            wanting: Waiters::new(),
            renewing: Waiters::new(),
            telling: VecDeque::new(),
            purged: Duration::ZERO,
            stopped: false,
            fetches: 0,
            last_flight: None,
            last_error: None,
            counters: Counters::default(),
        }
    }

    /// Handles an event, and appends the effects to `out`.
    pub(crate) fn on(&mut self, event: Event<W>, now: Timestamp, out: &mut Out<W>) {
        self.reports.forget_ended(now);
        match event {
            Event::Want { waiter, timeout } => self.want(waiter, timeout, now, out),
            Event::Refresh { waiter } => self.refresh(waiter, now, out),
            Event::Replace { waiter, token, rejection } => self.replace(waiter, &token, rejection, now, out),
            Event::Invalidate(token) => self.invalidate(&token, now, out),
            Event::Discard(token) => self.discard(&token, now, out),
            #[cfg(feature = "registry")]
            Event::Recall(token) => self.reports.discard(&token),
            Event::NearEnd => self.near_end(now, out),
            Event::Fetched { id, result } => self.fetched(id, result, now, out),
            Event::Offered(token) => self.offered(token, now, out),
            Event::Tick => self.tick(now, out),
            #[cfg(feature = "registry")]
            Event::Granted => self.granted(now, out),
            #[cfg(feature = "registry")]
            Event::Refused(refusal) => self.refused(refusal, now, out),
            Event::Stop => {
                self.clear(now, out);
                self.stopped = true;
                (self.held, self.withdrawn) = (None, None);
                self.reports.predecessor = None;
                out.push(Effect::Publish(None));
            }
            Event::Restart => {
                self.clear(now, out);
                self.stopped = false;
                // A reader may have reported to the flight that is lost. The next reader reports anew.
                out.push(Effect::QuietUntil(now.boot));
                out.push(Effect::Release);
            }
        }
    }

    /// When [`Event::Tick`] is due; `None` if nothing will happen by itself.
    pub(crate) fn next_wake(&mut self, now: Timestamp) -> Option<Duration> {
        self.deadlines(now).into_iter().map(|(_, moment)| moment).min()
    }

    /// All events that happen by themselves, with their moments.
    pub(crate) fn deadlines(&mut self, now: Timestamp) -> impl IntoIterator<Item = (Deadline, Duration)> {
        let attempt = self.flight.as_ref().and_then(|flight| match flight.phase {
            Phase::Fetching { until, .. } | Phase::Pausing { until } => Some(until),
            Phase::Queued => (flight.attempt > 0).then_some(flight.deadline),
        });
        let withheld = self.flight.as_ref().and_then(Flight::withheld_until);
        let patience = [self.wanting.next_deadline(), self.renewing.next_deadline()];
        [
            (Deadline::Attempt, attempt),
            (Deadline::Withheld, withheld),
            (Deadline::Patience, patience.into_iter().flatten().min()),
            (Deadline::OwnRefresh, self.own_refresh(now)),
        ]
        .into_iter()
        .filter_map(|(deadline, moment)| Some((deadline, moment?)))
    }

    /// Whether the machine waits for nothing except its own refresh.
    pub(crate) fn is_idle(&self) -> bool {
        self.flight.is_none() && self.wanting.is_empty() && self.renewing.is_empty() && !self.is_telling()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// All waiters: those in the queues, and those that are being told.
    pub(crate) fn waiters(&self) -> usize {
        let told = self.telling.iter().map(Telling::callers).sum::<usize>();
        self.wanting.callers() + self.renewing.callers() + told
    }

    pub(crate) fn token(&self) -> Option<&Token> {
        self.held.as_ref().map(|held| &held.token)
    }

    /// Whether the current token was reported, and since then neither replaced nor confirmed.
    pub(crate) fn is_suspect(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.suspect)
    }

    /// The error of the last failed flight.
    pub(crate) fn last_error(&self) -> Option<&TokenError> {
        self.last_error.as_ref()
    }

    /// How long the source is not called from now on.
    pub(crate) fn cooldown_left(&self, now: Timestamp) -> Option<Duration> {
        self.running_cooldown(now).map(|cooldown| cooldown.until.saturating_sub(now.boot))
    }

    pub(crate) fn state(&self, now: Timestamp) -> FlightState {
        match &self.flight {
            _ if self.stopped => FlightState::Stopped,
            Some(Flight { phase: Phase::Fetching { .. }, .. }) => FlightState::Fetching,
            Some(Flight { phase: Phase::Queued, .. }) => FlightState::Queued,
            Some(_) => FlightState::Pausing,
            None if self.running_cooldown(now).is_some() => FlightState::Cooldown,
            None => FlightState::Idle,
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
