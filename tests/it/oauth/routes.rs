//! The allowed routes of a request: never in clear to another machine, never through a proxy that could read it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use serde_json::json;
use tokenflight::oauth::{Client, ClientBuilder};
use tokenflight::source::{BoxSource, ClientCredentialsBuilder, JsonEndpoint, JsonEndpointBuilder};
use tokenflight::testing::FakeAuthServer;

use super::kinds::*;
use crate::http_sources::assert_field;
use crate::support::*;

const REMOTE: &[&str] = &[
    "http://auth.example.com/token",
    "HTTP://auth.example.com/token",
    "http://127.0.0.1.example.com/token",
    "http://localhost.example.com/token",
    "http://127.0.0.1@auth.example.com/token",
    "http://0.0.0.0/token",
    "http://10.0.0.1/token",
    "http://169.254.169.254/token",
    "http://metadata.google.internal/token",
    "http://[fe80::1]/token",
    "http://notlocalhost/token",
    "http://128.0.0.1/token",
];

const LOCAL: &[&str] = &[
    "http://127.0.0.1/token",
    "http://127.9.8.7:8080/token",
    "http://localhost:3000/token",
    "http://LOCALHOST/token",
    "http://[::1]/token",
    "http://127.1/token",
    "HTTP://2130706433/token",
];

#[test]
fn a_url_in_clear_is_refused_but_for_this_machine_or_by_choice() {
    for &url in REMOTE {
        let has_user = url.contains('@');
        assert_field(oauth(url).build(), "token_url");
        assert_field(json(url).build(), "url");
        assert_field(Client::with_issuer(url, "app").secret("s").build(), "issuer");
        if has_user {
            continue;
        }
        let error = oauth(url).build().unwrap_err().to_string();
        assert!(error.contains("allow_http"), "the way out is named: {error}");
        assert!(oauth(url).allow_http().build().is_ok(), "{url}");
        assert!(json(url).allow_http().build().is_ok(), "{url}");
        assert!(Client::with_issuer(url, "app").secret("s").allow_http().build().is_ok(), "{url}");
        let file = json!({ "token_url": url, "client_id": "app", "client_secret": "s" });
        let read = |file: &serde_json::Value| {
            serde_json::from_value::<ClientCredentialsBuilder>(file.clone()).unwrap().build()
        };
        assert_field(read(&file), "token_url");
        let mut allowed = file.clone();
        allowed["allow_http"] = json!(true);
        assert!(read(&allowed).is_ok(), "{url}");
        let file = json!({ "url": url, "allow_http": true });
        assert!(serde_json::from_value::<JsonEndpointBuilder>(file).unwrap().build().is_ok(), "{url}");
        let file = json!({ "issuer": url, "client_id": "app", "client_secret": "s" });
        assert_field(serde_json::from_value::<ClientBuilder>(file).unwrap().build(), "issuer");
    }
    for &url in LOCAL {
        assert!(oauth(url).build().is_ok(), "{url}");
        assert!(json(url).build().is_ok(), "{url}");
        assert!(Client::with_issuer(url, "app").secret("s").build().is_ok(), "{url}");
    }
    for other in ["ftp://127.0.0.1/", "file:///etc/passwd", "ws://127.0.0.1/", "unix:/run/x", "https:///", ""]
    {
        assert_field(oauth(other).allow_http().build(), "token_url");
        assert_field(json(other).allow_http().build(), "url");
    }
}

#[cfg(feature = "redis")]
#[test]
fn a_store_in_clear_is_refused_but_for_this_machine_or_by_choice() {
    use tokenflight::store::RedisStore;
    for url in ["redis://user:s3cret@remote", "redis://:s3cret@remote:6379/1", "redis://:s3cret@10.0.0.1"] {
        let error = RedisStore::builder(url).build().unwrap_err().to_string();
        assert!(error.contains("allow_plaintext") && !error.contains("s3cret"), "{error}");
        assert!(RedisStore::builder(url).allow_plaintext().build().is_ok(), "{url}");
    }
    for url in ["redis://user:pw@127.0.0.1", "redis://localhost", "redis://[::1]"] {
        assert!(RedisStore::builder(url).build().is_ok(), "{url}");
    }
}

