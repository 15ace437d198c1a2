//! The waiting keys: two lines, each oldest first, in which groups are served in turn.
//!
//! A group has a *turn* in a line exactly while one of its keys waits there and the group is below its limit.
//! Therefore the first turn can always be served, and a group at its limit costs no time. A group that is served
//! goes to the end of the turns. Therefore, between two of its calls, every other group with a turn has one call.

use std::collections::{BTreeMap, BTreeSet};

/// The line of a key. Keys with waiters come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Rank {
    Urgent,
    Ahead,
}

pub(super) const RANKS: [Rank; 2] = [Rank::Urgent, Rank::Ahead];

#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The maximum number of calls at once of a group now.
    per_group: usize,
    /// The maximum number of calls at once of a group. [`limit_groups`](Self::limit_groups) cannot raise it later.
    most: usize,
    /// The number of calls that could be under way if each group had this maximum.
    pub(super) useful: usize,
    /// The groups with waiting keys or calls under way.
    pub(super) groups: BTreeMap<u64, Group>,
    /// Rank, group, number.
    pub(super) places: BTreeSet<(Rank, u64, u64)>,
    /// The next group: an ascending stamp, and the group.
    pub(super) turns: BTreeMap<(Rank, u64), u64>,
    next_turn: u64,
    /// How many keys wait, by rank.
    pub(super) waiting: [usize; 2],
    /// How many groups wait, by rank.
    crowds: [usize; 2],
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    pub(super) running: usize,
    waiting: [usize; 2],
    turns: [Option<u64>; 2],
    /// The group's part of the useful calls.
    useful: usize,
}

impl Group {
    fn is_idle(&self) -> bool {
        self.running == 0 && self.waiting == [0, 0]
    }
}

impl Line {
    pub(super) fn new(per_group: usize) -> Self {
        Self {
            per_group: per_group.max(1),
            most: per_group.max(1),
            useful: 0,
            groups: BTreeMap::new(),
            places: BTreeSet::new(),
            turns: BTreeMap::new(),
            next_turn: 0,
            waiting: [0, 0],
            crowds: [0, 0],
        }
    }

    /// Sets the maximum number of calls at once of a group. It is at least one.
    ///
    /// Therefore nothing changes for a group without a call.
    pub(super) fn limit_groups(&mut self, per_group: usize) {
        let per_group = per_group.max(1);
        if std::mem::replace(&mut self.per_group, per_group) == per_group {
            return;
        }
        let busy = self.groups.iter().filter(|(_, group)| group.running > 0);
        for group in busy.map(|(group, _)| *group).collect::<Vec<_>>() {
            self.settle(group);
        }
    }

    /// Sets the number of calls at once that a group never exceeds; at least one. Must be called before a key
    /// joins.
    #[cfg(feature = "shared")]
    pub(super) fn expect_for_groups(&mut self, most: usize) {
        self.most = most.max(1);
    }

    pub(super) fn join(&mut self, rank: Rank, group: u64, number: u64) {
        if self.places.insert((rank, group, number)) {
            let waiting = &mut self.groups.entry(group).or_default().waiting[rank as usize];
            *waiting += 1;
            self.waiting[rank as usize] += 1;
            self.crowds[rank as usize] += usize::from(*waiting == 1);
            self.settle(group);
        }
    }

    pub(super) fn leave(&mut self, rank: Rank, group: u64, number: u64) {
        if self.places.remove(&(rank, group, number))
            && let Some(entry) = self.groups.get_mut(&group)
        {
            let waiting = &mut entry.waiting[rank as usize];
            *waiting -= 1;
            self.waiting[rank as usize] -= 1;
            self.crowds[rank as usize] -= usize::from(*waiting == 0);
            self.settle(group);
        }
    }

    /// The next key, if there is a free slot.
    pub(super) fn first(&self) -> Option<u64> {
        let ((rank, _), group) = self.turns.first_key_value()?;
        let (.., number) = self.places.range((*rank, *group, 0)..).next()?;
        Some(*number)
    }

    pub(super) fn has_room(&self, group: u64) -> bool {
        self.groups.get(&group).is_none_or(|group| group.running < self.per_group)
    }

    /// A call of this group begins.
    pub(super) fn begin(&mut self, group: u64, rank: Rank) {
        let entry = self.groups.entry(group).or_default();
        entry.running += 1;
        // The group has had its turn.
        if let Some(turn) = entry.turns[rank as usize].take() {
            self.turns.remove(&(rank, turn));
        }
        self.settle(group);
    }

    /// A call of this group has ended.
    pub(super) fn end(&mut self, group: u64) {
        if let Some(entry) = self.groups.get_mut(&group) {
            entry.running = entry.running.saturating_sub(1);
            self.settle(group);
        }
    }

    /// How many urgent calls begin before a call of this group that joins now, with this number or with a new one,
    /// and how many of them are its own group's.
    ///
    /// Groups are served in turn. Therefore no other group has more calls before it than its own group plus one.
    pub(super) fn before(&self, group: u64, number: Option<u64>) -> (usize, usize) {
        let urgent = Rank::Urgent as usize;
        let of_group = self.groups.get(&group).map_or(0, |group| group.waiting[urgent]);
        let others = self.crowds[urgent] - usize::from(of_group > 0);
        let own = match number {
            Some(number) if of_group > 0 => {
                self.places.range((Rank::Urgent, group, 0)..(Rank::Urgent, group, number)).count()
            }
            _ => of_group,
        };
        let all = self.waiting[urgent].min(own + others.saturating_mul(own + 1));
        (all, own)
    }

    /// Updates the turns of the group, counts the group, and forgets it when it is idle.
    fn settle(&mut self, group: u64) {
        let Some(entry) = self.groups.get_mut(&group) else { return };
        for rank in RANKS {
            let may = entry.waiting[rank as usize] > 0 && entry.running < self.per_group;
            let turn = &mut entry.turns[rank as usize];
            if may && turn.is_none() {
                self.turns.insert((rank, self.next_turn), group);
                *turn = Some(self.next_turn);
                self.next_turn += 1;
            } else if !may && let Some(turn) = turn.take() {
                self.turns.remove(&(rank, turn));
            }
        }
        let could_begin = entry.waiting.iter().sum::<usize>().min(self.most.saturating_sub(entry.running));
        self.useful -= std::mem::replace(&mut entry.useful, entry.running + could_begin);
        self.useful += entry.useful;
        if entry.is_idle() {
            self.groups.remove(&group);
        }
    }
}
