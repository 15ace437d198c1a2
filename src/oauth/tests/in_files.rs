//! Settings that a file can have as well as code.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::error::BuildError;
use crate::oauth::ClientBuilder;
use crate::source::SignedJwtBuilder;

const KEY: &str = include_str!("../jws/tests/keys/p256.pem");
const CERTIFICATE: &str = include_str!("../jws/tests/keys/cert_p256.pem");

/// Some of the key itself.
fn of_the_key() -> &'static str {
    KEY.lines().find(|line| line.len() > 40 && !line.starts_with('-')).unwrap()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/oauth/jws/tests/keys").join(name)
}

/// A client with these settings beside the usual ones.
fn client(more: &Value) -> Result<(), BuildError> {
    let mut file = json!({ "token_url": "https://auth.example.com/token", "client_id": "app" });
    file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let builder: ClientBuilder = serde_json::from_value(file).unwrap();
    let shown = format!("{builder:?}");
    assert!(!shown.contains(of_the_key()) && !shown.contains("s3cret"), "{shown}");
    builder.build().map(|client| assert!(!format!("{client:?}").contains(of_the_key())))
}

#[test]
fn a_certificate_and_its_key_stand_in_the_settings_in_files_or_in_the_environment() {
    let (file, key_file) = (path("cert_p256.pem"), path("p256.pem"));
    for (certificate, key) in [
        (json!(CERTIFICATE), json!(KEY)),
        (json!(format!("{CERTIFICATE}\n{KEY}")), json!(null)),
        (json!({ "file": file }), json!({ "file": key_file })),
        (json!({ "file": file }), json!(KEY)),
        (json!(CERTIFICATE), json!({ "file": key_file })),
    ] {
        let what = format!("{certificate} {key}");
        let mut more = json!({ "certificate": certificate });
        if !key.is_null() {
            more["certificate_key"] = key;
        }
        client(&more).expect(&what);
    }
    for (more, field) in [
        (json!({ "certificate": CERTIFICATE, "certificate_file": file }), "certificate_file"),
        (json!({ "certificate": CERTIFICATE, "certificate_key_file": key_file }), "certificate_key_file"),
        (json!({ "certificate_file": file, "certificate_key": KEY }), "certificate_key"),
        (json!({ "certificate_key": KEY, "client_secret": "x" }), "certificate_key"),
        (json!({ "certificate": "s3cret", "certificate_key": KEY }), "certificate"),
        (
            json!({ "certificate": CERTIFICATE, "certificate_key": { "env": "TOKENFLIGHT_NONE" } }),
            "certificate_key",
        ),
        (
            json!({ "certificate": { "file": "/nowhere" }, "certificate_key": { "file": key_file } }),
            "certificate",
        ),
        (
            json!({ "certificate": { "file": file }, "certificate_key": { "file": "/nowhere" } }),
            "certificate_key",
        ),
    ] {
        let what = more.to_string();
        let error = client(&more).expect_err(&what);
        assert_eq!(error.field(), field, "{error}");
        let text = error.to_string();
        assert!(!text.contains("s3cret") && !text.contains(of_the_key()), "{text}");
    }
}

#[cfg(feature = "dpop")]
#[test]
fn a_dpop_key_stands_in_the_settings_in_a_file_or_in_the_environment() {
    let rsa = include_str!("../jws/tests/keys/rsa.pem");
    for dpop in [
        json!({ "key": KEY }),
        json!({ "key": { "file": path("p256.pem") } }),
        json!({ "key": rsa, "algorithm": "PS256" }),
    ] {
        let what = dpop.to_string();
        client(&json!({ "client_secret": "x", "dpop": dpop })).expect(&what);
    }
    for dpop in [
        json!({ "key": "s3cret" }),
        json!({ "key": 4711 }),
        json!({ "key": { "env": "TOKENFLIGHT_NONE" } }),
        json!({ "key": { "file": "/nowhere" } }),
        json!({ "key": KEY, "algorithm": "PS256" }),
    ] {
        let what = dpop.to_string();
        let error = client(&json!({ "client_secret": "x", "dpop": dpop })).expect_err(&what);
        assert_eq!(error.field(), "dpop", "{error}");
        let text = error.to_string();
        assert!(!text.contains("s3cret") && !text.contains("4711") && !text.contains(of_the_key()), "{text}");
    }
    for (dpop, words) in [
        (json!({ "key": KEY, "key_file": path("p256.pem") }), "`key_file`"),
        (json!({ "algorithm": "ES256" }), "`key_file`"),
    ] {
        let read = serde_json::from_value::<crate::oauth::dpop::DpopSetting>(dpop);
        let error = read.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains(of_the_key()), "{error}");
    }
}

#[test]
fn a_signed_jwt_has_the_certificate_of_its_key() {
    let settings = |certificate: PathBuf| {
        let file = json!({
            "private_key": KEY, "issuer": "robot", "audience": "api", "key_certificate_file": certificate,
        });
        serde_json::from_value::<SignedJwtBuilder>(file).unwrap()
    };
    let source = settings(path("cert_p256.pem")).build().unwrap();
    let mut parts = Vec::new();
    crate::source::TokenSource::identify(&source, &mut |name, value| {
        parts.push(format!("{name} {value}"));
    });
    let hash = parts.iter().find(|part| part.starts_with("x5t#S256 ")).unwrap();
    assert!(hash.len() > 40, "{hash}");
    for wrong in ["cert_rsa.pem", "nowhere.pem"] {
        let error = settings(path(wrong)).build().map(|_| ()).unwrap_err();
        assert_eq!(error.field(), "key_certificate_file", "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_vault_in_a_table_has_a_lock_timeout() {
    let table = |timeout: &str| {
        json!({
            "kind": "refresh_token", "token_url": "https://auth.example.com/token", "client_id": "app",
            "auth_method": "none", "vault": { "kind": "file", "path": "/tmp/login", "lock_timeout": timeout },
        })
    };
    let settings: crate::source::SourceSettings = serde_json::from_value(table("2s")).unwrap();
    assert!(format!("{settings:?}").contains("lock_timeout: Some(2s)"), "{settings:?}");
    settings.build().unwrap();
    let read = serde_json::from_value::<crate::source::SourceSettings>(table("soon"));
    assert!(read.map(|_| ()).unwrap_err().to_string().starts_with("`vault.lock_timeout`: "));
}

#[cfg(feature = "registry")]
#[test]
fn the_limits_of_a_registry_in_a_file_are_readable() {
    let limits = json!({ "max_keys": 500, "max_calls": 4 });
    let limits: crate::registry::RegistryLimits = serde_json::from_value(limits).unwrap();
    assert_eq!((limits.most_keys(), limits.most_calls()), (500, 4));
}

#[cfg(all(feature = "registry", feature = "shared"))]
#[test]
fn the_calls_of_a_fleet_are_read_from_a_file() {
    use crate::registry::FleetCallsSettings;
    let read = |settings: Value| serde_json::from_value::<FleetCallsSettings>(settings);
    let calls =
        |settings: Value| format!("{:?}", read(settings).unwrap().with(crate::store::MemoryStore::new()));
    let shown = calls(json!({ "name": "auth", "calls": 16, "lease": "5s" }));
    assert!(["auth", "16", "5s"].iter().all(|part| shown.contains(part)), "{shown}");
    assert!(calls(json!({ "name": "auth", "calls": 16 })).contains("10s"), "the default");
    let error = read(json!({ "name": "auth", "calls": 16, "leese": "5s" })).unwrap_err().to_string();
    assert!(error.contains("unknown field `leese`"), "{error}");
}
