//! The requests of the sources, and their connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use tokenflight::oauth::{Client, ClientAuth};
use tokenflight::source::{BoxSource, JsonEndpoint};
use tokenflight::testing::{FakeAuthServer, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::kinds::*;
use crate::http_sources::{assert_field, assert_says};

#[actix::test]
async fn a_request_without_a_body_says_that_its_length_is_zero() {
    let server = FakeAuthServer::start().await.unwrap();
    for method in [Method::POST, Method::PUT, Method::PATCH] {
        fetch(&JsonEndpoint::builder(method.clone(), server.url()).build().unwrap()).await.unwrap();
        let asked = server.asked().pop().unwrap();
        assert!(asked.head.starts_with(method.as_str()), "{}", asked.head);
        assert_eq!(asked.header("content-length"), Some("0"), "{method}");
        assert_eq!(asked.header("transfer-encoding"), None, "{method}");
        assert_eq!(asked.header("content-type"), None, "{method}");
    }
    fetch(&JsonEndpoint::get(server.url()).build().unwrap()).await.unwrap();
    assert_eq!(server.asked().pop().unwrap().header("transfer-encoding"), None);
    let no_pairs: [(&str, &str); 0] = [];
    fetch(&JsonEndpoint::post(server.url()).form(no_pairs).build().unwrap()).await.unwrap();
    assert_eq!(server.asked().pop().unwrap().header("content-length"), Some("0"));
    fetch(&oauth(server.url()).build().unwrap()).await.unwrap();
    assert_eq!(server.asked().pop().unwrap().header("content-length"), Some("29"));
}

#[actix::test]
async fn a_resource_may_be_anything_but_a_fragment() {
    let server = FakeAuthServer::start().await.unwrap();
    for (resource, sent) in [
        ("00000003-0000-0ff1-ce00-000000000000", "00000003-0000-0ff1-ce00-000000000000"),
        ("{6C3C61A1-4C5D-4B6E-8B0C-6E0C9B6B2D55}", "%7B6C3C61A1-4C5D-4B6E-8B0C-6E0C9B6B2D55%7D"),
        ("the-api", "the-api"),
        ("https://api.example/?a=b&c=d", "https%3A%2F%2Fapi.example%2F%3Fa%3Db%26c%3Dd"),
        ("urn:example:api", "urn%3Aexample%3Aapi"),
        ("00000003-0000-0ff1/host@realm", "00000003-0000-0ff1%2Fhost%40realm"),
    ] {
        fetch(&oauth(server.url()).resource(resource).build().unwrap()).await.unwrap();
        let body = server.asked().pop().unwrap().body;
        assert_eq!(body, format!("grant_type=client_credentials&resource={sent}"));
        fetch(&JsonEndpoint::post(server.url()).form([("resource", resource)]).build().unwrap())
            .await
            .unwrap();
        assert_eq!(server.asked().pop().unwrap().body, format!("resource={sent}"));
    }
    for odd in ["https://api.example/#", "#", "urn:a#b", "00000003-0000-0ff1-ce00#x", "", "a b", "a\nb"] {
        assert_field(oauth("https://a.example/").resource(odd).build(), "resource");
    }
}

/// How a server leaves a connection after its answer, which promised to keep the connection.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    Closed,
    Reset,
    /// Open, and deaf: as a router that has forgotten the connection.
    Deaf,
}

/// Answers one request a connection, and counts the connections.
async fn one_each(listener: TcpListener, leaves: Leaves, count: Arc<AtomicUsize>) {
    let mut deaf: Vec<TcpStream> = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        count.fetch_add(1, Ordering::Relaxed);
        let mut head = Vec::new();
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            if stream.read_buf(&mut head).await.unwrap() == 0 {
                break;
            }
        }
        let body = r#"{"access_token":"abc","expires_in":3600}"#;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        match leaves {
            Leaves::Closed => drop(stream),
            Leaves::Reset => {
                stream.set_zero_linger().unwrap();
                drop(stream);
            }
            Leaves::Deaf => deaf.push(stream),
        }
    }
}

#[actix::test]
async fn a_connection_that_was_dropped_silently_costs_no_error() {
    for leaves in [Leaves::Closed, Leaves::Deaf, Leaves::Reset] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let count = Arc::<AtomicUsize>::default();
        let serving = tokio::spawn(one_each(listener, leaves, Arc::clone(&count)));
        let mut fetches = 0;
        for (kind, source) in both(&url) {
            for _ in 0..4 {
                // A reset may overtake the answer, which is then lost: that is no kept connection.
                let outcome = fetch(&source).await;
                assert!(outcome.is_ok() || matches!(leaves, Leaves::Reset), "{kind} {leaves:?}: {outcome:?}");
                fetches += 1;
            }
        }
        assert_eq!(count.load(Ordering::Relaxed), fetches, "{leaves:?}: none is used twice");
        serving.abort();
    }
}

