//! The vault in Redis: sealed, in its own place, and what happens when Redis is changed or gone.

use tokenflight::source::SealKey;
use tokenflight::store::{RedisStore, SharedKey};
use tokenflight::vault::{RedisVault, RefreshTokenStore};

use super::world::{World, done, login, moved, now};
use crate::shared::redis::server::Redis;
use crate::shared::world::{World as _, seal_key};
use crate::support::*;

pub(crate) struct InRedis(Redis);

impl InRedis {
    pub(crate) fn begin() -> Self {
        Self(Redis::begin())
    }

    fn with_keys(&self, keys: impl IntoIterator<Item = SealKey>) -> RedisVault {
        RedisVault::new(&self.0.store(), "orders", keys).unwrap()
    }

    fn place() -> String {
        format!("tokenflight:{{{}}}:vault", SharedKey::new("orders", [("vault", "orders")]).unwrap().as_str())
    }
}

impl World for InRedis {
    type Vault = RedisVault;

    fn vault(&self) -> RedisVault {
        self.with_keys([seal_key("k1", 1)])
    }
}

#[tokio::test]
async fn redis_holds_no_token_and_the_record_has_no_end() {
    let world = InRedis::begin();
    let vault = world.vault();
    done(vault.swap(None, &login()).await);
    assert_eq!(world.0.cli(&["KEYS", "*"]).trim(), InRedis::place());
    assert_eq!(world.0.cli(&["TTL", &InRedis::place()]).trim(), "-1");
    let value = world.0.cli(&["GET", &InRedis::place()]);
    assert!(!value.contains("s3cret") && !value.contains("auth.example"), "{value}");
    assert!(!format!("{vault:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_value_that_no_key_opens_is_told_and_never_replaced() {
    let world = InRedis::begin();
    let (one, other) = (world.vault(), world.with_keys([seal_key("k2", 2)]));
    let there = done(one.swap(None, &login()).await);
    for error in [other.load().await.unwrap_err(), other.swap(None, &login()).await.unwrap_err()] {
        assert!(error.is_damaged() && error.to_string().contains("seal keys"), "{error}");
    }
    assert_eq!(one.load().await.unwrap().unwrap().stamp(), &there);
}

#[tokio::test]
async fn a_changed_value_is_refused() {
    let world = InRedis::begin();
    let vault = world.vault();
    let stamp = done(vault.swap(None, &login()).await);
    world.0.cli(&["SETRANGE", &InRedis::place(), "60", "?"]);
    assert!(vault.load().await.unwrap_err().is_damaged());
    let next = login();
    assert!(vault.swap(Some(&stamp), &next).await.unwrap_err().is_damaged());
    world.0.cli(&["DEL", &InRedis::place()]);
    assert_eq!(moved(vault.swap(Some(&stamp), &next).await), None);
    world.0.cli(&["LPUSH", &InRedis::place(), "s3cret"]);
    let error = vault.load().await.unwrap_err();
    assert!(error.kind() == "unavailable" && !error.to_string().contains("s3cret"), "{error}");
}

#[tokio::test]
async fn keys_rotate() {
    let world = InRedis::begin();
    let (old, new) = (seal_key("k1", 1), seal_key("k2", 2));
    let record = login();
    let stamp = done(world.with_keys([old.clone()]).swap(None, &record).await);
    let both = world.with_keys([new.clone(), old]);
    let spending = record.spending(now()).unwrap();
    done(both.swap(Some(&stamp), &spending).await);
    assert_eq!(world.with_keys([new]).load().await.unwrap().unwrap().record(), &spending);
}

#[tokio::test]
async fn a_redis_that_is_gone_fails_both() {
    let mut world = InRedis::begin();
    let store = RedisStore::builder(world.0.url()).timeout(millis(400)).build().unwrap();
    let vault = RedisVault::new(&store, "orders", [seal_key("k1", 1)]).unwrap();
    let stamp = done(vault.swap(None, &login()).await);
    world.0.kill();
    for error in [vault.load().await.unwrap_err(), vault.swap(Some(&stamp), &login()).await.unwrap_err()] {
        assert_eq!(error.kind(), "unavailable", "{error}");
    }
}

#[tokio::test]
async fn a_lock_that_would_never_end_is_taken() {
    let world = InRedis::begin();
    let place = InRedis::place().replace(":vault", ":spending");
    for end in [&[][..], &["PX", "99999999999"]] {
        world.0.cli(&[&["SET", &place, "x"], end].concat());
        drop(world.vault().lock(secs(5)).await.unwrap());
    }
    world.0.cli(&["SET", &place, "x", "PX", "30000"]);
    assert!(world.vault().lock(millis(50)).await.unwrap_err().is_busy(), "another process has it");
}

#[test]
fn what_cannot_be_sealed_or_named_is_refused() {
    let store = RedisStore::builder("redis://localhost").build().unwrap();
    let error =
        |name, keys: Vec<SealKey>| RedisVault::new(&store, name, keys).unwrap_err().field().to_owned();
    assert_eq!(error("orders", vec![]), "keys");
    assert_eq!(error("orders", vec![seal_key("k", 1), seal_key("k", 2)]), "keys");
    assert_eq!(error("or{ders", vec![seal_key("k", 1)]), "name");
}
