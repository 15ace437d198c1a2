//! The policies of the model, each with its set of actions. The sets are so small that the states are finite, and
//! few.

use std::time::Duration;

use super::rules::{Action, Name, Reply, Rules, Which};

/// Callers that come alone.
const ALONE: &[Action] = &[Action::Want(Name::Asker), Action::Refresh, Action::NearEnd];

/// All answers of the source, for any reported secrets.
const SOURCE: &[Action] = &[
    Action::Answer(Reply::Fresh),
    Action::Answer(Reply::Current),
    Action::Answer(Reply::Stamped),
    Action::Answer(Reply::Dead),
    Action::Answer(Reply::Faceless),
    Action::Answer(Reply::Transient),
    Action::Answer(Reply::Wait),
    Action::Answer(Reply::Ambiguous),
    Action::Answer(Reply::Terminal),
    Action::Answer(Reply::Panic),
    Action::Late,
];

const TIME: &[Action] = &[Action::Tick, Action::Second, Action::Ages];

/// The actor's own life.
const LIFE: &[Action] = &[Action::Stop, Action::Restart];

/// Enough answers of the source, actions of APIs and steps of time for each end of a flight.
const ENDS: &[Action] = &[
    Action::Answer(Reply::Fresh),
    Action::Answer(Reply::Terminal),
    Action::Invalidate(Which::Current),
    Action::Tick,
    Action::Second,
];

const REPORT: &[Action] = &[Action::Invalidate(Which::Current)];

/// Reports by callers that wait for another token.
const REPLACE: &[Action] =
    &[Action::Replace(Which::Current), Action::Replace(Which::Old), Action::Replace(Which::Again)];

/// Reports by callers with more information about the rejection.
const KNOWING: &[Action] = &[Action::Confirm(Which::Current), Action::Demand(Which::Current)];

/// Reports of other tokens than the one in use.
const LATE: &[Action] =
    &[Action::Invalidate(Which::Old), Action::Invalidate(Which::Again), Action::Invalidate(Which::Unknown)];

/// The source gives out a secret that was reported.
const AGAIN: &[Action] = &[Action::Answer(Reply::Reported)];

/// Discards of tokens, and the source's answers to them.
const DISCARDS: &[Action] =
    &[Action::Discard(Which::Current), Action::Discard(Which::Old), Action::Answer(Reply::Discarded)];

/// Callers that come alone, and may go away.
const LEAVERS: &[Action] =
    &[Action::Want(Name::Asker), Action::Leave(Name::Asker), Action::Refresh, Action::Leave(Name::Forcer)];

/// Two at once, of every distinguishable kind.
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

/// Callers that are told one after the other, and the events that may come in between.
const TELLING: &[Action] = &[
    Action::Want(Name::Ticket),
    Action::Want(Name::Round),
    Action::Refresh,
    Action::Tell,
    Action::Answer(Reply::Fresh),
    Action::Answer(Reply::Terminal),
    Action::Tick,
];

const CLOCKS: &[Action] = &[Action::WallForward, Action::WallBack];

fn lazy() -> Rules {
    let second = Duration::from_secs(1);
    Rules {
        name: "lazy",
        unit: second,
        attempts: 1,
        cooldown: second,
        terminal: second * 2,
        grace: Duration::ZERO,
        limit: 1,
        background: false,
        budget: None,
        one_by_one: false,
        secrets: 1,
        discards: 2,
        actions: [ALONE, SOURCE, TIME, LIFE, REPORT].concat(),
    }
}

fn without_cooldown() -> Rules {
    Rules { name: "no cooldown", cooldown: Duration::ZERO, terminal: Duration::ZERO, ..lazy() }
}

/// Tokens of minutes, old enough to be past their first minute.
fn by_minutes() -> Rules {
    let minute = Duration::from_secs(60);
    Rules { unit: minute, cooldown: minute, terminal: minute * 2, ..lazy() }
}

