//! Sealed tokens in the store.

use tokenflight::source::{SealKey, SharedSource, SharedSourceBuilder};
use tokenflight::store::{Ask, MemoryStore, SharedKey, SharedStore};
use tokenflight::testing::ScriptedSource;
use tokenflight::{Token, TokenType};

use super::world::*;
use crate::support::*;

on_each_store!(
    what_is_stored_shows_no_secret,
    a_token_comes_out_as_it_went_in,
    flipped_bits_are_refused_reported_once_and_replaced,
    a_value_that_stays_unopened_is_reported_once,
    another_keys_value_is_refused,
    a_value_in_clear_is_no_token_for_who_seals,
    a_wrong_key_costs_a_call_and_no_more,
    a_key_is_rotated_without_a_call,
    in_clear_is_readable_and_only_by_that_name,
);

const SECRET: &str = "s3cret-token-of-the-fleet";

fn secret_source() -> ScriptedSource {
    let source = ScriptedSource::new();
    source.then(token(SECRET, HOUR));
    source
}

fn contains(value: &[u8], what: &str) -> bool {
    value.windows(what.len()).any(|window| window == what.as_bytes())
}

/// Puts a value in the token's place.
async fn plant(store: &impl SharedStore, key: &SharedKey, value: &[u8]) {
    let old = store.load(key).await.unwrap().map(|stored| stored.id);
    let lease = lease_by(store, key, Ask { refused: old, ..Ask::default() }, "planted").await;
    assert!(store.commit(key, &lease, value, HOUR).await.unwrap());
}

async fn stored(store: &impl SharedStore) -> Vec<u8> {
    store.load(&key()).await.unwrap().expect("a value").value
}

async fn what_is_stored_shows_no_secret<W: World>(world: W) {
    let source = secret_source();
    assert_eq!(process(&world, &source).secret().await, SECRET);
    let value = stored(&world.store()).await;
    assert!(!contains(&value, SECRET) && !contains(&value, "s3cret") && !contains(&value, "Bearer"));
    assert!(contains(&value, "k1"), "the key's id is told");
}

async fn a_token_comes_out_as_it_went_in<W: World>(world: W) {
    let source = ScriptedSource::new();
    let made = Token::new("abc").with_type(TokenType::DPoP).with_scopes(["orders.read", "orders.write"]);
    source.then(tokenflight::testing::Answer::Token(made.with_lifetime(HOUR)));
    process(&world, &source).secret().await;
    let token = process(&world, &source).handle.get().await.unwrap();
    assert_eq!(token.secret(), "abc");
    assert_eq!(token.token_type(), &TokenType::DPoP);
    assert_eq!(token.scopes(), ["orders.read", "orders.write"]);
    let left = token.remaining().unwrap();
    assert!(left <= HOUR && left > HOUR - secs(20), "{left:?}");
}

async fn flipped_bits_are_refused_reported_once_and_replaced<W: World>(world: W) {
    let source = secret_source();
    process(&world, &source).secret().await;
    let value = stored(&world.store()).await;
    let mut calls = source.calls();
    for at in [0, 1, 2, 10, value.len() / 2, value.len() - 1] {
        let mut flipped = value.clone();
        flipped[at] ^= 1;
        plant(&world.store(), &key(), &flipped).await;
        let reader = process(&world, &source);
        calls += 1;
        assert_eq!(reader.secret().await, format!("token-{calls}"), "byte {at}");
        assert_eq!(reader.stats.unopened(), 1);
        assert_eq!(process(&world, &source).secret().await, format!("token-{calls}"), "it was replaced");
    }
    for short in [&value[..0], &value[..1], &value[..20], &value[..value.len() - 1]] {
        plant(&world.store(), &key(), short).await;
        let reader = process(&world, &source);
        calls += 1;
        assert_eq!(reader.secret().await, format!("token-{calls}"));
    }
    assert_eq!(source.calls(), calls);
}

