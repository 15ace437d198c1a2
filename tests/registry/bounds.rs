//! Promise 10: the waiters and the busy keys have limits, each with its own error.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokenflight::registry::{KeyGet, TokenRegistry};
use tokenflight::source::KeyedSource;
use tokenflight::testing::ManualClock;
use tokenflight::{FetchContext, RefreshPolicy, SourceError, Token};

use crate::support::*;

#[actix::test]
async fn one_more_busy_key_is_told_that_there_are_too_many() {
    let rig = rig_with(|builder| builder.max_busy_keys(2));
    let (one, two) = (rig.asks(1), rig.asks(2));
    settle().await;
    assert!(rig.tokens.get(&3).await.unwrap_err().is_too_many_keys());
    assert!(one.await.unwrap().is_ok() && two.await.unwrap().is_ok());
    assert!(rig.tokens.get(&3).await.is_ok(), "there is room again");
    let totals = rig.tokens.totals().await.unwrap();
    assert_eq!((totals.too_many_keys, totals.busy_keys, totals.keys), (1, 0, 3));
}

#[actix::test]
async fn a_key_at_rest_is_no_exception_from_the_limit_of_busy_keys() {
    let rig = rig_with(|builder| builder.max_busy_keys(2));
    for key in 1..5 {
        rig.tokens.get(&key).await.unwrap();
    }
    tokio::time::sleep(millis(3_590_000)).await;
    let callers: Vec<_> = (1..5).map(|key| rig.asks(key)).collect();
    settle().await;
    assert_eq!(rig.tokens.totals().await.unwrap().busy_keys, 2);
    let mut refused = 0;
    for caller in callers {
        refused += usize::from(caller.await.unwrap().is_err_and(|error| error.is_too_many_keys()));
    }
    assert_eq!(refused, 2);
}

#[actix::test]
async fn a_key_with_a_good_token_is_served_while_others_are_busy() {
    let rig = rig_with(|builder| builder.max_busy_keys(1));
    rig.tokens.get(&1).await.unwrap();
    let busy = rig.asks(2);
    settle().await;
    let (to, told) = Collector::begin();
    rig.tokens.subscribe(1, to, 1);
    assert!(rig.tokens.get(&1).await.is_ok());
    settle().await;
    assert!(told.to(1, 1)[0].is_ok());
    assert!(busy.await.unwrap().is_ok());
}

/// Its looks never end. It notes how long each may take.
#[derive(Clone, Default)]
struct Staring(Arc<Mutex<Vec<Option<Duration>>>>);

impl KeyedSource<u32> for Staring {
    async fn fetch(&self, key: &u32, _: FetchContext) -> Result<Token, SourceError> {
        Ok(Token::new(format!("called-for-{key}")))
    }

    async fn look(&self, _: &u32, cx: FetchContext) -> Option<Token> {
        self.0.lock().unwrap().push(cx.time_left());
        std::future::pending().await
    }

    fn can_look(&self) -> bool {
        true
    }
}

#[actix::test]
async fn a_look_that_does_not_end_is_given_up_and_its_key_rests() {
    tokio::time::pause();
    let source = Staring::default();
    let builder = TokenRegistry::builder(source.clone()).policy(plain().settle(HOUR)).max_busy_keys(1);
    let tokens = builder.clock(ManualClock::new()).start().unwrap();
    let token = tokens.get(&1).await.unwrap();
    assert!(tokens.replace(&1, &token).await.unwrap().is_same(&token), "it has not settled");
    settle().await;
    assert_eq!(tokens.totals().await.unwrap().busy_keys, 1);
    tokio::time::sleep(secs(12)).await;
    assert_eq!(tokens.totals().await.unwrap().busy_keys, 0);
    assert!(tokens.get(&2).await.is_ok(), "its place is free");
    assert_eq!(*source.0.lock().unwrap(), [Some(secs(10))], "the policy's `attempt_timeout`");
}

#[actix::test]
async fn who_goes_away_gives_the_seat_back() {
    let rig = rig_with(|builder| builder.max_waiters(2));
    rig.source.of(1).hold();
    let goes = [rig.asks(1), rig.asks(1)];
    settle().await;
    assert!(rig.tokens.get(&2).await.unwrap_err().is_overloaded());
    goes.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::time::sleep(secs(2)).await;
    let (one, two) = tokio::join!(rig.tokens.get(&2), rig.tokens.get(&3));
    assert!(one.is_ok() && two.is_ok(), "those who have gone are searched for first");
    assert_eq!(rig.tokens.totals().await.unwrap().counters.overloads, 1);
}

