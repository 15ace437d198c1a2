//! A public key as a JWK (RFC 7517), and its thumbprint (RFC 7638).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The required members of a public key, and no others (RFC 7638 section 3.2).
pub(super) struct PublicJwk(Vec<(&'static str, String)>);

impl PublicJwk {
    /// RFC 7518 section 6.2.1.
    pub(super) fn ec(curve: &str, x: &[u8], y: &[u8]) -> Self {
        Self(vec![("crv", curve.into()), ("kty", "EC".into()), ("x", encode(x)), ("y", encode(y))])
    }

    /// RFC 7518 section 6.3.1. Both numbers come without leading zeros.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Self {
        Self(vec![("e", encode(exponent)), ("kty", "RSA".into()), ("n", encode(modulus))])
    }

    /// RFC 8037 section 2.
    pub(super) fn ed25519(x: &[u8]) -> Self {
        Self(vec![("crv", "Ed25519".into()), ("kty", "OKP".into()), ("x", encode(x))])
    }

    pub(super) fn to_value(&self) -> Value {
        let member = |(name, value): &(&str, String)| ((*name).to_owned(), Value::from(value.as_str()));
        Value::Object(self.0.iter().map(member).collect::<Map<_, _>>())
    }

    /// RFC 7638 section 3: the hash of the members in alphabetical order, without white space. No value has a character
    /// that JSON would escape.
    pub(super) fn thumbprint(&self) -> String {
        let members: Vec<_> = self.0.iter().map(|(name, value)| format!(r#""{name}":"{value}""#)).collect();
        sha256(format!("{{{}}}", members.join(",")).as_bytes())
    }
}

/// SHA-256 in Base64url.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    encode(digest(&SHA256, bytes).as_ref())
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_of_the_rfc_s_example() {
        // RFC 7638 section 3.1.
        let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = PublicJwk::rsa(&URL_SAFE_NO_PAD.decode(modulus).unwrap(), &[1, 0, 1]);
        assert_eq!(jwk.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn the_thumbprint_of_an_ed25519_key() {
        // RFC 8037 appendix A.3.
        let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let jwk = PublicJwk::ed25519(&x);
        assert_eq!(jwk.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
