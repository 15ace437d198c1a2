//! What can happen in the model, and under which policy.

use std::time::Duration;

use crate::flight::Waiter;
use crate::policy::RefreshPolicy;

pub(super) const SECOND: Duration = Duration::from_secs(1);
/// How long a new token lasts.
pub(super) const LIFETIME: Duration = Duration::from_secs(4);
/// Longer than anything that the machine keeps track of.
pub(super) const AGES: Duration = Duration::from_secs(12);
/// What the source asks for with `Retry-After`.
pub(super) const WISH: Duration = Duration::from_secs(1);
/// The patience of [`Name::Hasty`].
pub(super) const HASTE: Duration = Duration::from_secs(1);

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A subscription: nobody waits twice under this name.
    Ticket,
    /// Another one, with a timeout of its own.
    Hasty,
    /// One who awaits the answer; there may be many.
    Asker,
    /// The place of all who wait on handles; one is open at a time.
    Round,
    /// One who wants a new token.
    Forcer,
}

/// A place in the machine's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) name: Name,
    pub(super) gone: bool,
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
    /// The token that is in use, once more.
    Current,
    /// The token that the API rejected last.
    Rejected,
    /// A token without life.
    Dead,
    /// A token that no header can carry.
    Faceless,
    Transient,
    /// Transient, with `Retry-After`.
    Wait,
    Terminal,
    Panic,
}

/// Which token the API is said to have rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Current,
    /// The one before the current one.
    Old,
    /// The one that was rejected last.
    Again,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Want(Name),
    Leave(Name),
    Refresh,
    /// A reader reports that the end is near.
    NearEnd,
    Answer(Reply),
    /// A call that was given up answers all the same.
    Late,
    Invalidate(Which),
    /// The alarm rings: early, in time, or late.
    Tick,
    /// A second passes, and no alarm rings.
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
    pub(super) attempts: u32,
    pub(super) cooldown: Duration,
    pub(super) terminal: Duration,
    pub(super) grace: Duration,
    pub(super) limit: usize,
    pub(super) background: bool,
    pub(super) actions: Vec<Action>,
}

impl Rules {
    pub(super) const FLIGHT: Duration = Duration::from_secs(3);
    pub(super) const ATTEMPT: Duration = Duration::from_secs(2);
    pub(super) const PATIENCE: Duration = Duration::from_secs(2);
    pub(super) const MIN_VALIDITY: Duration = SECOND;

    pub(super) fn policy(&self) -> RefreshPolicy {
        RefreshPolicy::default()
            .jitter(0.0)
            .backoff(Duration::ZERO)
            .refresh_ahead(SECOND * 2)
            .min_validity(Self::MIN_VALIDITY)
            .attempts(self.attempts)
            .attempt_timeout(Self::ATTEMPT)
            .flight_timeout(Self::FLIGHT)
            .wait_timeout(Self::PATIENCE)
            .max_waiters(self.limit)
            .cooldown(self.cooldown)
            .max_cooldown(self.max_cooldown())
            .terminal_cooldown(self.terminal)
            .stale_if_error(self.grace)
            .background(self.background)
    }

    pub(super) fn max_cooldown(&self) -> Duration {
        self.cooldown * 2
    }

    /// The cooldown, doubled for each time after the first.
    pub(super) fn doubled(&self, times: u32) -> Duration {
        if times > 1 { self.max_cooldown() } else { self.cooldown }
    }
}

/// Who comes alone.
const ONE: &[Action] = &[Action::Want(Name::Asker), Action::Refresh, Action::NearEnd];

/// Everything that the source, the API and time can do.
const WORLD: &[Action] = &[
    Action::Answer(Reply::Fresh),
    Action::Answer(Reply::Current),
    Action::Answer(Reply::Rejected),
    Action::Answer(Reply::Dead),
    Action::Answer(Reply::Faceless),
    Action::Answer(Reply::Transient),
    Action::Answer(Reply::Wait),
    Action::Answer(Reply::Terminal),
    Action::Answer(Reply::Panic),
    Action::Late,
    Action::Invalidate(Which::Current),
    Action::Invalidate(Which::Old),
    Action::Invalidate(Which::Again),
    Action::Invalidate(Which::Unknown),
    Action::Tick,
    Action::Second,
    Action::Ages,
    Action::Stop,
    Action::Restart,
];

/// Who comes alone, and may go away.
const LEAVERS: &[Action] =
    &[Action::Want(Name::Asker), Action::Leave(Name::Asker), Action::Refresh, Action::Leave(Name::Forcer)];

/// Enough of the world for a crowd: each end of a flight, and time.
const ENDS: &[Action] = &[
    Action::Answer(Reply::Fresh),
    Action::Answer(Reply::Terminal),
    Action::Invalidate(Which::Current),
    Action::Tick,
    Action::Second,
    Action::Stop,
    Action::Restart,
];

/// Two at once, of every kind that can be told apart.
const CROWD: &[Action] = &[
    Action::Want(Name::Ticket),
    Action::Want(Name::Hasty),
    Action::Want(Name::Round),
    Action::Leave(Name::Ticket),
    Action::Refresh,
    Action::Answer(Reply::Fresh),
    Action::Answer(Reply::Terminal),
    Action::Tick,
    Action::Second,
    Action::Stop,
];

const CLOCKS: &[Action] = &[Action::WallForward, Action::WallBack];

fn lazy() -> Rules {
    Rules {
        name: "lazy",
        attempts: 1,
        cooldown: SECOND,
        terminal: SECOND * 2,
        grace: Duration::ZERO,
        limit: 1,
        background: false,
        actions: [ONE, WORLD].concat(),
    }
}

/// The policies under which every state is visited.
pub(super) fn all() -> Vec<Rules> {
    vec![
        lazy(),
        Rules { name: "two attempts", attempts: 2, ..lazy() },
        Rules { name: "stale", grace: SECOND, ..lazy() },
        Rules { name: "background", background: true, ..lazy() },
        Rules { name: "no cooldown", cooldown: Duration::ZERO, terminal: Duration::ZERO, ..lazy() },
        Rules { name: "wall clock", actions: [ONE, ENDS, CLOCKS].concat(), ..lazy() },
        Rules {
            name: "stale clock",
            grace: SECOND,
            actions: [&ONE[..1], &ENDS[..5], CLOCKS].concat(),
            ..lazy()
        },
        Rules { name: "leavers", actions: [LEAVERS, ENDS].concat(), ..lazy() },
        Rules { name: "crowd", limit: 2, actions: CROWD.to_vec(), ..lazy() },
    ]
}

/// Wider ones, for a patient reader.
pub(super) fn wide() -> Vec<Rules> {
    vec![Rules { name: "all clocks", actions: [ONE, WORLD, CLOCKS].concat(), ..lazy() }]
}
