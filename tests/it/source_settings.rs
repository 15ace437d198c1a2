//! One table of settings for any source, and the same program with each of them.

use std::process::Command;

use serde_json::{Value, json};
use tokenflight::source::SourceSettings;
use tokenflight::testing::{FakeAuthServer, Reply, fakes};
use tokenflight::{FetchContext, Reason, TokenSource};

use crate::file_token::Folder;
use crate::github_app::{RSA, key};
use crate::servers::Provider;
use crate::support::*;

fn read(settings: &Value) -> Result<SourceSettings, String> {
    serde_json::from_str(&settings.to_string()).map_err(|error| error.to_string())
}

type Logins = (fakes::GithubApi, fakes::VaultServer, FakeAuthServer);

/// The settings of each kind, with what its token begins with; and what has to live meanwhile.
struct Kinds {
    kinds: Vec<(Value, &'static str)>,
    servers: (Folder, fakes::GcpMetadata, fakes::AzureImds, fakes::AzureArc, FakeAuthServer, Logins),
}

async fn kinds() -> Kinds {
    let folder = Folder::new();
    let gcp = fakes::GcpMetadata::start().await.unwrap();
    let imds = fakes::AzureImds::start().await.unwrap();
    let arc = fakes::AzureArc::start(folder.path()).await.unwrap();
    let server = FakeAuthServer::start().await.unwrap();
    let sts = FakeAuthServer::start().await.unwrap();
    let exchanged = json!({ "access_token": "exchanged", "token_type": "Bearer", "issued_token_type": "x" });
    sts.during(std::time::Duration::from_secs(600), Reply::json(200, exchanged.to_string()));
    let vault_server = fakes::VaultServer::start().await.unwrap();
    let github = fakes::GithubApi::start(key(RSA).public_jwk()).await.unwrap();
    let script = r#"printf '{"token":"%s"}' "$TOKEN""#;
    let vault = "https://vault.azure.net";
    let kinds = vec![
        (
            json!({ "kind": "file", "path": folder.write("token", "from-a-file"), "reread": "30s" }),
            "from-a-file",
        ),
        (
            json!({
                "kind": "exec", "command": "sh", "args": ["-c", script], "env": { "TOKEN": "from-s3cret" },
                "format": "plain", "timeout": "5s",
            }),
            "from-s3cret",
        ),
        (json!({ "kind": "gcp_metadata", "base_url": gcp.base_url(), "timeout": "2s" }), "gcp-1"),
        (json!({ "kind": "azure_imds", "resource": vault, "base_url": imds.base_url() }), "imds-1"),
        (
            json!({
                "kind": "azure_arc", "resource": vault, "base_url": arc.base_url(), "folder": folder.path(),
            }),
            "arc-1",
        ),
        (
            json!({
                "kind": "json_endpoint", "url": server.url(), "header": { "x-key": "s3cret" },
                "lifetime_pointer": "/expires_in",
            }),
            "token-",
        ),
        (
            json!({
                "kind": "client_credentials", "token_url": server.url(), "client_id": "app",
                "client_secret": "s3cret", "scope": "read", "timeout": "2s", "extra": { "x-key": "s3cret" },
            }),
            "token-",
        ),
        (
            json!({
                "kind": "github_app", "app_id": 12345, "installation_id": 42, "base_url": github.base_url(),
                "private_key_file": folder.write("app.pem", RSA),
            }),
            "ghs_1",
        ),
        (
            json!({
                "kind": "signed_jwt", "private_key": RSA, "issuer": "robot", "audience": server.url(),
                "lifetime": "2m", "backdate": "10s", "key_id": 7, "algorithm": "PS256", "claims": { "scope": "s3cret" },
            }),
            "eyJ",
        ),
        (
            json!({
                "kind": "token_exchange", "token_url": sts.url(), "client_id": "app", "client_secret": "s3cret",
                "audience": "pool", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "subject": { "kind": "file", "path": folder.write("subject", "s3cret-subject") },
                "actor": { "kind": "gcp_metadata", "base_url": gcp.base_url() },
            }),
            "exchanged",
        ),
        (
            json!({
                "kind": "jwt_bearer", "token_url": server.url(), "client_id": "app", "auth_method": "none",
                "assertion": { "kind": "file", "path": folder.write("assertion", "s3cret-assertion") },
            }),
            "token-",
        ),
        (
            json!({
                "kind": "refresh_token", "token_url": server.url(), "client_id": "app", "client_secret": "s3cret",
                "login": "s3cret-login", "vault": { "kind": "file", "path": folder.path().join("login") },
            }),
            "token-",
        ),
        (
            json!({
                "kind": "vault", "url": vault_server.base_url(), "role_id": "role-1", "secret_id": "secret-1",
            }),
            "hvs.",
        ),
    ];
    Kinds { kinds, servers: (folder, gcp, imds, arc, server, (github, vault_server, sts)) }
}

#[actix::test]
async fn each_kind_of_source_is_made_from_one_table() {
    let all = kinds().await;
    for (settings, expected) in &all.kinds {
        let read = read(settings).unwrap();
        assert!(!format!("{read:?}").contains("s3cret"), "{read:?}");
        let token = read.build().unwrap().fetch(FetchContext::new(Reason::First)).await.unwrap();
        assert!(token.secret().starts_with(expected), "{settings}: {}", token.secret());
    }
}

/// The table as TOML. The text `@number` is written as this number.
fn toml_of(table: &Value, number: &str) -> String {
    fn value(of: &Value) -> String {
        match of {
            Value::Object(entries) => format!("{{ {} }}", entries_of(entries).join(", ")),
            other => other.to_string(),
        }
    }
    fn entries_of(entries: &serde_json::Map<String, Value>) -> Vec<String> {
        entries.iter().map(|(key, one)| format!("{key:?} = {}", value(one))).collect()
    }
    entries_of(table.as_object().unwrap()).join("\n").replace("\"@number\"", number)
}

#[actix::test]
async fn a_secret_that_is_a_long_number_is_read_and_never_quoted() {
    let all = kinds().await;
    let secrets = [
        "/env/TOKEN",
        "/header/x-key",
        "/client_secret",
        "/extra/x-key",
        "/claims/scope",
        "/login",
        "/secret_id",
        "/private_key",
    ];
    let mut found = 0;
    for (settings, _) in &all.kinds {
        for number in ["47114711471147114711471147", "-47114711471147114711471147"] {
            for secret in secrets {
                let mut settings = settings.clone();
                let Some(value) = settings.pointer_mut(secret) else { continue };
                *value = json!("@number");
                found += 1;
                let what = format!("{}{secret}", settings["kind"]);
                let read = toml::from_str::<SourceSettings>(&toml_of(&settings, number));
                let error = match read.map_err(|error| error.message().to_owned()) {
                    Ok(read) => {
                        assert!(!format!("{read:?}").contains("4711"), "{what}: {read:?}");
                        read.build().err().map(|error| error.to_string())
                    }
                    Err(error) => Some(error),
                };
                // No number is a key.
                assert_eq!(error.is_some(), secret == "/private_key", "{what}: {error:?}");
                assert!(!error.unwrap_or_default().contains("4711"), "{what}");
            }
        }
    }
    assert_eq!(found, 2 * 10);
}

#[actix::test]
async fn an_unknown_key_is_refused_for_each_kind_by_its_name() {
    let all = kinds().await;
    for (settings, _) in &all.kinds {
        let mut wrong = settings.clone();
        wrong["timeuot"] = json!("s3cret");
        let error = read(&wrong).unwrap_err();
        assert!(error.contains("unknown field `timeuot`") && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn the_secrets_of_a_table_stand_in_it_in_a_file_or_in_the_environment() {
    let name = "source_settings::the_secrets_of_a_table_stand_in_it_in_a_file_or_in_the_environment";
    if let Some(mut child) = in_its_own_process(name) {
        all_that_is_written_by(child.env("TOKENFLIGHT_TEST_TABLE", "s3cret\n"));
        return;
    }
    actix_rt::System::new().block_on(async {
        let folder = Folder::new();
        let path = folder.write("secret", "s3cret\n");
        let server = FakeAuthServer::start().await.unwrap();
        let endpoint = |table: &str, value: &Value| {
            json!({ "kind": "json_endpoint", "method": "POST", "url": server.url(), table: { "x-key": value } })
        };
        let client = |value: &Value| {
            json!({
                "kind": "client_credentials", "token_url": server.url(), "client_id": "app", "client_secret": "x",
                "extra": { "x-key": value },
            })
        };
        for value in [json!("s3cret"), json!({ "file": path }), json!({ "env": "TOKENFLIGHT_TEST_TABLE" })] {
            for settings in [endpoint("header", &value), endpoint("form", &value), client(&value)] {
                let settings = read(&settings).unwrap();
                assert!(!format!("{settings:?}").contains("s3cret"), "{settings:?}");
                settings.build().unwrap().fetch(FetchContext::new(Reason::First)).await.unwrap();
                let asked = server.asked().pop().unwrap();
                let is_sent = asked.header("x-key") == Some("s3cret") || asked.body.contains("x-key=s3cret");
                assert!(is_sent, "{value}: {} {}", asked.head, asked.body);
            }
        }
        for (value, said) in [
            (json!({ "file": "/nowhere/at/all" }), "`x-key` comes from a file: "),
            (json!({ "env": "TOKENFLIGHT_TEST_NOTHING" }), "`x-key` names the environment variable "),
            (json!({ "s3cret": "x" }), "an unknown key"),
            (json!(["s3cret"]), "expected"),
        ] {
            for (table, settings) in [("header", endpoint("header", &value)), ("extra", client(&value))] {
                let error = read(&settings).unwrap_err();
                assert!(error.starts_with(&format!("`{table}`: ")) && error.contains(said), "{error}");
                assert!(!error.contains("s3cret"), "{error}");
            }
        }
    });
}

/// The list is that of the table in which the key stands: of its client, its grant and its links.
#[test]
fn an_unknown_key_is_refused_with_the_way_to_its_table_and_the_keys_that_may_stand_there() {
    let exchange = json!({
        "kind": "token_exchange", "token_url": "https://auth.example.com/token", "client_id": "app",
        "auth_method": "none", "subject": { "kind": "file", "path": "/a" },
    });
    let chain = json!({ "kind": "json_endpoint", "url": "https://api.example.com/session", "authorization": exchange });
    let wrong = |place: &str| {
        let mut wrong = chain.clone();
        *wrong.pointer_mut(place).unwrap() = json!("s3cret");
        wrong
    };
    for (at, way, kind, allowed, others) in [
        (
            "",
            "unknown",
            "json_endpoint",
            vec!["authorization", "header_token", "url", "timeout"],
            vec!["scope", "path"],
        ),
        (
            "/authorization",
            "`authorization`: unknown",
            "token_exchange",
            vec![
                "subject",
                "actor",
                "client_assertion",
                "requested_token_type",
                "scope",
                "extra",
                "client_id",
                "timeout",
            ],
            vec!["url", "path", "vault", "assertion", "http"],
        ),
        (
            "/authorization/subject",
            "`authorization.subject`: unknown",
            "file",
            vec!["path", "reread", "token_type"],
            vec!["url", "scope"],
        ),
    ] {
        let mut wrong = chain.clone();
        wrong.pointer_mut(at).unwrap()["wrnog"] = json!("s3cret");
        let error = read(&wrong).unwrap_err();
        assert!(error.starts_with(way), "{error}");
        assert!(
            error.contains(&format!("unknown field `wrnog` for kind `{kind}`, expected one of ")),
            "{error}"
        );
        assert!(allowed.iter().all(|name| error.contains(&format!("`{name}`"))), "{error}");
        assert!(!others.iter().any(|name| error.contains(&format!("`{name}`"))), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    for (at, way) in [
        ("/url", "`url`: "),
        ("/authorization", "`authorization`: "),
        ("/authorization/subject", "`authorization.subject`: "),
    ] {
        let error = read(&wrong(at));
        if at == "/url" {
            // Text stands there rightly. What is wrong with it is found later.
            assert_eq!(error.unwrap().build().unwrap_err().field(), "url");
            continue;
        }
        let error = error.unwrap_err();
        assert!(error.starts_with(way) && !error.contains("s3cret"), "{error}");
    }
    for (value, way) in
        [(json!("soon"), "`authorization.timeout`: "), (json!(7), "`authorization.timeout`: ")]
    {
        let mut wrong = chain.clone();
        wrong["authorization"]["timeout"] = value;
        let error = read(&wrong).unwrap_err();
        assert!(error.starts_with(way), "{error}");
    }
    let twice = r#"{ "kind": "client_credentials", "token_url": "https://auth.example.com/token", "client_id": "a", "client_id": "b" }"#;
    let error = serde_json::from_str::<SourceSettings>(twice).unwrap_err().to_string();
    assert!(error.contains("duplicate field `client_id`"), "{error}");
    let twice = r#"{ "kind": "jwt_bearer", "token_url": "https://auth.example.com/token", "client_id": "a",
        "assertion": { "kind": "file", "path": "a", "path": "b" } }"#;
    let error = serde_json::from_str::<SourceSettings>(twice).unwrap_err().to_string();
    assert!(error.contains("duplicate field `path`"), "{error}");
}

/// The same for a fault that is found when the source is built.
#[test]
fn a_setting_that_cannot_work_is_named_with_the_way_to_its_table() {
    let exchange = json!({
        "kind": "token_exchange", "token_url": "https://auth.example.com/token", "client_id": "app",
        "auth_method": "none", "subject": { "kind": "file", "path": "/a" },
    });
    let chain = json!({
        "kind": "json_endpoint", "url": "https://api.example.com/session", "authorization": exchange,
        "header_token": { "X-Key": { "kind": "file", "path": "/a" } },
    });
    let login = json!({
        "kind": "refresh_token", "token_url": "https://auth.example.com/token", "client_id": "app",
        "auth_method": "none", "vault": { "kind": "file", "path": "/a" },
    });
    for (settings, at, value, way) in [
        (&chain, "/url", json!(""), "`url`"),
        (&chain, "/authorization/token_url", json!("ftp://x"), "`authorization.token_url`"),
        (&chain, "/authorization/auth_method", json!("basic"), "`authorization.auth_method`"),
        (&chain, "/authorization/subject/path", json!(""), "`authorization.subject.path`"),
        (&chain, "/header_token/X-Key/path", json!(""), "`header_token.X-Key.path`"),
        (&login, "/vault/path", json!(""), "`vault.path`"),
        (&login, "/auth_method", json!("basic"), "`auth_method`"),
    ] {
        let mut wrong = settings.clone();
        *wrong.pointer_mut(at).unwrap() = value;
        let error = read(&wrong).unwrap().build().map(drop).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{way} ")), "{error}");
        assert_eq!(Some(error.field()), at.rsplit('/').next(), "the setting itself");
    }
}

#[test]
fn what_names_no_source_is_refused_and_no_value_is_quoted() {
    for (wrong, wanted) in [
        (json!({ "path": "s3cret" }), "missing field `kind`"),
        (json!({ "kind": "gcp", "path": "s3cret" }), "unknown variant `gcp`"),
        (json!("s3cret"), "expected a table of settings by name"),
        (json!(["file", "s3cret"]), "expected a table of settings by name"),
        (json!({ "kind": "exec", "command": "a", "env": "s3cret" }), "expected a table"),
        (json!({ "kind": "exec", "command": "a", "args": [47.11] }), "expected a string"),
        (json!({ "kind": "exec", "command": "a", "args": "--token=s3cret" }), "expected a list of strings"),
        (json!({ "kind": "exec", "command": "a", "args": 4711 }), "expected a list of strings"),
        (json!({ "kind": "exec", "command": "a", "args": -47 }), "expected a list of strings"),
        (json!({ "kind": "exec", "command": "a", "args": 47.11 }), "expected a list of strings"),
        (json!({ "kind": "exec", "command": "a", "args": { "a": "s3cret" } }), "expected a list of strings"),
        (json!({ "kind": "exec", "command": "a", "args": ["a", ["s3cret"]] }), "expected a string"),
    ] {
        let error = read(&wrong).unwrap_err();
        assert!(error.contains(wanted) && !error.contains("s3cret") && !error.contains("47"), "{error}");
    }
    let error = read(&json!({ "kind": "azure_imds", "resource": "" })).unwrap().build().unwrap_err();
    assert_eq!(error.field(), "resource");
}

#[actix::test]
async fn the_links_of_a_chain_stand_in_its_table_and_their_faults_are_named() {
    let all = kinds().await;
    let exchange = &all.kinds.iter().find(|(settings, _)| settings["kind"] == "token_exchange").unwrap().0;
    let source = read(exchange).unwrap().build().unwrap();
    source.fetch(FetchContext::new(Reason::First)).await.unwrap();
    let (.., (_, _, sts)) = &all.servers;
    let body = &sts.asked()[0].body;
    for part in [
        "subject_token=s3cret-subject&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt",
        "actor_token=gcp-1",
        "audience=pool",
    ] {
        assert!(body.contains(part), "{body}");
    }
    let mut wrong = exchange.clone();
    wrong["subject"] = json!({ "kind": "file", "path": "" });
    let error = read(&wrong).unwrap().build().unwrap_err();
    assert_eq!((error.table(), error.field()), (Some("subject"), "path"), "{error}");
    wrong["subject"] = json!({ "kind": "file", "path": "a", "paht": "s3cret" });
    let error = read(&wrong).unwrap_err();
    assert!(error.contains("unknown field `paht`") && !error.contains("s3cret"), "{error}");
    wrong["subject"] = json!("s3cret");
    let error = read(&wrong).unwrap_err();
    assert!(!error.contains("s3cret"), "{error}");
    let mut wrong = exchange.clone();
    wrong.as_object_mut().unwrap().remove("subject");
    assert!(read(&wrong).unwrap_err().contains("missing field `subject`"));
    let mut wrong = exchange.clone();
    wrong.as_object_mut().unwrap().remove("actor");
    wrong["actor_token_type"] = json!("x");
    assert_eq!(read(&wrong).unwrap().build().unwrap_err().field(), "actor_token_type");
}

/// What the example prints, built by `cargo test` beside this binary.
fn example(folder: &Folder, settings: &Value) -> String {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let path = path.join("examples").join(format!("identity{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "the example is not built: `cargo build --all-features --examples` builds it");
    let file = folder.write("settings.json", settings.to_string());
    let output = Command::new(path).arg(file).output().unwrap();
    assert!(output.status.success(), "{settings}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[actix::test]
async fn the_same_program_runs_with_each_identity_and_shows_no_secret() {
    let (all, folder) = (kinds().await, Folder::new());
    let provider = Provider::start();
    let real = json!({
        "kind": "client_credentials", "token_url": provider.address("token_endpoint"),
        "client_id": "plain", "client_secret": "plain-secret", "scope": "api:read",
    });
    let mut kinds: Vec<Value> = all.kinds.iter().map(|(settings, _)| settings.clone()).collect();
    kinds.push(real);
    for settings in kinds {
        // Off this thread, on which the servers run.
        let folder = Folder::new();
        let (said, kind) = {
            let kind = settings["kind"].as_str().unwrap().to_owned();
            (tokio::task::spawn_blocking(move || example(&folder, &settings)).await.unwrap(), kind)
        };
        assert!(said.starts_with("Bearer token of "), "{kind}: {said}");
        assert!(
            !said.contains("s3cret") && !said.contains("from-a-file") && !said.contains("gcp-1"),
            "{said}"
        );
    }
    assert_eq!(provider.stats().await["token_calls"], 1);
    drop(folder);
}
