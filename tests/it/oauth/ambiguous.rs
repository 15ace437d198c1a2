//! A request that may have used the credential, and whose answer is missing: the errors of the callers, and the waits.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;

use tokenflight::source::{AfterCrash, NeedsLogin};
use tokenflight::testing::ManualClock;
use tokenflight::vault::{
    MemoryVault, Record, RefreshTokenStore, Stamp, State, Stored, Swap, VaultError, VaultLock,
};

use super::loopback::Loopback;
use super::rotation::{
    Failing, Family, Fate, Shared, answered, assert_used_once, family, lock, next, source, stored,
};
use super::*;

/// A server whose answers wait for somebody to let them go.
struct Gate {
    family: Shared,
    server: Loopback,
    arrived: Receiver<()>,
    release: Sender<()>,
}

fn gate() -> Gate {
    let family = Family::new(Duration::ZERO);
    let (came, arrived) = channel();
    let (release, gate) = channel();
    let (shared, gate) = (Arc::clone(&family), Mutex::new(gate));
    let server = Loopback::start(move |_, question| {
        let reply = answered(&mut lock(&shared), question);
        came.send(()).unwrap();
        let _ = gate.lock().unwrap().recv();
        reply
    });
    Gate { family, server, arrived, release }
}

fn impatient() -> RefreshPolicy {
    RefreshPolicy::default()
        .attempts(3)
        .backoff(Duration::ZERO)
        .attempt_timeout(millis(300))
        .cooldown(Duration::ZERO)
}

#[actix::test]
async fn while_the_answer_is_awaited_nobody_sends_again_and_then_it_is_used() {
    let Gate { family, server, arrived, release } = gate();
    let handle = TokenActor::builder(source(&server, MemoryVault::new(), 0, AfterCrash::NeedsLogin))
        .policy(impatient())
        .start()
        .unwrap();
    for flights in 1..=3 {
        let error = handle.get().await.unwrap_err();
        assert!(error.is_ambiguous() && error.kind() == "ambiguous", "{error}");
        assert!(error.cause::<SourceError>().unwrap().is_ambiguous());
        let counters = handle.status().await.unwrap().counters;
        assert_eq!((counters.flights, counters.attempts), (flights, flights), "one attempt a flight");
    }
    arrived.recv().unwrap();
    release.send(()).unwrap();
    assert_eq!(handle.get().await.unwrap().secret(), "access-1");
    assert_used_once(&family, &[]);
    assert_eq!(lock(&family).arrived.len(), 1);
}

#[actix::test]
async fn a_token_that_a_later_fetch_gets_lives_from_its_own_request() {
    let Gate { family: _family, server, arrived, release } = gate();
    let clock = ManualClock::new();
    let source = source(&server, MemoryVault::new(), 0, AfterCrash::NeedsLogin);
    let policy = impatient().flight_timeout(secs(600)).wait_timeout(secs(600));
    let handle = TokenActor::builder(source).policy(policy).clock(clock.clone()).start().unwrap();
    assert!(handle.get().await.unwrap_err().is_ambiguous());
    arrived.recv().unwrap();
    clock.suspend(secs(100));
    let joined = tokio::spawn(handle.get());
    tokio::task::yield_now().await;
    // The actor has the caller's message by then, and has begun the fetch.
    handle.status().await.unwrap();
    release.send(()).unwrap();
    let token = joined.await.unwrap().unwrap();
    assert!(token.remaining().unwrap() <= secs(500), "it was issued for 600 s, and 100 s ago: {token:?}");
    assert!(token.age() >= secs(100), "{:?}", token.age());
}

#[actix::test]
async fn a_lost_answer_ends_the_flight_unless_the_token_may_be_sent_again() {
    for (grace, rule, attempts) in
        [(0, AfterCrash::NeedsLogin, 1), (0, AfterCrash::TryOnce, 2), (30, AfterCrash::NeedsLogin, 1)]
    {
        let (family, server) = family(grace);
        lock(&family).fates = vec![Fate::AnswerLost];
        let handle = TokenActor::builder(source(&server, MemoryVault::new(), grace, rule))
            .policy(impatient().attempt_timeout(secs(5)))
            .start()
            .unwrap();
        let outcome = handle.get().await;
        assert_eq!(handle.status().await.unwrap().counters.attempts, attempts, "{grace} {rule:?}");
        match (grace, rule) {
            // Sent again by the source itself, inside the grace.
            (30, _) => assert_eq!(outcome.unwrap().secret(), "access-2"),
            (_, AfterCrash::TryOnce) => assert!(outcome.unwrap_err().cause::<NeedsLogin>().is_some()),
            _ => {
                assert!(outcome.unwrap_err().is_ambiguous());
                assert!(handle.get().await.unwrap_err().cause::<NeedsLogin>().is_some());
                assert_used_once(&family, &[]);
            }
        }
    }
}

