//! Each proof of a client's identity, at `oidc-provider`.

use tokenflight::oauth::{Algorithm, ClientAuth, OAuthError, Preset};
use tokenflight::source::SignedJwt;

use super::*;

/// The client that the server finds behind a token by client credentials.
async fn client_of(provider: &Provider, client: &Client) -> String {
    let token = started(client.client_credentials().build().unwrap()).get().await.unwrap();
    let introspected = provider.introspect(token.secret()).await;
    assert_eq!(introspected["active"], true);
    introspected["client_id"].as_str().unwrap().to_owned()
}

#[actix::test]
async fn client_secret_basic_is_accepted() {
    let provider = Provider::start();
    for method in [None, Some(ClientAuth::Basic)] {
        let mut client = client(&provider, "basic client:1").secret("s3cr%t+ /:?&=");
        if let Some(method) = method {
            client = client.auth_method(method);
        }
        assert_eq!(client_of(&provider, &client.build().unwrap()).await, "basic client:1");
    }
}

#[actix::test]
async fn client_secret_post_is_accepted() {
    let provider = Provider::start();
    let client = client(&provider, "post").secret("post-secret+ %&=").auth_method(ClientAuth::Body);
    assert_eq!(client_of(&provider, &client.build().unwrap()).await, "post");
}

#[actix::test]
async fn client_secret_jwt_is_accepted() {
    let provider = Provider::start();
    let client = client(&provider, "secret-jwt")
        .secret("secret-jwt: a secret of more than thirty-two bytes")
        .auth_method(ClientAuth::ClientSecretJwt)
        .build()
        .unwrap();
    for _ in 0..3 {
        assert_eq!(client_of(&provider, &client).await, "secret-jwt");
    }
}

#[actix::test]
async fn private_key_jwt_is_accepted_by_each_algorithm_and_format() {
    let provider = Provider::start();
    for (algorithm, formats) in [
        (Algorithm::Es256, &["pkcs8", "sec1"][..]),
        (Algorithm::Es384, &["pkcs8", "sec1"]),
        (Algorithm::Ps256, &["pkcs8", "pkcs1"]),
        (Algorithm::Rs256, &["pkcs8", "pkcs1"]),
        (Algorithm::EdDsa, &["pkcs8"]),
    ] {
        for format in formats {
            let name = algorithm.as_str();
            let key = private_key(&provider.key_pem(name, format).await).with_algorithm(algorithm).unwrap();
            let id = format!("jwt-{}", name.to_ascii_lowercase());
            let by_issuer = client(&provider, &id).private_key(key.clone()).build().unwrap();
            assert_eq!(client_of(&provider, &by_issuer).await, id, "{name} {format}");
            let by_url = Client::builder(provider.address("token_endpoint"), &id).private_key(key);
            assert_eq!(client_of(&provider, &by_url.build().unwrap()).await, id, "{name} {format} by URL");
        }
    }
}

#[actix::test]
async fn private_key_jwt_from_a_file_is_accepted() {
    let (provider, folder) = (Provider::start(), Folder::new());
    let key = provider.key_pem("PS256", "pkcs1").await;
    let client = client(&provider, "jwt-ps256")
        .private_key_file(folder.write("key.pem", &key.pem))
        .key_id(key.kid)
        .algorithm(Algorithm::Ps256);
    assert_eq!(client_of(&provider, &client.build().unwrap()).await, "jwt-ps256");
}

#[actix::test]
async fn a_key_of_another_client_is_refused() {
    let provider = Provider::start();
    let key = private_key(&provider.key_pem("ES256", "pkcs8").await);
    let client = client(&provider, "jwt").private_key(key).build().unwrap();
    let error = refused(client.client_credentials().build().unwrap()).await;
    assert!(error.is_rejected());
    assert_eq!(error.cause::<OAuthError>().unwrap().code, "invalid_client");
}

/// The server that follows the draft rfc7523bis takes the issuer as the only audience, and one `typ`.
#[actix::test]
async fn an_assertion_is_by_default_as_the_draft_asks_for() {
    let provider = Provider::start();
    let key = private_key(&provider.key_pem("ES256", "sec1").await);
    let strict = || client(&provider, "jwt-strict").private_key(key.clone());
    assert_eq!(client_of(&provider, &strict().build().unwrap()).await, "jwt-strict");
    let at_url = Client::builder(provider.address("token_endpoint"), "jwt-strict").private_key(key.clone());
    let with_issuer = at_url.clone().audience(provider.address("issuer"));
    assert_eq!(client_of(&provider, &with_issuer.build().unwrap()).await, "jwt-strict");
    for other in [at_url, strict().preset(Preset::Okta), strict().audience("https://other.example")] {
        let error = refused(other.build().unwrap().client_credentials().build().unwrap()).await;
        assert_eq!(error.cause::<OAuthError>().unwrap().code, "invalid_client", "{error}");
    }
}

