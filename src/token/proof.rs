//! The key that a token is bound to, as far as a token has to know it.

use http::{HeaderMap, HeaderValue, Method, Uri};

use crate::clock::Timestamp;

/// Proves that whoever sends a token holds the key that the token is bound to (RFC 9449).
///
/// Token and key travel together. Therefore a token that was made before a change of keys is proved by its own key.
pub(crate) trait Binding: Send + Sync {
    /// The proof for one request, as the value of its `DPoP` header. The error continues the sentence "the token ...".
    fn prove(&self, method: &Method, uri: &Uri, now: Timestamp) -> Result<HeaderValue, &'static str>;

    /// Learns from an answer. Returns whether the next proof has a nonce that the answered request may not have had.
    fn learn(&self, uri: &Uri, headers: &HeaderMap, now: Timestamp) -> bool;
}
