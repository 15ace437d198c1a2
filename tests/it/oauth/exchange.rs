//! Token exchange (RFC 8693) and JWT bearer (RFC 7523 section 2.1), at `oidc-provider`.

use tokenflight::oauth::OAuthError;
use tokenflight::source::SignedJwt;

use super::*;

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// What the server knows of the source's next token.
async fn introspected(provider: &Provider, source: impl TokenSource) -> serde_json::Value {
    let token = started(source).get().await.unwrap();
    provider.introspect(token.secret()).await
}

#[track_caller]
fn code(error: &TokenError) -> &str {
    &error.cause::<OAuthError>().unwrap_or_else(|| panic!("{error}")).code
}

#[actix::test]
async fn impersonation_gives_a_token_of_the_subject() {
    let provider = Arc::new(Provider::start());
    for client in
        [public(&provider), client(&provider, "exchange").secret("exchange-secret").build().unwrap()]
    {
        let source = client.token_exchange(idp(&provider, "alice")).subject_token_type(JWT).scope("api:read");
        let known = introspected(&provider, source.build().unwrap()).await;
        assert_eq!((&known["sub"], &known["scope"]), (&"alice".into(), &"api:read".into()));
        assert!(known.get("act").is_none(), "nobody acts for the subject");
    }
}

/// The subject is an access token of another source: two sources in a chain.
#[actix::test]
async fn the_token_of_another_client_is_exchanged() {
    let provider = Provider::start();
    let subject = client(&provider, "plain").secret("plain-secret").build().unwrap();
    let subject = subject.client_credentials().scope("api:read").build().unwrap();
    let source = public(&provider).token_exchange(subject).audience("api-two").build().unwrap();
    let known = introspected(&provider, source).await;
    assert_eq!((&known["sub"], &known["client_id"]), (&"plain".into(), &"public".into()));
    assert_eq!(known["aud"], "https://api.example/two");
    assert_eq!(provider.stats().await["by_client"], serde_json::json!({ "plain": 1, "public": 1 }));
}

#[actix::test]
async fn delegation_names_the_actor() {
    let provider = Arc::new(Provider::start());
    let source = public(&provider)
        .token_exchange(idp(&provider, "alice"))
        .subject_token_type(JWT)
        .actor(idp(&provider, "robot"))
        .actor_token_type(JWT);
    let known = introspected(&provider, source.build().unwrap()).await;
    assert_eq!((&known["sub"], &known["act"]["sub"]), (&"alice".into(), &"robot".into()));
}

/// A token of the type `N_A` is no access token: no header may carry it.
#[actix::test]
async fn a_token_that_is_no_access_token_is_refused() {
    let provider = Arc::new(Provider::start());
    let source = public(&provider)
        .token_exchange(idp(&provider, "alice"))
        .subject_token_type(JWT)
        .requested_token_type(JWT);
    let error = refused(source.build().unwrap()).await;
    assert!(error.is_rejected());
    assert!(error.to_string().contains("N_A"), "{error}");
    assert_eq!(provider.stats().await["ok"], 1, "the server had given it");
}

#[actix::test]
async fn an_unknown_audience_is_an_invalid_target() {
    let provider = Arc::new(Provider::start());
    let exchange = || public(&provider).token_exchange(idp(&provider, "alice")).subject_token_type(JWT);
    let error = refused(exchange().audience("nobody").build().unwrap()).await;
    assert!(error.is_rejected());
    assert_eq!(code(&error), "invalid_target");
    let error = refused(exchange().resource("https://api.example/three").build().unwrap()).await;
    assert_eq!(code(&error), "invalid_target");
    let error = refused(exchange().scope("api:admin").build().unwrap()).await;
    assert_eq!(code(&error), "invalid_scope");
    assert_eq!(provider.stats().await["token_calls"], 3, "none of them was tried again");
}

