//! Promise 14 where a step of the exchange is slow, fails, or is cut off: the connection, the vault, the runtime.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::json;
use tokenflight::clock::{Clock, SystemClock};
use tokenflight::oauth::Client;
use tokenflight::source::{AfterCrash, RefreshToken};
use tokenflight::testing::ManualClock;
use tokenflight::vault::{
    LONGEST_RECORD, MemoryVault, Record, RefreshTokenStore, Stamp, State, Stored, Swap, VaultError, VaultLock,
};
use tokenflight::{FetchContext, Reason, TokenSource};

use super::loopback::{Loopback, Reply};
use super::rotation::{Fate, assert_used_once, family, lock, next, source, stored};

/// What the vault does with a swap.
enum Step {
    Swap,
    /// Another program writes first: the same generation.
    Rewritten,
    /// It is done, and there is no answer.
    Hang,
}

type Steps = dyn Fn(&Record) -> Step + Send + Sync;

/// A vault with a step for each swap, and with a number of loads that succeed.
#[derive(Clone)]
struct Staged {
    vault: MemoryVault,
    step: Arc<Steps>,
    loads: Arc<AtomicUsize>,
}

impl Staged {
    fn new(step: impl Fn(&Record) -> Step + Send + Sync + 'static) -> Self {
        Self {
            vault: MemoryVault::new(),
            step: Arc::new(step),
            loads: Arc::new(AtomicUsize::new(usize::MAX)),
        }
    }
}

impl RefreshTokenStore for Staged {
    async fn lock(&self, limit: Duration) -> Result<VaultLock, VaultError> {
        self.vault.lock(limit).await
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        if self.loads.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.loads.store(0, Ordering::Relaxed);
            return Err(VaultError::unavailable("the disc is gone"));
        }
        self.vault.load().await
    }

    async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        match (self.step)(record) {
            Step::Swap => {}
            Step::Rewritten => {
                let there = self.vault.load().await?.unwrap();
                let _ = self
                    .vault
                    .swap(Some(there.stamp()), &there.record().spending(SystemClock.now().wall)?)
                    .await?;
            }
            Step::Hang => {
                let _ = self.vault.swap(expected, record).await?;
                return std::future::pending().await;
            }
        }
        self.vault.swap(expected, record).await
    }
}

fn is_spending(record: &Record) -> bool {
    matches!(record.state(), State::Spending { .. })
}

/// Finds the server so many times.
struct Finds(AtomicUsize, SocketAddr);

impl Resolve for Finds {
    fn resolve(&self, _: Name) -> Resolving {
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let address = self.1;
        Box::pin(async move {
            left.map_err(|_| "no such host")?;
            Ok(Box::new(std::iter::once(address)) as Addrs)
        })
    }
}

#[actix::test]
async fn a_second_try_that_is_not_sent_is_taken_back_without_a_connection() {
    let (family, server) = family(30);
    lock(&family).fates = vec![Fate::AnswerLost, Fate::Unavailable];
    let address: SocketAddr = server.origin().trim_start_matches("http://").parse().unwrap();
    let found = Arc::new(Finds(AtomicUsize::new(2), address));
    let url = format!("http://localhost:{}/token", address.port());
    let client = Client::builder(url, "app").secret("s3cret");
    let client = client.http(move |builder| builder.dns_resolver(Arc::clone(&found))).build().unwrap();
    let vault = MemoryVault::new();
    let source =
        client.refresh_token(vault.clone()).login("refresh-1").grace(Duration::from_secs(30)).build();
    let error = next(&source.unwrap(), None).await.unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    let state = stored(&vault).await.state().clone();
    assert!(matches!(state, State::Spending { tries: 1, .. }), "it may be sent again: {state:?}");
}

