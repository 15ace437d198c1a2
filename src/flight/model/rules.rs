//! What can happen in the model, and the numbers of a policy.

use std::time::Duration;

use crate::flight::{Caller, Outcome};
use crate::policy::RefreshPolicy;
use crate::queue::Waiter;

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A subscription: nobody waits twice under this name.
    Ticket,
    /// Another one, with a timeout of its own.
    Hasty,
    /// One who awaits the answer; there may be many.
    Asker,
    /// The place of all who wait on handles. One is open at a time.
    Round,
    /// One who wants a new token.
    Forcer,
    /// One who has reported a token, and wants another one.
    Reporter,
}

/// A place in the machine's line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) name: Name,
    /// Given out once, so that the books know each place.
    pub(super) number: u64,
    pub(super) gone: bool,
    /// The machine has said that its outcome is known.
    pub(super) decided: bool,
}

impl Waiter for Seat {
    fn key_hash(&self) -> Option<u64> {
        self.name.is_keyed().then_some(0) // one hash for both: a collision
    }
    fn same_key(&self, other: &Self) -> bool {
        self.name.is_keyed() && self.name == other.name
    }
    fn is_gone(&self) -> bool {
        self.gone
    }
    fn is_one(&self) -> bool {
        self.name != Name::Round
    }
}

impl Caller for Seat {
    fn decide(&mut self, _: &Outcome) {
        self.decided = true;
    }
}

impl Name {
    pub(super) fn is_keyed(self) -> bool {
        matches!(self, Self::Ticket | Self::Hasty)
    }
}

/// What the source answers. That it hangs is the absence of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A token that nobody has seen.
    Fresh,
    /// The secret that is in use, with a new life.
    Current,
    /// The token that is in use, as the actor has stamped it: its life goes on.
    Stamped,
    /// The secret that was reported last and is not in use, with a new life.
    Reported,
    /// The secret that was discarded last, with a new life.
    Discarded,
    /// A token without life.
    Dead,
    /// A token that no header can carry.
    Faceless,
    Transient,
    /// Transient, with `Retry-After`.
    Wait,
    /// The credential may have been spent.
    Ambiguous,
    Terminal,
    Panic,
}

/// Which token a report names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Current,
    /// The one before the current one.
    Old,
    /// The one that was reported last, and is not in use.
    Again,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Want(Name),
    Leave(Name),
    Refresh,
    Replace(Which),
    /// The same, by several APIs that had accepted the token.
    Confirm(Which),
    /// The same, by an API that asks for another kind of token.
    Demand(Which),
    Invalidate(Which),
    Discard(Which),
    /// A reader reports that the end is near, or past.
    NearEnd,
    /// One of a crowd is told.
    Tell,
    Answer(Reply),
    /// Another process has fetched a token, and the actor looks.
    Offer,
    /// A call that was given up answers all the same.
    Late,
    /// The alarm rings: early, in time, or late.
    Tick,
    /// A unit of time passes, and no alarm rings.
    Second,
    /// So much time passes that everything is past.
    Ages,
    WallForward,
    WallBack,
    Stop,
    Restart,
}

/// A policy, and which actions are tried under it. The numbers stand here a second time, so that the laws do
/// not ask the policy that they check.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) name: &'static str,
    /// The step in which time goes by. All other times are multiples of it.
    pub(super) unit: Duration,
    pub(super) attempts: u32,
    pub(super) cooldown: Duration,
    pub(super) terminal: Duration,
    pub(super) grace: Duration,
    pub(super) limit: usize,
    pub(super) background: bool,
    /// Flights for reports: so many at once, then one an interval. Without one there is no limit.
    pub(super) budget: Option<(u32, Duration)>,
    /// Whether other events come in between while a crowd is told. Else everybody is told at once.
    pub(super) one_by_one: bool,
    /// So many secrets are reported at a time. A bound of the model, not of the machine.
    pub(super) secrets: usize,
    /// So many secrets are discarded in a history. Another bound of the model: they are remembered for ever.
    pub(super) discards: usize,
    pub(super) actions: Vec<Action>,
}

impl Rules {
    /// A report withholds the token for so long, at most.
    pub(super) const WITHHELD: Duration = Duration::from_secs(1);
    /// A refresh of its own comes so long after the last flight's end, at the earliest.
    pub(super) const LEAST_INTERVAL: Duration = Duration::from_millis(500);
    /// So long after its publication a token may be unknown to an API.
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

    /// Longer than anything that the machine keeps track of.
    pub(super) fn ages(&self) -> Duration {
        self.unit * 12
    }

    /// What the source asks for with `Retry-After`.
    pub(super) fn requested(&self) -> Duration {
        self.unit
    }

    pub(super) fn flight(&self) -> Duration {
        self.unit * 3
    }

    pub(super) fn patience(&self) -> Duration {
        self.unit * 2
    }

    /// The patience of [`Name::Hasty`].
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

    /// The cooldown, doubled for each time after the first.
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
