//! The requirements of an API on the next token: unusual, long, secret, and for each grant.

use std::sync::Mutex;

use serde_json::{Value, json};
use tokenflight::source::Challenge;
use tokenflight::vault::MemoryVault;
use tokenflight::{FetchContext, Reason};

use super::loopback::{Loopback, Reply};
use super::*;

fn asking(claims: &str) -> FetchContext {
    FetchContext::new(Reason::Rejected).with_challenge(Challenge::new(claims))
}

/// A server that notes the claims of each request: none, one, or `"twice"`.
fn server(
    reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
) -> (Loopback, Arc<Mutex<Vec<Option<String>>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let server = Loopback::start(move |_, question| {
        let claims = question.field("claims").map(str::to_owned);
        note.lock().unwrap().push(claims.clone());
        reply(claims.as_deref().unwrap_or_default())
    });
    (server, seen)
}

fn token() -> Reply {
    Reply::json(
        200,
        json!({ "access_token": "abc", "token_type": "Bearer", "expires_in": 600,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "refresh_token": "refresh-2" }),
    )
}

#[actix::test]
async fn each_grant_sends_the_claims_once_and_only_when_they_are_asked_for() {
    const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#;
    const OWN: &str = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
    for own in [None, Some(OWN)] {
        let (server, seen) = server(|_| token());
        let client = Client::builder(server.token_url(), "app").secret("s3cret").build().unwrap();
        let subject = || source_fn(|_| async { Ok(Token::new("subject")) });
        macro_rules! check {
            ($builder:expr) => {{
                let builder = $builder;
                let builder = match own {
                    Some(own) => builder.extra("claims", own),
                    None => builder,
                };
                let source = builder.build().unwrap();
                seen.lock().unwrap().clear();
                let previous = source.fetch(asking(CLAIMS)).await.unwrap();
                source.fetch(FetchContext::new(Reason::Forced).with_previous(previous)).await.unwrap();
                let seen: Vec<_> = seen.lock().unwrap().drain(..).collect();
                let sent: Value = serde_json::from_str(seen[0].as_deref().unwrap()).unwrap();
                assert_eq!(sent["access_token"]["nbf"]["value"], "1");
                assert_eq!(sent["access_token"]["xms_cc"]["values"][0] == "cp1", own.is_some());
                assert_eq!(seen[1].as_deref(), own);
            }};
        }
        check!(client.client_credentials());
        check!(client.token_exchange(subject()));
        check!(client.jwt_bearer(subject()));
        check!(client.refresh_token(MemoryVault::new()).login("refresh-1"));
    }
}

#[actix::test]
async fn odd_claims_are_sent_as_they_are_and_empty_ones_not_at_all() {
    let (server, seen) = server(|_| token());
    let client = Client::builder(server.token_url(), "app").secret("s3cret").build().unwrap();
    let source = |own: Option<&str>| {
        let grant = client.client_credentials();
        let grant = match own {
            Some(own) => grant.extra("claims", own),
            None => grant,
        };
        grant.build().unwrap()
    };
    let deep = format!("{}1{}", r#"{"a":"#.repeat(500), "}".repeat(500));
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(1024 * 1024));
    for odd in ["{", "[1,2]", "null", "\u{0}\n\r&=%", r#"{"a":1,"a":2}"#, &deep, &long] {
        source(None).fetch(asking(odd)).await.unwrap();
        assert_eq!(seen.lock().unwrap().pop().unwrap().as_deref(), Some(odd));
        source(Some(r#"{"b":1}"#)).fetch(asking(odd)).await.unwrap();
        assert!(seen.lock().unwrap().pop().unwrap().is_some());
    }
    for empty in ["", " ", "\n"] {
        source(None).fetch(asking(empty)).await.unwrap();
        assert_eq!(seen.lock().unwrap().pop().unwrap(), None);
        source(Some(r#"{"b":1}"#)).fetch(asking(empty)).await.unwrap();
        assert_eq!(seen.lock().unwrap().pop().unwrap().as_deref(), Some(r#"{"b":1}"#));
    }
}

#[actix::test]
async fn no_value_of_the_claims_is_shown_where_the_server_repeats_it() {
    const CLAIMS: &str = r#"{"id_token":{"sub":{"value":"alice-4711@example.com"},"acr":{"values":["urn:level:secret-gold","urn:level:secret-silver"]},"nbf":{"value":1604106651}}}"#;
    for repeated in
        ["alice-4711@example.com", "urn:level:secret-gold", "urn:level:secret-silver", "1604106651"]
    {
        let (server, _) = server(move |_| {
            Reply::json(
                400,
                json!({ "error": "invalid_request", "error_description": format!("{repeated} is not possible") }),
            )
        });
        let client = Client::builder(server.token_url(), "app").secret("s3cret").build().unwrap();
        for (own, cx) in [(None, asking(CLAIMS)), (Some(CLAIMS), FetchContext::new(Reason::First))] {
            let grant = client.client_credentials();
            let grant = if let Some(own) = own { grant.extra("claims", own) } else { grant };
            let shown = format!("{cx:?}");
            let error = grant.build().unwrap().fetch(cx).await.unwrap_err();
            let shown = format!("{shown} {error} {error:?}");
            assert!(shown.contains("invalid_request"), "{shown}");
            assert!(!shown.contains(repeated), "{shown}");
        }
    }
}

#[actix::test]
async fn claims_of_a_megabyte_in_a_hundred_thousand_values_take_no_time() {
    let values: Vec<_> = (0..100_000).map(|number| format!("value-{number}")).collect();
    let claims = json!({ "id_token": { "sub": { "values": values } } }).to_string();
    let (server, _) = server(|_| {
        let text = "no value-77777 here ".repeat(2_000);
        Reply::json(400, json!({ "error": "invalid_request", "error_description": text }))
    });
    let client = Client::builder(server.token_url(), "app").secret("s3cret").build().unwrap();
    let began = tokio::time::Instant::now();
    let error = client.client_credentials().build().unwrap().fetch(asking(&claims)).await.unwrap_err();
    assert!(!error.to_string().contains("77777"), "{error}");
    assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
}

/// An API chooses the claims. They must not make a refusal unreadable, or a refresh token is lost.
#[actix::test]
async fn claims_that_look_like_an_answer_do_not_hide_it() {
    for code in ["invalid_request", "invalid_claims"] {
        for claims in [code.to_owned(), json!({ "a": code }).to_string(), "{".repeat(200)] {
            let (server, seen) = server(move |claims| match claims {
                "" => token(),
                _ => Reply::json(400, json!({ "error": code })),
            });
            let client = Client::builder(server.token_url(), "app").secret("s3cret").build().unwrap();
            let source = client.refresh_token(MemoryVault::new()).login("refresh-1").build().unwrap();
            let error = source.fetch(asking(&claims)).await.unwrap_err();
            assert!(error.is_terminal(), "{error}");
            source.fetch(FetchContext::new(Reason::First)).await.unwrap();
            assert_eq!(seen.lock().unwrap().len(), 2, "nothing was spent");
        }
    }
}
