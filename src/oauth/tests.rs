//! The meaning of a token endpoint's answer for a refresh token, and for a client that another attempt may help.

mod clocks;
mod explained;
mod in_files;
mod settings;
mod unrotated;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Client, ClientAuth};
use crate::clock::{Clock, SystemClock};
use crate::error::SourceError;
use crate::jwt::Claims;
use crate::source::{AfterCrash, FetchContext, NeedsLogin, Reason, RefreshToken, TokenSource, source_fn};
use crate::testing::{FakeAuthServer, Reply};
use crate::token::Token;
use crate::vault::{MemoryVault, RefreshTokenStore, State};

const LONG_SECRET: &str = "a secret of more than thirty-two characters";
const TWO_HOURS: Duration = Duration::from_secs(7_200);

async fn fetch(source: &impl TokenSource) -> Result<Token, SourceError> {
    source.fetch(FetchContext::new(Reason::First)).await
}

fn client(server: &FakeAuthServer) -> Client {
    Client::builder(server.url(), "app").secret("s3cret").build().unwrap()
}

fn rotating(client: &Client, vault: &MemoryVault) -> RefreshToken<MemoryVault> {
    client.refresh_token(vault.clone()).login("r1").after_crash(AfterCrash::NeedsLogin).build().unwrap()
}

async fn stored(vault: &MemoryVault) -> (String, State) {
    let stored = vault.load().await.unwrap().unwrap();
    (stored.record().refresh_token().to_owned(), stored.record().state().clone())
}

/// The refresh tokens that the server has received.
fn received(server: &FakeAuthServer) -> Vec<String> {
    let bodies = server.asked().into_iter().map(|asked| asked.body);
    bodies.map(|body| field(&body, "refresh_token").unwrap()).collect()
}

