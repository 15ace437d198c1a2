//! The parts that a source names for its key in the store.

use zeroize::Zeroizing;

use crate::source::{UNNAMED, UNSHARED};

pub(super) struct Parts {
    /// Separate from the user's own parts, which may have the same names. They are wiped, because a URL may contain
    /// a secret.
    pub(super) named: Vec<(String, Zeroizing<String>)>,
    /// What the source cannot name.
    pub(super) unnamed: Option<String>,
    /// The reason why its tokens are useless for other processes.
    pub(super) unshared: Option<String>,
}

impl Parts {
    pub(super) fn of(identify: impl FnOnce(&mut dyn FnMut(&str, &str))) -> Self {
        let mut parts = Self { named: Vec::new(), unnamed: None, unshared: None };
        identify(&mut |part, value| {
            if part == UNNAMED {
                parts.unnamed.get_or_insert_with(|| value.to_owned());
            } else if part == UNSHARED {
                parts.unshared = Some(value.to_owned());
            } else {
                parts.named.push((format!("source:{part}"), Zeroizing::new(value.to_owned())));
            }
        });
        parts
    }
}
