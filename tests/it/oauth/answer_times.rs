//! Lifetimes, ends and waits, as servers write them and as clocks distort them.

use std::time::SystemTime;

use log::LevelFilter;
use tokenflight::Token;
use tokenflight::clock::{Clock, SystemClock};
use tokenflight::source::JsonEndpointBuilder;
use tokenflight::testing::{Answer, FakeAuthServer, Reply};

use super::kinds::*;
use crate::http_sources::{assert_says, started};
use crate::support::*;

const DAY: u64 = 24 * 3600;

fn now() -> SystemTime {
    SystemClock.now().wall
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// The server's clock, this many hours ahead of ours.
fn clocks() -> [(&'static str, SystemTime); 5] {
    [
        ("right", now()),
        ("2 h ahead", now() + HOUR * 2),
        ("2 h behind", now() - HOUR * 2),
        ("a year ahead", now() + HOUR * 24 * 365),
        ("ten years behind", now() - HOUR * 24 * 3650),
    ]
}

fn with(more: &str) -> Reply {
    Reply::json(200, format!(r#"{{"access_token":"abc"{more}}}"#))
}

fn moments(url: String) -> JsonEndpointBuilder {
    tokenflight::source::JsonEndpoint::get(url).expires_at_pointer("/expires_at")
}

async fn ends_at(reply: &Reply) -> Token {
    face_with(reply, |url| moments(url).build().unwrap()).await.unwrap()
}

const ODD: &[&str] = &[
    r#""3600s""#,
    r#""""#,
    "true",
    r#""two minutes""#,
    "[]",
    "{}",
    r#""PT1H""#,
    r#""0x10""#,
    r#""1,800""#,
    r#""NaN""#,
    r#""inf""#,
    r#""-""#,
];

#[test]
fn a_lifetime_that_is_no_number_is_a_warn_and_the_missing_one() {
    let name = "oauth::answer_times::a_lifetime_that_is_no_number_is_a_warn_and_the_missing_one";
    let told = logged(name, LevelFilter::Warn, async || {
        for odd in ODD {
            heading(odd);
            for (kind, outcome) in face(&with(&format!(r#","expires_in":{odd}"#))).await {
                assert_lasts(&outcome.unwrap(), 300, &format!("{kind}: {odd}"));
            }
        }
        heading("no more");
    });
    for (odd, text) in told.unwrap_or_default().iter().filter(|(odd, _)| odd != "no more") {
        assert_eq!(text.matches("WARN").count(), 2, "one a source, {odd}: {text}");
        assert!(text.contains("expires_in") && text.contains("not a number of seconds"), "{odd}: {text}");
        assert!(odd.len() < 5 || !text.contains(odd.trim_matches('"')), "not quoted, {odd}: {text}");
    }
}

#[actix::test]
async fn a_huge_lifetime_is_the_longest_and_a_negative_one_is_none() {
    for huge in ["1e400", "1e308", "9007199254740993", r#""1e30""#, "99999999999999999999999999"] {
        for (kind, outcome) in face(&with(&format!(r#","expires_in":{huge}"#))).await {
            // A number that no program reads makes the whole answer unreadable; that is an error, no panic.
            match outcome {
                Ok(token) => {
                    let left = token.remaining().unwrap();
                    assert!(left <= HOUR * 24 * 30, "{kind}: {huge}: {left:?}");
                }
                Err(error) => assert!(error.is_unavailable(), "{kind}: {huge}: {error}"),
            }
        }
    }
    for gone in ["-1", "-1e300", r#""-5""#, "0", "-0.0", "0.4", "-9223372036854775808"] {
        for (kind, outcome) in face(&with(&format!(r#","expires_in":{gone}"#))).await {
            let error = outcome.expect_err(kind);
            assert!(error.is_unavailable(), "{kind}: {gone}: {error}");
            assert_says(&error, &["had expired when it arrived"]);
        }
    }
}

#[actix::test]
async fn milliseconds_are_seen_and_nothing_lives_longer_than_the_longest() {
    let end = unix(now()) + 3600;
    for written in [
        format!("{}", end * 1000),
        format!("\"{}\"", end * 1000),
        format!("{}", end * 1000 + 999),
        format!("{end}"),
        format!("\"{end}\""),
        format!("{end}.5"),
        format!("{}.25", end * 1000),
    ] {
        assert_lasts(&ends_at(&with(&format!(r#","expires_at":{written}"#))).await, 3600, &written);
    }
    for far in [
        format!("{}", (end + 3600 * 24 * 365) * 1000),
        "99999999999".to_owned(),
        "9999999999999".to_owned(),
        "253402300799".to_owned(),
        "253402300799000".to_owned(),
        "9223372036854775807".to_owned(),
        "18446744073709551615".to_owned(),
        r#""9999-12-31T23:59:59Z""#.to_owned(),
    ] {
        let left = ends_at(&with(&format!(r#","expires_at":{far}"#))).await.remaining().unwrap();
        assert!(left <= secs(30 * DAY) && left > secs(29 * DAY), "{far}: {left:?}");
    }
}

#[actix::test]
async fn an_end_is_counted_from_the_date_of_the_answer() {
    for (clock, date) in clocks() {
        for (left, form) in [(3600, 0), (3600, 1), (3600, 2), (60, 0), (7 * DAY, 1)] {
            let end = date + secs(left);
            let end = match form {
                0 => unix(end).to_string(),
                1 => format!("\"{}\"", jiff::Timestamp::try_from(end).unwrap()),
                _ => format!("{}", unix(end) * 1000),
            };
            let reply =
                with(&format!(r#","expires_at":{end}"#)).with_header("Date", httpdate::fmt_http_date(date));
            assert_lasts(&ends_at(&reply).await, left, &format!("{clock}, {end}"));
        }
        let past = unix(date) - 10;
        let reply =
            with(&format!(r#","expires_at":{past}"#)).with_header("Date", httpdate::fmt_http_date(date));
        let error = face_with(&reply, |url| moments(url).build().unwrap()).await.unwrap_err();
        assert_says(&error, &["had expired when it arrived"]);
    }
    for nonsense in ["", "yesterday", "Thu, 32 Foo 2026 99:99:99 GMT", "1767225600", "\u{fffd}"] {
        let reply = with(&format!(r#","expires_at":{}"#, unix(now()) + 600)).with_header("Date", nonsense);
        assert_lasts(&ends_at(&reply).await, 600, nonsense);
    }
}

#[actix::test]
async fn a_lifetime_has_nothing_to_do_with_the_date() {
    for (clock, date) in clocks() {
        let reply = with(r#","expires_in":3600"#).with_header("Date", httpdate::fmt_http_date(date));
        for (kind, outcome) in face(&reply).await {
            assert_lasts(&outcome.unwrap(), 3600, &format!("{kind}: {clock}"));
        }
    }
}

#[actix::test]
async fn retry_after_has_fractions_and_dates_of_the_server_s_own_clock() {
    let server = FakeAuthServer::start().await.unwrap();
    for (written, wait) in [
        ("30.5", Some(31)),
        ("0.1", Some(1)),
        ("30.0", Some(30)),
        (" 7 ", Some(7)),
        ("0", Some(0)),
        ("-5", None),
        ("-0.5", None),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("Thu, 32 Foo 2026 99:99:99 GMT", None),
    ] {
        for (kind, source) in both(&server.url()) {
            server.then(Reply::json(503, "{}").with_header("Retry-After", written));
            let error = fetch(&source).await.unwrap_err();
            assert_eq!(error.retry_after(), wait.map(secs), "{kind}: {written:?}");
        }
    }
    for (clock, date) in clocks() {
        for wait in [120, 2, 3000] {
            for (kind, source) in both(&server.url()) {
                let at = httpdate::fmt_http_date(date + secs(wait));
                let reply = Reply::json(429, "{}").with_header("Retry-After", at);
                server.then(reply.with_header("Date", httpdate::fmt_http_date(date)));
                let error = fetch(&source).await.unwrap_err();
                assert_eq!(error.retry_after(), Some(secs(wait)), "{kind}: {clock}");
            }
        }
    }
}

/// A JWT with these claims, signed by nobody.
fn jwt(claims: &str) -> String {
    use base64::Engine as _;
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"RS256"}"#), part(claims), part("signature"))
}

#[actix::test]
async fn a_jwt_with_an_odd_end_is_a_token() {
    let at = |claims: &str| jwt(claims);
    let soon = unix(now()) + 600;
    for (claims, left) in [
        (format!(r#"{{"exp":{soon}}}"#), 600),
        (format!(r#"{{"exp":{soon}.5}}"#), 600),
        (format!(r#"{{"exp":"{soon}"}}"#), 3600),
        (r#"{"exp":null}"#.to_owned(), 3600),
        (r#"{"exp":[1]}"#.to_owned(), 3600),
        (r#"{"exp":true}"#.to_owned(), 3600),
        (r#"{"exp":"soon"}"#.to_owned(), 3600),
        ("{}".to_owned(), 3600),
        ("[]".to_owned(), 3600),
        ("no JSON".to_owned(), 3600),
        (r#"{"exp":99999999999}"#.to_owned(), 3600),
        (r#"{"exp":1e300}"#.to_owned(), 3600),
    ] {
        let body = format!(r#"{{"access_token":"{}","expires_in":3600}}"#, at(&claims));
        let reply = Reply::json(200, body).with_header("Date", httpdate::fmt_http_date(now()));
        let token = face_with(&reply, |url| oauth(url).build().unwrap()).await.unwrap();
        assert_lasts(&token, left, &claims);
    }
    for claims in [r#"{"exp":1000}"#, r#"{"exp":0}"#, r#"{"exp":-5}"#, r#"{"exp":-1e300}"#] {
        let body = format!(r#"{{"access_token":"{}","expires_in":3600}}"#, at(claims));
        let reply = Reply::json(200, body).with_header("Date", httpdate::fmt_http_date(now()));
        let error = face_with(&reply, |url| oauth(url).build().unwrap()).await.unwrap_err();
        assert!(error.is_unavailable(), "{claims}: {error}");
        assert_says(&error, &["had expired when it arrived"]);
    }
}

#[actix::test]
async fn a_jwt_s_end_is_counted_by_the_server_s_clock() {
    for (clock, date) in clocks() {
        let claims = format!(r#"{{"iat":{},"exp":{}}}"#, unix(date), unix(date) + 600);
        let reply = Reply::json(200, format!(r#"{{"access_token":"{}"}}"#, jwt(&claims)));
        let dated = reply.clone().with_header("Date", httpdate::fmt_http_date(date));
        for reply in [reply, dated] {
            let token = face_with(&reply, |url| oauth(url).build().unwrap()).await.unwrap();
            assert_lasts(&token, 600, clock);
        }
    }
}

#[actix::test]
async fn a_token_that_has_expired_on_arrival_is_asked_for_again_a_second_later_in_the_same_flight() {
    for expired in [1, 2] {
        let rig = rig_with(plain().attempts(3));
        rig.source.then_times(expired, &token("same", secs(0))).then(token("new", HOUR));
        let begin = tokio::time::Instant::now();
        for outcome in rig.get_all(50).await {
            assert_eq!(outcome.unwrap().secret(), "new");
        }
        let took = begin.elapsed();
        let pauses = secs(u64::try_from(expired).unwrap());
        assert!(took >= pauses && took < pauses * 7, "{expired}: {took:?}");
        assert_eq!(rig.source.calls(), expired + 1, "one flight");
        tokio::time::resume();
    }
}

#[actix::test]
async fn callers_near_the_end_of_a_token_that_is_handed_out_to_its_end_do_not_fail() {
    // A server that hands out the same token until its end, and counts in whole seconds.
    let rig = rig_with(plain());
    rig.source.then(token("same", secs(10)));
    assert_eq!(rig.handle.get().await.unwrap().secret(), "same");
    tokio::time::sleep(millis(9_300)).await;
    let Answer::Token(none) = token("same", secs(0)) else { unreachable!() };
    rig.source.then(Answer::Token(none)).then(token("next", HOUR));
    for outcome in rig.get_all(20).await {
        assert!(outcome.is_ok(), "{outcome:?}");
    }
}

#[actix::test]
async fn a_status_may_be_named_as_one_that_passes() {
    let server = FakeAuthServer::start().await.unwrap();
    for statuses in [vec![410, 404], vec![404, 404, 410], vec![418]] {
        let source = json(server.url()).transient_status(404).transient_status(410).transient_status(418);
        let handle = started(source.build().unwrap());
        for &status in &statuses {
            server.then(Reply::json(status, "{}"));
            let error = handle.get().await.unwrap_err();
            assert!(error.is_unavailable(), "{status}: {error}");
        }
        assert!(handle.get().await.is_ok(), "{statuses:?}");
        server.then(Reply::json(403, "{}"));
        assert!(handle.refresh().await.unwrap_err().is_rejected(), "another one is still terminal");
    }
    let policy = tokenflight::RefreshPolicy::default().attempts(3).backoff(secs(0));
    let source = json(server.url()).transient_status(404).transient_status(410).build().unwrap();
    server.then(Reply::json(410, "{}")).then(Reply::json(404, "{}"));
    let handle = tokenflight::TokenActor::builder(source).policy(policy).start().unwrap();
    assert!(handle.get().await.is_ok(), "one flight outlasts them");
}

/// RFC 9111 section 4.2.3: what a cache has kept is older than its `Date`.
#[actix::test]
async fn what_a_cache_has_kept_lasts_for_what_is_left() {
    let kept = |more: &str| {
        let date = httpdate::fmt_http_date(now() - secs(3_000));
        with(more).with_header("Date", date).with_header("Age", "3000")
    };
    let end = unix(now()) + 600;
    assert_lasts(&ends_at(&kept(&format!(r#","expires_at":{end}"#))).await, 600, "an end");
    let lasting = |url| tokenflight::source::JsonEndpoint::get(url).lifetime_pointer("/expires_in");
    let token = face_with(&kept(r#","expires_in":3600"#), |url| lasting(url).build().unwrap()).await;
    assert_lasts(&token.unwrap(), 600, "a lifetime");
}
