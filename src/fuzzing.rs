//! The way into the private parsers for `fuzz/`, and what has to hold for whatever they are given. Not part
//! of the public interface: it exists only under `--cfg fuzzing`, and in this crate's own tests, which replay
//! `fuzz/corpus`.
//!
//! Each function takes bytes and panics where a property is broken: nothing in the library itself panics,
//! an error is one line of bounded length without a secret, and no lifetime overflows.
#![allow(clippy::missing_panics_doc)]

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde_json::Value;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::duration;
use crate::error::SourceError;
use crate::policy::RefreshPolicy;
use crate::source::{
    ClientCredentials, ClientCredentialsBuilder, JsonEndpoint, JsonEndpointBuilder, source_fn,
};
use crate::token::Token;
use crate::transport;

/// What stands for a secret in the corpus: where it occurs in secret places only, no error may hold it.
const MARKS: [&str; 2] = ["s3cret", "471147"];

/// The client's own secret, and the two other forms in which it is sent.
const CLIENT: [&str; 3] = ["hunter2 & Co", "hunter2+%26+Co", "YXBwOmh1bnRlcjIrJTI2K0Nv"];

/// No error that a server can cause is longer.
const LONGEST_ERROR: usize = 1_000;

const HUNDRED_YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

static CLIENT_CREDENTIALS: LazyLock<ClientCredentials> = LazyLock::new(|| {
    let builder = ClientCredentials::builder("http://auth.example/token?key=s3cret", "app", CLIENT[0]);
    builder.scope("read write").build().expect("sound settings")
});

/// One for each way to know a token's end, with the pointer to it.
static JSON_ENDPOINTS: LazyLock<Vec<JsonEndpoint>> = LazyLock::new(|| {
    let builder = || {
        JsonEndpoint::get("http://auth.example/token?key=s3cret")
            .header("x-api-key", CLIENT[0])
            .token_pointer("/data/0/token")
    };
    [builder(), builder().lifetime_pointer("/expires_in"), builder().expires_at_pointer("/expires_at")]
        .into_iter()
        .map(|builder| builder.build().expect("sound settings"))
        .collect()
});

/// A token endpoint's answer, written like HTTP: a status, headers, an empty line, the body.
pub fn token_answer(data: &[u8]) {
    let Some((head, response)) = answer(data) else { return };
    let status = response.status();
    let body: Option<Value> = serde_json::from_slice(response.body()).ok();
    let outcome = CLIENT_CREDENTIALS.parse_response(response).now_or_never().expect("it is all here");
    match outcome {
        Ok(token) => {
            let body = body.expect("a token comes from JSON");
            assert!(status.is_success());
            assert_eq!(body["access_token"], token.secret());
            assert_eq!(body["expires_in"].is_null(), token.remaining().is_none());
            assert_lasts(&token);
        }
        Err(error) => {
            assert_said(&error);
            assert_hides(&error, &CLIENT);
            if let Some(mut body) = body {
                let tokens = take(&mut body, &["access_token", "refresh_token", "id_token"]);
                assert_hides(&error, &only_in(&tokens, &format!("{head}{body}")));
            }
        }
    }
}

/// Any server's answer, written as for [`token_answer`].
pub fn json_answer(data: &[u8]) {
    for endpoint in &*JSON_ENDPOINTS {
        let Some((head, response)) = answer(data) else { return };
        let body = response.body().clone();
        match endpoint.parse_response(response).now_or_never().expect("it is all here") {
            Ok(token) => {
                let body: Value = serde_json::from_slice(&body).expect("a token comes from JSON");
                assert_eq!(body.pointer("/data/0/token").and_then(Value::as_str), Some(token.secret()));
                assert_lasts(&token);
            }
            Err(error) => {
                assert_said(&error);
                assert_hides(&error, &CLIENT[..2]);
                assert_hides(&error, &only_in(&String::from_utf8_lossy(&body), &head));
            }
        }
    }
}

/// The value of a `Retry-After` header.
pub fn retry_after(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for now in [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), latest()]
    {
        let Some(delay) = transport::retry_after(text, now) else { continue };
        let error = SourceError::transient("busy").with_retry_after(delay);
        assert_eq!(error.retry_after(), Some(delay));
        assert!(RefreshPolicy::default().capped(delay) <= Duration::from_secs(300));
    }
}

