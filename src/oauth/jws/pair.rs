//! A private key of each type, parsed once, for all its signatures.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};

use super::Algorithm;
use super::der::{self, FIELD_0, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE};
use super::jwk::PublicJwk;
use super::pem::Form;

const DAMAGED: &str = "is damaged: its numbers are not those of a private key; make the PEM file anew";
const RSA_SMALL: &str = "is an RSA key of fewer than 2048 bits, which RFC 7518 section 3.3 forbids: make one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`";
const RSA_LARGE: &str = "is an RSA key of more than 8192 bits, which is not supported: use 2048 to 4096 bits";
const RSA_PRIMES: &str = "is an RSA key with more than two primes, which is not supported: make one with `openssl genpkey -algorithm RSA`";
const RSA_PSS: &str = "is an RSA key marked for PSS alone (id-RSASSA-PSS), which is not supported: make one with `openssl genpkey -algorithm RSA`, which signs PS256 too";
const P521: &str = "is an EC key on P-521, which is not supported: use P-256 (`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`)";
const SECP256K1: &str = "is an EC key on secp256k1, which is not supported: use P-256 (`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`)";
const OTHER_CURVE: &str = "is an EC key on a curve that is not supported: use P-256 (`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`)";
const NO_CURVE: &str = "is an EC key that does not name its curve: convert it with `openssl ec -in key.pem -param_enc named_curve -out named.pem`";
const ED448: &str =
    "is an Ed448 key, which is not supported: use Ed25519 (`openssl genpkey -algorithm ed25519`)";
const AGREEMENT: &str =
    "is an X25519 or X448 key, which cannot sign: use Ed25519 (`openssl genpkey -algorithm ed25519`)";
const OTHER_TYPE: &str = "is a key of a type that is not supported: use EC (P-256, P-384), Ed25519 or RSA";

