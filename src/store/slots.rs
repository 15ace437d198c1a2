//! Slots that all processes share: so many calls at once, for the whole fleet.

use std::collections::HashMap;
use std::time::Duration;

/// What a process asks of the slots.
#[derive(Clone, Debug)]
pub struct SlotAsk {
    /// Names the process: random, and the same in all its asks.
    pub owner: String,
    /// How many slots it could use now. Zero: it has no use for any, and is forgotten.
    pub wanted: usize,
    /// How many it takes at most: fewer than it could use, if it gives some back.
    pub most: usize,
    /// How many slots there are, for all processes.
    pub slots: usize,
    /// How long it holds them without asking again. What a process that has died holds is free after that.
    pub time: Duration,
}

/// What it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotAnswer {
    /// So many are the asker's, for [`SlotAsk::time`] from when it asked.
    pub held: usize,
    /// How many each process would hold if all of those who want some held as many. Zero: there are more of them than slots.
    pub share: usize,
    /// How many processes want some, with the asker.
    pub owners: usize,
    /// Whether another process holds less than its share, and less than it could use.
    pub others_want: bool,
}

/// What the store keeps of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfOwner {
    held: usize,
    wanted: usize,
    pub(super) until: Duration,
}

/// The rule, as `slots.lua` has it: what the others hold is theirs. Returns the answer, and whether somebody has to look.
pub(super) fn ask(of: &mut HashMap<String, OfOwner>, ask: &SlotAsk, now: Duration) -> (SlotAnswer, bool) {
    of.retain(|_, owner| owner.until > now);
    let before = of.remove(&ask.owner).map_or(0, |owner| owner.held);
    let others: usize = of.values().map(|owner| owner.held).sum();
    let owners = of.len() + usize::from(ask.wanted > 0);
    let share = ask.slots / owners.max(1);
    let is_short = |owner: &OfOwner| owner.held < owner.wanted && owner.held < share.max(1);
    let others_want = of.values().any(is_short);
    let held = ask.wanted.min(ask.most).min(ask.slots.saturating_sub(others));
    if ask.wanted > 0 {
        let until = now.saturating_add(ask.time);
        of.insert(ask.owner.clone(), OfOwner { held, wanted: ask.wanted, until });
    }
    let answer = SlotAnswer { held, share, owners, others_want };
    (answer, held < before && others_want)
}
