//! A private key or a certificate from a user.

use std::sync::LazyLock;

use serde_json::json;

use super::{LONGEST_ERROR, MARKS, assert_hides};
use crate::error::BuildError;
use crate::oauth::jws::verify::verify;
use crate::oauth::jws::{Algorithm, Header, KeyHint, PrivateKey, SigningKey};

/// A key for tests only. The corpus has its certificate.
const OWN: &str = include_str!("../oauth/jws/tests/keys/p256.pem");

static OWN_KEY: LazyLock<Option<PrivateKey>> = LazyLock::new(|| PrivateKey::from_pem(OWN).ok());

/// A PEM text: no error quotes it, and an accepted key makes signatures that its public key verifies.
pub fn pem(data: &[u8]) {
    match PrivateKey::from_pem(data) {
        Ok(key) => {
            sign(&key);
            if let Err(error) = key.with_certificate(data) {
                assert_quotes_nothing(&error);
            }
        }
        Err(error) => assert_quotes_nothing(&error),
    }
    let own = OWN_KEY.clone().expect("the throwaway is a key");
    match own.with_certificate(data) {
        Ok(key) => sign(&key),
        Err(error) => assert_quotes_nothing(&error),
    }
}

fn sign(key: &PrivateKey) {
    let shown = format!(r#"PrivateKey {{ algorithm: "{}", kid: None, .. }}"#, key.algorithm().as_str());
    assert_eq!(format!("{key:?}"), shown);
    assert_eq!(key.thumbprint().len(), 43, "256 bits in Base64url");
    let claims = json!({ "iss": "client" });
    let all = [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa, Algorithm::Rs256, Algorithm::Ps256];
    for algorithm in all {
        match key.clone().with_algorithm(algorithm) {
            Ok(key) => {
                let header = Header { typ: Some("JWT"), key: KeyHint::Name };
                let jws = SigningKey::Private(key.clone()).sign(header, &claims).expect("it signs");
                let (header, verified) = verify(&key.public_jwk(), &jws).expect("it verifies");
                assert_eq!((&header["alg"], verified), (&algorithm.as_str().into(), claims.clone()));
            }
            Err(error) => assert_quotes_nothing(&error),
        }
    }
}

/// The whole text is secret, including the names of its sections.
#[track_caller]
fn assert_quotes_nothing(error: &BuildError) {
    let text = error.to_string();
    assert!(!text.contains(|char: char| char.is_control()), "{text:?}");
    assert!(text.len() <= LONGEST_ERROR, "{} bytes", text.len());
    assert_hides(error, &MARKS);
}
