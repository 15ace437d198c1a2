//! Calls of a fleet: two registries with one store never make more calls at once than the fleet has slots.

use tokenflight::registry::{FleetCalls, TokenRegistry, TokenRegistryBuilder};
use tokenflight::store::{
    Ask, Failure, Lease, Look, MemoryStore, News, SharedKey, SharedStore, SlotAsk, StoreError, Stored,
};
use tokenflight::testing::ManualClock;

use crate::support::*;

struct Fleet {
    store: MemoryStore,
    clock: ManualClock,
    source: Scripts,
}

impl Fleet {
    fn begin() -> Self {
        tokio::time::pause();
        Self::another()
    }

    /// Where time stands still already.
    fn another() -> Self {
        let clock = ManualClock::new();
        Self { store: MemoryStore::with_clock(clock.clone()), clock, source: Scripts::default() }
    }

    fn process(&self, slots: usize) -> TokenRegistry<u32> {
        self.process_with(slots, |builder| builder)
    }

    fn process_with(
        &self,
        slots: usize,
        set: impl FnOnce(TokenRegistryBuilder<u32>) -> TokenRegistryBuilder<u32>,
    ) -> TokenRegistry<u32> {
        let builder = TokenRegistry::builder(self.source.clone()).policy(plain()).clock(self.clock.clone());
        let calls = FleetCalls::new(self.store.clone(), "auth", slots);
        set(builder.calls_of_fleet(calls).max_calls_per_group(16)).start().expect("the settings are sound")
    }
}

fn asks(tokens: &TokenRegistry<u32>, keys: std::ops::Range<u32>) -> Vec<tokio::task::JoinHandle<Outcome>> {
    keys.map(|key| actix_rt::spawn(tokens.get(&key))).collect()
}

#[actix::test]
async fn two_processes_never_make_more_calls_than_the_fleet_has_slots() {
    let fleet = Fleet::begin();
    let (one, two) = (fleet.process(3), fleet.process(3));
    let callers = [asks(&one, 0..60), asks(&two, 100..160)];
    for caller in callers.into_iter().flatten() {
        assert!(caller.await.unwrap().is_ok());
    }
    assert_eq!((fleet.source.most_at_once(), fleet.source.calls()), (3, 120));
}

#[actix::test]
async fn a_process_alone_has_all_slots_and_no_more_calls_than_its_own_limit() {
    let fleet = Fleet::begin();
    let tokens = fleet.process_with(8, |builder| builder.max_calls_per_group(4).max_calls(4));
    for caller in asks(&tokens, 0..20) {
        assert!(caller.await.unwrap().is_ok());
    }
    assert_eq!(fleet.source.most_at_once(), 4);
    let fleet = Fleet::another();
    let tokens = fleet.process(8);
    for caller in asks(&tokens, 0..20) {
        assert!(caller.await.unwrap().is_ok());
    }
    assert_eq!(fleet.source.most_at_once(), 8);
}

#[actix::test]
async fn a_process_with_one_call_has_its_turn_beside_one_with_a_crowd() {
    tokio::time::pause();
    for slots in 1..4 {
        let fleet = Fleet::another();
        let (crowded, other) = (fleet.process(slots), fleet.process(slots));
        let crowd = asks(&crowded, 0..400);
        tokio::time::sleep(secs(1)).await;
        let began = tokio::time::Instant::now();
        assert!(other.get(&1_000).await.is_ok());
        assert!(began.elapsed() < secs(3), "{slots} slots: after {:?}", began.elapsed());
        crowd.iter().for_each(tokio::task::JoinHandle::abort);
        assert!(fleet.source.most_at_once() <= slots);
    }
}

#[actix::test]
async fn a_burst_after_a_time_without_calls_waits_for_its_slots() {
    let fleet = Fleet::begin();
    for key in 0..101 {
        drop(fleet.source.of(key).taking(secs(1)));
    }
    let tokens = fleet.process(16);
    assert!(tokens.get(&0).await.is_ok());
    tokio::time::sleep(secs(5)).await;
    for caller in asks(&tokens, 1..101) {
        let outcome = caller.await.unwrap();
        assert!(outcome.is_ok(), "{outcome:?}");
    }
    assert!(fleet.source.most_at_once() <= 16);
}

