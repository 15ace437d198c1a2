//! Calls of a fleet: two registries with one store never make more calls at once than the fleet has slots.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokenflight::registry::{FleetCalls, TokenRegistry, TokenRegistryBuilder};
use tokenflight::store::{
    Ask, Failure, Lease, Look, MemoryStore, News, SharedKey, SharedStore, SlotAnswer, SlotAsk, StoreError,
    Stored,
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

#[actix::test]
async fn a_group_whose_calls_hang_leaves_slots_of_the_fleet_to_the_others() {
    let fleet = Fleet::begin();
    fleet.source.group(0..8, "hangs");
    fleet.source.group(8..10, "other");
    (0..8).for_each(|key| fleet.source.of(key).hold());
    let tokens = fleet.process_with(4, |builder| builder.max_calls_per_group(8));
    let hang = asks(&tokens, 0..8);
    tokio::time::sleep(secs(3)).await;
    for caller in asks(&tokens, 8..10) {
        let outcome = tokio::time::timeout(secs(3), caller).await;
        assert!(outcome.expect("an outcome in time").unwrap().is_ok());
    }
    assert_eq!(fleet.source.running(), 2);
    hang.iter().for_each(tokio::task::JoinHandle::abort);
}

#[actix::test]
async fn a_process_takes_no_slots_that_the_limit_of_a_group_keeps_from_use() {
    let fleet = Fleet::begin();
    fleet.source.group(0..40, "crowd");
    (0..40).for_each(|key| fleet.source.of(key).hold());
    let tokens = fleet.process_with(16, |builder| builder.max_calls(16).max_calls_per_group(8));
    let crowd = asks(&tokens, 0..40);
    tokio::time::sleep(secs(3)).await;
    // All that its limit allows, and not half of that.
    assert_eq!(fleet.source.running(), 8);
    assert_eq!(takes_free_slots(&fleet, 16).await, 8);
    crowd.iter().for_each(tokio::task::JoinHandle::abort);
}

#[actix::test]
async fn a_group_has_its_part_of_what_is_within_a_process_s_reach() {
    let fleet = Fleet::begin();
    fleet.source.group(0..40, "crowd");
    (0..41).for_each(|key| fleet.source.of(key).hold());
    holds(&fleet, 8).await;
    let tokens = fleet.process_with(16, |builder| builder.max_calls(16).max_calls_per_group(8));
    let mut crowd = asks(&tokens, 0..40);
    tokio::time::sleep(secs(1)).await;
    // The other process holds 8 of 16.
    assert_eq!(fleet.source.running(), 4);
    crowd.extend(asks(&tokens, 40..41));
    tokio::time::sleep(secs(1)).await;
    assert_eq!(fleet.source.running(), 5);
    crowd.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Another process, which shows no sign of life any more.
async fn holds(fleet: &Fleet, slots: usize) {
    let owner = "dead".to_owned();
    let ask = SlotAsk { owner, wanted: slots, most: slots, slots, time: secs(10) };
    assert_eq!(fleet.store.slots(&slots_of_calls(), &ask).await.unwrap().held, slots);
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

/// What `holds` holds is free.
async fn frees(fleet: &Fleet) {
    let ask = SlotAsk { owner: "dead".to_owned(), wanted: 0, most: 0, slots: 1, time: secs(10) };
    assert_eq!(fleet.store.slots(&slots_of_calls(), &ask).await.unwrap().held, 0);
}

#[actix::test]
async fn a_process_whose_last_waiting_key_has_gone_asks_for_slots_again() {
    let fleet = Fleet::begin();
    holds(&fleet, 1).await;
    let tokens = fleet.process(1);
    let gone = asks(&tokens, 1..2);
    tokio::time::sleep(secs(2)).await;
    assert!(tokens.remove(&1).await);
    tokio::time::sleep(secs(3)).await;
    frees(&fleet).await;
    // The store knows no process that waits for a slot.
    assert_eq!(free_slots(&fleet, 1).await, 1);
    let served = tokio::time::timeout(secs(12), tokens.get(&2)).await;
    assert!(served.expect("an outcome when the other process's lease has ended").is_ok());
    drop(gone);
}

#[actix::test]
async fn a_process_that_lost_its_slots_while_it_was_suspended_asks_for_slots_again() {
    let fleet = Fleet::begin();
    fleet.source.of(1).hold();
    let calls = FleetCalls::new(fleet.store.clone(), "auth", 1).lease(secs(1));
    let tokens = fleet.process_with(1, |builder| builder.calls_of_fleet(calls));
    let slow = actix_rt::spawn(tokens.get(&1));
    settle().await;
    fleet.clock.suspend(secs(3));
    holds(&fleet, 1).await;
    // The renewal finds the slot taken, and the call goes on.
    tokio::time::sleep(secs(3)).await;
    assert_eq!(fleet.source.running(), 1);
    fleet.source.of(1).release();
    assert!(slow.await.unwrap().is_ok());
    tokio::time::sleep(secs(3)).await;
    frees(&fleet).await;
    let served = tokio::time::timeout(secs(3), tokens.get(&2)).await;
    assert!(served.expect("an outcome in time").is_ok());
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

/// A store for slots alone, which counts its asks and may have a fault.
#[derive(Clone, Default)]
struct Odd {
    store: Option<MemoryStore>,
    fault: Fault,
    asks: Arc<AtomicUsize>,
    panics: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// Each answer takes another time, so that the processes do not go in step.
    IsUneven,
    SlotsPanic,
    WatchPanics,
    WatchHangs,
    /// The first ask is counted, and its answer never comes.
    FirstAnswerHangs,
}

impl Odd {
    fn with(store: &MemoryStore, fault: Fault) -> Self {
        Self { store: Some(store.clone()), fault, ..Self::default() }
    }

    fn asks(&self) -> usize {
        self.asks.load(Ordering::Relaxed)
    }

    fn panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
        panic!("the test says so");
    }
}

impl SharedStore for Odd {
    fn keeps_slots(&self) -> bool {
        self.store.is_some()
    }
    async fn slots(&self, key: &SharedKey, ask: &SlotAsk) -> Result<SlotAnswer, StoreError> {
        let number = self.asks.fetch_add(1, Ordering::Relaxed);
        if self.fault == Fault::SlotsPanic {
            self.panic();
        }
        if self.fault == Fault::IsUneven {
            tokio::time::sleep(millis(fastrand::u64(..100))).await;
        }
        let answer = self.store.as_ref().unwrap().slots(key, ask).await;
        if self.fault == Fault::FirstAnswerHangs && number == 0 {
            std::future::pending::<()>().await;
        }
        answer
    }
    async fn watch(&self, key: &SharedKey) -> Result<News, StoreError> {
        match self.fault {
            Fault::WatchPanics => self.panic(),
            Fault::WatchHangs => std::future::pending().await,
            _ => {}
        }
        self.store.as_ref().unwrap().watch(key).await
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
async fn a_store_that_panics_is_one_that_fails() {
    tokio::time::pause();
    for fault in [Fault::SlotsPanic, Fault::WatchPanics] {
        let fleet = Fleet::another();
        let store = Odd::with(&fleet.store, fault);
        let calls = FleetCalls::new(store.clone(), "auth", 1);
        let tokens = fleet.process_with(1, |builder| builder.calls_of_fleet(calls));
        for round in 0..3 {
            // Two at once, so that one of them is missing a slot.
            for caller in asks(&tokens, round * 2..round * 2 + 2) {
                let outcome = tokio::time::timeout(secs(3), caller).await;
                assert!(outcome.expect("an outcome in time").unwrap().is_ok());
            }
            tokio::time::sleep(secs(20)).await;
        }
        // It is asked again and again.
        assert!(store.panics.load(Ordering::Relaxed) > 1);
    }
}

#[actix::test]
async fn a_registry_whose_first_arbiter_has_stopped_keeps_to_its_own_limit() {
    let fleet = Fleet::another();
    let (first, second) = (actix_rt::Arbiter::new(), actix_rt::Arbiter::new());
    let (began, has_begun) = std::sync::mpsc::channel();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    // It stops before it comes to what is started on it.
    first.spawn_fn(move || {
        began.send(()).unwrap();
        let _ = ends.recv();
    });
    has_begun.recv().unwrap();
    first.stop();
    let source = fleet.source.clone();
    let calls = FleetCalls::new(fleet.store.clone(), "auth", 1);
    let builder = TokenRegistry::<u32>::builder(source).policy(plain()).calls_of_fleet(calls);
    let tokens = builder.start_on([&first.handle(), &second.handle()]).unwrap();
    drop(end);
    first.join().unwrap();
    // Whose shard is gone is told so; the keys of the other shard have their tokens.
    let found = futures_util::future::join_all((0..20).map(|key| tokens.get(&key)));
    let found = tokio::time::timeout(secs(3), found).await.expect("outcomes in time");
    assert!(found.iter().any(Result::is_ok));
    second.stop();
}

/// How many slots another process is given.
async fn free_slots(fleet: &Fleet, slots: usize) -> usize {
    let ask = SlotAsk { owner: "another".to_owned(), wanted: slots, most: slots, slots, time: secs(10) };
    let answer = fleet.store.slots(&slots_of_calls(), &ask).await.unwrap();
    assert!(!answer.others_want);
    assert_eq!(answer.share, slots, "nobody else wants slots");
    answer.held
}

#[test]
fn a_thread_of_its_own_gives_its_slots_back_before_its_shutdown_is_answered() {
    let fleet = Fleet::another();
    fleet.source.of(1).hold();
    let calls = FleetCalls::new(fleet.store.clone(), "auth", 1);
    let builder = TokenRegistry::<u32>::builder(fleet.source.clone()).policy(plain()).calls_of_fleet(calls);
    let tokens = builder.spawn_thread().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let caller = tokio::spawn(tokens.get(&1));
        while fleet.source.running() == 0 {
            tokio::task::yield_now().await;
        }
        tokens.shutdown().await;
        assert!(caller.await.unwrap().is_err());
        assert_eq!(free_slots(&fleet, 1).await, 1);
    });
}

fn slots_of_calls() -> SharedKey {
    SharedKey::new("auth", [("slots", "of a registry's calls")]).unwrap()
}

/// Asks for all slots as another process, which holds what it is given.
async fn takes_free_slots(fleet: &Fleet, slots: usize) -> usize {
    let ask = SlotAsk { owner: "another".to_owned(), wanted: slots, most: slots, slots, time: secs(10) };
    fleet.store.slots(&slots_of_calls(), &ask).await.unwrap().held
}

#[test]
fn a_thread_of_its_own_gives_its_slots_back_when_the_last_handle_has_gone() {
    let fleet = Fleet::another();
    fleet.source.of(1).hold();
    let calls = FleetCalls::new(fleet.store.clone(), "auth", 1);
    let builder = TokenRegistry::<u32>::builder(fleet.source.clone()).policy(plain()).calls_of_fleet(calls);
    let tokens = builder.spawn_thread().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let caller = tokio::spawn(tokens.get(&1));
        while fleet.source.running() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(takes_free_slots(&fleet, 1).await, 0);
        let mut news = fleet.store.watch(&slots_of_calls()).await.unwrap();
        drop(tokens);
        fleet.source.of(1).release();
        assert!(caller.await.unwrap().is_ok());
        // The store's clock stands still: no lease ends.
        tokio::time::timeout(secs(5), news.next()).await.expect("the slot is free");
        assert_eq!(takes_free_slots(&fleet, 1).await, 1);
    });
}

#[actix::test]
async fn the_slots_are_kept_until_the_last_shard_without_a_handle_has_made_its_calls() {
    const KEYS: u32 = 12;
    const SLOTS: usize = KEYS as usize;
    tokio::time::pause();
    // Which shard is the last to have a call is random.
    for _ in 0..8 {
        let fleet = Fleet::another();
        let keys = 0..KEYS;
        keys.clone().for_each(|key| fleet.source.of(key).hold());
        let calls = FleetCalls::new(fleet.store.clone(), "auth", SLOTS);
        let builder = TokenRegistry::builder(fleet.source.clone()).policy(plain()).clock(fleet.clock.clone());
        let arbiter = actix_rt::Arbiter::current();
        let tokens = builder.calls_of_fleet(calls).start_on([&arbiter, &arbiter]).unwrap();
        let callers = asks(&tokens, keys.clone());
        tokio::time::sleep(secs(1)).await;
        assert_eq!(fleet.source.running(), SLOTS);
        drop(tokens);
        for key in keys {
            fleet.source.of(key).release();
            tokio::time::sleep(millis(200)).await;
            let free = takes_free_slots(&fleet, SLOTS).await;
            assert!(free + fleet.source.running() <= SLOTS, "{free} free, {} run", fleet.source.running());
        }
        for caller in callers {
            assert!(caller.await.unwrap().is_ok());
        }
        assert_eq!(takes_free_slots(&fleet, SLOTS).await, SLOTS);
    }
}

#[actix::test]
async fn a_process_that_is_shut_down_while_it_asks_or_has_no_slot_is_forgotten() {
    let fleet = Fleet::begin();
    let store = Odd::with(&fleet.store, Fault::FirstAnswerHangs);
    let calls = FleetCalls::new(store.clone(), "auth", 2);
    let tokens = fleet.process_with(2, |builder| builder.calls_of_fleet(calls));
    let caller = asks(&tokens, 1..2);
    settle().await;
    assert_eq!(store.asks(), 1);
    tokens.shutdown().await;
    assert_eq!(free_slots(&fleet, 2).await, 2);
    drop(caller);

    let fleet = Fleet::another();
    holds(&fleet, 2).await;
    let tokens = fleet.process(2);
    let caller = asks(&tokens, 1..2);
    tokio::time::sleep(secs(1)).await;
    tokens.shutdown().await;
    let ask = SlotAsk { owner: "dead".to_owned(), wanted: 2, most: 2, slots: 2, time: secs(10) };
    assert_eq!(fleet.store.slots(&slots_of_calls(), &ask).await.unwrap().share, 2);
    drop(caller);
}

#[actix::test]
async fn more_processes_than_slots_ask_seldom_each() {
    const PROCESSES: usize = 40;
    const SECS: usize = 10;
    tokio::time::pause();
    for slots in [1, 4, 10] {
        let fleet = Fleet::another();
        let store = Odd::with(&fleet.store, Fault::IsUneven);
        let process = |_| {
            let calls = FleetCalls::new(store.clone(), "auth", slots);
            fleet.process_with(slots, |builder| builder.calls_of_fleet(calls))
        };
        let processes: Vec<_> = (0..PROCESSES).map(process).collect();
        let mut crowds = Vec::new();
        for tokens in &processes {
            crowds.push(asks(tokens, 0..200));
            // The turns of the processes end one after the other.
            tokio::time::sleep(millis(30)).await;
        }
        let before = (store.asks(), fleet.source.calls());
        tokio::time::sleep(secs(SECS as u64)).await;
        let (asks, calls) = (store.asks() - before.0, fleet.source.calls() - before.1);
        // One a second each, and a few for each slot that becomes free.
        assert!(asks <= PROCESSES * SECS * 3 / 2, "{slots} slots: {asks} asks");
        // A call takes 60 ms. The slots are in use for at least half of the time.
        assert!(calls >= slots * SECS * 8, "{slots} slots: {calls} calls");
        assert!(fleet.source.most_at_once() <= slots);
        crowds.iter().flatten().for_each(tokio::task::JoinHandle::abort);
    }
}

#[actix::test]
async fn slots_are_kept_while_the_store_does_not_answer_who_listens() {
    let fleet = Fleet::begin();
    fleet.source.of(1).hold();
    let store = Odd::with(&fleet.store, Fault::WatchHangs);
    let process = |fault_store: Odd| {
        let calls = FleetCalls::new(fault_store, "auth", 1).lease(secs(1));
        fleet.process_with(1, |builder| builder.calls_of_fleet(calls))
    };
    let (one, two) = (process(store), process(Odd::with(&fleet.store, Fault::None)));
    // It is short of a slot, so it listens.
    let slow = asks(&one, 1..3);
    settle().await;
    let waits = asks(&two, 10..11);
    for _ in 0..500 {
        tokio::time::sleep(millis(10)).await;
        assert_eq!(fleet.source.most_at_once(), 1);
    }
    fleet.source.of(1).release();
    for caller in slow.into_iter().chain(waits) {
        assert!(caller.await.unwrap().is_ok());
    }
    assert_eq!(fleet.source.most_at_once(), 1);
}

#[actix::test]
async fn an_error_of_the_fleet_s_calls_names_the_field() {
    let field = |calls: FleetCalls| {
        let builder = TokenRegistry::builder(Scripts::default()).calls_of_fleet(calls);
        builder.start().unwrap_err().field().to_owned()
    };
    let store = MemoryStore::new;
    assert_eq!(field(FleetCalls::new(store(), "auth", 0)), "calls_of_fleet");
    assert_eq!(field(FleetCalls::new(Odd::default(), "auth", 1)), "calls_of_fleet");
    assert_eq!(field(FleetCalls::new(store(), "auth", 1_000_001)), "calls_of_fleet");
    assert_eq!(field(FleetCalls::new(store(), "", 1)), "name");
    assert_eq!(field(FleetCalls::new(store(), "auth", 1).lease(millis(10))), "calls_of_fleet.lease");
    assert_eq!(field(FleetCalls::new(store(), "auth", 1).lease(secs(61))), "calls_of_fleet.lease");
}
