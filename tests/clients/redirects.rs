//! Only the allowed origins get a token.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::TokioExecutor;
use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokenflight::middleware::BearerAuth;
use tokenflight::middleware::awc::send_anew;
use tokenflight::middleware::reqwest::{SendWith as _, same_origin_redirects};
use tokenflight::testing::{Asked, FakeAuthServer, Reply};
use tokenflight::{Token, TokenActor, TokenHandle, source_fn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::{Layer, Service, ServiceExt};

use crate::{ADAPTORS, Call, Told, plain};

fn tokens() -> TokenHandle {
    let source = source_fn(|_cx| std::future::ready(Ok(Token::new("s3cret"))));
    TokenActor::builder(source).policy(plain()).start().unwrap()
}

fn address(server: &FakeAuthServer) -> SocketAddr {
    server.url().trim_start_matches("http://").trim_end_matches("/token").parse().unwrap()
}

/// The API at `api.example`, and everybody else at another port: a client that finds both.
fn builder(api: SocketAddr, other: SocketAddr) -> reqwest::ClientBuilder {
    let others = [
        "other.example",
        "evil.example",
        "evil.example.api.example",
        "api.example.evil.example",
        "api.example.",
        "xn--pi-iia.example",
    ];
    let client = reqwest::Client::builder().resolve("api.example", api);
    others.iter().fold(client, |client, name| client.resolve(name, other))
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
    let client = builder(to_api, to_other).build().unwrap();
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

/// A layer of tower that follows a redirect by itself, like the ones of `tower-http`: each step has the headers of the
/// first one.
async fn follow<S, R>(mut service: S, url: &str) -> (u16, Vec<u16>)
where
    S: Service<http::Request<Empty<Bytes>>, Response = http::Response<R>>,
    S::Error: std::fmt::Debug,
{
    let (mut url, mut statuses) = (url.to_owned(), Vec::new());
    loop {
        let request = http::Request::get(&url).body(Empty::new()).unwrap();
        let answer = service.ready().await.unwrap().call(request).await.unwrap();
        statuses.push(answer.status().as_u16());
        match answer.headers().get("location") {
            Some(location) => location.to_str().unwrap().clone_into(&mut url),
            None => return (answer.status().as_u16(), statuses),
        }
    }
}

/// The order that `middleware::tower` documents.
#[actix::test]
async fn below_a_layer_of_tower_that_follows_redirects_each_step_is_compared_with_the_list() {
    let (api, other, tokens) =
        (FakeAuthServer::start().await.unwrap(), FakeAuthServer::start().await.unwrap(), tokens());
    let auth = BearerAuth::builder(&tokens).allow(api.base_url()).build().unwrap();
    let client = auth.layer(HyperClient::builder(TokioExecutor::new()).build_http());
    api.then(Reply::json(307, "").with_header("Location", other.url()));
    other.then(Reply::json(307, "").with_header("Location", format!("{}/two", other.base_url())));
    other.then(Reply::json(401, "").with_header("WWW-Authenticate", "Bearer error=\"invalid_token\""));
    assert_eq!(follow(client.clone(), &api.base_url()).await, (401, vec![307, 307, 401]));
    assert_eq!(api.asked()[0].header("authorization"), Some("Bearer s3cret"));
    assert_eq!(other.asked().len(), 2);
    assert!(other.asked().iter().all(|asked| !asked.head.contains("s3cret")));
    assert_eq!(tokens.status().await.unwrap().counters.replaces, 0, "no false report");
    // Within the origin each step has the token, and the last one is judged.
    api.then(Reply::json(307, "").with_header("Location", format!("{}/two", api.base_url())));
    api.then(Reply::json(401, "")).then(Reply::json(200, ""));
    assert_eq!(follow(client, &api.base_url()).await, (200, vec![307, 200]));
    assert!(api.asked().iter().all(|asked| asked.header("authorization") == Some("Bearer s3cret")));
    assert_eq!(tokens.status().await.unwrap().counters.replaces, 1);
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
        let auth = BearerAuth::builder(tokens()).allow(format!("http://{to_api}"));
        // At the other's port by TLS alone.
        let auth = auth.allow(format!("https://{to_other}")).build().unwrap();
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

/// reqwest takes the token off at the first redirect to another host, and puts it on again at the second.
/// If this fails because nothing is seen any more, reqwest has mended it: say so in `middleware::reqwest`.
#[actix::test]
async fn behind_two_redirects_reqwest_alone_shows_the_token_and_with_our_policy_nobody_is_asked() {
    let stage = stage().await;
    let careful = builder(address(&stage.api), address(&stage.other)).redirect(same_origin_redirects());
    for (client, is_careful) in [(stage.client, false), (careful.build().unwrap(), true)] {
        let other = FakeAuthServer::start().await.unwrap();
        stage.api.then(Reply::json(307, "").with_header("Location", other.url()));
        other.then(Reply::json(307, "").with_header("Location", "/again")).then(Reply::json(200, ""));
        let answer = client.get(&stage.allowed).send_with(&stage.auth).await.unwrap();
        let seen: Vec<_> = other.asked().iter().map(|asked| asked.head.contains("s3cret")).collect();
        if is_careful {
            assert_eq!((answer.status().as_u16(), seen.len()), (307, 0));
        } else {
            assert_eq!((answer.status().as_u16(), seen), (200, vec![false, true]));
        }
    }
}

#[actix::test]
async fn with_our_policy_redirects_stay_within_the_origin_that_was_asked() {
    let Stage { api, other, tokens, allowed, auth, places, .. } = stage().await;
    let client = builder(address(&api), address(&other)).redirect(same_origin_redirects()).build().unwrap();
    let chain = reqwest_middleware::ClientBuilder::new(client.clone()).with(auth.clone()).build();
    let downgraded = allowed.replace("http://", "https://");
    for place in places.into_iter().chain([downgraded]) {
        let location = reqwest::Url::parse(&place).unwrap().to_string();
        api.then(Reply::json(307, "").with_header("Location", &location));
        assert_eq!(client.get(&allowed).send_with(&auth).await.unwrap().status(), 307, "{place}");
        api.then(Reply::json(302, "").with_header("Location", location));
        assert_eq!(chain.get(&allowed).send().await.unwrap().status(), 302, "{place}");
    }
    assert!(other.asked().is_empty());
    // Within it they are followed, up to a limit.
    api.then(Reply::json(307, "").with_header("Location", "/two")).then(Reply::json(200, ""));
    assert_eq!(client.get(&allowed).send_with(&auth).await.unwrap().status(), 200);
    let before = api.asked().len();
    for number in 0..20 {
        api.then(Reply::json(307, "").with_header("Location", format!("/again/{number}")));
    }
    let error = client.get(&allowed).send_with(&auth).await.unwrap_err();
    assert!(format!("{error:?}").contains("too many redirects"), "{error:?}");
    let asked = api.asked();
    assert_eq!(asked.len() - before, 11);
    assert!(asked.iter().all(|asked| asked.header("authorization") == Some("Bearer s3cret")));
    assert_eq!(tokens.status().await.unwrap().counters.replaces, 0);
}

#[actix::test]
async fn a_request_that_was_performed_before_its_redirect_is_not_sent_again() {
    let Stage { api, other, tokens, allowed, auth, .. } = stage().await;
    let client = builder(address(&api), address(&other)).redirect(same_origin_redirects()).build().unwrap();
    let order = format!("{allowed}/order");
    for status in [301, 302, 303, 307] {
        for over in ["", "/on-the-way"] {
            let before = api.asked().len();
            if !over.is_empty() {
                api.then(Reply::json(303, "").with_header("Location", over));
            }
            api.then(Reply::json(status, "").with_header("Location", "/order#1"));
            let request = client.post(&order).body("one");
            assert_eq!(request.send_with(&auth).await.unwrap().status().as_u16(), status);
            let asked = api.asked().split_off(before);
            assert_eq!(asked.iter().filter(|asked| asked.head.starts_with("POST ")).count(), 1, "{status}");
        }
    }
    assert_eq!(tokens.status().await.unwrap().counters.replaces, 0);
}

/// One port that speaks TLS and plaintext. It notes what it is asked in clear, and leads whoever comes by TLS there.
async fn downgrading(
    certificate: &CertifiedKey<KeyPair>,
    at: &'static str,
) -> (u16, Arc<Mutex<Vec<String>>>) {
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key)
            .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let in_clear = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&in_clear);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut first = [0];
            stream.peek(&mut first).await.unwrap();
            if first == [0x16] {
                let location = format!("http://{at}:{port}/clear");
                let answer = format!("HTTP/1.1 307 _\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
                let head = answer_once(tls.accept(stream).await.unwrap(), &answer).await;
                assert!(head.contains("Bearer s3cret"), "by TLS it is sent: {head}");
            } else {
                let head = answer_once(stream, "HTTP/1.1 401 _\r\ncontent-length: 0\r\n\r\n").await;
                noted.lock().unwrap().push(head);
            }
        }
    });
    (port, in_clear)
}