/// The assertion of somebody else: here one that another source signs.
#[actix::test]
async fn an_assertion_of_another_source_is_accepted() {
    let provider = Provider::start();
    let key = private_key(&provider.key_pem("ES256", "pkcs8").await);
    let jwt = SignedJwt::builder(key, "jwt-es256", provider.address("issuer"));
    let client = client(&provider, "jwt-es256").assertion(jwt.build().unwrap()).build().unwrap();
    for _ in 0..3 {
        assert_eq!(client_of(&provider, &client).await, "jwt-es256");
    }
}

#[actix::test]
async fn an_assertion_from_a_file_is_good_for_one_token_at_this_server() {
    let (provider, folder) = (Provider::start(), Folder::new());
    let key = private_key(&provider.key_pem("ES256", "pkcs8").await);
    let jwt = SignedJwt::builder(key, "jwt-es256", provider.address("issuer")).build().unwrap();
    let fetch = || jwt.fetch(tokenflight::FetchContext::new(tokenflight::Reason::First));
    let file = folder.write("assertion", &format!("{}\n", fetch().await.unwrap().secret()));
    let client = client(&provider, "jwt-es256").assertion_file(file).build().unwrap();
    assert_eq!(client_of(&provider, &client).await, "jwt-es256");
    let error = refused(client.client_credentials().build().unwrap()).await;
    assert_eq!(error.cause::<OAuthError>().unwrap().code, "invalid_client");
    folder.replace("assertion", fetch().await.unwrap().secret());
    assert_eq!(client_of(&provider, &client).await, "jwt-es256");
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod tls {
    use tokenflight::oauth::Certificate;

    use super::*;
    use crate::servers::tls::Tls;

    /// A client with a certificate, which trusts the server's authority.
    fn client_with(address: &str, id: &str, tls: &Tls, certificate: Certificate) -> ClientBuilder {
        let authority = reqwest::Certificate::from_pem(tls.ca_pem.as_bytes()).unwrap();
        Client::builder(address, id)
            .certificate(certificate)
            .http(move |http| http.add_root_certificate(authority.clone()))
    }

    async fn bound_to(provider: &Provider, client: Client) -> (String, String) {
        let token = started(client.client_credentials().build().unwrap()).get().await.unwrap();
        let introspected = provider.introspect(token.secret()).await;
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&introspected["client_id"]), text(&introspected["cnf"]["x5t#S256"]))
    }

    #[actix::test]
    async fn a_certificate_is_accepted_at_the_alias_of_discovery() {
        let (provider, folder) = (Provider::start(), Folder::new());
        let tls = provider.tls().await;
        let issuer = provider.address("issuer");
        for (id, method) in
            [("tls-pki", ClientAuth::TlsClientAuth), ("tls-self-signed", ClientAuth::SelfSignedTlsClientAuth)]
        {
            let own = tls.client(id);
            let pem = own.cert_pem.clone() + &own.key_pem;
            let from_pem = client_with(issuer, id, &tls, Certificate::from_pem(&pem)).auth_method(method);
            let (found, first) = bound_to(&provider, from_pem.build().unwrap()).await;
            assert_eq!(found, id);
            let paths = (folder.write("cert.pem", &own.cert_pem), folder.write("key.pem", &own.key_pem));
            let files = Certificate::from_files(paths.0, paths.1);
            let from_files = client_with(issuer, id, &tls, files).auth_method(method).build().unwrap();
            assert_eq!(bound_to(&provider, from_files).await, (found, first), "the same certificate");
            let at_url = Certificate::from_pem(pem);
            let at_url = client_with(&tls.token_endpoint, id, &tls, at_url).auth_method(method);
            assert_eq!(bound_to(&provider, at_url.build().unwrap()).await.0, id);
        }
    }

    #[actix::test]
    async fn a_certificate_of_another_client_is_refused() {
        let provider = Provider::start();
        let tls = provider.tls().await;
        let own = tls.client("tls-self-signed");
        let foreign = Certificate::from_pem(own.cert_pem + &own.key_pem);
        let client = client_with(provider.address("issuer"), "tls-pki", &tls, foreign).build().unwrap();
        let error = refused(client.client_credentials().build().unwrap()).await;
        assert!(error.is_rejected());
        assert_eq!(error.cause::<OAuthError>().unwrap().code, "invalid_client");
    }
}

#[actix::test]
async fn a_resource_is_the_audience_of_the_token() {
    let provider = Provider::start();
    let client = client(&provider, "plain").secret("plain-secret").build().unwrap();
    for (resource, lifetime) in [("https://api.example/one", 600), ("https://api.example/two", 2)] {
        let token =
            started(client.client_credentials().resource(resource).build().unwrap()).get().await.unwrap();
        assert!(token.remaining().unwrap() <= secs(lifetime), "{resource}");
        assert_eq!(provider.introspect(token.secret()).await["aud"], resource);
    }
    let both =
        client.client_credentials().resource("https://api.example/one").resource("https://api.example/two");
    let error = refused(both.build().unwrap()).await;
    assert_eq!(error.cause::<OAuthError>().unwrap().code, "invalid_target");
}

#[actix::test]
async fn a_public_client_has_no_client_credentials() {
    let provider = Provider::start();
    let error = public(&provider).client_credentials().build().unwrap_err();
    assert_eq!(error.field(), "client_secret");
    assert_eq!(provider.stats().await["token_calls"], 0);
}
