//! What a server quotes of a request, and the explanations that are shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{JsonEndpoint, JsonEndpointBuilder};
use crate::source::{FetchContext, Reason, TokenSource, source_fn};
use crate::testing::{FakeAuthServer, Reply};
use crate::token::Token;

async fn failure(source: &JsonEndpoint) -> String {
    source.fetch(FetchContext::new(Reason::First)).await.unwrap_err().to_string()
}

/// The error after the server has said this.
async fn told(server: &FakeAuthServer, builder: JsonEndpointBuilder, words: &str) -> String {
    server.then(Reply::json(400, json!({ "message": words }).to_string()));
    failure(&builder.build().unwrap()).await
}

#[tokio::test]
async fn nothing_of_the_address_the_headers_and_the_body_is_quoted() {
    let server = FakeAuthServer::start().await.unwrap();
    let post = || JsonEndpoint::post(server.url());
    let at = |query: &str| JsonEndpoint::post(format!("{}?{query}", server.url()));
    let basic = format!("Basic {}", STANDARD.encode("robot-7:s3cret-pass"));
    let made = basic.clone();
    for (builder, words) in [
        (at("key=s3cret-key-1"), "the key s3cret-key-1 is disabled"),
        (at("v=2&key=s3%2Bcr%65t"), "the key s3+cret is disabled"),
        (at("v=2&key=s3%2Bcr%65t"), "the query v=2&key=s3%2Bcr%65t is odd"),
        (at("s3cret-key-2"), "no such thing: s3cret-key-2"),
        (post().header("Authorization", &basic), "the password s3cret-pass is wrong"),
        (post().header("Authorization", &basic), "robot-7:s3cret-pass is wrong"),
        (
            post().header_fn("Authorization", move || Ok::<_, std::fmt::Error>(made.clone())),
            "no s3cret-pass here",
        ),
        (post().header("Cookie", "theme=dark; sid=s3cret99"), "the session s3cret99 is over"),
        (post().header("Cookie", "a=1,b=s3cret98;c=2"), "the session s3cret98 is over"),
        (post().header("Authorization", "Token token=\"s3cret97\""), "no token s3cret97"),
        (post().body_json(json!({ "user": [{ "pin": 48_151_623 }] })), "the pin 48151623 is wrong"),
    ] {
        let error = told(&server, builder, words).await;
        assert!(error.contains("answered 400") && !error.contains(words), "{error}");
    }
    for builder in [at("key=s3cret-key-1"), post().header("Cookie", "theme=dark; sid=s3cret99")] {
        let error = told(&server, builder, "the account is closed").await;
        assert!(error.contains("the account is closed"), "{error}");
    }
}

#[tokio::test]
async fn a_header_has_one_name_in_any_case() {
    let server = FakeAuthServer::start().await.unwrap();
    let source =
        JsonEndpoint::post(server.url()).header("X-Key", "one").header("x-key", "two").build().unwrap();
    source.fetch(FetchContext::new(Reason::First)).await.unwrap();
    assert_eq!(server.asked()[0].header("x-key"), Some("two"));

    let file =
        json!({ "method": "GET", "url": server.url(), "header": { "X-Key": "s3cret", "x-key": "s3cret" } });
    let builder: JsonEndpointBuilder = serde_json::from_value(file).unwrap();
    let error = builder.build().unwrap_err();
    assert_eq!(error.field(), "header");
    assert!(error.to_string().contains("twice") && !error.to_string().contains("s3cret"), "{error}");
}

#[tokio::test]
async fn the_reason_in_a_success_without_a_token_is_shown() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = JsonEndpoint::post(server.url()).token_pointer("/token").build().unwrap();
    server.then(Reply::json(200, json!({ "ok": false, "error": "invalid_auth" }).to_string()));
    let error = failure(&source).await;
    assert!(error.contains("nothing at \"/token\"") && error.contains("invalid_auth"), "{error}");
    server.then(Reply::json(200, json!({ "token": "", "detail": "no seat is free" }).to_string()));
    assert!(failure(&source).await.contains("no seat is free"));
}

#[tokio::test]
async fn an_explanation_is_found_in_each_usual_place() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = JsonEndpoint::post(server.url()).build().unwrap();
    for answer in [
        json!({ "errorCode": "E1", "errorSummary": "the words" }),
        json!({ "error_msg": "the words" }),
        json!({ "msg": "the words" }),
        json!({ "reason": "the words" }),
        json!({ "errors": [{ "detail": "the words" }] }),
        json!({ "fault": { "faultstring": "the words" } }),
    ] {
        server.then(Reply::json(403, answer.to_string()));
        let error = failure(&source).await;
        assert!(error.contains("the words"), "{answer}: {error}");
    }
}

#[tokio::test]
async fn the_encoding_of_a_refusal_that_cannot_be_read_is_named() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = JsonEndpoint::post(server.url()).build().unwrap();
    server.then(Reply::json(401, "\u{1f}\u{8b}").with_header("Content-Encoding", "gzip"));
    let error = failure(&source).await;
    assert!(error.contains("Content-Encoding \"gzip\""), "{error}");
    server.then(Reply::json(401, "{}").with_header("Content-Encoding", "identity"));
    assert!(!failure(&source).await.contains("Content-Encoding"));
}

#[tokio::test]
async fn a_link_without_a_usable_token_sends_nothing() {
    let server = FakeAuthServer::start().await.unwrap();
    for odd in ["", "abc\n", "a b"] {
        let link = source_fn(move |_cx| async move { Ok(Token::new(odd)) });
        let source = JsonEndpoint::post(server.url()).header_token("x-token", link).build().unwrap();
        let error = source.fetch(FetchContext::new(Reason::First)).await.unwrap_err();
        assert!(!error.is_terminal() && error.to_string().contains("x-token"), "{error}");
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn one_byte_that_is_no_utf_8_does_not_make_an_answer_unreadable() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = JsonEndpoint::post(server.url()).build().unwrap();
    let latin = |status: &str, body: &[u8]| Reply::Http {
        status: status.to_owned(),
        headers: vec![("Content-Type".to_owned(), "application/json;charset=ISO-8859-1".to_owned())],
        body: body.to_vec(),
    };
    server.then(latin("200", b"{\"name\":\"M\xfcller\",\"access_token\":\"abc\"}"));
    assert_eq!(source.fetch(FetchContext::new(Reason::First)).await.unwrap().secret(), "abc");
    server.then(latin("400", b"{\"message\":\"sp\xe4ter\"}"));
    let error = failure(&source).await;
    assert!(error.contains("sp?ter"), "{error}");
    server.then(latin("200", b"{\"access_token\":\"s3cret\xff\"}"));
    let error = failure(&source).await;
    assert!(error.contains("200 OK with a token that is not UTF-8") && !error.contains("s3cret"), "{error}");
    assert!(crate::json::Document::parse(b"\xff{}").is_err());
}
