//! Settings from files: secrets in each form, aliases, and errors that quote nothing.

use std::fs;

use log::LevelFilter;
use serde_json::{Value, json};
use tokenflight::oauth::{ClientAuth, ClientBuilder};
use tokenflight::source::{
    BoxSource, ClientCredentialsBuilder, JsonEndpoint, JsonEndpointBuilder, SourceSettings,
};
use tokenflight::testing::{FakeAuthServer, fakes};
use tokenflight::{BuildError, FetchContext, Reason, TokenSource};

use super::kinds::*;
use crate::github_app::{RSA, key};
use crate::support::*;

fn base(url: &str) -> Value {
    json!({ "token_url": url, "client_id": "app", "client_secret": "s3cret" })
}

fn with(url: &str, key: &str, value: Value) -> Value {
    let mut settings = base(url);
    settings[key] = value;
    settings
}

/// The body that a client with these settings sends.
async fn sent(settings: Value) -> String {
    let server = FakeAuthServer::start().await.unwrap();
    let mut settings = settings;
    settings["token_url"] = json!(server.url());
    settings["auth_method"] = json!("body");
    let source = serde_json::from_value::<ClientCredentialsBuilder>(settings).unwrap().build().unwrap();
    fetch(&source).await.unwrap();
    server.asked()[0].body.clone()
}

#[test]
fn a_secret_s_last_line_break_is_cut_with_a_warn() {
    let name = "oauth::settings::a_secret_s_last_line_break_is_cut_with_a_warn";
    let told = logged(name, LevelFilter::Warn, async || {
        for secret in ["s3cret\n", "s3cret\r\n", "s3cret\n\n", "s3cret", "s3cret "] {
            heading(&format!("{secret:?}"));
            let body = sent(with("", "client_secret", json!(secret))).await;
            let kept = if secret.ends_with(' ') { "client_secret=s3cret+" } else { "client_secret=s3cret" };
            assert!(body.ends_with(kept), "{secret:?}: {body}");
            let server = FakeAuthServer::start().await.unwrap();
            let source = tokenflight::source::ClientCredentials::builder(server.url(), "app", secret);
            fetch(&source.auth_method(ClientAuth::Body).build().unwrap()).await.unwrap();
            assert!(server.asked()[0].body.ends_with(kept), "{secret:?}");
        }
    });
    for (secret, text) in told.unwrap_or_default() {
        assert_eq!(text.contains("WARN"), secret.contains("\\n"), "{secret}: {text}");
        assert!(!text.contains("s3cret"), "{secret}: {text}");
    }
}

#[test]
fn the_last_line_break_of_other_texts_is_cut_with_a_warn_too() {
    let name = "oauth::settings::the_last_line_break_of_other_texts_is_cut_with_a_warn_too";
    let told = logged(name, LevelFilter::Warn, async || {
        let server = FakeAuthServer::start().await.unwrap();
        let builder = |id: &str| {
            tokenflight::source::ClientCredentials::builder(server.url(), id, "x")
                .auth_method(ClientAuth::Body)
        };
        heading("extra");
        fetch(&builder("app").extra("pin", "s3cret\n").build().unwrap()).await.unwrap();
        heading("client_id");
        fetch(&builder("s3cret\n").build().unwrap()).await.unwrap();
        heading("form");
        fetch(&JsonEndpoint::post(server.url()).form([("pin", "s3cret\n")]).build().unwrap()).await.unwrap();
        heading("extra in a file");
        sent(with("", "extra", json!({ "pin": "s3cret\n" }))).await;
        heading("form in a file");
        let settings = json!({ "method": "POST", "url": server.url(), "form": { "pin": "s3cret\n" } });
        let source = serde_json::from_value::<JsonEndpointBuilder>(settings).unwrap().build().unwrap();
        fetch(&source).await.unwrap();
        for asked in server.asked() {
            let body = &asked.body;
            assert!(body.contains("s3cret") && !body.contains("%0A"), "{body}");
        }
    });
    let told = told.unwrap_or_default();
    for (what, text) in told {
        assert_eq!(text.matches("WARN").count(), 1, "{what}: {text}");
        assert!(text.contains("line break") && !text.contains("s3cret"), "{what}: {text}");
    }
}

