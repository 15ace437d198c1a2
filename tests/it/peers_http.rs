//! Faults that other token caches showed with a misbehaving auth server, one test per case.

use tokenflight::source::ClientCredentials;
use tokenflight::testing::{FakeAuthServer, ManualClock, Reply};
use tokenflight::{RefreshPolicy, TokenActor, TokenHandle};

use crate::support::*;

struct Service {
    server: FakeAuthServer,
    clock: ManualClock,
    tokens: TokenHandle,
}

async fn service(policy: RefreshPolicy, replies: impl IntoIterator<Item = Reply>) -> Service {
    let server = FakeAuthServer::start().await.unwrap();
    for reply in replies {
        server.then(reply);
    }
    let source = ClientCredentials::builder(server.url(), "client", CLIENT_SECRET).build().unwrap();
    let clock = ManualClock::new();
    let tokens = TokenActor::builder(source).policy(policy).clock(clock.clone()).start().unwrap();
    Service { server, clock, tokens }
}

/// Elsewhere a 503 with the body `{}` is taken for a token without a value, and kept after the server has recovered.
/// Here it is a transient failure like any other: tried again, and forgotten.
#[actix::test]
async fn status_503_with_body_of_an_empty_object() {
    let policy = || plain().backoff(millis(0));
    let one = service(policy(), [Reply::json(503, "{}")]).await;
    assert_eq!(one.tokens.get().await.unwrap().secret(), "token-2", "tried again within the flight");

    let three = service(policy(), vec![Reply::json(503, "{}"); 3]).await;
    let error = three.tokens.get().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(error.to_string().contains("503"), "{error}");
    assert!(three.tokens.current().is_none());
    three.clock.suspend(secs(1));
    assert_eq!(three.tokens.get().await.unwrap().secret(), "token-4", "recovered");
}

/// Elsewhere one HTTP 400 ends the cache for good. Here: no second call within the flight, the known error in the
/// cooldown, and then it recovers.
#[actix::test]
async fn http_400_once_then_healthy() {
    let refusal = Reply::json(400, r#"{"error": "invalid_client"}"#);
    let service = service(plain(), [refusal]).await;
    for _ in 0..3 {
        let error = service.tokens.get().await.unwrap_err();
        assert!(error.is_rejected() && error.to_string().contains("invalid_client"), "{error}");
    }
    assert_eq!(service.server.asked().len(), 1);
    service.clock.suspend(secs(5));
    assert_eq!(service.tokens.get().await.unwrap().secret(), "token-2");
}

/// Elsewhere a request goes out without a token when there is none to be had. Here there is no way to one: each of
/// these answers is an error, and no token with nothing in it comes out.
#[actix::test]
async fn no_token_to_be_had() {
    for answer in [
        Reply::json(200, "{}"),
        Reply::json(200, r#"{"access_token": ""}"#),
        Reply::json(200, r#"{"access_token": null, "token_type": "Bearer"}"#),
        Reply::json(200, r#"{"access_token": "two words", "token_type": "Bearer"}"#),
        Reply::json(401, r#"{"error": "invalid_client"}"#),
        Reply::text(200, "text/html", "<html>please log in</html>"),
        Reply::Close,
    ] {
        let service = service(plain().attempts(1), [answer.clone()]).await;
        let api = FakeAuthServer::start().await.unwrap();
        assert!(call(&api, &service.tokens).await.is_err(), "{answer:?}");
        assert!(service.tokens.current().is_none(), "{answer:?}");
        assert!(api.asked().is_empty(), "no token, no request: {answer:?}");
        // The twin that passes: with a token the same call goes out, and carries it.
        service.clock.suspend(secs(5));
        call(&api, &service.tokens).await.unwrap();
        assert_eq!(api.asked()[0].header("authorization"), Some("Bearer token-2"), "{answer:?}");
    }
}

/// A request as an application makes it.
async fn call(api: &FakeAuthServer, tokens: &TokenHandle) -> Result<(), Box<dyn std::error::Error>> {
    let token = tokens.get().await?;
    let request = reqwest::Client::new().get(api.url()).header("authorization", token.authorization());
    request.send().await?;
    Ok(())
}

const CLIENT_SECRET: &str = "client-s3cret-do-not-print";
const TOKEN_SECRET: &str = "access-s3cret-do-not-print";
/// `client:<CLIENT_SECRET>` in base64, as HTTP Basic sends it.
const BASIC: &str = "Y2xpZW50OmNsaWVudC1zM2NyZXQtZG8tbm90LXByaW50";

/// Elsewhere a derived `Debug` prints the token into the log. Here: neither it nor the client's secret is in anything
/// that the program writes, with every crate's log at trace, everything shown, and a panic.
#[test]
fn token_in_logs() {
    let Some(mut child) = in_its_own_process("peers_http::token_in_logs") else {
        return actix_rt::System::new().block_on(tell_all());
    };
    let text = all_that_is_logged_by(&mut child);
    for told in
        ["refresh started", "refreshed in", "an outage begins", "[redacted]", "Sensitive", "boom", "503"]
    {
        assert!(text.contains(told), "it does tell: {told:?} is missing in\n{text}");
    }
    for secret in [TOKEN_SECRET, CLIENT_SECRET, BASIC] {
        assert!(!text.contains(secret), "{secret} in\n{text}");
    }
}

/// Success, failure, discard, panic: all of it logged, all of it shown.
async fn tell_all() {
    env_logger::init();
    let token =
        format!(r#"{{"access_token": "{TOKEN_SECRET}", "token_type": "Bearer", "expires_in": 3600}}"#);
    let echo = format!(r#"{{"error": "invalid_client", "error_description": "no {CLIENT_SECRET} here"}}"#);
    let replies = [
        Reply::json(200, &token),
        Reply::json(503, &token),
        Reply::json(400, echo),
        Reply::text(200, "text/html", &token),
    ];
    let service = service(plain().attempts(1), replies).await;
    let token = service.tokens.get().await.unwrap();
    println!("{token:?} {:?} {:?}", token.authorization(), service.tokens);
    println!("{:?} {:?}", service.tokens.watch(), tokenflight::Invalidate(token.clone()));
    service.tokens.discard(&token);
    for _ in 0..3 {
        let error = service.tokens.get().await.unwrap_err();
        println!("{error} {error:?} {:?}", std::error::Error::source(&error));
        service.clock.suspend(secs(60));
    }
    println!("{:?}", service.tokens.status().await.unwrap());

    let source = tokenflight::source_fn(move |_| {
        let _held = token.clone();
        async { panic!("boom") }
    });
    let tokens = TokenActor::builder(source).start().unwrap();
    println!("{:?}", tokens.get().await.unwrap_err());
}
