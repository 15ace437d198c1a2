//! While the store does not answer.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokenflight::source::{OnOutage, SharedSourceBuilder};
use tokenflight::store::{
    Ask, Failure, LONGEST_VALUE, Lease, Look, MemoryStore, News, SharedKey, SharedStore, StoreError, Stored,
};
use tokenflight::testing::{Answer, ManualClock, ScriptedSource};
use tokenflight::{RefreshPolicy, SourceError, Token, TokenError};

use super::world::*;
use crate::support::*;

/// How the store is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Health {
    Well,
    Down,
    Frozen,
}

/// A store that fails when told to, and counts what it is asked.
#[derive(Clone)]
pub(super) struct Frail(Arc<Mutex<(Health, usize)>>, MemoryStore);

impl Frail {
    fn new(world: &Memory) -> Self {
        Self::around(world.store())
    }

    pub(super) fn around(store: MemoryStore) -> Self {
        Self(Arc::new(Mutex::new((Health::Well, 0))), store)
    }

    pub(super) fn is(&self, health: Health) {
        self.0.lock().unwrap().0 = health;
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().1
    }

    async fn pass(&self) -> Result<&MemoryStore, StoreError> {
        let health = {
            let mut state = self.0.lock().unwrap();
            state.1 += 1;
            state.0
        };
        match health {
            Health::Well => Ok(&self.1),
            Health::Down => Err(StoreError::new("connection refused")),
            Health::Frozen => std::future::pending().await,
        }
    }
}

impl SharedStore for Frail {
    pass_on!(|this| this.pass().await?; watch look_or_lease load renew commit fail);
}

fn start(
    change: impl FnOnce(SharedSourceBuilder) -> SharedSourceBuilder,
) -> (Frail, ScriptedSource, Process) {
    let world = Memory::begin();
    let (store, source) = (Frail::new(&world), ScriptedSource::new().taking(millis(60)));
    let process = process_with(&world, &source, store.clone(), |settings| change(short(settings)));
    (store, source, process)
}

/// How long a forced refresh takes.
async fn refresh(process: &Process) -> Duration {
    let began = tokio::time::Instant::now();
    process.handle.refresh().await.expect("a token");
    began.elapsed()
}

#[actix::test]
async fn a_store_that_is_down_costs_nobody_a_token() {
    let (store, source, process) = start(|settings| settings);
    store.is(Health::Down);
    assert_eq!(process.secret().await, "token-1");
    assert_eq!((process.stats.local(), process.stats.store_errors()), (1, 1));
    assert_eq!(source.calls(), 1);
}

#[actix::test]
async fn a_frozen_store_delays_one_refresh_and_not_each() {
    let (store, _, process) = start(|settings| settings.retry_store(secs(30)));
    store.is(Health::Frozen);
    let first = refresh(&process).await;
    assert!(first >= LEASE / 2 && first < LEASE / 2 + millis(70), "one time limit: {first:?}");
    for _ in 0..10 {
        let next = refresh(&process).await;
        assert!(next < millis(70), "as long as the source takes: {next:?}");
    }
    assert_eq!(store.asked(), 1);
}

#[actix::test]
async fn a_store_that_comes_back_is_used_again() {
    let (store, source, process) = start(|settings| settings.retry_store(secs(5)));
    store.is(Health::Down);
    assert_eq!(process.secret().await, "token-1");
    store.is(Health::Well);
    refresh(&process).await;
    assert_eq!(process.stats.local(), 2, "not yet");
    tokio::time::sleep(secs(5)).await;
    refresh(&process).await;
    assert_eq!((process.stats.local(), process.stats.led()), (2, 1));
    assert_eq!(source.calls(), 3);
    let world_sees = store.1.load(&key()).await.unwrap();
    assert!(world_sees.is_some(), "others have it too");
}

#[actix::test]
async fn a_store_that_stays_down_is_asked_less_and_less() {
    let (store, _, process) = start(|settings| settings.retry_store(secs(5)));
    store.is(Health::Down);
    // 5 s, 10 s, 20 s, 40 s, and then a minute each.
    for _ in 0..600 {
        refresh(&process).await;
        tokio::time::sleep(secs(1)).await;
    }
    assert!((12..=15).contains(&store.asked()), "{} in ten minutes", store.asked());
}

