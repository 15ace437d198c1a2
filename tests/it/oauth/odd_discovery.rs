//! Discovery with unusual servers: which documents are accepted, and which are refused.

use std::sync::Arc;

use serde_json::{Value, json};
use tokenflight::oauth::{Client, ClientBuilder};
use tokenflight::source::ClientCredentials;
use tokenflight::testing::{FakeAuthServer, ManualClock, Reply};
use tokenflight::{FetchContext, Reason, SourceError, Token, TokenSource, source_fn};

use super::kinds::fetch;
use crate::support::*;

const OPENID: &str = "/.well-known/openid-configuration";
const RFC_8414: &str = "/.well-known/oauth-authorization-server";

/// A server, its root, and the document by which it describes itself.
async fn provider(path: &str) -> (FakeAuthServer, String, Value) {
    let server = FakeAuthServer::start().await.unwrap();
    let issuer = format!("{}{path}", server.url().trim_end_matches("/token"));
    let document = json!({ "issuer": issuer, "token_endpoint": format!("{issuer}/token") });
    (server, issuer, document)
}

fn client(issuer: &str) -> ClientBuilder {
    Client::with_issuer(issuer, "app").secret("hunter2")
}

fn source(client: ClientBuilder) -> ClientCredentials {
    client.build().unwrap().client_credentials().build().unwrap()
}

/// The path of each request.
fn paths(server: &FakeAuthServer) -> Vec<String> {
    server.asked().iter().map(|asked| asked.head.split(' ').nth(1).unwrap().to_owned()).collect()
}

/// The outcome, when the first place answers with this document.
async fn with_document(change: impl FnOnce(&mut Value)) -> (Result<Token, SourceError>, FakeAuthServer) {
    let (server, issuer, mut document) = provider("").await;
    change(&mut document);
    server.then(Reply::json(200, document.to_string()));
    (fetch(&source(client(&issuer))).await, server)
}

#[actix::test]
async fn an_issuer_with_a_path_has_its_document_in_either_place() {
    for path in ["", "/tenant", "/realms/a", "/a%20b"] {
        let (server, issuer, document) = provider(path).await;
        server.then(Reply::json(200, document.to_string()));
        fetch(&source(client(&issuer))).await.unwrap();
        assert_eq!(paths(&server), [format!("{path}{OPENID}"), format!("{path}/token")]);
        for status in [404, 400, 401, 403] {
            let (server, issuer, document) = provider(path).await;
            server
                .then(Reply::text(status, "text/html", "<html>"))
                .then(Reply::json(200, document.to_string()));
            fetch(&source(client(&issuer))).await.unwrap();
            assert_eq!(
                paths(&server),
                [format!("{path}{OPENID}"), format!("{RFC_8414}{path}"), format!("{path}/token")]
            );
        }
    }
}

#[actix::test]
async fn a_first_place_that_fails_or_redirects_is_no_reason_to_give_up() {
    let moved = Reply::text(302, "text/html", "").with_header("Location", "/login");
    let waiting = Reply::json(403, "{}").with_header("Retry-After", "5");
    let odd = [moved, Reply::json(500, "{}"), Reply::json(502, ""), Reply::json(503, ""), waiting];
    for reply in odd {
        let (server, issuer, document) = provider("/tenant").await;
        server.then(reply.clone()).then(Reply::json(200, document.to_string()));
        let token = fetch(&source(client(&issuer))).await;
        assert!(token.is_ok(), "{reply:?}: {token:?}");
        assert_eq!(
            paths(&server),
            [format!("/tenant{OPENID}"), format!("{RFC_8414}/tenant"), "/tenant/token".to_owned()]
        );
        // If there is no other document, the first answer is the error.
        let (server, issuer, _) = provider("/tenant").await;
        server.then(reply.clone()).then(Reply::json(404, "{}"));
        let error = fetch(&source(client(&issuer))).await.unwrap_err();
        let is_moved = matches!(&reply, Reply::Http { status, .. } if status == "302");
        assert_eq!(error.is_terminal(), is_moved, "{reply:?}: {error}");
        assert!(error.to_string().contains(OPENID), "{reply:?}: {error}");
    }
}

