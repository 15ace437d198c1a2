//! The document at an issuer's well-known address.

use super::{LONGEST_ERROR, MARKS, assert_hides};
use crate::oauth::Discovery;

const ISSUER: &str = "https://auth.example/tenant";

/// A discovery document: it belongs to this issuer and names an endpoint by https, or it is refused.
pub fn discovery(data: &[u8]) {
    for uses_tls_alias in [false, true] {
        let discovery = Discovery::new(ISSUER, false, uses_tls_alias).expect("a sound issuer");
        match discovery.read_bytes(data) {
            Ok(server) => {
                let text = String::from_utf8_lossy(data);
                assert!(text.contains("issuer") && text.contains("token_endpoint"), "{text}");
                assert!(server.is_at_https_or_loopback());
            }
            Err(what) => {
                assert!(what.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{what:?}");
                assert!(what.len() <= LONGEST_ERROR, "{} bytes", what.len());
                assert_hides(&what, &MARKS);
            }
        }
    }
}
