//! Two configurations that get different tokens never share one.

use serde_json::json;
use tokenflight::oauth::{Algorithm, PrivateKey};
use tokenflight::source::{
    BoxSource, ClientCredentials, ClientCredentialsBuilder, JsonEndpoint, SealKey, SharedSource, SignedJwt,
    Vault,
};
use tokenflight::store::{MemoryStore, SharedKey};
use tokenflight::testing::ScriptedSource;
use tokenflight::{
    BuildError, FetchContext, SourceError, Token, TokenActor, TokenHandle, TokenSource, TokenType, source_fn,
};

use super::world::seal_key;
use crate::support::*;

fn assert_all_differ(keys: impl Iterator<Item = String>) {
    let mut keys: Vec<String> = keys.collect();
    let before = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), before, "each has a key of its own");
}

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
        JsonEndpoint::post(url).body_json(json!({ "user": "me" })),
        JsonEndpoint::post(url).form([("user", "me")]),
        JsonEndpoint::post(url).token_pointer("/other"),
        JsonEndpoint::post(url).token_type(TokenType::Other("Token".into())),
        JsonEndpoint::post(url).lifetime(secs(60)),
        JsonEndpoint::post(url).lifetime(secs(61)),
        JsonEndpoint::post(url).lifetime_pointer("/end"),
        JsonEndpoint::post(url).expires_at_pointer("/end"),
    ];
    assert_all_differ(sources.into_iter().map(|source| key_of(source.build().unwrap()).unwrap()));
}

#[test]
fn two_signed_jwts_that_differ_have_no_key_in_common() {
    let pem = |name: &str| {
        let path = format!("{}/src/oauth/jws/tests/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"));
        PrivateKey::from_pem(std::fs::read(path).unwrap()).unwrap()
    };
    let with = |key: &str| SignedJwt::builder(pem(key), "orders", "https://login.example");
    let with_key = |key: PrivateKey| SignedJwt::builder(key, "orders", "https://login.example");
    let sources = [
        with("p256"),
        with("p384"),
        with_key(pem("p256").with_kid("a")),
        with("rsa"),
        with_key(pem("rsa").with_algorithm(Algorithm::Ps256).unwrap()),
        with("p256").subject("billing"),
        with("p256").lifetime(secs(60)),
        with("p256").lifetime(secs(60)).backdate(secs(10)),
        with("p256").claim("scope", "read"),
    ];
    assert_all_differ(sources.into_iter().map(|source| key_of(source.build().unwrap()).unwrap()));
    assert_eq!(key_of(with("p256").build().unwrap()), key_of(with("p256").build().unwrap()));
}