#[actix::test]
async fn two_places_that_ask_for_a_pause_are_no_refusal() {
    for status in [403, 404, 401] {
        for later in [None, Some("7")] {
            let (server, issuer, document) = provider("/tenant").await;
            server.then(Reply::json(status, "{}").with_header("Retry-After", "5"));
            let second = Reply::json(status, "{}");
            server.then(match later {
                Some(time) => second.with_header("Retry-After", time),
                None => second,
            });
            let source = source(client(&issuer));
            let error = fetch(&source).await.unwrap_err();
            assert!(!error.is_terminal(), "{status}: {error}");
            assert_eq!(error.retry_after(), Some(secs(5)), "{status}: {error}");
            server.then(Reply::json(200, document.to_string()));
            fetch(&source).await.unwrap();
        }
    }
}

#[actix::test]
async fn a_server_that_asks_for_a_pause_is_not_asked_in_another_place() {
    for status in [429, 503] {
        let (server, issuer, _) = provider("").await;
        server.then(Reply::json(status, "{}").with_header("Retry-After", "5"));
        let error = fetch(&source(client(&issuer))).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(secs(5)), "{error}");
        assert_eq!(paths(&server), [OPENID]);
    }
}

#[actix::test]
async fn a_page_instead_of_the_first_document_is_no_document() {
    // A single-page application answers each path with its page.
    for page in ["<!DOCTYPE html><html></html>", "", "Not Found", "null"] {
        let (server, issuer, document) = provider("/tenant").await;
        server.then(Reply::text(200, "text/html", page)).then(Reply::json(200, document.to_string()));
        let token = fetch(&source(client(&issuer))).await;
        assert!(token.is_ok(), "{page}: {token:?}");
        assert_eq!(paths(&server)[1], format!("{RFC_8414}/tenant"));
    }
}

#[actix::test]
async fn the_issuer_is_the_same_to_the_letter() {
    type Change = fn(&str) -> String;
    let changes: [Change; 7] = [
        |issuer| format!("{issuer}/"),
        |issuer| issuer.replace("http", "HTTP"),
        |issuer| issuer.replace("127.0.0.1", "localhost"),
        |issuer| issuer.replace("%2F", "%2f"),
        |issuer| issuer.replace("tenant", "Tenant"),
        |issuer| format!("{issuer}?x"),
        |issuer| format!(" {issuer}"),
    ];
    for change in changes {
        let (server, issuer, mut document) = provider("/tenant%2Fa").await;
        document["issuer"] = json!(change(&issuer));
        server.then(Reply::json(200, document.to_string()));
        let error = fetch(&source(client(&issuer))).await.unwrap_err();
        assert!(error.is_terminal(), "{error}");
        assert!(error.to_string().contains("to the letter"), "{error}");
        assert_eq!(server.asked().len(), 1, "nothing is sent to the server of another issuer");
    }
    for odd in [json!(null), json!(7), json!(["x"]), json!({})] {
        let (outcome, server) = with_document(|document| document["issuer"] = odd).await;
        assert!(outcome.unwrap_err().is_terminal());
        assert_eq!(server.asked().len(), 1);
    }
    // A slash at the end is part of the name; both forms are found.
    let (server, issuer, mut document) = provider("/tenant").await;
    let issuer = format!("{issuer}/");
    document["issuer"] = json!(issuer);
    server.then(Reply::json(200, document.to_string()));
    fetch(&source(client(&issuer))).await.unwrap();
    assert_eq!(paths(&server)[0], format!("/tenant{OPENID}"));
}

#[actix::test]
async fn a_redirect_at_the_well_known_place_is_refused() {
    let target = FakeAuthServer::start().await.unwrap();
    for status in [301, 302, 303, 307, 308] {
        let (server, issuer, _) = provider("").await;
        for _ in 0..2 {
            server.then(Reply::text(status, "text/html", "").with_header("Location", target.url()));
        }
        let error = fetch(&source(client(&issuer))).await.unwrap_err();
        assert!(error.is_terminal(), "{error}");
        assert!(error.to_string().contains("redirect"), "{error}");
        assert!(paths(&server).iter().all(|path| path != "/token"));
    }
    assert!(target.asked().is_empty());
}

