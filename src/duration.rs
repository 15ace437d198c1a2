//! Durations in settings files, written for people: "30s", "5m", "1h 30m", "30d".

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::Serializer;
use serde::de::{Deserializer, Error, Visitor};

/// For `#[serde(deserialize_with)]`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    // Not `deserialize_str`: with it the format would refuse a number before we can name the missing unit.
    deserializer.deserialize_any(Text)
}

/// The same for an optional setting.
pub(crate) fn some_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// In whole milliseconds, up to the largest number.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// In seconds, for `#[serde(serialize_with)]`: the unit of monitoring systems.
pub(crate) fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// The same for an optional time.
#[allow(clippy::ref_option)] // serde requires this signature
pub(crate) fn some_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => seconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a string like "30s" or "5m""#)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        let Some(parsed) = parse(text) else {
            let message = format_args!(r#"{text:?} is not a duration: write it like "30s" or "5m""#);
            return Err(E::custom(message));
        };
        Duration::try_from(parsed)
            .map_err(|_| E::custom(format_args!(r#"{text:?} is negative: the shortest duration is "0s""#)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Duration, E> {
        Err(without_unit(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Duration, E> {
        Err(without_unit(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Duration, E> {
        Err(without_unit(number))
    }
}

/// A day is 24 hours. A month is not a duration.
fn parse(text: &str) -> Option<SignedDuration> {
    let in_days = || text.parse::<Span>().ok()?.to_duration(SpanRelativeTo::days_are_24_hours()).ok();
    text.parse().ok().or_else(in_days)
}

fn without_unit<E: Error>(number: impl fmt::Display) -> E {
    E::custom(format_args!(r#"{number} has no unit, expected a string like "30s" or "5m""#))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_duration_is_read_as_people_write_it() {
        assert_eq!(duration(json!("1h 30m")).unwrap(), Duration::from_secs(5_400));
        assert_eq!(duration(json!("30d")).unwrap(), Duration::from_secs(30 * 86_400));
        assert_eq!(duration(json!("1 week 1h")).unwrap(), Duration::from_secs(169 * 3_600));
        assert_eq!(some_duration(json!("0s")).unwrap(), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_refused_and_the_right_form_is_shown() {
        let refused = |wrong: Value, why: &str| {
            let error = duration(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(json!("soon"), r#""soon" is not a duration: write it like "30s""#);
        refused(json!("1mo"), "is not a duration");
        refused(json!("99999999999999999999h"), "is not a duration");
        refused(json!("-1d"), r#""-1d" is negative"#);
        refused(json!("-5s"), r#""-5s" is negative"#);
        refused(json!(5), r#"5 has no unit, expected a string like "30s""#);
        refused(json!(-5), "-5 has no unit");
        refused(json!(0.5), "0.5 has no unit");
        refused(json!(null), r#"expected a string like "30s""#);
    }
}
