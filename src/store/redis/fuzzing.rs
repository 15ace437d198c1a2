//! The properties that must hold for any answer of Redis, and for any URL: see [`crate::fuzzing`].
#![allow(clippy::missing_panics_doc)]

use std::time::Duration;

use ::redis::{FromRedisValue, Value, parse_redis_value};

use super::address::Address;
use super::scripts;
use crate::store::{LONGEST_RECORD, LONGEST_VALUE, Look, RedisStore};

/// Marks for secrets in the corpus.
const MARKS: [&str; 2] = ["s3cret", "471147"];

/// No error is longer, for any answer and any URL.
const LONGEST_ERROR: usize = 300;

/// An answer to the script that looks, as Redis sends it (RESP). An accepted answer is within all limits.
pub fn script_answer(data: &[u8]) {
    let Ok(answer) = parse_redis_value(data) else { return };
    let Ok(answer) = Vec::<Value>::from_redis_value(answer) else { return };
    match scripts::read_look(answer) {
        Ok(Look::Found(stored)) => {
            assert!(stored.value.len() <= LONGEST_VALUE, "{} bytes", stored.value.len());
            assert!(stored.left <= Duration::from_millis(u64::MAX));
            assert_shows_nothing(&format!("{stored:?}"), &stored.id);
        }
        Ok(Look::Taken(held) | Look::Paused(held)) => {
            assert!(held.value.len() <= 2 * LONGEST_RECORD, "{} bytes", held.value.len());
        }
        Ok(Look::Free(_) | Look::Leased | Look::Mended(_)) => {}
        Err(error) => {
            assert_bounded(&error.to_string());
            assert_shows_nothing(&error.to_string(), "");
        }
    }
}

/// A URL of a store: either an address, or an error without the URL. With TLS or without a password no secret
/// crosses a network in clear. Any other URL is refused unless the user allows it.
pub fn address(data: &[u8]) {
    let Ok(url) = std::str::from_utf8(data) else { return };
    let scheme = url.split("://").next().unwrap_or_default();
    match Address::parse(url) {
        Ok(address) => {
            assert!(!(address.is_tls() && address.tells_password(false)), "{scheme}");
            assert!(!scheme.starts_with("rediss") || address.is_tls(), "{scheme}");
            if let Address::Cluster(nodes) | Address::Sentinels { sentinels: nodes, .. } = &address {
                let hosts = url.split_once("://").map_or("", |(_, rest)| rest);
                assert!(!nodes.is_empty() && nodes.len() <= 1 + hosts.matches(',').count());
            }
            if address.tells_password(false) {
                assert!(RedisStore::builder(url).build().is_err(), "in clear");
            }
        }
        Err(wrong) => {
            assert_bounded(&wrong);
            assert_shows_nothing(&wrong, "");
        }
    }
    let builder = RedisStore::builder(url).allow_plaintext();
    assert_shows_nothing(&format!("{builder:?}"), "");
    match builder.build() {
        Ok(store) => assert_shows_nothing(&format!("{store:?}"), ""),
        Err(error) => {
            assert_bounded(&error.to_string());
            assert_shows_nothing(&error.to_string(), "");
        }
    }
}

fn assert_bounded(text: &str) {
    assert!(text.len() <= LONGEST_ERROR, "{} bytes", text.len());
    assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{text:?}");
}

/// `but`: this may be shown.
fn assert_shows_nothing(text: &str, but: &str) {
    for mark in MARKS.into_iter().filter(|mark| !but.contains(mark)) {
        assert!(!text.contains(mark), "{text}");
    }
}
