//! A request, made anew for each attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Redactor;
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Body;

/// One request: the text that is sent, and the parts of it that must not be shown.
pub(crate) struct Request {
    pub(super) method: Method,
    pub(crate) headers: HeaderMap,
    pub(super) body: Option<Body>,
    pub(crate) redactor: Redactor,
    /// For a held body: whether it was passed to the connection.
    gone: Option<Arc<AtomicBool>>,
}

impl Request {
    /// Requests JSON. A method that may have a body has an empty one until a body is set.
    pub(crate) fn new(method: Method) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        // This crate decompresses nothing. Therefore no answer can expand without end.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Self { method, headers, body: None, redactor: Redactor::default(), gone: None }
    }

    /// Asks for an answer of this media type, and not for JSON.
    pub(crate) fn accept(&mut self, media_type: &'static str) {
        self.headers.insert(ACCEPT, HeaderValue::from_static(media_type));
    }

    /// Sends this body.
    pub(crate) fn with_body(self, media_type: &'static str, body: Bytes) -> Self {
        let length = body.len();
        self.with(media_type, length, body.into())
    }

    fn with(mut self, media_type: &'static str, length: usize, body: Body) -> Self {
        self.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
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

    /// Sends this form when the gate is opened. The connection is open by then.
    #[cfg(feature = "oauth2")]
    pub(crate) fn with_held_form(mut self, form: &super::Form, held: super::Held) -> Self {
        form.hide_secrets(&mut self.redactor);
        let body = form.encode();
        self.gone = Some(held.gone());
        self.with(super::form::MEDIA_TYPE, body.len(), Body::wrap(held.keep(body)))
    }

    /// Called after a failure: whether the body was never sent. Then no server has read it.
    pub(super) fn is_unsent(&self) -> impl Fn() -> bool + use<> {
        let gone = self.gone.clone();
        move || gone.as_ref().is_some_and(|gone| !gone.load(Ordering::Acquire))
    }
}