#[test]
fn a_signed_jwt_keeps_its_place_in_the_store_when_the_key_in_its_file_is_replaced() {
    let pem = |name: &str| {
        std::fs::read(format!("{}/src/oauth/jws/tests/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let path = std::env::temp_dir().join(format!("tokenflight-identity-{}", std::process::id()));
    let place = |key: &[u8]| {
        std::fs::write(&path, key).unwrap();
        let builder = SignedJwt::with_key_file(&path, "orders", "https://login.example");
        key_of(builder.build().unwrap()).unwrap()
    };
    let [old, new] = ["rsa", "rsa_other"].map(|name| place(&pem(name)));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(old, new, "the processes that still have the old key share it");
}

#[test]
fn a_source_that_says_nothing_of_itself_has_to_be_named() {
    assert_eq!(key_of(ScriptedSource::new()).unwrap_err().field(), "parts");
}

/// Says something of itself, and passes on what the source inside says.
struct Wrapped<S>(S);

impl<S: TokenSource> TokenSource for Wrapped<S> {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        self.0.fetch(cx).await
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("wrapped", "yes");
        self.0.identify(part);
    }
}

/// An actor as the credential of another source.
fn idle_actor() -> TokenHandle {
    TokenActor::builder(ScriptedSource::new()).spawn_thread().unwrap()
}

#[test]
fn a_source_that_cannot_name_everything_is_refused_until_the_user_does() {
    let url = "https://login.example/session";
    let made = || Ok::<_, std::io::Error>("three".to_owned());
    let own = |http: reqwest::ClientBuilder| http.user_agent("mine");
    let sources = || {
        [
            ("source_fn", BoxSource::new(source_fn(|_| async { Ok(Token::new("abc")) }))),
            ("the actor behind a handle", BoxSource::new(idle_actor())),
            ("in a wrapper", BoxSource::new(Wrapped(source_fn(|_| async { Ok(Token::new("abc")) })))),
            (
                "x-tenant",
                BoxSource::new(JsonEndpoint::post(url).header_fn("x-tenant", made).build().unwrap()),
            ),
            ("http", BoxSource::new(JsonEndpoint::post(url).http(own).build().unwrap())),
            ("http", BoxSource::new(client().http(own).build().unwrap())),
            ("source_fn", {
                let jwt = source_fn(|_| async { Ok(Token::new("abc")) });
                BoxSource::new(Vault::kubernetes("https://vault.example", "orders").jwt(jwt).build().unwrap())
            }),
        ]
    };
    for (name, source) in sources() {
        let error = key_of(source).unwrap_err();
        assert_eq!(error.field(), "parts", "{name}");
        assert!(error.to_string().contains("`part`"), "{name}: {error}");
        let is_said = name.contains('_') || name.starts_with("the ");
        assert!(!is_said || error.to_string().contains(name), "{name}: {error}");
    }
    for (name, source) in sources() {
        let with = |tenant: &str| {
            let builder = SharedSource::builder("orders").part("tenant", tenant).in_clear();
            builder.build(source.clone(), MemoryStore::new()).unwrap().key().clone()
        };
        assert_ne!(with("a"), with("b"), "{name}");
    }
}

/// Computed by another program, from the parts that a source names. A key that changes with the version of the program splits the fleet while a new version is rolled out.
#[test]
fn the_keys_of_known_configurations_are_fixed_for_all_future_versions() {
    let bytes = "8f1c0b5e7d3a92460c4fe1b8a5d6377290be64f3185c2da9770e1b3c4d5f6a81";
    let seal = || SealKey::from_hex("2026-11", bytes).unwrap();
    let of = |source: BoxSource| {
        let builder = SharedSource::builder("orders").part("tenant", "blue").key(seal());
        builder.build(source, MemoryStore::new()).unwrap().key().as_str().to_owned()
    };
    let credentials = client().audience("https://api.example").extra("tenant", "blue").build().unwrap();
    assert_eq!(of(BoxSource::new(credentials)), "orders:569434c01bf5822802f6249f2309f532");
    let endpoint = JsonEndpoint::post("https://login.example/session?x=1")
        .header("x-api-key", "one")
        .form([("user", "me"), ("pin", "1234")])
        .token_pointer("/newToken")
        .lifetime(secs(60));
    assert_eq!(of(BoxSource::new(endpoint.build().unwrap())), "orders:0b5a7de19ab42c333e420ade69421fc3");
    let plain = SharedKey::new("orders", [("a", "1"), ("b", "2")]).unwrap();
    assert_eq!(plain.as_str(), "orders:63662dceceaac3caee9e43ac15aa0c4c");
}

#[test]
fn a_short_secret_cannot_be_found_from_the_name_of_its_key() {
    let source =
        |pin: &str| JsonEndpoint::post("https://login.example").form([("pin", pin)]).build().unwrap();
    let name = |byte: u8| {
        let builder = SharedSource::builder("orders").key(seal_key("k1", byte));
        builder.build(source("0042"), MemoryStore::new()).unwrap().key().as_str().to_owned()
    };
    let guesses: Vec<String> = (0..100).map(|pin| key_of(source(&format!("{pin:04}"))).unwrap()).collect();
    assert!(!guesses.contains(&name(1)), "the hash is keyed");
    assert_ne!(name(1), name(2), "by the seal's key");
    assert_eq!(name(1), name(1));
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

/// Vault's role is the same, and the identity that logs in is not.
#[test]
fn who_logs_in_at_vault_is_in_its_key() {
    let jwt =
        |id: &str| ClientCredentials::builder("https://idp.example/token", id, "s3cret").build().unwrap();
    let vault = |id| Vault::kubernetes("https://vault.example", "orders").jwt(jwt(id)).build().unwrap();
    assert_ne!(key_of(vault("a")).unwrap(), key_of(vault("b")).unwrap());
    assert_eq!(key_of(vault("a")).unwrap(), key_of(vault("a")).unwrap());
}

/// What a link proves itself by is what the whole proves itself by: a wrong key there concerns those who have it.
#[test]
fn the_credential_of_a_link_is_part_of_the_whole_s() {
    struct Signed(&'static [u8]);
    impl TokenSource for Signed {
        async fn fetch(&self, _cx: FetchContext) -> Result<Token, SourceError> {
            Ok(Token::new("abc"))
        }
        fn credential(&self, part: &mut dyn FnMut(&[u8])) {
            part(self.0);
        }
    }
    let client =
        tokenflight::oauth::Client::builder("https://auth.example/token", "app").public().build().unwrap();
    let wholes = |key: &'static [u8]| {
        [
            BoxSource::new(client.jwt_bearer(Signed(key)).build().unwrap()),
            BoxSource::new(client.token_exchange(Signed(key)).build().unwrap()),
            BoxSource::new(
                JsonEndpoint::get("https://a.example").authorization(Signed(key)).build().unwrap(),
            ),
        ]
    };
    let told = |source: &BoxSource| {
        let mut parts = Vec::new();
        source.credential(&mut |part| parts.extend_from_slice(part));
        parts
    };
    for (old, new) in wholes(b"old").iter().zip(&wholes(b"new")) {
        assert_ne!(told(old), told(new));
    }
}