async fn a_value_that_stays_unopened_is_reported_once<W: World>(world: W) {
    let source = ScriptedSource::new();
    plant(&world.store(), &key(), b"nonsense").await;
    source.then_times(2, &transient());
    let short = |settings: SharedSourceBuilder| settings.cooldown(millis(1));
    let reader = process_with(&world, &source, world.store(), short);
    assert_eq!(reader.secret().await, "token-3", "each of the three attempts found it");
    assert_eq!(reader.stats.unopened(), 1);
}

async fn another_keys_value_is_refused<W: World>(world: W) {
    let source = secret_source();
    let elsewhere = |settings: SharedSourceBuilder| settings.part("scope", "orders.admin");
    process_with(&world, &source, world.store(), elsewhere).secret().await;
    let other = key_of(elsewhere(settings(world.clock())));
    let value = world.store().load(&other).await.unwrap().expect("the key is made of the parts").value;
    plant(&world.store(), &key(), &value).await;
    let reader = process(&world, &source);
    assert_eq!(reader.secret().await, "token-2", "sealed for another place");
    assert_eq!(reader.stats.unopened(), 1);
}

async fn a_value_in_clear_is_no_token_for_who_seals<W: World>(world: W) {
    let source = secret_source();
    let in_clear = SharedSource::builder("orders")
        .part("issuer", "https://auth.example")
        .in_clear()
        .clock(world.clock())
        .build(source.clone(), world.store())
        .unwrap();
    tokenflight::TokenSource::fetch(&in_clear, context(&world).await).await.unwrap();
    let value = world.store().load(in_clear.key()).await.unwrap().expect("a value").value;
    assert!(contains(&value, SECRET), "it is readable");
    plant(&world.store(), &key(), &value).await;
    assert_eq!(process(&world, &source).secret().await, "token-2");
}

/// A context as an actor makes it.
async fn context<W: World>(world: &W) -> tokenflight::FetchContext {
    let source = ScriptedSource::new();
    let handle = tokenflight::TokenActor::builder(source.clone()).clock(world.clock()).start().unwrap();
    handle.get().await.unwrap();
    source.contexts().remove(0)
}

async fn a_wrong_key_costs_a_call_and_no_more<W: World>(world: W) {
    let source = ScriptedSource::new();
    process(&world, &source).secret().await;
    let stranger = |first: SealKey, second: Option<SealKey>| {
        let builder = SharedSource::builder("orders").part("issuer", "https://auth.example");
        let builder = builder.key(first).clock(world.clock());
        let builder = second.into_iter().fold(builder, SharedSourceBuilder::key);
        let shared = builder.build(source.clone(), world.store()).unwrap();
        let stats = shared.stats();
        let actor = tokenflight::TokenActor::builder(shared).policy(plain()).clock(world.clock());
        Process { handle: actor.start().unwrap(), stats }
    };
    let wrong = stranger(seal_key("k1", 9), None);
    assert_eq!(wrong.secret().await, "token-2");
    assert_eq!(wrong.stats.unopened(), 0, "another key gives another name in the store");
    assert_eq!(wrong.secret().await, "token-2", "it has its token");
    assert_eq!(process(&world, &source).secret().await, "token-1", "and the others have theirs");
    // One that was given the new key as the first before the others had it at all.
    let early = stranger(seal_key("k2", 2), Some(seal_key("k1", 1)));
    assert_eq!(early.secret().await, "token-1", "the old key opens");
    assert_eq!(early.handle.refresh().await.unwrap().secret(), "token-3");
    let late = process(&world, &source);
    assert_eq!(late.secret().await, "token-4", "it cannot open token-3");
    assert_eq!(late.stats.unopened(), 1);
}