/// Settings as JSON: each kind of them is read, checked and used.
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
        parse::<RefreshPolicy>(text).and_then(|policy| use_policy(&policy)),
    ];
    shown.extend(errors.into_iter().filter_map(Result::err));
    let private = serde_json::from_str::<Value>(text).ok().filter(Value::is_object).map(|mut public| {
        let names = ["client_secret", "token_url", "url", "body_json"];
        let tables = ["extra", "header", "form"].map(|name| values_of(&mut public, name));
        let places = ["token_url", "url"].map(|name| place(public[name].as_str().unwrap_or_default()));
        let secrets = take(&mut public, &names) + &tables.concat();
        let mut marks = only_in(&secrets, &format!("{public}{}", places.concat()));
        // A key that stands there twice has a value that is not in `public`; so has one with escapes.
        marks.retain(|mark| secrets.matches(mark).count() == text.matches(mark).count());
        marks.retain(|_| !text.contains('\\'));
        marks
    });
    for text_shown in shown {
        // Settings are the user's own, so what is odd in them may be quoted whole, with escapes.
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

/// The head as it was written, and all of it as a response.
fn answer(data: &[u8]) -> Option<(String, Response<Vec<u8>>)> {
    let end = data.windows(2).position(|window| window == b"\n\n").unwrap_or(data.len());
    let (head, body) = (&data[..end], data.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut response = Response::new(body.to_vec());
    *response.status_mut() = StatusCode::from_bytes(lines.next()?).ok()?;
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        response.headers_mut().insert(name, HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?);
    }
    Some((String::from_utf8_lossy(head).into_owned(), response))
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
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

/// No sum of its times overflows, and it is never valid for longer than tokens are.
fn assert_lasts(token: &Token) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let moments = [
        Timestamp { boot: Duration::ZERO, wall: SystemTime::UNIX_EPOCH },
        clock.now(),
        Timestamp { boot: Duration::MAX, wall: latest() },
    ];
    for sent in moments {
        let token = token.clone().stamped(sent, &clock, Duration::MAX, Duration::MAX);
        assert!(token.whole_life() <= HUNDRED_YEARS);
        token.expires_at();
        for now in moments.into_iter().filter(|now| now.boot >= sent.boot) {
            let (remaining, overdue) = (token.remaining_at(now), token.overdue_at(now));
            assert!(remaining <= HUNDRED_YEARS);
            assert!(remaining.is_zero() || overdue.is_zero(), "valid and overdue");
        }
    }
}

fn assert_said(error: &SourceError) {
    let text = error.to_string();
    assert!(text.len() <= LONGEST_ERROR, "{} bytes", text.len());
    assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{text:?}");
    assert!(text.contains("http://auth.example/token"), "{text}");
}

#[track_caller]
fn assert_hides(error: &impl ToString, secrets: &[&str]) {
    let text = error.to_string();
    for secret in secrets {
        assert!(!text.contains(secret), "{text}");
    }
}

/// The marks that stand in `secrets`, and nowhere in what may be shown.
fn only_in(secrets: &str, shown: &str) -> Vec<&'static str> {
    MARKS.into_iter().filter(|mark| secrets.contains(mark) && !shown.contains(mark)).collect()
}

/// What of an address is shown.
fn place(url: &str) -> String {
    let url = reqwest::Url::parse(url).ok();
    url.map(|url| format!("{}{}", url.host_str().unwrap_or_default(), url.path())).unwrap_or_default()
}

/// Takes these fields out, and writes them down.
fn take(value: &mut Value, fields: &[&str]) -> String {
    let taken = fields.iter().filter_map(|field| value.as_object_mut()?.remove(*field));
    taken.map(|value| value.to_string()).collect()
}

/// Takes the values out of a table, and leaves their names, which may be shown.
fn values_of(value: &mut Value, table: &str) -> String {
    match value.get_mut(table) {
        Some(Value::Object(fields)) => {
            fields.values_mut().map(|value| std::mem::take(value).to_string()).collect()
        }
        _ => String::new(),
    }
}

/// The last whole second that a wall clock can show.
fn latest() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX.unsigned_abs())
}

#[cfg(test)]
type Target = (&'static str, fn(&[u8]));

#[cfg(test)]
const TARGETS: [Target; 5] = [
    ("token_answer", token_answer),
    ("json_answer", json_answer),
    ("retry_after", retry_after),
    ("settings", settings),
    ("duration", duration),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// On any toolchain, and without a fuzzer.
    #[test]
    fn the_corpus_holds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        if !folder.exists() {
            return; // A published package has no such folder.
        }
        let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let stems = |folder: &str| -> BTreeSet<_> {
            let found = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
            found
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(stems("fuzz/fuzz_targets"), names);
        assert_eq!(stems("fuzz/corpus"), names);
        for (name, target) in TARGETS {
            let seeds = fs::read_dir(folder.join("corpus").join(name)).unwrap();
            let seeds: Vec<_> = seeds.map(|entry| entry.unwrap().path()).collect();
            assert!(seeds.len() >= 10, "{name} has {} seeds", seeds.len());
            for seed in seeds {
                println!("{}", seed.display()); // Shown where it fails.
                target(&fs::read(&seed).unwrap());
            }
        }
    }

    #[test]
    fn a_broken_property_is_noticed() {
        assert_eq!(only_in(r#"{"client_secret":"s3cret"}"#, "unknown field"), ["s3cret"]);
        assert!(only_in("s3cret", "shown s3cret").is_empty());
        for faulty in ["x".repeat(LONGEST_ERROR), "two\nlines".into(), "no address".into()] {
            let said = || assert_said(&SourceError::transient(faulty.clone()));
            assert!(std::panic::catch_unwind(said).is_err(), "{faulty}");
        }
        let (head, response) = answer(b"429\nretry-after: 7\n\n{}").unwrap();
        assert_eq!((response.status().as_u16(), response.body().as_slice()), (429, b"{}".as_slice()));
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(head, "429\nretry-after: 7");
    }
}
