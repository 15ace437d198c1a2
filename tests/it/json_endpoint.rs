//! The JSON source: its requests, and the places of the token and its end.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokenflight::clock::{Clock, SystemClock};
use tokenflight::source::{JsonEndpoint, JsonEndpointBuilder};
use tokenflight::testing::{Asked, FakeAuthServer, Reply};
use tokenflight::{FetchContext, Reason, Token, TokenError, TokenSource, TokenType};

use crate::http_sources::{SECRET, assert_field, assert_no_secret, assert_says, started};
use crate::support::*;

/// What came of it where the server answers with this body, and what the server was asked.
async fn asking(
    body: &str,
    make: impl FnOnce(String) -> JsonEndpointBuilder,
) -> (Result<Token, TokenError>, Asked) {
    let server = FakeAuthServer::start().await.unwrap();
    server.then(Reply::json(200, body));
    let outcome = started(make(server.url()).build().unwrap()).get().await;
    (outcome, server.asked().remove(0))
}

async fn error_of(body: &str, make: impl FnOnce(String) -> JsonEndpointBuilder) -> TokenError {
    let (outcome, _) = asking(body, make).await;
    let error = outcome.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    error
}

#[track_caller]
fn assert_lasts(token: &Token, seconds: u64) {
    let remaining = token.remaining().unwrap();
    assert!((secs(seconds.saturating_sub(60))..=secs(seconds)).contains(&remaining), "{remaining:?}");
}

