//! Keys, and the proofs that they make.

use serde_json::{Value, json};

use super::*;
use crate::oauth::jws::verify::verify;
use crate::token::TokenType;

mod jose;

const P256: &str = include_str!("../jws/tests/keys/p256.pem");
const RSA: &str = include_str!("../jws/tests/keys/rsa.pem");
const ED25519: &str = include_str!("../jws/tests/keys/ed25519.pem");

fn bound(key: &DpopKey) -> Token {
    key.bind(Token::new("s3cret-token").with_type(TokenType::DPoP))
}

fn applied(token: &Token, method: &Method, uri: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    token.apply(method, &uri.parse().unwrap(), &mut headers).unwrap();
    headers
}

/// The header and the claims of a proof that its own key verifies.
#[track_caller]
fn read(headers: &HeaderMap) -> (Value, Value) {
    let proof = headers["dpop"].to_str().unwrap();
    let (head, _) = proof.split_once('.').unwrap();
    let head: Value =
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(head).unwrap())
            .unwrap();
    verify(&head["jwk"], proof).expect("a good signature")
}

fn nonce(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(nonce::DPOP_NONCE, value.parse().unwrap())])
}

#[test]
fn a_proof_names_the_request_and_the_token() {
    for pem in [P256, RSA, ED25519] {
        let key = DpopKey::from_pem(pem).unwrap();
        let headers = applied(&bound(&key), &Method::POST, "HTTPS://API.example:443/a/../b?c=d");
        assert_eq!(headers["authorization"], "DPoP s3cret-token");
        assert!(headers["dpop"].is_sensitive() && headers["authorization"].is_sensitive());
        let (header, claims) = read(&headers);
        let jwk = PrivateKey::from_pem(pem).unwrap().public_jwk();
        assert_eq!(header, json!({ "typ": "dpop+jwt", "alg": key.algorithm().as_str(), "jwk": jwk }));
        assert_eq!((&claims["htm"], &claims["htu"]), (&json!("POST"), &json!("https://api.example/b")));
        // Computed by `printf s3cret-token | openssl dgst -sha256 -binary | base64`.
        assert_eq!(claims["ath"], jws::sha256(b"s3cret-token"));
        assert!(claims["iat"].as_u64().unwrap() > 1_700_000_000);
        assert_eq!(claims["jti"].as_str().unwrap().len(), 22, "128 bits in Base64url");
        assert_eq!(claims.as_object().unwrap().len(), 5, "{claims}");
    }
}

#[test]
fn each_proof_has_an_id_of_its_own_and_the_last_nonce() {
    let token = bound(&DpopKey::generate().unwrap());
    let uri = "https://api.example/a";
    let id = |headers: &HeaderMap| read(headers).1["jti"].as_str().unwrap().to_owned();
    let ids: std::collections::HashSet<_> =
        (0..200).map(|_| id(&applied(&token, &Method::GET, uri))).collect();
    assert_eq!(ids.len(), 200);
    assert!(token.learn(&uri.parse().unwrap(), &nonce("n1")));
    let clone = token.clone().with_scopes(["read"]).replica();
    assert_eq!(read(&applied(&clone, &Method::GET, "https://API.example:443/other")).1["nonce"], "n1");
    assert_eq!(read(&applied(&token, &Method::GET, "https://api.example:444/a")).1["nonce"], Value::Null);
    assert!(!token.learn(&"/relative".parse().unwrap(), &nonce("n1")));
}

#[test]
fn a_token_keeps_the_key_that_it_was_asked_for_with() {
    let (old, new) = (DpopKey::generate().unwrap(), DpopKey::generate().unwrap());
    for key in [&old, &new] {
        let headers = applied(&bound(key), &Method::GET, "https://api.example/");
        let (header, _) = read(&headers);
        let (x, y) = (header["jwk"]["x"].as_str().unwrap(), header["jwk"]["y"].as_str().unwrap());
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        assert_eq!(jws::sha256(jwk.as_bytes()), key.thumbprint());
    }
    assert_ne!(old.thumbprint(), new.thumbprint());
}

#[test]
fn a_bound_token_is_never_sent_as_another() {
    let token = bound(&DpopKey::generate().unwrap());
    let uri = Uri::from_static("https://api.example/");
    // The key is lost with the type, and does not come back with it.
    let without = token.clone().with_type(TokenType::Bearer).with_type(TokenType::DPoP);
    let by_hand = Token::new("s3cret-token").with_type(TokenType::DPoP);
    for token in [without, by_hand] {
        let mut headers = HeaderMap::new();
        let error = token.apply(&Method::GET, &uri, &mut headers).unwrap_err();
        assert!(error.to_string().contains("the key is not here"), "{error}");
        assert!(headers.is_empty());
    }
    for (uri, why) in [("/orders", "an absolute URI"), ("*", "an absolute URI")] {
        let mut headers = HeaderMap::new();
        let error = token.apply(&Method::GET, &uri.parse().unwrap(), &mut headers).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(headers.is_empty());
    }
}

#[test]
fn a_key_and_its_tokens_show_nothing_of_the_key() {
    let key = DpopKey::generate().unwrap();
    let shown = format!(r#"DpopKey {{ algorithm: "ES256", thumbprint: "{}", .. }}"#, key.thumbprint());
    assert_eq!(format!("{key:?}"), shown);
    let pem = key.generated().unwrap();
    let body = pem.lines().nth(1).unwrap();
    let token = bound(&key);
    let headers = applied(&token, &Method::GET, "https://api.example/");
    let shown = format!("{token:?} {headers:?} {:?} {:?}", setting::DpopSetting::Key(key.clone()), key);
    let proof = headers["dpop"].to_str().unwrap();
    for secret in [body, proof, "s3cret-token"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(DpopKey::from_pem(P256).unwrap().generated().is_none(), "a key of the user's is kept nowhere");
    let again = DpopKey::found(pem).unwrap();
    assert_eq!((again.thumbprint(), again.generated()), (key.thumbprint(), Some(pem)));
    let error = DpopKey::from_pem_file("/no/such/file.pem").unwrap_err();
    assert_eq!(error.field(), "dpop");
}

#[test]
fn the_setting_is_read_from_a_file_and_quotes_nothing() {
    let read = |value: Value| serde_json::from_value::<setting::DpopSetting>(value);
    let key = read(json!("generate")).unwrap().open().unwrap();
    assert!(key.generated().is_some());
    for (value, why) in [
        (json!("s3cret"), "neither"),
        (json!(4711), "expected for `dpop` \"generate\""),
        (json!(["s3cret"]), "expected for `dpop` \"generate\""),
        (json!({}), "missing field `key_file`"),
        (json!({ "keys": "s3cret" }), "unknown field `keys`"),
        (json!({ "key_file": "a", "algorithm": "none" }), "unknown variant"),
    ] {
        let error = read(value).unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains("s3cret"), "{error}");
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/oauth/jws/tests/keys/");
    let file = |name: &str, algorithm: &str| {
        read(json!({ "key_file": format!("{folder}{name}"), "algorithm": algorithm })).unwrap().open()
    };
    assert_eq!(file("rsa.pem", "PS256").unwrap().algorithm(), Algorithm::Ps256);
    let error = file("rsa.pem", "ES256").unwrap_err();
    assert_eq!(error.field(), "dpop");
    assert!(error.to_string().contains("ES256"), "{error}");
    assert_eq!(file("no_such.pem", "ES256").unwrap_err().field(), "dpop");
}
