//! Behaviour that needs a real Redis: its faults, and its contents.

mod connections;
mod credentials;
#[cfg(feature = "oauth2")]
mod example;
mod fake;
mod news;
mod proxy;
mod sentinels;
pub(crate) mod server;
#[cfg(feature = "registry")]
mod slots;
mod topology;

use futures_util::FutureExt as _;
use tokenflight::source::{SharedSourceBuilder, SharedStats};
use tokenflight::store::{Ask, Failure, RedisStore, RedisStoreBuilder, SharedKey, SharedStore};
use tokenflight::testing::ScriptedSource;

use super::world::*;
use crate::support::*;
use server::Redis;

fn source() -> ScriptedSource {
    ScriptedSource::new().taking(millis(60))
}

fn impatient(settings: SharedSourceBuilder) -> SharedSourceBuilder {
    short(settings).retry_store(millis(50))
}

fn impatient_fleet(redis: &Redis, source: &ScriptedSource, n: usize) -> Vec<Process> {
    (0..n).map(|_| process_with(redis, source, redis.store(), impatient)).collect()
}

/// All ask at once; when the one call is under way, something happens to Redis, and the call goes on.
async fn midway(fleet: &[Process], source: &ScriptedSource, happens: impl AsyncFnOnce()) {
    let calls = source.calls();
    source.hold();
    let (outcomes, ()) = tokio::join!(get_all(fleet), async {
        source.called(calls + 1).await;
        happens().await;
        source.release();
    });
    for outcome in outcomes {
        outcome.expect("everybody has a token, from wherever");
    }
}

#[actix::test]
async fn killed_midway_everybody_is_served_and_it_is_used_again_when_it_is_back() {
    let mut redis = Redis::begin();
    let source = source();
    let members = impatient_fleet(&redis, &source, 8);
    let began = tokio::time::Instant::now();
    midway(&members, &source, async || redis.kill()).await;
    assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
    assert!(source.calls() <= 8, "one call a process at most: {}", source.calls());

    redis.start_again();
    let shared_again = async {
        while sum(&members, SharedStats::adopted) < 7 {
            for process in &members {
                process.handle.refresh().await.expect("a token");
            }
            tokio::time::sleep(millis(60)).await;
        }
    };
    tokio::time::timeout(secs(20), shared_again).await.expect("it recovers without a restart");
    let calls = source.calls();
    assert!(redis.store().load(&key()).await.unwrap().is_some());
    process(&redis, &source).secret().await;
    assert_eq!(source.calls(), calls, "a newcomer takes the token that is there");
}

#[actix::test]
async fn frozen_midway_nobody_waits_longer_than_a_lease_and_a_time_limit() {
    let redis = Redis::begin();
    let source = source();
    let members = impatient_fleet(&redis, &source, 8);
    let began = tokio::time::Instant::now();
    midway(&members, &source, async || redis.freeze()).await;
    let took = began.elapsed();
    assert!(took < LEASE + LEASE / 2 + millis(60) + secs(2), "{took:?}");
    assert!(source.calls() <= 8, "{}", source.calls());
    let before = source.calls();
    for process in &members {
        process.secret().await;
    }
    assert_eq!(source.calls(), before, "a good token needs no store");
    redis.thaw();
    let led = || sum(&members, SharedStats::led) + sum(&members, SharedStats::adopted);
    let before = led();
    let answered = async {
        while led() == before {
            members[0].handle.refresh().await.expect("a token");
            tokio::time::sleep(millis(60)).await;
        }
    };
    tokio::time::timeout(secs(20), answered).await.expect("it recovers without a restart");
}

