//! Proofs at the token endpoint (RFC 9449 sections 5 and 8).

use std::sync::Arc;
use std::time::SystemTime;

use http::{Method, StatusCode, Uri};
use zeroize::Zeroizing;

use super::DpopKey;
use super::htu::Target;
use super::nonce::ServerNonce;
use super::proof::Claims;
use crate::error::SourceError;
use crate::token::DPOP;
use crate::transport::{Answer, Endpoint, Request};

/// The proofs of possession of one client at its token endpoint.
pub(crate) struct ClientProofs {
    key: DpopKey,
    nonce: ServerNonce,
}

/// The nonce of a proof that was sent.
pub(crate) struct SentNonce(Option<Arc<str>>);

impl ClientProofs {
    pub(crate) fn new(key: DpopKey) -> Self {
        Self { key, nonce: ServerNonce::default() }
    }

    pub(crate) fn key(&self) -> &DpopKey {
        &self.key
    }

    /// Puts a proof by `key` into a request, with the server's last nonce. `now` is the time by the server's clock.
    pub(crate) fn prove(
        &self,
        key: &DpopKey,
        request: &mut Request,
        endpoint: &Endpoint,
        now: SystemTime,
    ) -> Result<SentNonce, SourceError> {
        let failed =
            |what: &str| SourceError::terminal(format!("the DPoP proof for the token endpoint {what}"));
        let uri: Uri = endpoint.url().as_str().parse().map_err(|_| failed("cannot name its address"))?;
        let target = Target::of(&uri).map_err(|_| failed("cannot name its address"))?;
        let nonce = self.nonce.get();
        let claims =
            Claims { method: &Method::POST, target: &target, now, nonce: nonce.as_deref(), ath: None };
        let proof = claims.sign(key).map_err(|_| failed("could not be signed"))?;
        // Some servers repeat the proof that they have refused.
        request.redactor.hide(Zeroizing::new(String::from_utf8_lossy(proof.as_bytes()).into_owned()));
        request.headers.insert(&DPOP, proof);
        Ok(SentNonce(nonce))
    }

    /// Learns the nonce from any answer. Returns whether the request must be repeated with it (section 8): the
    /// server requires a nonce, and has given one that was not sent.
    pub(crate) fn learn(&self, answer: &Answer, sent: &SentNonce) -> bool {
        let is_new = self.nonce.learn(answer.headers(), sent.0.as_deref());
        is_new
            && matches!(answer.status(), StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED)
            && wants_nonce(answer)
    }
}

fn wants_nonce(answer: &Answer) -> bool {
    let document = answer.json();
    document.is_ok_and(|document| document.text("/error").is_some_and(|code| code.trim() == "use_dpop_nonce"))
}
