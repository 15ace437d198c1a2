//! Passwords that rotate, and errors that repeat them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokenflight::store::{Lease, RedisCredentials, RedisStore, RedisStoreBuilder, SharedStore};

use super::fake::{Fake, named, says_hello};
use super::server::Redis;
use super::topology::until;
use crate::shared::world::*;
use crate::support::*;

#[test]
fn a_url_stands_in_the_settings_in_a_file_or_in_the_environment() {
    let path = std::env::temp_dir().join(format!("tokenflight-redis-url-{}", std::process::id()));
    std::fs::write(&path, "redis://:s3cret@127.0.0.1\n").unwrap();
    let build = |url: serde_json::Value| {
        let builder: RedisStoreBuilder = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
        assert!(!format!("{builder:?}").contains("s3cret"), "{builder:?}");
        builder.build()
    };
    for url in [serde_json::json!("redis://:s3cret@127.0.0.1"), serde_json::json!({ "file": path })] {
        assert!(!format!("{:?}", build(url).unwrap()).contains("s3cret"));
    }
    std::fs::write(&path, "s3cret").unwrap();
    for url in [
        serde_json::json!({ "file": path }),
        serde_json::json!({ "file": "/nowhere/at/all" }),
        serde_json::json!({ "env": "TOKENFLIGHT_TEST_NOTHING" }),
    ] {
        let error = build(url).unwrap_err();
        assert!(error.field() == "url" && !error.to_string().contains("s3cret"), "{error}");
    }
    std::fs::remove_file(path).unwrap();
}

/// A user whose password is this.
fn rotate(redis: &Redis, password: &str) {
    let rights: Vec<&str> = super::RIGHTS.split_whitespace().collect();
    let user = ["ACL", "SETUSER", "rotating", "on", "resetpass"];
    redis.cli(&[&user[..], &[&format!(">{password}")], &rights[..], &["+role", "+cluster|slots"]].concat());
}

fn cut(redis: &Redis) {
    redis.cli(&["CLIENT", "KILL", "USER", "rotating"]);
}