#[actix::test]
async fn a_good_token_is_served_through_any_trouble() {
    let (store, source, process) = start(|settings| settings.on_outage(OnOutage::Fail));
    assert_eq!(process.secret().await, "token-1");
    for health in [Health::Down, Health::Frozen] {
        store.is(health);
        tokio::time::sleep(secs(60)).await;
        assert_eq!(process.secret().await, "token-1");
        assert!(process.handle.current().is_some());
    }
    assert_eq!(source.calls(), 1);
}

#[actix::test]
async fn who_chose_to_fail_fails_and_leaves_the_auth_server_alone() {
    let (store, source, process) = start(|settings| settings.on_outage(OnOutage::Fail));
    store.is(Health::Down);
    let error = process.handle.get().await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("shared store"), "{error}");
    assert_eq!(source.calls(), 0);
    store.is(Health::Well);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(process.secret().await, "token-1", "it recovers by itself");
}

#[actix::test]
async fn a_commit_that_fails_costs_this_process_nothing() {
    let (store, source, process) = start(|settings| settings);
    let (asked, ()) = tokio::join!(process.handle.get(), async {
        source.called(1).await;
        store.is(Health::Down);
    });
    assert_eq!(asked.unwrap().secret(), "token-1");
    assert_eq!(source.calls(), 1);
    assert_eq!(process.stats.store_errors(), 1);
    // And the next refresh does not wait for the store again.
    let asked = store.asked();
    tokio::time::sleep(secs(1)).await;
    refresh(&process).await;
    assert_eq!((store.asked(), process.stats.local()), (asked, 1));
}

/// A flight whose source answers while the store is frozen: what the caller gets, the store's errors,
/// and what the next process finds in the store.
async fn while_the_store_freezes(
    source: &ScriptedSource,
    policy: RefreshPolicy,
) -> (Result<Token, TokenError>, u64, Look) {
    let world = Memory::begin();
    let store = Frail::new(&world);
    let policy = policy.attempt_timeout(secs(1));
    let settings = |settings: SharedSourceBuilder| settings.lease(secs(20)).store_timeout(millis(800));
    let slow = source.clone().taking(millis(300));
    let process = process_by(&world, &slow, store.clone(), settings, policy);
    let (asked, ()) = tokio::join!(process.handle.get(), async {
        source.called(1).await;
        store.is(Health::Frozen);
        // The operation that is under way by then gets no answer.
        tokio::time::sleep(millis(500)).await;
        store.is(Health::Well);
    });
    settle().await;
    let look = store.1.look_or_lease(&key(), &Ask::default()).await.unwrap();
    (asked, process.stats.store_errors(), look)
}

#[actix::test]
async fn a_commit_that_lasts_longer_than_the_attempt_does_not_cost_the_token() {
    let source = ScriptedSource::new();
    let (asked, store_errors, look) = while_the_store_freezes(&source, plain()).await;
    assert_eq!(asked.unwrap().secret(), "token-1");
    assert_eq!((source.calls(), store_errors), (1, 1));
    assert!(matches!(look, Look::Free(_)), "no pause for a success, and the lease is given back: {look:?}");
}

#[actix::test]
async fn a_refusal_is_told_though_the_store_does_not_hear_of_it_in_time() {
    let source = ScriptedSource::new();
    source.then(Answer::Error(SourceError::terminal("wrong secret")));
    let (asked, _, look) = while_the_store_freezes(&source, plain().attempts(1)).await;
    assert!(asked.unwrap_err().is_rejected());
    assert!(matches!(look, Look::Free(_)), "a refusal is no pause for other credentials: {look:?}");
}

