//! Sentinels that lie, and sentinels that name a server on another host.

use tokenflight::store::{RedisStore, SharedStore};

use super::fake::{Fake, named, says_hello};
use super::server::Redis;
use super::topology::until;
use crate::shared::world::*;
use crate::support::*;

const PASSWORD: &str = "s3cret-of-the-servers";

/// A sentinel that names this server, whatever is true.
async fn liar(host: &'static str, port: u16) -> Fake {
    Fake::begin(move |words| match words[0].as_str() {
        "SENTINEL" => named("orders", port, host),
        _ => says_hello(words),
    })
    .await
}

/// A server of the liar's own, which says that it is the master.
async fn trap() -> Fake {
    Fake::begin(|words| match words[0].as_str() {
        "ROLE" => "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".into(),
        _ => says_hello(words),
    })
    .await
}

fn sentinel(master: &Redis) -> Redis {
    Redis::sentinel(&format!(
        "port PORT\nsentinel monitor orders 127.0.0.1 {} 2\nsentinel auth-pass orders {PASSWORD}\n",
        master.port()
    ))
}

fn store(sentinels: &[u16]) -> RedisStore {
    let hosts: Vec<String> = sentinels.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let url = format!("redis+sentinel://:{PASSWORD}@{}/orders", hosts.join(","));
    RedisStore::builder(url).timeout(secs(4)).build().unwrap()
}

#[actix::test]
async fn one_of_three_sentinels_lies_and_its_server_is_never_talked_to() {
    let master = Redis::guarded(PASSWORD, None);
    let honest = [sentinel(&master), sentinel(&master)];
    let trap = trap().await;
    let liar = liar("127.0.0.1", trap.port()).await;
    // The liar is the fastest, and the first in the URL.
    let all = store(&[liar.port(), honest[0].port(), honest[1].port()]);
    for turn in 0..5 {
        lease(&all, &turn.to_string()).await;
        master.cli(&["--no-auth-warning", "-a", PASSWORD, "FLUSHALL"]);
        master.cli(&["--no-auth-warning", "-a", PASSWORD, "CLIENT", "KILL", "TYPE", "normal"]);
    }
    assert!(liar.heard().contains("SENTINEL"), "it was asked");
    assert_eq!(trap.heard(), "", "it has not been connected to");

    // Without the other two there is no majority, and no master.
    let [first, second] = honest;
    drop(first);
    let error = store(&[liar.port(), 1, second.port()]).load(&key()).await.unwrap_err();
    assert!(error.to_string().contains("sentinel") && !error.to_string().contains(PASSWORD), "{error}");
    assert_eq!(trap.heard(), "");

    // One or two have no majority: documented.
    let _ = store(&[liar.port()]).load(&key()).await.unwrap_err();
    assert!(trap.heard().contains(PASSWORD), "the trap would have caught it");
}

#[actix::test]
async fn a_minority_that_knows_the_old_master_or_is_silent_delays_nobody() {
    let master = Redis::guarded(PASSWORD, None);
    let old = Redis::guarded(PASSWORD, Some(&master));
    let honest = [sentinel(&master), sentinel(&master), sentinel(&master)];
    let late = liar("127.0.0.1", old.port()).await;
    // It takes connections, and says nothing.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let ports = [late.port(), silent.local_addr().unwrap().port()];
    let ports = ports.into_iter().chain(honest.iter().map(Redis::port)).collect::<Vec<_>>();
    let began = tokio::time::Instant::now();
    lease(&store(&ports), "one").await;
    assert!(began.elapsed() < secs(2), "{:?}", began.elapsed());
}

#[actix::test]
async fn a_change_of_mind_within_the_time_limit_is_heard() {
    let master = Redis::guarded(PASSWORD, None);
    let old = Redis::guarded(PASSWORD, Some(&master));
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (first, second) = (old.port(), master.port());
    let fails_over = Fake::begin({
        let asked = std::sync::Arc::clone(&asked);
        move |words| match words[0].as_str() {
            "SENTINEL" => {
                let is_late = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0;
                named("orders", if is_late { second } else { first }, "127.0.0.1")
            }
            _ => says_hello(words),
        }
    })
    .await;
    until("the copy knows that it is one", || {
        old.cli(&["--no-auth-warning", "-a", PASSWORD, "ROLE"]).starts_with("slave")
    })
    .await;
    lease(&store(&[fails_over.port()]), "one").await;
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[actix::test]
async fn a_master_on_another_host_gets_no_password_in_clear() {
    // Nobody answers there: 192.0.2.0/24 is for documentation (RFC 5737).
    let liars = [liar("192.0.2.1", 6379).await, liar("192.0.2.1", 6379).await, liar("192.0.2.1", 6379).await];
    for ports in [vec![liars[0].port()], liars.iter().map(Fake::port).collect()] {
        let error = store(&ports).load(&key()).await.unwrap_err().to_string();
        assert!(error.contains("in clear") && error.contains("`allow_plaintext`"), "{error}");
    }
    let url = format!("redis+sentinel://:{PASSWORD}@127.0.0.1:{}/orders", liars[0].port());
    let open = RedisStore::builder(url).timeout(millis(200)).allow_plaintext().build().unwrap();
    let error = open.load(&key()).await.unwrap_err().to_string();
    assert!(!error.contains("in clear"), "{error}");
}
