//! One proof: a JWT for one request (RFC 9449 section 4.2).

use std::fmt::Write;
use std::time::SystemTime;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Method};

use super::htu::Target;
use super::{DpopKey, unix};

/// Random bytes of a `jti`: more than the 96 bits that section 4.2 recommends.
const JTI: usize = 16;

/// The claims of a proof, except the key.
pub(super) struct Claims<'a> {
    pub(super) method: &'a Method,
    pub(super) target: &'a Target,
    /// The time by the server's clock.
    pub(super) now: SystemTime,
    pub(super) nonce: Option<&'a str>,
    /// The hash of the access token, at a resource (section 7).
    pub(super) ath: Option<&'a str>,
}

/// Signing fails if memory or entropy is missing.
pub(super) struct Failed;

impl Claims<'_> {
    /// The value of the header `DPoP`. Each proof has its own `jti`.
    pub(super) fn sign(&self, key: &DpopKey) -> Result<HeaderValue, Failed> {
        let claims = self.to_json()?;
        let encoded = |length: usize| (length * 4).div_ceil(3);
        let head = key.head();
        let mut text = String::with_capacity(head.len() + encoded(claims.len()) + 1 + key.signature_room());
        text.push_str(head);
        URL_SAFE_NO_PAD.encode_string(claims, &mut text);
        key.signer().finish(&mut text).map_err(|_| Failed)?;
        let mut value = HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(|_| Failed)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Written by hand: no value has a character that JSON would escape. A method is a token (RFC 9110 section
    /// 9.1), without quotes and backslashes. The nonce has been checked by `nonce_of`.
    fn to_json(&self) -> Result<String, Failed> {
        const NAMES: usize = 110;
        let mut id = [0; JTI];
        rand::fill(&mut id).map_err(|_| Failed)?;
        let optional = self.nonce.map_or(0, str::len) + self.ath.map_or(0, str::len);
        let mut json = String::with_capacity(NAMES + self.target.len() + optional);
        json.push_str(r#"{"jti":""#);
        URL_SAFE_NO_PAD.encode_string(id, &mut json);
        json.push_str(r#"","htm":""#);
        json.push_str(self.method.as_str());
        json.push_str(r#"","htu":""#);
        self.target.write(&mut json);
        // Writing into a string never fails.
        let _ = write!(json, r#"","iat":{}"#, unix(self.now));
        for (name, value) in [("nonce", self.nonce), ("ath", self.ath)] {
            let Some(value) = value else { continue };
            for part in [",\"", name, "\":\"", value, "\""] {
                json.push_str(part);
            }
        }
        json.push('}');
        Ok(json)
    }
}
