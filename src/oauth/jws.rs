//! JSON Web Signatures in their compact form (RFC 7515 section 3.1), for client assertions (RFC 7523) and `DPoP` proofs
//! (RFC 9449).
//!
//! | file | contents |
//! |---|---|
//! | `pem.rs` | finds the one private key, or the first certificate, in a PEM text |
//! | `der.rs` | the part of DER that is needed to name a key's type and to find the public key in a certificate |
//! | `pair.rs` | a key of each type, parsed once |
//! | `jwk.rs` | the public key as a JWK, and its thumbprint |
//! | `key.rs` | [`PrivateKey`], the public type |
//! | `sign.rs` | signs header and claims |

mod der;
mod jwk;
mod key;
mod pair;
mod pem;
mod sign;
#[cfg(test)]
mod tests;
#[cfg(any(test, fuzzing, feature = "test-util"))]
pub(crate) mod verify;

use serde::{Deserialize, Serialize};

pub(crate) use jwk::sha256;
pub use key::PrivateKey;
#[cfg(any(test, fuzzing, feature = "dpop"))]
pub(crate) use sign::KeyHint;
pub(crate) use sign::{Header, HmacKey, SigningKey};

/// The algorithm of a JSON Web Signature (RFC 7518 section 3.1, RFC 8037 section 3.1).
///
/// A settings file uses the RFC's names: `"ES256"`, `"EdDSA"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[non_exhaustive]
pub enum Algorithm {
    /// `ES256`: ECDSA on P-256 with SHA-256 (RFC 7518 section 3.4).
    #[serde(rename = "ES256")]
    Es256,
    /// `ES384`: ECDSA on P-384 with SHA-384 (RFC 7518 section 3.4).
    #[serde(rename = "ES384")]
    Es384,
    /// `PS256`: RSA with PSS padding and SHA-256, with a salt as long as the hash (RFC 7518 section 3.5).
    #[serde(rename = "PS256")]
    Ps256,
    /// `RS256`: RSA with PKCS #1 v1.5 padding and SHA-256 (RFC 7518 section 3.3).
    #[serde(rename = "RS256")]
    Rs256,
    /// `EdDSA`: Ed25519 (RFC 8037 section 3.1).
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// `HS256`: HMAC with SHA-256, keyed by the client's secret (RFC 7518 section 3.2). No [`PrivateKey`] signs with
    /// it.
    #[serde(rename = "HS256")]
    Hs256,
}

impl Algorithm {
    /// Whether it signs with an RSA key.
    pub(super) fn is_rsa(self) -> bool {
        matches!(self, Self::Ps256 | Self::Rs256)
    }

    /// The name in a signature's header, as `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ps256 => "PS256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }
}