/// A proxy that takes the head of each request, refuses it, and passes on the first line.
fn proxy() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (seen, lines) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), Vec::new());
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let _ = seen.send(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned());
            let _ = stream.write_all(b"HTTP/1.1 403 no\r\nContent-Length: 0\r\n\r\n");
        }
    });
    (address, lines)
}

/// Asks each kind of address, whether or not anybody is there.
async fn ask_everywhere() {
    let server = FakeAuthServer::start().await.unwrap();
    let port = server.url().rsplit(':').next().unwrap().to_owned();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "127.1.2.3",
        "[::1]",
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:127.0.0.1]",
    ];
    let short = millis(250);
    for (scheme, host) in ["http", "https"].into_iter().flat_map(|scheme| hosts.map(|host| (scheme, host))) {
        let url = format!("{scheme}://{host}:{port}");
        let one = oauth(&*url).allow_http().timeout(short).build().unwrap();
        let other = json(&*url).allow_http().timeout(short).build().unwrap();
        let client = Client::with_issuer(&*url, "app").secret("s3cret").allow_http().timeout(short);
        let issued = client.build().unwrap().client_credentials().build().unwrap();
        for (outcome, is_token) in
            [(fetch(&one).await, true), (fetch(&other).await, true), (fetch(&issued).await, false)]
        {
            // The server has no document of an issuer, and no TLS.
            let is_served = scheme == "http" && host == "127.0.0.1" && is_token;
            assert!(outcome.is_ok() || !is_served, "{url}: {outcome:?}");
        }
    }
    for host in ["auth.invalid", "metadata.google.internal", "10.255.255.1"] {
        let url = format!("http://{host}/token");
        let _ = fetch(&oauth(&*url).allow_http().timeout(short).build().unwrap()).await;
        let _ = fetch(&json(&*url).allow_http().timeout(short).build().unwrap()).await;
    }
    heading("https to another machine");
    for host in ["auth.invalid", "10.255.255.1"] {
        let url = format!("https://{host}/token");
        let _ = fetch(&oauth(&*url).build().unwrap()).await;
        let _ = fetch(&json(&*url).build().unwrap()).await;
    }
}

#[test]
fn nothing_in_clear_and_nothing_for_this_machine_goes_through_the_environment_s_proxy() {
    let name =
        "oauth::routes::nothing_in_clear_and_nothing_for_this_machine_goes_through_the_environment_s_proxy";
    let Some(mut child) = in_its_own_process(name) else {
        return actix_rt::System::new().block_on(ask_everywhere());
    };
    let (address, seen) = proxy();
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, format!("http://user:pw@{address}"));
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy").env_remove("REQUEST_METHOD");
    all_that_is_written_by(&mut child);
    let seen: Vec<String> = seen.try_iter().collect();
    let expected = ["CONNECT auth.invalid:443", "CONNECT 10.255.255.1:443"];
    for line in &seen {
        assert!(expected.iter().any(|expected| line.starts_with(expected)), "through the proxy: {line}");
    }
    assert_eq!(seen.len(), 4, "https goes through it: {seen:?}");
}