pub(super) enum Pair {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Pair {
    /// aws-lc checks that the numbers fit together. Its error gives no reason.
    pub(super) fn read(form: Form, der: &[u8]) -> Result<Self, &'static str> {
        let pair = match (kind(form, der)?, form) {
            (Kind::P256, _) => {
                EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Self::P256)
            }
            (Kind::P384, _) => {
                EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_FIXED_SIGNING, der).map(Self::P384)
            }
            (Kind::Ed25519, _) => Ed25519KeyPair::from_pkcs8(der).map(Self::Ed25519),
            (Kind::Rsa, Form::Pkcs1) => RsaKeyPair::from_der(der).map(Self::Rsa),
            (Kind::Rsa, _) => RsaKeyPair::from_pkcs8(der).map(Self::Rsa),
        };
        pair.map_err(|_| DAMAGED)
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::P256(_) => "an EC key on P-256",
            Self::P384(_) => "an EC key on P-384",
            Self::Ed25519(_) => "an Ed25519 key",
            Self::Rsa(_) => "an RSA key",
        }
    }

    /// The algorithms of this key. The default comes first.
    pub(super) fn algorithms(&self) -> (Algorithm, &'static [Algorithm]) {
        match self {
            Self::P256(_) => (Algorithm::Es256, &[Algorithm::Es256]),
            Self::P384(_) => (Algorithm::Es384, &[Algorithm::Es384]),
            Self::Ed25519(_) => (Algorithm::EdDsa, &[Algorithm::EdDsa]),
            Self::Rsa(_) => (Algorithm::Rs256, &[Algorithm::Rs256, Algorithm::Ps256]),
        }
    }

    pub(super) fn public_jwk(&self) -> Result<PublicJwk, &'static str> {
        match self {
            Self::P256(pair) => ec_jwk("P-256", pair),
            Self::P384(pair) => ec_jwk("P-384", pair),
            Self::Ed25519(pair) => Some(PublicJwk::ed25519(pair.public_key().as_ref())),
            Self::Rsa(pair) => rsa_jwk(pair.public_key().as_ref()),
        }
        .ok_or(DAMAGED)
    }

    /// The `SubjectPublicKeyInfo`, as a certificate holds it (RFC 5280 section 4.1.2.7).
    pub(super) fn public_key_info(&self) -> Result<PublicKeyX509Der<'static>, &'static str> {
        match self {
            Self::P256(pair) | Self::P384(pair) => pair.public_key().as_der(),
            Self::Ed25519(pair) => pair.public_key().as_der(),
            Self::Rsa(pair) => pair.public_key().as_der(),
        }
        .map_err(|_| DAMAGED)
    }

    /// How long a signature is, in bytes.
    pub(super) fn signature_len(&self) -> usize {
        match self {
            Self::P256(_) | Self::Ed25519(_) => 64,
            Self::P384(_) => 96,
            Self::Rsa(pair) => pair.public_modulus_len(),
        }
    }

    /// For an RSA key `algorithm` chooses the padding. The other types have one algorithm. An ECDSA signature is
    /// `r` and `s`, each with its full length (RFC 7518 section 3.4).
    pub(super) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        match self {
            Self::P256(pair) | Self::P384(pair) => {
                Ok(pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec())
            }
            Self::Ed25519(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
            Self::Rsa(pair) => {
                let padding: &'static dyn RsaEncoding =
                    if algorithm == Algorithm::Ps256 { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), message, &mut signature)?;
                Ok(signature)
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

/// The type in the DER. It is read here, so that an error can describe a valid key of an unsupported type.
fn kind(form: Form, der: &[u8]) -> Result<Kind, &'static str> {
    let mut fields = Reader::new(der).enter(SEQUENCE).ok_or(DAMAGED)?;
    match form {
        Form::Pkcs1 => rsa(der),
        Form::Sec1 => {
            fields.read(INTEGER).and(fields.read(OCTET_STRING)).ok_or(DAMAGED)?;
            curve(fields.enter(FIELD_0).and_then(|mut parameters| parameters.read(OID)))
        }
        Form::Pkcs8 => {
            fields.read(INTEGER).ok_or(DAMAGED)?;
            let mut algorithm = fields.enter(SEQUENCE).ok_or(DAMAGED)?;
            match algorithm.read(OID).ok_or(DAMAGED)? {
                // 1.2.840.113549.1.1: PKCS #1 (RFC 8017 appendix C).
                b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" => rsa(fields.read(OCTET_STRING).ok_or(DAMAGED)?),
                b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a" => Err(RSA_PSS),
                // 1.2.840.10045.2.1: id-ecPublicKey (RFC 5480 section 2.1.1).
                b"\x2a\x86\x48\xce\x3d\x02\x01" => curve(algorithm.read(OID)),
                // 1.3.101.110 and the following (RFC 8410 section 3).
                b"\x2b\x65\x70" => Ok(Kind::Ed25519),
                b"\x2b\x65\x71" => Err(ED448),
                b"\x2b\x65\x6e" | b"\x2b\x65\x6f" => Err(AGREEMENT),
                _ => Err(OTHER_TYPE),
            }
        }
    }
}

/// RFC 5480 section 2.1.1.1. `None`: the curve is left out, or written as numbers.
fn curve(oid: Option<&[u8]>) -> Result<Kind, &'static str> {
    match oid.ok_or(NO_CURVE)? {
        b"\x2a\x86\x48\xce\x3d\x03\x01\x07" => Ok(Kind::P256),
        b"\x2b\x81\x04\x00\x22" => Ok(Kind::P384),
        b"\x2b\x81\x04\x00\x23" => Err(P521),
        b"\x2b\x81\x04\x00\x0a" => Err(SECP256K1),
        _ => Err(OTHER_CURVE),
    }
}

/// RFC 8017 appendix A.1.2: a version, which is not 0 if there are more than two primes, and the modulus.
fn rsa(der: &[u8]) -> Result<Kind, &'static str> {
    let mut fields = Reader::new(der).enter(SEQUENCE).ok_or(DAMAGED)?;
    if fields.read(INTEGER).ok_or(DAMAGED)? != [0] {
        return Err(RSA_PRIMES);
    }
    let modulus = der::unsigned(fields.read(INTEGER).ok_or(DAMAGED)?);
    let unused = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    match modulus.len() * 8 - unused {
        0..2048 => Err(RSA_SMALL),
        2048..=8192 => Ok(Kind::Rsa),
        _ => Err(RSA_LARGE),
    }
}

/// The public key is the point itself, not compressed (SEC 1 section 2.3.3).
fn ec_jwk(curve: &str, pair: &EcdsaKeyPair) -> Option<PublicJwk> {
    let point = pair.public_key().as_ref().strip_prefix(&[4])?;
    let (x, y) = point.split_at_checked(point.len() / 2)?;
    Some(PublicJwk::ec(curve, x, y))
}

/// RFC 8017 appendix A.1.1: modulus and exponent.
fn rsa_jwk(public_key: &[u8]) -> Option<PublicJwk> {
    let mut fields = Reader::new(public_key).enter(SEQUENCE)?;
    let (modulus, exponent) = (fields.read(INTEGER)?, fields.read(INTEGER)?);
    Some(PublicJwk::rsa(der::unsigned(modulus), der::unsigned(exponent)))
}
