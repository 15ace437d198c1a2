//! Promise 11: every path, with every crate's log at trace and all `Debug` output, contains no secret.

use std::error::Error;
use std::fmt::Debug;

use serde_json::json;
use tokenflight::oauth::{Audience, Certificate, Client, PrivateKey};
use tokenflight::source::{ClientAuth, ClientCredentials, JsonEndpoint, SignedJwt};
use tokenflight::testing::{Answer, FakeAuthServer, ManualClock, Reply, ScriptedSource};
use tokenflight::{
    Discard, FetchContext, GetStatus, GetToken, Invalidate, Refresh, Replace, SourceError, Subscribe, Token,
    TokenActor, TokenError, TokenHandle, TokenReady, TokenSource, source_fn,
};

use crate::support::*;

/// In each secret, and in nothing else.
const MARK: &str = "s3cret";
const CLIENT_SECRET: &str = "client-s3cret";
/// `client:client-s3cret` in base64, as HTTP Basic sends it.
const BASIC: &str = "Y2xpZW50OmNsaWVudC1zM2NyZXQ";

#[test]
fn nothing_that_is_written_holds_a_secret() {
    let Some(mut child) = in_its_own_process("secrets::nothing_that_is_written_holds_a_secret") else {
        return actix_rt::System::new().block_on(every_path());
    };
    let text = all_that_is_logged_by(&mut child);
    let told = [
        "refresh started (first)",
        "refresh started (expired)",
        "refresh started (ahead)",
        "refresh started (rejected)",
        "refresh started (forced)",
        "refreshed in",
        "an outage begins",
        "the outage is over",
        "asking once more",
        "its source gave the same token again",
        "more often than the budget of reports allows",
        "reported as rejected (replace)",
        "reported as rejected (invalidate)",
        "reported as rejected (discard)",
        "next in",
        "panicked",
        "invalid_client",
        "text/html",
        "hyper_util",
        "[redacted]",
        "the end of every path",
    ];
    for told in told {
        assert!(text.contains(told), "it does tell: {told:?} is missing in\n{text}");
    }
    let key = KEY.lines().nth(1).expect("the body of the PEM");
    for secret in [MARK, BASIC, key, JWT] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is written");
    }
}

/// A throwaway.
const KEY: &str = include_str!("../../src/oauth/jws/tests/keys/p256.pem");
/// `{"a` in base64: with this begin the header (`alg`) and the claims (`aud`) of each JWT.
const JWT: &str = "eyJh";

fn show(what: &dyn Debug) {
    println!("{what:?} {what:#?}");
}

fn show_chain(error: &TokenError) {
    let mut next: Option<&dyn Error> = Some(error);
    while let Some(error) = next {
        println!("{error} {error:?}");
        next = error.source();
    }
}

fn fresh(number: u32) -> Token {
    Token::new(format!("token-s3cret-{number}")).with_lifetime(secs(600)).with_scopes(["read"])
}

async fn every_path() {
    env_logger::init();
    lives().await;
    tokio::time::resume(); // sockets take their own time
    from_servers().await;
    from_clients().await;
    println!("the end of every path");
}

