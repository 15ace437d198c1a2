//! More than one Redis server: a cluster, and a master that sentinels watch.

use tokenflight::clock::SystemClock;
use tokenflight::source::SharedStats;
use tokenflight::store::{Ask, RedisStore, SharedStore};

use super::server::Redis;
use super::{RIGHTS, channel, impatient, midway, place, source};
use crate::shared::world::*;
use crate::support::*;

/// Waits for Redis, which has no other way to say so.
pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            tokio::time::sleep(millis(20)).await;
        }
    };
    tokio::time::timeout(secs(30), held).await.expect(what);
}

/// Redis as a client is told where it is.
struct Told(String);

impl World for Told {
    type Store = RedisStore;
    type Clock = SystemClock;

    fn store(&self) -> RedisStore {
        RedisStore::builder(self.0.as_str()).timeout(secs(5)).build().unwrap()
    }

    fn clock(&self) -> SystemClock {
        SystemClock
    }
}

/// So that all of them need a new one.
pub(super) async fn reject_the_token_of_each(fleet: &[Process]) {
    for process in fleet {
        process.handle.invalidate(&process.handle.get().await.unwrap());
    }
}

/// Three nodes with a third of the slots each, and the number of the one that has the token's.
async fn cluster() -> ([Redis; 3], usize, String) {
    let nodes = [(0, 5460), (5461, 10922), (10923, 16383)].map(Redis::in_cluster);
    for other in &nodes[1..] {
        let bus = other.cli(&["CONFIG", "GET", "cluster-port"]);
        let bus = bus.lines().nth(1).unwrap();
        nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), bus]);
    }
    until("the cluster is up", || {
        let knows_all = |node: &Redis| {
            let info = node.cli(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        };
        nodes.iter().all(knows_all)
    })
    .await;
    let slot = nodes[0].cli(&["CLUSTER", "KEYSLOT", &place("token")]).trim().to_owned();
    let number: u16 = slot.parse().unwrap();
    (nodes, usize::from(number / 5461).min(2), slot)
}

/// Moves a slot with all that is in it.
fn migrate(slot: &str, from: &Redis, to: &Redis, all: &[Redis]) {
    let id = |node: &Redis| node.cli(&["CLUSTER", "MYID"]).trim().to_owned();
    to.cli(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &id(from)]);
    from.cli(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &id(to)]);
    let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", slot, "10"]);
    let port = to.port().to_string();
    let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
    command.extend(keys.lines());
    assert_eq!(from.cli(&command).trim(), "OK");
    for node in [to, from].into_iter().chain(all) {
        assert_eq!(node.cli(&["CLUSTER", "SETSLOT", slot, "NODE", &id(to)]).trim(), "OK");
    }
}

#[actix::test]
async fn on_a_cluster_all_keys_of_a_token_are_in_one_slot_wherever_it_moves() {
    let (nodes, owner, slot) = cluster().await;
    let seed = &nodes[(owner + 1) % 3];
    let source = source();
    source.then(transient());
    let rights = [&RIGHTS.split_whitespace().collect::<Vec<_>>()[..], &["+cluster|slots"]].concat();
    for node in &nodes {
        node.cli(&[&["ACL", "SETUSER", "narrow", "on", ">pw"], &rights[..]].concat());
    }
    let told = Told(format!("redis+cluster://narrow:pw@127.0.0.1:{}", seed.port()));
    let members = processes(&told, &source, 4);
    assert_all(&get_all(&members).await, "token-2");
    assert_eq!(nodes[owner].cli(&["EXISTS", &place("token")]).trim(), "1", "on the node that has the slot");

    let to = (owner + 2) % 3;
    reject_the_token_of_each(&members).await;
    midway(&members, &source, async || migrate(&slot, &nodes[owner], &nodes[to], &nodes)).await;
    assert_eq!(
        nodes[to].cli(&["HGET", &place("token"), "fence"]).trim().len(),
        13,
        "committed where it is now"
    );
    for process in &members {
        process.handle.refresh().await.unwrap();
    }
    assert_eq!(sum(&members, SharedStats::local), 0, "no script was refused, and every redirection followed");
    assert_eq!(sum(&members, SharedStats::store_errors), 0);
    assert_eq!(sum(&members, SharedStats::polls), 0, "the news crosses the cluster");
}

#[actix::test]
async fn a_node_of_a_cluster_that_is_taken_for_a_server_says_what_to_write() {
    let (nodes, owner, _) = cluster().await;
    let url = nodes[(owner + 1) % 3].url();
    let error =
        RedisStore::builder(url).build().unwrap().look_or_lease(&key(), &Ask::default()).await.unwrap_err();
    assert!(error.to_string().contains("redis+cluster://"), "{error}");
}

