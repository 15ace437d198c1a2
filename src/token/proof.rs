//! The key to which a token is bound: the part of it that a token must know.

use std::sync::Arc;

#[cfg(feature = "dpop")]
use http::{HeaderMap, HeaderValue, Method, Uri};

#[cfg(feature = "dpop")]
use crate::clock::Timestamp;

/// The server's nonce in a proof that was sent. Empty: the proof had none, or there was no proof.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProofNonce(
    #[cfg_attr(not(feature = "dpop"), allow(dead_code))] pub(crate) Option<Arc<str>>,
);

/// Proves that the sender of a token holds the token's key (RFC 9449).
///
/// Token and key belong together. Therefore a token that was made before a change of keys is proved by its own key.
#[cfg(feature = "dpop")]
pub(crate) trait Binding: Send + Sync {
    /// The proof for one request, as the value of its `DPoP` header, and its nonce. `is_noted`: the caller keeps the
    /// nonce, and passes it to [`learn`](Self::learn). The error continues the sentence "the token ...".
    fn prove(
        &self,
        method: &Method,
        uri: &Uri,
        now: Timestamp,
        is_noted: bool,
    ) -> Result<(HeaderValue, ProofNonce), &'static str>;

    /// Learns from an answer. Returns whether the answer has a nonce that is not `sent`. If `sent` is not known:
    /// whether the next proof has a nonce that the answered request may not have had.
    fn learn(&self, uri: &Uri, headers: &HeaderMap, now: Timestamp, sent: Option<&ProofNonce>) -> bool;
}
