//! The desk of the slot: the state that the actor and the handles share as writers.

use std::collections::VecDeque;
use std::time::Duration;

use crate::token::Token;

/// The shared state of the writers.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// The reports of handles that the machine does not know yet.
    pub(super) reports: Vec<Report>,
    /// Discarded secrets, so that no caller gets one that it was waiting for. Few slots have any.
    #[allow(clippy::box_collection)] // each key of a registry has a slot
    discarded: Option<Box<VecDeque<Token>>>,
    /// The value that observers see: the token, usable or not.
    pub(super) shown: Option<Token>,
    /// The actor has ended.
    pub(super) closed: bool,
}

/// A change of the slot by a handle.
#[derive(Clone, Debug)]
pub(crate) enum Report {
    /// An API rejected this token. If allowed, it is withheld until this moment.
    Invalidate { token: Token, until: Option<Duration> },
    /// This token is compromised.
    Discard(Token),
    /// This token was discarded before its key came back.
    #[cfg(feature = "registry")]
    Recall(Token),
}

/// The maximum number of discarded secrets.
const DISCARDED: usize = 1_024;

impl Report {
    pub(super) fn is_invalidation_of(&self, token: &Token) -> bool {
        matches!(self, Self::Invalidate { token: named, .. } if named.is_same(token))
    }
}

impl Desk {
    pub(super) fn is_discarded(&self, token: &Token) -> bool {
        self.discarded().any(|discarded| discarded.is_same(token))
    }

    pub(super) fn discarded(&self) -> impl Iterator<Item = &Token> {
        self.discarded.iter().flat_map(|tokens| tokens.iter())
    }

    pub(super) fn remember_discarded(&mut self, token: &Token) {
        if self.is_discarded(token) {
            return;
        }
        let discarded = self.discarded.get_or_insert_default();
        if discarded.len() == DISCARDED {
            discarded.pop_front();
        }
        discarded.push_back(token.clone());
    }

    /// Whether the report is news for a machine. After the end nobody takes reports.
    pub(super) fn takes(&self, report: &Report) -> bool {
        !self.closed && !matches!(report, Report::Discard(token) if self.has_discard_of(token))
    }

    /// Whether a discard of this token is on the desk.
    pub(super) fn has_discard_of(&self, token: &Token) -> bool {
        self.reports.iter().any(|known| matches!(known, Report::Discard(known) if known.is_same(token)))
    }

    #[cfg(feature = "registry")]
    pub(super) fn recall(&mut self, token: &Token) {
        self.remember_discarded(token);
        self.reports.push(Report::Recall(token.clone()));
    }

    pub(super) fn withheld_until(&self, token: &Token) -> Option<Duration> {
        self.reports.iter().find_map(|report| match report {
            Report::Invalidate { token: named, until } if named.is_same(token) => *until,
            _ => None,
        })
    }

    /// Returns whether observers see another secret now.
    pub(super) fn show(&mut self, token: Option<Token>) -> bool {
        let same = match (&self.shown, &token) {
            (Some(before), Some(token)) => before.is_same(token),
            (None, None) => true,
            _ => false,
        };
        self.shown = token;
        !same
    }
}
