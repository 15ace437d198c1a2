//! A fleet of registries: each key has one call per token life for all processes, and an outage of the store
//! concerns all keys together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokenflight::registry::TokenRegistry;
use tokenflight::source::{KeyedSource, SharedKeys};
use tokenflight::testing::Answer;
use tokenflight::{FetchContext, SourceError};

use super::world::*;
use crate::support::*;
use tokenflight::source::{SharedSourceBuilder, SharedStats};
use tokenflight::store::SharedStore;
use tokenflight::testing::ScriptedSource;
use tokenflight::{Token, TokenSource};

/// The auth server: a script for each key, the same for all processes.
#[derive(Clone, Default)]
struct Scripts(Arc<Mutex<HashMap<u32, ScriptedSource>>>);

impl Scripts {
    fn of(&self, key: u32) -> ScriptedSource {
        let make = || ScriptedSource::new().taking(millis(20));
        self.0.lock().unwrap().entry(key).or_insert_with(make).clone()
    }

    fn calls(&self) -> usize {
        self.0.lock().unwrap().values().map(ScriptedSource::calls).sum()
    }

    fn most_calls_for_a_key(&self) -> usize {
        self.0.lock().unwrap().values().map(ScriptedSource::calls).max().unwrap_or_default()
    }
}

impl KeyedSource<u32> for Scripts {
    async fn fetch(&self, key: &u32, cx: FetchContext) -> Result<Token, SourceError> {
        let token = self.of(*key).fetch(cx).await?;
        Ok(Token::new(format!("{}-of-{key}", token.secret())).with_lifetime(HOUR))
    }
}

/// A process with a registry.
struct Member {
    tokens: TokenRegistry<u32>,
    stats: SharedStats,
}

fn member_with<W: World>(
    world: &W,
    source: &Scripts,
    store: impl SharedStore,
    change: impl FnOnce(SharedSourceBuilder) -> SharedSourceBuilder,
    max_keys: usize,
) -> Member {
    let shared: SharedKeys<u32, _, _> =
        change(settings(world.clock())).build_keyed(source.clone(), store, u32::to_string).unwrap();
    let stats = shared.stats();
    let tokens = TokenRegistry::builder(shared).policy(plain().attempts(1)).clock(world.clock());
    Member { tokens: tokens.max_keys(max_keys).start().unwrap(), stats }
}

fn member<W: World>(world: &W, source: &Scripts) -> Member {
    member_with(world, source, world.store(), |settings| settings, 10_000)
}

async fn get_each(members: &[Member], keys: u32) -> Vec<Token> {
    let all = members.iter().flat_map(|member| (0..keys).map(|key| member.tokens.get(&key)));
    let outcomes = futures_util::future::join_all(all).await;
    outcomes.into_iter().map(|outcome| outcome.expect("a token")).collect()
}

#[track_caller]
fn assert_same_everywhere(tokens: &[Token], keys: u32) {
    let keys = keys as usize;
    for (place, token) in tokens.iter().enumerate() {
        assert!(token.is_same(&tokens[place % keys]), "key {} has one token", place % keys);
        let others = &tokens[..place % keys];
        assert!(others.iter().all(|other| !other.is_same(token)), "no two keys share one");
    }
}

#[actix::test]
async fn three_registries_make_one_call_a_key() {
    let world = Memory::begin();
    let source = Scripts::default();
    let fleet = [(); 3].map(|()| member(&world, &source));
    assert_same_everywhere(&get_each(&fleet, 60).await, 60);
    assert_eq!((source.calls(), source.most_calls_for_a_key()), (60, 1));
    let led: u64 = fleet.iter().map(|member| member.stats.led()).sum();
    let adopted: u64 = fleet.iter().map(|member| member.stats.adopted()).sum();
    assert_eq!((led, adopted), (60, 120));
}

#[actix::test]
async fn a_token_that_an_api_rejected_is_replaced_once_for_all_and_its_neighbours_stay() {
    let world = Memory::begin();
    let source = Scripts::default();
    let fleet = [(); 3].map(|()| member(&world, &source));
    let old = get_each(&fleet, 2).await;
    let reports = fleet.iter().map(|member| member.tokens.replace(&1, &old[1]));
    let new = futures_util::future::join_all(reports).await;
    for outcome in &new {
        let token = outcome.as_ref().unwrap();
        assert!(!token.is_same(&old[1]) && token.is_same(new[0].as_ref().unwrap()));
    }
    assert_eq!((source.of(1).calls(), source.of(0).calls()), (2, 1));
}

#[actix::test]
async fn an_evicted_key_comes_back_from_the_store() {
    let world = Memory::begin();
    let source = Scripts::default();
    let member = member_with(&world, &source, world.store(), |settings| settings, 10);
    for _ in 0..3 {
        for key in 0..30 {
            member.tokens.get(&key).await.unwrap();
        }
    }
    assert!(member.tokens.totals().await.unwrap().evicted >= 60);
    assert_eq!(source.calls(), 30);
}

#[actix::test]
async fn what_is_remembered_of_keys_is_bounded_and_a_forgotten_key_is_served() {
    let world = Memory::begin();
    let source = Scripts::default();
    let shared = settings(world.clock()).build_keyed(source.clone(), world.store(), u32::to_string).unwrap();
    let tokens = TokenRegistry::builder(shared.remember(4)).policy(plain()).clock(world.clock());
    let tokens = tokens.start().unwrap();
    for key in 0..100 {
        tokens.get(&key).await.unwrap();
    }
    let old = tokens.get(&0).await.unwrap();
    assert!(!tokens.replace(&0, &old).await.unwrap().is_same(&old), "forgotten, and replaced all the same");
    assert_eq!((source.calls(), source.of(0).calls()), (101, 2));
}