async fn answer_once(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0);
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    let _ = stream.shutdown().await;
    String::from_utf8(head).unwrap()
}

#[actix::test]
async fn an_https_origin_that_leads_to_http_at_the_same_host_and_port_shows_nobody_the_token() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let root = reqwest::Certificate::from_der(certificate.cert.der()).unwrap();
    for at in ["localhost", "127.0.0.1"] {
        for is_careful in [false, true] {
            let (port, in_clear) = downgrading(&certificate, at).await;
            let builder = reqwest::Client::builder().tls_certs_only([root.clone()]);
            let builder = if is_careful { builder.redirect(same_origin_redirects()) } else { builder };
            let client = builder.build().unwrap();
            let tokens = tokens();
            let origin = format!("https://localhost:{port}");
            let auth = BearerAuth::builder(&tokens).allow(&origin).build().unwrap();
            let answer = client.get(&origin).send_with(&auth).await.unwrap();
            let in_clear = in_clear.lock().unwrap().clone();
            let expected = if is_careful { (307, 0) } else { (401, 1) };
            assert_eq!((answer.status().as_u16(), in_clear.len()), expected);
            assert!(in_clear.iter().all(|head| !head.contains("s3cret")), "{in_clear:?}");
            assert_eq!(tokens.status().await.unwrap().counters.replaces, 0, "no false report");
        }
    }
}

