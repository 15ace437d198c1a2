//! Checks by plain requests that the servers behave as the tests require.

use super::*;

#[actix::test]
async fn each_key_comes_in_its_formats() {
    let provider = Provider::start();
    for (alg, formats) in [
        ("ES256", [("pkcs8", "PRIVATE"), ("sec1", "EC PRIVATE")]),
        ("ES384", [("pkcs8", "PRIVATE"), ("sec1", "EC PRIVATE")]),
        ("PS256", [("pkcs8", "PRIVATE"), ("pkcs1", "RSA PRIVATE")]),
        ("RS256", [("pkcs8", "PRIVATE"), ("pkcs1", "RSA PRIVATE")]),
        ("EdDSA", [("pkcs8", "PRIVATE"); 2]),
    ] {
        for (format, heading) in formats {
            let key = provider.key_pem(alg, format).await;
            assert!(key.pem.starts_with(&format!("-----BEGIN {heading} KEY-----")), "{alg} {format}");
            assert_eq!(key.public_jwk["kid"], key.kid.as_str());
            assert!(key.public_jwk.get("d").is_none(), "the private part is not handed to a verifier");
        }
    }
}

#[actix::test]
async fn jwcrypto_tells_a_good_signature_from_a_bad_one() {
    let provider = Provider::start();
    let (jwt, public_jwk) = provider.idp_jwt("alice").await;
    let (header, claims) = verified_by_jwcrypto(&jwt, &public_jwk).expect("a good signature");
    assert_eq!(header["alg"], "ES256");
    assert_eq!(claims["sub"], "alice");
    let other = provider.key_pem("ES256", "pkcs8").await;
    assert!(verified_by_jwcrypto(&jwt, &other.public_jwk).is_none());
}

#[actix::test]
async fn an_assertion_is_good_for_one_token() {
    let provider = Provider::start();
    let (jwt, _) = provider.idp_jwt("alice").await;
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let fields = [("grant_type", grant), ("client_id", "public"), ("assertion", jwt.as_str())];
    let request = form(&reqwest::Client::new(), provider.address("token_endpoint"), &fields);
    let answer = read(request.try_clone().unwrap()).await;
    let introspected = provider.introspect(&text(&answer["access_token"])).await;
    assert_eq!(introspected["sub"], "alice");
    assert_eq!(request.send().await.unwrap().status(), 400);
    assert_eq!(provider.stats().await["errors"]["invalid_grant"], 1);
}

#[actix::test]
async fn a_token_is_exchanged_for_one_with_an_actor() {
    let provider = Provider::start();
    let (subject, actor) = (provider.idp_jwt("alice").await.0, provider.idp_jwt("robot").await.0);
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    let mut fields = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("client_id", "public"),
        ("subject_token", &subject),
        ("subject_token_type", jwt),
        ("actor_token", &actor),
        ("actor_token_type", jwt),
        ("audience", "api-two"),
    ];
    let client = reqwest::Client::new();
    let answer = read(form(&client, provider.address("token_endpoint"), &fields)).await;
    assert_eq!(answer["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    let introspected = provider.introspect(&text(&answer["access_token"])).await;
    assert_eq!(introspected["sub"], "alice");
    assert_eq!(introspected["act"]["sub"], "robot");
    assert_eq!(introspected["aud"], "https://api.example/two");
    fields.pop();
    fields.push(("audience", "nobody"));
    form(&client, provider.address("token_endpoint"), &fields).send().await.unwrap();
    assert_eq!(provider.stats().await["errors"], json!({ "invalid_target": 1 }));
}

#[actix::test]
async fn the_discovery_document_names_issuer_and_token_endpoint() {
    let provider = Provider::start();
    let document = provider.discovery().await;
    for name in ["issuer", "token_endpoint"] {
        assert_eq!(document[name], provider.address(name));
    }
}