#[actix::test]
async fn a_number_is_a_secret_too() {
    for (number, written) in [
        (json!(4711), "4711"),
        (json!(0), "0"),
        (json!(-5), "-5"),
        (json!(u64::MAX), "18446744073709551615"),
        (json!("0042"), "0042"),
    ] {
        let body = sent(with("", "client_secret", number.clone())).await;
        assert!(body.ends_with(&format!("client_secret={written}")), "{body}");
        let body = sent(with("", "extra", json!({ "pin": number }))).await;
        assert!(body.contains(&format!("pin={written}")), "{body}");
        let server = FakeAuthServer::start().await.unwrap();
        let settings = json!({ "url": server.url(), "header": { "x-pin": number } });
        let source = serde_json::from_value::<JsonEndpointBuilder>(settings).unwrap().build().unwrap();
        fetch(&source).await.unwrap();
        assert_eq!(server.asked()[0].header("x-pin"), Some(written));
    }
}

#[test]
fn a_secret_stands_in_a_file_or_in_the_environment() {
    let name = "oauth::settings::a_secret_stands_in_a_file_or_in_the_environment";
    if let Some(mut child) = in_its_own_process(name) {
        child.env("TOKENFLIGHT_TEST_PIN", "4711").env("TOKENFLIGHT_TEST_SECRET", "p+w\n");
        all_that_is_written_by(&mut child);
        return;
    }
    let path = std::env::temp_dir().join(format!("tokenflight-settings-{}", std::process::id()));
    fs::write(&path, "in the file\n").unwrap();
    actix_rt::System::new().block_on(async {
        for (origin, written) in [
            (json!({ "file": path }), "in+the+file"),
            (json!({ "env": "TOKENFLIGHT_TEST_PIN" }), "4711"),
            (json!({ "env": "TOKENFLIGHT_TEST_SECRET" }), "p%2Bw"),
            (json!("as it is"), "as+it+is"),
        ] {
            let body = sent(with("", "client_secret", origin)).await;
            assert!(body.ends_with(&format!("client_secret={written}")), "{body}");
        }
    });
    for (origin, said) in [
        (json!({ "env": "TOKENFLIGHT_TEST_NOTHING" }), "TOKENFLIGHT_TEST_NOTHING"),
        (json!({ "env": "" }), "client_secret"),
        (json!({ "file": "/nowhere/at/all" }), "/nowhere/at/all"),
    ] {
        let read = serde_json::from_value::<ClientCredentialsBuilder>(with(
            "https://a.example/",
            "client_secret",
            origin.clone(),
        ));
        // A file may come later; a variable may not.
        match read.unwrap().build() {
            Ok(_) => assert!(origin.get("file").is_some(), "{origin}"),
            Err(error) => {
                assert_eq!(error.field(), "client_secret", "{error}");
                assert!(error.to_string().contains(said), "{error}");
            }
        }
    }
    fs::remove_file(path).unwrap();
}

/// A client, an app of GitHub and a signed JWT with this key.
async fn built_with(key: &Value, github: &fakes::GithubApi) -> [Result<BoxSource, BuildError>; 3] {
    let read = |settings: Value| {
        let settings: SourceSettings = serde_json::from_value(settings).unwrap();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("BEGIN") && !shown.contains("s3cret"), "{shown}");
        settings.build()
    };
    let server = FakeAuthServer::start().await.unwrap();
    [
        read(json!({
            "kind": "client_credentials", "token_url": server.url(), "client_id": "app", "private_key": key,
            "key_id": "k1", "algorithm": "PS256",
        })),
        read(json!({
            "kind": "github_app", "app_id": 12345, "installation_id": 42, "base_url": github.base_url(),
            "private_key": key,
        })),
        read(json!({ "kind": "signed_jwt", "issuer": "robot", "audience": "a", "private_key": key })),
    ]
}

