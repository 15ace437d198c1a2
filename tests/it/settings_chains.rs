//! Chains in one settings file: each link keeps its token, and an error names the link.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokenflight::source::{BoxSource, SourceSettings};
use tokenflight::testing::{FakeAuthServer, ManualClock, Reply, fakes};
use tokenflight::{FetchContext, Reason, TokenActor, TokenHandle, TokenSource};

use crate::file_token::Folder;
use crate::github_app::RSA;
use crate::support::*;

fn build(settings: &Value) -> BoxSource {
    serde_json::from_value::<SourceSettings>(settings.clone()).unwrap().build().unwrap()
}

/// A file, an exchange (STS) and an impersonation, from one table; one actor at the end.
struct Chain {
    folder: Folder,
    servers: [FakeAuthServer; 2],
    settings: Value,
    clock: ManualClock,
}

/// A token of the STS.
fn sts(number: u32) -> Reply {
    Reply::json(
        200,
        format!(
            r#"{{"access_token":"sts-{number}","token_type":"Bearer","expires_in":600,"issued_token_type":"x"}}"#
        ),
    )
}

impl Chain {
    async fn new() -> Self {
        Self::of((1..=4).map(sts)).await
    }

    /// With these answers of the STS.
    async fn of(replies: impl IntoIterator<Item = Reply>) -> Self {
        let folder = Folder::new();
        let servers = [FakeAuthServer::start().await.unwrap(), FakeAuthServer::start().await.unwrap()];
        for reply in replies {
            servers[0].then(reply);
        }
        let settings = json!({
            "kind": "json_endpoint", "method": "POST", "url": servers[1].url(),
            "token_pointer": "/access_token", "lifetime_pointer": "/expires_in",
            "authorization": {
                "kind": "token_exchange", "token_url": servers[0].url(), "client_id": "pool", "auth_method": "none",
                "audience": "pool",
                "subject": { "kind": "file", "path": folder.write("token", "s3cret-file"), "reread": "2h" },
            },
        });
        Self { folder, servers, settings, clock: ManualClock::new() }
    }

    fn start(&self) -> TokenHandle {
        let policy = plain().attempts(1);
        TokenActor::builder(build(&self.settings)).policy(policy).clock(self.clock.clone()).start().unwrap()
    }

    /// The calls at the STS, and at the impersonation.
    fn calls(&self) -> [usize; 2] {
        [self.servers[0].asked().len(), self.servers[1].asked().len()]
    }

    /// The token that the last impersonation was asked with.
    fn sent(&self) -> String {
        self.servers[1].asked().last().unwrap().header("authorization").unwrap().to_owned()
    }
}

#[actix::test]
async fn of_three_links_in_one_file_only_the_stale_one_is_fetched_again() {
    let chain = Chain::new().await;
    let handle = chain.start();
    assert_eq!(handle.get().await.unwrap().secret(), "token-1");
    assert_eq!((chain.calls(), chain.sent().as_str()), ([1, 1], "Bearer sts-1"));
    assert!(chain.servers[0].asked()[0].body.contains("subject_token=s3cret-file"));

    // The last one is asked for again: those before it are good.
    handle.refresh().await.unwrap();
    assert_eq!((chain.calls(), chain.sent().as_str()), ([1, 2], "Bearer sts-1"));

    // The middle one has ended. The file could not even be read now: its token is good for 2 h.
    chain.clock.suspend(secs(595)); // within the last seconds nobody begins to use it
    std::fs::remove_file(chain.folder.path().join("token")).unwrap();
    handle.refresh().await.unwrap();
    assert_eq!((chain.calls(), chain.sent().as_str()), ([2, 3], "Bearer sts-2"));
    assert!(chain.servers[0].asked()[1].body.contains("subject_token=s3cret-file"));
}

