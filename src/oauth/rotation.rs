//! The order in which a refresh token that may be used once is spent (RFC 9700 section 4.14): pure, without I/O.
//!
//! First *spending* is written. Then the token is sent. Then the new one is written. Then it is published. Therefore
//! whoever finds *idle* in the vault knows that the token in it was not sent, and whoever finds *spending* knows that it may
//! have been.
//!
//! A process holds the vault's lock for the whole of it, and a process that dies gives the lock back. Therefore nobody else
//! is at it: who finds *spending* finds what an exchange has left behind that is over. Each write is a compare-and-set, so
//! that a new login in the middle is seen, and never overwritten.
//!
//! The driver (`source/refresh_token.rs`) performs one [`Effect`] and answers with one [`Event`]. It owes the machine:
//!
//! - It holds the lock from before [`Rotation::begin`] until after [`Effect::Done`].
//! - A [`Event::Written`] is durable, and nobody has written between the load and the write.
//! - After [`Event::Written`] it sends at once. [`Effect::Send`] is one request, on a new connection, never repeated below.
//! - What it does not know of a request is [`Answer::Ambiguous`], never [`Answer::Unspent`].
//! - After [`Outcome::Unsaved`] it begins no fetch before the new token is written.

use std::time::{Duration, SystemTime};

use crate::clock::Timestamp;

#[cfg(test)]
mod model;
mod words;

pub use words::AfterCrash;
pub(crate) use words::{Answer, Change, Effect, Event, Failure, Key, Outcome, Rules, Stored, View};

/// A grace that is nearly over is over: the clocks of two machines differ, and the request takes its time.
const GRACE_MARGIN: Duration = Duration::from_secs(5);
/// A write of *spending* that takes so long is not followed by a request: the server's grace is counted from it.
const LONGEST_WRITE: Duration = Duration::from_secs(5);
/// A request arrives within this time, or never: that of a process that has died must not come behind the next one.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// How often what follows a request is written before the fetch goes on without.
const WRITES: u32 = 3;
/// How often one refresh token is sent, grace or not.
const MOST_TRIES: u32 = 2;

/// What a process remembers from one fetch to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Memory {
    /// The number of this process, which no other process has, nor an earlier life of this one.
    me: u64,
    /// The refresh token that this process has written *spending* for, and has provably not sent.
    unsent: Option<Key>,
}

impl Memory {
    /// Of the process of this number, which has written nothing yet.
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

/// A refresh token that is being sent: how often by now, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Spending {
    key: Key,
    tries: u32,
    since: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Loading,
    /// After `invalid_grant`: has somebody else spent it?
    LookingAgain(Key),
    /// This and the next: decided at this moment of the boot clock.
    WritingSpending(Spending, Duration),
    Sending(Spending, Duration),
    /// It was not sent after all, or not for the second time.
    WritingBack {
        change: Change,
        writes: u32,
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
    /// Begins a fetch. `memory` is what the last fetch of this process has left behind.
    pub(crate) fn begin(rules: Rules, memory: Memory) -> (Self, Effect) {
        (Self { rules, step: Step::Loading, memory }, Effect::Load)
    }

    /// What the next fetch of this process has to know.
    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }

    /// What is to be done after `event`.
    pub(crate) fn on(&mut self, event: Event, now: Timestamp) -> Effect {
        match (self.step, event) {
            // The answer's tokens are newer than whatever others make of the token that brought them.
            (Step::WritingNext { key, writes }, Event::Moved(Some(view))) if view.key == key => {
                self.write_next(key, writes + 1)
            }
            // The vault has failed, or has lost what was there: nobody else has anything newer.
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
                // Another process has spent it, and has the next one; or somebody has logged in.
                view => self.seen(view, now),
            },
            // The grace is counted from a moment that is too far away. Nothing is sent.
            (Step::WritingSpending(spending, decided), Event::Written)
                if now.boot.saturating_sub(decided) >= LONGEST_WRITE =>
            {
                self.take_back(spending)
            }
            (Step::WritingSpending(spending, decided), Event::Written) => {
                self.memory.unsent = None;
                self.step = Step::Sending(spending, decided);
                Effect::Send
            }
            // It may have been written, and nothing was sent.
            (Step::WritingSpending(spending, _), Event::NotWritten) => self.take_back(spending),
            (Step::Sending(spending, decided), Event::Answered(answer)) => {
                self.answered(answer, spending, now.boot.saturating_sub(decided), now)
            }
            // What stands there is its own business: this fetch has failed.
            (Step::WritingBack { .. }, Event::Moved(Some(view))) if view.has_news => {
                self.end(Outcome::Adopted)
            }
            (Step::WritingBack { change, writes }, Event::NotWritten) if writes < WRITES => {
                self.write_back(change, writes + 1)
            }
            // By this very process, whose write was said to have failed.
            (Step::WritingBack { change, writes }, Event::Moved(Some(view)))
                if writes < WRITES && self.is_by_me(view.state) =>
            {
                self.write_back(change, writes + 1)
            }
            (Step::WritingBack { .. }, Event::Written | Event::NotWritten | Event::Moved(_)) => {
                self.fail(Failure::Unspent)
            }
            (Step::WritingNext { .. }, Event::Written) => self.end(Outcome::Published),
            (Step::WritingDead, Event::Written | Event::NotWritten) => self.fail(Failure::NeedsLogin),
            (Step::Waiting, Event::Waited) => {
                self.step = Step::Loading;
                Effect::Load
            }
            // `NotLoaded`. (Any other event is none that the driver owes.)
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
            Stored::Idle => self.spend(first, now),
            // This process has written it, and has sent nothing.
            Stored::Spending { tries: 1, by, .. }
                if by == self.memory.me && self.memory.unsent == Some(key) =>
            {
                self.spend(first, now)
            }
            // It may have been sent, by an exchange that is over.
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
                self.spend(Spending { key, tries: tries + 1, since }, now)
            }
        }
    }

    /// Whether it may be sent again now, and not any more when the access token beside it ends.
    fn is_urgent(&self, state: Stored, now: Timestamp) -> bool {
        matches!(state, Stored::Spending { since, tries, .. } if tries < MOST_TRIES && self.has_grace(since, now))
    }

    /// Whether the server still accepts a token that was first sent at `since`. A wall clock that went back is outside of
    /// any grace.
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
            Answer::Unspent => self.take_back(spending),
            Answer::InvalidGrant => {
                self.step = Step::LookingAgain(key);
                Effect::Load
            }
            Answer::Ambiguous if may_repeat => self.spend(Spending { tries: tries + 1, ..spending }, now),
            Answer::Ambiguous => self.fail(Failure::Ambiguous),
            Answer::Unreadable => self.bury(),
        }
    }

    /// It was not sent this time. That says nothing of an earlier try.
    fn take_back(&mut self, Spending { key, tries, since }: Spending) -> Effect {
        if tries > 1 {
            return self.write_back(Change::Spending { since, tries: tries - 1 }, 1);
        }
        self.memory.unsent = Some(key);
        self.write_back(Change::Idle, 1)
    }

    fn write_back(&mut self, change: Change, writes: u32) -> Effect {
        self.step = Step::WritingBack { change, writes };
        Effect::Write(change)
    }

    fn spend(&mut self, spending: Spending, now: Timestamp) -> Effect {
        let Spending { tries, since, .. } = spending;
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
