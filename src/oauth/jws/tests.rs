//! Keys are read, sign, and verify; and no output shows them.

mod jose;
mod keys;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use self::keys::*;
use super::verify::verify;
use super::*;
use crate::secret::Secret;

fn key(pem: &str) -> PrivateKey {
    PrivateKey::from_pem(pem).unwrap()
}

/// Each type in each form, and each algorithm.
fn all_keys() -> Vec<(Algorithm, PrivateKey)> {
    let mut keys: Vec<_> = [
        (Algorithm::Es256, P256),
        (Algorithm::Es256, P256_SEC1),
        (Algorithm::Es384, P384),
        (Algorithm::Es384, P384_SEC1),
        (Algorithm::EdDsa, ED25519),
        (Algorithm::Rs256, RSA),
        (Algorithm::Rs256, RSA_PKCS1),
    ]
    .map(|(algorithm, pem)| (algorithm, key(pem)))
    .into();
    for pem in [RSA, RSA_PKCS1] {
        keys.push((Algorithm::Ps256, key(pem).with_algorithm(Algorithm::Ps256).unwrap()));
    }
    keys
}

fn claims() -> Value {
    json!({ "iss": "client", "sub": "client", "aud": "https://auth.example", "exp": 1_800_000_060, "jti": "ö1" })
}

fn sign(key: &PrivateKey, header: Header<'_>) -> String {
    SigningKey::Private(key.clone()).sign(header, &claims()).unwrap().to_string()
}

/// The same header and signature.
fn with_other_claims(jws: &str) -> String {
    let parts: Vec<_> = jws.split('.').collect();
    let claims = claims().to_string().replace("client", "somebody");
    format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims), parts[2])
}

#[test]
fn each_form_of_each_key_signs_what_its_public_key_verifies() {
    for (algorithm, key) in all_keys() {
        assert_eq!(key.algorithm(), algorithm, "it follows from the key");
        let jws = sign(&key, Header { typ: Some("JWT"), key: KeyHint::Name });
        let (header, found) = verify(&key.public_jwk(), &jws).unwrap();
        assert_eq!((header, found), (json!({ "alg": algorithm.as_str(), "typ": "JWT" }), claims()));

        let forged = with_other_claims(&jws);
        assert!(verify(&key.public_jwk(), &forged).is_none(), "{algorithm:?} on other claims");
    }
}

#[test]
fn two_forms_of_one_key_are_one_key() {
    for (one, other) in [(P256, P256_SEC1), (RSA, RSA_PKCS1)] {
        assert_eq!(key(one).public_jwk(), key(other).public_jwk());
    }
    // As `jose` computes them.
    assert_eq!(key(P256).thumbprint(), "F36aq0Ox-6SM04xEHSmF1xSpF-3kn5QO1aK-xR3whAg");
    assert_eq!(key(P384).thumbprint(), "zcjeAKX7BQwya0GxhQtnqS-zc3kjaM15VxXjFntBLo8");
    assert_eq!(key(ED25519).thumbprint(), "buvqg6b-a2JBMNLIPJ7sEdWkJmiKggBbLWAxDPzvI2Q");
    assert_eq!(key(RSA).thumbprint(), "uADsbGzbQV8cGHeFk4tO8fvUq8ozGeKvcRsBFyKhL0A");
}

#[test]
fn a_public_jwk_has_the_required_members_in_their_order_and_no_private_one() {
    for (pem, members) in [
        (P256, &["crv", "kty", "x", "y"][..]),
        (P384, &["crv", "kty", "x", "y"]),
        (ED25519, &["crv", "kty", "x"]),
        (RSA, &["e", "kty", "n"]),
    ] {
        let jwk = key(pem).public_jwk();
        assert_eq!(jwk.as_object().unwrap().keys().collect::<Vec<_>>(), members);
    }
    assert_eq!(key(RSA).public_jwk()["e"], "AQAB");
}

