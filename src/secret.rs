//! Text that is neither shown nor left behind in memory.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use zeroize::Zeroizing;

#[cfg(feature = "oauth2")]
pub(crate) mod files;
#[cfg(feature = "oauth2")]
pub(crate) mod origin;
pub(crate) mod path;

/// A header's value in this buffer, which is not copied, and marked as sensitive.
///
/// # Errors
/// It has something in it that no header can hold.
pub(crate) fn header(text: impl AsRef<[u8]> + Send + 'static) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The same in a buffer of its own, which is wiped.
#[cfg(feature = "http")]
pub(crate) fn header_of(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    header(Zeroizing::new(text.to_owned()))
}

/// Wiped when dropped, hidden by `Debug`.
#[derive(Clone, PartialEq, Eq)]
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

    // An environment variable of digits comes as a number.
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Secret, E> {
        Ok(Secret::new(number.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Secret, E> {
        Ok(Secret::new(number.to_string()))
    }

    // How a fraction was written cannot be known any more: 1.50 comes as 1.5.
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom("invalid type: a number with a fraction, expected a string in quotes"))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom("invalid type: true or false, expected a string in quotes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_neither_in_debug_nor_in_errors() {
        assert_eq!(format!("{:?}", Secret::new("s3cret")), "[redacted]");
        for wrong in ["4711.5", "[4711]", "null", "true", "{\"a\": 4711}"] {
            let error = serde_json::from_str::<Secret>(wrong).unwrap_err().to_string();
            assert!(!error.contains("4711"), "{error}");
        }
        for number in ["4711", "-4711"] {
            assert_eq!(serde_json::from_str::<Secret>(number).unwrap().expose(), number);
        }
    }
}