#[actix::test]
async fn no_closure_switches_redirects_on() {
    let (server, target) = (FakeAuthServer::start().await.unwrap(), FakeAuthServer::start().await.unwrap());
    let follows =
        |http: reqwest::ClientBuilder| http.redirect(reqwest::redirect::Policy::limited(5)).referer(true);
    let sources = [
        BoxSource::new(oauth(server.url()).http(follows).build().unwrap()),
        BoxSource::new(json(server.url()).http(follows).build().unwrap()),
        BoxSource::new(oauth(server.url()).build().unwrap()),
        BoxSource::new(json(server.url()).build().unwrap()),
    ];
    for source in sources {
        for status in [301, 302, 303, 307, 308] {
            for location in [target.url(), format!("{}?again", server.url()), "//evil.example/".to_owned()] {
                server.then(Reply::text(status, "text/html", "").with_header("Location", location));
                let error = fetch(&source).await.unwrap_err();
                assert!(error.is_terminal(), "{status}: {error}");
                assert!(error.to_string().contains("redirect"), "{status}: {error}");
            }
        }
        for status in [300, 304, 306] {
            server.then(Reply::text(status, "text/html", "").with_header("Location", target.url()));
            assert!(fetch(&source).await.is_err(), "{status}");
        }
    }
    assert!(target.asked().is_empty());
    assert_eq!(server.asked().len(), 4 * (5 * 3 + 3), "each is asked once");
}

#[actix::test]
async fn basic_without_form_encoding_and_an_id_in_the_body_are_settings() {
    use base64::Engine as _;
    let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let server = FakeAuthServer::start().await.unwrap();
    for (id, secret, encoded) in [
        ("app", "p+w/q", "app:p%2Bw%2Fq"),
        ("my app", "100%", "my%20app:100%25"),
        ("app", "a:b&c=d", "app:a%3Ab%26c%3Dd"),
    ] {
        let client = |method, in_body| {
            let client = Client::builder(server.url(), id).secret(secret).auth_method(method);
            client.client_id_in_body(in_body).build().unwrap().client_credentials().build().unwrap()
        };
        for in_body in [false, true] {
            fetch(&client(ClientAuth::Basic, in_body)).await.unwrap();
            let asked = server.asked().pop().unwrap();
            assert_eq!(asked.header("authorization"), Some(basic(encoded).as_str()));
            assert_eq!(asked.body.contains("client_id="), in_body, "{}", asked.body);
            assert!(!asked.body.contains("client_secret"), "{}", asked.body);
            fetch(&client(ClientAuth::BasicRaw, in_body)).await.unwrap();
            let asked = server.asked().pop().unwrap();
            assert_eq!(asked.header("authorization"), Some(basic(&format!("{id}:{secret}")).as_str()));
            assert_eq!(asked.body.contains("client_id="), in_body, "{}", asked.body);
        }
    }
    let colon = Client::builder(server.url(), "a:b").secret("c").auth_method(ClientAuth::BasicRaw).build();
    // RFC 7617 section 2: an id with a colon cannot be told from its secret.
    assert_field(colon, "client_id");
}

#[test]
fn a_thousand_sources_share_one_client() {
    let name = "oauth::requests::a_thousand_sources_share_one_client";
    let told = logged(name, log::LevelFilter::Info, async || {
        let memory = || -> usize {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        heading("built");
        let url = |number: usize| format!("https://auth-{number}.example/token");
        let mut sources: Vec<BoxSource> = both(&url(0)).into_iter().map(|(_, source)| source).collect();
        let before = memory();
        for number in 1..1_000 {
            sources.extend(both(&url(number)).into_iter().map(|(_, source)| source));
        }
        let grown = memory() - before;
        assert!(grown < 30 * 1024 * 1024, "{grown} bytes for {} sources", sources.len());
    });
    assert!(told.is_none_or(|told| told.len() == 1));
}

#[test]
fn nobody_s_provider_of_cryptography_is_installed() {
    let name = "oauth::requests::nobody_s_provider_of_cryptography_is_installed";
    logged(name, log::LevelFilter::Info, async || {
        heading("built");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        for (kind, source) in both(&format!("https://{address}/token")) {
            assert!(fetch(&source).await.is_err(), "{kind}: nobody speaks TLS there");
        }
        let own =
            oauth(format!("https://{address}/token")).http(|http| http.user_agent("x/1")).build().unwrap();
        assert!(fetch(&own).await.is_err());
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    });
}

#[actix::test]
async fn an_error_names_the_address_without_its_query() {
    let server = FakeAuthServer::start().await.unwrap();
    for (kind, source) in both(&format!("{}?key=s3cret", server.url())) {
        server.then(Reply::json(400, "{}"));
        let text = fetch(&source).await.unwrap_err().to_string();
        assert!(text.contains(&server.url()) && !text.contains("s3cret"), "{kind}: {text}");
    }
    let down = crate::http_sources::started(oauth("http://127.0.0.1:1/token?key=s3cret").build().unwrap());
    assert_says(&down.get().await.unwrap_err(), &["cannot connect to http://127.0.0.1:1/token"]);
}
