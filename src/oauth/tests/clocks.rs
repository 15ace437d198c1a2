//! A client whose clock differs from that of its server.

use super::*;

/// A client with a secret at a server that is found by its issuer.
async fn discovered(methods: Value) -> (FakeAuthServer, Client) {
    let server = FakeAuthServer::start().await.unwrap();
    let document = json!({
        "issuer": server.base_url(),
        "token_endpoint": server.url(),
        "token_endpoint_auth_methods_supported": methods,
    });
    server.then(Reply::json(200, document.to_string()));
    let client = Client::with_issuer(server.base_url(), "app").secret(LONG_SECRET).build().unwrap();
    (server, client)
}

/// The name that a fleet has for the credential.
fn credential(client: &Client) -> Vec<u8> {
    let mut all = Vec::new();
    client.credential(&mut |part| all.extend_from_slice(part));
    all
}

#[tokio::test]
async fn a_method_that_the_document_chooses_has_a_time_in_its_proof_too() {
    let (server, client) = discovered(json!(["client_secret_jwt"])).await;
    let without_a_time = credential(&client).len();
    let source = client.client_credentials().build().unwrap();
    server.then(ahead(401, &json!({ "error": "invalid_client" }))).then(good());
    let error = fetch(&source).await.unwrap_err();
    assert!(!error.is_terminal(), "the next assertion is right: {error}");
    assert_eq!(credential(&client).len(), without_a_time + 8, "a fleet knows it by its minute");
    assert_eq!(fetch(&source).await.unwrap().secret(), "a9");
    server.then(ahead(401, &json!({ "error": "invalid_client" })));
    assert!(fetch(&source).await.unwrap_err().is_terminal(), "the clock is known by now");

    let (server, client) = discovered(json!(["client_secret_post"])).await;
    server.then(ahead(401, &json!({ "error": "invalid_client" })));
    let source = client.client_credentials().build().unwrap();
    assert!(fetch(&source).await.unwrap_err().is_terminal(), "a secret has no time");
    assert_eq!(credential(&client).len(), without_a_time);
}

#[cfg(feature = "registry")]
#[tokio::test]
async fn a_key_s_own_client_is_known_by_its_minute_too() {
    use crate::source::KeyedSource;
    let (server, base) = discovered(json!(["client_secret_jwt"])).await;
    let issuer = server.base_url();
    let source = base.client_credentials().for_key(move |_: &u32, request| {
        request.by_client(Client::with_issuer(issuer.clone(), "app").secret(LONG_SECRET))
    });
    let source = source.unwrap();
    let length = || {
        let mut all = 0;
        source.credential(&1, &mut |part| all += part.len());
        all
    };
    let without_a_time = length();
    server.then(good());
    source.fetch(&1, FetchContext::new(Reason::First)).await.unwrap();
    assert_eq!(length(), without_a_time + 8);
}