/// A waker that panics.
struct Explosive;

impl Wake for Explosive {
    fn wake(self: Arc<Self>) {
        panic!("the test says so");
    }
}

#[actix::test]
async fn a_waker_that_panics_at_the_end_of_a_search_costs_neither_the_shard_nor_the_other_searchers() {
    let rig = rig_with(|builder| builder.max_waiters(1));
    rig.source.of(1).hold();
    let stays = rig.asks(1);
    settle().await;
    let mut explosive = rig.tokens.get(&2);
    let waker = Waker::from(Arc::new(Explosive));
    assert!(Pin::new(&mut explosive).poll(&mut Context::from_waker(&waker)).is_pending());
    let mut others: Vec<_> = (3..43).map(|key| rig.tokens.get(&key)).collect();
    for other in &mut others {
        assert!(begins(other).await, "it waits for the end of the search");
    }
    for other in others {
        let refused = tokio::time::timeout(secs(1), other).await.expect("nobody hangs");
        assert!(refused.unwrap_err().is_overloaded());
    }
    assert_eq!(rig.tokens.totals().await.unwrap().waiters, 1, "the shard still answers");
    rig.source.of(1).release();
    assert!(stays.await.unwrap().is_ok());
}

/// Polls it once, with a waker that panics.
fn begins_with_explosive(future: Pin<&mut impl Future>) {
    let waker = Waker::from(Arc::new(Explosive));
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
}

#[actix::test]
async fn a_waker_that_panics_at_an_answer_costs_the_shard_nothing() {
    let rig = rig();
    assert!(rig.tokens.get(&1).await.is_ok());
    let mut status = Box::pin(rig.tokens.status(&1));
    begins_with_explosive(status.as_mut());
    let mut totals = Box::pin(rig.tokens.totals());
    begins_with_explosive(totals.as_mut());
    let mut remove = Box::pin(rig.tokens.remove(&2));
    begins_with_explosive(remove.as_mut());
    let mut retain = Box::pin(rig.tokens.retain(|_| true));
    begins_with_explosive(retain.as_mut());
    settle().await;
    assert!(rig.tokens.get(&1).await.is_ok());
    assert!(rig.tokens.get(&2).await.is_ok());
    assert_eq!(status.await.unwrap().counters.flights, 1);
    assert_eq!((totals.await.unwrap().keys, remove.await, retain.await), (1, false, 0));

    let mut ends: Vec<_> = (0..3).map(|_| Box::pin(rig.tokens.shutdown())).collect();
    for end in &mut ends {
        begins_with_explosive(end.as_mut());
    }
    tokio::time::timeout(secs(1), rig.tokens.shutdown()).await.expect("the shard has ended");
    assert!(rig.tokens.get(&1).await.unwrap_err().is_stopped());
}

/// The clone panics when it is dropped.
struct Bomb(bool);

impl Clone for Bomb {
    fn clone(&self) -> Self {
        Self(true)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0, "the test says so");
    }
}

#[actix::test]
async fn a_closure_that_panics_when_it_is_dropped_costs_the_shard_nothing() {
    let rig = rig();
    for key in 0..3 {
        assert!(rig.tokens.get(&key).await.is_ok());
    }
    let bomb = Bomb(false);
    let retained = rig.tokens.retain(move |key| {
        let _ = &bomb;
        *key > 0
    });
    assert_eq!(retained.await, 1);
    assert_eq!(rig.tokens.totals().await.unwrap().keys, 2, "the shard still answers");
}

#[actix::test]
async fn callers_who_come_and_go_behind_one_who_stays_take_no_seat_from_others() {
    let rig = rig_with(|builder| builder.max_waiters(3));
    let (to, told) = Collector::begin();
    rig.source.of(1).hold();
    let stays = rig.asks(1);
    for ticket in 0..10 {
        tokio::time::sleep(secs(2)).await;
        let goes = [rig.asks(1), rig.asks(1)];
        settle().await;
        goes.iter().for_each(tokio::task::JoinHandle::abort);
        settle().await;
        if ticket % 2 == 0 {
            assert!(rig.tokens.get(&2).await.is_ok());
            assert!(rig.tokens.remove(&2).await);
        } else {
            rig.tokens.subscribe(2, to.clone(), ticket);
            tokio::time::sleep(secs(1)).await;
            assert!(told.to(2, ticket)[0].is_ok());
            assert!(rig.tokens.remove(&2).await);
        }
    }
    assert_eq!(rig.tokens.totals().await.unwrap().counters.overloads, 0);
    rig.source.of(1).release();
    assert!(stays.await.unwrap().is_ok());
}

