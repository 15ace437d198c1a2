//! Promise 14 in a fleet: one process uses the refresh token, all adopt the result, and the refresh token stays in
//! its vault.

use tokenflight::source::SharedSource;
use tokenflight::vault::{FileVault, RedisVault, RefreshTokenStore};

use super::rotation::{seeded, stored};
use super::*;
use crate::shared::redis::server::Redis;
use crate::shared::world::{World as _, seal_key};

const PROCESSES: usize = 8;
const ROUNDS: u64 = 5;

/// As each of them is built.
fn process<V: RefreshTokenStore>(provider: &Provider, redis: &Redis, vault: V, first: &str) -> TokenHandle {
    let client = Client::with_token_url(provider.address("token_endpoint"), "rotating");
    let client = client.secret("rotating-secret").build().unwrap();
    let source = client.refresh_token(vault).login(first).build().unwrap();
    // In clear: what must not be there would be seen.
    let shared = SharedSource::builder("orders").part("login", "alice").in_clear();
    started(shared.build(source, redis.store()).unwrap())
}

/// All that stands in Redis, as it is on its disc.
fn dumped(redis: &Redis) -> Vec<u8> {
    redis.cli(&["CONFIG", "SET", "rdbcompression", "no"]);
    redis.cli(&["SAVE"]);
    let setting = |name: &str| redis.cli(&["CONFIG", "GET", name]).lines().nth(1).unwrap().to_owned();
    std::fs::read(PathBuf::from(setting("dir")).join(setting("dbfilename"))).unwrap()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

async fn one_spends_and_all_adopt<V: RefreshTokenStore>(redis: &Redis, vault: impl Fn() -> V) {
    let provider = Provider::start();
    let first = seeded(&provider).await;
    let fleet: Vec<_> = (0..PROCESSES).map(|_| process(&provider, redis, vault(), &first)).collect();
    let (mut access, mut refresh) = (Vec::new(), vec![first]);
    for round in 0..=ROUNDS {
        let tokens = fleet.iter().map(async |process| match round {
            0 => process.get().await.unwrap(),
            _ => process.refresh().await.unwrap(),
        });
        let tokens = futures_util::future::join_all(tokens).await;
        assert!(tokens.iter().all(|token| token.secret() == tokens[0].secret()), "all have the same one");
        assert!(!access.contains(&tokens[0].secret().to_owned()), "it is a new one");
        access.push(tokens[0].secret().to_owned());
        refresh.push(stored(&vault()).await.refresh_token().to_owned());
        let stats = provider.stats().await;
        assert_eq!(
            (&stats["token_calls"], &stats["revoked"]),
            (&(round + 2).into(), &0.into()),
            "with the login"
        );
        let there = dumped(redis);
        assert!(has(&there, &access[access.len() - 1]), "it looks at the right place");
        assert!(!refresh.iter().any(|token| has(&there, token)), "no refresh token leaves the vault");
    }
}

#[actix::test]
async fn one_process_spends_and_all_adopt_with_the_vault_in_a_file() {
    let (redis, folder) = (Redis::begin(), Folder::new());
    one_spends_and_all_adopt(&redis, || FileVault::new(folder.path("login")).unwrap()).await;
}

#[actix::test]
async fn one_process_spends_and_all_adopt_with_the_vault_in_the_same_redis() {
    let redis = Redis::begin();
    one_spends_and_all_adopt(&redis, || {
        RedisVault::new(&redis.store(), "alice", [seal_key("k1", 1)]).unwrap()
    })
    .await;
}