/// The exchange's clock moves by this time while the server's document is fetched.
fn slowly_found(clock: &ManualClock, takes: Duration, arrived: &Arc<AtomicUsize>) -> Loopback {
    let (clock, arrived) = (clock.clone(), Arc::clone(arrived));
    Loopback::start(move |origin, question| {
        if question.path == "/token" {
            arrived.fetch_add(1, Ordering::Relaxed);
            return Reply::json(200, json!({ "access_token": "access-1", "refresh_token": "refresh-2" }));
        }
        clock.suspend(takes);
        Reply::json(200, json!({ "issuer": origin, "token_endpoint": format!("{origin}/token") }))
    })
}

fn found_by_issuer(server: &Loopback, vault: MemoryVault, grace: u64) -> RefreshToken<MemoryVault> {
    let client = Client::with_issuer(server.origin(), "app").secret("s3cret").build().unwrap();
    client.refresh_token(vault).login("refresh-1").grace(Duration::from_secs(grace)).build().unwrap()
}

#[actix::test]
async fn a_connection_may_take_longer_than_a_write() {
    let (clock, arrived) = (ManualClock::new(), Arc::default());
    let server = slowly_found(&clock, Duration::from_secs(7), &arrived);
    let vault = MemoryVault::new();
    let source = found_by_issuer(&server, vault.clone(), 0);
    let cx = FetchContext::new(Reason::Forced).with_clock(Arc::new(clock));
    assert_eq!(source.fetch(cx).await.unwrap().secret(), "access-1");
    assert_eq!(stored(&vault).await.refresh_token(), "refresh-2");
}

#[actix::test]
async fn a_grace_that_ends_while_the_connection_is_opened_is_over() {
    let (clock, arrived) = (ManualClock::new(), Arc::new(AtomicUsize::new(0)));
    let server = slowly_found(&clock, Duration::from_secs(20), &arrived);
    let vault = MemoryVault::new();
    let first = Record::first("refresh-1", format!("{}/", server.origin()), "app").unwrap();
    let Swap::Done(stamp) = vault.swap(None, &first).await.unwrap() else { panic!("it was empty") };
    let spending = first.spending(clock.now().wall - Duration::from_secs(10)).unwrap();
    assert!(matches!(vault.swap(Some(&stamp), &spending).await.unwrap(), Swap::Done(_)));
    let source = found_by_issuer(&server, vault.clone(), 30);
    let cx = FetchContext::new(Reason::Forced).with_clock(Arc::new(clock));
    let error = source.fetch(cx).await.unwrap_err();
    assert!(error.to_string().contains("it is not known"), "{error}");
    assert_eq!(arrived.load(Ordering::Relaxed), 0, "it was sent 30 s ago");
}

#[actix::test]
async fn a_slow_write_is_named_and_followed_by_no_request() {
    let (family, server) = family(0);
    let clock = ManualClock::new();
    let slow = clock.clone();
    let vault = Staged::new(move |record| {
        if is_spending(record) {
            slow.suspend(Duration::from_secs(6));
        }
        Step::Swap
    });
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let cx = FetchContext::new(Reason::Forced).with_clock(Arc::new(clock));
    let error = source.fetch(cx).await.unwrap_err();
    assert!(!error.is_terminal() && error.to_string().contains("took 5 s or longer"), "{error}");
    assert!(lock(&family).arrived.is_empty());
    assert_eq!(stored(&vault).await.state(), &State::Idle);
}

#[actix::test]
async fn a_runtime_that_ends_during_the_write_before_the_request_leaves_a_token_that_was_not_sent() {
    let (family, server) = family(0);
    let (came, has_come) = std::sync::mpsc::channel();
    let hangs = Mutex::new(Some(came));
    let vault = Staged::new(move |record| match hangs.lock().unwrap().take_if(|_| is_spending(record)) {
        Some(came) => {
            came.send(()).unwrap();
            Step::Hang
        }
        None => Step::Swap,
    });
    let source = Arc::new(source(&server, vault.clone(), 0, AfterCrash::NeedsLogin));
    let cut = Arc::clone(&source);
    let life = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let fetch = runtime.spawn(async move { next(&*cut, None).await });
        has_come.recv().unwrap();
        // Waits until its tasks are gone.
        drop(runtime);
        drop(fetch);
    });
    life.join().unwrap();
    assert!(is_spending(&stored(&vault).await));
    assert_eq!(next(&*source, None).await.unwrap().secret(), "access-1");
    assert_used_once(&family, &[]);
}

