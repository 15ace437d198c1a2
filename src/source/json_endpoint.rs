//! Any server whose answer is JSON with a token.

pub(crate) mod answer;
mod builder;
mod link;
#[cfg(all(test, feature = "test-util"))]
mod tests;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use zeroize::Zeroizing;

use crate::error::SourceError;
use crate::secret::header_of;
use crate::source::{BoxSource, FetchContext, TokenSource, UNNAMED};
use crate::token::Token;
use crate::transport::{Endpoint, Redactor, Request, Transport};

use answer::Shape;
pub use builder::JsonEndpointBuilder;
use link::Link;

type MakeValue = dyn Fn() -> Result<String, Box<dyn StdError + Send + Sync>> + Send + Sync;

/// Tokens from the many servers without OAuth 2: one request, and JSON pointers (RFC 6901) into its answer.
///
/// A server that answers `{"newToken":"def"}` without a lifetime:
///
/// ```
/// use std::time::Duration;
/// use tokenflight::source::JsonEndpoint;
///
/// let source = JsonEndpoint::post("http://localhost:3000/refresh")
///     .header("x-api-key", "s3cret")
///     .token_pointer("/newToken")
///     .lifetime(Duration::from_secs(60))
///     .build()?;
/// assert!(!format!("{source:?}").contains("s3cret"));
///
/// // Settings are checked here, and the error names the one at fault.
/// let error = JsonEndpoint::get("http://localhost:3000/").token_pointer("newToken").build().unwrap_err();
/// assert_eq!(error.field(), "token_pointer");
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// A cloud's metadata server. Google's has `access_token` and `expires_in`. Azure's has `expires_on`, in Unix
/// seconds. Both are called in clear, which must be allowed, and without a proxy. While the machine has no identity
/// yet, they answer 404 or 410, which is transient.
///
/// ```
/// use tokenflight::source::JsonEndpoint;
///
/// let google = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
/// let source = JsonEndpoint::get(google)
///     .header("Metadata-Flavor", "Google")
///     .lifetime_pointer("/expires_in")
///     .allow_http()
///     .transient_status(404)
///     .build()?;
///
/// let azure = "http://169.254.169.254/metadata/identity/oauth2/token\
///              ?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";
/// let source = JsonEndpoint::get(azure)
///     .header("Metadata", "true")
///     .expires_at_pointer("/expires_on")
///     .allow_http()
///     .transient_status(404)
///     .transient_status(410)
///     .build()?;
/// # let _ = source;
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// A GitHub App's installation token, requested with a JWT that is made anew for each request:
///
/// ```
/// use serde_json::json;
/// use tokenflight::source::JsonEndpoint;
///
/// # fn app_jwt() -> Result<String, std::io::Error> { Ok("e30.e30.c2ln".into()) }
/// let source = JsonEndpoint::post("https://api.github.com/app/installations/42/access_tokens")
///     .header_fn("Authorization", || app_jwt().map(|jwt| format!("Bearer {jwt}")))
///     .header("Accept", "application/vnd.github+json")
///     .body_json(json!({ "permissions": { "contents": "read" } }))
///     .token_pointer("/token")
///     .expires_at_pointer("/expires_at")
///     .build()?;
/// # let _ = source;
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// From a file, with the names of the setters (except `header_fn`). `header` and `form` are tables. Unknown keys are
/// refused:
///
/// ```
/// use tokenflight::source::JsonEndpointBuilder;
///
/// let settings = r#"{
///     "method": "POST",
///     "url": "https://login.example.com/session",
///     "header": { "x-api-key": "s3cret" },
///     "form": { "user": "me" },
///     "token_pointer": "/newToken",
///     "lifetime": "5m"
/// }"#;
/// let source = serde_json::from_str::<JsonEndpointBuilder>(settings)?.build()?;
///
/// let misspelt = settings.replace("token_pointer", "token_ponter");
/// let error = serde_json::from_str::<JsonEndpointBuilder>(&misspelt).unwrap_err();
/// assert!(error.to_string().contains("unknown field `token_ponter`"));
/// # let _ = source;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors of a fetch
/// Terminal: a 4xx other than 408, 425 and 429, and any redirect. Transient: the network, these three, 5xx, a
/// `transient_status`, a 4xx with `Retry-After`, and a success (any 2xx) without a token: not JSON, nothing at
/// `token_pointer`, more than `max_body`. A lifetime that cannot be read is a WARN, and the policy's
/// `missing_lifetime` applies. The server's explanation is quoted on one line, unless it contains anything that was
/// sent, or another text of the answer that may be a secret. Of a success it is quoted only if it cannot be the token:
/// a sentence of words, or a text beside `ok: false`, `success: false` or an `error`.
pub struct JsonEndpoint {
    transport: Transport,
    endpoint: Endpoint,
    /// Knows the texts that are sent each time.
    redactor: Redactor,
    method: Method,
    headers: HeaderMap,
    made: Vec<Made>,
    links: Vec<Link>,
    body: Option<(&'static str, Bytes)>,
    shape: Shape,
}

impl JsonEndpoint {
    /// Sends a GET request.
    pub fn get(url: impl Into<String>) -> JsonEndpointBuilder {
        Self::builder(Method::GET, url)
    }

