//! One HTTP exchange, as every source over HTTP makes it: bounded in time and size, without redirects, and
//! with errors that say what happened and hold no secret.

mod body;
mod endpoint;
mod failure;
pub(crate) mod form;
mod json;

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use zeroize::Zeroizing;

use crate::clock::{Clock, SystemClock};
use crate::error::{BuildError, SourceError};

pub(crate) use crate::redactor::{Redactor, printable};
use body::BodyError;
pub(crate) use endpoint::Endpoint;
#[cfg(any(test, fuzzing))]
pub(crate) use failure::retry_after;
pub(crate) use json::{Document, Pointer, lifetime, moment};

/// Just below the policy's `attempt_timeout` of 10 s, so that the source's own error is the one that is seen.
const TIMEOUT: Duration = Duration::from_secs(9);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 64 * 1024;

/// What the builders of all sources over HTTP let the user set. `None` is the default.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) timeout: Option<Duration>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) max_body: Option<usize>,
    pub(crate) client: Option<reqwest::Client>,
}

/// How long a request may take, and what sets this limit.
#[derive(Clone, Copy)]
struct Limit {
    time: Duration,
    name: &'static str,
}

/// A client with its limits, and the one address that it asks.
pub(crate) struct Transport {
    client: reqwest::Client,
    endpoint: Endpoint,
    redactor: Redactor,
    timeout: Duration,
    max_body: usize,
    /// The user built the client, so nobody knows what it adds to a request, or where it sends it.
    is_foreign: bool,
}

impl Transport {
    /// `redactor` knows what is sent, which some servers repeat.
    pub(crate) fn new(
        endpoint: Endpoint,
        redactor: Redactor,
        settings: Settings,
    ) -> Result<Self, BuildError> {
        let timeout = settings.timeout.unwrap_or(TIMEOUT);
        let max_body = settings.max_body.unwrap_or(MAX_BODY);
        refuse_zero("timeout", timeout)?;
        refuse_zero("connect_timeout", settings.connect_timeout.unwrap_or(CONNECT_TIMEOUT))?;
        if max_body == 0 {
            return Err(BuildError::new("max_body", "is zero: no answer fits; the default is 65536 bytes"));
        }
        let is_foreign = settings.client.is_some();
        let client = match (settings.client, settings.connect_timeout) {
            (Some(_), Some(_)) => {
                return Err(BuildError::new(
                    "connect_timeout",
                    "has no effect beside `http_client`: set it where that client is built",
                ));
            }
            (Some(client), None) => client,
            (None, connect_timeout) => {
                endpoint.check_tls()?;
                client(connect_timeout.unwrap_or(CONNECT_TIMEOUT))?
            }
        };
        Ok(Self { client, endpoint, redactor, timeout, max_body, is_foreign })
    }

    /// The address without what may be secret in it.
    pub(crate) fn shown(&self) -> &str {
        self.endpoint.shown()
    }

    /// Whether the client is the user's own.
    pub(crate) fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// The address with all that may be secret in it.
    pub(crate) fn url(&self) -> &str {
        self.endpoint.url().as_str()
    }

    /// An answer that did not come over a socket.
    #[cfg(any(test, fuzzing))]
    pub(crate) async fn parse_response(
        &self,
        response: http::Response<Vec<u8>>,
    ) -> Result<Answer, SourceError> {
        use reqwest::ResponseBuilderExt;

        let (mut parts, body) = response.into_parts();
        let from = http::Response::builder().url(self.endpoint.url().clone()).body(());
        parts.extensions = from.map(|from| from.into_parts().0.extensions).unwrap_or_default();
        self.receive(http::Response::from_parts(parts, body).into(), self.limit(None)).await
    }