#[actix::test]
async fn a_new_token_that_others_keep_from_the_vault_is_saved_later() {
    let (family, server) = family(0);
    let left = AtomicUsize::new(3);
    let vault = Staged::new(move |record| {
        let rewritten = record.generation() == 2
            && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if rewritten { Step::Rewritten } else { Step::Swap }
    });
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let token = next(&source, None).await.unwrap();
    assert_eq!(token.secret(), "access-1");
    assert!(source.is_unsaved().await, "it is kept in memory");
    assert_eq!(next(&source, Some(&token)).await.unwrap().secret(), "access-2");
    assert_eq!(stored(&vault).await.refresh_token(), "refresh-3");
    assert_used_once(&family, &[]);
}

#[actix::test]
async fn a_refresh_token_is_kept_without_an_access_token_that_no_vault_can_keep() {
    let server = Loopback::start(|_, _| {
        let long = "x".repeat(LONGEST_RECORD + 1);
        Reply::json(200, json!({ "access_token": long, "refresh_token": "refresh-2", "expires_in": 600 }))
    });
    let client = Client::builder(server.token_url(), "app").secret("s3cret").max_body(2 * LONGEST_RECORD);
    let vault = MemoryVault::new();
    let source = client.build().unwrap().refresh_token(vault.clone()).login("refresh-1").build().unwrap();
    assert!(next(&source, None).await.unwrap().secret().len() > LONGEST_RECORD);
    assert!(!source.is_unsaved().await);
    let record = stored(&vault).await;
    assert_eq!((record.generation(), record.refresh_token()), (2, "refresh-2"));
    assert!(record.access().is_none());
}

#[actix::test]
async fn a_refusal_is_told_though_the_vault_fails_after_it() {
    let (family, server) = family(0);
    lock(&family).is_revoked = true;
    let vault = Staged::new(|_| Step::Swap);
    vault.loads.store(1, Ordering::Relaxed);
    let source = source(&server, vault, 0, AfterCrash::NeedsLogin);
    let error = next(&source, None).await.unwrap_err();
    let said = error.to_string();
    assert!(!error.is_terminal() && said.contains("invalid_grant") && said.contains("the disc"), "{error}");
    assert!(!said.contains("nothing was sent"), "{error}");
}

/// A server that keeps its connections, and counts them.
fn keeping_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let connections = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let (mut line, mut length) = (String::new(), 0);
                    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                        let lower = line.to_ascii_lowercase();
                        let found =
                            lower.strip_prefix("content-length:").and_then(|text| text.trim().parse().ok());
                        length = found.unwrap_or(length);
                        line.clear();
                    }
                    if line.is_empty() || reader.read_exact(&mut vec![0; length]).is_err() {
                        return;
                    }
                    let body = r#"{"access_token":"access","refresh_token":"refresh","expires_in":600}"#;
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
                    write!(stream, "{head} {}\r\n\r\n{body}", body.len()).unwrap();
                }
            });
        }
    });
    (address, connections)
}

#[actix::test]
async fn each_request_has_a_connection_of_its_own_whatever_the_program_sets() {
    let (address, connections) = keeping_server();
    let client = Client::builder(format!("http://{address}/token"), "app").secret("s3cret");
    let client = client.http(|builder| builder.pool_max_idle_per_host(4)).build().unwrap();
    let source = client.refresh_token(MemoryVault::new()).login("refresh-1").build().unwrap();
    let token = next(&source, None).await.unwrap();
    let _ = next(&source, Some(&token)).await;
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}