#[actix::test]
async fn waiters_hear_of_a_lost_connection_and_do_not_sit_out_the_lease() {
    let mut redis = Redis::begin();
    let source = source();
    let long = |settings: SharedSourceBuilder| settings.lease(secs(60));
    let members: Vec<_> = (0..4).map(|_| process_with(&redis, &source, redis.store(), long)).collect();
    let began = tokio::time::Instant::now();
    midway(&members, &source, async || {
        let waiting = async {
            while looks(&redis) < 4 {
                tokio::time::sleep(millis(5)).await;
            }
        };
        tokio::time::timeout(secs(10), waiting).await.expect("four looks");
        redis.kill();
    })
    .await;
    assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
    assert_eq!(sum(&members, SharedStats::polls), 0);
}

#[actix::test]
async fn a_lease_that_a_failover_brought_back_commits_nothing_older() {
    let redis = Redis::begin();
    let store = redis.store();
    let late = lease(&store, "late").await;
    tokio::time::sleep(LEASE + millis(5)).await;
    let current = lease(&store, "current").await;
    assert!(store.commit(&key(), &current, b"current", HOUR).await.unwrap());
    redis.cli(&["SET", &place("lease"), &format!("late:{}:late has it", late.fence), "PX", "60000"]);
    assert!(!store.commit(&key(), &late, b"late", HOUR).await.unwrap(), "its fence is older");
    assert_eq!(store.load(&key()).await.unwrap().unwrap().value, b"current");
}

