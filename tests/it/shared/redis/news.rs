//! Subscriptions: present while a caller waits, removed afterwards, and harmless in a flood.

use std::process::{Command, Stdio};

use futures_util::{FutureExt as _, StreamExt as _};
use tokenflight::source::SharedStats;
use tokenflight::store::{Ask, Failure, Lease, Look, News, RedisStore, SharedKey, SharedStore};

use super::server::Redis;
use super::topology::until;
use super::{channel, midway, nobody_listens, source};
use crate::shared::world::*;
use crate::support::*;

async fn all_have_left(redis: &Redis) {
    tokio::time::timeout(secs(5), nobody_listens(redis)).await.expect("no channel is left");
}

fn publish(redis: &Redis, channel: &str) {
    redis.cli(&["PUBLISH", channel, "x"]);
}

async fn hears(news: &mut News) {
    tokio::time::timeout(secs(5), news.next()).await.expect("news");
}

#[actix::test]
async fn nobody_is_subscribed_when_everybody_is_served() {
    let redis = Redis::begin();
    let source = source();
    let members = processes(&redis, &source, 8);
    midway(&members, &source, async || {
        until("they listen", || redis.cli(&["PUBSUB", "CHANNELS"]).contains(&channel())).await;
    })
    .await;
    all_have_left(&redis).await;
    assert_eq!((source.calls(), sum(&members, SharedStats::polls)), (1, 0));
}

#[actix::test]
async fn ten_thousand_keys_leave_no_channel_behind() {
    let redis = Redis::begin();
    let store = redis.store();
    for number in 0..10_000 {
        let key = SharedKey::new("orders", [("number", number.to_string().as_str())]).unwrap();
        drop(store.watch(&key).await.unwrap());
    }
    all_have_left(&redis).await;
    let shown = format!("{store:?}");
    assert!(shown.contains("listened_to: 0"), "{shown}");
}

#[actix::test]
async fn whoever_begins_to_listen_while_the_last_one_leaves_is_heard() {
    let redis = Redis::begin();
    let store = redis.store();
    let mut last = store.watch(&key()).await.unwrap();
    for turn in 0..2_000 {
        // The UNSUBSCRIBE for the last one is on its way, or not yet, or not at all.
        drop(last);
        if turn % 3 == 0 {
            tokio::task::yield_now().await;
        }
        last = store.watch(&key()).await.unwrap();
        if turn % 100 == 0 {
            publish(&redis, &channel());
            hears(&mut last).await;
        }
    }
    let second = store.watch(&key()).await.unwrap();
    let third = second.clone();
    drop((last, second));
    let mut third = third;
    publish(&redis, &channel());
    hears(&mut third).await;
    drop(third);
    all_have_left(&redis).await;
}

#[actix::test]
async fn a_subscription_whose_answer_was_lost_is_ended_too() {
    let redis = Redis::begin();
    let store = redis.store();
    store.load(&key()).await.unwrap();
    redis.freeze();
    let key = key();
    tokio::time::timeout(millis(20), store.watch(&key)).await.expect_err("no answer yet");
    redis.thaw();
    store.load(&key).await.unwrap();
    all_have_left(&redis).await;
}

