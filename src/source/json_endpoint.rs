//! Any server that answers with JSON that holds a token.

mod answer;
mod builder;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use zeroize::Zeroizing;

use crate::error::SourceError;
use crate::source::{FetchContext, TokenSource, UNNAMED};
use crate::token::Token;
use crate::transport::Transport;

use answer::Shape;
pub use builder::JsonEndpointBuilder;

type MakeValue = dyn Fn() -> Result<String, Box<dyn StdError + Send + Sync>> + Send + Sync;

/// Tokens from the many servers that do not speak OAuth 2: one request, and JSON pointers (RFC 6901) into
/// its answer.
///
/// A server that answers `{"newToken":"def"}` and says nothing of a lifetime:
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
/// A cloud's metadata server. Google's has `access_token` and `expires_in`; Azure's has `expires_on`, in
/// Unix seconds. Either is asked without a proxy: see [`http_client`](JsonEndpointBuilder::http_client).
///
/// ```
/// use tokenflight::source::JsonEndpoint;
///
/// let google = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
/// let source = JsonEndpoint::get(google)
///     .header("Metadata-Flavor", "Google")
///     .lifetime_pointer("/expires_in")
///     .build()?;
///
/// let azure = "http://169.254.169.254/metadata/identity/oauth2/token\
///              ?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";
/// let source = JsonEndpoint::get(azure)
///     .header("Metadata", "true")
///     .expires_at_pointer("/expires_on")
///     .build()?;
/// # let _ = source;
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// A GitHub App's installation token, asked for with a JWT that is made anew for each request:
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
/// From a file, with the names that the setters have (but for `header_fn`); unknown keys are refused:
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
/// Terminal: a 4xx other than 408, 425 and 429, and any redirect. Transient: the network, these three, 5xx,
/// and a success (any 2xx) that holds no token: no JSON, nothing at `token_pointer`, a lifetime that is none,
/// more than `max_body`. No error quotes a body.
pub struct JsonEndpoint {
    transport: Transport,
    method: Method,
    headers: HeaderMap,
    made: Vec<Made>,
    body: Option<Bytes>,
    shape: Shape,
}

impl JsonEndpoint {
    /// Asks by GET.
    pub fn get(url: impl Into<String>) -> JsonEndpointBuilder {
        Self::builder(Method::GET, url)
    }

    /// Asks by POST, by itself with an empty body.
    pub fn post(url: impl Into<String>) -> JsonEndpointBuilder {
        Self::builder(Method::POST, url)
    }

    /// Asks by any method but HEAD.
    pub fn builder(method: Method, url: impl Into<String>) -> JsonEndpointBuilder {
        JsonEndpointBuilder::new(method, url.into())
    }

    fn headers(&self) -> Result<HeaderMap, SourceError> {
        let mut headers = self.headers.clone();
        for made in &self.made {
            headers.insert(made.name.clone(), made.value()?);
        }
        Ok(headers)
    }
}

#[cfg(any(test, fuzzing))]
impl JsonEndpoint {
    /// What it makes of an answer.
    pub(crate) async fn parse_response(
        &self,
        response: http::Response<Vec<u8>>,
    ) -> Result<Token, SourceError> {
        self.shape.read(&self.transport.parse_response(response).await?)
    }
}

impl TokenSource for JsonEndpoint {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let headers = self.headers()?;
        let request =
            self.transport.exchange(self.method.clone(), headers, self.body.clone(), cx.time_left());
        let answer = request.await?;
        self.shape.read(&answer)
    }

    /// With its headers and body, for there is no telling which of them is a secret and which is not.
    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("method", self.method.as_str());
        part("url", self.transport.url());
        for (name, value) in &self.headers {
            part(&format!("header.{name}"), &String::from_utf8_lossy(value.as_bytes()));
        }
        for made in &self.made {
            part(&format!("header_fn.{}", made.name), "");
            part(UNNAMED, &format!("`header_fn` of {:?}", made.name.as_str()));
        }
        if self.transport.is_foreign() {
            part(UNNAMED, "`http_client`");
        }
        part("body", &String::from_utf8_lossy(self.body.as_deref().unwrap_or_default()));
        self.shape.identify(part);
    }
}

impl fmt::Debug for JsonEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self.made.iter().map(|made| &made.name);
        f.debug_struct("JsonEndpoint")
            .field("method", &self.method)
            .field("url", &self.transport.shown())
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
    fn value(&self) -> Result<HeaderValue, SourceError> {
        let text = (self.make)().map(Zeroizing::new).map_err(|error| {
            SourceError::transient(format!("`header_fn` of {:?} failed: {error}", self.name))
        })?;
        secret_value(&text).ok_or_else(|| {
            let message = format!("`header_fn` of {:?} made a value that no header can hold", self.name);
            SourceError::terminal(message)
        })
    }
}

/// A header's value in one buffer that is wiped; `None` if it has a control character in it.
fn secret_value(text: &str) -> Option<HeaderValue> {
    let bytes = Bytes::from_owner(Zeroizing::new(text.as_bytes().to_vec()));
    let mut value = HeaderValue::from_maybe_shared(bytes).ok()?;
    value.set_sensitive(true);
    Some(value)
}
