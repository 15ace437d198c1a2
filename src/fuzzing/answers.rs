//! The answers of a server: a status, headers and a body.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;

use super::{HUNDRED_YEARS, LONGEST_ERROR, assert_hides, only_in, take};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::SourceError;
use crate::policy::RefreshPolicy;
use crate::source::{ClientCredentials, JsonEndpoint};
use crate::token::Token;
use crate::transport;

/// The client's own secret, and the two other forms in which it is sent.
const CLIENT: [&str; 3] = ["hunter2 & Co", "hunter2+%26+Co", "YXBwOmh1bnRlcjIrJTI2K0Nv"];

static CLIENT_CREDENTIALS: LazyLock<ClientCredentials> = LazyLock::new(|| {
    let builder = ClientCredentials::builder("https://auth.example/token?key=s3cret", "app", CLIENT[0]);
    builder.scope("read write").build().expect("sound settings")
});

/// One for each way in which a server can state a token's end, with the pointer to it.
static JSON_ENDPOINTS: LazyLock<Vec<JsonEndpoint>> = LazyLock::new(|| {
    let builder = || {
        JsonEndpoint::get("https://auth.example/token?key=s3cret")
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
    let bytes = response.body();
    let body: Option<Value> =
        serde_json::from_str(&String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)))
            .ok();
    let outcome = CLIENT_CREDENTIALS.parse_response(response).now_or_never().expect("it is all here");
    match outcome {
        Ok(token) => {
            let body = body.expect("a token comes from JSON");
            assert!(status.is_success());
            let written = body["access_token"].as_str().expect("a token is a string");
            assert!(written.trim().ends_with(token.secret()) && !token.secret().is_empty());
            // A JWT contains its own end.
            assert!(token.remaining().is_none() || !body["expires_in"].is_null() || written.contains('.'));
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
        let Some((_, response)) = answer(data) else { return };
        let body = response.body().strip_prefix(b"\xef\xbb\xbf").unwrap_or(response.body()).to_vec();
        match endpoint.parse_response(response).now_or_never().expect("it is all here") {
            Ok(token) => {
                let body: Value =
                    serde_json::from_str(&String::from_utf8_lossy(&body)).expect("a token comes from JSON");
                let written = body.pointer("/data/0/token").and_then(Value::as_str);
                assert_eq!(written.map(str::trim), Some(token.secret()));
                assert_lasts(&token);
            }
            Err(error) => {
                assert_said(&error);
                assert_hides(&error, &CLIENT[..2]);
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

/// The head as text, and the whole answer as a response.
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

/// No sum of its times overflows, and the token is never valid for longer than the maximum.
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
    assert!(text.contains("https://auth.example/token"), "{text}");
}

/// The last whole second that a wall clock can show.
fn latest() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_property_is_noticed() {
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
