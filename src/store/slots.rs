//! Slots that all processes share: a limit of calls at once, for the whole fleet.

use std::collections::HashMap;
use std::time::Duration;

/// A request of a process for slots.
#[derive(Clone, Debug)]
pub struct SlotAsk {
    /// The name of the process: random, and the same in all its requests.
    pub owner: String,
    /// How many slots it could use now. Zero: it needs none, and is forgotten.
    pub wanted: usize,
    /// The maximum that it takes: fewer than it could use, if it gives some back.
    pub most: usize,
    /// How many slots exist, for all processes.
    pub slots: usize,
    /// How long it holds the slots without another request. After this time the slots of a dead process are free.
    pub time: Duration,
}

/// The answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotAnswer {
    /// How many slots the process has, for [`SlotAsk::time`] from its request.
    pub held: usize,
    /// How many slots no process holds after this request.
    pub free: usize,
    /// How many slots each process would hold if all processes that want some had the same number. Zero: there are
    /// more such processes than slots.
    pub share: usize,
    /// How many processes want some, including this one.
    pub owners: usize,
    /// Whether another process holds less than its share, and less than it could use.
    pub others_want: bool,
}

/// The store's record of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfOwner {
    held: usize,
    wanted: usize,
    pub(super) until: Duration,
}

/// The rule, as in `slots.lua`: slots of other processes stay theirs. Processes whose lease has ended are not in `of` any more.
/// Returns the answer, and whether other processes must look.
pub(super) fn ask(of: &mut HashMap<String, OfOwner>, ask: &SlotAsk, now: Duration) -> (SlotAnswer, bool) {
    let before = of.remove(&ask.owner).map_or(0, |owner| owner.held);
    let others: usize = of.values().map(|owner| owner.held).sum();
    let owners = of.len() + usize::from(ask.wanted > 0);
    let share = ask.slots / owners.max(1);
    let is_short = |owner: &OfOwner| owner.held < owner.wanted && owner.held < share.max(1);
    let others_want = of.values().any(is_short);
    let left = ask.slots.saturating_sub(others);
    let held = ask.wanted.min(ask.most).min(left);
    if ask.wanted > 0 {
        let until = now.saturating_add(ask.time);
        of.insert(ask.owner.clone(), OfOwner { held, wanted: ask.wanted, until });
    }
    let answer = SlotAnswer { held, free: left - held, share, owners, others_want };
    (answer, held < before && others_want)
}
