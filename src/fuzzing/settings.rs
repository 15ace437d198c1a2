//! A settings file of a user.

use std::time::Duration;

use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde_json::Value;

use super::{HUNDRED_YEARS, LONGEST_ERROR, assert_hides, only_in, take};
use crate::duration;
#[cfg(feature = "redis")]
use crate::error::BuildError;
use crate::error::SourceError;
use crate::middleware::BearerAuthSettings;
use crate::policy::RefreshPolicy;
use crate::source::{ClientCredentialsBuilder, JsonEndpointBuilder, source_fn};
#[cfg(feature = "redis")]
use crate::source::{SharedSource, SharedSourceBuilder};
#[cfg(feature = "redis")]
use crate::store::{MemoryStore, RedisStoreBuilder};

/// Settings as JSON: each kind of settings is read, checked and used.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut shown = Vec::new();
    let errors = [
        parse::<ClientCredentialsBuilder>(text).and_then(|builder| {
            shown.push(format!("{builder:?}"));
            shown.push(format!("{:?}", builder.build().map_err(|error| error.to_string())?));
            Ok(())
        }),
        parse::<JsonEndpointBuilder>(text).and_then(|builder| {
            shown.push(format!("{builder:?}"));
            shown.push(format!("{:?}", builder.build().map_err(|error| error.to_string())?));
            Ok(())
        }),
        parse::<BearerAuthSettings>(text).map(|settings| shown.push(format!("{settings:?}"))),
        parse::<RefreshPolicy>(text).and_then(|policy| use_policy(&policy)),
        #[cfg(feature = "redis")]
        parse::<SharedSourceBuilder>(text).and_then(|builder| {
            shown.push(format!("{builder:?}"));
            shown.push(format!("{:?}", share(builder).map_err(|error| error.to_string())?));
            Ok(())
        }),
        #[cfg(feature = "redis")]
        parse::<RedisStoreBuilder>(text).and_then(|builder| {
            shown.push(format!("{builder:?}"));
            shown.push(format!("{:?}", builder.build().map_err(|error| error.to_string())?));
            Ok(())
        }),
    ];
    shown.extend(errors.into_iter().filter_map(Result::err));
    let private = serde_json::from_str::<Value>(text).ok().filter(Value::is_object).map(|mut public| {
        let names = ["client_secret", "private_key", "token_url", "url", "body_json"];
        let names: Vec<&str> = names.into_iter().filter(|name| !is_place(&public[*name])).collect();
        let tables = ["extra", "header", "form"].map(|name| values_of(&mut public, name));
        let places = ["token_url", "url"].map(|name| place(public[name].as_str().unwrap_or_default()));
        let secrets = take(&mut public, &names) + &tables.concat() + &seal_keys(&mut public);
        let mut marks = only_in(&secrets, &format!("{public}{}", places.concat()));
        // If a key occurs twice, one of its values is not in `public`. The same is true for a value with
        // escapes.
        marks.retain(|mark| secrets.matches(mark).count() == text.matches(mark).count());
        marks.retain(|_| !text.contains('\\'));
        marks
    });
    for text_shown in shown {
        // Settings are the user's own. Therefore a malformed setting may be quoted whole, with escapes.
        let room = 2 * LONGEST_ERROR + 8 * text.len();
        assert!(text_shown.len() <= room, "{} bytes", text_shown.len());
        assert_hides(&text_shown, private.as_deref().unwrap_or_default());
    }
}

/// A duration, as people write it.
pub fn duration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let deserializer: StrDeserializer<'_, ValueError> = text.into_deserializer();
    match duration::duration(deserializer) {
        Ok(duration) => drop(format!("{duration:?}")),
        Err(error) => {
            let error = error.to_string();
            assert!(!error.contains(['\n', '\r']), "{error:?}");
            assert!(error.len() <= LONGEST_ERROR + 6 * text.len());
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(feature = "redis")]
fn share(builder: SharedSourceBuilder) -> Result<SharedSource<impl Sized, MemoryStore>, BuildError> {
    let source = source_fn(|_| std::future::ready(Err(SourceError::terminal("nobody asks"))));
    builder.build(source, MemoryStore::new())
}

fn use_policy(policy: &RefreshPolicy) -> Result<(), String> {
    let source = source_fn(|_| std::future::ready(Err(SourceError::terminal("nobody asks"))));
    let built = crate::TokenActor::builder(source).policy(policy.clone()).build();
    built.map_err(|error| error.to_string())?;
    for dice in [0.0, 0.5, 0.999_999_999] {
        for times in [0, 1, 2, 31, 32, 33, u32::MAX] {
            policy.backoff_after(times, dice);
            policy.cooldown_after(times, dice);
        }
        for life in [Duration::from_nanos(1), Duration::from_secs(1), HUNDRED_YEARS] {
            let margins = policy.margins(life, dice);
            assert!(margins.ahead < life && margins.min_validity < life, "a new token is usable");
        }
    }
    Ok(())
}

/// The part of an address that is shown.
fn place(url: &str) -> String {
    let url = reqwest::Url::parse(url).ok();
    url.map(|url| format!("{}{}", url.host_str().unwrap_or_default(), url.path())).unwrap_or_default()
}

/// Whether a secret is a table with its place, which may be shown.
fn is_place(value: &Value) -> bool {
    value.get("file").or_else(|| value.get("env")).is_some_and(Value::is_string)
}

/// Removes the values of a table, and keeps their names, which may be shown.
fn values_of(value: &mut Value, table: &str) -> String {
    match value.get_mut(table) {
        Some(Value::Object(fields)) => {
            let values = fields.values_mut().filter(|value| !is_place(value));
            values.map(|value| std::mem::take(value).to_string()).collect()
        }
        _ => String::new(),
    }
}

/// Removes the keys of a shared source, and keeps their ids, which may be shown.
fn seal_keys(value: &mut Value) -> String {
    let take_one = |key: &mut Value| match key.get_mut("key") {
        Some(key) if is_place(key) => String::new(),
        Some(key) => key.take().to_string(),
        None => key.take().to_string(),
    };
    match value.get_mut("keys") {
        Some(Value::Array(keys)) => keys.iter_mut().map(take_one).collect(),
        Some(other) => other.take().to_string(),
        None => String::new(),
    }
}
