//! Settings that cannot work, or have no effect, and numbers in the place of a text.

use serde_json::json;

use crate::error::BuildError;
use crate::oauth::{Algorithm, Certificate, Client, ClientAuth, ClientBuilder, Preset, PrivateKey};
use crate::source::{SignedJwt, VaultBuilder};

const KEY: &str = include_str!("../jws/tests/keys/p256.pem");
const URL: &str = "https://auth.example.com/token";

fn at(url: &str) -> ClientBuilder {
    Client::builder(url, "app")
}

/// Refused for this setting, with these words.
#[track_caller]
fn refused(builder: ClientBuilder, field: &str, words: &str) {
    let shown = format!("{builder:?}");
    let error = builder.build().map(|_| ()).expect_err(&shown);
    assert_eq!(error.field(), field, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn a_certificate_needs_a_tls_handshake() {
    let certificate = || Certificate::from_pem("");
    let words = "the address has to be https";
    refused(at("http://127.0.0.1/token").certificate(certificate()), "certificate", words);
    refused(at("http://127.0.0.1/token").secret("s3cret").certificate(certificate()), "certificate", words);
    let file =
        json!({ "token_url": "http://127.0.0.1/token", "client_id": "app", "certificate_file": "c.pem" });
    refused(serde_json::from_value(file).unwrap(), "certificate", words);
    let file = json!({ "token_url": URL, "client_id": "app", "certificate_file": "c.pem" });
    let both: ClientBuilder = serde_json::from_value(file).unwrap();
    refused(both.certificate(certificate()), "certificate_file", "excludes `certificate`");
}

#[test]
fn a_setting_of_assertions_needs_an_assertion_that_the_client_signs() {
    let secret = || at(URL).secret("a secret of more than thirty-two characters");
    for (builder, field) in [
        (secret().key_id("k1"), "key_id"),
        (secret().algorithm(Algorithm::Es256), "algorithm"),
        (secret().key_certificate_file("c.pem"), "key_certificate_file"),
        (at(URL).public().key_id("k1"), "key_id"),
    ] {
        refused(builder, field, "private_key");
    }
    for method in [None, Some(ClientAuth::Basic), Some(ClientAuth::BasicRaw), Some(ClientAuth::Body)] {
        let with = |builder: ClientBuilder| match method {
            Some(method) => builder.auth_method(method),
            None => builder,
        };
        refused(with(secret().preset(Preset::Okta)), "preset", "private_key");
        refused(with(secret().audience("https://auth.example.com")), "assertion_audience", "private_key");
    }
    refused(at(URL).public().audience("x"), "assertion_audience", "private_key");
    let key = || at(URL).private_key(PrivateKey::from_pem(KEY).unwrap());
    key().key_id("k1").algorithm(Algorithm::Es256).preset(Preset::Okta).audience("x").build().unwrap();
    let jwt = secret().auth_method(ClientAuth::ClientSecretJwt);
    jwt.preset(Preset::Okta).audience("x").build().unwrap();
    // The document of an issuer may ask for an assertion.
    let issuer = Client::with_issuer("https://auth.example.com", "app").secret("s3cret").audience("x");
    issuer.build().unwrap();
}

#[test]
fn a_number_in_the_place_of_a_text_is_its_digits() {
    let mut file = json!({ "token_url": URL, "client_id": 4711, "key_id": 7 });
    let client: ClientBuilder = serde_json::from_value(file.clone()).unwrap();
    let client = client.private_key(PrivateKey::from_pem(KEY).unwrap()).build().unwrap();
    assert_eq!(client.id(), "4711");

    file["scope"] = json!(5);
    file["audience"] = json!(6);
    file["resource"] = json!([7, "r"]);
    let (_, settings) = crate::oauth::client_and_grant::<ClientBuilder, _>(file).unwrap();
    let mut parts = Vec::new();
    settings.identify(&mut |name, value| parts.push(format!("{name} {value}")));
    assert_eq!(parts, ["asked_for scope=5&audience=6&resource=7&resource=r"]);

    for field in ["role_id", "role"] {
        let file = json!({ "url": "https://vault.example.com", field: 4711 });
        let vault: VaultBuilder = serde_json::from_value(file).unwrap();
        assert!(format!("{vault:?}").contains("\"4711\""), "{vault:?}");
    }

    for wrong in [json!(1.5), json!(true), json!(["s3cret"])] {
        for field in ["client_id", "key_id", "scope"] {
            let mut file = json!({ "token_url": URL, "client_id": "app" });
            file[field] = wrong.clone();
            let read = crate::oauth::client_and_grant::<ClientBuilder, _>(file).map(|_| ());
            assert!(!read.unwrap_err().to_string().contains("s3cret"), "{field}");
        }
    }
}

#[test]
fn a_jwt_lasts_a_second_at_least() {
    use std::time::Duration;
    let jwt = |lifetime: u64, backdate: u64| -> Result<(), BuildError> {
        let builder = SignedJwt::builder(PrivateKey::from_pem(KEY).unwrap(), "app", "api");
        let builder = builder.lifetime(Duration::from_millis(lifetime));
        builder.backdate(Duration::from_millis(backdate)).build().map(|_| ())
    };
    for (lifetime, backdate) in [(500, 0), (0, 0), (999, 0), (60_500, 60_000), (60_000, 60_000)] {
        assert_eq!(jwt(lifetime, backdate).unwrap_err().field(), "lifetime", "{lifetime} {backdate}");
    }
    jwt(1_000, 0).unwrap();
    jwt(61_000, 60_000).unwrap();
}

#[test]
fn a_key_in_the_place_of_a_path_is_not_shown() {
    for shown in [
        format!("{:?}", Certificate::from_files("c.pem", KEY)),
        format!("{:?}", at(URL).certificate(Certificate::from_files(KEY, "k.pem"))),
    ] {
        assert!(!shown.contains("PRIVATE KEY") && shown.contains("not shown"), "{shown}");
    }
}

#[cfg(feature = "dpop")]
#[test]
fn a_number_in_the_place_of_a_dpop_key_is_not_quoted() {
    use serde::de::{Deserialize, IntoDeserializer, value};
    type Number<T> = <T as IntoDeserializer<'static, value::Error>>::Deserializer;
    let long: Number<u128> = 4_711_471_147_114_711_471_147_114_711_u128.into_deserializer();
    let low: Number<i128> = (-4_711_471_147_114_711_471_147_114_711_i128).into_deserializer();
    let errors = [
        crate::oauth::dpop::DpopSetting::deserialize(long).map(|_| ()).unwrap_err(),
        crate::oauth::dpop::DpopSetting::deserialize(low).map(|_| ()).unwrap_err(),
    ];
    for error in errors {
        assert!(!error.to_string().contains("4711"), "{error}");
    }
    for number in [json!(4711), json!(-4711), json!(47.11)] {
        let error = serde_json::from_value::<crate::oauth::dpop::DpopSetting>(number).unwrap_err();
        assert!(!error.to_string().contains("47"), "{error}");
    }
}

/// A file of the test's own, which is removed with it.
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, contents: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tokenflight-settings-{}-{name}", std::process::id()));
        std::fs::write(&path, contents).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn of_several_files_the_setting_at_fault_is_named() {
    let key = File::new("key.pem", KEY);
    let other = File::new("cert.pem", include_str!("../jws/tests/keys/cert_rsa.pem"));
    let with_file = || at(URL).private_key_file(&key.0);
    let with_key = || at(URL).private_key(PrivateKey::from_pem(KEY).unwrap());
    for builder in [with_file(), with_key()] {
        let missing = builder.clone().key_certificate_file("/nowhere/at/all");
        refused(missing, "key_certificate_file", "cannot be read");
        refused(builder.clone().key_certificate_file(&other.0), "key_certificate_file", "another key");
        refused(builder.clone().preset(Preset::Entra), "key_certificate_file", "is missing");
        refused(builder.algorithm(Algorithm::Rs256), "algorithm", "RS256");
    }
    refused(at(URL).private_key_file("/nowhere/at/all"), "private_key_file", "cannot be read");
    let in_file = |settings: serde_json::Value| serde_json::from_value::<ClientBuilder>(settings).unwrap();
    let tls = |certificate: &std::path::Path, key: &str| {
        in_file(json!({
            "token_url": URL, "client_id": "app", "certificate_file": certificate, "certificate_key_file": key
        }))
    };
    refused(tls("/nowhere/at/all".as_ref(), "/nor/here"), "certificate_file", "cannot be read");
    refused(tls(&other.0, "/nor/here"), "certificate_key_file", "cannot be read");
    refused(tls(&key.0, &other.0.to_string_lossy()), "certificate_file", "consistent");
}
