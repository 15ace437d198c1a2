//! Tokens that are bound to a key, so that a stolen token cannot be used (`DPoP`, RFC 9449).
//!
//! | file | contents |
//! |---|---|
//! | `dpop/htu.rs` | the URI of a request in its normal form |
//! | `dpop/nonce.rs` | the server's requirements on the next proof |
//! | `dpop/proof.rs` | one proof |
//! | `dpop/client.rs` | proofs at the token endpoint, and the one repeated request for a nonce |
//! | `dpop/setting.rs` | the key in a settings file |

mod client;
mod htu;
mod nonce;
mod proof;
mod setting;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Uri};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::error::BuildError;
use crate::secret::{Secret, path};
use crate::token::{Binding, ProofNonce, Token};

use super::assertion::unix;
use super::jws::{self, Algorithm, Header, KeyHint, PrivateKey, SigningKey};

pub(crate) use client::ClientProofs;
use htu::Target;
use nonce::Resources;
use proof::Claims;
pub(super) use setting::DpopSetting;

const FIELD: &str = "dpop";

/// The private key to which a client's tokens are bound (`DPoP`, RFC 9449).
///
/// A token that was requested with a key needs a proof for each request. [`Token::apply`](crate::Token::apply)
/// makes the proof. A thief of the token alone cannot use it.
///
/// ```
/// use tokenflight::oauth::{Client, DpopKey};
///
/// let client = Client::builder("https://auth.example.com/token", "my-app")
///     .secret("s3cret")
///     .dpop(DpopKey::generate()?)
///     .build()?;
/// # let _ = client;
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// A clone is the same key. It also remembers the nonces of the last 100 resources, by origin. `Debug` shows the
/// algorithm and the [thumbprint](Self::thumbprint).
#[derive(Clone)]
pub struct DpopKey(Arc<Shared>);

struct Shared {
    signer: SigningKey,
    thumbprint: String,
    algorithm: Algorithm,
    /// The header of each proof, encoded, with a dot at its end.
    head: String,
    /// In PEM, if this process has generated it.
    generated: Option<Secret>,
    resources: Resources,
}

impl DpopKey {
    /// A new key, for ES256. It lives as long as this process, and the next process has another key. If processes
    /// share tokens, or a public client's refresh token, use a key [from a file](Self::from_pem_file).
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn generate() -> Result<Self, BuildError> {
        let failed = || BuildError::new(FIELD, "has no key: the system could not generate one");
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let document = document.map_err(|_| failed())?;
        let pem = pem(document.as_ref());
        Self::new(PrivateKey::from_pem(pem.as_bytes())?, Some(Secret::new(&**pem)))
    }

