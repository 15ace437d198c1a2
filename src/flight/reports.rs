//! The memory of reported tokens, and the rule when a report may start a flight. `docs/reports.md` has the reasons.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::policy::RefreshPolicy;
use crate::token::Token;

/// The maximum number of reported secrets. The budget allows more in a life. But a source that gives reported
/// secrets again alternates between only a few.
const REPORTED: usize = 32;
/// The maximum number of discarded secrets.
const DISCARDED: usize = 1_024;

/// The memory of reports, their budget, and the predecessor of the token in use.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Reports {
    pub(super) reported: VecDeque<Entry>,
    pub(super) discarded: VecDeque<Token>,
    pub(super) predecessor: Option<Predecessor>,
    pub(super) budget: Budget,
}

/// A reported secret, kept until its token's end.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) token: Token,
    /// The secret was reported before it had settled: perhaps the API did not know it yet.
    pub(super) from_birth: bool,
    /// The source was asked about the secret, and has given it out again.
    pub(super) settled: bool,
}

/// The token before the current one.
#[derive(Clone, Debug)]
pub(super) struct Predecessor {
    pub(super) token: Token,
    pub(super) min_validity: Duration,
}

impl Reports {
    /// Forgets the secrets of expired tokens. It uses the clock that is never set back: a token that has expired by
    /// this clock stays expired.
    pub(super) fn forget_ended(&mut self, now: Timestamp) {
        self.reported.retain(|entry| entry.token.end().boot > now.boot);
    }

    /// Remembers that this token was reported.
    pub(super) fn remember(&mut self, token: &Token, from_birth: bool) {
        if self.entry(token).is_some() {
            return;
        }
        if self.reported.len() == REPORTED {
            self.reported.pop_front();
        }
        self.reported.push_back(Entry { token: token.clone(), from_birth, settled: false });
    }

    /// A report about the predecessor, if `token` names it: then it is no predecessor any more. A predecessor that
    /// was rejected from its birth stays, because an API that is late may know it soon.
    pub(super) fn remember_predecessor(&mut self, token: &Token) {
        let Some(known) = self.predecessor.take_if(|predecessor| predecessor.token.is_same(token)) else {
            return;
        };
        self.remember(&known.token, false);
        if self.entry(&known.token).is_some_and(|entry| entry.from_birth) {
            self.predecessor = Some(known);
        }
    }

    pub(super) fn entry(&self, token: &Token) -> Option<&Entry> {
        self.reported.iter().find(|entry| entry.token.is_same(token))
    }

    /// The same secret has come with a new life. It is remembered until its new end.
    pub(super) fn renew(&mut self, token: &Token) {
        if let Some(entry) = self.reported.iter_mut().find(|entry| entry.token.is_same(token)) {
            entry.token = token.clone();
        }
    }

    /// The source has given this secret again. Returns whether that is new.
    pub(super) fn settle(&mut self, token: &Token) -> bool {
        let entry = self.reported.iter_mut().find(|entry| entry.token.is_same(token));
        entry.is_some_and(|entry| !std::mem::replace(&mut entry.settled, true))
    }

    pub(super) fn discard(&mut self, token: &Token) {
        if self.predecessor.as_ref().is_some_and(|predecessor| predecessor.token.is_same(token)) {
            self.predecessor = None;
        }
        if self.is_discarded(token) {
            return;
        }
        if self.discarded.len() == DISCARDED {
            self.discarded.pop_front();
        }
        self.discarded.push_back(token.clone());
    }

    pub(super) fn is_discarded(&self, token: &Token) -> bool {
        self.discarded.iter().any(|discarded| discarded.is_same(token))
    }

    /// Another secret is in use now, and `before` may become its predecessor.
    ///
    /// The best predecessor was never reported. The next best is the oldest one that was rejected from its birth:
    /// an API that is late knows this one first. A token that was reported after it had settled is no predecessor.
    pub(super) fn succeed(&mut self, before: Token, min_validity: Duration, now: Timestamp) {
        let predecessor = self.predecessor.as_ref().filter(|known| known.is_usable(now));
        let is_better = match self.entry(&before) {
            None => true,
            Some(entry) => entry.from_birth && predecessor.is_none(),
        };
        if is_better && !self.is_discarded(&before) {
            self.predecessor = Some(Predecessor { token: before, min_validity });
        }
    }

    /// The predecessor, if it may help the reporter of `current`.
    pub(super) fn offer(&self, current: &Token, now: Timestamp) -> Option<&Token> {
        let predecessor = self.predecessor.as_ref().filter(|predecessor| predecessor.is_usable(now))?;
        let token = &predecessor.token;
        let from_birth = |token| self.entry(token).is_some_and(|entry| entry.from_birth);
        let helps = self.entry(token).is_none() || (from_birth(token) && from_birth(current));
        (helps && !token.is_same(current)).then_some(token)
    }
}

impl Predecessor {
    pub(super) fn is_usable(&self, now: Timestamp) -> bool {
        let remaining = self.token.remaining_at(now);
        !remaining.is_zero() && remaining > self.min_validity
    }
}

/// The budget of flights for reports: some at once, then one per interval. On the clock that counts suspend.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    /// When the whole budget is available again.
    pub(super) full_at: Duration,
}

impl Budget {
    /// When the next flight may start.
    pub(super) fn next_at(self, policy: &RefreshPolicy) -> Duration {
        let rest = policy.report_interval().saturating_mul(policy.max_reports().saturating_sub(1));
        self.full_at.saturating_sub(rest)
    }

    pub(super) fn spend(&mut self, now: Timestamp, policy: &RefreshPolicy) {
        self.full_at = self.full_at.max(now.boot).saturating_add(policy.report_interval());
    }
}
