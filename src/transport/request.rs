//! A request, made anew for each attempt.

use super::Redactor;
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

/// One request: what is sent, and what of it must not be shown.
pub(crate) struct Request {
    pub(super) method: Method,
    pub(crate) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    pub(crate) redactor: Redactor,
}

impl Request {
    /// Asks for JSON. A method that may have a body has an empty one until it is given another.
    pub(crate) fn new(method: Method) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        // Nothing here decompresses, so that nothing can be made to decompress without end.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Self { method, headers, body: None, redactor: Redactor::default() }
    }

    /// Sends this body.
    pub(crate) fn with_body(mut self, media_type: &'static str, body: Bytes) -> Self {
        self.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        self.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(media_type));
        self.body = Some(body);
        self
    }

    /// Sends this form.
    #[cfg(feature = "oauth2")]
    pub(crate) fn with_form(mut self, form: &super::Form) -> Self {
        form.hide_secrets(&mut self.redactor);
        self.with_body(super::form::MEDIA_TYPE, form.encode())
    }
}