    /// The key in a PEM text: see [`PrivateKey::from_pem`]. Its algorithm follows from the key.
    ///
    /// # Errors
    /// A [`BuildError`] for `private_key` describes the actual contents, and quotes nothing of the text.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, BuildError> {
        Self::from_key(PrivateKey::from_pem(pem)?)
    }

    /// The key in a PEM file, which is read only now: tokens are bound to the key with which they were requested.
    ///
    /// # Errors
    /// A [`BuildError`] for `dpop` names the file, and describes its actual contents, or why it cannot be read. A
    /// file of more than 1 MiB is not read.
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, BuildError> {
        Self::from_file(path.as_ref(), None)
    }

    fn from_file(path: &Path, algorithm: Option<Algorithm>) -> Result<Self, BuildError> {
        let refused = |what: &dyn fmt::Display| {
            BuildError::new(FIELD, format!("names the key file {}: {what}", path::shown(path)))
        };
        let pem = path::read_regular(path, path::LONGEST)
            .map_err(|error| refused(&format_args!("it cannot be read: {error}")))?;
        let key = PrivateKey::from_pem(&*pem);
        let key = key.and_then(|key| match algorithm {
            Some(algorithm) => key.with_algorithm(algorithm),
            None => Ok(key),
        });
        Self::from_key(key.map_err(|error| refused(&error))?)
    }

    /// A key that was read before, for example with [another algorithm](PrivateKey::with_algorithm).
    ///
    /// # Errors
    /// None today.
    pub fn from_key(key: PrivateKey) -> Result<Self, BuildError> {
        Self::new(key, None)
    }

    #[allow(clippy::unnecessary_wraps)] // An unusable key would be refused here.
    fn new(key: PrivateKey, generated: Option<Secret>) -> Result<Self, BuildError> {
        let (thumbprint, algorithm) = (key.thumbprint(), key.algorithm());
        let signer = SigningKey::Private(key);
        let head = signer.head(Header { typ: Some("dpop+jwt"), key: KeyHint::Jwk });
        let resources = Resources::default();
        Ok(Self(Arc::new(Shared { signer, thumbprint, algorithm, head, generated, resources })))
    }

    /// The SHA-256 thumbprint of the public key, in Base64url (RFC 7638). A token contains it as `jkt` (RFC 9449
    /// section 6.1).
    pub fn thumbprint(&self) -> &str {
        &self.0.thumbprint
    }

    /// The algorithm of its proofs.
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// The private key in PEM, if this process has [generated](Self::generate) it.
    pub(crate) fn generated(&self) -> Option<&str> {
        self.0.generated.as_ref().map(Secret::expose)
    }

    /// A key that another process has generated, and this process has found in the vault.
    pub(crate) fn found(pem: &str) -> Result<Self, BuildError> {
        Self::new(PrivateKey::from_pem(pem)?, Some(Secret::new(pem)))
    }

    /// The token with this key.
    pub(crate) fn bind(&self, token: Token) -> Token {
        let ath = jws::sha256(token.secret().as_bytes());
        token.bound(Arc::new(Bound { key: self.clone(), ath }))
    }

    fn head(&self) -> &str {
        &self.0.head
    }

    fn signer(&self) -> &SigningKey {
        &self.0.signer
    }

    /// The length of a dot and the signature in Base64url.
    fn signature_room(&self) -> usize {
        1 + (self.0.signer.signature_len() * 4).div_ceil(3)
    }
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopKey")
            .field("algorithm", &self.0.algorithm.as_str())
            .field("thumbprint", &self.0.thumbprint)
            .finish_non_exhaustive()
    }
}

/// PKCS#8 as PEM (RFC 7468 section 10).
fn pem(der: &[u8]) -> Zeroizing<String> {
    const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
    const END: &str = "\n-----END PRIVATE KEY-----\n";
    let mut pem = Zeroizing::new(String::with_capacity(BEGIN.len() + END.len() + der.len().div_ceil(3) * 4));
    pem.push_str(BEGIN);
    STANDARD.encode_string(der, &mut pem);
    pem.push_str(END);
    pem
}

/// A token's key, and the token's hash.
struct Bound {
    key: DpopKey,
    ath: String,
}

impl Binding for Bound {
    fn prove(
        &self,
        method: &Method,
        uri: &Uri,
        now: Timestamp,
        is_noted: bool,
    ) -> Result<(HeaderValue, ProofNonce), &'static str> {
        let target = Target::of(uri)?;
        let wanted = self.key.0.resources.wanted(&target.origin, now, is_noted);
        let (nonce, ath) = (wanted.nonce.as_deref(), Some(self.ath.as_str()));
        let claims = Claims { method, target: &target, now: wanted.now, nonce, ath };
        let proof = claims.sign(&self.key);
        let proof = proof.map_err(|_| "is bound to a key (DPoP), and signing its proof failed")?;
        Ok((proof, ProofNonce(wanted.nonce)))
    }

    fn learn(&self, uri: &Uri, headers: &HeaderMap, now: Timestamp, sent: Option<&ProofNonce>) -> bool {
        Target::of(uri).is_ok_and(|target| self.key.0.resources.learn(&target.origin, headers, now, sent))
    }
}