/// A client of awc that follows no redirects, and one that follows them by itself.
fn awc_clients() -> [awc::Client; 2] {
    [awc::Client::builder().disable_redirects().finish(), awc::Client::default()]
}

/// An API for awc, and a source whose tokens have numbers.
async fn awc_stage() -> (FakeAuthServer, String, TokenHandle, BearerAuth) {
    let api = FakeAuthServer::start().await.unwrap();
    let numbers = std::sync::atomic::AtomicU32::new(0);
    let source = source_fn(move |_cx| {
        let number = numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        std::future::ready(Ok(Token::new(format!("s3cret-{number}"))))
    });
    let tokens = TokenActor::builder(source).policy(plain()).start().unwrap();
    let url = api.base_url();
    let auth = BearerAuth::builder(&tokens).allow(&url).build().unwrap();
    (api, url, tokens, auth)
}

/// What a server was asked: the first line, the token, the body.
fn asked(server: &FakeAuthServer) -> Vec<(String, Option<String>, String)> {
    let line = |head: &str| head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let asked = server.asked();
    let asked = asked
        .iter()
        .map(|asked| (line(&asked.head), asked.header("authorization").map(Into::into), asked.body.clone()));
    asked.collect()
}

#[actix::test]
async fn awc_keeps_the_token_through_redirects_within_the_origin() {
    for client in awc_clients() {
        let (api, url, tokens, auth) = awc_stage().await;
        api.then(Reply::json(307, "").with_header("Location", "/a/two?x=1"));
        api.then(Reply::json(308, "").with_header("Location", "/three")).then(Reply::json(200, ""));
        let post = || client.post(&url).content_type("text/plain");
        assert_eq!(send_anew(&auth, post, "order").await.unwrap().status(), 200);
        let seen = |line: &str, body: &str| (line.into(), Some("Bearer s3cret-1".into()), body.into());
        let lines = ["POST /", "POST /a/two?x=1", "POST /three"];
        assert_eq!(asked(&api), lines.map(|line| seen(line, "order")));
        // After a 303 the method is GET, also in later steps.
        api.then(Reply::json(303, "").with_header("Location", "/four"));
        api.then(Reply::json(307, "").with_header("Location", "/five")).then(Reply::json(200, ""));
        assert_eq!(send_anew(&auth, post, "order").await.unwrap().status(), 200);
        let expected = [seen("POST /", "order"), seen("GET /four", ""), seen("GET /five", "")];
        assert_eq!(asked(&api)[3..], expected);
        assert_eq!(tokens.status().await.unwrap().counters.replaces, 0);
    }
}

