//! The HTTP client: its identity at the auth server, its calls of the API, and its error texts.

use std::error::Error;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, StatusCode};
use reqwest::{Client, RequestBuilder, Url};
use tokio::sync::Semaphore;

/// Requests to the API at once. Ten thousand may wait for a token, but each that is under way takes a socket,
/// and two where the API is in this process too: with the auth server's, still within the 256 open files
/// that macOS grants.
const MAX_CONNECTIONS: usize = 64;

/// Who asks for a token, where, and for what.
// No `Debug`: it would show the secret.
pub(crate) struct Credentials {
    pub(crate) token_url: Url,
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) scope: Option<String>,
}

impl Credentials {
    /// A call to the token endpoint.
    pub(crate) fn token_request(&self, http: &Client) -> RequestBuilder {
        authenticated(http.post(self.token_url.clone()), &self.id, &self.secret)
    }
}

/// The client's id and secret in the header: RFC 6749 section 2.3.1, which wants both form-encoded first.
fn authenticated(request: RequestBuilder, id: &str, secret: &str) -> RequestBuilder {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    request.basic_auth(encoded(id), Some(encoded(secret)))
}

/// The header of a call by this client, for a server to compare.
pub(crate) fn basic(id: &str, secret: &str) -> reqwest::Result<HeaderValue> {
    let request = authenticated(http()?.get("http://localhost/"), id, secret).build()?;
    Ok(request.headers()[AUTHORIZATION].clone())
}

/// An HTTP client with a time limit.
pub(crate) fn http() -> reqwest::Result<Client> {
    Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(60))
        .user_agent(concat!("request_fanout/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The API, as the service sees it.
pub(crate) struct Api {
    http: Client,
    url: Url,
    pub(crate) connections: Semaphore,
}

/// What the API said to a token.
pub(crate) enum Verdict {
    Served,
    TokenRejected,
}

impl Api {
    pub(crate) fn new(http: Client, url: Url) -> Self {
        Self { http, url, connections: Semaphore::new(MAX_CONNECTIONS) }
    }

    /// One call. `authorization` is marked sensitive, so that no log shows it.
    ///
    /// # Errors
    /// What went wrong, other than the token.
    pub(crate) async fn call(&self, authorization: HeaderValue) -> Result<Verdict, String> {
        let request = self.http.get(self.url.clone()).header(AUTHORIZATION, authorization);
        let answer = request.send().await.map_err(|err| self.unusable(err))?;
        let status = answer.status();
        // A connection goes back to the pool when its answer has been read.
        answer.bytes().await.map_err(|err| self.unusable(err))?;
        match status {
            StatusCode::UNAUTHORIZED => Ok(Verdict::TokenRejected),
            status if status.is_success() => Ok(Verdict::Served),
            status => Err(format!("{} answered {status}", without_secrets(&self.url))),
        }
    }

    fn unusable(&self, error: reqwest::Error) -> String {
        format!("{}: {}", without_secrets(&self.url), describe(error))
    }
}

/// A reqwest error with its causes, each once. Without the URL: that may hold a password.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A URL may hold a password, or a key in its query.
pub(crate) fn without_secrets(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