/// Every way in which a flight starts and ends, seen by every kind of caller.
async fn lives() {
    #[cfg(feature = "metrics")]
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    #[cfg(feature = "metrics")]
    let _guard = metrics::set_default_local_recorder(&recorder);
    let rig = rig_with(plain().attempts(2).attempt_timeout(secs(1)));
    let source = rig.source.clone();
    // What the previous token was is told to the source.
    let keep = |number| source.then(Answer::Token(fresh(number)));
    keep(1);
    let first = rig.handle.get().await.unwrap();
    tokio::time::sleep(secs(500)).await;
    keep(2);
    show(&rig.handle.current());
    settle().await;
    tokio::time::sleep(secs(700)).await;
    source.then(transient());
    keep(3);
    rig.handle.get().await.unwrap();
    keep(4);
    let forced = rig.handle.refresh().await.unwrap();
    rig.handle.invalidate(&first);
    rig.handle.invalidate(&forced);
    keep(4); // the same secret again, and so the source is asked once more
    keep(5);
    tokio::time::sleep(secs(70)).await;
    let next = rig.handle.get().await.unwrap();
    keep(5);
    keep(5);
    show(&rig.handle.replace(&next).await);
    tokio::time::sleep(secs(70)).await; // before, the predecessor is the answer
    source.then(terminal());
    show_chain(&rig.handle.addr().send(Replace(next.clone())).await.unwrap().unwrap_err());
    show(&rig.handle.replace(&next).await);
    tokio::time::sleep(secs(60)).await;
    while rig.handle.status().await.unwrap().counters.refused_by_budget == 0 {
        keep(5);
        show(&rig.handle.replace(&next).await);
        tokio::time::sleep(secs(1)).await;
    }
    rig.handle.addr().send(Invalidate(next.clone())).await.unwrap();
    // The source gives out again what was discarded, and then it refuses.
    source.then(terminal());
    rig.handle.discard(&next);
    show_chain(&rig.handle.get().await.unwrap_err());
    tokio::time::sleep(secs(60)).await;

    let (empty, two_lines) = (token("", HOUR), token("s3cret\n", HOUR));
    for (attempts, answer) in
        [(1, terminal()), (2, Answer::Hang), (1, Answer::Panic), (2, empty), (2, two_lines)]
    {
        source.then_times(attempts, &answer);
        show_chain(&rig.handle.get().await.unwrap_err());
        tokio::time::sleep(secs(120)).await;
    }
    keep(6);
    rig.handle.get().await.unwrap();
    everything_shown(&rig).await;
    rig.handle.shutdown().await;
    show_chain(&rig.handle.get().await.unwrap_err());
    #[cfg(feature = "metrics")]
    show(&recorder.snapshotter().snapshot().into_vec());
}

async fn everything_shown(rig: &Rig) {
    let token = rig.handle.get().await.unwrap();
    let (collector, told) = Collector::begin();
    rig.handle.subscribe(subscription(&collector, 1));
    told.wait_for(1).await;
    show(&token);
    show(&token.authorization());
    show(&rig.handle);
    show(&rig.handle.watch());
    show(&rig.handle.watch().current());
    show(&rig.handle.addr().send(GetToken).await);
    show(&rig.handle.addr().send(GetStatus).await);
    show(&(Refresh, Invalidate(token.clone()), Subscribe::new(collector)));
    show(&(Replace(token.clone()), Discard(token.clone())));
    show(&TokenReady::new(0, Ok(token.clone())));
    show(&rig.source);
    show(&tokenflight::source::BoxSource::new(rig.source.clone()));
    show(&rig.source.contexts());
    show(&Answer::Token(token.clone()));
    show(&SourceError::transient("down"));
    let builder = TokenActor::builder(ScriptedSource::new()).clock(ManualClock::new());
    show(&builder);
    show(&builder.build().unwrap());
}

/// Sources that hold secrets, servers that repeat them.
async fn from_servers() {
    let token = json!({ "access_token": "token-s3cret", "refresh_token": "other-s3cret", "expires_in": 600 });
    let echo = json!({ "error": "invalid_client", "error_description": format!("no {CLIENT_SECRET} here") });
    let replies = || {
        [
            Reply::json(200, token.to_string()),
            Reply::json(503, token.to_string()),
            Reply::json(400, echo.to_string()),
            Reply::text(200, "text/html", "<html>token-s3cret</html>"),
            Reply::json(200, "{\"access_token\": 12, \"x\": \"s3cret\"}"),
            Reply::json(302, "").with_header("Location", format!("http://localhost/?s={CLIENT_SECRET}")),
            Reply::Close,
        ]
    };
    for auth in [ClientAuth::Basic, ClientAuth::Body] {
        let server = FakeAuthServer::start().await.unwrap();
        let builder = ClientCredentials::builder(server.url(), "client", CLIENT_SECRET)
            .auth_method(auth)
            .extra("tenant", "tenant-s3cret");
        show(&builder);
        let source = builder.build().unwrap();
        show(&source);
        all_of(&server, replies(), source).await;
    }
    let server = FakeAuthServer::start().await.unwrap();
    let builder = JsonEndpoint::post(format!("{}?key=url-s3cret", server.url()))
        .header("x-api-key", CLIENT_SECRET)
        .header_fn("x-signed", || Ok::<_, std::io::Error>("signed-s3cret".to_owned()))
        .body_json(json!({ "password": "body-s3cret" }));
    show(&builder);
    let source = builder.build().unwrap();
    show(&source);
    all_of(&server, replies(), source).await;
}

