//! Promise 16: the number of kept keys is limited. An eviction costs a call, and never an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_rt::{Arbiter, System};
use tokenflight::registry::TokenRegistry;
use tokenflight::{FetchContext, Token};

use crate::support::*;

#[actix::test]
async fn a_key_that_is_used_stays_and_one_that_is_not_goes() {
    let rig = rig_with(|builder| builder.max_keys(3));
    for key in 1..4 {
        rig.tokens.get(&key).await.unwrap();
    }
    // The hand goes round once and wipes the marks; the oldest goes.
    rig.tokens.get(&4).await.unwrap();
    assert!(rig.tokens.current(&1).is_none());
    assert!(rig.tokens.current(&2).is_some());
    rig.tokens.get(&5).await.unwrap();
    assert!(rig.tokens.current(&2).is_some(), "it was used since");
    assert!(rig.tokens.current(&3).is_none());
    assert_eq!((rig.tokens.len(), rig.tokens.totals().await.unwrap().evicted), (3, 2));
}

#[actix::test]
async fn a_key_that_is_waited_for_is_not_evicted() {
    let rig = rig_with(|builder| builder.max_keys(2));
    rig.source.of(1).hold();
    let pinned = rig.asks(1);
    settle().await;
    for key in 2..10 {
        rig.tokens.get(&key).await.unwrap();
        assert!(rig.tokens.len() <= 2);
    }
    rig.source.of(1).release();
    assert!(pinned.await.unwrap().is_ok());
    assert_eq!(rig.source.of(1).calls(), 1);
}

#[actix::test]
async fn a_key_whose_callers_nobody_has_seen_yet_is_not_evicted() {
    let rig = rig_with(|builder| builder.max_keys(2));
    rig.source.of(1).then(token("short", secs(5)));
    rig.tokens.get(&1).await.unwrap();
    rig.tokens.get(&3).await.unwrap();
    tokio::time::sleep(secs(10)).await;
    let (to, told) = Collector::begin();
    // The shard hears of the other key first, and needs room for it.
    rig.tokens.subscribe(2, to.clone(), 0);
    (0..10).for_each(|ticket| rig.tokens.subscribe(1, to.clone(), ticket));
    tokio::time::sleep(secs(1)).await;
    told.assert_each_once(1, 0..10);
    assert!((0..10).all(|ticket| told.to(1, ticket)[0].is_ok()), "{:?}", told.to(1, 0));
    assert!(told.to(2, 0)[0].is_ok());
}

#[actix::test]
async fn whoever_nobody_has_seen_yet_is_told_when_the_key_is_removed_and_when_all_stops() {
    let rig = rig();
    rig.tokens.get(&1).await.unwrap();
    rig.tokens.get(&2).await.unwrap();
    let (to, told) = Collector::begin();
    let removing = rig.tokens.clone();
    let mut removed = Box::pin(async move { removing.remove(&1).await });
    assert!(begins(&mut removed).await);
    let mut stopped = Box::pin(rig.tokens.shutdown());
    assert!(begins(&mut stopped).await);
    for key in [1, 2] {
        (0..3_000).for_each(|ticket| rig.tokens.subscribe(key, to.clone(), ticket));
    }
    assert!(removed.await);
    stopped.await;
    settle().await;
    for key in [1, 2] {
        told.assert_each_once(key, 0..3_000);
        assert!(told.to(key, 2_999)[0].as_ref().unwrap_err().is_stopped());
    }
}

#[actix::test]
async fn a_key_that_nobody_asks_for_goes_after_the_idle_time() {
    let rig = rig_with(|builder| builder.idle_timeout(secs(400)));
    rig.tokens.get(&1).await.unwrap();
    rig.tokens.get(&2).await.unwrap();
    for _ in 0..6 {
        tokio::time::sleep(secs(90)).await;
        assert!(rig.tokens.current(&2).is_some());
    }
    assert!(rig.tokens.current(&1).is_none());
    let totals = rig.tokens.totals().await.unwrap();
    assert_eq!((totals.keys, totals.idled, totals.evicted), (1, 1, 0));
}

#[actix::test]
async fn a_key_that_only_subscribers_ask_for_is_not_idle() {
    let rig = rig_with(|builder| builder.idle_timeout(secs(400)));
    let (to, told) = Collector::begin();
    for ticket in 0..10 {
        rig.tokens.subscribe(1, to.clone(), ticket);
        tokio::time::sleep(secs(90)).await;
    }
    told.assert_each_once(1, 0..10);
    assert_eq!(rig.source.calls(), 1);
}

