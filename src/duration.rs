//! Durations in settings files, written for people: "30s", "5m", "1h 30m".

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

/// For `#[serde(deserialize_with)]`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    parsed.and_then(|duration| Duration::try_from(duration).ok()).ok_or_else(|| {
        D::Error::custom(format_args!("{text:?} is not a duration: write it like \"30s\" or \"5m\""))
    })
}

/// The same for a setting that may be left out.
pub(crate) fn some_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}
