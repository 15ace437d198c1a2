//! One HTTP exchange, for all sources over HTTP. It is bounded in time and size, follows no redirects, and its
//! errors describe the failure without secrets.

mod answer;
mod body;
mod default_headers;
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

pub(crate) use crate::json::{Document, Pointer, is_garbled, lifetime, moment};
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

/// Just below the policy's `attempt_timeout` of 10 s. Therefore the source's own error comes first.
const TIMEOUT: Duration = Duration::from_secs(9);
const MAX_BODY: usize = 64 * 1024;
/// No answer with a token is longer.
const LONGEST_MAX_BODY: usize = 16 * 1024 * 1024;

/// The limits on the time of a request and the length of its answer. `None` is the default.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_body: Option<usize>,
}

/// The time limit of a request, and the setting that it comes from.
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

    /// With its own client, which can reach this address.
    pub(crate) fn to(
        endpoint: &Endpoint,
        settings: HttpSettings,
        limits: Limits,
    ) -> Result<Self, BuildError> {
        let transport = Self::new(HttpClient::new(settings)?, limits)?;
        transport.check(endpoint)?;
        Ok(transport)
    }

    /// Builds everything that a request to this address needs.
    pub(crate) fn check(&self, endpoint: &Endpoint) -> Result<(), BuildError> {
        endpoint.check_tls()?;
        self.http.check(endpoint)
    }

    /// The same, with this time limit for a request.
    #[cfg(feature = "oauth2")]
    pub(crate) fn patient(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Whether a closure of the user's adds something to each request.
    pub(crate) fn is_configured(&self) -> bool {
        self.http.is_configured()
    }

    /// An answer that did not come from a socket.
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

    /// Sends one request and reads the answer, with any status. A redirect is an error. The exchange takes no
    /// longer than `timeout`, and no longer than `time_left`.
    pub(crate) async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request,
        time_left: Option<Duration>,
    ) -> Result<Answer, SourceError> {
        let limit = self.limit(time_left);
        let is_unsent = request.is_unsent();
        let Request { method, headers, body, mut redactor, .. } = request;
        endpoint.hide_query(&mut redactor);
        let http = self.http.client(endpoint.url()).await?;
        http.headers.hide_in(&mut redactor);
        let mut request = http.client.request(method, endpoint.url().clone());
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
                // Rounded to milliseconds, for the reader.
                let time = Duration::new(left.as_secs(), left.subsec_millis() * 1_000_000);
                Limit { time, name: "the time left for the attempt" }
            }
            _ => Limit { time: self.timeout, name: "`timeout`" },
        }
    }

    /// Reads an answer, with any status. A redirect is an error.
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
            // The status gives the failure. A body that is too long or broken off does not matter then.
            Err(_) if !answer.is_success() => {}
            Err(BodyError::TooLong) => {
                let limit = self.max_body;
                return Err(
                    answer.nonsense(format_args!("with a body of more than {limit} bytes (`max_body`)"))
                );
            }
            Err(BodyError::Broken(error)) => {
                return Err(failure::network(error, endpoint.shown(), limit).that(Reach::UsedAndLost));
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
