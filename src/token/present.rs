//! Puts a token on a request. If that is impossible, it returns an error, and the request must not be sent.

use std::fmt;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::proof::ProofNonce;
use super::{Inner, Token, TokenType};

/// The header of a proof (RFC 9449 section 4).
pub(crate) static DPOP: HeaderName = HeaderName::from_static("dpop");

impl Token {
    /// Puts the token on a request: the `Authorization` header (RFC 6750 section 2.1), and for a token that is
    /// [bound](Self::is_bound) to a key a proof in the `DPoP` header (RFC 9449 section 7.1).
    ///
    /// Existing headers under these two names are replaced, so that no proof of another token remains. A proof is
    /// valid for one request to this method and URI. Therefore call this function again for each request, also for
    /// a repeated one.
    ///
    /// For a bearer token the cost is that of [`authorization`](Self::authorization), and one insertion.
    ///
    /// ```
    /// use http::{HeaderMap, Method, Uri};
    /// use tokenflight::Token;
    ///
    /// let (method, uri) = (Method::GET, Uri::from_static("https://api.example.com/orders"));
    /// let mut headers = HeaderMap::new();
    /// Token::new("s3cret").apply(&method, &uri, &mut headers)?;
    /// assert_eq!(headers["authorization"], "Bearer s3cret");
    ///
    /// let error = Token::new("two words").apply(&method, &uri, &mut headers).unwrap_err();
    /// assert!(!error.to_string().contains("words"));
    /// # Ok::<(), tokenflight::PresentError>(())
    /// ```
    ///
    /// # Errors
    /// The headers are unchanged, and the request must not be sent:
    /// - the secret or the type cannot stand in a header (see [`new`](Self::new), [`TokenType::Other`]);
    /// - the token is bound to a key, and this `Token` was made without the key: then no proof is possible, and no
    ///   API accepts such a token as a bearer token;
    /// - no room is left: a [`HeaderMap`] holds 24,576 names;
    /// - the token is bound to a key, and the URI has no scheme or no host, or signing the proof failed.
    #[inline]
    pub fn apply(&self, method: &Method, uri: &Uri, headers: &mut HeaderMap) -> Result<(), PresentError> {
        self.put(method, uri, headers, false).map(drop)
    }

    /// [`apply`](Self::apply) for a caller that keeps the nonce of the proof, and passes it to
    /// [`learn_after`](Self::learn_after) with the answer. A request that is given up leaves no trace.
    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    #[inline]
    pub(crate) fn apply_noting(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &mut HeaderMap,
    ) -> Result<ProofNonce, PresentError> {
        self.put(method, uri, headers, true)
    }

    #[inline]
    fn put(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &mut HeaderMap,
        is_noted: bool,
    ) -> Result<ProofNonce, PresentError> {
        let Some(value) = &self.0.header else { return Err(self.unpresentable()) };
        let mut nonce = ProofNonce::default();
        if self.is_bound() {
            let (proof, its_nonce) = self.proof(method, uri, is_noted)?;
            // This comes first, so that an error changes nothing.
            headers.try_reserve(2).map_err(no_room)?;
            headers.try_insert(&DPOP, proof).map_err(no_room)?;
            nonce = its_nonce;
        } else {
            remove_proof(headers);
        }
        headers.try_insert(AUTHORIZATION, value.clone()).map_err(no_room)?;
        Ok(nonce)
    }

    /// Learns from an answer what the next proof needs: the server's nonce (`DPoP-Nonce`, RFC 9449 section 8) and
    /// its `Date`. Call it with **every** answer, whatever the status.
    ///
    /// It returns whether the next proof has a nonce that the answered request did not have. Then it is useful to
    /// repeat a request that was answered with `use_dpop_nonce`, once. For a bearer token this function does
    /// nothing and returns `false`.
    ///
    /// It is not known to which request an answer belongs. Therefore this function counts the answers. Until 60 s
    /// after a request that got no answer, it may return `true` once too often.
    pub fn learn(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        self.learn_from(uri, headers, None)
    }

    /// [`learn`](Self::learn) from the answer to a request with [this](Self::apply_noting) nonce. Returns whether
    /// the answer has another nonce.
    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    pub(crate) fn learn_after(&self, uri: &Uri, headers: &HeaderMap, sent: &ProofNonce) -> bool {
        self.learn_from(uri, headers, Some(sent))
    }

    #[cfg_attr(not(feature = "dpop"), allow(clippy::unused_self))]
    fn learn_from(&self, uri: &Uri, headers: &HeaderMap, sent: Option<&ProofNonce>) -> bool {
        #[cfg(feature = "dpop")]
        return self.0.key.as_ref().is_some_and(|key| key.learn(uri, headers, self.0.clock.now(), sent));
        #[cfg(not(feature = "dpop"))]
        {
            let _ = (uri, headers, sent);
            false
        }
    }

    /// Whether the token is bound to a key (its type is [`TokenType::DPoP`], in any spelling). Then it cannot be
    /// used without a proof.
    ///
    /// ```
    /// use tokenflight::{Token, TokenType};
    ///
    /// assert!(!Token::new("abc").is_bound());
    /// assert!(Token::new("abc").with_type(TokenType::DPoP).is_bound());
    /// ```
    pub fn is_bound(&self) -> bool {
        self.0.kind.is_dpop()
    }

