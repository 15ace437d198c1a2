//! A token is seen by the origins that are allowed, and by nobody else.

use std::net::SocketAddr;

use tokenflight::middleware::BearerAuth;
use tokenflight::middleware::reqwest::SendWith as _;
use tokenflight::testing::{FakeAuthServer, Reply};
use tokenflight::{Token, TokenActor, TokenHandle, source_fn};

use crate::{ADAPTORS, Call, Told, plain};

fn tokens() -> TokenHandle {
    let source = source_fn(|_cx| std::future::ready(Ok(Token::new("s3cret"))));
    TokenActor::builder(source).policy(plain()).start().unwrap()
}

fn address(server: &FakeAuthServer) -> SocketAddr {
    server.url().trim_start_matches("http://").trim_end_matches("/token").parse().unwrap()
}

/// The API at `api.example`, and everybody else at another port: a client that finds both.
fn client(api: SocketAddr, other: SocketAddr) -> reqwest::Client {
    let others = [
        "other.example",
        "evil.example",
        "evil.example.api.example",
        "api.example.evil.example",
        "api.example.",
        "xn--pi-iia.example",
    ];
    let client = reqwest::Client::builder().resolve("api.example", api);
    others.iter().fold(client, |client, name| client.resolve(name, other)).build().unwrap()
}

/// Addresses of others, by their port.
fn elsewhere(api: u16, other: u16) -> Vec<String> {
    vec![
        format!("http://127.0.0.1:{other}/"),
        format!("http://other.example:{other}/"),
        format!("http://evil.example.api.example:{other}/"),
        format!("http://api.example.evil.example:{other}/"),
        format!("http://api.example:{api}@evil.example:{other}/"),
        format!("http://api.example.:{other}/"),
        format!("http://xn--pi-iia.example:{other}/"),
        format!("http://\u{e0}pi.example:{other}/"),
    ]
}

/// An API, somebody else, and a client that finds both.
struct Stage {
    api: FakeAuthServer,
    other: FakeAuthServer,
    client: reqwest::Client,
    tokens: TokenHandle,
    /// The API's origin.
    allowed: String,
    auth: BearerAuth,
    /// Addresses of the other.
    places: Vec<String>,
}

async fn stage() -> Stage {
    let (api, other) = (FakeAuthServer::start().await.unwrap(), FakeAuthServer::start().await.unwrap());
    let (to_api, to_other) = (address(&api), address(&other));
    let client = client(to_api, to_other);
    let tokens = tokens();
    let allowed = format!("http://api.example:{}", to_api.port());
    // The others' port is allowed too, so that they differ by their hosts alone.
    let builder =
        BearerAuth::builder(&tokens).allow(&allowed).allow(format!("http://api.example:{}", to_other.port()));
    let auth = builder.allow_http().build().unwrap();
    let places = elsewhere(to_api.port(), to_other.port());
    Stage { api, other, client, tokens, allowed, auth, places }
}

#[actix::test]
async fn behind_a_redirect_nobody_sees_the_token_and_a_401_is_the_caller_s() {
    let Stage { api, other, client, tokens, allowed, auth, places } = stage().await;
    let chain = reqwest_middleware::ClientBuilder::new(client.clone()).with(auth.clone()).build();
    for place in places {
        for is_chain in [false, true] {
            let before = (api.asked().len(), other.asked().len());
            // As a `Location` an address is ASCII.
            let location = reqwest::Url::parse(&place).unwrap().to_string();
            api.then(Reply::json(307, "").with_header("Location", location));
            other
                .then(Reply::json(401, "").with_header("WWW-Authenticate", "Bearer error=\"invalid_token\""));
            let status = if is_chain {
                chain.get(&allowed).send().await.unwrap().status()
            } else {
                client.get(&allowed).send_with(&auth).await.unwrap().status()
            };
            assert_eq!(status, 401, "{place}");
            let after = (api.asked().len(), other.asked().len());
            assert_eq!(after, (before.0 + 1, before.1 + 1), "{place}");
        }
    }
    assert!(api.asked().iter().all(|asked| asked.header("authorization") == Some("Bearer s3cret")));
    for asked in other.asked() {
        assert!(!asked.head.contains("s3cret"), "{}", asked.head);
    }
    assert_eq!(tokens.status().await.unwrap().counters.replaces, 0, "no false report");
}

#[actix::test]
async fn an_origin_that_is_not_allowed_is_asked_without_the_token() {
    let Stage { api: _api, other, client, tokens, auth, places, .. } = stage().await;
    for place in places {
        other.then(Reply::json(401, ""));
        assert_eq!(client.get(&place).send_with(&auth).await.unwrap().status(), 401, "{place}");
    }
    let asked = other.asked();
    assert_eq!(asked.len(), 8);
    assert!(asked.iter().all(|asked| !asked.head.contains("s3cret")));
    assert_eq!(tokens.status().await.unwrap().counters.attempts, 0, "no token was asked for either");
}

#[actix::test]
async fn every_adaptor_keeps_to_the_list() {
    for adaptor in ADAPTORS {
        let (api, other) = (FakeAuthServer::start().await.unwrap(), FakeAuthServer::start().await.unwrap());
        let (to_api, to_other) = (address(&api), address(&other));
        let auth = BearerAuth::builder(&tokens()).allow(format!("http://{to_api}")).build().unwrap();
        for place in [
            format!("http://{to_other}/"),
            format!("http://localhost:{}/", to_api.port()),
            format!("http://localhost:{}/", to_other.port()),
        ] {
            adaptor.send(&auth, Call::get(&place)).await;
        }
        assert_eq!(adaptor.send(&auth, Call::get(&format!("http://{to_api}/"))).await, Told::Status(200));
        let asked = [api.asked(), other.asked()].concat();
        let with: Vec<_> = asked.iter().filter(|asked| asked.head.contains("s3cret")).collect();
        assert_eq!((asked.len(), with.len()), (4, 1), "{adaptor:?}");
    }
}