fn unix_now() -> u64 {
    SystemClock.now().wall.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[actix::test]
async fn an_answer_that_is_only_a_new_token_is_enough() {
    let (token, asked) =
        asking(r#"{"newToken":"def"}"#, |url| JsonEndpoint::post(url).token_pointer("/newToken")).await;
    let token = token.unwrap();
    assert_eq!(token.authorization(), "Bearer def");
    assert_lasts(&token, 300);
    assert!(asked.head.starts_with("POST /token HTTP/1.1"), "{}", asked.head);
    assert_eq!((asked.header("content-type"), asked.body.as_str()), (None, ""));
    let (token, _) = asking(r#"{"newToken":"def"}"#, |url| {
        JsonEndpoint::post(url).token_pointer("/newToken").lifetime(secs(4000))
    })
    .await;
    assert_lasts(&token.unwrap(), 4000);
}

#[actix::test]
async fn a_metadata_server_is_asked_by_get_with_its_header() {
    let google = r#"{"access_token":"abc","expires_in":3599,"token_type":"Bearer"}"#;
    let (token, asked) = asking(google, |url| {
        JsonEndpoint::get(url).header("Metadata-Flavor", "Google").lifetime_pointer("/expires_in")
    })
    .await;
    assert_lasts(&token.unwrap(), 3599);
    assert!(asked.head.starts_with("GET /token HTTP/1.1"), "{}", asked.head);
    assert_eq!(asked.header("metadata-flavor"), Some("Google"));
    assert_eq!(asked.header("accept"), Some("application/json"));

    let azure = format!(r#"{{"access_token":"abc","expires_on":"{}"}}"#, unix_now() + 5000);
    let (token, asked) = asking(&azure, |url| {
        JsonEndpoint::get(format!("{url}?api-version=2018-02-01"))
            .header("Metadata", "true")
            .expires_at_pointer("/expires_on")
    })
    .await;
    assert_lasts(&token.unwrap(), 5000);
    assert!(asked.head.starts_with("GET /token?api-version=2018-02-01 HTTP/1.1"), "{}", asked.head);
}

#[actix::test]
async fn an_installation_token_is_asked_for_with_a_header_made_anew_each_time() {
    let server = FakeAuthServer::start().await.unwrap();
    let counter = AtomicU32::new(0);
    let source = JsonEndpoint::post(server.url())
        .header_fn("Authorization", move || {
            Ok::<_, io::Error>(format!("Bearer jwt-{}", counter.fetch_add(1, Ordering::Relaxed)))
        })
        .header("Accept", "application/vnd.github+json")
        .body_json(json!({"permissions": {"contents": "read"}}))
        .token_pointer("/token")
        .expires_at_pointer("/expires_at")
        .build()
        .unwrap();
    let handle = started(source);
    let ends = Duration::from_secs(unix_now() + 3600);
    let ends = jiff::Timestamp::try_from(std::time::SystemTime::UNIX_EPOCH + ends).unwrap();
    for number in 0..2 {
        server.then(Reply::json(201, format!(r#"{{"token":"ghs_{number}","expires_at":"{ends}"}}"#)));
        let token = handle.refresh().await.unwrap();
        assert_eq!(token.secret(), format!("ghs_{number}"));
        assert_lasts(&token, 3600);
        let asked = &server.asked()[number];
        assert_eq!(asked.header("authorization"), Some(format!("Bearer jwt-{number}").as_str()));
        assert_eq!(asked.header("accept"), Some("application/vnd.github+json"));
        assert_eq!(asked.header("content-type"), Some("application/json"));
        assert_eq!(asked.body, r#"{"permissions":{"contents":"read"}}"#);
    }
}

#[actix::test]
async fn a_header_that_cannot_be_made_fails_the_fetch_and_asks_nobody() {
    let server = FakeAuthServer::start().await.unwrap();
    let failing = JsonEndpoint::get(server.url())
        .header_fn("x-jwt", || Err::<String, _>(io::Error::other("the key file is gone")));
    let error = started(failing.build().unwrap()).get().await.unwrap_err();
    assert!(error.is_unavailable());
    assert_says(&error, &["`header_fn` of \"x-jwt\" failed: the key file is gone"]);
    let odd = JsonEndpoint::get(server.url()).header_fn("x-jwt", || Ok::<_, io::Error>("s3cret\n".into()));
    let error = started(odd.build().unwrap()).get().await.unwrap_err();
    assert!(error.is_rejected());
    assert_says(&error, &["`header_fn` of \"x-jwt\" made a value that no header can hold"]);
    assert!(server.asked().is_empty());
}

#[actix::test]
async fn a_form_is_sent_as_a_form_and_another_scheme_is_kept() {
    let (token, asked) = asking(r#"{"data":[{"token":"abc"}]}"#, |url| {
        JsonEndpoint::post(url)
            .form([("user", "me & you"), ("password", SECRET)])
            .token_pointer("/data/0/token")
            .token_type(TokenType::parse("Token"))
    })
    .await;
    assert_eq!(token.unwrap().authorization(), "Token abc");
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked.body, "user=me+%26+you&password=hunter2+%26+Co");
}

#[actix::test]
async fn a_token_that_is_not_where_it_should_be_names_the_pointer() {
    let nested = |url| JsonEndpoint::get(url).token_pointer("/data/0/token");
    for (body, wanted) in [
        (r#"{"data":[],"token":"s3cret"}"#, "with nothing at \"/data/0/token\" (`token_pointer`)"),
        (r#"{"data":[{"token":null}]}"#, "with nothing at \"/data/0/token\""),
        (r#"{"data":[{"token":""}]}"#, "with an empty token at \"/data/0/token\""),
        (
            r#"{"data":[{"token":{"value":"s3cret"}}]}"#,
            "at \"/data/0/token\" (`token_pointer`) that is not a",
        ),
    ] {
        assert_says(&error_of(body, nested).await, &["answered 200 OK", wanted]);
    }
    for place in ["message", "msg", "detail", "title", "reason", "error_description"] {
        for secret in ["eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhcHAifQ.c2lnbmF0dXJl", "0123456789abcdef", "s3cret"] {
            let token = format!(r#"{{"ok":true,"{place}":"{secret}"}}"#);
            let issued =
                format!(r#"{{"ok":true,"data":{{"token":"{secret}"}},"{place}":"issued {secret}"}}"#);
            for body in [token, issued] {
                let error = error_of(&body, nested).await;
                assert!(!format!("{error} {error:?}").contains(secret), "{body}: {error}");
                assert_says(&error, &["with nothing at \"/data/0/token\""]);
            }
        }
    }
}

/// The answer has a secret beside the token, and quotes it.
#[actix::test]
async fn an_explanation_that_quotes_another_secret_of_the_answer_is_not_shown() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = JsonEndpoint::get(server.url()).error_pointer("/message").build().unwrap();
    for secret in ["rt-0123456789abcdef-0123456789", "onlylettersbutverymanyofthem"] {
        for (status, ok) in [(200, false), (200, true), (403, false)] {
            let body = format!(r#"{{"ok":{ok},"refreshToken":"{secret}","message":"spent: {secret}"}}"#);
            server.then(Reply::json(status, &body));
            let error = source.fetch(FetchContext::new(Reason::First)).await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains(&secret[..12]), "{status} {body}: {error}");
        }
    }
}

/// The words of a failure are shown, though the answer has other texts.
#[actix::test]
async fn a_failure_in_a_success_is_explained() {
    for (body, wanted) in [
        (r#"{"ok":false,"error":"missing_scope"}"#, "missing_scope"),
        (r#"{"success":false,"code":"unsupported_grant_type","message":"unsupported_grant_type: x1"}"#, "x1"),
        (
            r#"{"errors":[{"id":"0123456789abcdef0","message":"tenant 12 is disabled, see https://example.com/help"}]}"#,
            "tenant 12",
        ),
        (r#"{"message":"The licence has expired."}"#, "The licence has expired."),
    ] {
        assert_says(&error_of(body, JsonEndpoint::get).await, &["answered 200 OK", wanted]);
    }
}

/// What a server says twice, and its numbers, moments and paths, hide nothing of its explanation.
#[actix::test]
async fn a_refusal_that_repeats_itself_is_explained() {
    for (body, wanted) in [
        (
            r#"{"error":"invalid_tenant","error_description":"AADSTS90002: Tenant 'x' not found. Trace ID: 0f8fad5b-d9cb-469f-a165-70867728950e Timestamp: 2026-11-29 10:00:00Z","timestamp":"2026-11-29 10:00:00Z","trace_id":"0f8fad5b-d9cb-469f-a165-70867728950e"}"#,
            "AADSTS90002",
        ),
        (
            r#"{"error":{"code":403,"message":"Project 12 has no quota","errors":[{"message":"Project 12 has no quota"}]}}"#,
            "Project 12 has no quota",
        ),
        (
            r#"{"timestamp":"2026-11-29T10:00:00.000+00:00","message":"No resource /api/v1/oauth/token.","path":"/api/v1/oauth/token"}"#,
            "No resource",
        ),
    ] {
        let server = FakeAuthServer::start().await.unwrap();
        server.then(Reply::json(403, body));
        let form = [("scope", "orders read"), ("description", "Service account for billing")];
        let source = JsonEndpoint::post(server.url()).form(form).build().unwrap();
        assert_says(&started(source).get().await.unwrap_err(), &["403", wanted]);
    }
}

#[actix::test]
async fn an_end_that_is_none_is_the_missing_one_and_one_in_the_past_is_an_error() {
    let lifetime = |url| JsonEndpoint::get(url).lifetime_pointer("/end");
    let moment = |url| JsonEndpoint::get(url).expires_at_pointer("/end");
    for odd in [r#""s3cret""#, "true", "{}", "[1]"] {
        let body = format!(r#"{{"access_token":"s3cret","end":{odd}}}"#);
        for make in [lifetime as fn(String) -> JsonEndpointBuilder, moment] {
            let (token, _) = asking(&body, make).await;
            let remaining = token.unwrap().remaining().unwrap();
            assert!((secs(295)..=secs(300)).contains(&remaining), "{odd}: {remaining:?}");
        }
    }
    for past in [r#""2016-07-11T22:14:10Z""#, "1468275250", r#""0""#, "-1"] {
        let error = error_of(&format!(r#"{{"access_token":"s3cret","end":{past}}}"#), moment).await;
        assert_says(&error, &["the new token had expired when it arrived"]);
    }
    for expired in ["0", "-5"] {
        let error = error_of(&format!(r#"{{"access_token":"s3cret","end":{expired}}}"#), lifetime).await;
        assert_says(&error, &["the new token had expired when it arrived"]);
    }
    for huge in ["18446744073709551615", "1e300"] {
        for make in [lifetime as fn(String) -> JsonEndpointBuilder, moment] {
            let (token, _) = asking(&format!(r#"{{"access_token":"s3cret","end":{huge}}}"#), make).await;
            let remaining = token.unwrap().remaining().unwrap();
            assert!(remaining <= HOUR * 24 * 30 && remaining > HOUR * 24 * 29, "{huge}: {remaining:?}");
        }
    }
}

#[test]
fn a_setting_that_cannot_work_is_refused_by_name() {
    let get = || JsonEndpoint::get("https://auth.example/?key=s3cret");
    let post = || JsonEndpoint::post("https://auth.example/?key=s3cret");
    let by = |method| JsonEndpoint::builder(method, "https://auth.example/");
    assert_field(JsonEndpoint::get("auth.example/s3cret").build(), "url");
    assert_field(JsonEndpoint::get("https://s3cret@auth.example/").build(), "url");
    assert_field(by(http::Method::HEAD).build(), "method");
    assert_field(get().header("a b", "s3cret").build(), "header");
    assert_field(get().header("x-api-key", "s3cret\n").build(), "header");
    assert_field(get().header_fn("a b", || Ok::<_, io::Error>("x".into())).build(), "header_fn");
    assert_field(get().body_json(json!("s3cret")).build(), "body_json");
    assert_field(get().form([("a", "s3cret")]).build(), "form");
    assert_field(post().body_json(json!(1)).form([("a", "s3cret")]).build(), "form");
    assert_field(get().token_pointer("newToken").build(), "token_pointer");
    assert_field(get().lifetime_pointer("a").build(), "lifetime_pointer");
    assert_field(get().expires_at_pointer("/~2").build(), "expires_at_pointer");
    assert_field(get().lifetime(secs(0)).build(), "lifetime");
    assert_field(get().lifetime(secs(1)).lifetime_pointer("/a").build(), "lifetime");
    assert_field(get().lifetime_pointer("/a").expires_at_pointer("/b").build(), "lifetime_pointer");
    assert_field(get().token_type(TokenType::parse("a b")).build(), "token_type");
    for dpop in [TokenType::DPoP, TokenType::Other("dpop".into())] {
        let error = get().token_type(dpop).build().unwrap_err();
        assert!(error.field() == "token_type" && error.to_string().contains("DPoP"), "{error}");
    }
    assert_field(get().timeout(secs(0)).build(), "timeout");
    assert_field(get().connect_timeout(secs(0)).build(), "connect_timeout");
    assert_field(get().max_body(0).build(), "max_body");
    assert!(post().body_json(json!({"a": 1})).build().is_ok());
}

#[test]
fn a_misspelt_setting_is_refused_by_name() {
    let read = |text: &str| serde_json::from_str::<JsonEndpointBuilder>(text);
    for (more, wanted) in [
        (r#""token_ponter":"/a""#, "unknown field `token_ponter`"),
        (r#""method":"G T""#, "\"G T\" is no HTTP method"),
        (r#""lifetime":5"#, "expected a string"),
        (r#""header":{"x-api-key":47.11}"#, "expected a string"),
        (r#""form":["s3cret"]"#, "expected a table"),
        (r#""form":"s3cret""#, "expected a table"),
        (r#""header":"s3cret""#, "expected a table"),
    ] {
        let error = read(&format!(r#"{{"url":"https://auth.example/",{more}}}"#)).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        assert!(!error.contains("47"), "{error}");
        assert_no_secret(&error);
    }
    assert!(read("{}").unwrap_err().to_string().contains("missing field `url`"));
}

#[test]
fn debug_of_builder_and_source_shows_no_secret() {
    let builder = JsonEndpoint::post("https://auth.example/token?key=s3cret")
        .header("x-api-key", "s3cret")
        .header_fn("x-jwt", || Ok::<_, io::Error>("s3cret".into()));
    for builder in [builder.clone().form([("password", "s3cret")]), builder.body_json(json!({"p": "s3cret"}))]
    {
        let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
        assert!(shown.contains("x-api-key") && shown.contains("x-jwt"), "{shown}");
        assert!(shown.contains("https://auth.example/token"), "{shown}");
        assert_no_secret(&shown);
    }
}

#[test]
fn an_encoding_that_no_answer_could_be_read_in_is_refused() {
    let source = JsonEndpoint::get("https://auth.example").header("accept-encoding", "gzip");
    assert_field(source.build(), "header");
    let get = || JsonEndpoint::get("https://auth.example");
    let made = get().header_fn("Accept-Encoding", || Ok::<_, io::Error>("gzip".into()));
    assert_field(made.build(), "header_fn");
    let chained = get().header_token("ACCEPT-ENCODING", tokenflight::testing::ScriptedSource::new());
    assert_field(chained.build(), "header_token");
}
