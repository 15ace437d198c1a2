//! Two configurations that get different tokens never share one.

use serde_json::json;
use tokenflight::source::{ClientCredentials, ClientCredentialsBuilder, JsonEndpoint, SharedSource};
use tokenflight::store::MemoryStore;
use tokenflight::testing::ScriptedSource;
use tokenflight::{BuildError, TokenSource};

fn key_of(source: impl TokenSource) -> Result<String, BuildError> {
    let shared = SharedSource::builder("orders").in_clear().build(source, MemoryStore::new())?;
    Ok(shared.key().as_str().to_owned())
}

fn client() -> ClientCredentialsBuilder {
    ClientCredentials::builder("https://auth.example/token", "app", "s3cret").scope("read")
}

#[test]
fn whatever_a_client_asks_for_is_in_its_key() {
    let others = [
        ClientCredentials::builder("https://other.example/token", "app", "s3cret").scope("read"),
        ClientCredentials::builder("https://auth.example/token?tenant=2", "app", "s3cret").scope("read"),
        ClientCredentials::builder("https://auth.example/token", "app2", "s3cret").scope("read"),
        ClientCredentials::builder("https://auth.example/token", "app", "s3cret"),
        client().scope("read write"),
        client().audience("https://api.example"),
        client().resource("https://api.example/one"),
        client().resource("https://api.example/two"),
        client().extra("tenant", "blue"),
        client().extra("tenant", "green"),
    ];
    let mut keys: Vec<String> =
        others.into_iter().map(|other| key_of(other.build().unwrap()).unwrap()).collect();
    keys.push(key_of(client().build().unwrap()).unwrap());
    keys.sort();
    let before = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), before, "each has a key of its own");
}

#[test]
fn how_a_client_proves_who_it_is_changes_nothing() {
    let key = key_of(client().build().unwrap()).unwrap();
    let rotated = ClientCredentials::builder("https://auth.example/token", "app", "another").scope("read");
    assert_eq!(key_of(rotated.build().unwrap()).unwrap(), key);
    let in_body = client().auth_method(tokenflight::source::ClientAuth::Body);
    assert_eq!(key_of(in_body.build().unwrap()).unwrap(), key);
    assert!(!key.contains("s3cret") && !key.contains("app"), "{key}");
}

#[test]
fn whatever_a_json_endpoint_sends_is_in_its_key() {
    let url = "https://login.example/session";
    let sources = [
        JsonEndpoint::post(url),
        JsonEndpoint::get(url),
        JsonEndpoint::post("https://login.example/session?tenant=2"),
        JsonEndpoint::post(url).header("x-api-key", "one"),
        JsonEndpoint::post(url).header("x-api-key", "two"),
        JsonEndpoint::post(url).header_fn("x-api-key", || Ok::<_, std::io::Error>("three".to_owned())),
        JsonEndpoint::post(url).body_json(json!({ "user": "me" })),
        JsonEndpoint::post(url).form([("user", "me")]),
        JsonEndpoint::post(url).token_pointer("/other"),
    ];
    let mut keys: Vec<String> =
        sources.into_iter().map(|source| key_of(source.build().unwrap()).unwrap()).collect();
    let before = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), before, "each has a key of its own");
}

#[test]
fn a_source_that_says_nothing_of_itself_has_to_be_named() {
    assert_eq!(key_of(ScriptedSource::new()).unwrap_err().field(), "parts");
}

#[test]
fn a_part_of_the_user_s_own_goes_beside_what_the_source_says() {
    let with = |value: &str| {
        let builder = SharedSource::builder("orders").part("client_id", value).in_clear();
        builder.build(client().build().unwrap(), MemoryStore::new()).unwrap().key().as_str().to_owned()
    };
    assert_ne!(with("app"), with("app2"));
    assert_ne!(with("app"), key_of(client().build().unwrap()).unwrap());
    assert_eq!(with("app"), with("app"));
}
