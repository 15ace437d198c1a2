//! What a source says of itself, for its key in the store.

use zeroize::Zeroizing;

use crate::source::{UNNAMED, UNSHARED};

pub(super) struct Parts {
    /// Apart from the user's own parts, which may have the same names; wiped, for a URL may hold a secret.
    pub(super) named: Vec<(String, Zeroizing<String>)>,
    /// What the source cannot name.
    pub(super) unnamed: Option<String>,
    /// Why its tokens are of no use to other processes.
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
