//! The requests and the answers of a server on loopback.

use std::time::Duration;

/// How a [`FakeAuthServer`](super::FakeAuthServer) answers a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// An HTTP answer with these headers (besides the length) and this body.
    Http {
        /// The status, with or without a reason: "503" or "200 OK".
        status: String,
        /// Names and values.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// Another reply, after this time.
    After(Duration, Box<Reply>),
    /// These bytes, and then the end of the connection.
    Raw(Vec<u8>),
    /// These bytes one by one, with a pause before each.
    Drip(Vec<u8>, Duration),
    /// No answer, for ever.
    Hang,
    /// The connection is closed without an answer.
    Close,
}

impl Reply {
    /// An answer of type `application/json`.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self::text(status, "application/json", body)
    }

    /// An answer of this type.
    pub fn text(status: u16, content_type: &str, body: impl Into<String>) -> Self {
        Self::Http {
            status: status.to_string(),
            headers: vec![("Content-Type".into(), content_type.into())],
            body: body.into().into_bytes(),
        }
    }

    /// Adds a header. Only an HTTP answer has headers.
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Self::Http { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }
}

/// A request that the server received.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Asked {
    /// Request line and headers, as they were received.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Asked {
    /// The target in the request line: a path, and a query if there is one.
    pub(super) fn target(&self) -> &str {
        self.head.split_ascii_whitespace().nth(1).unwrap_or_default()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}