/// Another process, which shows no sign of life any more.
async fn holds(fleet: &Fleet, slots: usize) {
    let key = SharedKey::new("auth", [("slots", "of a registry's calls")]).unwrap();
    let owner = "dead".to_owned();
    let ask = SlotAsk { owner, wanted: slots, most: slots, slots, time: secs(10) };
    assert_eq!(fleet.store.slots(&key, &ask).await.unwrap().held, slots);
}

#[actix::test]
async fn the_slots_of_a_process_that_has_died_are_free_when_its_lease_has_ended() {
    let fleet = Fleet::begin();
    holds(&fleet, 2).await;
    let tokens = fleet.process(2);
    let began = tokio::time::Instant::now();
    assert!(tokens.get(&1).await.is_ok());
    let after = began.elapsed();
    assert!(after >= secs(10) && after < secs(12), "{after:?}");
}

#[actix::test]
async fn a_process_that_is_shut_down_or_has_nothing_to_do_gives_its_slots_back() {
    let fleet = Fleet::begin();
    let (one, two) = (fleet.process(1), fleet.process(1));
    assert!(one.get(&1).await.is_ok());
    one.shutdown().await;
    settle().await;
    let began = tokio::time::Instant::now();
    assert!(two.get(&2).await.is_ok());
    assert!(began.elapsed() < millis(200), "{:?}", began.elapsed());
    tokio::time::sleep(secs(3)).await;
    let three = fleet.process(1);
    let began = tokio::time::Instant::now();
    assert!(three.get(&3).await.is_ok());
    assert!(began.elapsed() < millis(200), "{:?}", began.elapsed());
}

#[actix::test]
async fn a_call_keeps_its_slot_for_longer_than_a_lease() {
    let fleet = Fleet::begin();
    fleet.source.of(1).hold();
    let settings = |builder: TokenRegistryBuilder<u32>| {
        let calls = FleetCalls::new(fleet.store.clone(), "auth", 1).lease(secs(1));
        builder.calls_of_fleet(calls)
    };
    let (one, two) = (fleet.process_with(1, settings), fleet.process_with(1, settings));
    let slow = actix_rt::spawn(one.get(&1));
    settle().await;
    let waits = actix_rt::spawn(two.get(&2));
    tokio::time::sleep(secs(8)).await;
    assert_eq!((fleet.source.running(), waits.is_finished()), (1, false));
    fleet.source.of(1).release();
    assert!(waits.await.unwrap().is_ok());
    assert!(slow.await.unwrap().is_ok());
    assert_eq!(fleet.source.most_at_once(), 1);
}

/// It keeps tokens and no slots.
struct NoSlots;

impl SharedStore for NoSlots {
    async fn watch(&self, _: &SharedKey) -> Result<News, StoreError> {
        unreachable!()
    }
    async fn look_or_lease(&self, _: &SharedKey, _: &Ask) -> Result<Look, StoreError> {
        unreachable!()
    }
    async fn load(&self, _: &SharedKey) -> Result<Option<Stored>, StoreError> {
        unreachable!()
    }
    async fn renew(&self, _: &SharedKey, _: &Lease, _: std::time::Duration) -> Result<bool, StoreError> {
        unreachable!()
    }
    async fn commit(
        &self,
        _: &SharedKey,
        _: &Lease,
        _: &[u8],
        _: std::time::Duration,
    ) -> Result<bool, StoreError> {
        unreachable!()
    }
    async fn fail(&self, _: &SharedKey, _: &Lease, _: &Failure) -> Result<bool, StoreError> {
        unreachable!()
    }
}

#[actix::test]
async fn an_error_of_the_fleet_s_calls_names_the_field() {
    let field = |calls: FleetCalls| {
        let builder = TokenRegistry::builder(Scripts::default()).calls_of_fleet(calls);
        builder.start().unwrap_err().field().to_owned()
    };
    let store = MemoryStore::new;
    assert_eq!(field(FleetCalls::new(store(), "auth", 0)), "calls_of_fleet");
    assert_eq!(field(FleetCalls::new(NoSlots, "auth", 1)), "calls_of_fleet");
    assert_eq!(field(FleetCalls::new(store(), "", 1)), "name");
    assert_eq!(field(FleetCalls::new(store(), "auth", 1).lease(millis(10))), "calls_of_fleet.lease");
    assert_eq!(field(FleetCalls::new(store(), "auth", 1).lease(secs(61))), "calls_of_fleet.lease");
}
