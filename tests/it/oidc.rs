//! The sources against a real authorization server: `oidc-provider`.

use tokenflight::source::{ClientAuth, ClientCredentials, ClientCredentialsBuilder};
use tokenflight::{RefreshPolicy, TokenActor, TokenError, TokenHandle};

use crate::servers::Provider;
use crate::support::*;

fn source(provider: &Provider, id: &str, secret: &str) -> ClientCredentialsBuilder {
    ClientCredentials::builder(provider.address("token_endpoint"), id, secret)
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
    let handle = started(source(&provider, "plain", "plain-secret").scope("api:read api:write"));
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
    let token = started(source(&provider, "basic client:1", "s3cr%t+ /:?&=")).get().await.unwrap();
    assert_eq!(provider.introspect(token.secret()).await["client_id"], "basic client:1");
    let in_body = source(&provider, "post", "post-secret+ %&=").auth_method(ClientAuth::Body);
    let token = started(in_body).get().await.unwrap();
    assert_eq!(provider.introspect(token.secret()).await["client_id"], "post");
}

#[actix::test]
async fn a_resource_is_the_token_s_audience_and_its_lifetime_is_the_server_s() {
    let provider = Provider::start();
    let source =
        source(&provider, "plain", "plain-secret").scope("api:read").resource("https://api.example/two");
    let token = started(source).get().await.unwrap();
    assert!(token.remaining().unwrap() <= secs(2));
    assert_eq!(provider.introspect(token.secret()).await["aud"], "https://api.example/two");
}

#[actix::test]
async fn what_the_server_refuses_is_named() {
    let provider = Provider::start();
    let error = refused(source(&provider, "plain", "wrong-secret")).await;
    assert!(error.is_rejected());
    assert!(error.to_string().contains("invalid_client"), "{error}");
    assert!(!error.to_string().contains("wrong-secret"), "{error}");
    let error = refused(source(&provider, "plain", "plain-secret").scope("api:admin")).await;
    assert!(error.to_string().contains("invalid_scope"), "{error}");
    let error =
        refused(source(&provider, "plain", "plain-secret").resource("https://api.example/none")).await;
    assert!(error.to_string().contains("invalid_target"), "{error}");
    assert_eq!(provider.stats().await["token_calls"], 3, "none of it was tried again");
}

#[actix::test]
async fn a_rejected_token_is_replaced_by_a_new_one() {
    let provider = Provider::start();
    let handle = started(source(&provider, "plain", "plain-secret"));
    let old = handle.get().await.unwrap();
    for _ in 0..20 {
        handle.invalidate(&old);
        assert_ne!(handle.get().await.unwrap().secret(), old.secret());
    }
    assert_eq!(provider.stats().await["token_calls"], 2);
}