/// The policies under which every state is visited, the smaller ones first.
pub(super) fn all() -> Vec<Rules> {
    let second = Duration::from_secs(1);
    let asker = &[Action::Want(Name::Asker)][..];
    let asker_and_forcer = &[Action::Want(Name::Asker), Action::Refresh][..];
    let asker_and_reader = &[Action::Want(Name::Asker), Action::NearEnd][..];
    let hasty = &[Action::Want(Name::Hasty)][..];
    let leaver = &[Action::Leave(Name::Ticket)][..];
    let replace = &REPLACE[..1];
    vec![
        lazy(),
        Rules { name: "leavers", actions: [LEAVERS, ENDS, LIFE].concat(), ..lazy() },
        Rules {
            name: "budget",
            budget: Some((1, second * 3)),
            actions: [ALONE, ENDS, replace].concat(),
            ..lazy()
        },
        Rules {
            name: "larger budget",
            budget: Some((2, second * 3)),
            actions: [asker_and_forcer, ENDS, replace].concat(),
            ..lazy()
        },
        Rules {
            name: "knowing",
            attempts: 2,
            budget: Some((1, second * 3)),
            actions: [asker, ENDS, REPLACE, KNOWING, AGAIN].concat(),
            ..lazy()
        },
        Rules {
            name: "predecessor",
            secrets: 2,
            actions: [asker_and_forcer, ENDS, REPLACE, KNOWING, AGAIN].concat(),
            ..by_minutes()
        },
        Rules { name: "stale", grace: second, actions: [ALONE, SOURCE, TIME, REPORT].concat(), ..lazy() },
        Rules { name: "background", background: true, ..lazy() },
        without_cooldown(),
        Rules { name: "discards", attempts: 2, actions: [ALONE, ENDS, LIFE, DISCARDS].concat(), ..lazy() },
        Rules {
            name: "taking back two",
            limit: 2,
            one_by_one: true,
            actions: [TELLING, DISCARDS, hasty].concat(),
            ..lazy()
        },
        Rules {
            name: "restless",
            background: true,
            actions: [ALONE, ENDS, LIFE, &DISCARDS[..1]].concat(),
            ..without_cooldown()
        },
        Rules {
            name: "offers",
            actions: [ALONE, ENDS, LIFE, REPLACE, &[Action::Offer]].concat(),
            budget: Some((1, second * 3)),
            ..lazy()
        },
        Rules { name: "two attempts", attempts: 2, ..lazy() },
        Rules { name: "crowd", limit: 2, actions: CROWD.to_vec(), ..lazy() },
        Rules {
            name: "telling",
            limit: 2,
            one_by_one: true,
            actions: [TELLING, hasty, leaver, replace, LIFE].concat(),
            ..without_cooldown()
        },
        Rules {
            name: "taking back",
            one_by_one: true,
            discards: 1,
            actions: [TELLING, DISCARDS, &[Action::Second]].concat(),
            ..lazy()
        },
        Rules { name: "stale clock", grace: second, actions: [asker, ENDS, CLOCKS].concat(), ..lazy() },
        Rules {
            name: "background clock",
            background: true,
            actions: [asker_and_reader, ENDS, CLOCKS].concat(),
            ..lazy()
        },
        Rules {
            name: "reports",
            attempts: 2,
            secrets: 2,
            actions: [ALONE, ENDS, LIFE, REPLACE, LATE, AGAIN].concat(),
            ..lazy()
        },
        Rules { name: "wall clock", actions: [ALONE, ENDS, LIFE, CLOCKS].concat(), ..lazy() },
    ]
}

/// Wider policies, which take long.
pub(super) fn wide() -> Vec<Rules> {
    vec![Rules {
        name: "all clocks",
        actions: [ALONE, SOURCE, TIME, LIFE, REPORT, CLOCKS].concat(),
        ..lazy()
    }]
}
