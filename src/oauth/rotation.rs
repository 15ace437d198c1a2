//! The order of the steps when a one-time refresh token is used (RFC 9700 section 4.14): pure, without I/O.
//!
//! First the connection is opened. Then *spending* is written. Then the token is sent. Then the new token is
//! written. Then it is published.
//! Therefore a process that finds *idle* in the vault knows that the token in it was not sent. A process that finds
//! *spending* knows that the token may have been sent.
//!
//! A process holds the vault's lock during all these steps, and the lock is released when the process dies.
//! Therefore no other process is working on the record: a *spending* record comes from an exchange that is over.
//! Each write is a compare-and-set. Therefore a new login in between is seen, and never overwritten.
//!
//! The driver (`source/refresh_token.rs`) performs one [`Effect`] and answers with one [`Event`]. Its obligations
//! to the machine:
//!
//! - It holds the lock from before [`Rotation::begin`] until after [`Effect::Done`].
//! - A [`Event::Written`] means that the write is durable, and that no other process has written between the load
//!   and the write.
//! - [`Effect::Send`] is one request, on the connection that [`Effect::Connect`] has opened, never repeated below.
//!   It is sent at once after [`Event::Written`].
//! - If it does not know the result of a request, it reports [`Answer::Ambiguous`], never [`Answer::Unspent`].
//! - After [`Outcome::Unsaved`] it begins no fetch before the new token is written.

use std::time::{Duration, SystemTime};

use crate::clock::Timestamp;

#[cfg(test)]
mod model;
mod words;

pub use words::AfterCrash;
pub(crate) use words::{Answer, Change, Effect, Event, Failure, Key, Outcome, Rules, Stored, View};

/// A grace period that is nearly over counts as over: the clocks of two machines differ, and the request takes
/// time.
const GRACE_MARGIN: Duration = Duration::from_secs(5);
/// If a write of *spending* takes longer, no request follows, because the server's grace period is counted from the
/// write.
const LONGEST_WRITE: Duration = Duration::from_secs(5);
/// A request arrives within this time, or never: the request of a dead process must not arrive after the next one.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// How often the write after a request is tried before the fetch goes on without it.
const WRITES: u32 = 3;
/// How often one refresh token is sent, with or without a grace period.
const MOST_TRIES: u32 = 2;

/// The memory of a process from one fetch to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Memory {
    /// The number of this process. No other process has it, nor an earlier life of this one.
    me: u64,
    /// The refresh token for which this process has written *spending*, and which it has provably not sent.
    unsent: Option<Key>,
}

impl Memory {
    /// The memory of the process with this number, which has written nothing yet.
    pub(crate) fn new(me: u64) -> Self {
        Self { me, unsent: None }
    }
}

/// One fetch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rotation {
    rules: Rules,
    step: Step,
    memory: Memory,
}

/// A refresh token that is being sent: how often so far, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Spending {
    key: Key,
    tries: u32,
    since: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Loading,
    /// After `invalid_grant`: whether another process has used the token.
    LookingAgain(Key),
    /// Nothing is written yet. The grace period of an earlier try ends at this moment of the boot clock.
    Connecting(Spending, Duration),
    /// In this step and the next: decided at this moment of the boot clock.
    WritingSpending(Spending, Duration),
    Sending(Spending, Duration),
    /// The token was not sent at all, or not for the second time.
    WritingBack {
        change: Change,
        writes: u32,
        /// The reason why it was not sent.
        failure: Failure,
    },
    WritingNext {
        key: Key,
        writes: u32,
    },
    WritingDead,
    Waiting,
    Ended,
}

impl Rotation {
    /// Begins a fetch. `memory` is left from the last fetch of this process.
    pub(crate) fn begin(rules: Rules, memory: Memory) -> (Self, Effect) {
        (Self { rules, step: Step::Loading, memory }, Effect::Load)
    }

