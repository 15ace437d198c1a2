//! The desk of the slot: what writers, the actor and handles, have to tell each other.

use std::collections::VecDeque;
use std::time::Duration;

use crate::token::Token;

/// What writers share.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// What handles have done, and the machine does not know yet.
    pub(super) reports: Vec<Report>,
    /// Secrets that were discarded, so that no caller is given one that it had been waiting for. Few slots have any.
    #[allow(clippy::box_collection)] // of many keys each has a slot
    discarded: Option<Box<VecDeque<Token>>>,
    /// What observers see: the token, usable or not.
    pub(super) shown: Option<Token>,
    /// The actor has ended.
    pub(super) closed: bool,
}

/// What a handle has done to the slot.
#[derive(Clone, Debug)]
pub(crate) enum Report {
    /// An API did not take this token. It is withheld until then, if it may be.
    Invalidate { token: Token, until: Option<Duration> },
    /// This token is compromised.
    Discard(Token),
}

/// As many secrets are remembered as discarded.
const DISCARDED: usize = 1_024;

impl Report {
    pub(super) fn is_invalidation_of(&self, token: &Token) -> bool {
        matches!(self, Self::Invalidate { token: named, .. } if named.is_same(token))
    }
}

impl Desk {
    pub(super) fn is_discarded(&self, token: &Token) -> bool {
        self.discarded.iter().flat_map(|tokens| tokens.iter()).any(|discarded| discarded.is_same(token))
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