/// What another process has fetched is no news of the auth server.
#[actix::test]
async fn a_token_from_the_store_does_not_open_the_gate() {
    let world = Memory::begin();
    let source = Scripts::default();
    let fleet = [(); 2].map(|()| member(&world, &source));
    fleet[0].tokens.get(&7).await.unwrap();
    for key in 1..3 {
        source.of(key).then(transient());
        assert!(fleet[1].tokens.get(&key).await.is_err());
    }
    let closed = fleet[1].tokens.totals().await.unwrap().closed.expect("two keys have failed");
    tokio::time::sleep(closed + millis(1)).await;
    assert!(fleet[1].tokens.get(&7).await.is_ok());
    assert_eq!((source.of(7).calls(), fleet[1].stats.adopted()), (1, 1));
    assert!(fleet[1].tokens.totals().await.unwrap().closed.is_some(), "nobody has asked the auth server");
    assert!(fleet[1].tokens.get(&8).await.is_ok());
    assert!(fleet[1].tokens.totals().await.unwrap().closed.is_none(), "now somebody has");
}

/// One key's owner does not come to an end. That says nothing of the store, and nothing of the other keys.
#[actix::test]
async fn a_wait_in_vain_for_one_key_leaves_the_store_to_the_others() {
    let world = Memory::begin();
    let source = Scripts::default();
    let slow = member(&world, &source);
    source.of(1).hold();
    let held = actix_rt::spawn(slow.tokens.get(&1));
    source.of(1).called(1).await;
    slow.tokens.get(&2).await.unwrap();
    let other = member_with(
        &world,
        &source,
        world.store(),
        |settings| settings.wait_limit(millis(50)).retry_store(secs(30)),
        100,
    );
    let waits = actix_rt::spawn(other.tokens.get(&1));
    source.of(1).called(2).await;
    assert_eq!(other.stats.local(), 1, "it calls for itself");
    assert!(other.tokens.get(&2).await.is_ok());
    assert_eq!((source.of(2).calls(), other.stats.adopted()), (1, 1), "the store is used for another key");
    source.of(1).release();
    assert!(held.await.unwrap().is_ok() && waits.await.unwrap().is_ok());
}

fn transient() -> Answer {
    Answer::Error(SourceError::transient("the server is down"))
}

#[test]
fn what_keys_are_called_is_hashed_and_secrets_are_not_shown() {
    let world_less = settings(tokenflight::clock::SystemClock);
    let shared = world_less
        .build_keyed(Scripts::default(), tokenflight::store::MemoryStore::new(), |key: &u32| {
            format!("acme-{key}")
        })
        .unwrap();
    let shown = format!("{shared:?}");
    assert!(shown.contains("orders") && !shown.contains("acme"), "{shown}");
    let refused = settings(tokenflight::clock::SystemClock).lease(millis(1)).build_keyed(
        Scripts::default(),
        tokenflight::store::MemoryStore::new(),
        u32::to_string,
    );
    assert_eq!(refused.unwrap_err().field(), "lease");
}

#[cfg(feature = "redis")]
mod at_redis {
    use super::*;
    use crate::shared::redis::server::Redis;

    /// How often Redis was asked to do this.
    fn commands(redis: &Redis, name: &str) -> u64 {
        let stats = redis.cli(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
    }

    /// The connections of processes, without that of `redis-cli`.
    fn connections(redis: &Redis) -> usize {
        redis.cli(&["CLIENT", "LIST"]).lines().filter(|line| !line.contains("cmd=client")).count()
    }

    #[actix::test]
    async fn four_registries_of_two_hundred_keys_make_one_call_a_key_over_one_connection_each() {
        const KEYS: u32 = 200;
        let redis = Redis::begin();
        let source = Scripts::default();
        let fleet = [(); 4].map(|()| member(&redis, &source));
        assert_same_everywhere(&get_each(&fleet, KEYS).await, KEYS);
        assert_eq!((source.calls(), source.most_calls_for_a_key()), (KEYS as usize, 1));
        assert_eq!(connections(&redis), 4, "for its keys together a process has one connection");
        let (scripts, subscriptions) = (commands(&redis, "evalsha"), commands(&redis, "subscribe"));
        let lives = u64::from(KEYS) * 4;
        assert!(subscriptions <= lives, "{subscriptions} subscriptions for {lives} lives of keys");
        assert!(scripts <= 4 * lives, "{scripts} scripts for {lives} lives of keys");
        // Nobody waits, so nothing is subscribed to.
        let none = async {
            while !redis.cli(&["PUBSUB", "CHANNELS"]).trim().is_empty() {
                tokio::time::sleep(millis(5)).await;
            }
        };
        tokio::time::timeout(secs(10), none).await.expect("no subscription is left");
        let names = redis.cli(&["KEYS", "*"]);
        assert_eq!(names.lines().filter(|name| name.contains("orders:")).count(), names.lines().count());
    }

    #[actix::test]
    async fn a_redis_that_is_gone_is_one_wait_for_all_keys() {
        const KEYS: u32 = 100;
        let mut redis = Redis::begin();
        let source = Scripts::default();
        let store = redis.store();
        let member =
            member_with(&redis, &source, store, |settings| short(settings).retry_store(secs(60)), 10_000);
        member.tokens.get(&1_000).await.unwrap();
        redis.freeze();
        let began = tokio::time::Instant::now();
        get_each(std::slice::from_ref(&member), KEYS).await;
        assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
        assert_eq!(member.stats.local(), u64::from(KEYS));
        // Those who had asked when the first gave it up, and nobody after them.
        assert!(member.stats.store_errors() <= 16, "{}", member.stats.store_errors());
        redis.thaw();
        redis.kill();
    }
}