/// A password that changes, and how often it was asked for.
#[derive(Clone, Default)]
struct Vault(Arc<(Mutex<Vec<&'static str>>, AtomicUsize)>);

impl Vault {
    /// The passwords, one for each time that it is asked. The last one stays.
    fn gives(&self, passwords: &[&'static str]) {
        *self.0.0.lock().unwrap() = passwords.iter().rev().copied().collect();
    }

    fn asked(&self) -> usize {
        self.0.1.load(Ordering::Relaxed)
    }

    fn of(&self, builder: RedisStoreBuilder) -> RedisStoreBuilder {
        let vault = self.clone();
        builder.credentials(move || {
            vault.0.1.fetch_add(1, Ordering::Relaxed);
            let mut passwords = vault.0.0.lock().unwrap();
            let password = if passwords.len() > 1 { passwords.pop() } else { passwords.last().copied() };
            let credentials = password.map(|password| RedisCredentials::new(password).username("rotating"));
            std::future::ready(credentials.ok_or("the vault is shut\nWARN forged"))
        })
    }
}

fn builder(url: &str) -> RedisStoreBuilder {
    RedisStore::builder(url).timeout(secs(4))
}

#[actix::test]
async fn a_provider_is_asked_for_each_connection_and_again_when_the_password_is_wrong() {
    let redis = Redis::begin();
    rotate(&redis, "first");
    let vault = Vault::default();
    vault.gives(&["first"]);
    let store = vault.of(builder(&redis.url())).build().unwrap();
    store.load(&key()).await.unwrap();
    store.load(&key()).await.unwrap();
    assert_eq!(vault.asked(), 1, "once a connection");

    // Rotated, and the vault is late by one answer: WRONGPASS, and asked again.
    rotate(&redis, "second");
    cut(&redis);
    vault.gives(&["first", "second"]);
    store.load(&key()).await.unwrap();
    assert_eq!(vault.asked(), 3);

    // Only once more, or a wrong password would be tried for ever.
    vault.gives(&["wrong"]);
    cut(&redis);
    let error = store.load(&key()).await.unwrap_err();
    assert!(error.to_string().contains("WRONGPASS"), "{error}");
    assert_eq!(vault.asked(), 5);

    vault.gives(&[]);
    let error = store.load(&key()).await.unwrap_err().to_string();
    assert!(error.contains("the vault is shut?WARN forged"), "on one line: {error}");
}

#[actix::test]
async fn a_provider_that_panics_is_one_that_fails() {
    let store = builder("redis://127.0.0.1:1")
        .credentials(|| -> std::future::Ready<Result<RedisCredentials, String>> {
            panic!("the test says so")
        })
        .build()
        .unwrap();
    let error = store.load(&key()).await.unwrap_err().to_string();
    assert!(error.contains("the provider of credentials panicked"), "{error}");
}

#[actix::test]
async fn a_connection_that_loses_its_login_is_made_anew() {
    // As servers do that end a login with its token.
    let logins = Arc::new(AtomicUsize::new(0));
    let fake = Fake::begin({
        let logins = Arc::clone(&logins);
        move |words| match words[0].as_str() {
            "HELLO" => {
                logins.fetch_add(1, Ordering::Relaxed);
                says_hello(words)
            }
            "EVALSHA" if logins.load(Ordering::Relaxed) > 1 => ":1\r\n".into(),
            _ => "-NOAUTH Authentication required.\r\n".into(),
        }
    })
    .await;
    let vault = Vault::default();
    vault.gives(&["first", "second"]);
    let store = vault.of(builder(&format!("redis://127.0.0.1:{}", fake.port()))).build().unwrap();
    let lease = Lease { owner: "one".into(), fence: 1, mark: String::new(), value: Vec::new() };
    assert!(store.renew(&key(), &lease, HOUR).await.unwrap());
    assert_eq!(vault.asked(), 2);
    assert!(fake.heard().contains("second"));
}

#[actix::test]
async fn a_password_file_is_read_for_each_connection() {
    let redis = Redis::begin();
    rotate(&redis, "first");
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("password-{}", redis.port()));
    std::fs::write(&file, "first\n").unwrap();
    let url = redis.url().replace("://", "://rotating@");
    let settings = serde_json::json!({ "url": url, "password_file": file, "timeout": "4s" });
    let store = serde_json::from_value::<RedisStoreBuilder>(settings).unwrap().build().unwrap();
    store.load(&key()).await.unwrap();

    rotate(&redis, "second");
    std::fs::write(&file, "second\r\n").unwrap();
    cut(&redis);
    store.load(&key()).await.unwrap();

    for (text, said) in [(&b""[..], "empty"), (b"s3cret\xff", "UTF-8"), (&vec![b'x'; 70_000], "too long")] {
        std::fs::write(&file, text).unwrap();
        cut(&redis);
        let error = store.load(&key()).await.unwrap_err().to_string();
        assert!(error.contains("password file") && error.contains(said), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    let error = store.load(&key()).await.unwrap_err().to_string();
    assert!(error.contains("password file"), "{error}");
}

#[actix::test]
async fn the_nodes_of_a_cluster_get_the_password_of_the_day() {
    let node = Redis::in_cluster((0, 16383));
    until("the cluster is up", || node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")).await;
    rotate(&node, "first");
    let vault = Vault::default();
    vault.gives(&["first"]);
    let store = vault.of(builder(&format!("redis+cluster://127.0.0.1:{}", node.port()))).build().unwrap();
    store.load(&key()).await.unwrap();
    assert_eq!(vault.asked(), 1);

    rotate(&node, "second");
    vault.gives(&["second"]);
    cut(&node);
    store.load(&key()).await.unwrap();
    // The client connects anew to a node by itself, with the password that it has. So that one has to be wrong.
    rotate(&node, "third");
    vault.gives(&["wrong"]);
    cut(&node);
    store.load(&key()).await.unwrap_err();
}

#[actix::test]
async fn the_servers_that_sentinels_name_get_the_password_of_the_day() {
    let master = Redis::begin();
    rotate(&master, "first");
    let port = master.port();
    let sentinel = Fake::begin(move |words| match words[0].as_str() {
        "SENTINEL" => named("orders", port, "127.0.0.1"),
        _ => says_hello(words),
    })
    .await;
    let vault = Vault::default();
    vault.gives(&["wrong", "first"]);
    let url = format!("redis+sentinel://127.0.0.1:{}/orders", sentinel.port());
    vault.of(builder(&url)).build().unwrap().load(&key()).await.unwrap();
    assert_eq!(vault.asked(), 2);
    assert!(!sentinel.heard().contains("first"), "the sentinels have a login of their own");
}

#[test]
fn contradicting_logins_are_refused_by_name() {
    let given = |builder: RedisStoreBuilder| {
        builder.credentials(|| std::future::ready(Ok::<_, io::Error>(RedisCredentials::new("s3cret"))))
    };
    for url in
        ["redis://:pw@localhost", "redis+cluster://:pw@localhost", "redis+sentinel://:pw@localhost/orders"]
    {
        let error = given(RedisStore::builder(url)).build().unwrap_err();
        assert_eq!((error.field(), error.to_string().contains("pw")), ("credentials", false), "{error}");
        let error = RedisStore::builder(url).password_file("pw").build().unwrap_err();
        assert_eq!(error.field(), "password_file");
    }
    let both = given(RedisStore::builder("redis://localhost")).password_file("a file");
    assert_eq!(both.build().unwrap_err().field(), "password_file");
    let sentinels = "redis+sentinel://localhost/orders?sentinel_password=other";
    given(RedisStore::builder(sentinels)).build().expect("two logins");

    // They are passwords, too.
    for builder in [
        given(RedisStore::builder("redis://host")),
        RedisStore::builder("redis+cluster://localhost,host").password_file("a file"),
    ] {
        assert_eq!(builder.clone().build().unwrap_err().field(), "url");
        let shown = format!("{:?}", builder.clone().allow_plaintext());
        assert!(!shown.contains("s3cret"), "{shown}");
        builder.allow_plaintext().build().unwrap();
    }
}

/// An error in RESP3 that may have line breaks in it.
fn blob(text: &str) -> String {
    format!("!{}\r\n{text}\r\n", text.len())
}

const SERVERS: &str = "s3cret/of the&servers";

/// What Redis without HELLO says, and a proxy that repeats what it was sent.
#[actix::test]
async fn an_error_that_repeats_the_password_is_shown_without_it() {
    const ENCODED: &str = "s3cret%2Fof%20the%26servers";
    let errors = [
        format!(
            "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `user`, `{SERVERS}`, \r\n"
        ),
        format!(
            "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `user`, `{}\r\n",
            &SERVERS[..9]
        ),
        format!("-ERR no: {SERVERS}\r\n"),
        format!("-ERR no: {ENCODED}\r\n"),
        "-ERR no: czNjcmV0L29mIHRoZSZzZXJ2ZXJz\r\n".to_owned(),
        format!("-ERR {}{SERVERS}\r\n", "x".repeat(185)),
        format!("-ERR {SERVERS}{}\r\n", "\u{1b}[31mx".repeat(1_500)),
        blob(&format!("ERR {}\nWARN forged", format!("{SERVERS}\n").repeat(454))),
    ];
    for text in errors {
        let says = text.clone();
        let fake = Fake::begin(move |_| says.clone()).await;
        let url = format!("redis://user:{ENCODED}@127.0.0.1:{}", fake.port());
        let sentinels =
            format!("redis+sentinel://127.0.0.1:{}/orders?sentinel_password={ENCODED}", fake.port());
        for url in [url, sentinels] {
            let store = RedisStore::builder(url).timeout(millis(400)).build().unwrap();
            let error = store.load(&key()).await.unwrap_err();
            let shown = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
            assert!(!shown.contains("s3cret") && !shown.contains("czNjcmV0"), "{text}: {shown}");
            let shown = error.to_string();
            assert!(shown.len() < 250 && !shown.contains(char::is_control), "{text}: {shown}");
        }
    }
}

/// The password of a URL and of a provider, in any encoding, and the beginning and the end of it.
#[cfg(feature = "oauth2")]
#[actix::test]
async fn an_error_that_repeats_the_password_in_any_encoding_is_shown_without_it() {
    const PASSWORD: &str = "p+w/q Zq8<&>'=;~@9kLmN";
    const ENCODED: &str = "p%2Bw%2Fq%20Zq8%3C%26%3E%27%3D%3B~%409kLmN";
    let says = Arc::new(Mutex::new(String::new()));
    let fake = Fake::begin({
        let says = Arc::clone(&says);
        move |_| blob(&says.lock().unwrap())
    })
    .await;
    let port = fake.port();
    let of_url = RedisStore::builder(format!("redis://app:{ENCODED}@127.0.0.1:{port}"));
    let provided = RedisStore::builder(format!("redis://127.0.0.1:{port}")).credentials(|| {
        std::future::ready(Ok::<_, io::Error>(RedisCredentials::new(PASSWORD).username("app")))
    });
    for builder in [of_url, provided] {
        let store = builder.timeout(secs(4)).build().unwrap();
        for (form, quoted) in crate::oauth::quoted::forms(PASSWORD) {
            *says.lock().unwrap() = format!("ERR bad login {quoted}, go away");
            let error = store.load(&key()).await.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(&quoted), "{form}: {shown}");
            assert!(shown.contains("[redacted]") || shown.contains("response error: "), "{form}: {error}");
        }
        *says.lock().unwrap() = "ERR max number of clients reached".to_owned();
        let error = store.load(&key()).await.unwrap_err().to_string();
        assert!(error.contains("max number of clients reached"), "{error}");
    }
}

/// Whoever writes a password into a variable often writes a line break behind it.
#[actix::test]
async fn a_password_of_a_provider_is_sent_without_its_last_line_break() {
    let fake = Fake::begin(says_hello).await;
    let builder = RedisStore::builder(format!("redis://127.0.0.1:{}", fake.port())).credentials(|| {
        std::future::ready(Ok::<_, io::Error>(RedisCredentials::new("s3cret\r\n").username("app")))
    });
    let _ = builder.timeout(secs(4)).build().unwrap().load(&key()).await;
    assert!(fake.heard().contains("$6\r\ns3cret\r\n"), "{}", fake.heard());
}

#[test]
fn the_warning_of_an_outage_is_one_line_without_the_password() {
    const NAME: &str =
        "shared::redis::credentials::the_warning_of_an_outage_is_one_line_without_the_password";
    if let Some(mut child) = in_its_own_process(NAME) {
        let written = all_that_is_written_by(child.env("RUST_LOG", "warn"));
        let warnings: Vec<&str> = written.lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warnings.len(), 1, "{written}");
        assert!(
            warnings[0].contains("the shared store: ResponseError: no: [redacted]?[redacted]?"),
            "{written}"
        );
        assert!(warnings[0].len() < 400, "{written}");
        assert!(!written.contains("s3cret"), "{written}");
        return;
    }
    env_logger::init();
    actix_rt::System::new().block_on(async {
        let says = blob(&format!("ERR no: {}\n[WARN] forged", format!("{SERVERS}\n").repeat(454)));
        let fake = Fake::begin(move |_| says.clone()).await;
        let url = format!("redis://:s3cret%2Fof%20the%26servers@127.0.0.1:{}", fake.port());
        let source = super::source();
        let store = builder(&url).build().unwrap();
        let shared = settings(tokenflight::clock::SystemClock).build(source, store).unwrap();
        let handle = tokenflight::TokenActor::builder(shared).start().unwrap();
        assert_eq!(handle.get().await.unwrap().secret(), "token-1", "the source's own");
    });
}
