//! A server that does not rotate: RFC 6749 section 6, an answer without a refresh token keeps the old one.

use super::*;

#[tokio::test]
async fn an_answer_that_is_refused_keeps_the_refresh_token_of_a_server_that_does_not_rotate() {
    let server = FakeAuthServer::start().await.unwrap();
    let cases = [
        ("Bearer", true, "the scope \"write\"", client(&server)),
        ("mac", false, "\"mac\"", client(&server)),
        #[cfg(feature = "dpop")]
        ("Bearer", false, "is bound to a key", {
            let client = Client::builder(server.url(), "app").secret("s3cret");
            client.dpop(super::super::DpopKey::generate().unwrap()).build().unwrap()
        }),
    ];
    for (kind, required, what, client) in cases {
        let vault = MemoryVault::new();
        let grant = client.refresh_token(vault.clone()).login("refresh-1").scope("x write");
        let source = grant.require_scopes(required).build().unwrap();
        let answer = |kind: &str, scope: &str| {
            let answer = json!({ "access_token": "a9", "token_type": kind, "scope": scope });
            Reply::json(200, answer.to_string())
        };
        let before = server.asked().len();
        server.then(answer(kind, "x"));
        let error = fetch(&source).await.unwrap_err();
        assert!(error.cause::<NeedsLogin>().is_none() && !error.is_ambiguous(), "{what}: {error}");
        assert!(error.to_string().contains(what), "{what}: {error}");
        assert_eq!(stored(&vault).await, ("refresh-1".to_owned(), State::Idle), "{what}");
        let kind = if what.contains("bound") { "DPoP" } else { "Bearer" };
        server.then(answer(kind, "x write"));
        assert_eq!(fetch(&source).await.expect(what).secret(), "a9");
        assert_eq!(received(&server)[before..], ["refresh-1", "refresh-1"], "{what}");
    }
}

/// Whether the server keeps the old refresh token is not known from such an answer.
#[tokio::test]
async fn an_answer_without_an_access_token_has_used_the_refresh_token() {
    let server = FakeAuthServer::start().await.unwrap();
    for answer in [
        json!({ "odd": true }),
        json!({ "access_token": "" }),
        json!({ "access_token": 7 }),
        json!({ "access_token": "a9", "token_type": "mac", "refresh_token": 7 }),
    ] {
        let vault = MemoryVault::new();
        server.then(Reply::json(200, answer.to_string()));
        let error = fetch(&rotating(&client(&server), &vault)).await.unwrap_err();
        assert!(error.cause::<NeedsLogin>().is_some(), "{answer}: {error}");
        assert!(matches!(stored(&vault).await.1, State::Dead { .. }), "{answer}");
    }
}
