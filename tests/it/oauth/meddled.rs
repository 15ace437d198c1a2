//! Promise 14 when another program changes the vault during an exchange.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokenflight::clock::{Clock, SystemClock};
use tokenflight::source::{AfterCrash, NeedsLogin};
use tokenflight::testing::ManualClock;
use tokenflight::vault::{
    Access, MemoryVault, Record, RefreshTokenStore, Stamp, State, Stored, Swap, VaultError, VaultLock,
};
use tokenflight::{FetchContext, Reason, TokenSource};

use tokenflight::oauth::Client;

use super::loopback::{Loopback, Reply};
use super::rotation::{Family, family, lock, next, source, stored};

/// What happens just before a swap.
#[derive(Clone)]
enum Meddling {
    Nothing,
    /// The vault is as it was before anybody logged in.
    Emptied,
    /// Another program puts its login there.
    Replaced(Box<Record>),
    Fails,
}

/// A vault in which something happens before each swap, without the lock.
#[derive(Clone)]
struct Meddled {
    vault: Arc<Mutex<MemoryVault>>,
    /// The last one comes first.
    swaps: Arc<Mutex<Vec<Meddling>>>,
    locks: Arc<Mutex<usize>>,
}

impl Meddled {
    fn new(swaps: impl IntoIterator<Item = Meddling>) -> Self {
        let mut swaps: Vec<_> = swaps.into_iter().collect();
        swaps.reverse();
        let (vault, swaps) = (Arc::new(Mutex::new(MemoryVault::new())), Arc::new(Mutex::new(swaps)));
        Self { vault, swaps, locks: Arc::default() }
    }

    fn empty(&self) {
        *self.vault.lock().unwrap() = MemoryVault::new();
    }

    fn now(&self) -> MemoryVault {
        self.vault.lock().unwrap().clone()
    }
}

impl RefreshTokenStore for Meddled {
    async fn lock(&self, limit: Duration) -> Result<VaultLock, VaultError> {
        *self.locks.lock().unwrap() += 1;
        self.now().lock(limit).await
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        self.now().load().await
    }

    async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        let meddling = self.swaps.lock().unwrap().pop().unwrap_or(Meddling::Nothing);
        match meddling {
            Meddling::Nothing => {}
            Meddling::Emptied => self.empty(),
            Meddling::Replaced(other) => {
                self.empty();
                let mut stamp = None;
                // Its stamps begin anew: this one is none that was there before.
                for _ in 0..10 {
                    let Swap::Done(done) = self.now().swap(stamp.as_ref(), &other).await.unwrap() else {
                        panic!("nobody else writes")
                    };
                    stamp = Some(done);
                }
            }
            Meddling::Fails => return Err(VaultError::unavailable("the disc is full")),
        }
        self.now().swap(expected, record).await
    }
}

#[actix::test]
async fn a_vault_that_is_emptied_is_not_given_the_first_refresh_token_again() {
    let (family, server) = family(0);
    let vault = Meddled::new([]);
    let source = source(&server, vault.clone(), 0, AfterCrash::TryOnce);
    let token = next(&source, None).await.unwrap();
    vault.empty();
    for _ in 0..2 {
        let error = next(&source, Some(&token)).await.unwrap_err();
        assert_eq!(error.cause::<NeedsLogin>().unwrap().generation, None, "{error}");
    }
    assert_eq!(lock(&family).arrived[&1], 1, "it was spent long ago");
    lock(&family).current = 7;
    source.log_in("refresh-7").await.unwrap();
    next(&source, Some(&token)).await.unwrap();
}

#[actix::test]
async fn nor_is_one_that_is_emptied_while_the_server_refuses() {
    let (family, server) = family(0);
    lock(&family).is_revoked = true;
    let vault = Meddled::new([]);
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    // The login, spending; then `invalid_grant` makes it look again.
    vault.swaps.lock().unwrap().extend([Meddling::Emptied]);
    let emptied = Arc::clone(&vault.vault);
    let error = next(&source, None).await;
    *emptied.lock().unwrap() = MemoryVault::new();
    assert!(error.unwrap_err().cause::<NeedsLogin>().is_some());
    assert!(next(&source, None).await.unwrap_err().cause::<NeedsLogin>().is_some());
    assert_eq!(lock(&family).arrived[&1], 1);
}

