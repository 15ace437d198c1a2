//! Secret text: `Debug` hides it, and its memory is wiped.

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
pub(crate) mod place;

/// A header's value in this buffer, without a copy, and marked as sensitive.
///
/// # Errors
/// It contains a byte that no header can carry.
pub(crate) fn header(text: impl AsRef<[u8]> + Send + 'static) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The same in its own buffer, which is wiped.
#[cfg(feature = "http")]
pub(crate) fn header_of(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    header(Zeroizing::new(text.to_owned()))
}

/// Wiped when it is dropped, and hidden by `Debug`.
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
        // Not `deserialize_string`: with it the format itself would refuse a number, and quote it.
        deserializer.deserialize_any(Text)
    }
}

/// Serde's own errors quote a value of the wrong type. A secret of digits must not be quoted.
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

    // An environment variable of digits arrives as a number.
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Secret, E> {
        Ok(Secret::new(number.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Secret, E> {
        Ok(Secret::new(number.to_string()))
    }

    // A longer number.
    fn visit_u128<E: de::Error>(self, number: u128) -> Result<Secret, E> {
        Ok(Secret::new(number.to_string()))
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<Secret, E> {
        Ok(Secret::new(number.to_string()))
    }

    // The original text of a fraction is lost: 1.50 arrives as 1.5.
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

    #[test]
    fn a_long_number_is_a_secret_too_and_is_never_quoted() {
        use serde::de::IntoDeserializer;
        const LONG: u128 = 4_711_471_147_114_711_471_147_114_711;
        const LOW: i128 = -4_711_471_147_114_711_471_147_114_711;
        type Number<T> = <T as IntoDeserializer<'static, serde::de::value::Error>>::Deserializer;
        let long = |number: u128| -> Number<u128> { number.into_deserializer() };
        let low = |number: i128| -> Number<i128> { number.into_deserializer() };
        assert_eq!(Secret::deserialize(long(LONG)).unwrap().expose(), LONG.to_string());
        assert_eq!(Secret::deserialize(low(LOW)).unwrap().expose(), LOW.to_string());
        #[cfg(feature = "oauth2")]
        for origin in [
            origin::SecretOrigin::deserialize(long(LONG)).unwrap(),
            origin::SecretOrigin::deserialize(low(LOW)).unwrap(),
        ] {
            assert!(matches!(origin, origin::SecretOrigin::Place(place::SecretPlace::Value(_))));
        }
        crate::settings::settings! {
            #[derive(Debug)]
            struct Table {
                #[serde(default)]
                one: u8,
            }
        }
        let errors = [
            Table::deserialize(long(LONG)).map(|table| table.one).unwrap_err(),
            Table::deserialize(low(LOW)).map(|table| table.one).unwrap_err(),
        ];
        for error in errors {
            assert!(!error.to_string().contains("4711"), "{error}");
        }
    }
}
