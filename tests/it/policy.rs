//! The settings: how they are read, and the effects of the policy's numbers on callers.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenflight::{RefreshPolicy, SourceError, Token, TokenActor, source_fn};

use crate::support::*;

fn read<T: DeserializeOwned>(settings: Value) -> Result<T, String> {
    serde_json::from_value(settings).map_err(|error| error.to_string())
}

#[track_caller]
fn only_from_a_table<T: DeserializeOwned>(table: Value, list: Value) {
    read::<T>(table).expect("a table is read");
    let error = read::<T>(list).err().expect("a list is refused");
    assert_eq!(error, "invalid type: sequence, expected a table of settings by name");
}

#[test]
fn no_settings_are_read_from_a_list() {
    only_from_a_table::<RefreshPolicy>(json!({ "refresh_ahead": "2m" }), json!(["2m", "10s"]));
    only_from_a_table::<RefreshPolicy>(json!({}), json!([]));
    #[cfg(feature = "oauth2")]
    {
        use tokenflight::source::{ClientCredentialsBuilder, JsonEndpointBuilder};
        only_from_a_table::<ClientCredentialsBuilder>(
            json!({ "token_url": "https://a.example", "client_id": "me", "client_secret": "s3cret" }),
            json!(["https://a.example", "me", "s3cret"]),
        );
        only_from_a_table::<JsonEndpointBuilder>(
            json!({ "url": "https://a.example" }),
            json!(["GET", "https://a.example"]),
        );
        only_from_a_table::<tokenflight::middleware::BearerAuthSettings>(
            json!({ "allow": "https://a.example" }),
            json!([["https://a.example"]]),
        );
    }
    #[cfg(feature = "shared")]
    {
        use tokenflight::source::{SealKey, SharedSourceBuilder};
        only_from_a_table::<SharedSourceBuilder>(json!({ "name": "orders" }), json!(["orders"]));
        let key = "00".repeat(32);
        only_from_a_table::<SealKey>(json!({ "id": "one", "key": key }), json!(["one", key]));
    }
    #[cfg(feature = "redis")]
    only_from_a_table::<tokenflight::store::RedisStoreBuilder>(
        json!({ "url": "redis://127.0.0.1" }),
        json!(["redis://127.0.0.1"]),
    );
}

/// Callers come every half second for some lives of a token, and jitter does what it likes.
async fn callers_never_wait(policy: RefreshPolicy, lifetime: u64) {
    let rig = rig_with(policy);
    rig.source.then_times(100, &token("short", secs(lifetime)));
    rig.handle.get().await.unwrap();
    for step in 0..40 * lifetime {
        assert!(rig.handle.current().is_some(), "nothing to read after {} ms", step * 500);
        rig.handle.get().await.unwrap();
        tokio::time::sleep(millis(500)).await;
    }
    assert!(rig.source.calls() >= 20, "and it is refreshed: {}", rig.source.calls());
}

#[actix::test]
async fn callers_never_wait_where_refresh_ahead_is_close_to_min_validity() {
    callers_never_wait(RefreshPolicy::default().refresh_ahead(secs(20)).min_validity(secs(15)), 60).await;
}

#[actix::test]
async fn callers_never_wait_with_all_the_jitter_and_tokens_of_a_minute() {
    callers_never_wait(RefreshPolicy::default().jitter(1.0), 60).await;
}

#[actix::test]
async fn callers_never_wait_where_min_validity_is_half_of_the_life() {
    callers_never_wait(RefreshPolicy::default().min_validity(secs(60)), 120).await;
}

#[actix::test]
async fn callers_never_wait_where_min_validity_is_longer_than_the_usual_refresh_ahead() {
    callers_never_wait(RefreshPolicy::default().min_validity(secs(600)), 3_600).await;
}

#[actix::test]
async fn a_token_is_there_about_ten_seconds_after_an_outage_of_two_minutes() {
    tokio::time::pause();
    for seed in 0..20 {
        let began = tokio::time::Instant::now();
        let source = source_fn(move |_| async move {
            match began.elapsed() {
                down if down < secs(120) => Err(SourceError::transient("down")),
                _ => Ok(Token::new("back").with_lifetime(HOUR)),
            }
        });
        let clock = tokenflight::testing::ManualClock::new();
        let handle = TokenActor::builder(source).clock(clock).seed(seed).start().unwrap();
        while handle.get().await.is_err() {
            tokio::time::sleep(millis(100)).await;
        }
        let after = began.elapsed().saturating_sub(secs(120));
        assert!(after <= millis(10_200), "{after:?} with seed {seed}");
    }
}
