//! An answer: status, a few headers, a body.

use std::time::{Duration, SystemTime};

use http::header::{AGE, CONTENT_ENCODING, CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, StatusCode};
use zeroize::Zeroizing;

use crate::clock::{Clock, SystemClock};
use crate::error::{Reach, SourceError};
use crate::json::Document;

use super::{Redactor, failure};

/// The answer to one request.
pub(crate) struct Answer {
    shown: String,
    status: StatusCode,
    headers: HeaderMap,
    /// The wall clock of this machine at the arrival of the answer.
    received: SystemTime,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// Knows the text that was sent, because some servers repeat it.
    pub(super) redactor: Redactor,
}

/// The server's time at the arrival of the answer: its `Date` (RFC 9110 section 6.6.1), plus the time that a cache
/// has kept the answer.
pub(crate) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    date.checked_add(age(headers))
}

/// RFC 9111 section 5.1.
fn age(headers: &HeaderMap) -> Duration {
    let text = headers.get(AGE).and_then(|age| age.to_str().ok());
    let seconds = text.and_then(|age| age.trim().parse::<u32>().ok()).unwrap_or_default();
    Duration::from_secs(seconds.into())
}

impl Answer {
    pub(super) fn head(shown: &str, response: &reqwest::Response, redactor: &Redactor) -> Self {
        Self {
            shown: shown.to_owned(),
            status: response.status(),
            headers: response.headers().clone(),
            received: SystemClock.now().wall,
            body: Zeroizing::default(),
            redactor: redactor.clone(),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All headers.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The wall clock of the server (RFC 9110 section 6.6.1), or of this machine if the server does not give it.
    pub(crate) fn server_time(&self) -> SystemTime {
        self.date().unwrap_or(self.received)
    }

    /// How far the server's clock is ahead of a clock that shows `now` at the arrival of the answer, in seconds.
    /// `None` if the server does not give its time.
    #[cfg(feature = "oauth2")]
    pub(crate) fn clock_offset(&self, now: SystemTime) -> Option<i64> {
        self.date().map(|date| crate::clock::seconds_ahead(date, now))
    }

    /// The server's time, if the server gives it.
    pub(crate) fn date(&self) -> Option<SystemTime> {
        date(&self.headers)
    }

    /// How long a cache has kept the answer.
    pub(crate) fn age(&self) -> Duration {
        age(&self.headers)
    }

    /// RFC 9110 section 10.2.3. A date is compared with the clock of the server that wrote it.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        failure::retry_after(self.header(&RETRY_AFTER)?, self.server_time())
    }

    /// The body as JSON, for any content type.
    pub(crate) fn json(&self) -> Result<Document, SourceError> {
        if let Some(encoding) = self.encoding() {
            return Err(self.nonsense(encoding));
        }
        // The parser's error has a line and a column, and no part of the text.
        Document::parse(&self.body).map_err(|error| match self.body.len() {
            0 => self.nonsense("with an empty body instead of JSON"),
            _ => self.nonsense(format_args!("with {} instead of JSON ({error})", self.content_type())),
        })
    }

    /// The encoding that makes the body unreadable. It continues the sentence "... answered 200 OK ...".
    fn encoding(&self) -> Option<String> {
        let encoding = self.header(&CONTENT_ENCODING).map(str::trim).unwrap_or_default();
        let is_encoded = !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity");
        is_encoded.then(|| {
            let encoding = self.quoted(encoding, 40).unwrap_or_default();
            format!("with a body in the Content-Encoding {encoding:?}, though `Accept-Encoding: identity` was sent")
        })
    }

    /// For a refusal without a document: the encoding of its body, with a space before it.
    pub(crate) fn unread(&self) -> String {
        self.encoding().map(|encoding| format!(" {encoding}")).unwrap_or_default()
    }

    /// The body as text, without white space around it.
    pub(crate) fn text(&self) -> Result<&str, SourceError> {
        if let Some(encoding) = self.encoding() {
            return Err(self.nonsense(encoding));
        }
        let text = std::str::from_utf8(&self.body);
        text.map(str::trim).map_err(|_| self.nonsense("with a body that is not UTF-8"))
    }

    fn content_type(&self) -> String {
        match self.header(&CONTENT_TYPE) {
            Some(text) => {
                self.quoted(text, 80).unwrap_or_else(|| "a content type that cannot be shown".to_owned())
            }
            None => "no content type".to_owned(),
        }
    }

    /// One printable line of the server's text. `None` if it repeats text that was sent or hidden since.
    pub(crate) fn quoted(&self, text: &str, limit: usize) -> Option<String> {
        self.redactor.quoted(text, limit)
    }

    /// Also hides received text.
    pub(crate) fn hide(&mut self, secret: &str) {
        self.redactor.hide(Zeroizing::new(secret.to_owned()));
    }

    /// An unusable answer. The next answer may be usable.
    pub(crate) fn nonsense(&self, what: impl std::fmt::Display) -> SourceError {
        let reach = if self.is_success() { Reach::Used } else { Reach::Lost };
        SourceError::transient(self.sentence(what)).that(reach).answered(self.status)
    }

    /// "… answered 200 OK", followed by `what`.
    pub(crate) fn sentence(&self, what: impl std::fmt::Display) -> String {
        format!("{} answered {} {what}", self.shown, self.status)
    }

    /// A refusal. `what` continues the sentence after the status.
    pub(crate) fn refusal(&self, transient: bool, what: &str) -> SourceError {
        let message = format!("{} answered {}{what}", self.shown, self.status);
        let error = if transient { SourceError::transient(message) } else { SourceError::terminal(message) };
        self.with_retry_after(error.answered(self.status))
    }

    /// The same with the server's explanation from the document: at this place, or in the usual ones.
    pub(crate) fn refusal_of(
        &self,
        transient: bool,
        document: Option<&Document>,
        place: Option<&str>,
    ) -> SourceError {
        self.refusal(transient, &self.said(document, place))
    }

    /// The server's explanation, as the end of a sentence. Without a document: why there is none.
    pub(crate) fn said(&self, document: Option<&Document>, place: Option<&str>) -> String {
        match document {
            Some(document) => self.because(document, place),
            None => self.unread(),
        }
    }

    /// Adds the time after which the server accepts the next request.
    pub(crate) fn with_retry_after(&self, error: SourceError) -> SourceError {
        match self.retry_after() {
            Some(delay) => error.with_retry_after(delay),
            None => error,
        }
    }

    /// Whether another attempt may help, by the status alone.
    pub(crate) fn may_pass(&self) -> bool {
        failure::may_pass(self.status)
    }
}
