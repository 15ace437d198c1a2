//! The key of a token in a store.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::error::BuildError;

/// The key of a shared token: a name, and a hash of all parts in which tokens may differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SharedKey(Arc<str>);

impl SharedKey {
    /// `name` is for human readers. `parts` are all parts in which two configurations may differ: issuer, client,
    /// grant, scope, audience, resource, subject, key of the proof of possession. Their order does not matter.
    ///
    /// # Errors
    /// A name that is empty, longer than 64 bytes, or contains other characters than letters, digits, `-`, `_` and
    /// `.`; no parts; the same part twice.
    pub fn new<'a>(
        name: &str,
        parts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, BuildError> {
        let mut hash = Sha256::new();
        Self::hashed(name, parts, |bytes| hash.update(bytes)).map(|name| name.with(&hash.finalize()))
    }

    /// The same with a keyed hash. Without the key the parts cannot be found by trying.
    pub(crate) fn keyed<'a>(
        key: &[u8; 64],
        name: &str,
        parts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, BuildError> {
        let mut hash = <Hmac<Sha256> as KeyInit>::new(&(*key).into());
        Self::hashed(name, parts, |bytes| hash.update(bytes))
            .map(|name| name.with(&hash.finalize().into_bytes()))
    }

    /// Checks the name and the parts, and adds the parts to a hash.
    fn hashed<'a, 'n>(
        name: &'n str,
        parts: impl IntoIterator<Item = (&'a str, &'a str)>,
        mut hash: impl FnMut(&[u8]),
    ) -> Result<Checked<'n>, BuildError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(BuildError::new("name", "must be 1 to 64 letters, digits, `-`, `_` or `.`"));
        }
        let mut parts: Vec<(&str, &str)> = parts.into_iter().collect();
        parts.sort_unstable();
        if parts.is_empty() {
            let missing = "are missing: say what makes the token different (issuer, client, scope, …)";
            return Err(BuildError::new("parts", missing));
        }
        if parts.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(BuildError::new("parts", "name the same thing twice"));
        }
        // Each piece has its length in front, so that two different lists never give the same bytes.
        for piece in parts.iter().flat_map(|(part, value)| [part, value]) {
            hash(&(piece.len() as u64).to_be_bytes());
            hash(piece.as_bytes());
        }
        Ok(Checked(name))
    }

    /// The name, which contains no colon.
    pub(crate) fn name(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// `name:hash`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A valid name of a key.
struct Checked<'n>(&'n str);

impl Checked<'_> {
    fn with(self, hash: &[u8]) -> SharedKey {
        /// 128 bits, so that two configurations never have the same hash.
        const HASHED: usize = 16;
        SharedKey(format!("{}:{}", self.0, hex(&hash[..HASHED])).into())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