async fn a_key_is_rotated_without_a_call<W: World>(world: W) {
    let source = secret_source();
    process(&world, &source).secret().await;
    let ring = |first: SealKey, second: SealKey| {
        let builder =
            SharedSource::builder("orders").part("issuer", "https://auth.example").clock(world.clock());
        let shared = builder.key(first).key(second).build(source.clone(), world.store()).unwrap();
        tokenflight::TokenActor::builder(shared).policy(plain()).clock(world.clock()).start().unwrap()
    };
    let (old, new) = (seal_key("k1", 1), seal_key("k2", 2));
    let rotated = ring(new.clone(), old.clone());
    assert_eq!(rotated.get().await.unwrap().secret(), SECRET, "the old key still opens");
    assert_eq!(rotated.refresh().await.unwrap().secret(), "token-2");
    assert!(contains(&stored(&world.store()).await, "k2"), "the new key seals");
    assert_eq!(ring(old, new).get().await.unwrap().secret(), "token-2", "the new key opens for the others");
    assert_eq!(source.calls(), 2);
}

async fn in_clear_is_readable_and_only_by_that_name<W: World>(world: W) {
    let source = secret_source();
    let builder = || SharedSource::builder("orders").part("issuer", "x").clock(world.clock());
    let error = builder().build(source.clone(), world.store()).unwrap_err();
    assert_eq!(error.field(), "keys");
    assert!(error.to_string().contains("in_clear"), "{error}");
    let error = builder().in_clear().key(seal_key("k1", 1)).build(source.clone(), world.store()).unwrap_err();
    assert_eq!(error.field(), "keys");
    builder().in_clear().build(source, world.store()).unwrap();
}

#[test]
fn each_setting_that_cannot_work_is_named() {
    let sound = || settings(tokenflight::clock::SystemClock);
    let field = |builder: SharedSourceBuilder| {
        builder.build(ScriptedSource::new(), MemoryStore::new()).unwrap_err().field().to_owned()
    };
    let zero = std::time::Duration::ZERO;
    assert_eq!(field(SharedSource::builder("").part("a", "b").in_clear()), "name");
    assert_eq!(field(SharedSource::builder("a{b}").part("a", "b").in_clear()), "name");
    assert_eq!(field(SharedSource::builder("a").in_clear()), "parts");
    assert_eq!(field(sound().key(seal_key("k1", 2))), "keys");
    assert_eq!(field(sound().lease(millis(1))), "lease");
    assert_eq!(field(sound().wait_limit(zero)), "wait_limit");
    assert_eq!(field(sound().store_timeout(zero)), "store_timeout");
    assert_eq!(field(sound().retry_store(zero)), "retry_store");
    assert_eq!(field(sound().missing_lifetime(zero)), "missing_lifetime");
    assert_eq!(field(sound().cooldown(secs(100))), "cooldown");
    assert_eq!(SealKey::new("", [0; 32]).unwrap_err().field(), "keys");
    for hex in ["", "00", &"0g".repeat(32), &"é".repeat(32), &"00".repeat(33)] {
        assert_eq!(SealKey::from_hex("k", hex).unwrap_err().field(), "keys", "{hex:?}");
    }
}

#[test]
fn no_debug_shows_a_key() {
    let key = SealKey::from_hex("k1", &"a7b6c5d4e3f20918".repeat(4)).unwrap();
    let builder = SharedSource::builder("orders").part("a", "b").key(key.clone());
    let shown =
        format!("{key:?} {builder:?} {:?}", builder.clone().build(ScriptedSource::new(), MemoryStore::new()));
    assert!(shown.contains("k1") && shown.contains("redacted"), "{shown}");
    assert!(!shown.contains("a7b6") && !shown.contains("167, 182"), "{shown}");
}

