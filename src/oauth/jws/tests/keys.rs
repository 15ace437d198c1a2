//! Keys for tests only, each made by openssl.

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("keys/", $name, ".pem"))
    };
}

pub(super) const P256: &str = pem!("p256");
pub(super) const P256_SEC1: &str = pem!("p256_sec1");
pub(super) const P384: &str = pem!("p384");
/// With a section `EC PARAMETERS` before the key.
pub(super) const P384_SEC1: &str = pem!("p384_sec1");
pub(super) const ED25519: &str = pem!("ed25519");
pub(super) const RSA: &str = pem!("rsa");
pub(super) const RSA_PKCS1: &str = pem!("rsa_pkcs1");

/// The certificate of [`P256`].
pub(super) const P256_CERTIFICATE: &str = pem!("cert_p256");
/// The certificate of [`RSA`].
pub(super) const RSA_CERTIFICATE: &str = pem!("cert_rsa");
/// The public key of [`P256`].
pub(super) const PUBLIC: &str = pem!("public");

/// Each is refused. The error contains these words.
pub(super) const REFUSED: &[(&str, &str)] = &[
    (pem!("brainpool"), "a curve that is not supported"),
    (pem!("dsa"), "a type that is not supported"),
    (pem!("ed448"), "Ed448"),
    (pem!("encrypted"), "openssl pkey -in key.pem -out plain.pem"),
    (pem!("encrypted_pkcs1"), "openssl pkey -in key.pem -out plain.pem"),
    (pem!("explicit"), "does not name its curve"),
    (pem!("p521"), "P-521"),
    (pem!("public"), "only a public key or a certificate"),
    (pem!("cert_p256"), "only a public key or a certificate"),
    (pem!("rsa1024"), "fewer than 2048 bits"),
    (pem!("rsa3"), "more than two primes"),
    (pem!("rsapss"), "id-RSASSA-PSS"),
    (pem!("secp256k1"), "secp256k1"),
    (pem!("secp256k1_sec1"), "secp256k1"),
    (pem!("ssh"), "ssh-keygen -p -m PKCS8"),
    (pem!("x25519"), "cannot sign"),
];
