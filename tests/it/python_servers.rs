//! The sources against two further authorization servers: Authlib and `django-oauth-toolkit`.

use tokenflight::oauth::{Client, OAuthError};
use tokenflight::source::{ClientAuth, ClientCredentials, ClientCredentialsBuilder};
use tokenflight::{RefreshPolicy, TokenActor, TokenError, TokenHandle, TokenSource};

use crate::servers::PythonServer;
use crate::support::*;

fn both() -> [PythonServer; 2] {
    [PythonServer::authlib(), PythonServer::django()]
}

fn source(server: &PythonServer, id: &str, secret: &str) -> ClientCredentialsBuilder {
    ClientCredentials::builder(server.address("token_endpoint"), id, secret)
}

fn started(source: impl TokenSource) -> TokenHandle {
    // A new token need not settle: these servers know their own tokens at once.
    let policy = RefreshPolicy::default().attempts(1).settle(millis(0));
    TokenActor::builder(source).policy(policy).start().unwrap()
}

async fn refused(source: ClientCredentialsBuilder) -> TokenError {
    started(source.build().unwrap()).get().await.unwrap_err()
}

/// The client that the server finds behind the token.
async fn client_of(server: &PythonServer, source: ClientCredentialsBuilder) -> String {
    let token = started(source.build().unwrap()).get().await.unwrap();
    let introspected = server.introspect(token.secret()).await;
    assert_eq!(introspected["active"], true);
    introspected["client_id"].as_str().unwrap().to_owned()
}

#[actix::test]
async fn a_token_by_basic_is_good_and_costs_one_call() {
    for server in both() {
        let handle = started(source(&server, "plain", "plain-secret").scope("read").build().unwrap());
        let outcomes = futures_util::future::join_all((0..50).map(|_| handle.get())).await;
        let token = outcomes[0].as_ref().unwrap();
        assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().secret() == token.secret()));
        assert_eq!(token.scopes(), ["read"]);
        assert!(token.remaining().unwrap() <= secs(600));
        assert_eq!(server.stats().await["token_calls"], 1);
        let introspected = server.introspect(token.secret()).await;
        assert_eq!((&introspected["client_id"], &introspected["scope"]), (&"plain".into(), &"read".into()));
    }
}

#[actix::test]
async fn odd_characters_in_id_and_secret_arrive_by_basic() {
    for server in both() {
        let odd = source(&server, "odd:client", "s3cr%t+/:?&=");
        assert_eq!(client_of(&server, odd).await, "odd:client");
    }
}

#[actix::test]
async fn a_space_in_the_secret_arrives_by_basic() {
    for server in both() {
        // Authlib does not read "+" as a space, but "%20".
        let spaced = source(&server, "spaced", "a secret with spaces");
        assert_eq!(client_of(&server, spaced).await, "spaced");
    }
}

/// One client, two sources: by Basic without a setting, and in the body.
#[actix::test]
async fn the_sources_of_one_client_get_tokens_by_basic_and_in_the_body() {
    for server in both() {
        for (id, secret, method) in [
            ("spaced", "a secret with spaces", None),
            ("odd:client", "s3cr%t+/:?&=", Some(ClientAuth::Basic)),
            ("post", "post-secret+ %&=", Some(ClientAuth::Body)),
        ] {
            let mut client = Client::builder(server.address("token_endpoint"), id).secret(secret);
            if let Some(method) = method {
                client = client.auth_method(method);
            }
            let client = client.build().unwrap();
            for scope in ["read", "write"] {
                let token = started(client.client_credentials().scope(scope).build().unwrap()).get().await;
                let introspected = server.introspect(token.unwrap().secret()).await;
                assert_eq!((&introspected["client_id"], &introspected["scope"]), (&id.into(), &scope.into()));
            }
        }
    }
}

#[actix::test]
async fn the_code_of_a_refusal_is_found_by_its_type() {
    for server in both() {
        let at = |secret: &str| Client::builder(server.address("token_endpoint"), "plain").secret(secret);
        let wrong = at("wrong-secret").build().unwrap().client_credentials().build().unwrap();
        let error = started(wrong).get().await.unwrap_err();
        assert_eq!(error.cause::<OAuthError>().unwrap().code, "invalid_client", "{error}");
        let client = at("plain-secret").build().unwrap();
        let error = started(client.client_credentials().scope("admin").build().unwrap()).get().await;
        assert_eq!(error.unwrap_err().cause::<OAuthError>().unwrap().code, "invalid_scope");
    }
}

#[actix::test]
async fn id_and_secret_arrive_in_the_body() {
    for server in both() {
        let in_body = source(&server, "post", "post-secret+ %&=").auth_method(ClientAuth::Body);
        assert_eq!(client_of(&server, in_body).await, "post");
    }
}

#[actix::test]
async fn a_client_that_authlib_knows_by_its_body_is_refused_by_basic() {
    let server = PythonServer::authlib();
    let error = refused(source(&server, "post", "post-secret+ %&=").auth_method(ClientAuth::Basic)).await;
    assert!(error.is_rejected());
    assert!(error.to_string().contains("invalid_client"), "{error}");
}

#[actix::test]
async fn a_wrong_secret_is_refused_once() {
    for server in both() {
        for method in [ClientAuth::Basic, ClientAuth::Body] {
            let error = refused(source(&server, "post", "wrong-secret").auth_method(method)).await;
            assert!(error.is_rejected());
            assert!(error.to_string().contains("invalid_client"), "{error}");
            assert!(!error.to_string().contains("wrong-secret"), "{error}");
        }
        assert_eq!(server.stats().await["token_calls"], 2, "neither was tried again");
    }
}

#[actix::test]
async fn a_scope_that_is_not_known_is_refused_once() {
    for server in both() {
        let error = refused(source(&server, "plain", "plain-secret").scope("read admin")).await;
        assert!(error.is_rejected());
        assert!(error.to_string().contains("invalid_scope"), "{error}");
        assert_eq!(server.stats().await["token_calls"], 1);
    }
}
