//! Whether a call has asked the auth server. The gate of a registry learns from calls that have. A source that has its token,
//! or its error, from somewhere else says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::FetchContext;

/// What a call says of itself. Of a call that says nothing the auth server was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Option<Arc<AtomicBool>>);

impl Asked {
    /// For a call whose course is watched.
    pub(crate) fn new() -> Self {
        Self(Some(Arc::new(AtomicBool::new(true))))
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.as_ref().is_none_or(|asked| asked.load(Ordering::Relaxed))
    }
}

impl FetchContext {
    pub(crate) fn with_asked(mut self, asked: Asked) -> Self {
        self.asked = asked;
        self
    }

    /// From here on the auth server is asked, or is not.
    #[cfg(feature = "shared")]
    pub(crate) fn note_asked(&self, is_asked: bool) {
        if let Some(asked) = &self.asked.0 {
            asked.store(is_asked, Ordering::Relaxed);
        }
    }
}
