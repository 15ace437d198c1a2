//! The issuer's document: its required contents, and how often it is read.

use std::sync::Mutex;

use serde_json::{Value, json};
use tokenflight::{FetchContext, Reason};

use super::loopback::{Loopback, Reply};
use super::*;

#[actix::test]
async fn the_issuer_is_enough_to_find_the_endpoint() {
    let provider = Provider::start();
    let client = client(&provider, "plain").secret("plain-secret").build().unwrap();
    let handle = started(client.client_credentials().scope("api:read").build().unwrap());
    let token = handle.get().await.unwrap();
    assert_eq!(token.scopes(), ["api:read"]);
    assert_eq!(provider.introspect(token.secret()).await["client_id"], "plain");
}

#[actix::test]
async fn another_spelling_of_the_issuer_is_refused_with_both() {
    let provider = Provider::start();
    let issuer = provider.address("issuer");
    for wrong in [format!("{issuer}/"), issuer.replace("http:", "HTTP:")] {
        let client = Client::with_issuer(&wrong, "plain").secret("plain-secret").build().unwrap();
        let error = refused(client.client_credentials().build().unwrap()).await;
        assert!(error.is_rejected());
        let text = error.to_string();
        assert!(text.contains(&format!("{issuer:?}")) && text.contains(&format!("{wrong:?}")), "{text}");
    }
    assert_eq!(provider.stats().await["token_calls"], 0, "nothing was sent to the token endpoint");
}

/// A server whose document says more than where its endpoint is. It gives no tokens.
fn offering(more: Value) -> Loopback {
    Loopback::start(move |origin, question| {
        assert!(question.path.starts_with("/.well-known/"), "{} was asked", question.path);
        let mut document = json!({ "issuer": origin, "token_endpoint": format!("{origin}/token") });
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Reply::json(200, document)
    })
}

#[actix::test]
async fn what_the_server_does_not_offer_is_not_asked_for() {
    let server = offering(json!({ "token_endpoint_auth_methods_supported": ["private_key_jwt"] }));
    let client = Client::builder(server.origin(), "plain").secret("plain-secret").build().unwrap();
    let error = refused(client.client_credentials().build().unwrap()).await;
    assert!(error.is_rejected());
    assert!(error.to_string().contains("`auth_method`"), "{error}");
}

#[actix::test]
async fn an_algorithm_that_the_server_does_not_offer_is_named() {
    let provider = Provider::start();
    let key = private_key(&provider.key_pem("ES256", "pkcs8").await);
    let server = offering(json!({
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["PS256"],
    }));
    let client = Client::builder(server.origin(), "jwt-es256").private_key(key).build().unwrap();
    let error = refused(client.client_credentials().build().unwrap()).await;
    let text = error.to_string();
    assert!(text.contains("`algorithm`") && text.contains("PS256") && text.contains("ES256"), "{text}");
}

/// A client with a secret uses what the document offers, without a setting.
#[actix::test]
async fn the_document_chooses_how_a_secret_is_sent() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let server = Loopback::start({
        let sent = Arc::clone(&sent);
        move |origin, question| {
            if question.path != "/token" {
                let methods = ["private_key_jwt", "client_secret_post"];
                let endpoint = format!("{origin}/token");
                return Reply::json(
                    200,
                    json!({ "issuer": origin, "token_endpoint": endpoint,
                            "token_endpoint_auth_methods_supported": methods }),
                );
            }
            let field = |name| question.field(name).map(ToOwned::to_owned);
            sent.lock().unwrap().push((
                question.header("authorization").is_some(),
                field("client_id"),
                field("client_secret"),
            ));
            Reply::json(200, json!({ "access_token": "token-1", "token_type": "Bearer", "expires_in": 3600 }))
        }
    });
    let client = Client::builder(server.origin(), "plain").secret("plain-secret").build().unwrap();
    started(client.client_credentials().build().unwrap()).get().await.unwrap();
    let expected = (false, Some("plain".to_owned()), Some("plain-secret".to_owned()));
    assert_eq!(*sent.lock().unwrap(), [expected]);
}

#[actix::test]
async fn fifty_first_fetches_of_two_sources_read_the_document_once() {
    let provider = Provider::start();
    let reads = Arc::new(AtomicUsize::new(0));
    // The document of this server names the endpoint of the real one.
    let server = Loopback::start({
        let (reads, endpoint) = (Arc::clone(&reads), provider.address("token_endpoint").to_owned());
        move |origin, _| {
            reads.fetch_add(1, Ordering::Relaxed);
            Reply::json(200, json!({ "issuer": origin, "token_endpoint": endpoint }))
        }
    });
    let client = Client::builder(server.origin(), "plain").secret("plain-secret").build().unwrap();
    let read = client.client_credentials().scope("api:read").build().unwrap();
    let write = client.client_credentials().scope("api:write").build().unwrap();
    let fetches = (0..50).map(|n| {
        let source = if n % 2 == 0 { &read } else { &write };
        source.fetch(FetchContext::new(Reason::First))
    });
    let outcomes = futures_util::future::join_all(fetches).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    assert_eq!(provider.stats().await["by_client"]["plain"], 50);
}
