//! A token that one writes and many read.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::{Inner, Token};

/// A place for a token that one writes and many read without a lock.
#[derive(Default)]
pub(crate) struct SharedToken(ArcSwapOption<Inner>);

impl SharedToken {
    #[inline]
    pub(crate) fn load(&self) -> Option<Token> {
        self.0.load_full().map(Token)
    }

    pub(crate) fn store(&self, token: Option<&Token>) {
        self.0.store(token.map(|token| Arc::clone(&token.0)));
    }
}

impl fmt::Debug for SharedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedToken")
    }
}