    #[cfg(feature = "dpop")]
    fn proof(
        &self,
        method: &Method,
        uri: &Uri,
        is_noted: bool,
    ) -> Result<(HeaderValue, ProofNonce), PresentError> {
        let key = self.0.key.as_ref().ok_or_else(PresentError::without_key)?;
        let proof = key.prove(method, uri, self.0.clock.now(), is_noted);
        proof.map_err(|flaw| PresentError(format!("the token {flaw}")))
    }

    #[cfg(not(feature = "dpop"))]
    #[allow(clippy::unused_self)]
    fn proof(
        &self,
        _method: &Method,
        _uri: &Uri,
        _is_noted: bool,
    ) -> Result<(HeaderValue, ProofNonce), PresentError> {
        Err(PresentError::without_key())
    }

    /// The token with its key.
    #[cfg(feature = "dpop")]
    pub(crate) fn bound(self, key: std::sync::Arc<dyn super::Binding>) -> Self {
        self.with_type(TokenType::DPoP).with(|inner| inner.key = Some(key))
    }

    /// Whether this token holds the key to which it is bound.
    #[cfg(any(feature = "oauth2", feature = "shared"))]
    #[cfg_attr(not(feature = "dpop"), allow(clippy::unused_self))]
    pub(crate) fn has_key(&self) -> bool {
        #[cfg(feature = "dpop")]
        return self.0.key.is_some();
        #[cfg(not(feature = "dpop"))]
        false
    }

    #[cold]
    fn unpresentable(&self) -> PresentError {
        let flaw = self.flaw().unwrap_or_else(|| "cannot stand in a header".to_owned());
        PresentError(format!("the token {flaw}"))
    }
}

#[cold]
fn no_room(_: http::header::MaxSizeReached) -> PresentError {
    PresentError("the token has no room: the headers are full".to_owned())
}

/// Hashing the name costs more than comparing a few names.
fn remove_proof(headers: &mut HeaderMap) {
    const FEW: usize = 16;
    if headers.keys_len() > FEW || headers.keys().any(|name| *name == DPOP) {
        headers.remove(&DPOP);
    }
}

impl Inner {
    /// Only a token of this type can have a key.
    #[cfg_attr(not(feature = "dpop"), allow(clippy::unused_self, clippy::needless_pass_by_ref_mut))]
    pub(super) fn unbind_unless_dpop(&mut self, kind: &TokenType) {
        #[cfg(feature = "dpop")]
        if !kind.is_dpop() {
            self.key = None;
        }
        #[cfg(not(feature = "dpop"))]
        let _ = kind;
    }
}

/// The reason why a token cannot be put on a request.
///
/// Its text gives the fault and the correction, and never shows a secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PresentError(String);

impl PresentError {
    /// For `testing::errors`.
    #[cfg(feature = "test-util")]
    pub(crate) fn of(text: String) -> Self {
        Self(text)
    }

    #[cold]
    fn without_key() -> Self {
        Self("the token is bound to a key (DPoP), and the key is not here: get it from a source that has the key".into())
    }
}

impl fmt::Display for PresentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PresentError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(token: &Token, headers: &mut HeaderMap) -> Result<(), PresentError> {
        token.apply(&Method::GET, &Uri::from_static("https://api.example/"), headers)
    }

    #[test]
    fn a_bearer_token_replaces_all_that_another_token_left() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, "Basic abc".parse().unwrap());
        headers.append(AUTHORIZATION, "DPoP old".parse().unwrap());
        headers.append(&DPOP, "a proof".parse().unwrap());
        headers.insert("x-other", "stays".parse().unwrap());
        apply(&Token::new("s3cret"), &mut headers).unwrap();
        assert_eq!(headers.len(), 2);
        assert_eq!(headers[AUTHORIZATION], "Bearer s3cret");
        assert!(headers[AUTHORIZATION].is_sensitive());
    }

    #[test]
    fn what_cannot_be_presented_is_an_error_that_changes_no_header_and_shows_no_secret() {
        for (token, why) in [
            (Token::new(""), "the token is empty, and no header can carry that"),
            (Token::new("s3cret\n"), "the token has a line break at position 7 that no header can carry"),
            (
                Token::new("s3cret").with_type(TokenType::Other("two words".into())),
                r#"the token has the token_type "two words", which is not a token (RFC 9110 section 5.6.2)"#,
            ),
            (
                Token::new("s3cret").with_type(TokenType::DPoP),
                "the token is bound to a key (DPoP), and the key is not here: get it from a source that has the key",
            ),
        ] {
            let mut headers = HeaderMap::new();
            let error = apply(&token, &mut headers).unwrap_err();
            assert_eq!(error.to_string(), why);
            assert!(headers.is_empty() && !format!("{error:?}").contains("s3cret"));
        }
    }

    #[test]
    fn a_bearer_token_learns_nothing() {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("dpop-nonce"), "abc".parse().unwrap())]);
        assert!(!Token::new("s3cret").learn(&Uri::from_static("https://api.example/"), &headers));
    }
}