#[actix::test]
async fn an_error_of_a_chain_from_a_file_names_the_links_on_the_way() {
    let chain = Chain::new().await;
    let handle = chain.start();
    std::fs::remove_file(chain.folder.path().join("token")).unwrap();
    let error = handle.get().await.unwrap_err().to_string();
    let mut rest = 0;
    for part in
        [r#"the token for the header "authorization""#, "the subject of the token exchange", "the token file"]
    {
        let at = error[rest..].find(part);
        rest += at.unwrap_or_else(|| panic!("{part} is not in its place: {error}"));
    }
    assert_eq!(chain.calls(), [0, 0], "nothing was sent");
}

#[actix::test]
async fn a_refusal_of_the_last_server_has_the_link_before_it_fetched_anew_at_the_next_flight() {
    let chain = Chain::new().await;
    let handle = chain.start();
    handle.get().await.unwrap();
    // The token of the STS was revoked there, before its end.
    chain.servers[1].then(Reply::json(401, r#"{"error":"gone"}"#));
    let error = handle.refresh().await.unwrap_err();
    assert!(error.is_rejected(), "{error}");
    assert_eq!((chain.calls(), chain.sent().as_str()), ([1, 2], "Bearer sts-1"));
    chain.clock.suspend(secs(60));
    handle.refresh().await.unwrap();
    assert_eq!((chain.calls(), chain.sent().as_str()), ([2, 3], "Bearer sts-2"));
}

#[actix::test]
async fn a_refused_link_whose_own_server_fails_is_used_again() {
    for failure in [Reply::json(503, ""), Reply::json(401, r#"{"error":"invalid_client"}"#)] {
        let chain = Chain::of([sts(1), failure, sts(2)]).await;
        let handle = chain.start();
        handle.get().await.unwrap();
        chain.servers[1].then(Reply::json(401, r#"{"error":"gone"}"#));
        handle.refresh().await.unwrap_err();
        chain.clock.suspend(secs(60));
        handle.refresh().await.unwrap_err();
        assert_eq!(chain.calls(), [2, 2]);
        // One refusal is worth one try: the token in hand has not ended.
        chain.clock.suspend(secs(60));
        handle.refresh().await.unwrap();
        assert_eq!((chain.calls(), chain.sent().as_str()), ([2, 3], "Bearer sts-1"));
    }
}

#[actix::test]
async fn a_refusal_in_one_link_says_nothing_of_the_link_beside_it() {
    let (chain, other) = (Chain::new().await, FakeAuthServer::start().await.unwrap());
    other.lifetime(secs(60));
    let mut settings = chain.settings.clone();
    settings["header_token"] = json!({ "X-Other": {
        "kind": "client_credentials", "token_url": other.url(), "client_id": "app", "client_secret": "s3cret",
    } });
    let policy = plain().attempts(1);
    let handle =
        TokenActor::builder(build(&settings)).policy(policy).clock(chain.clock.clone()).start().unwrap();
    handle.get().await.unwrap();
    assert_eq!((chain.calls(), chain.sent().as_str()), ([1, 1], "Bearer sts-1"));
    chain.clock.suspend(secs(60));
    other.then(Reply::json(401, r#"{"error":"invalid_client"}"#));
    let error = handle.refresh().await.unwrap_err();
    assert!(error.is_rejected() && error.to_string().contains("x-other"), "{error}");
    assert_eq!(chain.calls(), [1, 1], "nothing was sent");
    chain.clock.suspend(secs(60));
    handle.refresh().await.unwrap();
    assert_eq!((chain.calls(), chain.sent().as_str()), ([1, 2], "Bearer sts-1"));
}

#[actix::test]
async fn a_late_refusal_of_a_link_s_old_token_does_not_concern_the_new_one() {
    let chain = Chain::new().await;
    let source = build(&chain.settings);
    let fetch = || source.fetch(FetchContext::new(Reason::Expired));
    let refusal = || Reply::json(401, r#"{"error":"gone"}"#);
    chain.servers[1].then(Reply::After(millis(300), Box::new(refusal()))).then(refusal());
    let others = async {
        while chain.servers[1].asked().is_empty() {
            tokio::task::yield_now().await;
        }
        fetch().await.unwrap_err();
        fetch().await.unwrap();
        assert_eq!((chain.calls(), chain.sent().as_str()), ([2, 3], "Bearer sts-2"));
    };
    let (late, ()) = tokio::join!(fetch(), others);
    assert!(late.unwrap_err().is_terminal());
    fetch().await.unwrap();
    assert_eq!((chain.calls(), chain.sent().as_str()), ([2, 4], "Bearer sts-2"));
}

#[actix::test]
async fn an_outage_of_the_last_server_costs_the_links_before_it_nothing() {
    let chain = Chain::new().await;
    let handle = chain.start();
    handle.get().await.unwrap();
    for _ in 0..3 {
        chain.servers[1].then(Reply::json(503, ""));
        assert!(handle.refresh().await.unwrap_err().is_unavailable());
        chain.clock.suspend(secs(20));
    }
    handle.refresh().await.unwrap();
    assert_eq!(chain.calls(), [1, 5]);
}

#[actix::test]
async fn two_actors_on_one_chain_share_the_call_of_a_link_and_its_failure() {
    let chain = Chain::new().await;
    let source = build(&chain.settings);
    let start = |source: &BoxSource| {
        TokenActor::builder(source.clone()).policy(plain().attempts(1)).clock(chain.clock.clone()).start()
    };
    let (one, other) = (start(&source).unwrap(), start(&source).unwrap());
    let (a, b) = tokio::join!(one.get(), other.get());
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(chain.calls(), [1, 2]);

    let down = FakeAuthServer::start().await.unwrap();
    down.then(Reply::After(millis(100), Box::new(Reply::json(503, ""))));
    let mut settings = chain.settings.clone();
    settings["authorization"]["token_url"] = json!(down.url());
    let source = build(&settings);
    let (one, other) = (start(&source).unwrap(), start(&source).unwrap());
    let (a, b) = tokio::join!(one.get(), other.get());
    assert!(a.is_err() && b.is_err());
    assert_eq!(down.asked().len(), 1);
}

#[actix::test]
async fn a_link_s_token_that_has_expired_on_its_way_pauses_the_flight_for_a_second() {
    let gone = r#"{"access_token":"a","token_type":"Bearer","expires_in":0,"issued_token_type":"x"}"#;
    let chain = Chain::of([Reply::json(200, gone)]).await;
    let error = build(&chain.settings).fetch(FetchContext::new(Reason::First)).await.unwrap_err();
    assert!(!error.is_terminal() && error.to_string().contains("had expired"), "{error}");
    assert_eq!(error.retry_after(), Some(secs(1)));
}

#[actix::test]
async fn a_link_that_hangs_is_named_before_the_attempt_ends() {
    let chain = Chain::new().await;
    let silent = FakeAuthServer::start().await.unwrap();
    silent.then(Reply::Hang);
    let mut settings = chain.settings.clone();
    settings["authorization"]["token_url"] = json!(silent.url());
    let policy = plain().attempts(1).attempt_timeout(millis(300));
    let handle = TokenActor::builder(build(&settings)).policy(policy).start().unwrap();
    let error = handle.get().await.unwrap_err().to_string();
    assert!(error.contains(r#"the token for the header "authorization": "#), "{error}");
}

#[actix::test]
async fn a_client_s_proof_a_vault_s_login_and_a_bare_header_are_links_too() {
    let (folder, server) = (Folder::new(), FakeAuthServer::start().await.unwrap());
    let file = json!({ "kind": "file", "path": folder.write("jwt", "s3cret.proof"), "reread": "2h" });
    let api = FakeAuthServer::start().await.unwrap();
    let settings = json!({
        "kind": "json_endpoint", "url": api.url(),
        "header_token": {
            "X-Vault-Token": {
                "kind": "client_credentials", "token_url": server.url(), "client_id": "app",
                "client_assertion": file,
            },
        },
    });
    assert!(
        !format!("{:?}", serde_json::from_value::<SourceSettings>(settings.clone()).unwrap())
            .contains("s3cret")
    );
    let handle = TokenActor::builder(build(&settings)).policy(plain()).start().unwrap();
    handle.get().await.unwrap();
    handle.refresh().await.unwrap();
    assert_eq!((server.asked().len(), api.asked().len()), (1, 2));
    assert!(server.asked()[0].body.contains("client_assertion=s3cret.proof"), "{}", server.asked()[0].body);
    assert_eq!(api.asked()[1].header("x-vault-token"), Some("token-1"));

    let mut wrong = settings["header_token"]["X-Vault-Token"].clone();
    wrong["client_secret"] = json!("s3cret");
    let error = serde_json::from_value::<SourceSettings>(wrong).unwrap().build().map(drop).unwrap_err();
    assert_eq!(error.field(), "client_assertion");

    let vault = fakes::VaultServer::start().await.unwrap();
    let settings = json!({
        "kind": "vault", "url": vault.base_url(), "role": "app",
        "jwt": { "kind": "file", "path": folder.write("sa", "s3cret.sa") },
        "jwt_file": "/tmp/x",
    });
    let settings: SourceSettings = serde_json::from_value(settings).unwrap();
    assert_eq!(settings.build().map(drop).unwrap_err().field(), "jwt_file");
}

#[actix::test]
async fn a_fault_in_a_link_s_table_is_named_with_the_way_to_it() {
    let chain = Chain::new().await;
    let mut wrong = chain.settings.clone();
    wrong["authorization"]["subject"]["path"] = json!("");
    let error = serde_json::from_value::<SourceSettings>(wrong).unwrap().build().map(drop).unwrap_err();
    assert_eq!((error.table(), error.field()), (Some("authorization.subject"), "path"), "{error}");

    for (place, value, wanted) in [
        ("authorization", json!("s3cret"), "a table"),
        ("header_token", json!({ "X-Key": "s3cret" }), "a table"),
        ("header_token", json!("s3cret"), ""),
        ("authorization", json!({ "kind": "file", "path": "a", "paht": "s3cret" }), "unknown field `paht`"),
        ("authorisation", json!({ "kind": "file", "path": "s3cret" }), "unknown field `authorisation`"),
    ] {
        let mut wrong = chain.settings.clone();
        wrong[place] = value;
        let error = serde_json::from_value::<SourceSettings>(wrong).unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains("s3cret"), "{error}");
    }
    let mut wrong = chain.settings.clone();
    wrong["header_token"] = json!({ "o dd": { "kind": "file", "path": "/a" } });
    let error = serde_json::from_value::<SourceSettings>(wrong).unwrap().build().map(drop).unwrap_err();
    assert_eq!(error.field(), "header_token");
}

/// A login whose refresh token rotates, in a file.
fn login(server: &FakeAuthServer, folder: &Folder) -> Value {
    json!({
        "kind": "refresh_token", "token_url": server.url(), "client_id": "app", "client_secret": "s3cret",
        "scope": "orders.read", "vault": { "kind": "file", "path": folder.path().join("login") },
        "login": "s3cret-first", "grace": "30s", "after_crash": "try_once",
    })
}

#[actix::test]
async fn a_rotating_refresh_token_is_kept_where_the_table_says_and_goes_on_after_a_restart() {
    let (folder, server) = (Folder::new(), FakeAuthServer::start().await.unwrap());
    for number in 1..=2 {
        server.then(Reply::json(200, format!(
            r#"{{"access_token":"a-{number}","token_type":"Bearer","expires_in":60,"refresh_token":"r-{number}"}}"#
        )));
    }
    let settings = login(&server, &folder);
    let read: SourceSettings = serde_json::from_value(settings.clone()).unwrap();
    assert!(!format!("{read:?}").contains("s3cret"), "{read:?}");
    let clock = ManualClock::new();
    let run = |source| TokenActor::builder(source).policy(plain()).clock(clock.clone()).start().unwrap();
    let first = run(read.build().unwrap());
    assert_eq!(first.get().await.unwrap().secret(), "a-1");
    first.shutdown().await;

    // The next process reads the same file, and its old `login` is not sent.
    clock.suspend(secs(60));
    let second = run(build(&settings));
    second.refresh().await.unwrap();
    let sent: Vec<_> = server.asked().into_iter().map(|asked| asked.body).collect();
    assert!(
        sent[0].contains("refresh_token=s3cret-first") && sent[0].contains("scope=orders.read"),
        "{sent:?}"
    );
    assert!(sent[1].contains("refresh_token=r-1"), "{sent:?}");
}

#[actix::test]
async fn a_fault_in_the_table_of_a_login_is_named_and_no_value_is_quoted() {
    let (folder, server) = (Folder::new(), FakeAuthServer::start().await.unwrap());
    let settings = login(&server, &folder);
    for (key, value, wanted) in [
        ("vault", json!("s3cret"), "a table"),
        ("vault", json!({ "kind": "fiel", "path": "s3cret" }), "unknown variant `fiel`"),
        ("vault", json!({ "kind": "file", "paht": "s3cret" }), "unknown field `paht`"),
        ("vault", json!({ "kind": "file" }), "missing field `path`"),
        ("after_crash", json!("never"), "unknown variant `never`"),
        ("grace", json!("soon"), "duration"),
        ("login", json!(["s3cret"]), ""),
        ("garce", json!("30s"), "unknown field `garce`"),
    ] {
        let mut wrong = settings.clone();
        wrong[key] = value;
        let error = serde_json::from_value::<SourceSettings>(wrong).unwrap_err().to_string();
        assert!(error.contains(wanted), "{key}: {error}");
        assert!(!error.contains("s3cret"), "{key}: {error}");
    }
    for (key, value, field) in [
        ("vault", json!({ "kind": "file", "path": "" }), "path"),
        ("grace", json!("2h"), "grace"),
        ("login", json!({ "env": "NO_SUCH_VARIABLE" }), "login"),
        ("login", json!({ "file": "/no/such/file" }), "login"),
        ("login", json!(""), "login"),
    ] {
        let mut wrong = settings.clone();
        wrong[key] = value;
        let error = serde_json::from_value::<SourceSettings>(wrong).unwrap().build().map(drop).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
    }
    let mut wrong = settings;
    wrong.as_object_mut().unwrap().remove("vault");
    let error = serde_json::from_value::<SourceSettings>(wrong).unwrap_err().to_string();
    assert!(error.contains("missing field `vault`"), "{error}");
}

#[cfg(feature = "redis")]
#[test]
fn a_login_in_redis_stands_in_the_same_table() {
    let key = "9f4e61c07a2b8d35e1f6047c93ab58d20c7e91b4f85a3d6672e0c94b1fa8d357";
    let settings = |vault: Value| {
        json!({
            "kind": "refresh_token", "token_url": "https://auth.example.com/token", "client_id": "app",
            "auth_method": "none", "vault": vault,
        })
    };
    let vault = json!({
        "kind": "redis", "name": "orders", "keys": [{ "id": "1", "key": key }],
        "url": "redis://localhost:6379", "timeout": "500ms",
    });
    let read: SourceSettings = serde_json::from_value(settings(vault.clone())).unwrap();
    assert!(!format!("{read:?}").contains(key));
    read.build().unwrap();
    let mut wrong = vault.clone();
    wrong["name"] = json!("a b");
    let error =
        serde_json::from_value::<SourceSettings>(settings(wrong)).unwrap().build().map(drop).unwrap_err();
    assert_eq!((error.table(), error.field()), (Some("vault"), "name"), "{error}");
    let mut wrong = vault.clone();
    wrong["keys"] = json!([key]);
    let error = serde_json::from_value::<SourceSettings>(settings(wrong)).unwrap_err().to_string();
    assert!(!error.contains(key), "{error}");
    let mut wrong = vault;
    wrong["ulr"] = json!(1);
    let error = serde_json::from_value::<SourceSettings>(settings(wrong)).unwrap_err().to_string();
    assert!(error.contains("unknown field `ulr`"), "{error}");
}

/// The header and the claims of the JWTs that were sent as this field.
fn jwts(server: &FakeAuthServer, field: &str) -> Vec<(Value, Value)> {
    let bodies: Vec<String> = server.asked().into_iter().map(|asked| asked.body).collect();
    let sent = bodies.iter().filter_map(|body| {
        form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == field).map(|(_, value)| value)
    });
    sent.map(|jwt| {
        let part = |at| {
            let bytes = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(at).unwrap()).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        (part(0), part(1))
    })
    .collect()
}

#[actix::test]
async fn a_service_account_stands_in_one_file_and_signs_each_request() {
    let (folder, server) = (Folder::new(), FakeAuthServer::start().await.unwrap());
    let account = json!({
        "kind": "signed_jwt", "private_key_file": folder.write("account.pem", RSA), "key_id": "k1",
        "issuer": "robot", "audience": "https://auth.example.com", "lifetime": "1m", "claims": { "scope": "read" },
    });
    let bearer = json!({
        "kind": "jwt_bearer", "token_url": server.url(), "client_id": "app", "auth_method": "none",
        "assertion": account,
    });
    let client = json!({
        "kind": "client_credentials", "token_url": server.url(), "client_id": "app", "client_assertion": account,
    });
    for (settings, field) in [(bearer, "assertion"), (client, "client_assertion")] {
        let before = jwts(&server, field).len();
        let source = build(&settings);
        for _ in 0..2 {
            source.fetch(FetchContext::new(Reason::Forced)).await.unwrap();
        }
        let sent = jwts(&server, field).split_off(before);
        let [(header, first), (_, second)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((&header["alg"], &header["kid"]), (&json!("RS256"), &json!("k1")));
        assert_eq!(
            (&first["iss"], &first["sub"], &first["scope"]),
            (&json!("robot"), &json!("robot"), &json!("read"))
        );
        assert_eq!(first["exp"].as_u64().unwrap() - first["iat"].as_u64().unwrap(), 60);
        assert_ne!(first["jti"], second["jti"], "a server accepts it once");
    }
}
