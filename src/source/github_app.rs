//! Tokens of a GitHub App's installation.

mod builder;

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::clock::moved;
use crate::error::SourceError;
use crate::oauth::{Claims, Header, KeySource, SigningKey};
use crate::secret::header;
use crate::source::json_endpoint::answer::Shape;
use crate::source::{FetchContext, TokenSource, UNNAMED};
use crate::token::Token;
use crate::transport::{Answer, Document, Endpoint, Request, ServerClock, Transport};

pub use builder::GithubAppBuilder;

/// GitHub refuses a JWT whose `exp` is more than 10 min away.
const LIFETIME: Duration = Duration::from_secs(600);
/// GitHub refuses a JWT whose `iat` is in the future, by its own clock.
const BACKDATE: Duration = Duration::from_secs(60);
/// How far the clock may be off, in seconds, until a refused request is signed anew. `iat` is further back.
const TOLERANCE: u64 = 30;
/// The pause after a rate limit, if GitHub gives no time.
const LIMITED: Duration = Duration::from_secs(60);

/// Installation tokens of a GitHub App: the app's key signs a JWT, and GitHub gives a token of an hour for it.
///
/// ```
/// use tokenflight::oauth::PrivateKey;
/// use tokenflight::source::GithubApp;
///
/// # let pem = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/oauth/jws/tests/keys/rsa_pkcs1.pem"));
/// let source = GithubApp::builder("12345", 42)
///     .private_key(PrivateKey::from_pem(pem)?)
///     .permission("contents", "read")
///     .repository("orders")
///     .build()?;
/// # let _ = source;
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// From a file, with the names of the setters, except the table `permissions` (setter `permission`) and the lists
/// `repositories` (setter `repository`) and `repository_ids` (setter `repository_id`). Unknown keys are refused:
///
/// ```
/// use tokenflight::source::GithubAppBuilder;
///
/// let settings = r#"{
///     "app_id": 12345,
///     "installation_id": 42,
///     "private_key_file": "/run/secrets/app.pem",
///     "permissions": { "contents": "read" }
/// }"#;
/// let error = serde_json::from_str::<GithubAppBuilder>(settings)?.build().unwrap_err();
/// assert_eq!(error.field(), "private_key_file"); // this file does not exist
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Each JWT has its own `jti`, is signed by `RS256`, and is dated by GitHub's clock as far as it is known: `iat` is
/// 60 s back, `exp` 9 min ahead. After a rotation of the key the new file is read with the next request.
///
/// GitHub's servers may know a new token some seconds late. With
/// [`RefreshPolicy::settle`](crate::RefreshPolicy::settle) of 5 s the [middlewares](crate::middleware) repeat such
/// a request when the token is 5 s old.
///
/// # Errors of a fetch
/// Transient: the network, 5xx, a rate limit (403 or 429, with the time that GitHub names, or a minute), and a 401
/// if GitHub's clock differs from ours by 30 s or more. Terminal: any other refusal (401: the key or the app's id;
/// 403: the installation is suspended; 404: there is no such installation; 422: a permission or a repository that
/// the installation does not have), and a redirect.
pub struct GithubApp {
    transport: Transport,
    endpoint: Endpoint,
    shape: Shape,
    app_id: String,
    key: KeySource,
    /// Permissions and repositories. `None`: all of the installation.
    body: Option<Bytes>,
    /// How far GitHub's clock is ahead of ours, in seconds, by the last `Date` that it sent.
    server_clock: ServerClock,
}

impl GithubApp {
    /// Begins with the app's id (or its client id) and the id of the installation.
    pub fn builder(app_id: impl Into<String>, installation_id: u64) -> GithubAppBuilder {
        GithubAppBuilder::new(app_id.into(), installation_id)
    }

    /// The request, made anew for each attempt.
    async fn request(&self, wall: SystemTime) -> Result<Request, SourceError> {
        let claims = Claims {
            issuer: &self.app_id,
            subject: None,
            audience: "https://api.github.com",
            now: wall.checked_sub(BACKDATE).unwrap_or(wall),
            lifetime: LIFETIME,
            more: &Map::new(),
        };
        let key = SigningKey::Private(self.key.read().await);
        let jwt = key.sign(Header { typ: Some("JWT"), ..Header::default() }, &claims.to_json()?)?;
        let value = header(Zeroizing::new(format!("Bearer {}", *jwt))).map_err(SourceError::terminal)?;
        let mut request = Request::new(Method::POST);
        request.redactor.hide(jwt);
        request.headers.insert(AUTHORIZATION, value);
        request.headers.insert(http::header::ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        let version = HeaderName::from_static("x-github-api-version");
        request.headers.insert(version, HeaderValue::from_static("2022-11-28"));
        Ok(match &self.body {
            Some(body) => request.with_body("application/json", body.clone()),
            None => request,
        })
    }

    fn read(&self, answer: Answer, was_late: bool) -> Result<Token, SourceError> {
        let status = answer.status();
        let limit = limit(&answer);
        self.shape.read(answer).map_err(|error| match limit {
            Some(pause) => error.into_transient().with_retry_after(pause),
            None if was_late && status == StatusCode::UNAUTHORIZED => error.into_transient(),
            None => error,
        })
    }
}

/// The time of a rate limit, if the answer is one.
fn limit(answer: &Answer) -> Option<Duration> {
    if !matches!(answer.status(), StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
        return None;
    }
    let number = |name: &'static str| -> Option<u64> {
        answer.header(&HeaderName::from_static(name))?.trim().parse().ok()
    };
    let reset = || {
        let is_spent = number("x-ratelimit-remaining") == Some(0);
        let reset = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(number("x-ratelimit-reset").filter(|_| is_spent)?))?;
        let left = reset.duration_since(answer.server_time()).unwrap_or_default();
        Some(left.max(Duration::from_secs(1)))
    };
    let says_so = || {
        let document = answer.json().ok()?;
        let message = document.text("/message")?.to_ascii_lowercase();
        Some(message.contains("rate limit") || message.contains("abuse detection"))
    };
    let is_limit = || answer.status() == StatusCode::TOO_MANY_REQUESTS || says_so().unwrap_or(false);
    answer.retry_after().or_else(reset).or_else(|| is_limit().then_some(LIMITED))
}

impl TokenSource for GithubApp {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let offset = self.server_clock.offset();
        let request = self.request(moved(cx.clock().now().wall, offset)).await?;
        let answer = self.transport.exchange(&self.endpoint, request, cx.time_left()).await?;
        self.server_clock.learn(&answer, cx.clock().now().wall);
        self.read(answer, self.server_clock.is_far_from(offset, TOLERANCE))
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("url", self.endpoint.url().as_str());
        part("app_id", &self.app_id);
        let body = self.body.as_deref().unwrap_or_default();
        part("body", &String::from_utf8_lossy(body));
        if self.transport.is_configured() {
            part(UNNAMED, "`http`");
        }
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        part(self.key.last().thumbprint().as_bytes());
    }
}

impl fmt::Debug for GithubApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GithubApp")
            .field("url", &self.endpoint.shown())
            .field("app_id", &self.app_id)
            .finish_non_exhaustive()
    }
}

/// The body of a request, if there is any restriction.
fn body(parts: Vec<(&str, Value)>) -> Option<Value> {
    let parts: Map<_, _> = parts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    (!parts.is_empty()).then_some(Value::Object(parts))
}

/// The body as bytes.
fn to_bytes(body: Value) -> Result<Bytes, serde_json::Error> {
    Document::new(body).to_bytes()
}