#[test]
fn a_private_key_stands_in_the_settings_in_a_file_or_in_the_environment() {
    let name = "oauth::settings::a_private_key_stands_in_the_settings_in_a_file_or_in_the_environment";
    if let Some(mut child) = in_its_own_process(name) {
        all_that_is_written_by(child.env("TOKENFLIGHT_TEST_KEY", RSA));
        return;
    }
    let path = std::env::temp_dir().join(format!("tokenflight-key-{}", std::process::id()));
    fs::write(&path, RSA).unwrap();
    actix_rt::System::new().block_on(async {
        let github = fakes::GithubApi::start(key(RSA).public_jwk()).await.unwrap();
        for origin in [json!(RSA), json!({ "file": path }), json!({ "env": "TOKENFLIGHT_TEST_KEY" })] {
            let [client, app, jwt] = built_with(&origin, &github).await.map(Result::unwrap);
            assert!(app.fetch(FetchContext::new(Reason::First)).await.unwrap().secret().starts_with("ghs_"));
            jwt.fetch(FetchContext::new(Reason::First)).await.unwrap();
            // The server of the client is gone, but its key was good.
            assert!(!client.fetch(FetchContext::new(Reason::First)).await.unwrap_err().is_terminal());
        }
        fs::write(&path, "s3cret").unwrap();
        for origin in [
            json!("s3cret"),
            json!(4711),
            json!({ "file": path }),
            json!({ "file": "/nowhere/at/all" }),
            json!({ "env": "TOKENFLIGHT_TEST_NOTHING" }),
        ] {
            for outcome in built_with(&origin, &github).await {
                let error = outcome.err().unwrap();
                assert_eq!(error.field(), "private_key", "{origin}: {error}");
                assert!(
                    !error.to_string().contains("s3cret") && !error.to_string().contains("4711"),
                    "{error}"
                );
            }
        }
    });
    fs::remove_file(path).unwrap();
}

#[test]
fn the_names_of_the_standard_are_names_of_methods_too() {
    for (name, is_known) in [
        ("client_secret_post", true),
        ("client_secret_basic", true),
        ("basic", true),
        ("body", true),
        ("basic_raw", true),
        ("client_secret_jwt", true),
        ("Basic", false),
        ("post", false),
        ("client_secret_pots", false),
    ] {
        let settings = with("https://a.example/", "auth_method", json!(name));
        let credentials = serde_json::from_value::<ClientCredentialsBuilder>(settings.clone());
        let client = serde_json::from_value::<ClientBuilder>(settings);
        assert_eq!((credentials.is_ok(), client.is_ok()), (is_known, is_known), "{name}");
        if is_known && name != "client_secret_jwt" {
            credentials.unwrap().build().unwrap();
        }
    }
    for (name, method) in [
        ("private_key_jwt", ClientAuth::PrivateKeyJwt),
        ("tls_client_auth", ClientAuth::TlsClientAuth),
        ("self_signed_tls_client_auth", ClientAuth::SelfSignedTlsClientAuth),
        ("none", ClientAuth::None),
        ("client_secret_post", ClientAuth::Body),
        ("client_secret_basic", ClientAuth::Basic),
    ] {
        assert_eq!(serde_json::from_value::<ClientAuth>(json!(name)).unwrap(), method);
    }
}

/// A value of each type, each with the mark in it that no error may quote.
fn wrong() -> Vec<Value> {
    vec![
        json!("mark-77123"),
        json!(["mark-77123"]),
        json!({ "name": "mark-77123" }),
        json!({ "file": ["mark-77123"] }),
        json!({ "env": [77123] }),
        json!({ "file": "a", "env": "mark-77123" }),
        json!({ "file": "a", "more": "mark-77123" }),
        json!({ "value": "mark-77123" }),
        json!({ "a": ["mark-77123"] }),
        json!({ "a": { "b": "mark-77123" } }),
        json!({ "a": 77123.5 }),
        json!(77123),
        json!(77123.5),
        json!(-77123),
        json!([[77123]]),
        json!(true),
        json!(null),
    ]
}

/// Keys whose value is, or may hold, a secret or an address with one.
const CLIENT_SECRETS: &[&str] =
    &["client_secret", "token_url", "proxy", "private_key", "certificate", "assertion", "secret", "extra"];
const ENDPOINT_SECRETS: &[&str] = &["url", "header", "form", "body_json", "proxy"];

#[track_caller]
fn assert_unquoted(error: &str, key: &str, value: &Value) {
    assert!(!error.contains("77123"), "{key}: {value}: {error}");
    assert!(error.len() < 500, "{error}");
}