#[actix::test]
async fn one_key_has_a_limit_of_its_own() {
    let rig = rig_with(|builder| builder.policy(plain().max_waiters(2)));
    let two = [rig.asks(1), rig.asks(1)];
    settle().await;
    assert!(rig.tokens.get(&1).await.unwrap_err().is_overloaded());
    assert!(rig.tokens.get(&2).await.is_ok());
    for caller in two {
        assert!(caller.await.unwrap().is_ok());
    }
}

/// Asks for another key's token in the very moment in which the answer is there.
struct AsksAgain(TokenRegistry<u32>, Mutex<Option<KeyGet<u32>>>);

impl Wake for AsksAgain {
    fn wake(self: Arc<Self>) {
        let mut again = self.0.get(&2);
        let polled = Pin::new(&mut again).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "the seat is free before the answer is there: {polled:?}");
        *self.1.lock().unwrap() = Some(again);
    }
}

#[actix::test]
async fn who_has_the_answer_finds_the_seat_free() {
    let rig = rig_with(|builder| builder.max_waiters(1));
    let asks = Arc::new(AsksAgain(rig.tokens.clone(), Mutex::default()));
    let mut get = rig.tokens.get(&1);
    assert!(Pin::new(&mut get).poll(&mut Context::from_waker(&asks.clone().into())).is_pending());
    tokio::time::sleep(millis(70)).await;
    let again = asks.1.lock().unwrap().take().expect("it was woken");
    assert!(get.await.is_ok() && again.await.is_ok());
}

#[actix::test]
async fn an_error_of_the_builder_names_the_field() {
    let builder = || TokenRegistry::builder(Scripts::default());
    let field = |builder: tokenflight::registry::TokenRegistryBuilder<u32>| {
        builder.start().unwrap_err().field().to_owned()
    };
    assert_eq!(field(builder().max_keys(0)), "max_keys");
    assert_eq!(field(builder().max_busy_keys(0)), "max_busy_keys");
    assert_eq!(field(builder().max_keys(3).max_busy_keys(4)), "max_busy_keys");
    assert_eq!(field(builder().max_waiters(0)), "max_waiters");
    assert_eq!(field(builder().max_calls(0)), "max_calls");
    assert_eq!(field(builder().max_calls_per_group(0)), "max_calls_per_group");
    assert_eq!(field(builder().max_calls(2).max_calls_per_group(3)), "max_calls_per_group");
    assert_eq!(field(builder().idle_timeout(secs(0))), "idle_timeout");
    assert_eq!(field(builder().name("a\0b")), "name");
    assert_eq!(field(builder().policy(RefreshPolicy::default().background(true))), "background");
    assert_eq!(field(builder().policy(RefreshPolicy::default().attempts(0))), "attempts");
    assert_eq!(builder().start_on([]).unwrap_err().field(), "arbiters");
}

#[actix::test]
async fn a_crowd_for_one_key_stands_in_nobody_elses_way() {
    const CROWD: u64 = 20_000;
    tokio::time::pause();
    let (to, told) = Collector::begin();
    let (seen, before) = (told.clone(), Arc::new(AtomicUsize::new(usize::MAX)));
    let noted = Arc::clone(&before);
    let source = move |key: u32, _cx: FetchContext| {
        if key == 2 {
            noted.store(seen.total(), Ordering::Relaxed);
        }
        async { Ok(Token::new("token").with_lifetime(secs(3_600))) }
    };
    let tokens = TokenRegistry::builder(source).clock(ManualClock::new()).start().unwrap();
    tokens.get(&1).await.unwrap();
    (0..CROWD).for_each(|ticket| tokens.subscribe(1, to.clone(), ticket));
    tokens.subscribe(2, to, 0);
    settle().await;
    let before = before.load(Ordering::Relaxed);
    assert!(before < 5_000, "{before} of the crowd had been told when the other key's call began");
    assert_eq!(told.total(), 20_001);
    told.assert_each_once(1, 0..CROWD);
    told.assert_each_once(2, 0..1);
}