#[actix::test]
async fn a_new_token_is_written_into_a_vault_that_was_emptied_meanwhile() {
    let (family, server) = family(0);
    // The login, spending, the next generation.
    let vault = Meddled::new([Meddling::Nothing, Meddling::Nothing, Meddling::Emptied]);
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let token = next(&source, None).await.unwrap();
    let record = stored(&vault).await;
    assert_eq!((record.generation(), record.refresh_token()), (2, "refresh-2"));
    assert_eq!(next(&source, Some(&token)).await.unwrap().secret(), "access-2");
    assert!(lock(&family).arrived.values().all(|times| *times == 1));
}

#[actix::test]
async fn a_login_of_another_client_that_comes_in_between_is_not_sent() {
    let (family, server) = family(0);
    let foreign = Record::first("refresh-1", "https://other.example/token", "app").unwrap();
    for at in 1..=2 {
        let meddling = (0..3).map(|swap| match swap {
            swap if swap == at => Meddling::Replaced(Box::new(foreign.clone())),
            _ => Meddling::Nothing,
        });
        let vault = Meddled::new(meddling);
        let source = source(&server, vault.clone(), 0, AfterCrash::TryOnce);
        let error = next(&source, None).await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains("https://other.example"), "{error}");
        assert_eq!(stored(&vault).await, foreign, "it belongs to somebody else");
        assert_eq!(lock(&family).arrived.values().sum::<u32>(), at - 1, "before the request, after it");
        *lock(&family) = Family::at(1);
    }
}

#[actix::test]
async fn a_login_that_comes_in_between_is_the_one_that_is_used() {
    let (family, server) = family(0);
    let another = Record::first("refresh-7", server.token_url(), "app").unwrap();
    // First before spending, then before the next generation.
    for at in 1..=2 {
        *lock(&family) = Family::at(if at == 1 { 7 } else { 1 });
        let meddling = (0..3).map(|swap| match swap {
            swap if swap == at => Meddling::Replaced(Box::new(another.clone())),
            _ => Meddling::Nothing,
        });
        let vault = Meddled::new(meddling);
        let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
        let shared = Arc::clone(&family);
        let token = next(&source, None).await;
        if at == 1 {
            assert_eq!(token.unwrap().secret(), "access-1");
            assert_eq!(stored(&vault).await.generation(), 2);
        } else {
            // The server of this test knows one login only.
            token.unwrap_err();
        }
        assert_eq!(stored(&vault).await.login(), another.login());
        assert!(lock(&shared).arrived.values().all(|times| *times == 1));
    }
}

#[actix::test]
async fn one_task_alone_saves_what_could_not_be_saved() {
    const FETCHES: usize = 20;
    let (_family, server) = family(0);
    let fails = std::iter::repeat_n(Meddling::Fails, 200);
    let vault = Meddled::new([Meddling::Nothing, Meddling::Nothing].into_iter().chain(fails));
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let token = next(&source, None).await.unwrap();
    for _ in 0..FETCHES {
        next(&source, Some(&token)).await.unwrap_err();
    }
    *vault.locks.lock().unwrap() = 0;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let locks = *vault.locks.lock().unwrap();
    assert!((3..=4).contains(&locks), "it is written again each second, and not {locks} times");
}

#[actix::test]
async fn the_last_possible_generation_is_not_spent() {
    let (family, server) = family(0);
    let first = Record::first("refresh-1", server.token_url(), "app").unwrap();
    let text = String::from_utf8(first.to_bytes().unwrap().to_vec()).unwrap();
    let body = format!(
        "{}\n",
        text.lines().nth(1).unwrap().replace("\"generation\":1", &format!("\"generation\":{}", u64::MAX))
    );
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
    let hash = hash.as_ref().iter().fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
    let last = Record::parse(format!("{{\"tokenflight_vault\":1,\"sha256\":\"{hash}\"}}\n{body}").as_bytes())
        .unwrap();
    let vault = MemoryVault::new();
    assert!(matches!(vault.swap(None, &last).await.unwrap(), Swap::Done(_)));
    let error = next(&source(&server, vault.clone(), 0, AfterCrash::NeedsLogin), None).await.unwrap_err();
    assert!(error.to_string().contains("no generation can follow"), "{error}");
    assert!(lock(&family).arrived.is_empty());
    assert_eq!(stored(&vault).await.state(), &State::Idle);
}

