//! Whether a call has reached the auth server. The gate of a registry learns only from such calls. A source that
//! has its token, or its error, from another place reports this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::FetchContext;

/// A call's report about itself. Without a report, the call counts as one to the auth server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Option<Arc<AtomicBool>>);

impl Asked {
    /// For a call that is observed.
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

    /// From now on the auth server is called, or is not.
    #[cfg(feature = "shared")]
    pub(crate) fn note_asked(&self, is_asked: bool) {
        if let Some(asked) = &self.asked.0 {
            asked.store(is_asked, Ordering::Relaxed);
        }
    }
}