#[actix::test]
async fn a_failure_before_anything_was_sent_is_not_ambiguous() {
    let (family, server) = family(0);
    let vault = MemoryVault::new();
    let held = vault.lock(secs(1)).await.unwrap();
    let source = source(&server, vault, 0, AfterCrash::NeedsLogin);
    let handle =
        TokenActor::builder(source).policy(impatient().attempts(1).settle(Duration::ZERO)).start().unwrap();
    let error = handle.get().await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("nothing was sent"), "{error}");
    drop(held);
    assert_eq!(handle.get().await.unwrap().secret(), "access-1");
    assert_used_once(&family, &[]);
    drop(server);
    let error = handle.refresh().await.map(|_| ()).unwrap_err();
    assert!(error.is_unavailable(), "no connection: {error}");
}

#[actix::test]
async fn a_shutdown_waits_for_the_answer_and_its_refresh_token() {
    let Gate { family, server, arrived, release } = gate();
    let vault = MemoryVault::new();
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let handle = TokenActor::builder(source).policy(impatient()).start().unwrap();
    assert!(handle.get().await.unwrap_err().is_ambiguous());
    arrived.recv().unwrap();
    let waiting = handle.get();
    let mut end = Box::pin(handle.shutdown());
    assert!(waiting.await.is_err(), "who waits is told at once");
    assert!(end.as_mut().now_or_never().is_none());
    release.send(()).unwrap();
    end.await;
    let record = stored(&vault).await;
    assert_eq!((record.refresh_token(), record.state()), ("refresh-2", &State::Idle));
    assert_used_once(&family, &[]);
}

/// A vault in memory that somebody else can empty.
#[derive(Clone)]
struct Emptied(Arc<Mutex<Failing>>);

impl Emptied {
    fn vault(&self) -> Failing {
        self.0.lock().unwrap().clone()
    }
}

impl RefreshTokenStore for Emptied {
    async fn lock(&self, limit: Duration) -> Result<VaultLock, VaultError> {
        self.vault().lock(limit).await
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        self.vault().load().await
    }

    async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        self.vault().swap(expected, record).await
    }
}

/// The login and *spending* are written, the next generation is not, so often.
fn failing(times: usize) -> Failing {
    let swaps = [vec![Some(false); times], vec![None, None]].concat();
    Failing { vault: MemoryVault::new(), swaps: Arc::new(Mutex::new(swaps)) }
}

#[actix::test]
async fn a_shutdown_waits_until_the_newest_refresh_token_is_written() {
    let (family, server) = family(0);
    let vault = failing(4);
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let handle = TokenActor::builder(source.clone()).policy(once().settle(Duration::ZERO)).start().unwrap();
    assert_eq!(handle.get().await.unwrap().secret(), "access-1");
    assert!(source.is_unsaved().await);
    // An exchange that ends at once, since the vault cannot be written still.
    assert!(handle.refresh().await.unwrap_err().is_unavailable());
    assert!(source.is_unsaved().await);
    handle.shutdown().await;
    assert!(!source.is_unsaved().await);
    assert_eq!(stored(&vault).await.refresh_token(), "refresh-2");
    assert_used_once(&family, &[]);
}

#[actix::test]
async fn a_vault_that_was_emptied_meanwhile_is_given_the_newest_refresh_token() {
    let (family, server) = family(0);
    let vault = Emptied(Arc::new(Mutex::new(failing(3))));
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let token = next(&source, None).await.unwrap();
    vault.0.lock().unwrap().vault = MemoryVault::new();
    assert_eq!(next(&source, Some(&token)).await.unwrap().secret(), "access-2");
    assert_used_once(&family, &[]);
}

#[actix::test]
async fn who_wants_to_know_is_told_once_that_somebody_has_to_log_in() {
    let (_family, server) = family(0);
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let client = Client::builder(server.token_url(), "app").secret("s3cret").build().unwrap();
    let source = client
        .refresh_token(MemoryVault::new())
        .login("refresh-7")
        .on_needs_login(move |needs| listener.lock().unwrap().push(needs.clone()))
        .build()
        .unwrap();
    for _ in 0..3 {
        let error = next(&source, None).await.unwrap_err();
        assert_eq!(error.cause::<NeedsLogin>().unwrap().generation, Some(1));
    }
    assert_eq!(told.lock().unwrap().len(), 1);
    source.log_in("refresh-8").await.unwrap();
    assert!(next(&source, None).await.unwrap_err().cause::<NeedsLogin>().is_some());
    assert_eq!(told.lock().unwrap().len(), 2, "another login");
}
