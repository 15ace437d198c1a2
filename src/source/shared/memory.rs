//! The memory of this process: the newest token, and the store's clock. An older token in the store is not
//! accepted.

use std::time::Duration;

use crate::store::is_ahead;
use crate::token::Token;

#[derive(Default)]
pub(super) struct Memory {
    /// The token that was given out last.
    pub(super) held: Option<Seen>,
    /// The newest token that was ever seen.
    pub(super) newest: Newest,
    /// How long this flight has waited for others so far.
    pub(super) waited: Duration,
    /// The id of the value that could not be opened, after this has been logged.
    pub(super) unopened: Option<String>,
    /// A fault in the store has been logged, and since then the store has not been found correct.
    pub(super) fault_reported: bool,
    clock: Option<StoreClock>,
}

/// A token that was given out.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) token: Token,
    /// Its id in the store. `None`: it does not come from the store.
    pub(super) id: Option<String>,
    pub(super) age: Newest,
}

/// The age of a token, for comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Newest {
    /// The fence of the lease under which it was fetched. A token that was fetched without the store has the fence
    /// of the last token seen.
    pub(super) fence: u64,
    /// When it was requested, by the store's clock.
    pub(super) fetched: Duration,
    /// It was fetched without the store. Then it is newer than each token in the store with this fence.
    pub(super) own: bool,
}

/// The time of a token that was fetched without the store is calculated, and not read from the store's clock.
const SLACK: Duration = Duration::from_secs(1);

impl Newest {
    pub(super) fn is_older_than(self, other: Self) -> bool {
        let is_before_own = self.fence == other.fence && other.own && !self.own;
        self.fence < other.fence || is_before_own || self.fetched.saturating_add(SLACK) < other.fetched
    }

    pub(super) fn is_newer_than(self, other: Self) -> bool {
        self.fence > other.fence && !self.is_older_than(other)
    }
}

/// The store's clock at the last read.
#[derive(Clone, Copy)]
struct StoreClock {
    said: Duration,
    /// By this process's boot clock.
    at: Duration,
}

impl Memory {
    pub(super) fn hold(&mut self, token: &Token, id: Option<String>, age: Newest) {
        if age.fence >= self.newest.fence {
            let of_this_fence = age.fence == self.newest.fence && self.newest.own;
            self.newest = Newest { fence: age.fence, own: age.own || of_this_fence, ..self.newest };
        }
        self.newest.fetched = self.newest.fetched.max(age.fetched);
        // The store has the token of this process. Therefore an earlier fault in the store has been corrected.
        self.fault_reported &= id.is_none();
        self.held = Some(Seen { token: token.clone(), id, age });
    }

    /// The held token, if it is this one.
    pub(super) fn held_as(&self, token: &Token) -> Option<&Seen> {
        self.held.as_ref().filter(|seen| seen.token.is_same(token))
    }

    /// Returns whether the newest token is from a later time than the store's clock shows. Then the store's clock was set
    /// back, or the time was calculated from a wrong clock of this process. In both cases the time says nothing about
    /// later tokens, and is forgotten. The fence stays, and prevents that an older token comes back: later leases have
    /// greater fences, and a token that was fetched without the store is newer than all tokens of its fence. Only after a large jump are the later fences smaller. Then the fence is forgotten too.
    pub(super) fn set_clock(&mut self, said: Duration, at: Duration) -> bool {
        self.clock = Some(StoreClock { said, at });
        let was_set_back = is_ahead(self.newest.fence, said);
        let is_too_late = self.newest.fetched > said.saturating_add(SLACK);
        let ages = std::iter::once(&mut self.newest).chain(self.held.as_mut().map(|held| &mut held.age));
        for age in ages {
            if was_set_back {
                (age.fence, age.own) = (0, false);
            }
            if was_set_back || is_too_late {
                age.fetched = Duration::ZERO;
            }
        }
        was_set_back || is_too_late
    }

    /// The time of the store's clock at `boot`, as far as this process knows.
    pub(super) fn clock_at(&self, boot: Duration) -> Option<Duration> {
        self.clock.map(|clock| clock.said.saturating_add(boot.saturating_sub(clock.at)))
    }
}