#[test]
fn an_error_of_the_parser_never_quotes_what_stands_where_a_secret_belongs() {
    for value in wrong() {
        for &key in CLIENT_SECRETS {
            let text = with("https://a.example/", key, value.clone()).to_string();
            match serde_json::from_str::<ClientCredentialsBuilder>(&text) {
                Err(error) => assert_unquoted(&error.to_string(), key, &value),
                Ok(builder) => {
                    assert_unquoted(&format!("{builder:?}"), key, &value);
                    if let Err(error) = builder.build() {
                        assert_unquoted(&format!("{error} {error:?}"), key, &value);
                    }
                }
            }
            if let Err(error) = serde_json::from_str::<ClientBuilder>(&text) {
                assert_unquoted(&error.to_string(), key, &value);
            }
            // Formats that have read the whole document before: they know the value, not its place.
            let parsed: Value = serde_json::from_str(&text).unwrap();
            if let Err(error) = serde_json::from_value::<ClientBuilder>(parsed) {
                assert_unquoted(&error.to_string(), key, &value);
            }
        }
        for &key in ENDPOINT_SECRETS {
            let mut settings = json!({ "url": "https://a.example/", "method": "POST" });
            settings[key] = value.clone();
            match serde_json::from_value::<JsonEndpointBuilder>(settings.clone()) {
                Err(error) => assert_unquoted(&error.to_string(), key, &value),
                Ok(builder) => {
                    assert_unquoted(&format!("{builder:?}"), key, &value);
                    if let Err(error) = builder.build() {
                        assert_unquoted(&format!("{error} {error:?}"), key, &value);
                    }
                }
            }
            if let Err(error) = serde_json::from_str::<JsonEndpointBuilder>(&settings.to_string()) {
                assert_unquoted(&error.to_string(), key, &value);
            }
        }
        let whole =
            serde_json::from_value::<ClientBuilder>(value.clone()).map(|_| ()).unwrap_err().to_string();
        assert_unquoted(&whole, "the whole", &value);
    }
}

#[test]
fn an_address_with_a_password_is_not_shown() {
    use tokenflight::oauth::Client;
    use tokenflight::source::JsonEndpoint;
    let url = "https://user:s3cret@auth.example.com/s3cret?key=s3cret";
    let issuer = Client::with_issuer(url, "app").secret("x");
    let token_url = Client::with_token_url(url, "app").secret("x").proxy("http://user:s3cret@p.example");
    for shown in [format!("{issuer:?}"), format!("{token_url:?}"), format!("{:?}", JsonEndpoint::get(url))] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    for error in [issuer.build().unwrap_err(), token_url.build().unwrap_err()] {
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
}

#[cfg(feature = "shared")]
#[test]
fn keys_in_a_list_are_not_quoted_by_the_parser_of_a_shared_source() {
    use tokenflight::source::SharedSourceBuilder;
    for value in wrong() {
        for settings in [
            json!({ "name": "orders", "keys": value }),
            json!({ "name": "orders", "keys": [value] }),
            json!({ "name": "orders", "keys": [{ "id": "1", "key": value }] }),
        ] {
            if let Err(error) = serde_json::from_str::<SharedSourceBuilder>(&settings.to_string()) {
                assert_unquoted(&error.to_string(), "keys", &settings);
            }
            if let Err(error) = serde_json::from_value::<SharedSourceBuilder>(settings.clone()) {
                assert_unquoted(&error.to_string(), "keys", &settings);
            }
        }
    }
}

#[test]
fn an_unknown_key_in_a_secret_s_table_is_refused() {
    for table in [
        json!({ "fiel": "/run/secret" }),
        json!({ "file": "/run/secret", "extra": 1 }),
        json!({ "file": "/run/secret", "env": "X" }),
        json!({ "vault": "path" }),
        json!({}),
    ] {
        let settings = with("https://a.example/", "client_secret", table.clone());
        let error = serde_json::from_value::<ClientCredentialsBuilder>(settings)
            .map(|_| ())
            .expect_err(&table.to_string());
        assert!(error.to_string().contains("file") || error.to_string().contains("unknown"), "{error}");
    }
}