#[actix::test]
async fn a_call_goes_on_while_messages_pour_in() {
    const KEYS: u32 = 20_000;
    tokio::time::pause();
    let own = Arc::new(OnceLock::<TokenRegistry<u32>>::new());
    let keys_then = Arc::new(AtomicUsize::new(usize::MAX));
    let (known, noted) = (Arc::clone(&own), Arc::clone(&keys_then));
    let source = move |key: u32, _cx: FetchContext| {
        let (known, noted) = (Arc::clone(&known), Arc::clone(&noted));
        async move {
            if key == 0 {
                noted.store(known.get().unwrap().len(), Ordering::Relaxed);
            }
            Ok(Token::new("token").with_lifetime(secs(3_600)))
        }
    };
    let builder = TokenRegistry::builder(source).max_keys(30_000).max_busy_keys(30_000);
    let tokens = builder.clock(ManualClock::new()).start().unwrap();
    own.set(tokens.clone()).unwrap();
    let (to, told) = Collector::begin();
    (0..KEYS).for_each(|key| tokens.subscribe(key, to.clone(), 0));
    tokio::time::sleep(secs(1)).await;
    let keys_then = keys_then.load(Ordering::Relaxed);
    assert!(keys_then < 5_000, "{keys_then} keys had been made when the first one's call went on");
    assert_eq!(told.total(), 20_000);
}

#[actix::test]
async fn a_refresh_ahead_or_for_a_report_makes_no_key_busy_beyond_the_limit() {
    let rig = rig_with(|builder| builder.max_busy_keys(1));
    let old = [rig.tokens.get(&1).await.unwrap(), rig.tokens.get(&2).await.unwrap()];
    rig.source.of(3).hold();
    let busy = rig.asks(3);
    settle().await;
    rig.tokens.invalidate(&1, &old[0]);
    settle().await;
    assert_eq!(rig.tokens.totals().await.unwrap().busy_keys, 1, "no flight for a report");
    assert!(rig.tokens.current(&1).unwrap().is_same(&old[0]), "it stays in use");
    rig.source.of(3).release();
    assert!(busy.await.unwrap().is_ok());

    tokio::time::sleep(secs(3_540)).await;
    rig.source.of(4).hold();
    let busy = rig.asks(4);
    settle().await;
    for _ in 0..3 {
        assert!(rig.tokens.current(&2).unwrap().is_same(&old[1]));
        settle().await;
        assert_eq!(rig.tokens.totals().await.unwrap().busy_keys, 1, "no flight ahead");
    }
    rig.source.of(4).release();
    assert!(busy.await.unwrap().is_ok());
    tokio::time::sleep(secs(2)).await;
    assert!(rig.tokens.current(&2).is_some());
    tokio::time::sleep(secs(1)).await;
    assert_eq!(rig.source.of(2).calls(), 2, "a later read refreshes ahead");
}

#[actix::test]
async fn a_token_that_is_discarded_while_every_key_is_busy_is_not_handed_out() {
    let policy = plain().backoff(millis(0));
    let rig = rig_with(|builder| builder.max_keys(1).max_busy_keys(1).policy(policy));
    rig.source.of(2).then(token("bad", HOUR)).then(token("good", HOUR));
    rig.source.of(1).hold();
    let busy = rig.asks(1);
    settle().await;
    rig.tokens.discard(&2, &tokenflight::Token::new("bad"));
    settle().await;
    rig.source.of(1).release();
    assert!(busy.await.unwrap().is_ok());
    assert_eq!(rig.tokens.get(&2).await.unwrap().secret(), "good");
}

#[actix::test]
async fn a_subscription_near_the_token_s_end_makes_no_key_busy_beyond_the_limit() {
    let rig = rig_with(|builder| builder.max_busy_keys(1));
    let old = rig.tokens.get(&1).await.unwrap();
    tokio::time::sleep(secs(3_540)).await;
    rig.source.of(2).hold();
    let busy = rig.asks(2);
    settle().await;
    let (to, told) = Collector::begin();
    rig.tokens.subscribe(1, to, 1);
    settle().await;
    assert!(told.to(1, 1)[0].as_ref().unwrap().is_same(&old), "it is told the token in use");
    assert_eq!(rig.tokens.totals().await.unwrap().busy_keys, 1, "and no flight begins");
    rig.source.of(2).release();
    assert!(busy.await.unwrap().is_ok());
    tokio::time::sleep(secs(2)).await;
    assert!(rig.tokens.current(&1).is_some());
    settle().await;
    assert_eq!(rig.source.of(1).calls(), 2, "a later read refreshes ahead");
}