#[actix::test]
async fn a_key_is_removed_with_all_that_it_knows_and_who_waits_is_told() {
    let rig = rig();
    rig.tokens.get(&1).await.unwrap();
    assert!(rig.tokens.remove(&1).await);
    assert!(!rig.tokens.remove(&1).await);
    assert!(rig.tokens.is_empty() && rig.tokens.current(&1).is_none());
    rig.source.of(2).hold();
    let waiting = rig.asks(2);
    settle().await;
    assert!(rig.tokens.remove(&2).await);
    assert!(waiting.await.unwrap().unwrap_err().is_stopped());
    assert_eq!(rig.source.running(), 0, "its call is dropped");
    rig.source.of(2).release();
    assert_eq!(rig.tokens.get(&2).await.unwrap().secret(), "token-2");
    let totals = rig.tokens.totals().await.unwrap();
    assert_eq!((totals.keys, totals.busy_keys, totals.calls), (1, 0, 0));
    assert_eq!(totals.counters.landed, 2, "what has gone is counted still");
}

#[actix::test]
async fn retain_keeps_what_it_is_told_to_also_where_it_panics() {
    let rig = rig();
    for key in 0..10 {
        rig.tokens.get(&key).await.unwrap();
    }
    let gone = rig.tokens.retain(|key| {
        assert_ne!(*key, 9, "the test says so");
        key % 2 == 0
    });
    assert_eq!(gone.await, 4);
    assert_eq!(rig.tokens.len(), 6);
    assert!(rig.tokens.current(&9).is_some() && rig.tokens.current(&7).is_none());
}

/// Several threads, several shards, twenty times as many keys as there is room for.
#[test]
fn eviction_costs_calls_and_never_an_error_from_several_threads_and_in_several_shards() {
    let calls = Arc::new(AtomicUsize::new(0));
    System::new().block_on(async {
        let arbiters: Vec<_> = (0..3).map(|_| Arbiter::new()).collect();
        let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
        let counted = Arc::clone(&calls);
        let source = move |key: u32, _: FetchContext| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::task::yield_now().await;
                Ok(Token::new(format!("{key}")))
            }
        };
        let builder = TokenRegistry::builder(source).max_keys(20).policy(plain());
        let tokens = builder.start_on(&handles).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|seed| {
                let tokens = tokens.clone();
                std::thread::spawn(move || {
                    let mut dice = fastrand::Rng::with_seed(seed);
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        for _ in 0..2_000 {
                            let key = dice.u32(..400);
                            assert_eq!(tokens.get(&key).await.unwrap().secret(), key.to_string());
                        }
                    });
                })
            })
            .collect();
        tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| thread.join().unwrap()))
            .await
            .unwrap();
        let totals = tokens.totals().await.unwrap();
        assert_eq!((totals.busy_keys, totals.waiters, totals.calls), (0, 0, 0));
        assert!(totals.keys <= 20, "{}", totals.keys);
        assert_eq!(totals.counters.landed, calls.load(Ordering::Relaxed) as u64);
        tokens.shutdown().await;
        for arbiter in &arbiters {
            arbiter.stop();
        }
    });
}

/// Decisions of the gate and withdrawals cross between the shards.
#[test]
fn whatever_several_shards_do_all_slots_come_back() {
    System::new().block_on(async {
        let arbiters: Vec<_> = (0..3).map(|_| Arbiter::new()).collect();
        let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
        let source = |_: u32, _: FetchContext| async {
            tokio::task::yield_now().await;
            Ok(Token::new("a"))
        };
        let tokens = TokenRegistry::builder(source).max_calls(2).start_on(&handles).unwrap();
        let threads: Vec<_> = (0..4_u32)
            .map(|seed| {
                let tokens = tokens.clone();
                std::thread::spawn(move || {
                    let mut dice = fastrand::Rng::with_seed(seed.into());
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        for _ in 0..1_000 {
                            let gets = (0..4).map(|_| tokens.get(&dice.u32(..30)));
                            let gets = futures_util::future::join_all(gets);
                            let own = seed * 7;
                            tokio::join!(gets, tokens.remove(&own), tokens.remove(&3));
                        }
                    });
                })
            })
            .collect();
        tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| thread.join().unwrap()))
            .await
            .unwrap();
        let totals = tokens.totals().await.unwrap();
        assert_eq!((totals.busy_keys, totals.waiters, totals.calls, totals.queued), (0, 0, 0, 0));
        tokens.shutdown().await;
        for arbiter in &arbiters {
            arbiter.stop();
        }
    });
}

#[actix::test]
async fn a_key_that_is_used_by_messages_alone_does_not_go() {
    let rig = rig_with(|builder| builder.idle_timeout(HOUR));
    rig.source.of(1).then(token("long", HOUR * 9));
    rig.tokens.get(&1).await.unwrap();
    let older = tokenflight::Token::new("older");
    for _ in 0..18 {
        tokio::time::sleep(secs(600)).await;
        assert_eq!(rig.tokens.replace(&1, &older).await.unwrap().secret(), "long");
    }
    assert_eq!(rig.source.of(1).calls(), 1, "it was kept all the time");
}