/// Each way to prove an identity, and each grant, at a server that repeats all that it gets.
async fn from_clients() {
    let constant = |text: &'static str| source_fn(move |_cx| async move { Ok(Token::new(text)) });
    let key = || PrivateKey::from_pem(KEY).unwrap();
    show(&(key(), Certificate::from_pem("s3cret"), Audience::from("aud")));
    let secret = "client-s3cret of at least thirty-two bytes";
    for case in 0..7 {
        let server = FakeAuthServer::start().await.unwrap();
        let builder = Client::builder(server.url(), "client");
        let builder = match case {
            0 => builder.secret(secret).auth_method(ClientAuth::ClientSecretJwt),
            1 => builder.secret(secret).auth_method(ClientAuth::BasicRaw),
            2 => builder.secret_fn(|| async { Ok::<_, std::io::Error>("provided-s3cret".to_owned()) }),
            3 => bound(builder.private_key(key())),
            4 => builder.assertion(constant("assertion-s3cret")),
            _ => bound(builder.public()),
        };
        show(&builder);
        let client = builder.build().unwrap();
        show(&client);
        match case {
            5 => {
                let subject = constant("subject-s3cret");
                let builder = client.token_exchange(subject).actor(constant("actor-s3cret"));
                show(&builder);
                repeating(&server, builder.build().unwrap()).await;
            }
            6 => {
                let account = SignedJwt::builder(key(), "account", "aud").build().unwrap();
                show(&account);
                repeating(&server, client.jwt_bearer(account).build().unwrap()).await;
            }
            _ => repeating(&server, client.client_credentials().build().unwrap()).await,
        }
    }
}

#[cfg(feature = "dpop")]
fn bound(builder: tokenflight::oauth::ClientBuilder) -> tokenflight::oauth::ClientBuilder {
    let key = tokenflight::oauth::DpopKey::from_pem(KEY).unwrap();
    show(&key);
    builder.dpop(key)
}

#[cfg(not(feature = "dpop"))]
fn bound(builder: tokenflight::oauth::ClientBuilder) -> tokenflight::oauth::ClientBuilder {
    builder
}

/// Sends back the whole request as a description, as it came and in base64.
async fn repeating(server: &FakeAuthServer, source: impl TokenSource + Debug) {
    use base64::Engine;
    show(&source);
    let clock = ManualClock::new();
    let builder = TokenActor::builder(source).policy(plain().attempts(1)).clock(clock.clone());
    let tokens = builder.start().unwrap();
    server.then(Reply::json(503, "{}"));
    show_chain(&tokens.get().await.unwrap_err());
    let asked = server.asked().pop().unwrap();
    let whole = format!("{} {}", asked.head, asked.body);
    let parts = asked.body.split('&').chain(asked.head.lines()).map(str::to_owned);
    let encoded = base64::engine::general_purpose::STANDARD.encode(&whole);
    // A JWT is new in each request, so the first one may be repeated later: it is of no use any more.
    let parts = parts.filter(|part| !part.contains(JWT)).chain([encoded]).filter(|part| !part.contains(JWT));
    for said in parts {
        let body = json!({ "error": "invalid_request", "error_description": said });
        server.then(Reply::json(400, body.to_string()));
        clock.suspend(secs(300));
        show_chain(&tokens.get().await.unwrap_err());
    }
}

async fn all_of(server: &FakeAuthServer, replies: impl IntoIterator<Item = Reply>, source: impl TokenSource) {
    let clock = ManualClock::new();
    let builder = TokenActor::builder(source).policy(plain().attempts(1)).clock(clock.clone());
    let tokens: TokenHandle = builder.start().unwrap();
    for reply in replies {
        server.then(reply);
        match tokens.get().await {
            Ok(token) => tokens.discard(&token),
            Err(error) => show_chain(&error),
        }
        clock.suspend(secs(300));
    }
}

/// A source's own context shows what it was told.
#[test]
fn a_fetch_context_shows_no_secret() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let shown = std::sync::Arc::clone(&seen);
    actix_rt::System::new().block_on(async move {
        let source = tokenflight::source_fn(move |cx: FetchContext| {
            *shown.lock().unwrap() = format!("{cx:?}");
            async { Ok(fresh(7)) }
        });
        let tokens = TokenActor::builder(source).policy(plain()).start().unwrap();
        tokens.get().await.unwrap();
        tokens.refresh().await.unwrap();
    });
    let shown = seen.lock().unwrap().clone();
    assert!(shown.contains("Forced") && shown.contains("[redacted]") && !shown.contains(MARK), "{shown}");
}
