//! JSON that holds a token, and the different forms in which servers write its lifetime.

use std::time::{Duration, SystemTime};

#[cfg(feature = "http")]
use bytes::Bytes;
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

#[cfg(feature = "http")]
use crate::error::BuildError;

/// The last second of a date with a four-digit year. A later moment means "practically never".
const LAST_MOMENT: u64 = 253_402_300_799;

/// A parsed document, whose strings are wiped when it is dropped.
#[derive(Clone)]
pub(crate) struct Document(Value);

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        // Some servers begin with a byte order mark (RFC 8259 section 8.1 lets a parser ignore it).
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let value = match std::str::from_utf8(bytes) {
            Ok(text) => serde_json::from_str(text),
            // Some servers write a name or an explanation in another encoding. The rest can be read nevertheless.
            Err(_) => serde_json::from_str(&Zeroizing::new(String::from_utf8_lossy(bytes).into_owned())),
        };
        value.map(Self)
    }

    #[cfg(feature = "http")]
    pub(crate) fn new(value: Value) -> Self {
        Self(value)
    }

    /// Serialised into memory that is wiped.
    #[cfg(feature = "http")]
    pub(crate) fn to_bytes(&self) -> Result<Bytes, serde_json::Error> {
        // The length is measured first: a buffer that grows leaves its old memory behind unwiped.
        let mut length = Length(0);
        serde_json::to_writer(&mut length, &self.0)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
        serde_json::to_writer(&mut *bytes, &self.0)?;
        Ok(Bytes::from_owner(bytes))
    }

    /// Calls `each` for each string in the document.
    pub(crate) fn strings(&self, each: &mut dyn FnMut(&str)) {
        fn walk(value: &Value, each: &mut dyn FnMut(&str)) {
            match value {
                Value::String(text) => each(text),
                Value::Array(items) => items.iter().for_each(|item| walk(item, each)),
                Value::Object(fields) => fields.values().for_each(|field| walk(field, each)),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        walk(&self.0, each);
    }

    /// The same for each string, and for each number that is long enough to be a secret.
    #[cfg(feature = "http")]
    pub(crate) fn values(&self, each: &mut dyn FnMut(Zeroizing<String>)) {
        /// In characters.
        const SHORTEST: usize = 4;
        fn walk(value: &Value, each: &mut dyn FnMut(Zeroizing<String>)) {
            match value {
                Value::String(text) => each(Zeroizing::new(text.clone())),
                Value::Number(number) => {
                    let digits = Zeroizing::new(number.to_string());
                    if digits.len() >= SHORTEST {
                        each(digits);
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, each)),
                Value::Object(fields) => fields.values().for_each(|field| walk(field, each)),
                Value::Null | Value::Bool(_) => {}
            }
        }
        walk(&self.0, each);
    }

    /// The value at this pointer. A `null` counts as nothing.
    pub(crate) fn get(&self, pointer: &str) -> Option<&Value> {
        self.0.pointer(pointer).filter(|value| !value.is_null())
    }

    /// Whether it is a JSON object.
    #[cfg(feature = "oauth2")]
    pub(crate) fn is_table(&self) -> bool {
        self.0.is_object()
    }

    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        self.get(pointer).and_then(Value::as_str)
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Counts the bytes that are written to it.
#[cfg(feature = "http")]
struct Length(usize);

#[cfg(feature = "http")]
impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// The parser refuses nesting deeper than 128, so this recursion ends.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a byte in a token that was no UTF-8 has been replaced. Nothing can be done with the rest of such a token.
#[cfg(feature = "http")]
pub(crate) fn is_garbled(token: &str) -> bool {
    token.contains(char::REPLACEMENT_CHARACTER)
}

/// A checked JSON pointer (RFC 6901).
#[cfg(feature = "http")]
#[derive(Clone, Debug)]
pub(crate) struct Pointer(String);

#[cfg(feature = "http")]
impl Pointer {
    pub(crate) fn parse(field: &'static str, text: &str) -> Result<Self, BuildError> {
        let escapes = |text: &str| text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        if (text.is_empty() || text.starts_with('/')) && escapes(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(BuildError::new(
            field,
            format!(
                "is no JSON pointer: {text:?}; write it like \"/data/token\", with `~1` for a `/` in a name"
            ),
        ))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Seconds, as servers write `expires_in`: a number, or a number in quotes. Fractions are cut off. A negative
/// number is zero. A number that is too large is the largest possible one. `None` for any other value.
pub(crate) fn lifetime(value: &Value) -> Option<Duration> {
    seconds(value).map(Duration::from_secs)
}

/// A moment: RFC 3339, or Unix seconds as a number or in quotes. Some servers count milliseconds or smaller units.
/// Read as seconds, these would be thousands of years away. A unit is accepted only if the moment is in this
/// century by that unit: some servers write "never" as the last second of the year 9999, in seconds or in
/// milliseconds.
pub(crate) fn moment(value: &Value) -> Option<SystemTime> {
    /// September 2001, in seconds.
    const CENTURY: u64 = 1_000_000_000;
    if let Some(number) = seconds(value) {
        const MILLIS: u64 = CENTURY * 1_000;
        const MICROS: u64 = MILLIS * 1_000;
        const NANOS: u64 = MICROS * 1_000;
        let since = match number {
            0..MILLIS => Duration::from_secs(number),
            MILLIS..MICROS => Duration::from_millis(number),
            MICROS..NANOS => Duration::from_micros(number),
            NANOS..10_000_000_000_000_000_000 => Duration::from_nanos(number),
            _ => Duration::from_secs(LAST_MOMENT),
        };
        return SystemTime::UNIX_EPOCH.checked_add(since);
    }
    let text = value.as_str()?.trim();
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) => Some(moment.into()),
        // The last day of that year is outside of the readable range. Some servers mean "never" by it.
        Err(_) if text.starts_with("9999-12-3") => {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(LAST_MOMENT))
        }
        Err(_) => None,
    }
}

fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().map(whole)),
        Value::String(text) => {
            let text = text.trim();
            // The float parser also knows "inf" and "nan".
            let is_number = text.starts_with(|first: char| first.is_ascii_digit() || first == '-')
                && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
            is_number
                .then(|| text.parse::<u64>().ok().or_else(|| text.parse::<f64>().ok().map(whole)))
                .flatten()
        }
        _ => None,
    }
}

