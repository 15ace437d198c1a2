//! A GitHub App's installation tokens, at a server with GitHub's rules.

use std::time::SystemTime;

use tokenflight::clock::{Clock, SystemClock};
use tokenflight::middleware::reqwest::{BearerAuth, SendWith};
use tokenflight::oauth::PrivateKey;
use tokenflight::source::{GithubApp, GithubAppBuilder};
use tokenflight::testing::{Reply, fakes};
use tokenflight::{FetchContext, Reason, SourceError, Token, TokenActor, TokenSource};

use crate::file_token::Folder;
use crate::http_sources::assert_field;
use crate::support::*;

pub(crate) const RSA: &str = include_str!("../../src/oauth/jws/tests/keys/rsa_pkcs1.pem");
const OTHER_RSA: &str = include_str!("../../src/oauth/jws/tests/keys/rsa_other.pem");
const P256: &str = include_str!("../../src/oauth/jws/tests/keys/p256.pem");

pub(crate) fn key(pem: &str) -> PrivateKey {
    PrivateKey::from_pem(pem).unwrap()
}

async fn fetch(source: &impl TokenSource) -> Result<Token, SourceError> {
    source.fetch(FetchContext::new(Reason::First)).await
}

fn app(server: &fakes::GithubApi) -> GithubAppBuilder {
    GithubApp::builder("12345", 42).private_key(key(RSA)).base_url(server.base_url())
}

async fn github() -> (fakes::GithubApi, GithubApp) {
    let server = fakes::GithubApi::start(key(RSA).public_jwk()).await.unwrap();
    let source = app(&server).build().unwrap();
    (server, source)
}

#[actix::test]
async fn a_jwt_of_the_app_gets_a_token_of_an_hour() {
    let (server, source) = github().await;
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.authorization(), "Bearer ghs_1");
    let left = token.remaining().unwrap();
    assert!(left <= secs(3600) && left > secs(3590), "{left:?}");
    let asked = &server.asked()[0];
    assert!(asked.head.starts_with("POST /app/installations/42/access_tokens HTTP"), "{}", asked.head);
    assert_eq!(asked.header("accept"), Some("application/vnd.github+json"));
    assert_eq!(asked.header("x-github-api-version"), Some("2022-11-28"));
    assert_eq!((asked.body.as_str(), asked.header("content-length")), ("", Some("0")));
    fetch(&source).await.unwrap();
    let jwt = |index: usize| server.asked()[index].header("authorization").unwrap().to_owned();
    assert_ne!(jwt(0), jwt(1), "a JWT of its own for each request");
}

#[actix::test]
async fn permissions_and_repositories_are_asked_for_by_name() {
    let (server, _) = github().await;
    let source = app(&server).permission("issues", "read").repository("stock").repository("orders");
    fetch(&source.repository_id(7).build().unwrap()).await.unwrap();
    let body = r#"{"permissions":{"issues":"read"},"repositories":["orders","stock"],"repository_ids":[7]}"#;
    assert_eq!(server.asked()[0].body, body);
    for source in [
        app(&server).permission("issues", "write"),
        app(&server).permission("metadata", "write"),
        app(&server).repository("other"),
        app(&server).repository_id(999),
    ] {
        let error = fetch(&source.build().unwrap()).await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains("422"), "{error}");
    }
    // Each installation has this permission.
    fetch(&app(&server).permission("metadata", "read").repository_id(8).build().unwrap()).await.unwrap();
}

#[actix::test]
async fn github_refuses_a_body_that_is_no_json_object_and_all_requests_of_a_suspended_installation() {
    let (server, source) = github().await;
    let token = fetch(&source).await.unwrap();
    let jwt = server.asked()[0].header("authorization").unwrap().to_owned();
    let client = reqwest::Client::builder().user_agent("orders").build().unwrap();
    let grant = async |body: &'static str| {
        let url = format!("{}/app/installations/42/access_tokens", server.base_url());
        client.post(url).header("authorization", &jwt).body(body).send().await.unwrap().status()
    };
    for (body, status) in [
        ("", 201),
        ("{}", 201),
        ("permissions=read", 400),
        ("{", 400),
        ("[]", 400),
        (r#"{"repositories":5}"#, 422),
    ] {
        assert_eq!(grant(body).await, status, "{body}");
    }
    let repositories = async |authorization: &str| {
        let url = format!("{}/installation/repositories", server.base_url());
        client.get(url).header("authorization", authorization).send().await.unwrap().status()
    };
    let bearer = token.authorization().to_str().unwrap().to_owned();
    assert_eq!(repositories(&bearer).await, 200);
    server.suspend();
    assert_eq!(repositories(&bearer).await, 403);
    assert_eq!(grant("").await, 403);
    assert_eq!(repositories("Bearer ghs_9").await, 401);
}

