//! Any fault of a server or the network ends in one error of the HTTP source that describes it.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokenflight::clock::{Clock, SystemClock};
use tokenflight::source::BoxSource;
use tokenflight::source::{JsonEndpoint, JsonEndpointBuilder};
use tokenflight::testing::{FakeAuthServer, Reply};
use tokenflight::{FetchContext, Reason, Token, TokenError, TokenHandle, TokenSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use crate::http_sources::{SECRET, assert_says, client, started};
use crate::support::*;

const TEN_MEGABYTES: usize = 10 * 1024 * 1024;

/// Longer than a test may take that has not failed.
const NEVER: Duration = Duration::from_secs(300);

fn endpoint(url: impl Into<String>) -> JsonEndpointBuilder {
    JsonEndpoint::post(url).header("x-api-key", SECRET).lifetime_pointer("/expires_in")
}

/// Either source, at this address; a request may take so long.
fn both(url: &str, timeout: Duration) -> [TokenHandle; 2] {
    [
        started(client(url).timeout(timeout).build().unwrap()),
        started(endpoint(url).timeout(timeout).build().unwrap()),
    ]
}

/// What either source makes of this answer, and then of a good one.
async fn faced(reply: &Reply, timeout: Duration) -> Vec<TokenError> {
    let mut errors = Vec::new();
    let server = FakeAuthServer::start().await.unwrap();
    for handle in both(&server.url(), timeout) {
        let before = server.asked().len();
        server.then(reply.clone());
        let error = handle.get().await.unwrap_err();
        assert!(handle.current().is_none());
        assert_eq!(server.asked().len(), before + 1, "asked once: {error}");
        handle.get().await.expect("a good answer after the fault");
        errors.push(error);
    }
    errors
}

async fn faced_at_leisure(reply: Reply) -> Vec<TokenError> {
    faced(&reply, NEVER).await
}

fn raw(text: &str) -> Reply {
    Reply::Raw(text.as_bytes().to_vec())
}

#[actix::test]
async fn a_request_ends_when_the_time_for_the_attempt_does() {
    let server = FakeAuthServer::start().await.unwrap();
    let url = server.url();
    for source in
        [BoxSource::new(client(&*url).build().unwrap()), BoxSource::new(endpoint(&*url).build().unwrap())]
    {
        server.then(Reply::Hang);
        let cx = FetchContext::new(Reason::First).with_deadline(SystemClock.now().boot + millis(300));
        let text = source.fetch(cx).await.unwrap_err().to_string();
        assert!(
            text.starts_with("no answer within ") && text.contains("(the time left for the attempt)"),
            "{text}"
        );
        assert!(text.ends_with(&url), "{text}");
    }
}

#[actix::test]
async fn html_instead_of_json_is_named_and_not_quoted() {
    for error in faced_at_leisure(Reply::text(200, "text/html", "<html>s3cret</html>")).await {
        assert!(error.is_unavailable());
        assert_says(&error, &["answered 200 OK with text/html instead of JSON", "/token"]);
    }
    for error in faced_at_leisure(raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ns3cret")).await {
        assert_says(&error, &["with no content type instead of JSON"]);
    }
    for error in faced_at_leisure(Reply::json(200, "")).await {
        assert_says(&error, &["with an empty body instead of JSON"]);
    }
    for error in faced_at_leisure(Reply::json(200, r#"{"access_token":"s3cr"#)).await {
        assert_says(&error, &["instead of JSON (EOF while parsing"]);
    }
}

#[actix::test]
async fn a_success_without_a_token_is_an_error_and_never_a_token() {
    for body in ["{}", "[]", "null", r#"{"expires_in":3600}"#, r#"{"access_token":7}"#] {
        for error in faced_at_leisure(Reply::json(200, body)).await {
            assert!(error.is_unavailable(), "{body}: {error}");
            assert_says(&error, &["answered 200 OK", "access_token"]);
        }
    }
}

#[actix::test]
async fn a_server_that_is_down_is_a_passing_fault_whatever_it_sends_along() {
    let statuses = [500, 502, 504, 408, 425, 429].map(|status| (status, "{}"));
    let bodies = ["{}", "", "<html>s3cret</html>", r#"{"access_token":"s3cret"}"#].map(|body| (503, body));
    for (status, body) in [statuses.as_slice(), bodies.as_slice()].concat() {
        for error in faced_at_leisure(Reply::json(status, body)).await {
            assert!(error.is_unavailable(), "{status}: {error}");
            assert_says(&error, &["http://127.0.0.1", &format!("answered {status} ")]);
        }
    }
    for error in faced_at_leisure(raw("HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\nbroken off")).await {
        assert_says(&error, &["answered 500 "]);
    }
}

#[actix::test]
async fn what_the_client_did_wrong_is_a_refusal() {
    for status in [400, 401, 403, 404, 405, 422] {
        for error in faced_at_leisure(Reply::json(status, r#"{"message":"not you","more":"s3cret"}"#)).await {
            assert!(error.is_rejected(), "{status}: {error}");
            assert_says(&error, &[&format!("answered {status} "), ": not you"]);
        }
    }
}

#[actix::test]
async fn retry_after_is_kept_as_seconds_and_as_a_date() {
    let now = SystemClock.now().wall;
    for (written, least, most) in [
        ("7".to_owned(), 7, 7),
        (httpdate::fmt_http_date(now + secs(200)), 100, 200),
        (httpdate::fmt_http_date(now - secs(200)), 0, 0),
        ("99999999999999999999999".to_owned(), 300, 300),
        ("soon".to_owned(), 0, 0),
    ] {
        let server = FakeAuthServer::start().await.unwrap();
        for handle in both(&server.url(), NEVER) {
            server.then(Reply::json(429, "{}").with_header("Retry-After", &written));
            let error = handle.get().await.unwrap_err();
            let wait = error.retry_after().unwrap();
            assert!((secs(least)..=secs(most)).contains(&wait), "{written}: {wait:?}");
            assert_says(&error, &["429 Too Many Requests"]);
        }
    }
}

#[actix::test]
async fn a_redirect_is_refused_and_its_target_is_not_asked() {
    let target = FakeAuthServer::start().await.unwrap();
    for status in [301, 302, 303, 307, 308] {
        let reply = Reply::text(status, "text/html", "")
            .with_header("Location", format!("{}?k=s3cret", target.url()));
        for error in faced_at_leisure(reply).await {
            assert!(error.is_rejected());
            assert_says(&error, &["answered with a redirect to", &target.url(), "configure the final one"]);
        }
    }
    assert!(target.asked().is_empty());
    for location in ["/login/hunter2 & Co", "/login/hunter2+%26+Co", "//[::"] {
        for error in
            faced_at_leisure(Reply::text(302, "text/html", "").with_header("Location", location)).await
        {
            assert_says(&error, &["answered with a redirect"]);
        }
    }
}

#[actix::test]
async fn no_setting_of_the_http_client_makes_it_follow_a_redirect() {
    let (server, target) = (FakeAuthServer::start().await.unwrap(), FakeAuthServer::start().await.unwrap());
    server.then(Reply::text(307, "text/html", "").with_header("Location", target.url()));
    let follows =
        |http: reqwest::ClientBuilder| http.redirect(reqwest::redirect::Policy::limited(5)).referer(true);
    let handle = started(client(server.url()).http(follows).build().unwrap());
    let error = handle.get().await.unwrap_err();
    assert!(error.is_rejected());
    assert_says(&error, &["answered with a redirect to", &target.url()]);
    assert!(target.asked().is_empty());
}

#[actix::test]
async fn a_body_beyond_the_limit_is_refused_with_and_without_its_length() {
    let big = "x".repeat(TEN_MEGABYTES);
    let close = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{big}");
    let chunk = format!("{TEN_MEGABYTES:x}\r\n{big}\r\n0\r\n\r\n");
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
    for reply in [Reply::json(200, big), raw(&close), raw(&chunked)] {
        for error in faced_at_leisure(reply).await {
            assert!(error.is_unavailable());
            assert_says(&error, &["200 OK with a body of more than 65536 bytes (`max_body`)"]);
        }
    }
    let least = r#"{"access_token":"token"}"#;
    let server = FakeAuthServer::start().await.unwrap();
    for (limit, fits) in [(least.len(), true), (least.len() - 1, false)] {
        server.then(Reply::json(200, least));
        let outcome = started(client(server.url()).max_body(limit).build().unwrap()).get().await;
        assert_eq!(outcome.is_ok(), fits, "{limit} bytes");
    }
}

/// Writes a body without end, and says how much the client took of it before it hung up.
async fn endless(listener: TcpListener) -> usize {
    let (mut stream, _) = listener.accept().await.unwrap();
    let _ = stream.read(&mut [0; 4096]).await.unwrap();
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut written = 0;
    while let Ok(more) = stream.write(&[b' '; 16 * 1024]).await {
        written += more;
    }
    written
}

#[actix::test]
async fn a_body_without_end_is_read_no_further_than_the_limit() {
    for index in 0..2 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(16 * 1024).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let handle = &both(&url, NEVER)[index];
        let (written, outcome) = tokio::join!(endless(listener), handle.get());
        assert_says(&outcome.unwrap_err(), &["more than 65536 bytes"]);
        // The rest stood in the kernel's buffers.
        assert!(written < TEN_MEGABYTES / 2, "{written} bytes");
    }
}

#[actix::test]
async fn an_answer_that_breaks_off_says_so() {
    let truncated = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"access_token\":\"s3cret\"";
    let half_a_chunk =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{\"access_token\":\"s3cret\"}";
    for reply in [raw(truncated), raw(half_a_chunk)] {
        for error in faced_at_leisure(reply).await {
            assert!(error.is_unavailable());
            assert_says(&error, &["the answer of http://127.0.0.1", "broke off: "]);
        }
    }
    for reply in [Reply::Close, raw("HTTP/1.1 200 O"), raw("s3cret\r\n\r\n")] {
        for error in faced_at_leisure(reply).await {
            assert!(error.is_unavailable());
            assert_says(&error, &["the exchange with http://127.0.0.1", "failed: "]);
        }
    }
}

#[actix::test]
async fn a_server_that_hangs_or_drips_is_a_timeout_of_the_source_s_own() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n".to_vec();
    let whole = [head.clone(), vec![b' '; 9999]].concat();
    for reply in [Reply::Hang, Reply::Drip(head, millis(20)), Reply::Drip(whole, millis(1))] {
        for error in faced_in_time(&reply).await {
            assert!(error.is_timeout(), "{error}");
            assert_says(&error, &["timed out", "no answer within 100ms (`timeout`) from http://127.0.0.1"]);
        }
    }
}

/// As [`faced`], but a good answer may take its time too.
async fn faced_in_time(reply: &Reply) -> Vec<TokenError> {
    let server = FakeAuthServer::start().await.unwrap();
    let mut errors = Vec::new();
    for handle in both(&server.url(), millis(100)) {
        server.then(reply.clone());
        errors.push(handle.get().await.unwrap_err());
    }
    errors
}

#[actix::test]
async fn a_port_that_nobody_listens_on_is_named() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    drop(listener);
    for handle in both(&format!("{url}?key=s3cret"), NEVER) {
        let error = handle.get().await.unwrap_err();
        assert!(error.is_unavailable());
        assert_says(&error, &[&format!("cannot connect to {url}: "), "refused"]);
    }
}

#[actix::test]
async fn a_timeout_of_an_age_is_no_overflow() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = client(server.url()).timeout(Duration::MAX).connect_timeout(Duration::MAX);
    let token: Token = started(source.build().unwrap()).get().await.unwrap();
    assert_eq!(token.secret(), "token-1");
}