#[actix::test]
async fn a_wall_clock_that_is_set_back_while_an_answer_is_awaited_prolongs_no_grace() {
    let clock = ManualClock::new();
    let (moved, arrived) = (clock.clone(), Arc::new(Mutex::new(0)));
    let count = Arc::clone(&arrived);
    let server = Loopback::start(move |_, _| {
        *count.lock().unwrap() += 1;
        moved.suspend(Duration::from_secs(100));
        moved.set_back(Duration::from_secs(95));
        Reply::lost()
    });
    let source = source(&server, MemoryVault::new(), 30, AfterCrash::NeedsLogin);
    let cx = || FetchContext::new(Reason::Forced).with_clock(Arc::new(clock.clone()));
    let error = source.fetch(cx()).await.unwrap_err();
    assert!(error.to_string().contains("it is not known"), "{error}");
    assert_eq!(*arrived.lock().unwrap(), 1, "the server's grace has ended");
}

/// A server that answers the request for `refresh-1` after `meddling`, and that for `refresh-7` with tokens.
fn meddling_server(
    vault: &MemoryVault,
    status: u16,
    meddling: impl Fn(&Record) -> Record + Send + Sync + 'static,
) -> Loopback {
    let vault = vault.clone();
    Loopback::start(move |_, question| {
        let tokens = |number: u32| {
            serde_json::json!({
                "access_token": format!("access-{number}"), "refresh_token": format!("refresh-{}", number + 1), "expires_in": 600,
            })
        };
        if question.field("refresh_token") == Some("refresh-7") {
            return Reply::json(200, tokens(7));
        }
        futures_executor::block_on(async {
            let there = vault.load().await.unwrap().unwrap();
            let record = meddling(there.record());
            assert!(matches!(vault.swap(Some(there.stamp()), &record).await.unwrap(), Swap::Done(_)));
        });
        Reply::json(
            status,
            if status == 200 { tokens(1) } else { serde_json::json!({ "error": "invalid_grant" }) },
        )
    })
}

#[actix::test]
async fn where_the_server_refuses_and_somebody_has_logged_in_meanwhile_the_new_login_is_used() {
    let vault = MemoryVault::new();
    let server =
        meddling_server(&vault, 400, |there| Record::first("refresh-7", there.issuer(), "app").unwrap());
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    assert_eq!(next(&source, None).await.unwrap().secret(), "access-7");
    assert_eq!(stored(&vault).await.refresh_token(), "refresh-8");
}

#[actix::test]
async fn a_new_token_is_written_over_what_somebody_without_the_lock_made_of_the_old_one() {
    let vault = MemoryVault::new();
    let server =
        meddling_server(&vault, 200, |there| there.dead("it seemed to be", SystemClock.now().wall).unwrap());
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    assert_eq!(next(&source, None).await.unwrap().secret(), "access-1");
    let record = stored(&vault).await;
    assert_eq!((record.generation(), record.state(), record.refresh_token()), (2, &State::Idle, "refresh-2"));
}

/// A server that tells of each request, and answers it after a word.
fn slow_server() -> (Loopback, Receiver<()>, Sender<()>) {
    let (came, has_come) = channel();
    let (release, gate) = channel();
    let gate = Mutex::new(gate);
    let server = Loopback::start(move |_, _| {
        came.send(()).unwrap();
        let _ = gate.lock().unwrap().recv();
        Reply::json(200, serde_json::json!({ "access_token": "access-1", "refresh_token": "refresh-2" }))
    });
    (server, has_come, release)
}

#[actix::test]
async fn a_login_waits_for_the_exchange_of_another_source() {
    let (server, has_come, release) = slow_server();
    let vault = MemoryVault::new();
    let (one, other) = (
        Arc::new(source(&server, vault.clone(), 0, AfterCrash::NeedsLogin)),
        source(&server, vault.clone(), 0, AfterCrash::NeedsLogin),
    );
    let fetch = tokio::spawn(async move { next(&*one, None).await });
    tokio::task::spawn_blocking(move || has_come.recv().unwrap()).await.unwrap();
    let mut login = Box::pin(other.log_in("refresh-7"));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut login).await.is_err(), "it waits");
    release.send(()).unwrap();
    assert_eq!(fetch.await.unwrap().unwrap().secret(), "access-1");
    login.await.unwrap();
    assert_eq!(stored(&vault).await.refresh_token(), "refresh-7");
}

/// A vault that waits for no lock.
#[derive(Clone)]
struct Impatient(MemoryVault);

