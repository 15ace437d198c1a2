//! Keys whose tokens stand in a store that other processes use too.

use tokenflight::clock::{Clock, SystemClock};
use tokenflight::registry::TokenRegistry;
use tokenflight::source::{SharedKeys, SharedSource, SharedSourceBuilder};
use tokenflight::store::MemoryStore;
use tokenflight::testing::ManualClock;
use tokenflight::{FetchContext, Token};

use crate::support::*;

fn settings(clock: impl Clock) -> SharedSourceBuilder {
    SharedSource::builder("keys").part("issuer", "https://auth.example").in_clear().clock(clock)
}

fn shared(
    settings: SharedSourceBuilder,
    source: &Scripts,
    store: &MemoryStore,
) -> SharedKeys<u32, Scripts, MemoryStore> {
    settings.build_keyed(source.clone(), store.clone(), u32::to_string).expect("sound settings")
}

/// A process that has one attempt in a flight.
fn process(source: &Scripts, store: &MemoryStore, clock: &ManualClock) -> TokenRegistry<u32> {
    let shared = shared(settings(clock.clone()), source, store);
    let builder = TokenRegistry::builder(shared).policy(plain().attempts(1)).clock(clock.clone());
    builder.max_keys(1).start().expect("sound settings")
}

#[actix::test]
async fn a_token_that_is_discarded_after_its_key_was_evicted_is_replaced_without_an_error() {
    tokio::time::pause();
    let (source, clock) = (Scripts::default(), ManualClock::new());
    let store = MemoryStore::with_clock(clock.clone());
    let tokens = process(&source, &store, &clock);
    let old = tokens.get(&1).await.unwrap();
    tokens.get(&2).await.unwrap();
    assert!(tokens.current(&1).is_none(), "key 1 was evicted");
    tokens.discard(&1, &old);
    assert!(!tokens.get(&1).await.unwrap().is_same(&old));
    assert_eq!(source.of(1).calls(), 2);
}

#[actix::test]
async fn a_process_that_discards_a_token_before_its_first_request_gets_another() {
    tokio::time::pause();
    let (source, clock) = (Scripts::default(), ManualClock::new());
    let store = MemoryStore::with_clock(clock.clone());
    let (one, two) = (process(&source, &store, &clock), process(&source, &store, &clock));
    let old = one.get(&1).await.unwrap();
    two.discard(&1, &old);
    let new = two.get(&1).await.unwrap();
    assert!(!new.is_same(&old));
    one.discard(&1, &old);
    assert!(one.get(&1).await.unwrap().is_same(&new), "the fleet has one token");
    assert_eq!(source.of(1).calls(), 2);
}

#[test]
fn a_thread_of_its_own_gives_its_lease_back_before_its_shutdown_is_answered() {
    let (source, store) = (Scripts::default(), MemoryStore::new());
    source.of(1).hold();
    // Without a pause after the call that is given up.
    let begin = || {
        let shared = shared(settings(SystemClock).cooldown(millis(0)), &source, &store);
        let stats = shared.stats();
        (TokenRegistry::<u32>::builder(shared).policy(plain()).spawn_thread().unwrap(), stats)
    };
    let ((one, _), (two, stats)) = (begin(), begin());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let caller = tokio::spawn(one.get(&1));
        while source.running() == 0 {
            tokio::task::yield_now().await;
        }
        one.shutdown().await;
        assert!(caller.await.unwrap().is_err());
        source.of(1).release();
        assert!(two.get(&1).await.is_ok());
        let waits = stats.polls() + stats.pushes();
        assert_eq!((stats.led(), stats.local(), waits), (1, 0, 0), "it waits for no lease");
    });
}

#[actix::test]
async fn a_source_that_names_no_part_of_its_request_needs_a_part() {
    let builder = || SharedSource::builder("keys").in_clear();
    let closure = |key: u32, _cx: FetchContext| async move { Ok(Token::new(format!("token-{key}"))) };
    let error = builder().build_keyed(closure, MemoryStore::new(), u32::to_string).unwrap_err();
    assert!(error.to_string().contains("`part`"), "{error}");
    // This type may name its parts for some keys. Therefore its calls are refused.
    let source = Scripts::default();
    let tokens = TokenRegistry::builder(shared(builder(), &source, &MemoryStore::new()));
    let tokens = tokens.policy(plain()).start().unwrap();
    let error = tokens.get(&1).await.unwrap_err();
    assert!(error.is_rejected() && error.to_string().contains("`part`"), "{error}");
    assert_eq!(source.calls(), 0);
}

#[test]
fn a_part_whose_name_is_reserved_is_refused_when_the_source_is_built() {
    for name in ["key:name", "source:scope"] {
        let settings = settings(SystemClock).part(name, "value");
        let built = settings.build_keyed(Scripts::default(), MemoryStore::new(), u32::to_string);
        let error = built.unwrap_err().to_string();
        assert!(error.contains("parts") && error.contains(name), "{error}");
    }
}
