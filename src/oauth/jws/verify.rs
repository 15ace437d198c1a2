//! Verifies a signature by the public key alone, for tests, fuzzers and fake servers. The JWK is the only input from the signer.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The header and the claims of a compact JWS, if its signature is valid for `jwk` and the algorithm in the header.
pub(crate) fn verify(jwk: &Value, jws: &str) -> Option<(Value, Value)> {
    let (input, signature) = jws.rsplit_once('.')?;
    let (header, claims) = input.split_once('.')?;
    let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
    let claims = serde_json::from_slice(&decode(claims)?).ok()?;
    let (message, signature) = (input.as_bytes(), decode(signature)?);
    let member = |name: &str| jwk[name].as_str().and_then(decode);
    let point = || Some([vec![4], member("x")?, member("y")?].concat());
    let rsa = || Some(RsaPublicKeyComponents { n: member("n")?, e: member("e")? });
    match header["alg"].as_str()? {
        "ES256" => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point()?).verify(message, &signature),
        "ES384" => UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point()?).verify(message, &signature),
        "EdDSA" => UnparsedPublicKey::new(&ED25519, member("x")?).verify(message, &signature),
        "RS256" => rsa()?.verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature),
        "PS256" => rsa()?.verify(&RSA_PSS_2048_8192_SHA256, message, &signature),
        _ => return None,
    }
    .ok()?;
    Some((header, claims))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
