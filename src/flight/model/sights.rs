//! The events that the model has seen. A law about an event that never happens is satisfied trivially.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! sights {
    ($($name:ident,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Sight { $($name,)* }

        impl Sight {
            pub(super) const ALL: &[Sight] = &[$(Sight::$name,)*];
        }
    };
}

sights! {
    Landed, Failed, Retried, Aborted, Late, Ahead, Forced, OwnRefresh,
    Served, Refused, Stale, Overloaded, Duplicate, DuplicateWhileTold, Crowd, ToldLater, TakenBack, Retold,
    LateReport, Joined, Started, OnTheHouse, Demanded, AskedForMore, Spare, CoolingDown, Settling, OverBudget, ForcedWhileSettling,
    Withheld, ReleasedByAnswer, ReleasedByTime, NotWithheldAgain,
    SameToken, Predecessor, PredecessorAtOnce, RejectedFromBirth, OutcomeInsteadOfPredecessor,
    AskedAgain, LastWord, OneAttempt, NoAttemptLeft, TakenAsItIs,
    Discarded, DiscardedAgain, NamedDiscarded, LifeGoesOn, Offered,
}

/// How often each event was seen.
#[derive(Debug)]
pub(super) struct Sights([AtomicU64; Sight::ALL.len()]);

impl Default for Sights {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Sight::ALL.len()])
    }
}

impl Sights {
    pub(super) fn add(&self, seen: &[Sight]) {
        for sight in seen {
            self.0[*sight as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count(&self, sight: Sight) -> u64 {
        self.0[sight as usize].load(Ordering::Relaxed)
    }
}