#[actix::test]
async fn a_token_that_is_too_long_for_the_store_is_no_outage() {
    let (store, source, process) = start(|settings| settings);
    source.then(token(&"a".repeat(LONGEST_VALUE), HOUR));
    assert_eq!(process.secret().await.len(), LONGEST_VALUE);
    assert_eq!((process.stats.store_errors(), process.stats.local()), (0, 0));
    assert!(matches!(store.1.look_or_lease(&key(), &Ask::default()).await, Ok(Look::Free(_))), "not taken");
    assert_eq!(process.handle.refresh().await.unwrap().secret(), "token-2");
    assert!(store.1.load(&key()).await.unwrap().is_some(), "the store is in use");
}

#[actix::test]
async fn after_an_outage_of_the_auth_server_of_two_minutes_the_fleet_is_served_within_11_seconds() {
    let world = Memory::begin();
    let (is_up, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let fleet: Vec<_> = (0..4)
        .map(|_| {
            let (is_up, calls) = (Arc::clone(&is_up), Arc::clone(&calls));
            let source = tokenflight::source_fn(move |_cx| {
                calls.fetch_add(1, Ordering::Relaxed);
                let is_up = is_up.load(Ordering::Relaxed);
                std::future::ready(if is_up {
                    Ok(tokenflight::Token::new("token").with_lifetime(HOUR))
                } else {
                    Err(SourceError::transient("the server is down"))
                })
            });
            let shared = settings(world.clock()).build(source, world.store()).unwrap();
            tokenflight::TokenActor::builder(shared).policy(plain()).clock(world.clock()).start().unwrap()
        })
        .collect();
    let ask_all = || futures_util::future::join_all(fleet.iter().map(tokenflight::TokenHandle::get));
    let began = tokio::time::Instant::now();
    while began.elapsed() < secs(120) {
        assert!(ask_all().await.iter().all(Result::is_err));
        tokio::time::sleep(secs(1)).await;
    }
    let in_outage = calls.load(Ordering::Relaxed);
    assert!(in_outage <= 30, "{in_outage} calls of the fleet in two minutes");
    is_up.store(true, Ordering::Relaxed);
    let ended = tokio::time::Instant::now();
    while !ask_all().await.iter().all(Result::is_ok) {
        tokio::time::sleep(millis(100)).await;
    }
    assert!(ended.elapsed() <= secs(11), "{:?}", ended.elapsed());
    assert_eq!(calls.load(Ordering::Relaxed), in_outage + 1);
}

/// A store with an operation that panics.
#[derive(Clone)]
struct Explosive {
    operation: &'static str,
    /// When its future is polled, and not when it is called.
    is_lazy: bool,
    store: MemoryStore,
}

impl Explosive {
    fn pass(&self, operation: &str, is_polled: bool) {
        assert!(operation != self.operation || is_polled != self.is_lazy, "the test says so");
    }

    async fn polled<T>(&self, operation: &str, answer: impl Future<Output = T>) -> T {
        self.pass(operation, true);
        answer.await
    }
}

impl SharedStore for Explosive {
    fn watch(&self, key: &SharedKey) -> impl Future<Output = Result<News, StoreError>> + Send {
        self.pass("watch", false);
        self.polled("watch", self.store.watch(key))
    }
    fn look_or_lease(
        &self,
        key: &SharedKey,
        ask: &Ask,
    ) -> impl Future<Output = Result<Look, StoreError>> + Send {
        self.pass("look_or_lease", false);
        self.polled("look_or_lease", self.store.look_or_lease(key, ask))
    }
    fn load(&self, key: &SharedKey) -> impl Future<Output = Result<Option<Stored>, StoreError>> + Send {
        self.store.load(key)
    }
    fn renew(
        &self,
        key: &SharedKey,
        lease: &Lease,
        time: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        self.pass("renew", false);
        self.polled("renew", self.store.renew(key, lease, time))
    }
    fn commit(
        &self,
        key: &SharedKey,
        lease: &Lease,
        value: &[u8],
        lives: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        self.pass("commit", false);
        self.polled("commit", self.store.commit(key, lease, value, lives))
    }
    fn fail(
        &self,
        key: &SharedKey,
        lease: &Lease,
        failure: &Failure,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        self.pass("fail", false);
        self.polled("fail", self.store.fail(key, lease, failure))
    }
}

#[actix::test]
async fn a_store_that_panics_is_one_that_fails() {
    tokio::time::pause();
    for (operation, failures) in
        [("watch", 0), ("look_or_lease", 0), ("renew", 0), ("commit", 0), ("fail", 1)]
    {
        for is_lazy in [false, true] {
            let clock = ManualClock::new();
            let store = MemoryStore::with_clock(clock.clone());
            let source = ScriptedSource::new().taking(millis(300));
            for _ in 0..failures {
                source.then(Answer::Error(SourceError::transient("the server is down")));
            }
            let store = Explosive { operation, is_lazy, store };
            let shared = short(settings(clock.clone())).build(source.clone(), store).unwrap();
            let stats = shared.stats();
            let actor =
                tokenflight::TokenActor::builder(shared).policy(plain()).clock(clock).start().unwrap();
            for call in 1..4 {
                let token = actor.refresh().await.unwrap_or_else(|error| panic!("{operation}: {error}"));
                assert_eq!(token.secret(), format!("token-{}", call + failures), "{operation}");
                assert_eq!(source.calls(), call + failures, "{operation}");
                tokio::time::sleep(secs(30)).await;
            }
            assert_eq!(stats.store_errors() > 0, operation != "renew", "{operation}");
        }
    }
}

#[actix::test]
async fn a_waiter_whose_store_goes_down_refreshes_by_itself() {
    let world = Memory::begin();
    let (store, source) = (Frail::new(&world), ScriptedSource::new());
    let _owner = owner_at_work(&world, store.clone(), |settings| settings).await;
    let process = process_with(&world, &source, store.clone(), short);
    let (asked, ()) = tokio::join!(process.handle.get(), async {
        settle().await;
        store.is(Health::Down);
    });
    assert_eq!(asked.unwrap().secret(), "token-1");
    assert_eq!((process.stats.local(), source.calls()), (1, 1));
}

#[actix::test]
async fn a_store_that_forgets_everything_costs_one_call() {
    let world = Memory::begin();
    let source = ScriptedSource::new().taking(millis(60));
    let fleet = processes(&world, &source, 8);
    assert_all(&get_all(&fleet).await, "token-1");
    world.store().clear();
    assert_all(&get_all(&fleet).await, "token-1");
    assert_eq!(source.calls(), 1, "they have theirs");
    tokio::time::sleep(HOUR).await;
    assert_all(&get_all(&fleet).await, "token-2");
    assert_eq!(source.calls(), 2);
}

#[actix::test]
async fn a_process_whose_clock_was_fast_during_the_outage_takes_the_tokens_of_the_fleet() {
    let world = Memory::begin();
    let (store, source) = (Frail::new(&world), ScriptedSource::new());
    store.is(Health::Down);
    let fast = ManualClock::new();
    fast.set_forward(secs(600));
    let shared = short(settings(fast.clone())).build(source.clone(), store.clone()).unwrap();
    let stats = shared.stats();
    let actor = tokenflight::TokenActor::builder(shared).policy(plain()).clock(fast).start().unwrap();
    assert_eq!(actor.get().await.unwrap().secret(), "token-1", "fetched for itself alone");
    store.is(Health::Well);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(process(&world, &source).secret().await, "token-2");
    assert_eq!(actor.refresh().await.unwrap().secret(), "token-2");
    assert_eq!((stats.adopted(), source.calls()), (1, 2));
}

#[actix::test]
async fn an_older_value_than_ones_own_is_replaced() {
    let world = Memory::begin();
    let (store, source) = (Frail::new(&world), ScriptedSource::new().taking(millis(60)));
    let one = process_with(&world, &source, store.clone(), short);
    let other = process(&world, &source);
    assert_eq!(other.secret().await, "token-1");
    tokio::time::sleep(secs(600)).await;
    store.is(Health::Down);
    assert_eq!(one.secret().await, "token-2", "fetched for itself alone");
    store.is(Health::Well);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(one.handle.refresh().await.unwrap().secret(), "token-3", "not the old one from the store");
    assert_eq!(other.handle.refresh().await.unwrap().secret(), "token-3");
    assert_eq!(source.calls(), 3);
}