#[actix::test]
async fn awc_shows_the_token_to_no_other_origin() {
    for (client, follows) in awc_clients().into_iter().zip([false, true]) {
        let (api, url, tokens, auth) = awc_stage().await;
        let other = FakeAuthServer::start().await.unwrap();
        let port = address(&other).port();
        let places = [other.base_url(), format!("http://localhost:{}", address(&api).port())];
        for place in places.iter().cloned().chain([format!("//127.0.0.1:{port}/x")]) {
            api.then(Reply::json(307, "").with_header("Location", &place));
            other.then(Reply::json(307, "").with_header("Location", "/again")).then(Reply::json(200, ""));
            let answer = send_anew(&auth, || client.get(&url), "").await;
            if !follows {
                assert_eq!(answer.unwrap().status(), 307, "{place}");
            }
        }
        let seen = asked(&other);
        assert!(follows || seen.is_empty(), "{seen:?}");
        assert!(seen.iter().all(|(_, token, _)| token.is_none()), "{seen:?}");
        let with_token = |asked: &Asked| asked.header("authorization").is_some();
        // `localhost` is the same server under another name.
        assert_eq!(api.asked().iter().filter(|asked| with_token(asked)).count(), 3);
        assert_eq!(tokens.status().await.unwrap().counters.replaces, 0);
    }
}

#[actix::test]
async fn awc_sends_only_the_redirected_step_again_after_its_401() {
    let (api, url, tokens, auth) = awc_stage().await;
    let client = awc::Client::builder().disable_redirects().finish();
    api.then(Reply::json(307, "").with_header("Location", "/two"));
    api.then(Reply::json(401, "").with_header("WWW-Authenticate", "Bearer error=\"invalid_token\""));
    api.then(Reply::json(307, "").with_header("Location", "three")).then(Reply::json(200, ""));
    assert_eq!(send_anew(&auth, || client.put(&url), "order").await.unwrap().status(), 200);
    let seen = |line: &str, token: u32| {
        (line.to_owned(), Some(format!("Bearer s3cret-{token}")), "order".to_owned())
    };
    assert_eq!(
        asked(&api),
        [seen("PUT /", 1), seen("PUT /two", 1), seen("PUT /two", 2), seen("PUT /three", 2)]
    );
    assert_eq!(tokens.status().await.unwrap().counters.replaces, 1);
}

#[actix::test]
async fn awc_follows_ten_redirects_and_passes_the_next_one_on() {
    let (api, url, _tokens, auth) = awc_stage().await;
    let client = awc::Client::builder().disable_redirects().finish();
    for _ in 0..20 {
        api.then(Reply::json(302, "").with_header("Location", "/again"));
    }
    assert_eq!(send_anew(&auth, || client.get(&url), "").await.unwrap().status(), 302);
    assert_eq!(api.asked().len(), 11);
}

#[actix::test]
async fn awc_gives_the_caller_s_own_authorization_to_the_redirected_steps_unchanged() {
    let (api, url, tokens, auth) = awc_stage().await;
    let client = awc::Client::builder().disable_redirects().finish();
    api.then(Reply::json(307, "").with_header("Location", "/two")).then(Reply::json(401, ""));
    let own = || client.get(&url).insert_header(("authorization", "Bearer own"));
    assert_eq!(send_anew(&auth, own, "").await.unwrap().status(), 401);
    assert!(asked(&api).iter().all(|(_, token, _)| token.as_deref() == Some("Bearer own")));
    assert_eq!((api.asked().len(), tokens.status().await.unwrap().counters.attempts), (2, 0));
}
