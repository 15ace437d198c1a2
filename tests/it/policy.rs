//! The settings: how they are read, and what the policy's numbers do to those who call.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenflight::RefreshPolicy;

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
