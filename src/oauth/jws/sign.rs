//! Signs header and claims (RFC 7515 section 5.1).

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Algorithm, PrivateKey};
use crate::error::{BuildError, SourceError};
use crate::secret::Secret;

/// RFC 7518 section 3.2: a key is at least as long as the hash.
const SHORTEST_SECRET: usize = 32;

/// The key of a signature.
#[derive(Clone, Debug)]
pub(crate) enum SigningKey {
    /// `private_key_jwt`, `DPoP` proofs.
    Private(PrivateKey),
    /// `client_secret_jwt`.
    Secret(HmacKey),
}

/// A client's secret that signs with HS256 (RFC 7518 section 3.2).
#[derive(Clone, Debug)]
pub(crate) struct HmacKey(Secret);

impl HmacKey {
    pub(crate) fn new(secret: Secret) -> Result<Self, BuildError> {
        if secret.expose().len() < SHORTEST_SECRET {
            return Err(BuildError::new(
                "client_secret",
                "is shorter than the 32 bytes that HS256 asks for (RFC 7518 section 3.2): create a longer secret at the server, or choose an `auth_method` that sends the secret",
            ));
        }
        Ok(Self(secret))
    }
}

/// RFC 7518 section 3.2. The key's bytes are in `secret`, and in a state of aws-lc that is wiped.
pub(super) fn hs256(secret: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message)
}

/// The fields of the header, beside `alg`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Header<'a> {
    /// `typ` (RFC 7515 section 4.1.9), as `client-authentication+jwt` or `dpop+jwt`.
    pub(crate) typ: Option<&'a str>,
    pub(crate) key: KeyHint,
}

/// How the header identifies the private key. A secret is not identified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum KeyHint {
    /// By `kid` and `x5t#S256`, if the key has them. The server knows the key.
    #[default]
    Name,
    /// By `jwk`, the public key itself (RFC 9449 section 4.2).
    #[cfg_attr(not(feature = "dpop"), allow(dead_code))]
    Jwk,
}

impl SigningKey {
    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Private(key) => key.algorithm(),
            Self::Secret(_) => Algorithm::Hs256,
        }
    }

    /// The compact serialisation (RFC 7515 section 3.1).
    ///
    /// Anybody who has it can use it in the client's name. Therefore its buffer is wiped. It has its full size from
    /// the beginning, so it does not move and leaves no copy behind.
    pub(crate) fn sign(&self, header: Header<'_>, claims: &Value) -> Result<Zeroizing<String>, SourceError> {
        let (head, claims) = (self.head(header), claims.to_string());
        let encoded = |length: usize| length.div_ceil(3) * 4;
        let room = head.len() + encoded(claims.len()) + 1 + encoded(self.signature_len());
        let mut text = Zeroizing::new(String::with_capacity(room));
        text.push_str(&head);
        URL_SAFE_NO_PAD.encode_string(claims, &mut text);
        self.finish(&mut text)?;
        Ok(text)
    }

    /// The header, encoded, and the dot after it: the same for each signature.
    pub(crate) fn head(&self, header: Header<'_>) -> String {
        let mut text = URL_SAFE_NO_PAD.encode(self.header(header).to_string());
        text.push('.');
        text
    }

    /// Signs `text`, which is head and claims, and adds a dot and the signature.
    pub(crate) fn finish(&self, text: &mut String) -> Result<(), SourceError> {
        let signature = self.signature(text.as_bytes())?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, text);
        Ok(())
    }

    fn header(&self, header: Header<'_>) -> Value {
        let mut fields = Map::new();
        let mut insert = |name: &str, value: Option<Value>| {
            fields.extend(value.map(|value| (name.to_owned(), value)));
        };
        insert("alg", Some(self.algorithm().as_str().into()));
        insert("typ", header.typ.map(Value::from));
        match (self, header.key) {
            (Self::Private(key), KeyHint::Name) => {
                insert("kid", key.kid().map(Value::from));
                insert("x5t#S256", key.certificate_hash().map(Value::from));
            }
            (Self::Private(key), KeyHint::Jwk) => insert("jwk", Some(key.public_jwk())),
            (Self::Secret(_), _) => {}
        }
        Value::Object(fields)
    }

    pub(crate) fn signature_len(&self) -> usize {
        match self {
            Self::Private(key) => key.pair().signature_len(),
            Self::Secret(_) => 32,
        }
    }

    /// The signature of `input` (RFC 7515 section 5.1, step 5).
    fn signature(&self, input: &[u8]) -> Result<Vec<u8>, SourceError> {
        match self {
            Self::Private(key) => key.pair().sign(key.algorithm(), input).map_err(|_| {
                // aws-lc gives no reason. A parsed key can sign, unless memory or entropy is missing.
                SourceError::terminal(format!("signing with {} failed", key.algorithm().as_str()))
            }),
            Self::Secret(key) => Ok(hs256(key.0.expose().as_bytes(), input).as_ref().to_vec()),
        }
    }
}