#[actix::test]
async fn after_a_failover_the_new_master_is_found_and_listened_to() {
    const SERVERS: &str = "s3cret-of-the-servers";
    const SENTINELS: &str = "s3cret-of-the-sentinels";
    let mut master = Redis::guarded(SERVERS, None);
    let replica = Redis::guarded(SERVERS, Some(&master));
    let asks = |redis: &Redis, password: &str, args: &[&str]| {
        redis.cli(&[&["--no-auth-warning", "-a", password], args].concat())
    };
    until("the replica is in step", || {
        asks(&replica, SERVERS, &["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    let sentinel = Redis::sentinel(&format!(
        "port PORT\nrequirepass {SENTINELS}\nsentinel monitor orders 127.0.0.1 {} 1\nsentinel auth-pass orders {SERVERS}\n\
         sentinel down-after-milliseconds orders 400\nsentinel failover-timeout orders 4000\n",
        master.port()
    ));
    until("the sentinel knows both", || {
        let known = asks(&sentinel, SENTINELS, &["SENTINEL", "REPLICAS", "orders"]);
        known.contains(&replica.port().to_string())
    })
    .await;
    let rights = [&RIGHTS.split_whitespace().collect::<Vec<_>>()[..], &["+role"]].concat();
    for server in [&master, &replica] {
        asks(server, SERVERS, &[&["ACL", "SETUSER", "narrow", "on", ">narrow-s3cret"], &rights[..]].concat());
    }
    let finder = ["finder", "on", ">finder-s3cret", "-@all", "+@connection", "+role", "+sentinel|masters"];
    asks(&sentinel, SENTINELS, &[&["ACL", "SETUSER"], &finder[..]].concat());
    // The first one is dead, and delays nobody.
    let told = Told(format!(
        "redis+sentinel://narrow:narrow-s3cret@127.0.0.1:1,127.0.0.1:{}/orders/0\
         ?sentinel_username=finder&sentinel_password=finder-s3cret",
        sentinel.port()
    ));
    assert!(!format!("{:?}", RedisStore::builder(told.0.as_str())).contains("s3cret"));

    let source = source();
    let change = |settings| impatient(settings).store_timeout(secs(2)).lease(secs(4));
    let one = || process_with(&told, &source, told.store(), change);
    let members: Vec<_> = (0..4).map(|_| one()).collect();
    assert_all(&get_all(&members).await, "token-1");
    assert_eq!(source.calls(), 1);

    reject_the_token_of_each(&members).await;
    midway(&members, &source, async || master.kill()).await;
    until("the replica is the master now", || {
        let named = asks(&sentinel, SENTINELS, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "orders"]);
        named.contains(&replica.port().to_string())
            && asks(&replica, SERVERS, &["ROLE"]).starts_with("master")
    })
    .await;
    let shared_again = async {
        while told.store().load(&key()).await.is_err() || sum(&members, SharedStats::adopted) < 9 {
            for process in &members {
                process.handle.refresh().await.expect("a token");
            }
            tokio::time::sleep(millis(60)).await;
        }
    };
    tokio::time::timeout(secs(30), shared_again).await.expect("it recovers without a restart");
    let calls = source.calls();
    one().secret().await;
    assert_eq!(source.calls(), calls, "a newcomer takes the token that is there");

    // A connection that was lost is no reason to wait for the lease's end: the same master may be found again.
    asks(&replica, SERVERS, &["FLUSHALL"]);
    let newcomers = processes(&told, &source, 4);
    midway(&newcomers, &source, async || {
        let listeners = || -> usize {
            let said = asks(&replica, SERVERS, &["PUBSUB", "NUMSUB", &channel()]);
            said.lines().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        // The first four wait for nothing any more.
        until("all of them listen", || listeners() == 4).await;
        asks(&replica, SERVERS, &["CLIENT", "KILL", "TYPE", "pubsub"]);
        // Whoever waits listens again. The leader is busy.
        until("those who wait listen again", || listeners() >= 3).await;
    })
    .await;
    assert_eq!(source.calls(), calls + 1);
    assert_eq!((sum(&newcomers, SharedStats::local), sum(&newcomers, SharedStats::polls)), (0, 0));
}

#[cfg(feature = "rustls")]
#[actix::test]
async fn a_cluster_and_sentinels_are_reached_by_tls() {
    super::choose_provider();
    let [certificate, secret] = super::certificate("topology");
    let pem = std::fs::read(&certificate).unwrap();
    let trusting = |url: String| RedisStore::builder(url).timeout(secs(5)).ca(pem.clone()).build().unwrap();
    let tls = ["--tls", "--cacert", &certificate];

    let node = Redis::in_cluster_with_tls(&certificate, &secret);
    let ask_node = |command: &[&str]| node.cli(&[&tls, command].concat());
    ask_node(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until("the cluster is up", || ask_node(&["CLUSTER", "INFO"]).contains("cluster_state:ok")).await;
    let by_cluster = trusting(format!("rediss+cluster://127.0.0.1:{}", node.port()));
    lease(&by_cluster, "one").await;

    let master = Redis::with_tls(&certificate, &secret);
    let sentinel = Redis::sentinel(&format!(
        "port 0\ntls-port PORT\ntls-cert-file {certificate}\ntls-key-file {secret}\ntls-ca-cert-file {certificate}\n\
         tls-auth-clients no\ntls-replication yes\nsentinel monitor orders 127.0.0.1 {} 1\n",
        master.port()
    ));
    let url = format!("rediss+sentinel://127.0.0.1:{}/orders", sentinel.port());
    lease(&trusting(url.clone()), "one").await;
    let error = RedisStore::builder(url).build().unwrap().load(&key()).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}
