//! The slots of a fleet's calls in a real Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokenflight::registry::{FleetCalls, TokenRegistry};
use tokenflight::store::{MemoryStore, SharedKey, SharedStore as _, SlotAsk};
use tokenflight::{FetchContext, Token};

use super::server::Redis;
use crate::shared::world::World as _;
use crate::support::*;

/// The calls of all processes together.
#[derive(Default)]
struct Calls {
    now: AtomicUsize,
    most: AtomicUsize,
}

fn process(redis: &Redis, calls: &Arc<Calls>, slots: usize) -> TokenRegistry<u32> {
    let calls = Arc::clone(calls);
    let source = move |key: u32, _cx: FetchContext| {
        let calls = Arc::clone(&calls);
        async move {
            calls.most.fetch_max(calls.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(millis(5)).await;
            calls.now.fetch_sub(1, Ordering::SeqCst);
            Ok(Token::new(key.to_string()).with_lifetime(HOUR))
        }
    };
    let of_fleet = FleetCalls::new(redis.store(), "auth", slots);
    TokenRegistry::builder(source).policy(plain()).calls_of_fleet(of_fleet).start().unwrap()
}

/// How many scripts it has run.
fn scripts(redis: &Redis) -> usize {
    let stats = redis.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

async fn all(tokens: &TokenRegistry<u32>, keys: std::ops::Range<u32>) {
    let asked = keys.map(|key| tokens.get(&key));
    assert!(futures_util::future::join_all(asked).await.iter().all(Result::is_ok));
}

#[actix::test]
async fn two_processes_at_one_redis_keep_to_the_fleet_s_slots_with_few_commands() {
    let redis = Redis::begin();
    let calls = Arc::default();
    let (one, two) = (process(&redis, &calls, 3), process(&redis, &calls, 3));
    redis.cli(&["CONFIG", "RESETSTAT"]);
    tokio::join!(all(&one, 0..150), all(&two, 200..350));
    assert_eq!(calls.most.load(Ordering::SeqCst), 3);
    let asks = scripts(&redis);
    assert!(asks < 40, "{asks} commands for 300 calls");
    tokio::time::sleep(millis(2_500)).await;
    redis.cli(&["CONFIG", "RESETSTAT"]);
    tokio::time::sleep(millis(1_500)).await;
    assert_eq!(scripts(&redis), 0, "a fleet that has nothing to do asks nothing");
}

#[actix::test]
async fn without_redis_each_process_keeps_to_its_own_limit_and_comes_back_to_the_fleet_s() {
    let mut redis = Redis::begin();
    let calls = Arc::default();
    let tokens = process(&redis, &calls, 1);
    all(&tokens, 0..5).await;
    assert_eq!(calls.most.load(Ordering::SeqCst), 1);
    redis.kill();
    until(&tokens, &calls, 100, |most| most > 1).await;
    redis.start_again();
    until(&tokens, &calls, 10_000, |most| most == 1).await;
}

/// Asks for more and more keys, until so many calls are made at once.
async fn until(tokens: &TokenRegistry<u32>, calls: &Calls, mut key: u32, is_it: impl Fn(usize) -> bool) {
    let goes_on = async {
        loop {
            calls.most.store(0, Ordering::SeqCst);
            all(tokens, key..key + 8).await;
            if is_it(calls.most.load(Ordering::SeqCst)) {
                return;
            }
            key += 8;
            tokio::time::sleep(millis(20)).await;
        }
    };
    tokio::time::timeout(secs(40), goes_on).await.expect("so many calls at once");
}

#[actix::test]
async fn redis_and_memory_answer_alike() {
    let redis = Redis::begin();
    let (real, memory) = (redis.store(), MemoryStore::new());
    let key = SharedKey::new("auth", [("part", "a")]).unwrap();
    let mut dice = fastrand::Rng::with_seed(7);
    for number in 0..300 {
        let wanted = dice.usize(..5);
        let ask = SlotAsk {
            owner: format!("owner-{}", dice.u8(..5)),
            wanted,
            most: dice.usize(..5),
            slots: 4,
            time: secs(30),
        };
        let (one, other) = (real.slots(&key, &ask).await.unwrap(), memory.slots(&key, &ask).await.unwrap());
        assert_eq!(one, other, "ask {number}: {ask:?}");
    }
}

#[actix::test]
async fn what_no_process_can_have_written_holds_no_slot() {
    let redis = Redis::begin();
    let store = redis.store();
    let key = SharedKey::new("auth", [("part", "a")]).unwrap();
    let ask = SlotAsk { owner: "me".into(), wanted: 2, most: 2, slots: 2, time: secs(10) };
    let place = format!("tokenflight:{{{}}}:slots", key.as_str());
    let far = "99999999999999";
    for value in ["nonsense", "2:2:1", "-1:2:9e99", &format!("2:2:{far}"), &"9".repeat(100)] {
        redis.cli(&["HSET", &place, "somebody", value]);
        assert_eq!(store.slots(&key, &ask).await.unwrap().held, 2, "{value}");
    }
    redis.cli(&["DEL", &place]);
    redis.cli(&["SET", &place, "a string"]);
    assert_eq!(store.slots(&key, &ask).await.unwrap().held, 2);
}
