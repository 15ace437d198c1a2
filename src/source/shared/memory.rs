//! What this process has seen: the newest token, and the store's clock. Nothing older is taken from the store.

use std::time::Duration;

use crate::token::Token;

#[derive(Default)]
pub(super) struct Memory {
    /// The token handed out last.
    pub(super) held: Option<Seen>,
    /// The newest token ever seen.
    pub(super) newest: Newest,
    /// How long this flight has waited for others so far.
    pub(super) waited: Duration,
    /// The id of the value that did not open, once that has been reported.
    pub(super) unopened: Option<String>,
    /// What is wrong in the store has been reported, and the store has not been found sound since.
    pub(super) fault_reported: bool,
    clock: Option<StoreClock>,
}

/// A token that was handed out.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) token: Token,
    /// Its id in the store. `None`: it is not from there.
    pub(super) id: Option<String>,
    pub(super) age: Newest,
}

/// How new a token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Newest {
    /// Of the lease that it was fetched under. One that was fetched without the store has that of the last one seen.
    pub(super) fence: u64,
    /// When it was asked for, by the store's clock.
    pub(super) fetched: Duration,
}

impl Newest {
    pub(super) fn is_older_than(self, other: Self) -> bool {
        /// A token fetched without the store has a time that is reckoned, and not read from the store's clock.
        const SLACK: Duration = Duration::from_secs(1);
        self.fence < other.fence || self.fetched.saturating_add(SLACK) < other.fetched
    }

    pub(super) fn is_newer_than(self, other: Self) -> bool {
        self.fence > other.fence && !self.is_older_than(other)
    }
}

/// The store's clock, as it was read last.
#[derive(Clone, Copy)]
struct StoreClock {
    said: Duration,
    /// By this process's boot clock.
    at: Duration,
}

impl Memory {
    pub(super) fn hold(&mut self, token: &Token, id: Option<String>, age: Newest) {
        self.newest.fence = self.newest.fence.max(age.fence);
        self.newest.fetched = self.newest.fetched.max(age.fetched);
        // The store has what this process has: whatever was wrong there has been mended.
        self.fault_reported &= id.is_none();
        self.held = Some(Seen { token: token.clone(), id, age });
    }

    /// The token of these that is held.
    pub(super) fn held_as(&self, token: &Token) -> Option<&Seen> {
        self.held.as_ref().filter(|seen| seen.token.is_same(token))
    }

    pub(super) fn set_clock(&mut self, said: Duration, at: Duration) {
        self.clock = Some(StoreClock { said, at });
    }

    /// What the store's clock says at `boot`, as far as this process knows.
    pub(super) fn clock_at(&self, boot: Duration) -> Option<Duration> {
        self.clock.map(|clock| clock.said.saturating_add(boot.saturating_sub(clock.at)))
    }
}
