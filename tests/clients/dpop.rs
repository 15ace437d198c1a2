//! Tokens that are bound to a key (RFC 9449): a new proof per sending, one repeated request for a nonce, no
//! redirects.
#![cfg(feature = "dpop")]

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::Value;
use tokenflight::clock::{Clock, SystemClock};
use tokenflight::middleware::BearerAuth;
use tokenflight::middleware::awc::send_anew;
use tokenflight::middleware::tower::KeptBody;
use tokenflight::oauth::{Client, DpopKey};
use tokenflight::testing::{Asked, FakeAuthServer, Reply};
use tokenflight::{TokenActor, TokenHandle};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt};

use crate::{ADAPTORS, Adaptor, Call, Payload, Told, plain};

struct Stage {
    api: FakeAuthServer,
    tokens: TokenHandle,
    auth: BearerAuth,
    url: String,
    _auth_server: FakeAuthServer,
}

async fn stage() -> Stage {
    let (auth_server, api) = (FakeAuthServer::start().await.unwrap(), FakeAuthServer::start().await.unwrap());
    for number in 1..=3 {
        let body = format!(r#"{{"access_token":"token-{number}","token_type":"DPoP","expires_in":3600}}"#);
        auth_server.then(Reply::json(200, body));
    }
    let client =
        Client::builder(auth_server.url(), "app").secret("s3cret").dpop(DpopKey::generate().unwrap());
    let source = client.build().unwrap().client_credentials().build().unwrap();
    let tokens = TokenActor::builder(source).policy(plain()).start().unwrap();
    let origin = api.url().replace("/token", "");
    let auth = BearerAuth::builder(&tokens).allow(&origin).build().unwrap();
    Stage { api, tokens, auth, url: format!("{origin}/orders?page=2"), _auth_server: auth_server }
}

fn proof(asked: &Asked) -> Value {
    payload(asked.header("dpop").expect("a proof"))
}

type Seen = Arc<Mutex<Vec<http::HeaderMap>>>;
type Answering =
    BoxCloneSyncService<http::Request<KeptBody<Full<Bytes>>>, http::Response<Full<Bytes>>, Infallible>;

/// A service that asks for a nonce once. `first` runs before its first answer.
fn asks_for_a_nonce(first: impl Fn() + Send + Sync + 'static) -> (Seen, Answering) {
    let seen = Seen::default();
    let (noted, first) = (Arc::clone(&seen), Arc::new(first));
    let service = tower::service_fn(move |request: http::Request<_>| {
        let mut noted = noted.lock().unwrap();
        noted.push(request.headers().clone());
        let answer = http::Response::builder();
        let answer = if noted.len() == 1 {
            first();
            let challenge = r#"DPoP error="use_dpop_nonce""#;
            answer.status(401).header("WWW-Authenticate", challenge).header("DPoP-Nonce", "n1")
        } else {
            answer
        };
        std::future::ready(Ok(answer.body(Full::default()).unwrap()))
    });
    (seen, BoxCloneSyncService::new(service))
}

fn payload(proof: &str) -> Value {
    let payload = URL_SAFE_NO_PAD.decode(proof.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

fn wants(nonce: &str) -> Reply {
    let challenge = r#"DPoP error="use_dpop_nonce""#;
    Reply::json(401, "").with_header("WWW-Authenticate", challenge).with_header("DPoP-Nonce", nonce)
}

#[actix::test]
async fn a_nonce_costs_one_repetition_with_a_new_proof_and_no_refresh() {
    for adaptor in ADAPTORS {
        let stage = stage().await;
        stage.api.then(wants("n1")).then(Reply::json(200, "")).then(Reply::json(200, ""));
        for _ in 0..2 {
            let call = Call::post(&stage.url, Payload::Text("order".into()));
            assert_eq!(adaptor.send(&stage.auth, call).await, Told::Status(200), "{adaptor:?}");
        }
        let asked = stage.api.asked();
        let proofs: Vec<_> = asked.iter().map(proof).collect();
        let nonces: Vec<_> = proofs.iter().map(|proof| proof["nonce"].as_str()).collect();
        assert_eq!(nonces, [None, Some("n1"), Some("n1")], "{adaptor:?}");
        let ids: HashSet<_> = proofs.iter().map(|proof| proof["jti"].to_string()).collect();
        assert_eq!(ids.len(), 3, "{adaptor:?}: a new proof each time");
        for (asked, proof) in asked.iter().zip(&proofs) {
            assert_eq!(asked.header("authorization"), Some("DPoP token-1"), "{adaptor:?}");
            assert_eq!(proof["htm"], "POST");
            assert_eq!(proof["htu"], stage.url.trim_end_matches("?page=2"));
        }
        assert_eq!(stage.tokens.status().await.unwrap().counters.replaces, 0, "{adaptor:?}");
    }
}

#[actix::test]
async fn a_request_that_was_given_up_makes_no_later_one_repeat_a_nonce_that_it_sent() {
    for adaptor in ADAPTORS {
        let stage = stage().await;
        stage.api.then(Reply::Hang).then(wants("n1")).then(Reply::json(200, "")).then(wants("n1"));
        tokio::select! {
            told = adaptor.send(&stage.auth, Call::get(&stage.url)) => panic!("{adaptor:?}: {told:?}"),
            () = stage.api.wait_for(1) => {} // the request is dropped
        }
        assert_eq!(adaptor.send(&stage.auth, Call::get(&stage.url)).await, Told::Status(200), "{adaptor:?}");
        assert_eq!(adaptor.send(&stage.auth, Call::get(&stage.url)).await, Told::Status(401), "{adaptor:?}");
        let proofs: Vec<_> = stage.api.asked().iter().map(proof).collect();
        let nonces: Vec<_> = proofs.iter().map(|proof| proof["nonce"].as_str()).collect();
        assert_eq!(nonces, [None, None, Some("n1"), Some("n1")], "{adaptor:?}");
    }
}

#[actix::test]
async fn a_server_that_wants_a_nonce_for_ever_is_asked_twice() {
    for adaptor in ADAPTORS {
        let stage = stage().await;
        for number in 0..4 {
            stage.api.then(wants(&format!("n{number}")));
        }
        assert_eq!(adaptor.send(&stage.auth, Call::get(&stage.url)).await, Told::Status(401), "{adaptor:?}");
        assert_eq!(stage.api.asked().len(), 2, "{adaptor:?}");
    }
}

#[actix::test]
async fn each_step_of_a_redirect_by_awc_has_its_own_proof() {
    let stage = stage().await;
    let client = awc::Client::builder().disable_redirects().finish();
    stage.api.then(Reply::json(307, "").with_header("Location", "/two")).then(wants("n1"));
    let answer = send_anew(&stage.auth, || client.get(&stage.url), "").await.unwrap();
    assert_eq!(answer.status(), 200);
    let proofs: Vec<_> = stage.api.asked().iter().map(proof).collect();
    let paths = proofs.iter().map(|proof| proof["htu"].as_str().unwrap().rsplit('/').next().unwrap());
    assert_eq!(paths.collect::<Vec<_>>(), ["orders", "two", "two"]);
    assert_eq!(proofs[2]["nonce"], "n1");
    // A client that follows redirects by itself drops token and proof.
    let client = awc::Client::default();
    stage.api.then(Reply::json(307, "").with_header("Location", "/three"));
    let _ = send_anew(&stage.auth, || client.get(&stage.url), "").await;
    let behind = stage.api.asked().pop().unwrap();
    assert!(behind.head.starts_with("GET /three") && !behind.head.to_lowercase().contains("dpop"));
}

#[actix::test]
async fn a_rejected_token_is_replaced_and_proved_anew() {
    for adaptor in ADAPTORS {
        let stage = stage().await;
        let rejection = r#"DPoP error="invalid_token", algs="ES256""#;
        stage.api.then(Reply::json(401, "").with_header("WWW-Authenticate", rejection)).then(wants("n1"));
        stage.api.then(Reply::json(200, ""));
        assert_eq!(adaptor.send(&stage.auth, Call::get(&stage.url)).await, Told::Status(200), "{adaptor:?}");
        let asked = stage.api.asked();
        let shown: Vec<_> = asked.iter().filter_map(|asked| asked.header("authorization")).collect();
        assert_eq!(shown, ["DPoP token-1", "DPoP token-2", "DPoP token-2"], "{adaptor:?}");
        assert_ne!(
            proof(&asked[0])["ath"],
            proof(&asked[1])["ath"],
            "{adaptor:?}: a proof of this very token"
        );
    }
}

#[actix::test]
async fn a_redirect_is_an_error() {
    for adaptor in [Adaptor::Reqwest, Adaptor::Chain] {
        let (stage, other) = (stage().await, FakeAuthServer::start().await.unwrap());
        stage.api.then(Reply::json(307, "").with_header("Location", other.url()));
        let told = adaptor.send(&stage.auth, Call::get(&stage.url)).await;
        assert!(matches!(&told, Told::Other(error) if error.contains("turn its redirects off")), "{told:?}");
        assert!(other.asked().iter().all(|asked| !asked.head.contains("token-1")));
    }
}

/// A layer sees only the path where the client below it completes the URI, as with tonic.
#[actix::test]
async fn a_proof_for_a_path_names_the_origin_of_the_client_below() {
    let stage = stage().await;
    let auth = BearerAuth::builder(&stage.tokens).relative_to("https://api.example.com").build().unwrap();
    let (seen, service) = asks_for_a_nonce(|| ());
    let request = http::Request::get("/orders?page=2").body(Full::<Bytes>::default()).unwrap();
    let answer = auth.layer(service).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for headers in &*seen {
        assert_eq!(payload(headers["dpop"].to_str().unwrap())["htu"], "https://api.example.com/orders");
    }
}

#[actix::test]
async fn a_token_that_was_discarded_meanwhile_is_not_sent_again() {
    let stage = stage().await;
    let auth = BearerAuth::builder(&stage.tokens).allow("https://api.example.com").build().unwrap();
    let tokens = stage.tokens.clone();
    let (seen, service) = asks_for_a_nonce(move || tokens.discard(&tokens.current().unwrap()));
    let request = http::Request::get("https://api.example.com/").body(Full::<Bytes>::default()).unwrap();
    auth.layer(service).oneshot(request).await.unwrap();
    let seen = seen.lock().unwrap();
    let shown: Vec<_> = seen.iter().map(|headers| headers["authorization"].to_str().unwrap()).collect();
    assert_eq!(shown, ["DPoP token-1", "DPoP token-2"]);
}

/// A gateway's cache gives an answer of an hour ago, and says how old it is.
#[actix::test]
async fn the_age_of_an_answer_is_added_to_its_date() {
    for adaptor in ADAPTORS {
        let stage = stage().await;
        let hour = std::time::Duration::from_secs(3_600);
        let date = httpdate::fmt_http_date(SystemClock.now().wall - hour);
        let old = Reply::json(200, "").with_header("Date", date).with_header("Age", "3600");
        stage.api.then(old).then(Reply::json(200, ""));
        for _ in 0..2 {
            adaptor.send(&stage.auth, Call::get(&stage.url)).await;
        }
        let asked = stage.api.asked();
        let times: Vec<_> = asked.iter().map(|asked| proof(asked)["iat"].as_u64().unwrap()).collect();
        assert!(times[0].abs_diff(times[1]) < 60, "{adaptor:?}: {times:?}");
    }
}