#[actix::test]
async fn a_failure_of_the_subject_names_the_subject() {
    let provider = Provider::start();
    let subject = client(&provider, "plain").secret("wrong").build().unwrap();
    let subject = subject.client_credentials().build().unwrap();
    let error = refused(public(&provider).token_exchange(subject).build().unwrap()).await;
    assert!(error.is_rejected());
    assert!(error.to_string().contains("the subject of the token exchange"), "{error}");
    assert_eq!(code(&error), "invalid_client");
}

#[actix::test]
async fn a_jwt_of_the_identity_provider_is_exchanged_in_each_flight() {
    let provider = Arc::new(Provider::start());
    let source = public(&provider).jwt_bearer(idp(&provider, "alice")).scope("api:write").build().unwrap();
    let handle = started(source);
    for _ in 0..3 {
        let token = handle.refresh().await.unwrap();
        let known = provider.introspect(token.secret()).await;
        assert_eq!((&known["sub"], &known["scope"]), (&"alice".into(), &"api:write".into()));
    }
    let stats = provider.stats().await;
    assert_eq!((&stats["ok"], &stats["errors"]), (&3.into(), &serde_json::json!({})));
}

/// An assertion is good for one time: one that is kept is refused at the second flight.
#[actix::test]
async fn an_assertion_that_is_sent_twice_is_refused() {
    let provider = Provider::start();
    let jwt = provider.idp_jwt("alice").await.0;
    let kept = source_fn(move |_cx| std::future::ready(Ok(Token::new(jwt.clone()))));
    let source = Arc::new(public(&provider).jwt_bearer(kept).build().unwrap());
    started(Arc::clone(&source)).get().await.unwrap();
    let error = refused(source).await;
    assert!(error.is_rejected());
    assert_eq!(code(&error), "invalid_grant");
}

#[actix::test]
async fn each_flight_signs_an_assertion_of_its_own() {
    let provider = Provider::start();
    let key = private_key(&provider.key_pem("ES384", "sec1").await);
    for audience in [provider.address("issuer"), provider.address("token_endpoint")] {
        let jwt = SignedJwt::builder(key.clone(), "jwt-es384", audience).subject("bob").build().unwrap();
        let client = client(&provider, "jwt-es384").private_key(key.clone()).build().unwrap();
        let handle = started(client.jwt_bearer(jwt).build().unwrap());
        for _ in 0..3 {
            let token = handle.refresh().await.unwrap();
            assert_eq!(provider.introspect(token.secret()).await["sub"], "bob");
        }
    }
    let stats = provider.stats().await;
    assert_eq!((&stats["ok"], &stats["errors"]), (&6.into(), &serde_json::json!({})));
}

/// Where the assertion alone is enough, a public client sends it (RFC 7523 section 3.1).
#[actix::test]
async fn an_assertion_alone_is_enough_where_the_server_says_so() {
    let provider = Arc::new(Provider::start());
    let client = Client::with_token_url(provider.address("assertion_endpoint"), "assertion-only");
    let client = client.public().build().unwrap();
    let known = introspected(&provider, client.jwt_bearer(idp(&provider, "alice")).build().unwrap()).await;
    assert_eq!((&known["sub"], &known["client_id"]), (&"alice".into(), &"assertion-only".into()));
}

#[test]
fn a_token_type_that_is_no_uri_is_refused_when_it_is_built() {
    let client = Client::builder("https://auth.example.com/token", "app").secret("hush").build().unwrap();
    let token = || source_fn(|_cx| async { Ok(Token::new("abc")) });
    let exchange = || client.token_exchange(token()).actor(token());
    exchange().subject_token_type("https://example.com/types/session").build().unwrap();
    for wrong in ["", "jwt", "access_token", " urn:ietf:params:oauth:token-type:jwt", "urn:a b"] {
        for (request, field) in [
            (exchange().subject_token_type(wrong), "subject_token_type"),
            (exchange().actor_token_type(wrong), "actor_token_type"),
            (exchange().requested_token_type(wrong), "requested_token_type"),
        ] {
            let error = request.build().map(drop).unwrap_err();
            assert_eq!(error.field(), field, "{wrong:?}: {error}");
        }
    }
}