    /// The memory for the next fetch of this process.
    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }

    /// The next effect after `event`.
    pub(crate) fn on(&mut self, event: Event, now: Timestamp) -> Effect {
        match (self.step, event) {
            // The answer's tokens are newer than any record of the token that was used for them.
            (Step::WritingNext { key, writes }, Event::Moved(Some(view))) if view.key == key => {
                self.write_next(key, writes + 1)
            }
            // The vault has failed, or has lost its record. Then no other process has a newer record.
            (Step::WritingNext { key, writes }, Event::NotWritten | Event::Moved(None)) => {
                self.write_next(key, writes + 1)
            }
            (Step::Loading, Event::Loaded(view))
            | (
                Step::WritingSpending(..) | Step::WritingNext { .. } | Step::WritingDead,
                Event::Moved(view),
            ) => self.seen(view, now),
            (Step::LookingAgain(key), Event::Loaded(view)) => match view {
                Some(view) if view.key == key => self.bury(),
                // Another process has used the token and has the next one, or a user has logged in.
                view => self.seen(view, now),
            },
            (Step::Connecting(spending, until), Event::Connected) => self.connected(spending, until, now),
            (Step::Connecting(..), Event::NotConnected) => self.fail(Failure::Unspent),
            // The grace period is counted from a moment that is too far away. Nothing is sent.
            (Step::WritingSpending(spending, decided), Event::Written)
                if now.boot.saturating_sub(decided) >= LONGEST_WRITE =>
            {
                self.take_back(spending, Failure::SlowVault)
            }
            (Step::WritingSpending(spending, decided), Event::Written) => {
                self.memory.unsent = None;
                self.step = Step::Sending(spending, decided);
                Effect::Send
            }
            // The record may have been written, and nothing was sent.
            (Step::WritingSpending(spending, _), Event::NotWritten) => {
                self.take_back(spending, Failure::Vault)
            }
            (Step::Sending(spending, decided), Event::Answered(answer)) => {
                self.answered(answer, spending, now.boot.saturating_sub(decided), now)
            }
            // The record in the vault is another one. This fetch has failed.
            (Step::WritingBack { .. }, Event::Moved(Some(view))) if view.has_news => {
                self.end(Outcome::Adopted)
            }
            (Step::WritingBack { change, writes, failure }, Event::NotWritten) if writes < WRITES => {
                self.write_back(change, writes + 1, failure)
            }
            // Written by this very process, whose write was reported as failed.
            (Step::WritingBack { change, writes, failure }, Event::Moved(Some(view)))
                if writes < WRITES && self.is_by_me(view.state) =>
            {
                self.write_back(change, writes + 1, failure)
            }
            (Step::WritingBack { failure, .. }, Event::Written | Event::NotWritten | Event::Moved(_)) => {
                self.fail(failure)
            }
            (Step::WritingNext { .. }, Event::Written) => self.end(Outcome::Published),
            (Step::WritingDead, Event::Written | Event::NotWritten) => self.fail(Failure::NeedsLogin),
            (Step::Waiting, Event::Waited) => {
                self.step = Step::Loading;
                Effect::Load
            }
            // `NotLoaded`. (The driver reports no other event here.)
            _ => self.fail(Failure::Vault),
        }
    }

    fn seen(&mut self, view: Option<View>, now: Timestamp) -> Effect {
        let Some(View { key, state, has_news }) = view else { return self.fail(Failure::NeedsLogin) };
        if has_news && !self.is_urgent(state, now) {
            return self.end(Outcome::Adopted);
        }
        let first = Spending { key, tries: 1, since: now.wall };
        match state {
            Stored::Dead => self.fail(Failure::NeedsLogin),
            Stored::Idle => self.connect(first, now),
            // This process has written it, and has sent nothing.
            Stored::Spending { tries: 1, by, .. }
                if by == self.memory.me && self.memory.unsent == Some(key) =>
            {
                self.connect(first, now)
            }
            // The token may have been sent, by an exchange that is over.
            Stored::Spending { since, tries, .. } => {
                let may_repeat = self.has_grace(since, now) || self.rules.after_crash == AfterCrash::TryOnce;
                if tries >= MOST_TRIES || !may_repeat {
                    return self.bury();
                }
                let age = now.wall.duration_since(since).unwrap_or(ON_ITS_WAY);
                if age < ON_ITS_WAY {
                    self.step = Step::Waiting;
                    return Effect::Wait(ON_ITS_WAY.saturating_sub(age));
                }
                self.connect(Spending { key, tries: tries + 1, since }, now)
            }
        }
    }

    /// Whether the token may be sent again now, but not after the end of the access token beside it.
    fn is_urgent(&self, state: Stored, now: Timestamp) -> bool {
        matches!(state, Stored::Spending { since, tries, .. } if tries < MOST_TRIES && self.has_grace(since, now))
    }

    /// Whether the server still accepts a token that was first sent at `since`. If the wall clock went back, no
    /// grace period applies.
    fn has_grace(&self, since: SystemTime, now: Timestamp) -> bool {
        let age = now.wall.duration_since(since);
        age.is_ok_and(|age| age.saturating_add(GRACE_MARGIN) < self.rules.grace)
    }

    fn answered(&mut self, answer: Answer, spending: Spending, waited: Duration, now: Timestamp) -> Effect {
        let Spending { key, tries, since } = spending;
        // The wall clock may have been set back meanwhile.
        let first = since.min(now.wall.checked_sub(waited).unwrap_or(since));
        let may_repeat = tries < MOST_TRIES && self.has_grace(first, now);
        match answer {
            Answer::Token => self.write_next(key, 1),
            Answer::Unspent => self.take_back(spending, Failure::Unspent),
            Answer::InvalidGrant => {
                self.step = Step::LookingAgain(key);
                Effect::Load
            }
            Answer::Ambiguous | Answer::BrokenOff if may_repeat => {
                self.connect(Spending { key, tries: tries + 1, since: first }, now)
            }
            Answer::Ambiguous => self.fail(Failure::Ambiguous),
            Answer::BrokenOff | Answer::Unreadable => self.bury(),
        }
    }

    /// The token was not sent this time. An earlier try may have sent it.
    fn take_back(&mut self, Spending { key, tries, since }: Spending, failure: Failure) -> Effect {
        if tries > 1 {
            return self.write_back(Change::NotRepeated { since, tries: tries - 1 }, 1, failure);
        }
        self.memory.unsent = Some(key);
        self.write_back(Change::Idle, 1, failure)
    }

    fn write_back(&mut self, change: Change, writes: u32, failure: Failure) -> Effect {
        self.step = Step::WritingBack { change, writes, failure };
        Effect::Write(change)
    }

    fn connect(&mut self, spending: Spending, now: Timestamp) -> Effect {
        let age = now.wall.duration_since(spending.since).unwrap_or_default();
        let left = self.rules.grace.saturating_sub(age.saturating_add(GRACE_MARGIN));
        self.step = Step::Connecting(spending, now.boot.saturating_add(left));
        Effect::Connect
    }

    /// The connection is open, perhaps after a long time.
    fn connected(&mut self, spending: Spending, until: Duration, now: Timestamp) -> Effect {
        if spending.tries == 1 {
            return self.spend(Spending { since: now.wall, ..spending }, now);
        }
        let has_grace = now.boot < until && self.has_grace(spending.since, now);
        if has_grace || self.rules.after_crash == AfterCrash::TryOnce {
            self.spend(spending, now)
        } else {
            self.fail(Failure::Ambiguous)
        }
    }

    fn spend(&mut self, spending: Spending, now: Timestamp) -> Effect {
        let Spending { key, tries, since } = spending;
        // Nothing is sent before the write. An earlier try may have sent it.
        self.memory.unsent = (tries == 1).then_some(key);
        self.step = Step::WritingSpending(spending, now.boot);
        Effect::Write(Change::Spending { since, tries })
    }

    fn write_next(&mut self, key: Key, writes: u32) -> Effect {
        if writes > WRITES {
            return self.end(Outcome::Unsaved);
        }
        self.step = Step::WritingNext { key, writes };
        Effect::Write(Change::Next)
    }

    fn is_by_me(&self, state: Stored) -> bool {
        matches!(state, Stored::Spending { by, .. } if by == self.memory.me)
    }

    fn bury(&mut self) -> Effect {
        self.step = Step::WritingDead;
        Effect::Write(Change::Dead)
    }

    fn fail(&mut self, failure: Failure) -> Effect {
        self.end(Outcome::Failed(failure))
    }

    fn end(&mut self, outcome: Outcome) -> Effect {
        self.step = Step::Ended;
        Effect::Done(outcome)
    }
}
