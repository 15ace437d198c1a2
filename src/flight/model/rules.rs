//! The actions of the model, and the numbers of a policy.

use std::time::Duration;

use crate::flight::{Caller, Outcome};
use crate::policy::RefreshPolicy;
use crate::queue::Waiter;

/// The kinds of waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A subscription: no two wait under this name.
    Ticket,
    /// Another subscription, with its own timeout.
    Hasty,
    /// A caller that awaits the answer. There may be many.
    Asker,
    /// The place of all callers that wait on handles. One is open at a time.
    Round,
    /// A caller that wants a new token.
    Forcer,
    /// A caller that has reported a token, and wants another one.
    Reporter,
}

/// A place in the machine's line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) name: Name,
    /// Given out once, so that the records identify each place.
    pub(super) number: u64,
    pub(super) gone: bool,
    /// The machine has decided its outcome.
    pub(super) decided: bool,
}

impl Waiter for Seat {
    fn key_hash(&self) -> Option<u64> {
        self.name.is_keyed().then_some(0) // one hash for both: a collision
    }
    fn same_key(&self, other: &Self) -> bool {
        self.name.is_keyed() && self.name == other.name
    }
    fn is_one(&self) -> bool {
        self.name != Name::Round
    }
}

impl Caller for Seat {
    fn decide(&mut self, _: &Outcome) {
        self.decided = true;
    }
    fn is_gone(&self) -> bool {
        self.gone
    }
}

impl Name {
    pub(super) fn is_keyed(self) -> bool {
        matches!(self, Self::Ticket | Self::Hasty)
    }
}

/// The answers of the source. The absence of an answer means that it hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A token that has not occurred yet.
    Fresh,
    /// The secret that is in use, with a new life.
    Current,
    /// The token in use, as the actor has stamped it: its life continues.
    Stamped,
    /// The last reported secret that is not in use, with a new life.
    Reported,
    /// The last discarded secret, with a new life.
    Discarded,
    /// A token that has already expired.
    Dead,
    /// A token that no header can carry.
    Faceless,
    Transient,
    /// Transient, with `Retry-After`.
    Wait,
    /// The credential may have been used.
    Ambiguous,
    Terminal,
    Panic,
}

/// The token that a report names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Current,
    /// The token before the current one.
    Old,
    /// The last reported token that is not in use.
    Again,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Want(Name),
    Leave(Name),
    Refresh,
    Replace(Which),
    /// The same, with a confirmation by several APIs that had accepted the token.
    Confirm(Which),
    /// The same, by an API that requires another kind of token.
    Demand(Which),
    Invalidate(Which),
    Discard(Which),
    /// A reader reports that the end is near, or past.
    NearEnd,
    /// One waiter of a crowd is told.
    Tell,
    Answer(Reply),
    /// Another process has fetched a token, and the actor looks.
    Offer,
    /// A call that was given up answers nevertheless.
    Late,
    /// The alarm rings: early, in time, or late.
    Tick,
    /// A unit of time passes, and no alarm rings.
    Second,
    /// So much time passes that all moments are in the past.
    Ages,
    WallForward,
    WallBack,
    Stop,
    Restart,
}

/// A policy, and its set of actions. The numbers are here a second time. Therefore the laws do not use the policy
/// that they check.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) name: &'static str,
    /// The step of time. All other times are multiples of it.
    pub(super) unit: Duration,
    pub(super) attempts: u32,
    pub(super) cooldown: Duration,
    pub(super) terminal: Duration,
    pub(super) grace: Duration,
    pub(super) limit: usize,
    pub(super) background: bool,
    /// The budget of flights for reports: some at once, then one per interval. `None`: no limit.
    pub(super) budget: Option<(u32, Duration)>,
    /// Whether other events come in between while a crowd is told. Otherwise all are told at once.
    pub(super) one_by_one: bool,
    /// The number of secrets that are reported at a time. A bound of the model, not of the machine.
    pub(super) secrets: usize,
    /// The number of secrets that are discarded in a history. Another bound of the model, because they are
    /// remembered for ever.
    pub(super) discards: usize,
    pub(super) actions: Vec<Action>,
}

impl Rules {
    /// The longest time for which a report withholds the token.
    pub(super) const WITHHELD: Duration = Duration::from_secs(1);
    /// The minimum time between the last flight's end and a refresh of its own.
    pub(super) const LEAST_INTERVAL: Duration = Duration::from_millis(500);
    /// How long after its publication a token may be unknown to an API.
    pub(super) const FIRST_MINUTE: Duration = Duration::from_secs(60);

    pub(super) fn policy(&self) -> RefreshPolicy {
        let (reports, every) = self.budget.unwrap_or((1, Duration::ZERO));
        RefreshPolicy::default()
            .jitter(0.0)
            .backoff(Duration::ZERO)
            .refresh_ahead(self.unit * 2)
            .min_validity(self.min_validity())
            .attempts(self.attempts)
            .attempt_timeout(self.unit * 2)
            .flight_timeout(self.flight())
            .wait_timeout(self.patience())
            .max_waiters(self.limit)
            .cooldown(self.cooldown)
            .max_cooldown(self.max_cooldown())
            .terminal_cooldown(self.terminal)
            .stale_if_error(self.grace)
            .background(self.background)
            .reports(reports)
            .report_every(every)
    }

    /// How long a new token lasts.
    pub(super) fn lifetime(&self) -> Duration {
        self.unit * 4
    }

    /// Longer than any time that the machine remembers.
    pub(super) fn ages(&self) -> Duration {
        self.unit * 12
    }

    /// The time in the source's `Retry-After`.
    pub(super) fn requested(&self) -> Duration {
        self.unit
    }

    pub(super) fn flight(&self) -> Duration {
        self.unit * 3
    }

    pub(super) fn patience(&self) -> Duration {
        self.unit * 2
    }

    /// The timeout of [`Name::Hasty`].
    pub(super) fn haste(&self) -> Duration {
        self.unit
    }

    pub(super) fn min_validity(&self) -> Duration {
        self.unit
    }

    pub(super) fn settle(&self) -> Duration {
        (self.lifetime() / 10).min(Duration::from_secs(2))
    }

    pub(super) fn max_cooldown(&self) -> Duration {
        self.cooldown * 2
    }

    /// The cooldown, doubled for each failure after the first.
    pub(super) fn doubled(&self, times: u32) -> Duration {
        if times > 1 { self.max_cooldown() } else { self.cooldown }
    }

    /// Whether a token may be discarded.
    pub(super) fn discards(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Discard(_)))
    }

    /// Whether the wall clock is set.
    pub(super) fn sets_clocks(&self) -> bool {
        self.actions.contains(&Action::WallForward)
    }
}