impl RefreshTokenStore for Impatient {
    async fn lock(&self, limit: Duration) -> Result<VaultLock, VaultError> {
        let mut lock = Box::pin(self.0.lock(limit));
        let lock = std::future::poll_fn(|task| std::task::Poll::Ready(lock.as_mut().poll(task))).await;
        let held = || Err(VaultError::unavailable("another process holds the lock"));
        if let std::task::Poll::Ready(lock) = lock { lock } else { held() }
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        self.0.load().await
    }

    async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        self.0.swap(expected, record).await
    }
}

/// An exchange may take longer than anybody waits for the lock.
#[actix::test]
async fn a_login_waits_for_the_end_of_its_own_source_s_exchange() {
    let (server, has_come, release) = slow_server();
    let vault = MemoryVault::new();
    let source = Arc::new(source(&server, Impatient(vault.clone()), 0, AfterCrash::NeedsLogin));
    let fetch = tokio::spawn({
        let source = Arc::clone(&source);
        async move { next(&*source, None).await }
    });
    tokio::task::spawn_blocking(move || has_come.recv().unwrap()).await.unwrap();
    let mut login = Box::pin(source.log_in("refresh-7"));
    let first = std::future::poll_fn(|task| std::task::Poll::Ready(login.as_mut().poll(task))).await;
    assert!(first.is_pending(), "it waits: {first:?}");
    release.send(()).unwrap();
    assert_eq!(fetch.await.unwrap().unwrap().secret(), "access-1");
    login.await.unwrap();
    assert_eq!(stored(&vault).await.refresh_token(), "refresh-7");
}

#[actix::test]
async fn what_a_crash_has_left_is_repeated_when_the_first_request_has_arrived_for_sure() {
    let (family, server) = family(30);
    let (vault, now) = (MemoryVault::new(), SystemClock.now().wall);
    let first = Record::first("refresh-1", server.token_url(), "app").unwrap();
    let Swap::Done(stamp) = vault.swap(None, &first).await.unwrap() else { panic!("it was empty") };
    let spending = first.spending(now - Duration::from_secs(1)).unwrap();
    assert!(matches!(vault.swap(Some(&stamp), &spending).await.unwrap(), Swap::Done(_)));
    next(&source(&server, vault, 30, AfterCrash::NeedsLogin), None).await.unwrap();
    let waited = SystemClock.now().wall.duration_since(now).unwrap();
    assert!(waited >= Duration::from_millis(990), "{waited:?}");
    assert_eq!(lock(&family).arrived[&1], 1);
}

/// A record with an access token that is good for ten minutes, and that its process has left in the middle.
async fn left_with_access(url: &str) -> MemoryVault {
    let (vault, now) = (MemoryVault::new(), SystemClock.now().wall);
    let access = Access::new("access-0", now, now + Duration::from_secs(600));
    let first = Record::first("refresh-1", url, "app").unwrap().with_access(access);
    let Swap::Done(stamp) = vault.swap(None, &first).await.unwrap() else { panic!("it was empty") };
    let spending = first.spending(now - Duration::from_secs(3)).unwrap();
    assert!(matches!(vault.swap(Some(&stamp), &spending).await.unwrap(), Swap::Done(_)));
    vault
}

#[actix::test]
async fn a_start_inside_the_grace_repeats_what_a_crash_has_left_though_an_access_token_is_there() {
    // When the access token ends, the grace is over.
    let (family, server) = family(30);
    let vault = left_with_access(&server.token_url()).await;
    let token = next(&source(&server, vault.clone(), 30, AfterCrash::NeedsLogin), None).await.unwrap();
    assert_eq!(token.secret(), "access-1");
    assert_eq!((stored(&vault).await.generation(), lock(&family).arrived[&1]), (2, 1));
    // Without a grace nothing is gained by it.
    let (family, server) = super::rotation::family(0);
    let vault = left_with_access(&server.token_url()).await;
    let token = next(&source(&server, vault, 0, AfterCrash::TryOnce), None).await.unwrap();
    assert_eq!(token.secret(), "access-0");
    assert!(lock(&family).arrived.is_empty());
}

#[actix::test]
async fn where_it_cannot_be_repeated_the_access_token_is_as_good_as_before() {
    let server = Loopback::start(|_, _| Reply::json(503, serde_json::json!({})));
    let vault = left_with_access(&server.token_url()).await;
    let token = next(&source(&server, vault.clone(), 30, AfterCrash::NeedsLogin), None).await.unwrap();
    assert_eq!(token.secret(), "access-0");
    assert!(
        matches!(stored(&vault).await.state(), State::Spending { tries: 1, .. }),
        "it was not sent again"
    );
}

