//! The key to which a token is bound: the part of it that a token must know.

use http::{HeaderMap, HeaderValue, Method, Uri};

use crate::clock::Timestamp;

/// Proves that the sender of a token holds the token's key (RFC 9449).
///
/// Token and key belong together. Therefore a token that was made before a change of keys is proved by its own key.
pub(crate) trait Binding: Send + Sync {
    /// The proof for one request, as the value of its `DPoP` header. The error continues the sentence "the token ...".
    fn prove(&self, method: &Method, uri: &Uri, now: Timestamp) -> Result<HeaderValue, &'static str>;

    /// Learns from an answer. Returns whether the next proof has a nonce that the answered request may not have had.
    fn learn(&self, uri: &Uri, headers: &HeaderMap, now: Timestamp) -> bool;
}