#[actix::test]
async fn a_subscription_takes_the_seat_that_became_free_before_its_turn() {
    let rig = rig_with(|builder| builder.max_waiters(1));
    rig.source.of(1).hold();
    let caller = rig.asks(1);
    settle().await;
    let mut removed = Box::pin(rig.tokens.remove(&1));
    assert!(begins(&mut removed).await);
    let (to, told) = Collector::begin();
    rig.tokens.subscribe(2, to, 7);
    assert!(removed.await && caller.await.unwrap().is_err());
    tokio::time::sleep(secs(1)).await;
    assert_eq!(told.to(2, 7)[0].as_ref().unwrap().secret(), "token-1");
}

#[actix::test]
async fn a_report_that_a_discard_brings_along_makes_no_key_busy_beyond_the_limit() {
    let rig = rig_with(|builder| builder.max_busy_keys(1));
    let old = rig.tokens.get(&1).await.unwrap();
    rig.source.of(2).hold();
    let busy = rig.asks(2);
    settle().await;
    // The discard's message comes first, and finds both reports.
    rig.tokens.discard(&1, &tokenflight::Token::new("another"));
    rig.tokens.invalidate(&1, &old);
    settle().await;
    assert_eq!(rig.tokens.totals().await.unwrap().busy_keys, 1, "no flight for a report");
    assert!(rig.tokens.current(&1).unwrap().is_same(&old), "it stays in use");
    rig.source.of(2).release();
    assert!(busy.await.unwrap().is_ok());
}

#[actix::test]
async fn the_largest_numbers_overflow_nothing() {
    let forever = std::time::Duration::MAX;
    let rig = rig_with(|builder| {
        builder
            .max_keys(usize::MAX)
            .max_busy_keys(usize::MAX)
            .max_waiters(usize::MAX)
            .max_calls(usize::MAX)
            .max_calls_per_group(usize::MAX)
            .idle_timeout(forever)
            .policy(plain().max_waiters(usize::MAX).wait_timeout(forever).report_every(forever))
    });
    for key in 1..4 {
        let old = rig.tokens.get(&key).await.unwrap();
        assert!(rig.tokens.replace(&key, &old).await.is_ok());
    }
    rig.source.of(4).then(transient());
    assert!(rig.tokens.get(&4).await.is_ok(), "by its second attempt");
    assert_eq!(rig.tokens.totals().await.unwrap().max_calls, usize::MAX);
}

#[actix::test]
async fn the_largest_limit_of_calls_lets_a_group_make_many() {
    let rig = rig_with(|builder| builder.max_calls(usize::MAX));
    rig.source.group(0..11, "one");
    assert!(rig.tokens.get(&0).await.is_ok());
    (1..11).for_each(|key| rig.source.of(key).hold());
    let callers: Vec<_> = (1..11).map(|key| rig.asks(key)).collect();
    settle().await;
    assert_eq!(rig.source.running(), 10);
    callers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[actix::test]
async fn while_every_key_is_busy_a_report_gets_the_token_in_use() {
    let rig = rig_with(|builder| builder.max_busy_keys(1));
    let old = rig.tokens.get(&2).await.unwrap();
    let new = rig.tokens.replace(&2, &old).await.unwrap();
    rig.source.of(1).hold();
    let busy = rig.asks(1);
    settle().await;
    assert!(rig.tokens.replace(&2, &old).await.unwrap().is_same(&new), "it was replaced before");
    assert!(rig.tokens.replace(&2, &new).await.unwrap().is_same(&new), "no flight may start");
    assert_eq!(rig.source.of(2).calls(), 2);
    assert!(rig.tokens.refresh(&2).await.unwrap_err().is_too_many_keys());
    assert!(rig.tokens.replace(&3, &old).await.unwrap_err().is_too_many_keys());
    let totals = rig.tokens.totals().await.unwrap();
    assert_eq!((totals.too_many_keys, totals.busy_keys), (2, 1));
    rig.source.of(1).release();
    assert!(busy.await.unwrap().is_ok());
    assert!(!rig.tokens.replace(&2, &new).await.unwrap().is_same(&new));
}

#[actix::test]
async fn the_status_of_a_key_counts_the_callers_in_its_line() {
    let rig = rig();
    rig.tokens.get(&1).await.unwrap();
    tokio::time::sleep(millis(3_595_000)).await;
    rig.source.of(1).hold();
    let (to, told) = Collector::begin();
    for ticket in 0..5_000 {
        rig.tokens.subscribe(1, to.clone(), ticket);
    }
    assert_eq!(rig.tokens.status(&1).await.unwrap().waiters, 5_000);
    rig.source.of(1).release();
    tokio::time::sleep(secs(1)).await;
    told.assert_each_once(1, 0..5_000);
    assert_eq!(rig.tokens.status(&1).await.unwrap().waiters, 0);
}
