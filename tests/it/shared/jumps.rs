//! The store's clock is set back: by more than a store lets a fence be ahead, or by less.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use tokenflight::SourceError;
use tokenflight::clock::Clock;
use tokenflight::store::{
    Ask, FENCE_AHEAD, Failure, Free, Lease, Look, MemoryStore, News, SharedKey, SharedStore, StoreError,
    Stored,
};
use tokenflight::testing::{Answer, ManualClock, ScriptedSource};

use super::outage::{Frail, Health};
use super::world::*;
use crate::support::*;

const JUMP: Duration = Duration::from_secs(2 * 3_600);

/// The processes' own clocks are right.
fn process_of(clock: &ManualClock, store: impl SharedStore, source: &ScriptedSource) -> Process {
    let shared = settings(clock.clone()).build(source.clone(), store).unwrap();
    let stats = shared.stats();
    let actor = tokenflight::TokenActor::builder(shared).policy(plain()).clock(clock.clone());
    Process { handle: actor.start().unwrap(), stats }
}

/// A store that calls its lease free and never gives it.
#[derive(Clone)]
struct NeverGives {
    store: MemoryStore,
    clock: ManualClock,
    asked: Arc<AtomicUsize>,
}

impl SharedStore for NeverGives {
    pass_on!(|this| this.store; watch load renew commit fail);

    async fn look_or_lease(&self, _: &SharedKey, _: &Ask) -> Result<Look, StoreError> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        assert!(asked < 10_000, "it is asked without a pause");
        let clock = self.clock.now().wall.duration_since(UNIX_EPOCH).unwrap();
        Ok(Look::Free(Free { clock, fence: 0 }))
    }
}

#[actix::test]
async fn a_store_that_never_gives_its_free_lease_is_asked_with_pauses_and_given_up() {
    let world = Memory::begin();
    let store = NeverGives { store: world.store(), clock: world.clock(), asked: Arc::default() };
    let source = ScriptedSource::new();
    let process = process_with(&world, &source, store.clone(), short);
    assert_eq!(process.secret().await, "token-1");
    assert_eq!((process.stats.local(), process.stats.led()), (1, 0));
    let asked = store.asked.load(Ordering::Relaxed);
    assert!(asked <= 30, "two for each 100 ms of 800 ms, and not {asked}");
}

#[actix::test]
async fn after_the_clock_of_the_store_was_set_back_one_call_serves_the_fleet_again() {
    assert!(JUMP > FENCE_AHEAD);
    tokio::time::pause();
    for jump in [JUMP, HOUR / 2, secs(10)] {
        one_call_serves_the_fleet_after(jump).await;
    }
}

async fn one_call_serves_the_fleet_after(jump: Duration) {
    let (own, of_store) = (ManualClock::new(), ManualClock::new());
    let (store, source) = (MemoryStore::with_clock(of_store.clone()), ScriptedSource::new());
    let fleet: Vec<_> = (0..4).map(|_| process_of(&own, store.clone(), &source)).collect();
    assert_all(&get_all(&fleet).await, "token-1");
    of_store.set_back(jump);
    assert_eq!(fleet[0].handle.refresh().await.unwrap().secret(), "token-2");
    for process in &fleet[1..] {
        assert_eq!(process.handle.refresh().await.unwrap().secret(), "token-2", "by the store");
    }
    assert_eq!(source.calls(), 2);
    assert_eq!(sum(&fleet, tokenflight::source::SharedStats::local), 0);
    // And again when the clock is right again.
    of_store.set_forward(jump);
    assert_eq!(fleet[1].handle.refresh().await.unwrap().secret(), "token-3");
    assert_eq!(fleet[0].handle.refresh().await.unwrap().secret(), "token-3");
    assert_eq!(source.calls(), 3);
}

#[actix::test]
async fn a_pause_from_before_the_clock_of_the_store_was_set_back_is_over() {
    tokio::time::pause();
    let (own, of_store) = (ManualClock::new(), ManualClock::new());
    let (store, source) = (MemoryStore::with_clock(of_store.clone()), ScriptedSource::new());
    let busy = SourceError::transient("busy").with_retry_after(secs(30));
    source.then(Answer::Error(busy));
    let first = process_of(&own, store.clone(), &source);
    let asking = actix_rt::spawn(async move { first.handle.get().await });
    source.called(1).await;
    tokio::time::sleep(millis(100)).await;
    of_store.set_back(JUMP);
    let second = process_of(&own, store, &source);
    let began = own.now().boot;
    second.secret().await;
    let waited = own.now().boot - began;
    assert!(waited < secs(30), "{waited:?}");
    drop(asking);
}

#[actix::test]
async fn no_older_token_comes_back_when_the_store_does_so_with_an_earlier_clock() {
    let (own, of_store) = (ManualClock::new(), ManualClock::new());
    tokio::time::pause();
    let store = Frail::around(MemoryStore::with_clock(of_store.clone()));
    let source = ScriptedSource::new();
    let process = process_of(&own, store.clone(), &source);
    assert_eq!(process.secret().await, "token-1");
    store.is(Health::Down);
    tokio::time::sleep(HOUR / 4).await;
    assert_eq!(process.handle.refresh().await.unwrap().secret(), "token-2");
    of_store.set_back(HOUR / 2);
    store.is(Health::Well);
    tokio::time::sleep(HOUR / 60).await;
    assert_eq!(process.handle.refresh().await.unwrap().secret(), "token-3", "token-1 is in the store");
}
