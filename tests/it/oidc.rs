//! The sources against a real authorization server: `oidc-provider`, started here on a free port.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokenflight::source::{ClientAuth, ClientCredentials, ClientCredentialsBuilder};
use tokenflight::{RefreshPolicy, TokenActor, TokenError, TokenHandle};

use crate::support::*;

/// The server. It ends when its standard input does, so a test that is killed leaves none behind.
pub(crate) struct Provider {
    child: Child,
    addresses: serde_json::Value,
    client: reqwest::Client,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc");
        assert!(
            folder.join("node_modules").exists(),
            "run ./tests/run: it installs the authorization server"
        );
        let mut child = Command::new("node")
            .arg("server.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addresses = serde_json::from_str(&line).expect("one line of addresses");
        Self { child, addresses, client: reqwest::Client::new() }
    }

    pub(crate) fn address(&self, name: &str) -> &str {
        self.addresses[name].as_str().unwrap()
    }

    fn source(&self, id: &str, secret: &str) -> ClientCredentialsBuilder {
        ClientCredentials::builder(self.address("token_endpoint"), id, secret)
    }

    async fn stats(&self) -> serde_json::Value {
        let answer = self.client.get(self.address("stats_endpoint")).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// What the server itself thinks of a token (RFC 7662).
    async fn introspect(&self, token: &str) -> serde_json::Value {
        let answer = self
            .client
            .post(self.address("introspection_endpoint"))
            .basic_auth("plain", Some("plain-secret"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={token}"))
            .send()
            .await
            .unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn started(source: ClientCredentialsBuilder) -> TokenHandle {
    // A new token need not settle: this server knows its own tokens at once.
    let policy = RefreshPolicy::default().attempts(1).settle(std::time::Duration::ZERO);
    TokenActor::builder(source.build().unwrap()).policy(policy).start().unwrap()
}

async fn refused(source: ClientCredentialsBuilder) -> TokenError {
    started(source).get().await.unwrap_err()
}

#[actix::test]
async fn fifty_callers_cost_one_call_and_get_a_token_that_is_good() {
    let provider = Provider::start();
    let handle = started(provider.source("plain", "plain-secret").scope("api:read api:write"));
    let outcomes = futures_util::future::join_all((0..50).map(|_| handle.get())).await;
    let token = outcomes[0].as_ref().unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().secret() == token.secret()));
    assert_eq!(provider.stats().await["token_calls"], 1);
    assert_eq!(token.scopes(), ["api:read", "api:write"]);
    assert!(token.remaining().unwrap() <= secs(600));
    let introspected = provider.introspect(token.secret()).await;
    assert_eq!(introspected["active"], true);
    assert_eq!(introspected["client_id"], "plain");
}

#[actix::test]
async fn odd_characters_in_id_and_secret_arrive_as_they_are() {
    let provider = Provider::start();
    let token = started(provider.source("basic client:1", "s3cr%t+ /:?&=")).get().await.unwrap();
    assert_eq!(provider.introspect(token.secret()).await["client_id"], "basic client:1");
    let in_body = provider.source("post", "post-secret+ %&=").auth_method(ClientAuth::Body);
    let token = started(in_body).get().await.unwrap();
    assert_eq!(provider.introspect(token.secret()).await["client_id"], "post");
}

#[actix::test]
async fn a_resource_is_the_token_s_audience_and_its_lifetime_is_the_server_s() {
    let provider = Provider::start();
    let source =
        provider.source("plain", "plain-secret").scope("api:read").resource("https://api.example/two");
    let token = started(source).get().await.unwrap();
    assert!(token.remaining().unwrap() <= secs(2));
    assert_eq!(provider.introspect(token.secret()).await["aud"], "https://api.example/two");
}

#[actix::test]
async fn what_the_server_refuses_is_named() {
    let provider = Provider::start();
    let error = refused(provider.source("plain", "wrong-secret")).await;
    assert!(error.is_rejected());
    assert!(error.to_string().contains("invalid_client"), "{error}");
    assert!(!error.to_string().contains("wrong-secret"), "{error}");
    let error = refused(provider.source("plain", "plain-secret").scope("api:admin")).await;
    assert!(error.to_string().contains("invalid_scope"), "{error}");
    let error = refused(provider.source("plain", "plain-secret").resource("https://api.example/none")).await;
    assert!(error.to_string().contains("invalid_target"), "{error}");
    assert_eq!(provider.stats().await["token_calls"], 3, "none of it was tried again");
}

#[actix::test]
async fn a_rejected_token_is_replaced_by_a_new_one() {
    let provider = Provider::start();
    let handle = started(provider.source("plain", "plain-secret"));
    let old = handle.get().await.unwrap();
    for _ in 0..20 {
        handle.invalidate(&old);
        assert_ne!(handle.get().await.unwrap().secret(), old.secret());
    }
    assert_eq!(provider.stats().await["token_calls"], 2);
}
