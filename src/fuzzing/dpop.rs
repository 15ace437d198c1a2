//! The URI of a request, and an API's answer to a token that is bound to a key.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::Value;

use crate::oauth::jws::verify::verify;
use crate::oauth::{DpopKey, PrivateKey};
use crate::token::Token;

/// A key for tests only.
const OWN: &str = include_str!("../oauth/jws/tests/keys/p256.pem");

static OWN_KEY: LazyLock<Option<PrivateKey>> = LazyLock::new(|| PrivateKey::from_pem(OWN).ok());

const LONGEST_NONCE: usize = 512;

/// A URI on the first line, and an answer's headers on the others. A proof contains the URI in its normal form. The
/// normal form is a URI, and normalising it again, or with a query, gives the same form. A nonce in the proof is
/// one of the answer's, unchanged.
pub fn dpop(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return };
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..at]);
        let value = HeaderValue::from_bytes(line[at + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let key = OWN_KEY.clone().expect("the throwaway is a key");
    let token = DpopKey::from_key(key).expect("a key").bind(Token::new("s3cret"));
    let Some(claims) = proved(&token, &uri) else {
        assert!(!token.learn(&uri, &headers), "of an address that has no proof");
        return;
    };
    assert!(claims["nonce"].is_null());
    let htu = claims["htu"].as_str().expect("a text");
    assert!(
        !htu.contains(['?', '#', '@', ' '])
            || htu.split_once("://").is_some_and(|(_, rest)| {
                // A path may contain an `@`.
                !rest.contains(['?', '#', ' ']) && !rest.split('/').next().unwrap_or_default().contains('@')
            }),
        "{htu}"
    );
    let again: Uri = htu.parse().expect("the normal form is a URI");
    assert_eq!(proved(&token, &again).expect("it is absolute")["htu"], htu);

    let is_of_use = token.learn(&uri, &headers);
    let next = proved(&token, &uri).expect("as before");
    match next["nonce"].as_str() {
        Some(nonce) => {
            assert!(is_of_use && !nonce.is_empty() && nonce.len() <= LONGEST_NONCE);
            assert!(headers.get_all("dpop-nonce").iter().all(|value| value == nonce));
        }
        None => assert!(!is_of_use),
    }
    assert_eq!(next["htu"], htu);
    assert_ne!(next["jti"], claims["jti"]);
}

/// The claims of a proof that verifies.
fn proved(token: &Token, uri: &Uri) -> Option<Value> {
    let mut headers = HeaderMap::new();
    if let Err(error) = token.apply(&Method::GET, uri, &mut headers) {
        assert!(headers.is_empty() && !error.to_string().contains("s3cret"));
        return None;
    }
    let key = OWN_KEY.as_ref().expect("the throwaway is a key");
    let (header, claims) =
        verify(&key.public_jwk(), headers["dpop"].to_str().expect("text")).expect("it verifies");
    assert_eq!(header["typ"], "dpop+jwt");
    Some(claims)
}