#[actix::test]
async fn cut_connections_cost_no_call() {
    let redis = Redis::begin();
    let source = source();
    let members = processes(&redis, &source, 8);
    midway(&members, &source, async || {
        for kind in ["pubsub", "normal"] {
            redis.cli(&["CLIENT", "KILL", "TYPE", kind]);
        }
        let listeners = || -> usize {
            let said = redis.cli(&["PUBSUB", "NUMSUB", &channel()]);
            said.lines().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        let back = async {
            while listeners() < 7 {
                tokio::time::sleep(millis(5)).await;
            }
        };
        tokio::time::timeout(secs(10), back).await.expect("those who wait listen again");
    })
    .await;
    assert_eq!(source.calls(), 1);
    assert_eq!(sum(&members, SharedStats::local), 0);
}

/// How many looks there have been. (Those that found no script there failed, and came again.)
fn looks(redis: &Redis) -> u64 {
    let stats = redis.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
    let number = |name: &str| -> u64 {
        let value = line.split([':', ',']).find_map(|field| field.strip_prefix(name));
        value.map_or(0, |value| value.trim().parse().unwrap())
    };
    number("calls=") - number("failed_calls=")
}

/// Returns when no channel has a subscriber. Redis has no other way to say so.
async fn nobody_listens(redis: &Redis) {
    while !redis.cli(&["PUBSUB", "CHANNELS"]).trim().is_empty() {
        tokio::time::sleep(millis(5)).await;
    }
}

fn channel() -> String {
    place("news")
}

fn place(what: &str) -> String {
    place_of(&key(), what)
}

/// Where Redis keeps it.
pub(crate) fn place_of(key: &SharedKey, what: &str) -> String {
    format!("tokenflight:{{{}}}:{what}", key.as_str())
}

#[actix::test]
async fn an_empty_restart_costs_one_call_at_the_next_refresh() {
    let mut redis = Redis::begin();
    let source = source();
    let members = processes(&redis, &source, 8);
    assert_all(&get_all(&members).await, "token-1");
    redis.kill();
    redis.start_again();
    assert_all(&get_all(&members).await, "token-1");
    assert_eq!(source.calls(), 1, "a good token needs no store");
    let newcomers = processes(&redis, &source, 8);
    assert_all(&get_all(&newcomers).await, "token-2");
    assert_eq!(source.calls(), 2);
}

#[actix::test]
async fn a_store_outlives_the_arbiter_that_connected_it() {
    let redis = Redis::begin();
    let source = source();
    let store = redis.store();
    let elsewhere = std::thread::spawn({
        let (store, source) = (store.clone(), source.clone());
        move || {
            actix_rt::System::new().block_on(async move {
                let shared = settings(tokenflight::clock::SystemClock).build(source, store).unwrap();
                let handle = tokenflight::TokenActor::builder(shared).start().unwrap();
                handle.get().await.unwrap().secret().to_owned()
            })
        }
    });
    assert_eq!(elsewhere.join().unwrap(), "token-1");
    let here = process_with(&redis, &source, store, |settings| settings);
    assert_eq!(here.secret().await, "token-1", "by a connection of its own");
    assert_eq!(here.stats.store_errors(), 0);
}

#[actix::test]
async fn redis_holds_no_secret_and_nothing_for_ever() {
    const SECRET: &str = "s3cret-token-of-the-fleet";
    let redis = Redis::begin();
    let source = source();
    source.then(token(SECRET, HOUR)).then(terminal());
    let one = process_with(&redis, &source, redis.store(), |settings| settings.cooldown(secs(30)));
    assert_eq!(one.secret().await, SECRET);
    one.handle.refresh().await.unwrap_err();
    let keys = redis.cli(&["--scan"]);
    assert_eq!(keys.lines().count(), 3, "token, marks, state: {keys}");
    for key in keys.lines() {
        assert!(key.starts_with("tokenflight:{orders:"), "{key}");
        let held = match redis.cli(&["TYPE", key]).trim() {
            "hash" => redis.cli(&["HGETALL", key]),
            _ => redis.cli(&["GET", key]),
        };
        assert!(!held.contains(SECRET) && !held.contains("s3cret"), "{key}: {held}");
        let lasts: i64 = redis.cli(&["PTTL", key]).trim().parse().unwrap();
        assert!(lasts > 0, "{key} has an end");
    }
}

/// As `docs/fleet.md` has it.
pub(crate) const RIGHTS: &str = "resetchannels ~tokenflight:* &tokenflight:* -@all +hello +auth +ping +select +evalsha +script|load \
    +subscribe +unsubscribe +publish +type +strlen +hlen +hstrlen +hget +hgetall +hmget +hset +hdel +hkeys +get +set +unlink +pttl +pexpire +time \
    +multi +exec";

#[actix::test]
async fn the_documented_rights_are_enough_and_all_are_needed() {
    let redis = Redis::begin();
    let documented = include_str!("../../../docs/fleet.md").replace("\\\n", " ");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(words(&documented).windows(words(RIGHTS).len()).any(|part| part == words(RIGHTS)));

    let allow =
        |rights: &[&str]| redis.cli(&[&["ACL", "SETUSER", "narrow", "reset", "on", ">pw"], rights].concat());
    let rights: Vec<&str> = RIGHTS.split_whitespace().collect();
    allow(&rights);
    let url = redis.url().replace("://", "://narrow:pw@");
    let works = async || {
        redis.cli(&["FLUSHALL"]);
        let store = RedisStore::builder(url.as_str()).build().unwrap();
        let whole = async {
            let mut news = store.watch(&key()).await?;
            let first = lease(&store, "one").await;
            store.renew(&key(), &first, LEASE).await?;
            store.commit(&key(), &first, b"value", HOUR).await?;
            news.next().await;
            store.load(&key()).await?;
            let ask = Ask { discard: true, ..refusing("one") };
            let second = lease_by(&store, &key(), ask.clone(), "two").await;
            let record = Some((b"wait".to_vec(), secs(1)));
            store.fail(&key(), &second, &Failure { pause: None, mark: record.clone() }).await?;
            let past = Ask { passed: vec![b"wait".to_vec()], ..Ask::default() };
            let third = lease_by(&store, &key(), past, "three").await;
            store.fail(&key(), &third, &Failure { pause: record, mark: None }).await?;
            store.look_or_lease(&key(), &ask).await
        };
        let whole = tokio::time::timeout(secs(5), std::panic::AssertUnwindSafe(whole).catch_unwind()).await;
        matches!(whole, Ok(Ok(Ok(_)))) && tokio::time::timeout(secs(2), nobody_listens(&redis)).await.is_ok()
    };
    assert!(works().await);
    // Connecting uses these four, and not all of them each time.
    let connects = ["+hello", "+auth", "+ping", "+select"];
    for right in rights.iter().filter(|right| right.starts_with('+') && !connects.contains(right)) {
        redis.cli(&["SCRIPT", "FLUSH"]);
        allow(&rights.iter().copied().filter(|other| other != right).collect::<Vec<_>>());
        assert!(!works().await, "{right} is not needed");
    }
}

/// Every test on one server runs under the documented rights: see `Redis::store`.
#[actix::test]
async fn the_documented_rights_grant_nothing_else() {
    let redis = Redis::begin();
    redis.store().load(&key()).await.unwrap();
    for command in
        ["CLIENT KILL TYPE normal", "CLIENT PAUSE 1", "CONFIG GET *", "KEYS *", "FLUSHALL", "ACL LIST"]
    {
        let words: Vec<&str> = command.split(' ').collect();
        let login = ["--no-auth-warning", "--user", "fleet", "-a", "pw"];
        let said = redis.cli(&[&login, &words[..]].concat());
        assert!(said.starts_with("NOPERM"), "{command}: {said}");
    }
    let said = redis.cli(&["--no-auth-warning", "--user", "fleet", "-a", "pw", "GET", "another:key"]);
    assert!(said.starts_with("NOPERM"), "{said}");
}

#[actix::test]
async fn a_lease_that_nobody_waits_for_any_more_is_given_back() {
    let redis = Redis::begin();
    let other = redis.store();
    let mut news = other.watch(&key()).await.unwrap();
    let impatient = || RedisStore::builder(redis.url()).timeout(millis(500)).build().unwrap();
    let key = key();
    for (owner, is_dropped) in [("timed out", false), ("dropped", true)] {
        // Nobody has it, and the script is known to the server.
        let free = lease(&other, "other").await;
        assert!(other.fail(&key, &free, &Failure::default()).await.unwrap());
        tokio::time::timeout(secs(5), news.next()).await.expect("news of its own failure");

        let one = impatient();
        let mut ask = ask_for(&one, &key, Ask::default(), owner).await;
        ask.take.as_mut().unwrap().time = HOUR;
        redis.freeze();
        let look = one.look_or_lease(&key, &ask);
        if is_dropped {
            tokio::time::timeout(millis(50), look).await.expect_err("no answer yet");
        } else {
            look.await.expect_err("no answer in time");
        }
        settle().await;
        redis.thaw();
        tokio::time::timeout(secs(5), news.next()).await.expect("the lease was taken, and is free again");
    }
    lease(&other, "other").await;
}

/// As a program does when it starts. Another test may have done it before.
#[cfg(feature = "rustls")]
fn choose_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Makes a certificate for this machine by its name and its address, and returns the files of it and of its key.
#[cfg(feature = "rustls")]
fn certificate(name: &str) -> [String; 2] {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let files = ["pem", "key"].map(|kind| {
        // Another run of the tests may share the folder.
        folder.join(format!("{name}-{}.{kind}", std::process::id())).display().to_string()
    });
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &files[1], "-out", &files[0]])
        .output()
        .expect("openssl is missing: ./tests/run installs it");
    assert!(made.status.success(), "{made:?}");
    files
}