#[test]
fn an_ecdsa_signature_has_one_length() {
    let key = key(P256);
    // One signature in 128 has a number that is shorter than the others.
    for _ in 0..300 {
        let jws = sign(&key, Header::default());
        let signature = URL_SAFE_NO_PAD.decode(jws.rsplit('.').next().unwrap()).unwrap();
        assert_eq!(signature.len(), 64);
        assert!(verify(&key.public_jwk(), &jws).is_some());
    }
}

#[test]
fn the_text_never_moves_while_it_is_made() {
    for (_, key) in all_keys() {
        let text = SigningKey::Private(key).sign(Header::default(), &claims()).unwrap();
        assert!(text.capacity() - text.len() <= 8, "{} of {}", text.len(), text.capacity());
    }
}

#[test]
fn the_header_names_the_key_as_it_is_asked_to() {
    let key = key(P256).with_kid("2026-11").with_certificate(P256_CERTIFICATE).unwrap();
    let name = sign(&key, Header { typ: None, key: KeyHint::Name });
    let (header, _) = verify(&key.public_jwk(), &name).unwrap();
    // Computed by `openssl x509 -outform DER | openssl dgst -sha256`.
    let x5t = "spB2kwwNilY9HILxsrPNjg_bxM63vk7wxdM1P8-lhaU";
    assert_eq!(header, json!({ "alg": "ES256", "kid": "2026-11", "x5t#S256": x5t }));

    let jwk = sign(&key, Header { typ: Some("dpop+jwt"), key: KeyHint::Jwk });
    let (header, _) = verify(&key.public_jwk(), &jwk).unwrap();
    assert_eq!(header, json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": key.public_jwk() }));
}

#[test]
fn the_certificate_has_to_be_that_of_the_key() {
    assert!(key(RSA).with_certificate(format!("{RSA}{RSA_CERTIFICATE}{P256_CERTIFICATE}")).is_ok());
    let not_base64 = P256_CERTIFICATE.replacen("MII", "M*I", 1);
    let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    for (pem, reason) in [
        (RSA_CERTIFICATE, "belongs to another key"),
        (PUBLIC, "holds no certificate"),
        ("", "holds no certificate"),
        (&not_base64, "is damaged"),
        (not_der, "is damaged"),
    ] {
        let error = key(P256).with_certificate(pem).unwrap_err();
        assert_eq!(error.field(), "certificate");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn an_algorithm_that_does_not_fit_is_refused_with_those_that_do() {
    for (pem, algorithm, text) in [
        (P256, Algorithm::Es384, "`algorithm` is ES384, but `private_key` is an EC key on P-256: use ES256"),
        (P384, Algorithm::Es256, "`algorithm` is ES256, but `private_key` is an EC key on P-384: use ES384"),
        (ED25519, Algorithm::Rs256, "`algorithm` is RS256, but `private_key` is an Ed25519 key: use EdDSA"),
        (RSA, Algorithm::Hs256, "`algorithm` is HS256, but `private_key` is an RSA key: use RS256 or PS256"),
    ] {
        let error = key(pem).with_algorithm(algorithm).unwrap_err();
        assert_eq!((error.field(), error.to_string().as_str()), ("algorithm", text));
    }
}

#[test]
fn a_key_stands_between_other_sections_and_with_other_line_ends() {
    let lines = key(P256).public_jwk();
    for pem in [
        format!("{P256_CERTIFICATE}{P256}{RSA_CERTIFICATE}"),
        format!("{PUBLIC}{P256}"),
        format!("\u{feff}{}", P256.replace('\n', "\r\n")),
        P256.replace('\n', "\r"),
        P256.replace('\n', "\n  "),
        P256.trim_end().to_owned(),
    ] {
        assert_eq!(key(&pem).public_jwk(), lines, "{pem}");
    }
}

#[test]
fn what_is_no_usable_key_is_refused_with_the_way_out() {
    let two = format!("{P256}{RSA}");
    let lost = P256.replace('\n', " ");
    let escaped = P256.replace('\n', "\\n");
    let cut = &P256[..P256.len() - 40];
    let label = P256.replace("PRIVATE KEY", "STRANGE PRIVATE KEY");
    let mixed = P256.replace("END PRIVATE", "END EC PRIVATE");
    let not_base64 = P256.replacen("MIG", "M*G", 1);
    let short = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";
    let other_form = P256.replace("PRIVATE KEY", "EC PRIVATE KEY");
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----";
    let mut cases = vec![
        ("", "holds no PEM"),
        ("/etc/keys/client.pem", "not its name"),
        (r#"{"kty":"EC","d":"secret"}"#, "JSON"),
        ("0.\u{2}\u{1}\u{0}", "DER"),
        (parameters, "holds no private key"),
        (&two, "two private keys"),
        (&lost, "line breaks"),
        (&escaped, "line breaks"),
        (cut, "END line"),
        (&mixed, "END line"),
        (&label, "openssl pkey -in key.pem -out pkcs8.pem"),
        (&not_base64, "not Base64"),
        (short, "is damaged"),
        (&other_form, "is damaged"),
    ];
    cases.extend(REFUSED);
    for (pem, reason) in cases {
        let error = PrivateKey::from_pem(pem).unwrap_err();
        assert_eq!(error.field(), "private_key");
        assert!(error.to_string().contains(reason), "{error}, for {pem}");
        assert!(quotes_nothing(&error.to_string(), pem), "{error}");
    }
}

/// Whether the text contains no line of the input, except BEGIN and END.
fn quotes_nothing(text: &str, pem: &str) -> bool {
    let says_something = |line: &&str| line.len() >= 8 && !line.contains("---");
    pem.lines().map(str::trim).filter(says_something).all(|line| !text.contains(line))
}

#[test]
fn nothing_shows_a_key() {
    let secret = "0123456789abcdef0123456789abcdef";
    let signer = SigningKey::Secret(HmacKey::new(Secret::new(secret)).unwrap());
    assert_eq!(format!("{signer:?}"), "Secret(HmacKey([redacted]))");

    let error = HmacKey::new(Secret::new(&secret[..31])).unwrap_err();
    assert!(error.to_string().contains("32 bytes") && !error.to_string().contains("0123"), "{error}");

    for (algorithm, key) in all_keys() {
        let key = key.with_kid("2026-11");
        let shown =
            format!(r#"PrivateKey {{ algorithm: "{}", kid: Some("2026-11"), .. }}"#, algorithm.as_str());
        assert_eq!(format!("{key:?}"), shown);
        assert_eq!(format!("{:?}", SigningKey::Private(key)), format!("Private({shown})"));
    }
}

#[test]
fn hs256_signs_the_rfc_s_example() {
    // RFC 7515 appendix A.1. The input is given as in the RFC, because its JSON has line breaks.
    let input = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let bytes = URL_SAFE_NO_PAD.decode(secret).unwrap();
    assert_eq!(
        URL_SAFE_NO_PAD.encode(sign::hs256(&bytes, input.as_bytes())),
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
}

#[test]
fn an_algorithm_is_named_as_in_the_rfc() {
    for name in ["ES256", "ES384", "PS256", "RS256", "EdDSA", "HS256"] {
        let algorithm: Algorithm = serde_json::from_value(name.into()).unwrap();
        assert_eq!(algorithm.as_str(), name);
        assert_eq!(serde_json::to_value(algorithm).unwrap(), name);
    }
    assert!(serde_json::from_str::<Algorithm>(r#""none""#).is_err());
}

proptest! {
    /// A damaged key is either refused without quoting it, or it is still a key that signs.
    #[test]
    fn a_damaged_key_is_never_quoted(at in any::<prop::sample::Index>(), byte in any::<u8>(), which in 0..4_usize) {
        let mut pem = [P256, P256_SEC1, ED25519, RSA][which].as_bytes().to_vec();
        let at = at.index(pem.len());
        pem[at] = byte;
        match PrivateKey::from_pem(&pem) {
            Ok(key) => {
                let jws = sign(&key, Header::default());
                prop_assert!(verify(&key.public_jwk(), &jws).is_some());
            }
            Err(error) => prop_assert!(quotes_nothing(&error.to_string(), &String::from_utf8_lossy(&pem))),
        }
    }
}
