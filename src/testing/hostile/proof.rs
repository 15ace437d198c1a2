//! Client assertions and `DPoP` proofs, checked.

use std::collections::HashSet;
use std::time::SystemTime;

use serde_json::Value;

use crate::clock::{Clock, SystemClock};
use crate::oauth::jws::sha256;
use crate::oauth::jws::verify::verify;

/// The maximum difference between an `iat` and this machine's time, in seconds.
const SKEW: u64 = 300;
/// The longest life of an assertion, in seconds.
const LONGEST: u64 = 3600;

/// The identifiers that were seen.
#[derive(Debug, Default)]
pub(super) struct Ids(HashSet<String>);

impl Ids {
    /// Whether it is a new one. A claim that is not text is not an identifier.
    fn is_new(&mut self, jti: &Value) -> bool {
        jti.as_str().is_some_and(|jti| self.0.insert(jti.to_owned()))
    }
}

/// The fault of a proof or an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// There is no proof or assertion.
    Missing,
    /// Its `jti` was seen before, or is not text.
    Repeated,
    Other,
}

/// The values that a proof must contain (RFC 9449 section 4.3).
pub(super) struct Target<'a> {
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
    /// The access token, at the API.
    pub(super) token: Option<&'a str>,
}

/// A valid proof.
pub(super) struct Proof {
    /// The key, in its normal form.
    pub(super) key: String,
    pub(super) nonce: Option<String>,
}

pub(super) fn proof(text: Option<&str>, target: &Target<'_>, ids: &mut Ids) -> Result<Proof, Flaw> {
    let text = text.ok_or(Flaw::Missing)?;
    let jwk = header(text).ok_or(Flaw::Other)?["jwk"].clone();
    let (header, claims) = verify(&jwk, text).ok_or(Flaw::Other)?;
    if !ids.is_new(&claims["jti"]) {
        return Err(Flaw::Repeated);
    }
    let ath = target.token.map(|token| sha256(token.as_bytes()));
    let names_this = header["typ"] == "dpop+jwt"
        && jwk["d"].is_null()
        && claims["htm"] == target.method
        && claims["htu"] == target.uri
        && claims["ath"].as_str() == ath.as_deref()
        && claims["iat"].as_u64().is_some_and(|issued| issued.abs_diff(now()) <= SKEW);
    if !names_this {
        return Err(Flaw::Other);
    }
    let member = |name: &str| jwk[name].as_str().unwrap_or_default().to_owned();
    let key = ["kty", "crv", "x", "y", "n", "e"].map(member).join("|");
    Ok(Proof { key, nonce: claims["nonce"].as_str().map(ToOwned::to_owned) })
}

/// The values that an assertion must contain (RFC 7523 section 3).
pub(super) struct Expected<'a> {
    pub(super) client: &'a str,
    pub(super) audiences: [&'a str; 2],
}

pub(super) fn assertion(text: &str, key: &Value, expected: &Expected<'_>, ids: &mut Ids) -> Result<(), Flaw> {
    let (_, claims) = verify(key, text).ok_or(Flaw::Other)?;
    if !ids.is_new(&claims["jti"]) {
        return Err(Flaw::Repeated);
    }
    let is_ours = |aud: &Value| aud.as_str().is_some_and(|aud| expected.audiences.contains(&aud));
    let is_for_us = match &claims["aud"] {
        Value::Array(all) => all.iter().any(is_ours),
        one => is_ours(one),
    };
    let now = now();
    let lasts = claims["exp"].as_u64().is_some_and(|end| end > now && end <= now + LONGEST);
    let is_good = claims["iss"] == expected.client && claims["sub"] == expected.client && is_for_us && lasts;
    if is_good { Ok(()) } else { Err(Flaw::Other) }
}

fn header(jws: &str) -> Option<Value> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jws.split('.').next()?).ok()?).ok()
}

fn now() -> u64 {
    SystemClock.now().wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