#[actix::test]
async fn a_document_names_no_place_in_clear() {
    for url in ["http://auth.example.com/token", "HTTP://AUTH.example.com/token", "http://10.0.0.1/token"] {
        let (outcome, server) = with_document(|document| document["token_endpoint"] = json!(url)).await;
        let error = outcome.unwrap_err();
        assert!(error.is_terminal(), "{error}");
        assert!(error.to_string().contains("token_endpoint"), "{error}");
        assert_eq!(server.asked().len(), 1);
    }
    for odd in ["", "/token", "ftp://127.0.0.1/", "https://u:s3cret@a.example/", "javascript:1", "https://"] {
        let (outcome, _) = with_document(|document| document["token_endpoint"] = json!(odd)).await;
        let error = outcome.unwrap_err();
        assert!(error.is_terminal() && !error.to_string().contains("s3cret"), "{odd}: {error}");
    }
    let (outcome, _) = with_document(|document| document["token_endpoint"] = json!(7)).await;
    assert!(outcome.unwrap_err().to_string().contains("no `token_endpoint`"));
    // An alias counts only for a client with a certificate.
    let alias = |document: &mut Value| {
        document["mtls_endpoint_aliases"] = json!({ "token_endpoint": "http://auth.example.com/token" });
    };
    let (outcome, _) = with_document(alias).await;
    outcome.unwrap();
    // Loopback may be in clear also at another port, and other machines by choice.
    let (server, issuer, mut document) = provider("").await;
    document["token_endpoint"] = json!("http://auth.invalid/token");
    server.then(Reply::json(200, document.to_string()));
    let error = fetch(&source(client(&issuer).allow_http())).await.unwrap_err();
    assert!(!error.is_terminal() && error.to_string().contains("auth.invalid"), "{error}");
}

/// Okta's custom servers do not list `client_credentials`, and serve it. Keycloak does not list the token exchange.
#[test]
fn a_grant_that_the_document_does_not_list_is_asked_for_with_one_warn() {
    let name = "oauth::odd_discovery::a_grant_that_the_document_does_not_list_is_asked_for_with_one_warn";
    if let Some(mut child) = in_its_own_process(name) {
        let written = all_that_is_written_by(&mut child);
        for grant in ["\"client_credentials\"", "token-exchange\""] {
            let of_it = |line: &&str| line.contains("WARN") && line.contains(grant);
            assert_eq!(written.lines().filter(of_it).count(), 1, "{grant}: {written}");
        }
        assert!(
            written.contains("[\"authorization_code\", \"implicit\"] (`grant_types_supported`)"),
            "{written}"
        );
        return;
    }
    env_logger::builder().filter_level(log::LevelFilter::Warn).init();
    actix_rt::System::new().block_on(async {
        let (server, issuer, mut document) = provider("").await;
        document["grant_types_supported"] = json!(["authorization_code", "implicit"]);
        server.then(Reply::json(200, document.to_string()));
        let client = client(&issuer).build().unwrap();
        let clock = ManualClock::new();
        let cx = || FetchContext::new(Reason::First).with_clock(Arc::new(clock.clone()));
        let plain = client.client_credentials().build().unwrap();
        let exchange = client.token_exchange(source_fn(|_cx| async { Ok(Token::new("a")) })).build().unwrap();
        for _ in 0..3 {
            plain.fetch(cx()).await.unwrap();
            let answer = json!({ "access_token": "a", "issued_token_type": "x" });
            server.then(Reply::json(200, answer.to_string()));
            exchange.fetch(cx()).await.unwrap();
        }
        // The same document is told of once, also when it is requested again.
        clock.suspend(secs(3_601));
        server.then(Reply::json(200, document.to_string()));
        plain.fetch(cx()).await.unwrap();
        assert_eq!(paths(&server).iter().filter(|path| path.contains("well-known")).count(), 2);
    });
}

#[actix::test]
async fn what_the_server_does_not_support_is_refused_before_the_secret_is_sent() {
    for (field, list) in [
        ("token_endpoint_auth_methods_supported", json!(["private_key_jwt"])),
        ("token_endpoint_auth_methods_supported", json!(["none", "tls_client_auth"])),
    ] {
        let (outcome, server) = with_document(|document| document[field] = list.clone()).await;
        let error = outcome.unwrap_err();
        assert!(error.is_terminal(), "{field} {list}: {error}");
        assert_eq!(server.asked().len(), 1, "{field} {list}");
    }
    for (list, is_basic) in [
        (json!(["client_secret_post"]), false),
        (json!(["client_secret_basic"]), true),
        (json!(["client_secret_post", "client_secret_basic"]), true),
        (json!(null), true),
        (json!("client_secret_post"), true),
        (json!(["private_key_jwt", "client_secret_post", 7]), false),
    ] {
        let change = |document: &mut Value| document["token_endpoint_auth_methods_supported"] = list.clone();
        let (outcome, server) = with_document(change).await;
        outcome.unwrap();
        let asked = server.asked().pop().unwrap();
        assert_eq!(asked.header("authorization").is_some(), is_basic, "{list}");
        assert_eq!(asked.body.contains("client_secret="), !is_basic, "{list}: {}", asked.body);
    }
}