    /// Sends one request and reads the answer, whatever its status; a redirect is an error. It takes no longer
    /// than `timeout`, and no longer than `time_left`.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Option<Bytes>,
        time_left: Option<Duration>,
    ) -> Result<Answer, SourceError> {
        let limit = self.limit(time_left);
        let mut request = self.client.request(method, self.endpoint.url().clone());
        request = request.timeout(limit.time).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.map_err(|error| self.broken(error, limit))?;
        self.receive(response, limit).await
    }

    fn limit(&self, time_left: Option<Duration>) -> Limit {
        match time_left {
            Some(left) if left < self.timeout => {
                // To the millisecond, for people.
                let time = Duration::new(left.as_secs(), left.subsec_millis() * 1_000_000);
                Limit { time, name: "the time left for the attempt" }
            }
            _ => Limit { time: self.timeout, name: "`timeout`" },
        }
    }

    /// Reads an answer, whatever its status; a redirect is an error.
    async fn receive(&self, mut response: reqwest::Response, limit: Limit) -> Result<Answer, SourceError> {
        self.refuse_redirect(&response)?;
        let mut answer = Answer::head(self.shown(), &response, &self.redactor);
        match body::read(&mut response, self.max_body).await {
            Ok(body) => answer.body = body,
            // The status says what went wrong; that its explanation is too long or broken off does not.
            Err(_) if !answer.is_success() => {}
            Err(BodyError::TooLong) => {
                let limit = self.max_body;
                return Err(
                    answer.nonsense(format_args!("with a body of more than {limit} bytes (`max_body`)"))
                );
            }
            Err(BodyError::Broken(error)) => return Err(self.broken(error, limit)),
        }
        Ok(answer)
    }

    fn broken(&self, error: reqwest::Error, limit: Limit) -> SourceError {
        failure::network(error, self.shown(), limit)
    }

    /// A client of the user's own may have followed it already; what came from there is not trusted.
    fn refuse_redirect(&self, response: &reqwest::Response) -> Result<(), SourceError> {
        let followed = response.url() != self.endpoint.url();
        if !followed && !response.status().is_redirection() {
            return Ok(());
        }
        let to = if followed {
            Some(endpoint::shown(response.url()))
        } else {
            self.endpoint.location(response, &self.redactor)
        };
        let to = to.map(|to| format!(" to {}", self.redactor.clean(&to, 200))).unwrap_or_default();
        let (shown, what) = (self.shown(), if followed { "redirected" } else { "answered with a redirect" });
        Err(SourceError::terminal(format!(
            "{shown} {what}{to}: redirects are not followed, since that would hand the credentials to another \
             address; configure the final one"
        )))
    }
}

/// What came back.
pub(crate) struct Answer {
    shown: String,
    status: StatusCode,
    content_type: String,
    retry_after: Option<Duration>,
    body: Zeroizing<Vec<u8>>,
}

impl Answer {
    fn head(shown: &str, response: &reqwest::Response, redactor: &Redactor) -> Self {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let content_type =
            header(CONTENT_TYPE).map_or_else(|| "no content type".into(), |text| redactor.clean(text, 80));
        let retry_after =
            header(RETRY_AFTER).and_then(|text| failure::retry_after(text, SystemClock.now().wall));
        let (shown, status) = (shown.to_owned(), response.status());
        Self { shown, status, content_type, retry_after, body: Zeroizing::default() }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// The body as JSON, whatever its content type claims.
    pub(crate) fn json(&self) -> Result<Document, SourceError> {
        // The parser's error has a line and a column, and nothing of the text.
        Document::parse(&self.body).map_err(|error| match self.body.len() {
            0 => self.nonsense("with an empty body instead of JSON"),
            _ => self.nonsense(format_args!("with {} instead of JSON ({error})", self.content_type)),
        })
    }

    /// An answer that makes no sense: the next one may.
    pub(crate) fn nonsense(&self, what: impl std::fmt::Display) -> SourceError {
        SourceError::transient(format!("{} answered {} {what}", self.shown, self.status))
    }

    /// An answer that says no. `what` continues the sentence after the status.
    pub(crate) fn refusal(&self, transient: bool, what: &str) -> SourceError {
        let message = format!("{} answered {}{what}", self.shown, self.status);
        let error = if transient { SourceError::transient(message) } else { SourceError::terminal(message) };
        match self.retry_after {
            Some(delay) => error.with_retry_after(delay),
            None => error,
        }
    }

    /// Whether the status alone says that trying again may help.
    pub(crate) fn may_pass(&self) -> bool {
        failure::may_pass(self.status)
    }
}

fn client(connect_timeout: Duration) -> Result<reqwest::Client, BuildError> {
    reqwest::Client::builder()
        .user_agent(concat!("tokenflight/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(connect_timeout)
        .build()
        .map_err(|error| {
            let cause = failure::root_cause(&error);
            BuildError::new("http_client", format!("cannot be built ({cause}): pass one of your own"))
        })
}

fn refuse_zero(field: &'static str, value: Duration) -> Result<(), BuildError> {
    match value {
        Duration::ZERO => Err(BuildError::new(field, "is zero: every request would fail")),
        _ => Ok(()),
    }
}