/// The cast saturates at both ends.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lifetime_is_read_in_every_form_that_servers_use() {
        for (value, expected) in [
            (json!(3600), Some(3600)),
            (json!("3600"), Some(3600)),
            (json!(" 3600 "), Some(3600)),
            (json!(3599.97), Some(3599)),
            (json!("3599.97"), Some(3599)),
            (json!(0), Some(0)),
            (json!(-5), Some(0)),
            (json!("-5"), Some(0)),
            (json!(-0.5), Some(0)),
            (json!(u64::MAX), Some(u64::MAX)),
            (json!(1e300), Some(u64::MAX)),
            (json!("99999999999999999999999999"), Some(u64::MAX)),
            (json!("1e999"), Some(u64::MAX)),
            (json!(""), None),
            (json!("soon"), None),
            (json!("inf"), None),
            (json!("nan"), None),
            (json!("-"), None),
            (json!("1h"), None),
            (json!(true), None),
            (json!([3600]), None),
            (json!({"seconds": 3600}), None),
        ] {
            assert_eq!(lifetime(&value), expected.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_moment_is_rfc_3339_or_unix_seconds() {
        for (value, expected) in [
            (json!("2016-07-11T22:14:10Z"), Some(1_468_275_250)),
            (json!("2016-07-12T00:14:10+02:00"), Some(1_468_275_250)),
            (json!("2016-07-11T22:14:10.500Z"), Some(1_468_275_250)),
            (json!(1_468_275_250), Some(1_468_275_250)),
            (json!("1468275250"), Some(1_468_275_250)),
            (json!(1_468_275_250.9), Some(1_468_275_250)),
            (json!(1_468_275_250_000_u64), Some(1_468_275_250)),
            (json!("1468275250123"), Some(1_468_275_250)),
            (json!(1_468_275_250_000_000_u64), Some(1_468_275_250)),
            (json!(1_468_275_250_000_000_000_u64), Some(1_468_275_250)),
            (json!(9_999_999_999_u64), Some(9_999_999_999)),
            (json!(-1), Some(0)),
            (json!(u64::MAX), Some(LAST_MOMENT)),
            (json!("2016-07-11T22:14:10"), None),
            (json!("2016-07-11"), None),
            (json!("tomorrow"), None),
            (json!(true), None),
        ] {
            let seconds = moment(&value)
                .map(|moment| moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs());
            assert_eq!(seconds, expected, "{value}");
        }
    }

    #[cfg(feature = "http")]
    #[test]
    fn pointers_are_checked() {
        for good in ["", "/token", "/a/0/b", "/a~1b", "/m~0n", "/"] {
            assert!(Pointer::parse("token_pointer", good).is_ok(), "{good}");
        }
        for bad in ["token", "$.token", "/a~2b", "/a~", "#/token"] {
            let error = Pointer::parse("token_pointer", bad).unwrap_err();
            assert_eq!(error.field(), "token_pointer", "{bad}");
        }
    }

    #[test]
    fn wiping_reaches_every_string() {
        let mut value = json!({"a": "s3cret", "b": ["s3cret", {"c": "s3cret"}], "d": 1});
        wipe(&mut value);
        assert_eq!(value, json!({"a": "", "b": ["", {"c": ""}], "d": 1}));
    }
}