#[test]
fn no_error_about_settings_quotes_a_key() {
    const KEY: &str = "471147114711471147114711471147114711471147114711471147114711471147";
    let texts = [
        format!(r#"{{"name":"a","keys":"{KEY}"}}"#),
        format!(r#"{{"name":"a","keys":["{KEY}"]}}"#),
        format!(r#"{{"name":"a","keys":[{{"id":"k","key":"{KEY}"}}]}}"#),
        r#"{"name":"a","keys":[{"id":"k","key":4711471147}]}"#.to_owned(),
        r#"{"name":"a","keys":4711471147}"#.to_owned(),
        r#"{"name":"a","keys":[-4711471147]}"#.to_owned(),
        r#"{"name":"a","keys":[4711471147.5]}"#.to_owned(),
    ];
    for text in texts {
        let error = serde_json::from_str::<SharedSourceBuilder>(&text).unwrap_err().to_string();
        assert!(!error.contains("47114711"), "{text}: {error}");
    }
}

#[test]
fn a_key_in_a_file_of_settings_is_a_value_a_file_or_a_variable() {
    // In a process of its own, because the environment belongs to the whole process.
    let hex = "8f1c0b5e7d3a92460c4fe1b8a5d6377290be64f3185c2da9770e1b3c4d5f6a81";
    let name = "shared::sealing::a_key_in_a_file_of_settings_is_a_value_a_file_or_a_variable";
    if let Some(mut child) = in_its_own_process(name) {
        all_that_is_written_by(child.env("TOKENFLIGHT_TEST_SEAL", format!("{hex}\n")));
        return;
    }
    let path = std::env::temp_dir().join(format!("tokenflight-seal-{}", std::process::id()));
    std::fs::write(&path, format!("{hex}\n")).unwrap();
    let read = |key: serde_json::Value| {
        let settings = serde_json::json!({ "name": "a", "keys": [{ "id": "k", "key": key }] });
        serde_json::from_value::<SharedSourceBuilder>(settings).map_err(|error| error.to_string())
    };
    let place = |key| {
        let shared =
            read(key).unwrap().part("a", "b").build(ScriptedSource::new(), MemoryStore::new()).unwrap();
        shared.key().as_str().to_owned()
    };
    let by_value = place(hex.into());
    assert_eq!(place(serde_json::json!({ "file": path })), by_value);
    assert_eq!(place(serde_json::json!({ "env": "TOKENFLIGHT_TEST_SEAL" })), by_value);
    std::fs::write(&path, "s3cret").unwrap();
    for (key, said) in [
        (serde_json::json!({ "file": path }), "64 hex digits"),
        (serde_json::json!({ "file": "/nowhere/at/all" }), "cannot be read"),
        (serde_json::json!({ "env": "TOKENFLIGHT_TEST_NOTHING" }), "TOKENFLIGHT_TEST_NOTHING"),
        (serde_json::json!({ "s3cret": "x" }), "{ file = "),
    ] {
        let error = read(key).unwrap_err();
        assert!(error.contains(said) && !error.contains("s3cret"), "{error}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_key_that_can_be_guessed_works_and_is_told_by_its_id_at_each_build() {
    let name = "shared::sealing::a_key_that_can_be_guessed_works_and_is_told_by_its_id_at_each_build";
    if let Some(mut child) = in_its_own_process(name) {
        all_that_is_written_by(&mut child);
        return;
    }
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let build = |bytes: [u8; 32]| {
        let keys = [SealKey::new("k1", bytes).unwrap(), seal_key("k2", 2)];
        let builder = SharedSource::builder("orders").part("a", "b");
        let builder = keys.into_iter().fold(builder, SharedSourceBuilder::key);
        builder.build(ScriptedSource::new(), MemoryStore::new()).unwrap();
        std::mem::take(&mut *LINES.0.lock().unwrap())
    };
    let counting: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let pattern: [u8; 32] = std::array::from_fn(|at| b"secret"[at % 6]);
    for weak in [[0; 32], [0xff; 32], [7; 32], counting, counting.map(|byte| 255 - byte), pattern] {
        let told = build(weak);
        let [line] = &told[..] else { panic!("one line, and not {told:?}") };
        assert!(line.starts_with("WARN ") && line.contains("\"k1\""), "{line}");
        assert!(line.contains("openssl rand -hex 32") && !line.contains("k2"), "{line}");
        let shown = ["0000", "ffff", "0707", "000102", "fffefd", "secret"];
        assert!(!shown.iter().any(|part| line.contains(part)), "{line}");
    }
    let mut nearly = counting;
    nearly[31] = 0;
    assert_eq!(build(nearly), [""; 0]);
}

/// The crate's log.
struct Lines(std::sync::Mutex<Vec<String>>);

static LINES: Lines = Lines(std::sync::Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "tokenflight"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}