#[actix::test]
async fn githubs_clock_may_be_off_by_any_number_of_seconds() {
    for ahead in [i64::MIN, -3_000_000_000, 300_000_000_000, i64::MAX - 3_000_000_000, i64::MAX] {
        let (server, source) = github().await;
        server.clock_ahead(ahead);
        let error = fetch(&source).await.map(drop).err().map(|error| error.to_string());
        assert!(error.is_none_or(|error| error.contains("answered 401")), "an answer for {ahead}");
    }
}

#[actix::test]
async fn what_github_refuses_for_good_is_terminal_and_quoted_and_shows_no_jwt() {
    let (server, source) = github().await;
    let other = GithubApp::builder("12345", 43).private_key(key(RSA)).base_url(server.base_url());
    let error = fetch(&other.build().unwrap()).await.unwrap_err();
    assert!(error.is_terminal() && error.to_string().contains("404 Not Found: Not Found"), "{error}");
    let other = GithubApp::builder("67890", 42).private_key(key(RSA)).base_url(server.base_url());
    assert!(fetch(&other.build().unwrap()).await.unwrap_err().is_terminal());
    server.rotate(key(OTHER_RSA).public_jwk());
    let error = fetch(&source).await.unwrap_err();
    assert!(error.is_terminal() && error.to_string().contains("could not be decoded"), "{error}");
    server.rotate(key(RSA).public_jwk()).suspend();
    let error = fetch(&source).await.unwrap_err();
    assert!(error.is_terminal() && error.to_string().contains("has been suspended"), "{error}");
    let jwt = server.asked()[0].header("authorization").unwrap().replace("Bearer ", "");
    server.then(Reply::json(401, format!(r#"{{"message":"bad {jwt}"}}"#)));
    assert!(!fetch(&source).await.unwrap_err().to_string().contains(&jwt[jwt.len() - 20..]));
}

/// The time of a server's answer, and one that is so many seconds later.
fn unix_in(seconds: u64) -> String {
    let now = SystemClock.now().wall.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    (now.as_secs() + seconds).to_string()
}

#[actix::test]
async fn a_rate_limit_is_waited_out_and_is_no_refusal() {
    let (server, source) = github().await;
    let limited = |status| Reply::json(status, r#"{"message":"API rate limit exceeded for installation."}"#);
    let secondary = r#"{"message":"You have exceeded a secondary rate limit."}"#;
    for (reply, from, to) in [
        (limited(403).with_header("Retry-After", "7"), 7, 7),
        (limited(429).with_header("retry-after", "9"), 9, 9),
        (
            limited(403)
                .with_header("x-ratelimit-remaining", "0")
                .with_header("x-ratelimit-reset", unix_in(30)),
            25,
            30,
        ),
        (
            limited(429).with_header("x-ratelimit-remaining", "0").with_header("x-ratelimit-reset", "1000"),
            1,
            1,
        ),
        (Reply::json(403, secondary), 60, 60),
        (Reply::json(429, secondary), 60, 60),
        (Reply::text(429, "text/html", "<html>"), 60, 60),
        (Reply::json(403, r#"{"message":"You have triggered an abuse detection mechanism."}"#), 60, 60),
    ] {
        server.then(reply.clone());
        let error = fetch(&source).await.unwrap_err();
        let pause = error.retry_after().unwrap();
        assert!(!error.is_terminal() && (secs(from)..=secs(to)).contains(&pause), "{reply:?}: {pause:?}");
    }
    for (reply, is_terminal) in [
        (Reply::json(403, r#"{"message":"Resource not accessible by integration"}"#), true),
        (
            limited(403).with_header("x-ratelimit-remaining", "12").with_header("x-ratelimit-reset", "9"),
            false,
        ),
        (Reply::json(500, "{}"), false),
        (Reply::text(502, "text/html", "<html>"), false),
        (Reply::json(201, "{}"), false),
        (Reply::text(302, "text/html", "").with_header("Location", "http://evil.example/"), true),
    ] {
        server.then(reply.clone());
        assert_eq!(fetch(&source).await.unwrap_err().is_terminal(), is_terminal, "{reply:?}");
    }
}

#[actix::test]
async fn a_clock_that_is_off_costs_one_attempt() {
    for ahead in [-7_200, -90, 90, 7_200] {
        let (server, source) = github().await;
        server.clock_ahead(ahead);
        let policy = plain().attempts(2).backoff(millis(1));
        let handle = TokenActor::builder(source).policy(policy).start().unwrap();
        let token = handle.get().await.unwrap();
        assert_eq!(token.secret(), "ghs_1", "{ahead}");
        let left = token.remaining().unwrap();
        assert!(left <= secs(3600) && left > secs(3590), "by GitHub's clock: {left:?}");
        assert!(server.asked().len() <= 2, "{ahead}");
    }
    // Where the clocks agree, a refused JWT is refused for good.
    let (server, source) = github().await;
    server.rotate(key(OTHER_RSA).public_jwk());
    let handle = TokenActor::builder(source).policy(plain().attempts(2)).start().unwrap();
    assert!(handle.get().await.unwrap_err().is_rejected());
    assert_eq!(server.asked().len(), 1);
}

#[actix::test]
async fn a_key_that_is_rotated_in_its_file_is_used_at_once() {
    let (server, _) = github().await;
    let folder = Folder::new();
    let path = folder.write("app.pem", RSA);
    let source = GithubApp::builder("12345", 42).private_key_file(&path).base_url(server.base_url());
    let source = source.build().unwrap();
    fetch(&source).await.unwrap();
    folder.write("app.pem", OTHER_RSA);
    server.rotate(key(OTHER_RSA).public_jwk());
    assert_eq!(fetch(&source).await.unwrap().secret(), "ghs_2");
    folder.write("app.pem", P256);
    assert_eq!(fetch(&source).await.unwrap().secret(), "ghs_3", "the last key stays in use");
}

#[actix::test]
async fn a_token_that_githubs_replicas_do_not_know_yet_is_shown_again_when_it_has_settled() {
    let (server, source) = github().await;
    server.late(millis(300));
    let policy = plain().settle(millis(600));
    let tokens = TokenActor::builder(source).policy(policy).start().unwrap();
    let auth = BearerAuth::builder(&tokens).allow(server.base_url()).build().unwrap();
    let url = format!("{}/installation/repositories", server.base_url());
    let client = reqwest::Client::builder().user_agent("orders").build().unwrap();
    let answer = client.get(url).send_with(&auth).await.unwrap();
    assert_eq!(answer.status(), 200);
    let paths: Vec<_> =
        server.asked().iter().map(|asked| asked.head.split(' ').nth(1).unwrap().len()).collect();
    assert_eq!(paths.len(), 3, "one token, and one request twice");
}

#[actix::test]
async fn settings_of_an_app_are_checked_and_show_no_key() {
    let (server, source) = github().await;
    let bare = || GithubApp::builder("12345", 42);
    assert_field(GithubApp::builder("", 42).private_key(key(RSA)).build(), "app_id");
    assert_field(bare().build(), "private_key");
    assert_field(bare().private_key(key(P256)).build(), "private_key");
    assert_field(bare().private_key(key(RSA)).private_key_file("x").build(), "private_key_file");
    assert_field(bare().private_key_file("/nowhere/at/all").build(), "private_key_file");
    assert_field(bare().private_key(key(RSA)).base_url("http://github.example").build(), "base_url");
    assert_field(bare().private_key(key(RSA)).base_url("https://a.example/?x").build(), "base_url");
    let many = (0..501).fold(bare().private_key(key(RSA)), GithubAppBuilder::repository_id);
    assert_field(many.build(), "repositories");
    let folder = Folder::new();
    let settings = serde_json::json!({
        "app_id": 12345, "installation_id": 42, "private_key_file": folder.write("key.pem", RSA),
        "permissions": { "contents": "read" }, "repositories": ["orders"], "base_url": server.base_url(),
        "timeout": "2s",
    });
    let read = serde_json::from_value::<GithubAppBuilder>(settings).unwrap();
    let secret = RSA.lines().nth(3).unwrap();
    assert!(!format!("{read:?} {source:?}").contains(secret));
    fetch(&read.build().unwrap()).await.unwrap();
    let error = serde_json::from_str::<GithubAppBuilder>(r#"{"app_id":1,"installation_id":2,"kye":3}"#);
    assert!(error.unwrap_err().to_string().contains("unknown field `kye`"));
    let mut parts = Vec::new();
    source.identify(&mut |name, value| parts.push(format!("{name}={value}")));
    assert!(parts.contains(&"app_id=12345".to_owned()) && !parts.iter().any(|part| part.contains("unnamed")));
}