#[actix::test]
async fn a_refresh_token_that_is_no_text_has_spent_the_old_one() {
    let arrived = Arc::new(Mutex::new(0));
    let count = Arc::clone(&arrived);
    let server = Loopback::start(move |_, _| {
        *count.lock().unwrap() += 1;
        let odd = serde_json::json!({ "access_token": "access-1", "expires_in": 600, "refresh_token": { "value": "r" } });
        Reply::json(200, odd)
    });
    let source = source(&server, MemoryVault::new(), 0, AfterCrash::NeedsLogin);
    for _ in 0..2 {
        let error = next(&source, None).await.unwrap_err();
        assert!(error.cause::<NeedsLogin>().unwrap().reason.contains("`refresh_token`"), "{error}");
    }
    assert_eq!(*arrived.lock().unwrap(), 1);
}

/// What a server may send beside a good access token, and the refresh token that is in the vault then.
#[actix::test]
async fn an_answer_without_a_new_refresh_token_keeps_the_old_one() {
    for (sent, kept) in [
        (serde_json::json!({}), "refresh-1"),
        (serde_json::json!({ "refresh_token": "" }), "refresh-1"),
        (serde_json::json!({ "refresh_token": null }), "refresh-1"),
        (serde_json::json!({ "refresh_token": "refresh-1" }), "refresh-1"),
        (serde_json::json!({ "refresh_token": "x".repeat(40_000) }), &*"x".repeat(40_000)),
    ] {
        let server = Loopback::start(move |_, _| {
            let mut answer = serde_json::json!({ "access_token": "access-1", "expires_in": 0 });
            answer.as_object_mut().unwrap().extend(sent.as_object().unwrap().clone());
            Reply::json(200, answer)
        });
        let vault = MemoryVault::new();
        let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
        next(&source, None).await.unwrap();
        assert_eq!((stored(&vault).await.generation(), stored(&vault).await.refresh_token()), (2, kept));
        // It has ended already, so it is no news for anybody.
        next(&source, None).await.unwrap();
        assert_eq!(stored(&vault).await.generation(), 3);
    }
}

#[actix::test]
async fn a_runtime_that_ends_in_the_middle_leaves_a_source_that_goes_on() {
    let arrived = Arc::new(Mutex::new(0));
    let (came, has_come) = std::sync::mpsc::channel();
    let count = Arc::clone(&arrived);
    let server = Loopback::start(move |_, _| {
        *count.lock().unwrap() += 1;
        came.send(()).unwrap();
        // Until the client has gone.
        std::thread::park();
        Reply::lost()
    });
    let source = Arc::new(source(&server, MemoryVault::new(), 0, AfterCrash::NeedsLogin));
    let cut = Arc::clone(&source);
    let life = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move { next(&*cut, None).await });
        has_come.recv().unwrap();
        // Waits until its tasks are gone.
        drop(runtime);
    });
    life.join().unwrap();
    let error = next(&*source, None).await.unwrap_err();
    assert_eq!(
        error.cause::<NeedsLogin>().unwrap().generation,
        Some(1),
        "it was sent, and the answer is lost"
    );
    assert_eq!(*arrived.lock().unwrap(), 1);
}

#[actix::test]
async fn a_server_that_cannot_be_found_is_asked_for_before_anything_is_written() {
    let is_gone = Arc::new(Mutex::new(true));
    let gone = Arc::clone(&is_gone);
    let server = Loopback::start(move |origin, question| match &*question.path {
        "/token" => {
            Reply::json(200, serde_json::json!({ "access_token": "access-1", "refresh_token": "refresh-2" }))
        }
        _ if *gone.lock().unwrap() => Reply::lost(),
        _ => Reply::json(
            200,
            serde_json::json!({ "issuer": origin, "token_endpoint": format!("{origin}/token") }),
        ),
    });
    let vault = MemoryVault::new();
    let client = Client::with_issuer(server.origin(), "app").secret("s3cret").build().unwrap();
    let source = client.refresh_token(vault.clone()).login("refresh-1").build().unwrap();
    let error = next(&source, None).await.unwrap_err();
    assert!(!error.is_terminal() && error.to_string().contains("discovery"), "{error}");
    let login = vault.load().await.unwrap();
    next(&source, None).await.unwrap_err();
    assert_eq!(vault.load().await.unwrap(), login, "nothing was written");
    *is_gone.lock().unwrap() = false;
    next(&source, None).await.unwrap();
}
