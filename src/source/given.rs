//! The tokens that the links of a chain gave to a fetch. A refusal concerns only these tokens.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::FetchContext;
use crate::token::Token;

/// The record of one fetch.
#[derive(Clone, Default)]
pub(crate) struct Given(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    tokens: Vec<Token>,
    has_failed: bool,
}

impl Given {
    /// The tokens that the server behind the links has received. None if a link failed: then the error is the
    /// link's, and the server got no request.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let record = self.record();
        if record.has_failed { Vec::new() } else { record.tokens.clone() }
    }

    /// Records the result of a link for the fetch: a token, or an error.
    pub(crate) fn note(&self, token: Option<&Token>) {
        let mut record = self.record();
        match token {
            Some(token) => record.tokens.push(token.clone()),
            None => record.has_failed = true,
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FetchContext {
    /// The links of a source will record their results there.
    pub(crate) fn with_given(mut self, given: Given) -> Self {
        self.given = Some(given);
        self
    }

    /// The record of the fetch that calls this link. The link's own source gets no record, because the tokens of
    /// its own links do not concern that fetch.
    pub(crate) fn take_given(&mut self) -> Option<Given> {
        self.given.take()
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").finish_non_exhaustive()
    }
}
