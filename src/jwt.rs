//! The claims in a JWT (RFC 7519). No function here verifies a signature, because the client of a token does not
//! judge it.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::json::{Document, moment};

/// In bytes. A longer text is not decoded.
const LONGEST: usize = 64 * 1024;

/// The claims of a JWT. `None` for a text that is no JWT.
pub(crate) struct Claims(Document);

impl Claims {
    pub(crate) fn of(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let mut parts = text.split('.');
        let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let json = |part: &str| {
            let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(part).ok()?);
            Document::parse(&bytes).ok()
        };
        json(header)?.get("/alg")?;
        json(claims).map(Self)
    }

    /// The moment in a claim: `exp`, `iat` (section 4.1).
    pub(crate) fn moment(&self, claim: &str) -> Option<SystemTime> {
        let value = self.0.get(&format!("/{claim}")).filter(|value| value.is_number());
        value.and_then(moment)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn jwt(claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_end_is_read_and_what_is_no_jwt_says_nothing() {
        let end = |text: &str| Claims::of(text).and_then(|claims| claims.moment("exp"));
        let at = |secs| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
        assert_eq!(end(&jwt(r#"{"exp":1468275250}"#)), at(1_468_275_250));
        assert_eq!(end(&jwt(r#"{"exp":1468275250.9}"#)), at(1_468_275_250));
        for text in [jwt(r#"{"exp":"1468275250"}"#), jwt("{}"), jwt("nonsense"), "a.b.c".into(), "abc".into()]
        {
            assert_eq!(end(&text), None, "{text}");
        }
        assert!(Claims::of(&jwt(&format!(r#"{{"exp":1,"x":"{}"}}"#, "x".repeat(LONGEST)))).is_none());
    }
}