#[actix::test]
async fn a_proxy_of_the_settings_sees_no_more_than_one_of_the_environment() {
    let (address, seen) = proxy();
    let server = FakeAuthServer::start().await.unwrap();
    let proxy = format!("http://user:pw@{address}");
    let all = reqwest::Proxy::all(&proxy).unwrap();
    let plain = reqwest::Proxy::http(&proxy).unwrap();
    let here = server.url();
    let local = [
        BoxSource::new(oauth(&*here).client(|client| client.proxy(&*proxy)).build().unwrap()),
        BoxSource::new(json(&*here).proxy(&*proxy).build().unwrap()),
        BoxSource::new(oauth(&*here).http(move |http| http.proxy(all.clone())).build().unwrap()),
        BoxSource::new(json(&*here).http(move |http| http.proxy(plain.clone())).build().unwrap()),
    ];
    for source in &local {
        fetch(source).await.unwrap();
    }
    let short = millis(250);
    for url in ["http://169.254.169.254/", "https://169.254.169.254/", "https://[fe80::1]/"] {
        let one =
            oauth(url).allow_http().timeout(short).client(|client| client.proxy(&*proxy)).build().unwrap();
        let other = json(url).allow_http().timeout(short).proxy(&*proxy).build().unwrap();
        let (one, other) = (fetch(&one).await, fetch(&other).await);
        assert!(one.is_err() && other.is_err(), "{url}: nobody is there");
    }
    // Neither the setting nor what a closure adds is for a request in clear.
    for url in ["http://auth.invalid/", "http://metadata.google.internal/"] {
        let (one, other) = (reqwest::Proxy::all(&proxy).unwrap(), reqwest::Proxy::http(&proxy).unwrap());
        let source = oauth(url).allow_http().timeout(short).http(move |http| http.proxy(one.clone()));
        let error = fetch(&source.build().unwrap()).await.unwrap_err();
        assert!(!error.to_string().contains("403"), "{error}");
        let source = json(url).allow_http().timeout(short).http(move |http| http.proxy(other.clone()));
        assert!(fetch(&source.build().unwrap()).await.is_err());
        let source = json(url).allow_http().timeout(short).proxy(&*proxy);
        assert!(fetch(&source.build().unwrap()).await.is_err());
    }
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [""; 0]);
    let far = "https://auth.invalid/";
    let one = oauth(far).client(|client| client.proxy(&*proxy)).build().unwrap();
    let other = json(far).proxy(&*proxy).build().unwrap();
    for error in [fetch(&one).await.unwrap_err(), fetch(&other).await.unwrap_err()] {
        assert!(!error.to_string().contains("pw"), "{error}");
    }
    let seen: Vec<String> = seen.try_iter().collect();
    assert_eq!(seen, ["CONNECT auth.invalid:443 HTTP/1.1"; 2]);
}

#[test]
fn an_odd_proxy_is_refused_by_name_and_not_quoted() {
    for odd in [
        "s3cret",
        "ftp://u:s3cret@p.example",
        "http://",
        "",
        "http:// s3cret",
        "http://p.example/s3cret path",
    ] {
        let built = oauth("https://a.example/").client(|client| client.proxy(odd)).build();
        if let Err(error) = &built {
            assert_eq!(error.field(), "proxy", "{error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
        assert_eq!(
            built.is_ok(),
            JsonEndpoint::get("https://a.example/").proxy(odd).build().is_ok(),
            "{odd}"
        );
    }
    for bad in
        ["s3cret proxy", "ftp://u:s3cret@p.example", "http://", "", "s3cret.example:3128", "file:///s3cret"]
    {
        assert_field(oauth("https://a.example/").client(|client| client.proxy(bad)).build(), "proxy");
        assert_field(json("https://a.example/").proxy(bad).build(), "proxy");
    }
}

#[actix::test]
async fn a_proxy_may_speak_socks() {
    use tokio::io::AsyncReadExt as _;
    for scheme in ["socks5", "socks5h"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("{scheme}://{}", listener.local_addr().unwrap());
        // An address needs no look-up on this side.
        let source = oauth("https://192.0.2.1/token").client(|client| client.proxy(proxy)).build().unwrap();
        let greeted = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_u8().await.unwrap()
        };
        let (greeting, outcome) = tokio::join!(greeted, fetch(&source));
        assert_eq!(greeting, 5, "{scheme}: RFC 1928 section 3");
        assert!(outcome.is_err());
    }
}
