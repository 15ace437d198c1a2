//! The parts that a source names for its key in the store.

use zeroize::Zeroizing;

use crate::error::BuildError;
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
                parts.named.push((format!("{OF_SOURCE}{part}"), Zeroizing::new(value.to_owned())));
            }
        });
        parts
    }

    /// Refuses a source whose tokens are of no use to other processes.
    pub(super) fn check_shared(&self) -> Result<(), BuildError> {
        match &self.unshared {
            Some(why) => Err(BuildError::new("source", format!("has tokens that {why}"))),
            None => Ok(()),
        }
    }

    /// Refuses a source with parts that it cannot name, if the user names none.
    pub(super) fn check_named(&self, has_own: bool) -> Result<(), BuildError> {
        match &self.unnamed {
            Some(unnamed) if !has_own => Err(missing(unnamed)),
            _ => Ok(()),
        }
    }
}

/// The error of a source with parts that are not named.
fn missing(unnamed: &str) -> BuildError {
    let message = format!(
        "do not name {unnamed}, which may decide the token: say with `part` what is different about it \
         (tenant, client, scope, …), or two sources may share a token"
    );
    BuildError::new("parts", message)
}

/// The parts that a source names itself begin with this.
const OF_SOURCE: &str = "source:";
/// The part with the name of a registry's key.
#[cfg(feature = "registry")]
pub(super) const NAME_OF_KEY: &str = "key:name";

/// Refuses a part of the user whose name a key's own part may have. Without keys, the name of the place in the store
/// is made once, and refuses such a part only if both are there.
#[cfg(feature = "registry")]
pub(super) fn check_free<'a>(mut own: impl Iterator<Item = &'a str>) -> Result<(), BuildError> {
    match own.find(|part| *part == NAME_OF_KEY || part.starts_with(OF_SOURCE)) {
        Some(part) => {
            let message =
                format!("name {part:?}, which is reserved for the key and the source: take another name");
            Err(BuildError::new("parts", message))
        }
        None => Ok(()),
    }
}