    /// Sends a POST request, by default with an empty body.
    pub fn post(url: impl Into<String>) -> JsonEndpointBuilder {
        Self::builder(Method::POST, url)
    }

    /// Sends a request with any method but HEAD.
    pub fn builder(method: Method, url: impl Into<String>) -> JsonEndpointBuilder {
        JsonEndpointBuilder::new(method, url.into())
    }

    /// The request, made anew for each attempt.
    async fn request(&self, cx: &FetchContext) -> Result<Request, SourceError> {
        let mut request = Request::new(self.method.clone());
        request.redactor = self.redactor.clone();
        for (name, value) in &self.headers {
            request.headers.insert(name.clone(), value.clone());
        }
        for made in &self.made {
            let text = made.text()?;
            hide_header(&mut request.redactor, &text);
            request.headers.insert(made.name.clone(), made.value(&text)?);
        }
        for link in &self.links {
            link.add_to(&mut request, cx).await?;
        }
        Ok(match &self.body {
            Some((media_type, body)) => request.with_body(media_type, body.clone()),
            None => request,
        })
    }
}

#[cfg(any(test, fuzzing))]
impl JsonEndpoint {
    /// Parses an answer.
    pub(crate) async fn parse_response(
        &self,
        response: http::Response<Vec<u8>>,
    ) -> Result<Token, SourceError> {
        self.shape.read(self.transport.parse_response(&self.endpoint, &self.redactor, response).await?)
    }
}

impl TokenSource for JsonEndpoint {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let answer =
            self.transport.exchange(&self.endpoint, self.request(&cx).await?, cx.time_left()).await?;
        self.shape.read(answer)
    }

    /// The sources on which it depends.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        BoxSource::finish_all(self.links.iter().map(|link| &link.source))
    }

    /// Only the credentials of its links. `identify` names its own headers and body, because each of them may be a
    /// secret.
    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        for link in &self.links {
            link.source.credential(part);
        }
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("method", self.method.as_str());
        part("url", self.endpoint.url().as_str());
        // The headers that a request has by default.
        let media_type = self.body.as_ref().map(|(media_type, _)| *media_type);
        for (name, value) in [(ACCEPT, Some("application/json")), (CONTENT_TYPE, media_type)] {
            if let Some(value) = value.filter(|_| !self.headers.contains_key(&name)) {
                part(&format!("header.{name}"), value);
            }
        }
        for (name, value) in &self.headers {
            part(&format!("header.{name}"), &String::from_utf8_lossy(value.as_bytes()));
        }
        for made in &self.made {
            part(&format!("header_fn.{}", made.name), "");
            part(UNNAMED, &format!("`header_fn` of {:?}", made.name.as_str()));
        }
        for link in &self.links {
            link.identify(part);
        }
        if self.transport.is_configured() {
            part(UNNAMED, "`http`");
        }
        let body = self.body.as_ref().map(|(_, body)| &**body).unwrap_or_default();
        part("body", &String::from_utf8_lossy(body));
        self.shape.identify(part);
    }
}

impl fmt::Debug for JsonEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self.made.iter().map(|made| &made.name).chain(self.links.iter().map(|link| &link.name));
        f.debug_struct("JsonEndpoint")
            .field("method", &self.method)
            .field("url", &self.endpoint.shown())
            .field("headers", &self.headers.keys().chain(made).collect::<Vec<_>>())
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// A header whose value is made for each request.
struct Made {
    name: HeaderName,
    make: Arc<MakeValue>,
}

impl Made {
    fn text(&self) -> Result<Zeroizing<String>, SourceError> {
        (self.make)().map(Zeroizing::new).map_err(|error| {
            SourceError::transient(format!("`header_fn` of {:?} failed: {error}", self.name))
        })
    }

    fn value(&self, text: &str) -> Result<HeaderValue, SourceError> {
        header_of(text).map_err(|_| {
            let message = format!("`header_fn` of {:?} made a value that no header can hold", self.name);
            SourceError::terminal(message)
        })
    }
}

fn hide_header(redactor: &mut Redactor, text: &str) {
    redactor.hide_header(text);
}
