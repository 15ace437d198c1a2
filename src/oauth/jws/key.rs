//! A client's private key: the public type.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::Algorithm;
use super::jwk::{self, PublicJwk};
use super::pair::Pair;
use super::{der, pem};
use crate::error::BuildError;

const FIELD: &str = "private_key";

/// A private key that signs for a client: for `private_key_jwt` (RFC 7523 section 2.2), and for `DPoP` proofs (RFC
/// 9449).
///
/// The key is parsed and checked once. A clone is cheap: it shares the key. `Debug` shows the algorithm and the
/// [`kid`](Self::kid), and nothing else.
#[derive(Clone)]
pub struct PrivateKey {
    shared: Arc<Shared>,
    algorithm: Algorithm,
    kid: Option<String>,
    certificate_hash: Option<String>,
}

struct Shared {
    pair: Pair,
    jwk: PublicJwk,
}

impl PrivateKey {
    /// Reads the text of a PEM file (RFC 7468) with one private key that is not encrypted: PKCS#8 (`PRIVATE KEY`), PKCS#1
    /// (`RSA PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`). Other sections are ignored, for example certificates and
    /// `EC PARAMETERS`.
    ///
    /// The algorithm follows from the key:
    ///
    /// | key | algorithm |
    /// |---|---|
    /// | EC on P-256 | [`Es256`](Algorithm::Es256) |
    /// | EC on P-384 | [`Es384`](Algorithm::Es384) |
    /// | Ed25519 | [`EdDsa`](Algorithm::EdDsa) |
    /// | RSA, 2048 to 8192 bits | [`Rs256`](Algorithm::Rs256), or [`Ps256`](Algorithm::Ps256) by [`with_algorithm`](Self::with_algorithm) |
    ///
    /// Each buffer that this function makes is wiped when the key is parsed. The caller must wipe `pem`.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] for `private_key` describes the actual contents, and how to get such a key. It quotes
    /// nothing of the text.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, BuildError> {
        let refused = |message| BuildError::new(FIELD, message);
        let (form, der) = pem::private_key(pem.as_ref()).map_err(refused)?;
        let pair = Pair::read(form, &der).map_err(refused)?;
        let jwk = pair.public_jwk().map_err(refused)?;
        let (algorithm, _) = pair.algorithms();
        Ok(Self { shared: Arc::new(Shared { pair, jwk }), algorithm, kid: None, certificate_hash: None })
    }

    /// Signs with another algorithm. Only an RSA key has a choice: [`Rs256`](Algorithm::Rs256) (default) or
    /// [`Ps256`](Algorithm::Ps256), which Entra requires.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] for `algorithm` names the type of the key, and the algorithms that the type allows.
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Result<Self, BuildError> {
        let (_, allowed) = self.shared.pair.algorithms();
        if !allowed.contains(&algorithm) {
            let names: Vec<_> = allowed.iter().map(|allowed| allowed.as_str()).collect();
            let (name, key) = (algorithm.as_str(), self.shared.pair.type_name());
            let message = format!("is {name}, but `{FIELD}` is {key}: use {}", names.join(" or "));
            return Err(BuildError::new("algorithm", message));
        }
        self.algorithm = algorithm;
        Ok(self)
    }

    /// The server's id for the key: `kid` in the header (RFC 7515 section 4.1.4). Default: none.
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// Names the key by its certificate: `x5t#S256` in the header, the SHA-256 of the DER of the first certificate
    /// in `pem` (RFC 7515 section 4.1.8). Entra requires it. Default: none.
    ///
    /// The certificate must hold the public key of this private key. The two are compared as they are encoded
    /// (`SubjectPublicKeyInfo`, RFC 5280 section 4.1.2.7). Nothing else of the certificate is checked: no signature, no
    /// chain, no end.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] for `certificate`: there is none, it is damaged, or it is that of another key.
    pub fn with_certificate(mut self, pem: impl AsRef<[u8]>) -> Result<Self, BuildError> {
        let refused = |message| BuildError::new("certificate", message);
        let certificate = pem::certificate(pem.as_ref()).map_err(refused)?;
        let found = der::public_key_of(&certificate)
            .ok_or_else(|| refused("is damaged: the text between BEGIN and END is no X.509 certificate"))?;
        let own = self.shared.pair.public_key_info().map_err(refused)?;
        if found != own.as_ref() {
            return Err(refused(
                "belongs to another key than `private_key`: the first certificate of the file counts, so the client's own has to stand before those of its issuers",
            ));
        }
        self.certificate_hash = Some(jwk::sha256(&certificate));
        Ok(self)
    }

    /// The algorithm of the key's signatures.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The `kid` that was passed to [`with_kid`](Self::with_kid).
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The SHA-256 thumbprint of the public key, in Base64url (RFC 7638 section 3). Some servers use it as `kid`. A
    /// token that is bound to the key contains it as `jkt` (RFC 9449 section 6.1).
    pub fn thumbprint(&self) -> String {
        self.shared.jwk.thumbprint()
    }

    /// The public key as a JWK, for the server's list of this client's keys (RFC 7517). It has the members that the
    /// type requires, in alphabetical order, and no others.
    pub fn public_jwk(&self) -> Value {
        self.shared.jwk.to_value()
    }

    pub(crate) fn certificate_hash(&self) -> Option<&str> {
        self.certificate_hash.as_deref()
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.shared.pair
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("algorithm", &self.algorithm.as_str())
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}