#[actix::test]
async fn a_document_that_is_too_large_or_too_odd_is_an_error() {
    let large = |document: &mut Value| document["more"] = json!("x".repeat(1024 * 1024));
    let (outcome, server) = with_document(large).await;
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("`max_body`"), "{error}");
    assert_eq!(server.asked().len(), 1);
    let (server, issuer, mut document) = provider("").await;
    large(&mut document);
    server.then(Reply::json(200, document.to_string()));
    fetch(&source(client(&issuer).max_body(2 * 1024 * 1024))).await.unwrap();
    for status in [500, 502, 503, 429, 408] {
        let (server, issuer, document) = provider("").await;
        server.then(Reply::json(status, "{}").with_header("Retry-After", "7"));
        let source = source(client(&issuer));
        let error = fetch(&source).await.unwrap_err();
        assert!(!error.is_terminal(), "{error}");
        assert_eq!(error.retry_after(), Some(secs(7)), "{error}");
        server.then(Reply::json(200, document.to_string()));
        fetch(&source).await.unwrap();
    }
    for body in ["[]", "7", "{}", "{\"issuer\":"] {
        let (server, issuer, _) = provider("").await;
        server.then(Reply::json(200, body)).then(Reply::json(404, "{}"));
        assert!(fetch(&source(client(&issuer))).await.is_err(), "{body}");
        assert!(paths(&server).iter().all(|path| path != "/token"));
    }
}

#[actix::test]
async fn the_old_document_is_used_while_there_is_no_new_one() {
    let (server, issuer, document) = provider("").await;
    let clock = ManualClock::new();
    let source = source(client(&issuer));
    let again = async || {
        let before = server.asked().len();
        let cx = FetchContext::new(Reason::First).with_clock(Arc::new(clock.clone()));
        let outcome = source.fetch(cx).await;
        (outcome, paths(&server).split_off(before))
    };
    server.then(Reply::json(200, document.to_string()));
    assert_eq!(again().await.1, [OPENID, "/token"]);
    assert_eq!(again().await.1, ["/token"], "it is kept");
    let odd = [
        Reply::json(503, "{}"),
        Reply::text(200, "text/html", "<html>"),
        Reply::Close,
        Reply::json(200, r#"{"issuer":"https://evil.example"}"#),
        Reply::text(302, "text/html", "").with_header("Location", "/x"),
        Reply::json(200, "x".repeat(100_000)),
    ];
    for reply in odd {
        clock.suspend(HOUR * 2);
        server.then(reply.clone());
        if matches!(&reply, Reply::Http { status, headers, .. } if status == "200" && headers[0].1 == "text/html")
        {
            server.then(Reply::json(404, "{}"));
        }
        let (outcome, _) = again().await;
        assert!(outcome.is_ok(), "{reply:?}: {outcome:?}");
        let (outcome, asked) = again().await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(asked, ["/token"], "not at once again");
    }
    // A new document moves the endpoint.
    clock.suspend(HOUR * 2);
    let mut moved = document.clone();
    moved["token_endpoint"] = json!(format!("{issuer}/elsewhere"));
    server.then(Reply::json(200, moved.to_string()));
    let (outcome, asked) = again().await;
    assert!(outcome.is_ok());
    assert_eq!(asked, [OPENID, "/elsewhere"]);
}

#[actix::test]
async fn no_secret_goes_to_the_well_known_place() {
    let (server, issuer, document) = provider("").await;
    server.then(Reply::json(404, "{}")).then(Reply::json(200, document.to_string()));
    let source =
        client(&issuer).build().unwrap().client_credentials().extra("pin", "hunter2").build().unwrap();
    fetch(&source).await.unwrap();
    let asked = server.asked();
    for asked in &asked[..2] {
        assert!(asked.head.starts_with("GET ") && asked.body.is_empty(), "{}", asked.head);
        assert_eq!(asked.header("authorization"), None);
        assert!(!asked.head.contains("hunter2"));
    }
    assert_eq!(asked.len(), 3);
}
