//! One HTTP exchange, as every source over HTTP makes it: bounded in time and size, without redirects, and
//! with errors that say what happened and hold no secret.

mod answer;
mod body;
mod endpoint;
mod failure;
pub(crate) mod form;
#[cfg(feature = "oauth2")]
mod gate;
mod http_client;
mod identity;
mod reason;
mod request;
#[cfg(feature = "oauth2")]
mod server_clock;
mod setters;

use std::time::Duration;

use crate::error::{BuildError, Reach, SourceError};

pub(crate) use crate::json::{Document, Pointer, lifetime, moment};
pub(crate) use crate::redactor::{Redactor, printable};
pub(crate) use answer::Answer;
#[cfg(feature = "dpop")]
pub(crate) use answer::date;
use body::BodyError;
pub(crate) use endpoint::Endpoint;
#[cfg(feature = "oauth2")]
pub(crate) use failure::may_pass;
#[cfg(all(feature = "oauth2", any(test, fuzzing)))]
pub(crate) use failure::retry_after;
#[cfg(feature = "oauth2")]
pub(crate) use form::Form;
#[cfg(feature = "oauth2")]
pub(crate) use gate::{Gate, Held, gate};
pub(crate) use http_client::{Configure, HttpClient, HttpSettings};
pub(crate) use request::Request;
#[cfg(feature = "oauth2")]
pub(crate) use server_clock::ServerClock;
pub(crate) use setters::http_setters;

/// Just below the policy's `attempt_timeout` of 10 s, so that the source's own error is the one that is seen.
const TIMEOUT: Duration = Duration::from_secs(9);
const MAX_BODY: usize = 64 * 1024;
/// No answer with a token in it is longer.
const LONGEST_MAX_BODY: usize = 16 * 1024 * 1024;

/// How long a request may take, and how long its answer may be. `None` is the default.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_body: Option<usize>,
}

/// How long a request may take, and what sets this limit.
#[derive(Clone, Copy)]
struct Limit {
    time: Duration,
    name: &'static str,
}

/// An HTTP client with its limits.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    http: HttpClient,
    timeout: Duration,
    max_body: usize,
}

impl Transport {
    pub(crate) fn new(http: HttpClient, limits: Limits) -> Result<Self, BuildError> {
        let timeout = limits.timeout.unwrap_or(TIMEOUT);
        let max_body = limits.max_body.unwrap_or(MAX_BODY);
        refuse_zero("timeout", timeout)?;
        match max_body {
            0 => Err(BuildError::new("max_body", "is zero: no answer fits; the default is 65536 bytes")),
            1..=LONGEST_MAX_BODY => Ok(Self { http, timeout, max_body }),
            _ => Err(BuildError::new(
                "max_body",
                "is more than 16777216 bytes (16 MiB): no token is that long",
            )),
        }
    }

    /// With a client of its own, which can ask this address.
    pub(crate) fn to(
        endpoint: &Endpoint,
        settings: HttpSettings,
        limits: Limits,
    ) -> Result<Self, BuildError> {
        let transport = Self::new(HttpClient::new(settings)?, limits)?;
        transport.check(endpoint)?;
        Ok(transport)
    }

    /// Builds what is needed to ask this address.
    pub(crate) fn check(&self, endpoint: &Endpoint) -> Result<(), BuildError> {
        endpoint.check_tls()?;
        self.http.check(endpoint)
    }

    /// The same, where a request may take so long.
    #[cfg(feature = "oauth2")]
    pub(crate) fn patient(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Whether a closure of the user's decides what is added to each request.
    pub(crate) fn is_configured(&self) -> bool {
        self.http.is_configured()
    }

    /// An answer that did not come over a socket.
    #[cfg(any(test, fuzzing))]
    pub(crate) async fn parse_response(
        &self,
        endpoint: &Endpoint,
        redactor: &Redactor,
        response: http::Response<Vec<u8>>,
    ) -> Result<Answer, SourceError> {
        use reqwest::ResponseBuilderExt;

        let (mut parts, body) = response.into_parts();
        let from = http::Response::builder().url(endpoint.url().clone()).body(());
        parts.extensions = from.map(|from| from.into_parts().0.extensions).unwrap_or_default();
        let response = http::Response::from_parts(parts, body).into();
        self.receive(endpoint, redactor, response, self.limit(None)).await
    }

    /// Sends one request and reads the answer, whatever its status; a redirect is an error. It takes no longer
    /// than `timeout`, and no longer than `time_left`.
    pub(crate) async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request,
        time_left: Option<Duration>,
    ) -> Result<Answer, SourceError> {
        let limit = self.limit(time_left);
        let is_unsent = request.is_unsent();
        let Request { method, headers, body, redactor, .. } = request;
        let client = self.http.client(endpoint.url()).await?;
        let mut request = client.request(method, endpoint.url().clone());
        request = request.timeout(limit.time).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let sent = request.send().await;
        let response = sent.map_err(|error| {
            let error = failure::network(error, endpoint.shown(), limit);
            if is_unsent() { error.that(Reach::Unused) } else { error }
        })?;
        self.receive(endpoint, &redactor, response, limit).await
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
    async fn receive(
        &self,
        endpoint: &Endpoint,
        redactor: &Redactor,
        mut response: reqwest::Response,
        limit: Limit,
    ) -> Result<Answer, SourceError> {
        refuse_redirect(endpoint, redactor, &response)?;
        let mut answer = Answer::head(endpoint.shown(), &response, redactor);
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
            Err(BodyError::Broken(error)) => {
                return Err(failure::network(error, endpoint.shown(), limit).that(Reach::Used));
            }
        }
        Ok(answer)
    }
}

fn refuse_redirect(
    endpoint: &Endpoint,
    redactor: &Redactor,
    response: &reqwest::Response,
) -> Result<(), SourceError> {
    let followed = response.url() != endpoint.url();
    if !followed && !response.status().is_redirection() {
        return Ok(());
    }
    let to = endpoint.location(response).and_then(|to| redactor.quoted(&to, 200));
    let to = to.map(|to| format!(" to {to}")).unwrap_or_default();
    Err(SourceError::terminal(format!(
        "{} answered with a redirect{to}: redirects are not followed, since that would hand the credentials to \
         another address; configure the final one",
        endpoint.shown()
    ))
    .that(Reach::Lost))
}

fn refuse_zero(field: &'static str, value: Duration) -> Result<(), BuildError> {
    match value {
        Duration::ZERO => Err(BuildError::new(field, "is zero: every request would fail")),
        _ => Ok(()),
    }
}
