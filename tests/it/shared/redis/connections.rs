//! Connections that fail without a sign, or at the worst moment.

use tokenflight::source::SharedStats;
use tokenflight::store::{Ask, Look, SharedStore, Take};

use super::proxy::{NEVER, Proxy, Trouble};
use super::server::Redis;
use super::topology::reject_the_token_of_each;
use super::{midway, source};
use crate::shared::world::*;
use crate::support::*;

#[track_caller]
fn assert_nothing_was_noticed(fleet: &[Process]) {
    for (name, what) in [
        ("local", SharedStats::local as fn(&SharedStats) -> u64),
        ("late", SharedStats::late),
        ("polls", SharedStats::polls),
        ("store_errors", SharedStats::store_errors),
    ] {
        assert_eq!(sum(fleet, what), 0, "{name}");
    }
}

#[actix::test]
async fn connections_that_a_load_balancer_forgot_cost_no_call() {
    const IDLE: std::time::Duration = millis(400);
    let redis = Redis::begin();
    let proxy = Proxy::before(&redis, IDLE).await;
    let source = source();
    let one = || process_with(&redis, &source, proxy.store(millis(1_200)), |settings| settings);
    let fleet: Vec<_> = (0..4).map(|_| one()).collect();
    for life in 1..=6 {
        let began = tokio::time::Instant::now();
        assert_all(&get_all(&fleet).await, &format!("token-{life}"));
        assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
        assert_eq!(source.calls(), life, "one call each life");
        tokio::time::sleep(IDLE + millis(100)).await;
        reject_the_token_of_each(&fleet).await;
    }
    assert_eq!(proxy.accepted(), 4 * 6, "each process noticed each time");
    assert_nothing_was_noticed(&fleet);
}

#[actix::test]
async fn a_commit_survives_a_connection_that_is_reset_during_the_fetch() {
    for trouble in [Trouble::Reset, Trouble::ResetBeforeRequest, Trouble::ResetBeforeAnswer] {
        let redis = Redis::begin();
        let proxy = Proxy::before(&redis, NEVER).await;
        let source = source();
        let one = || process_with(&redis, &source, proxy.store(secs(8)), |settings| settings);
        let fleet: Vec<_> = (0..4).map(|_| one()).collect();
        midway(&fleet, &source, async || {
            let waiting = async {
                while super::looks(&redis) < 4 {
                    tokio::time::sleep(millis(5)).await;
                }
            };
            tokio::time::timeout(secs(10), waiting).await.expect("four looks");
            proxy.all_are(trouble);
            settle().await;
        })
        .await;
        assert_eq!(source.calls(), 1, "{trouble:?}");
        assert!(redis.store().load(&key()).await.unwrap().is_some(), "{trouble:?}: it was committed");
        assert_nothing_was_noticed(&fleet);
    }
}

#[actix::test]
async fn an_answer_that_is_lost_changes_nothing_for_the_one_who_asked() {
    let redis = Redis::begin();
    let proxy = Proxy::before(&redis, NEVER).await;
    let store = proxy.store(secs(8));
    // So that the script is known to Redis, and the first answer is the one to the ask.
    lease(&redis.store(), "other").await;
    redis.cli(&["DEL", &super::place("lease")]);
    let mut ask = ask_for(&store, &key(), Ask::default(), "one").await;
    let Take { lease, time } = ask.take.as_mut().unwrap();
    *time = HOUR;
    let lease = lease.clone();

    proxy.all_are(Trouble::ResetBeforeAnswer);
    let Look::Leased = store.look_or_lease(&key(), &ask).await.unwrap() else { panic!("its own") };
    let held = redis.cli(&["GET", &super::place("lease")]);
    assert_eq!(held.trim(), format!("one:{}:one has it", lease.fence), "of the first try");
    settle().await;
    assert!(store.renew(&key(), &lease, HOUR).await.unwrap(), "nobody has given it back");

    proxy.all_are(Trouble::ResetBeforeAnswer);
    assert!(
        store.commit(&key(), &lease, b"value", HOUR).await.unwrap(),
        "it was carried out by the first try"
    );
    assert_eq!(proxy.accepted(), 3);
}

#[actix::test]
async fn an_error_on_an_old_connection_does_not_close_the_newer_one() {
    let redis = Redis::begin();
    let proxy = Proxy::before(&redis, NEVER).await;
    let store = proxy.store(millis(800));
    store.load(&key()).await.unwrap();
    proxy.all_are(Trouble::Forgotten);
    let (place, later) = (key(), async {
        tokio::time::sleep(millis(200)).await;
        store.load(&key()).await.unwrap();
    });
    let (early, ()) = tokio::join!(store.load(&place), later);
    early.unwrap();
    store.load(&place).await.unwrap();
    assert_eq!(proxy.accepted(), 2, "the one that was forgotten, and one for everybody");
}

#[actix::test]
async fn an_ask_that_is_given_up_gives_up_a_connection_that_does_not_answer() {
    let redis = Redis::begin();
    let proxy = Proxy::before(&redis, NEVER).await;
    let store = proxy.store(millis(800));
    let key = key();
    store.load(&key).await.unwrap();
    let one = ask_for(&store, &key, Ask::default(), "one").await;
    // While the connection answers, it is kept.
    let _ = tokio::time::timeout(millis(0), store.look_or_lease(&key, &one)).await;
    tokio::time::sleep(millis(500)).await;
    store.load(&key).await.unwrap();
    assert_eq!(proxy.accepted(), 1);

    proxy.all_are(Trouble::Forgotten);
    tokio::time::timeout(millis(20), store.look_or_lease(&key, &one)).await.expect_err("no answer");
    tokio::time::sleep(millis(600)).await;
    let began = tokio::time::Instant::now();
    store.load(&key).await.unwrap();
    assert_eq!(proxy.accepted(), 2);
    assert!(began.elapsed() < millis(400), "by a new connection at once: {:?}", began.elapsed());
}

/// `/proc/net/tcp` names each connection with the timer that runs for it: 2 is keepalive's.
#[cfg(target_os = "linux")]
#[actix::test]
async fn idle_connections_are_probed() {
    let redis = Redis::begin();
    let store = redis.store();
    store.load(&key()).await.unwrap();
    let remote = format!("0100007F:{:04X}", redis.port());
    let is_probed = || {
        let all = std::fs::read_to_string("/proc/net/tcp").unwrap();
        all.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(2) == Some(&remote.as_str())
                && fields.get(5).is_some_and(|timer| timer.starts_with("02:"))
        })
    };
    let seen = async {
        while !is_probed() {
            tokio::time::sleep(millis(20)).await;
        }
    };
    tokio::time::timeout(secs(5), seen).await.expect("keepalive's timer runs");
}
