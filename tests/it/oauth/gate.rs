//! All steps that can fail without the refresh token succeed before the refresh token is sent.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokenflight::source::AfterCrash;
use tokenflight::vault::{
    MemoryVault, Record, RefreshTokenStore, Stamp, State, Stored, Swap, VaultError, VaultLock,
};

use super::rotation::{next, stored};
use super::*;

type Check = Box<dyn Fn() + Send + Sync>;

/// A vault that looks around before *spending* is written.
#[derive(Clone)]
struct Watched(MemoryVault, Arc<Check>);

impl RefreshTokenStore for Watched {
    async fn lock(&self, limit: Duration) -> Result<VaultLock, VaultError> {
        self.0.lock(limit).await
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        self.0.load().await
    }

    async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        if matches!(record.state(), State::Spending { .. }) {
            (self.1)();
            // As a vault that waits for a disc: the runtime sees meanwhile what has become of the connection.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        self.0.swap(expected, record).await
    }
}

fn source(url: String, vault: Watched) -> tokenflight::source::RefreshToken<Watched> {
    let client = Client::with_token_url(url, "app").secret("s3cret").build().unwrap();
    client.refresh_token(vault).login("refresh-1").after_crash(AfterCrash::NeedsLogin).build().unwrap()
}

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    (listener, url)
}

#[actix::test]
async fn the_refresh_token_leaves_when_spending_is_written_on_a_connection_that_stood_before() {
    let (listener, url) = listener();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (tell, connected) = channel();
    let bytes = Arc::clone(&seen);
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        tell.send(()).unwrap();
        let mut buffer = [0; 4096];
        while !bytes.lock().unwrap().windows(9).any(|part| part == b"refresh-1") {
            let read = stream.read(&mut buffer).unwrap();
            assert_ne!(read, 0, "the request broke off");
            bytes.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
        let body =
            r#"{"access_token":"a","token_type":"Bearer","expires_in":600,"refresh_token":"refresh-2"}"#;
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let (connected, early): (Mutex<Receiver<()>>, _) = (Mutex::new(connected), Arc::clone(&seen));
    let check: Check = Box::new(move || {
        connected.lock().unwrap().recv().unwrap();
        let early = String::from_utf8(early.lock().unwrap().clone()).unwrap();
        assert!(!early.contains("refresh"), "{early}");
    });
    let vault = Watched(MemoryVault::new(), Arc::new(check));
    let token = next(&source(url, vault.clone()), None).await.unwrap();
    assert_eq!(token.secret(), "a");
    assert_eq!(stored(&vault).await.refresh_token(), "refresh-2");
    server.join().unwrap();
    let request = String::from_utf8(seen.lock().unwrap().clone()).unwrap().to_lowercase();
    assert!(request.contains("content-length: ") && !request.contains("chunked"), "{request}");
}

#[actix::test]
async fn without_a_connection_nothing_is_written() {
    let (listener, url) = listener();
    drop(listener);
    let check: Check = Box::new(|| panic!("spending is written"));
    let vault = Watched(MemoryVault::new(), Arc::new(check));
    let source = source(url, vault.clone());
    for _ in 0..2 {
        let error = next(&source, None).await.unwrap_err();
        assert!(!error.is_ambiguous() && !error.is_terminal(), "{error}");
        assert!(error.to_string().contains("cannot connect"), "{error}");
    }
    assert_eq!(stored(&vault).await.state(), &State::Idle);
}

#[actix::test]
async fn a_connection_that_is_closed_before_the_token_was_sent_says_so() {
    let (listener, url) = listener();
    let (go, going) = channel::<()>();
    let (tell, closed) = channel();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        going.recv().unwrap();
        drop(stream);
        tell.send(()).unwrap();
    });
    let (go, closed) = (Mutex::new(go), Mutex::new(closed));
    let check: Check = Box::new(move || {
        go.lock().unwrap().send(()).unwrap();
        closed.lock().unwrap().recv().unwrap();
    });
    let vault = Watched(MemoryVault::new(), Arc::new(check));
    let error = next(&source(url, vault.clone()), None).await.unwrap_err();
    assert!(!error.is_ambiguous() && !error.is_terminal(), "{error}");
    assert_eq!(stored(&vault).await.state(), &State::Idle, "it is as good as before");
    server.join().unwrap();
}
