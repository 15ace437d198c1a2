//! Text that is neither shown nor left behind in memory.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use zeroize::Zeroizing;

/// Wiped when dropped, hidden by `Debug`.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `deserialize_string`: the format would refuse a number itself, and quote it.
        deserializer.deserialize_any(Text)
    }
}

/// Serde's own errors quote the value that has the wrong type. A secret of digits must not end up there.
struct Text;

impl Visitor<'_> for Text {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom("invalid type: a number, expected a string in quotes"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        self.visit_u64(0)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        self.visit_u64(0)
    }
}

/// Takes secrets out of text that a server wrote: some repeat what they were sent.
#[derive(Clone, Default)]
pub(crate) struct Redactor(Vec<Zeroizing<String>>);

impl Redactor {
    /// Hides this text from now on, in each of the forms in which it was sent.
    pub(crate) fn hide(&mut self, text: Zeroizing<String>) {
        if !text.is_empty() && !self.0.contains(&text) {
            self.0.push(text);
        }
        // An encoded form may hold the plain one; the longest goes first, so that nothing of it is left.
        self.0.sort_by_key(|text| std::cmp::Reverse(text.len()));
    }

    /// One printable line of at most `limit` bytes, without the secrets.
    pub(crate) fn clean(&self, text: &str, limit: usize) -> String {
        // Before and after the invisible is replaced: either may be what makes the secret readable.
        let hidden = self.replaced(text);
        let line = super::printable(&hidden, usize::MAX);
        super::printable(&self.replaced(&line), limit)
    }

    fn replaced(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "[redacted]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_neither_in_debug_nor_in_errors() {
        assert_eq!(format!("{:?}", Secret::new("s3cret")), "[redacted]");
        for wrong in ["4711", "-4711", "4711.5", "[4711]", "null", "true"] {
            let error = serde_json::from_str::<Secret>(wrong).unwrap_err().to_string();
            assert!(!error.contains("4711"), "{error}");
        }
    }

    #[test]
    fn the_redactor_finds_every_form() {
        let mut redactor = Redactor::default();
        for form in ["p&w", "p%26w", ""] {
            redactor.hide(Zeroizing::new(form.to_owned()));
        }
        assert_eq!(redactor.clean("bad secret p&w\nfrom p%26w", 80), "bad secret [redacted]?from [redacted]");
        assert_eq!(Redactor::default().clean("abcdef", 3), "abc...");
    }
}