#[cfg(feature = "rustls")]
#[actix::test]
async fn over_tls_it_trusts_whom_it_was_told_to_and_nobody_else() {
    choose_provider();
    let [certificate, secret] = certificate("server");
    let redis = Redis::with_tls(&certificate, &secret);
    let url = redis.url().replace("redis://127.0.0.1", "rediss://localhost");
    let builder = || RedisStore::builder(url.as_str()).timeout(secs(5));
    lease(&builder().ca(std::fs::read(&certificate).unwrap()).build().unwrap(), "trusting").await;
    let error = builder().build().unwrap().load(&key()).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let plain = RedisStore::builder(redis.url()).timeout(secs(5)).build().unwrap();
    plain.load(&key()).await.expect_err("it talks TLS only");
}

#[test]
fn a_wrong_url_is_named_without_its_password() {
    let with_several_hosts = [
        "redis+cluster://:s3cret@host,",
        "redis+cluster://:s3cret@host:s3cret",
        "redis+cluster://:s3cret@host/1",
        "redis+sentinel://:s3cret@host",
        "redis+sentinel://:s3cret@host/master/x",
        "redis+sentinel://:s3cret@host/master/0/x",
        "redis+sentinel://host/master?s3cret=x",
        "redis+sentinel://host/master#s3cret",
        "http+cluster://:s3cret@host",
        "redis+s3://:s3cret@host",
    ];
    let with_one =
        ["", "http://user:s3cret@host", "redis://user:s3cret@host:99999", "redis://:s3cret@host/x"];
    for url in with_one.into_iter().chain(with_several_hosts) {
        let error = RedisStore::builder(url).build().expect_err(url);
        assert_eq!(error.field(), "url");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    let file = r#"{ "url": "redis://host", "timeuot": "1s" }"#;
    let error = serde_json::from_str::<RedisStoreBuilder>(file).unwrap_err().to_string();
    assert!(error.contains("timeuot") && error.contains("timeout"), "{error}");
    let shown = format!("{:?}", RedisStore::builder("redis://:s3cret@host"));
    assert!(!shown.contains("s3cret"), "{shown}");
    let store = RedisStore::builder("redis://:s3cret@host").allow_plaintext().build().unwrap();
    assert!(!format!("{store:?}").contains("s3cret"));
    assert_eq!(RedisStore::builder("redis://host").prefix("a{b").build().unwrap_err().field(), "prefix");
}

#[test]
fn a_password_crosses_no_network_in_clear_unless_the_user_says_so() {
    for url in [
        "redis://:s3cret@host",
        "redis://user:s3cret@10.0.0.1:6379",
        "redis+cluster://:s3cret@127.0.0.1:7000,host:7000",
        "redis+sentinel://:s3cret@host/master",
        "redis+sentinel://host/master?sentinel_username=a&sentinel_password=s3cret",
    ] {
        let error = RedisStore::builder(url).build().expect_err(url);
        assert_eq!(error.field(), "url");
        assert!(
            error.to_string().contains("allow_plaintext") && !error.to_string().contains("s3cret"),
            "{error}"
        );
        RedisStore::builder(url).allow_plaintext().build().expect(url);
    }
    for url in ["redis://host", "redis://:pw@localhost", "redis://:pw@127.0.0.2", "redis://:pw@[::1]:1"] {
        RedisStore::builder(url).build().expect(url);
    }
}

#[cfg(feature = "rustls")]
#[test]
fn a_certificate_without_tls_is_refused() {
    for url in ["redis://host", "redis+cluster://host", "redis+sentinel://host/master", "redis+unix:///path"]
    {
        assert_eq!(RedisStore::builder(url).ca("pem").build().expect_err(url).field(), "ca");
    }
}

/// The other tests of this binary choose a provider, so this one runs in a process of its own.
#[cfg(feature = "rustls")]
#[test]
fn tls_without_a_provider_is_an_error_and_none_is_installed() {
    const ALONE: &str = "TOKENFLIGHT_TEST_ALONE";
    const NAME: &str = "shared::redis::tls_without_a_provider_is_an_error_and_none_is_installed";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let run = alone.args(["--exact", NAME]).env(ALONE, "yes").output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    for url in ["rediss://host", "rediss+cluster://host", "rediss+sentinel://host/master"] {
        let error = RedisStore::builder(url).build().expect_err(url);
        assert!(error.field() == "url" && error.to_string().contains("install_default()"), "{error}");
        assert!(rustls::crypto::CryptoProvider::get_default().is_none(), "{url}");
    }
}