fn field(body: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(body.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// An answer of a server whose clock is two hours ahead.
fn ahead(status: u16, body: &Value) -> Reply {
    let date = httpdate::fmt_http_date(SystemClock.now().wall + TWO_HOURS);
    Reply::json(status, body.to_string()).with_header("Date", date)
}

fn good() -> Reply {
    Reply::json(200, json!({ "access_token": "a9", "expires_in": 600 }).to_string())
}

#[tokio::test]
async fn a_new_refresh_token_beside_an_error_is_kept() {
    let server = FakeAuthServer::start().await.unwrap();
    let vault = MemoryVault::new();
    let source = rotating(&client(&server), &vault);
    let answer = json!({ "access_token": "a2", "refresh_token": "r2", "error": "partial" });
    server.then(Reply::json(200, answer.to_string())).then(good());
    let error = fetch(&source).await.unwrap_err();
    assert!(error.to_string().contains("partial"), "{error}");
    assert_eq!(stored(&vault).await, ("r2".to_owned(), State::Idle));
    assert_eq!(fetch(&source).await.unwrap().secret(), "a9");
    assert_eq!(received(&server), ["r1", "r2"]);
}

#[tokio::test]
async fn an_error_that_says_that_nothing_has_failed_is_no_error() {
    let server = FakeAuthServer::start().await.unwrap();
    for error in ["none", " None ", "0", "false", "null", "ok", "success", "no_error"] {
        let vault = MemoryVault::new();
        let source = rotating(&client(&server), &vault);
        let answer = json!({ "access_token": "a2", "refresh_token": "r2", "error": error });
        server.then(Reply::json(200, answer.to_string()));
        assert_eq!(fetch(&source).await.expect(error).secret(), "a2");
        assert_eq!(stored(&vault).await, ("r2".to_owned(), State::Idle));
    }
}

#[tokio::test]
async fn what_a_proxy_writes_says_nothing_of_the_refresh_token() {
    let server = FakeAuthServer::start().await.unwrap();
    for (status, error) in [
        (408, "Request Timeout"),
        (408, "invalid_request"),
        (404, "Not Found"),
        (409, "Conflict"),
        (499, "Client Closed Request"),
        (403, "<html>"),
        (400, "Bad Request"),
    ] {
        let vault = MemoryVault::new();
        let source = rotating(&client(&server), &vault);
        let before = server.asked().len();
        server.then(Reply::json(status, json!({ "error": error }).to_string()));
        let first = fetch(&source).await.unwrap_err();
        assert!(first.is_ambiguous(), "{status} {error}: {first}");
        let second = fetch(&source).await.unwrap_err();
        assert!(second.cause::<NeedsLogin>().is_some(), "{status} {error}: {second}");
        assert_eq!(server.asked().len(), before + 1, "{status} {error}: it was sent again");
    }
    for code in ["invalid_scope", "interaction_required", "e4.x-1"] {
        let vault = MemoryVault::new();
        let source = rotating(&client(&server), &vault);
        server.then(Reply::json(400, json!({ "error": code }).to_string()));
        fetch(&source).await.unwrap_err();
        assert_eq!(stored(&vault).await, ("r1".to_owned(), State::Idle), "{code}");
    }
}

/// When the JWT was signed, by its own account.
fn signed_at(jwt: &str) -> SystemTime {
    Claims::of(jwt).unwrap().moment("iat").unwrap()
}

fn is_ahead(time: SystemTime) -> bool {
    time > SystemClock.now().wall + TWO_HOURS / 2
}

#[tokio::test]
async fn a_refresh_token_survives_a_wrong_clock_of_the_client() {
    let server = FakeAuthServer::start().await.unwrap();
    let client = Client::builder(server.url(), "app").secret(LONG_SECRET);
    let client = client.auth_method(ClientAuth::ClientSecretJwt).build().unwrap();
    let vault = MemoryVault::new();
    let source = rotating(&client, &vault);
    server.then(ahead(401, &json!({ "error": "invalid_client" }))).then(good());
    let error = fetch(&source).await.unwrap_err();
    assert!(!error.is_terminal() && !error.is_ambiguous(), "{error}");
    assert_eq!(stored(&vault).await, ("r1".to_owned(), State::Idle));
    assert_eq!(fetch(&source).await.unwrap().secret(), "a9");
    let jwt = |asked: usize| field(&server.asked()[asked].body, "client_assertion").unwrap();
    assert!(!is_ahead(signed_at(&jwt(0))) && is_ahead(signed_at(&jwt(1))));
    // The clock is known by now.
    server.then(ahead(401, &json!({ "error": "invalid_client" })));
    assert!(fetch(&rotating(&client, &MemoryVault::new())).await.unwrap_err().is_terminal());
}

#[tokio::test]
async fn a_wrong_clock_does_not_excuse_a_refused_refresh_token() {
    let server = FakeAuthServer::start().await.unwrap();
    let client = Client::builder(server.url(), "app").secret(LONG_SECRET);
    let client = client.auth_method(ClientAuth::ClientSecretJwt).build().unwrap();
    let vault = MemoryVault::new();
    server.then(ahead(400, &json!({ "error": "invalid_grant" })));
    let error = fetch(&rotating(&client, &vault)).await.unwrap_err();
    assert!(error.cause::<NeedsLogin>().is_some(), "{error}");
    assert!(matches!(stored(&vault).await.1, State::Dead { .. }));
}

/// A client whose provider gives another secret each time, after `same` equal ones. Then it fails.
fn changing(server: &FakeAuthServer, same: usize, most: usize) -> (Client, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let client = Client::builder(server.url(), "app").secret_fn(move || {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        let secret = format!("s3cret-{}", call.saturating_sub(same));
        async move { if call < most { Ok(secret) } else { Err(std::io::Error::other("sealed")) } }
    });
    (client.build().unwrap(), calls)
}

#[tokio::test]
async fn a_secret_that_was_replaced_meanwhile_is_tried_once_more() {
    let server = FakeAuthServer::start().await.unwrap();
    let refused = || Reply::json(401, json!({ "error": "invalid_client" }).to_string());
    for (same, most, may_help) in [(0, 9, true), (9, 9, false), (0, 1, false)] {
        let what = format!("{same} of {most}");
        let vault = MemoryVault::new();
        let source = rotating(&changing(&server, same, most).0, &vault);
        server.then(refused());
        let error = fetch(&source).await.unwrap_err();
        assert_eq!(error.is_terminal(), !may_help, "{what}: {error}");
        assert_eq!(stored(&vault).await, ("r1".to_owned(), State::Idle), "{what}");

        let source = changing(&server, same, most).0.client_credentials().build().unwrap();
        server.then(refused());
        let error = fetch(&source).await.unwrap_err();
        assert_eq!(error.is_terminal(), !may_help, "{what}: {error}");
    }
}

/// A source of assertions that shows the time by which it signs.
fn signing() -> impl TokenSource {
    source_fn(|cx: FetchContext| async move {
        let time = cx.clock().now().wall.duration_since(UNIX_EPOCH).unwrap();
        Ok(Token::new(time.as_secs().to_string()))
    })
}

#[tokio::test]
async fn a_source_that_signs_for_a_client_has_the_server_s_clock() {
    let server = FakeAuthServer::start().await.unwrap();
    let assertion = Client::builder(server.url(), "app").assertion(signing()).build().unwrap();
    let exchanged = json!({
        "access_token": "a9",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    });
    let sources = [
        ("client_assertion", "invalid_client", assertion.client_credentials().build().map(boxed)),
        ("subject_token", "invalid_request", client(&server).token_exchange(signing()).build().map(boxed)),
        ("subject_token", "invalid_grant", client(&server).token_exchange(signing()).build().map(boxed)),
        ("assertion", "invalid_grant", client(&server).jwt_bearer(signing()).build().map(boxed)),
    ];
    for (name, code, source) in sources {
        let (source, asked) = (source.unwrap(), server.asked().len());
        server.then(ahead(400, &json!({ "error": code })));
        server.then(Reply::json(200, exchanged.to_string()));
        let error = fetch(&source).await.unwrap_err();
        assert!(!error.is_terminal(), "{name} {code}: {error}");
        assert_eq!(fetch(&source).await.unwrap().secret(), "a9", "{name} {code}");
        let time = |at: usize| {
            let seconds = field(&server.asked()[asked + at].body, name).unwrap().parse().unwrap();
            UNIX_EPOCH + Duration::from_secs(seconds)
        };
        assert!(!is_ahead(time(0)) && is_ahead(time(1)), "{name} {code}");
    }
}

fn boxed(source: impl TokenSource) -> crate::source::BoxSource {
    crate::source::BoxSource::new(source)
}

#[tokio::test]
async fn one_byte_that_is_no_utf_8_does_not_cost_a_login() {
    let server = FakeAuthServer::start().await.unwrap();
    let vault = MemoryVault::new();
    let source = rotating(&client(&server), &vault);
    let latin = |status: u16, body: &[u8]| Reply::Http {
        status: status.to_string(),
        headers: Vec::new(),
        body: body.to_vec(),
    };
    server.then(latin(400, b"{\"error\":\"slow_down\",\"error_description\":\"sp\xe4ter\"}"));
    let error = fetch(&source).await.unwrap_err();
    assert!(error.to_string().contains("slow_down (sp?ter)"), "{error}");
    assert_eq!(stored(&vault).await, ("r1".to_owned(), State::Idle));
    server.then(latin(200, b"{\"access_token\":\"a2\",\"refresh_token\":\"r2\",\"name\":\"M\xfcller\"}"));
    assert_eq!(fetch(&source).await.unwrap().secret(), "a2");
    assert_eq!(stored(&vault).await, ("r2".to_owned(), State::Idle));

    let garbled: [&[u8]; 2] = [
        b"{\"access_token\":\"s3cret\xff\",\"refresh_token\":\"r2\"}",
        b"{\"access_token\":\"a2\",\"refresh_token\":\"s3cret\xff\"}",
    ];
    for (body, kept) in garbled.into_iter().zip(["r2", "r1"]) {
        let vault = MemoryVault::new();
        server.then(latin(200, body));
        let error = fetch(&rotating(&client(&server), &vault)).await.unwrap_err().to_string();
        assert!(error.contains("is not UTF-8") && !error.contains("s3cret"), "{error}");
        assert_eq!(stored(&vault).await.0, kept);
    }
}

#[tokio::test]
async fn a_source_of_another_token_that_gives_none_sends_nothing() {
    let server = FakeAuthServer::start().await.unwrap();
    for odd in ["", "abc\n"] {
        let link = || source_fn(move |_cx| async move { Ok(Token::new(odd)) });
        let actor = client(&server).token_exchange(signing()).actor(link()).build();
        let assertion = Client::builder(server.url(), "app").assertion(link()).build().unwrap();
        for (name, source) in [
            ("the subject", client(&server).token_exchange(link()).build().map(boxed)),
            ("the actor", actor.map(boxed)),
            ("the assertion", client(&server).jwt_bearer(link()).build().map(boxed)),
            ("the client assertion", assertion.client_credentials().build().map(boxed)),
        ] {
            let error = fetch(&source.unwrap()).await.expect_err(name);
            assert!(!error.is_terminal() && error.to_string().contains(name), "{name}: {error}");
        }
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_line_break_is_no_part_of_a_refresh_token() {
    let server = FakeAuthServer::start().await.unwrap();
    let vault = MemoryVault::new();
    let grant = || client(&server).refresh_token(vault.clone());
    for empty in ["", "\n", "\r\n"] {
        assert_eq!(grant().login(empty).build().unwrap_err().field(), "login");
    }
    let source = grant().login("r1\n").build().unwrap();
    fetch(&source).await.unwrap();
    assert!(source.log_in("\n").await.is_err());
    source.log_in("r7\r\n").await.unwrap();
    fetch(&source).await.unwrap();
    assert_eq!(received(&server), ["r1", "r7"]);
}

#[tokio::test]
async fn the_query_of_the_token_url_is_not_quoted() {
    let server = FakeAuthServer::start().await.unwrap();
    let client = Client::with_token_url(format!("{}?key=s3cret-key-1", server.url()), "app").secret("other");
    let source = client.build().unwrap().client_credentials().build().unwrap();
    let words = json!({ "error": "invalid_client", "error_description": "no key s3cret-key-1" });
    server.then(Reply::json(401, words.to_string()));
    let error = fetch(&source).await.unwrap_err().to_string();
    assert!(error.contains("invalid_client") && !error.contains("s3cret"), "{error}");
}

#[tokio::test]
async fn a_login_is_for_one_query_of_the_token_url() {
    let server = FakeAuthServer::start().await.unwrap();
    let vault = MemoryVault::new();
    let at = |query: &str| {
        let client = Client::with_token_url(format!("{}{query}", server.url()), "app").public();
        rotating(&client.build().unwrap(), &vault)
    };
    fetch(&at("?p=s3cret-one")).await.unwrap();
    fetch(&at("?p=s3cret-one")).await.unwrap();
    for other in ["?p=s3cret-two", ""] {
        let error = fetch(&at(other)).await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains("nothing was sent"), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_lifetime_is_shorter_by_the_age_of_the_answer() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = client(&server).client_credentials().build().unwrap();
    for (age, left) in [("100", 500), ("601", 0), ("odd", 600)] {
        server.then(good().with_header("Age", age));
        let token = fetch(&source).await.unwrap();
        let left = Duration::from_secs(left);
        assert!(token.remaining().unwrap() <= left, "{age}: {:?}", token.remaining());
        assert!(
            token.remaining().unwrap() + Duration::from_secs(60) >= left,
            "{age}: {:?}",
            token.remaining()
        );
    }
}

#[tokio::test]
async fn a_first_place_that_refuses_the_request_leads_to_the_second() {
    let server = FakeAuthServer::start().await.unwrap();
    let document = |grants: Value| {
        let document = json!({
            "issuer": server.base_url(),
            "token_endpoint": server.url(),
            "grant_types_supported": grants,
            "token_endpoint_auth_methods_supported": [],
        });
        Reply::json(200, document.to_string())
    };
    let source = || {
        let client = Client::with_issuer(server.base_url(), "app").secret("s3cret").build().unwrap();
        client.client_credentials().build().unwrap()
    };
    for status in [405, 406, 410] {
        server.then(Reply::json(status, "{}")).then(document(json!([]))).then(good());
        assert_eq!(fetch(&source()).await.expect("the second place").secret(), "a9", "{status}");
    }
    server.then(Reply::json(429, "{}")).then(good());
    let error = fetch(&source()).await.unwrap_err();
    assert!(!error.is_terminal() && error.to_string().contains("429"), "{error}");
}

#[tokio::test]
async fn a_token_type_without_a_letter_is_not_taken_for_bearer() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = client(&server).client_credentials().build().unwrap();
    for (kind, is_bearer) in
        [("", true), (" ", true), ("\u{4ee4}\u{724c}", false), ("***", false), ("-", false)]
    {
        let answer = json!({ "access_token": "a9", "token_type": kind });
        server.then(Reply::json(200, answer.to_string()));
        let outcome = fetch(&source).await;
        assert_eq!(outcome.is_ok(), is_bearer, "{kind:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn the_encoding_of_a_refusal_that_cannot_be_read_is_named() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = client(&server).client_credentials().build().unwrap();
    server.then(Reply::json(401, "\u{1f}\u{8b}").with_header("Content-Encoding", "gzip"));
    let error = fetch(&source).await.unwrap_err().to_string();
    assert!(error.contains("Content-Encoding \"gzip\""), "{error}");
}
