//! Two providers of cryptography for rustls are compiled in. Without a choice every builder of tokenflight that needs TLS
//! returns an error that names `install_default()`. After the choice, tokenflight, awc and reqwest each begin a TLS
//! handshake.

use std::net::SocketAddr;

use tokenflight::oauth::{Certificate, Client};
use tokenflight::source::{ClientCredentials, JsonEndpoint};
use tokenflight::store::RedisStore;
use tokenflight::{BuildError, FetchContext, Reason, TokenSource};
use tokio::net::TcpListener;

#[actix_rt::main]
async fn main() {
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    for (error, field) in [
        (Client::builder("https://localhost/token", "app").secret("s3cret").build().map(drop), "http"),
        (Client::builder("https://localhost", "app").secret("s3cret").build().map(drop), "http"),
        (Client::builder("https://localhost/token", "app").certificate(Certificate::from_pem("")).build().map(drop), "http"),
        (ClientCredentials::builder("https://localhost/token", "app", "s3cret").build().map(drop), "http"),
        (JsonEndpoint::get("https://localhost/").build().map(drop), "http"),
        (RedisStore::builder("rediss://localhost/").build().map(drop), "url"),
    ] {
        refused(error.expect_err(field), field);
    }
    assert!(rustls::crypto::CryptoProvider::get_default().is_none(), "tokenflight installs none");

    rustls::crypto::ring::default_provider().install_default().expect("none was installed");
    let listener = TcpListener::bind("localhost:0").await.expect("a free port");
    let url = format!("https://localhost:{}/token", listener.local_addr().expect("an address").port());
    let source = ClientCredentials::builder(&*url, "app", "s3cret").build().expect("a provider is installed");
    let fetched = source.fetch(FetchContext::new(Reason::First));
    let by_reqwest = reqwest::Client::new();
    let by_awc = awc::Client::default();
    let (peers, fetched, by_reqwest, by_awc) =
        tokio::join!(hello(&listener, 3), fetched, by_reqwest.get(&*url).send(), by_awc.get(&*url).send());
    assert_eq!(peers.len(), 3);
    println!("tokenflight: {}", fetched.expect_err("nobody answers"));
    println!("reqwest: {}", by_reqwest.expect_err("nobody answers"));
    println!("awc: {}", by_awc.expect_err("nobody answers"));
    RedisStore::builder("rediss://localhost/").build().expect("a provider is installed");
}

fn refused(error: BuildError, field: &str) {
    println!("without a provider: {error}");
    assert_eq!(error.field(), field);
    assert!(error.to_string().contains("install_default()"));
}

/// Takes the first byte of each client, a TLS handshake's (RFC 8446 section 5.1), and hangs up.
async fn hello(listener: &TcpListener, clients: usize) -> Vec<SocketAddr> {
    let mut peers = Vec::new();
    while peers.len() < clients {
        let (stream, peer) = listener.accept().await.expect("a client");
        let mut byte = [0];
        loop {
            stream.readable().await.expect("a client");
            match stream.try_read(&mut byte) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                read => break assert_eq!(read.expect("a client"), 1),
            }
        }
        assert_eq!(byte, [22]);
        peers.push(peer);
    }
    peers
}