#[actix::test]
async fn on_a_cluster_nobody_is_subscribed_in_the_end() {
    let node = Redis::in_cluster((0, 16383));
    until("the cluster is up", || node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")).await;
    let url = format!("redis+cluster://127.0.0.1:{}", node.port());
    let store = RedisStore::builder(url).timeout(secs(4)).build().unwrap();
    let mut news = store.watch(&key()).await.unwrap();
    publish(&node, &channel());
    hears(&mut news).await;
    drop(news);
    all_have_left(&node).await;
    let mut news = store.watch(&key()).await.unwrap();
    publish(&node, &channel());
    hears(&mut news).await;
}

#[actix::test]
async fn a_channel_that_floods_is_left_until_somebody_looks_again() {
    let redis = Redis::begin();
    let store = redis.store();
    let mut news = store.watch(&key()).await.unwrap();
    for turn in 0..3 {
        redis.cli(&["EVAL", "for _ = 1, 20000 do redis.call('PUBLISH', ARGV[1], 'x') end", "0", &channel()]);
        hears(&mut news).await;
        all_have_left(&redis).await;
        // Once more, for what came by the flood after that.
        let _ = news.next().now_or_never();

        store.load(&key()).await.unwrap();
        assert!(redis.cli(&["PUBSUB", "CHANNELS"]).contains(&channel()), "{turn}");
        publish(&redis, &channel());
        hears(&mut news).await;
    }
}

/// The times are measured by the example, `--flood-news`.
#[actix::test]
async fn in_a_flood_of_news_everybody_is_served_by_one_call() {
    let redis = Redis::begin();
    let source = source();
    let members = processes(&redis, &source, 4);
    let (port, news) = (redis.port().to_string(), channel());
    midway(&members, &source, async || {
        until("they listen", || redis.cli(&["PUBSUB", "CHANNELS"]).contains(&channel())).await;
        let mut flood = Command::new("redis-cli");
        let flood = flood.args(["-p", &port, "-r", "20000", "PUBLISH", &news, "x"]).stdout(Stdio::null());
        let mut flood = flood.spawn().unwrap();
        until("it is over", || flood_is_over(&redis)).await;
        assert!(flood.wait().unwrap().success());
    })
    .await;
    assert_eq!(source.calls(), 1);
    assert_eq!((sum(&members, SharedStats::local), sum(&members, SharedStats::store_errors)), (0, 0));
}

fn flood_is_over(redis: &Redis) -> bool {
    let stats = redis.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_publish:calls="));
    let calls = line.and_then(|line| line.split(',').next()?.parse::<u32>().ok());
    calls.is_some_and(|calls| calls >= 20_000)
}

#[actix::test]
async fn the_end_of_a_lease_wakes_four_of_those_who_wait() {
    let redis = Redis::begin();
    let owner = redis.store();
    let failing = Ask { mark: "old".into(), ..Ask::default() };
    let first = lease_by(&owner, &key(), failing, "first").await;
    let stores: Vec<_> = (0..12).map(|_| redis.store()).collect();
    let mut listening = Vec::new();
    for (number, store) in stores.iter().enumerate() {
        let mut news = store.watch(&key()).await.unwrap();
        let mark = if number < 9 { "old" } else { "new" };
        let look = store.look_or_lease(&key(), &Ask { mark: mark.into(), ..Ask::default() }).await.unwrap();
        assert!(matches!(look, Look::Taken(_)), "{look:?}");
        listening.push(async move {
            news.next().await;
            number
        });
    }
    let mut listening: futures_util::stream::FuturesUnordered<_> = listening.into_iter().collect();
    assert!(owner.fail(&key(), &first, &Failure::default()).await.unwrap());
    let mut woken = Vec::new();
    while let Ok(Some(number)) = tokio::time::timeout(millis(300), listening.next()).await {
        woken.push(number);
    }
    assert_eq!(woken.len(), 4, "{woken:?}");
    for another in 9..12 {
        assert!(woken.contains(&another), "those with another credential first: {woken:?}");
    }
    let next = lease(&owner, "next").await;
    assert!(owner.commit(&key(), &next, b"value", HOUR).await.unwrap());
    for _ in 0..8 {
        tokio::time::timeout(secs(5), listening.next()).await.expect("a token is news for everybody");
    }
    assert_eq!(redis.cli(&["EXISTS", &super::place("waiting")]).trim(), "0");
}

async fn long_lease(store: &RedisStore, owner: &str) -> Lease {
    let lease = lease(store, owner).await;
    assert!(store.renew(&key(), &lease, secs(60)).await.unwrap());
    lease
}

/// Waits for the end of the lease, with this credential.
async fn waiting(store: &RedisStore, mark: &str) -> News {
    let news = store.watch(&key()).await.unwrap();
    let look = store.look_or_lease(&key(), &Ask { mark: mark.into(), ..Ask::default() }).await.unwrap();
    assert!(matches!(look, Look::Taken(_)), "{look:?}");
    news
}

fn waiters(redis: &Redis) -> String {
    redis.cli(&["HLEN", &super::place("waiting")]).trim().to_owned()
}

#[actix::test]
async fn the_end_of_a_lease_wakes_nobody_who_has_left() {
    let redis = Redis::begin();
    let owner = redis.store();
    let first = long_lease(&owner, "first").await;
    let stores: Vec<_> = (0..5).map(|_| redis.store()).collect();
    let mut listening = Vec::new();
    for store in &stores {
        listening.push(waiting(store, "old").await);
    }
    assert_eq!(waiters(&redis), "5");
    let mut last = listening.pop().unwrap();
    drop(listening);
    until("four have left", || waiters(&redis) == "1").await;
    assert!(owner.fail(&key(), &first, &Failure::default()).await.unwrap());
    hears(&mut last).await;

    // Once more with the same process: it leaves, and comes again at once.
    let second = long_lease(&owner, "second").await;
    drop(last);
    drop(waiting(&stores[4], "old").await);
    let mut last = waiting(&stores[4], "old").await;
    stores[4].load(&key()).await.unwrap();
    assert_eq!(waiters(&redis), "1");
    assert!(owner.fail(&key(), &second, &Failure::default()).await.unwrap());
    hears(&mut last).await;
}

#[actix::test]
async fn the_end_of_a_lease_wakes_nobody_who_has_died() {
    let redis = Redis::begin();
    let owner = redis.store();
    let first = long_lease(&owner, "first").await;
    for (at, seen) in ["1:old", "1795000000000000:old", "9999999999999:old", "old"].iter().enumerate() {
        redis.cli(&["HSET", &super::place("waiting"), &format!("dead-{at}"), seen]);
    }
    let store = redis.store();
    let mut last = waiting(&store, "old").await;
    assert!(owner.fail(&key(), &first, &Failure::default()).await.unwrap());
    hears(&mut last).await;
    assert_eq!(waiters(&redis), "0");

    // Nor do the names of the dead take all places.
    let second = long_lease(&owner, "second").await;
    let crowd = "for at = 1, 64 do redis.call('HSET', KEYS[1], 'dead-' .. at, '1:old') end";
    redis.cli(&["EVAL", crowd, "1", &super::place("waiting")]);
    let mut last = waiting(&store, "old").await;
    assert_eq!(waiters(&redis), "1");
    assert!(owner.fail(&key(), &second, &Failure::default()).await.unwrap());
    hears(&mut last).await;
}
