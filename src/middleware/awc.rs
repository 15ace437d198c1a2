//! awc: `client.get(url).send_with(&api)`.
//!
//! The client must have `disable_redirects()`. awc loses the headers of a request when it follows a redirect, and
//! does not give the URL of an answer. Therefore a 401 after a redirect would cause a false report.
//!
//! ```no_run
//! use tokenflight::middleware::awc::{BearerAuth, SendWith};
//! # use tokenflight::{Token, TokenActor, source_fn};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # let tokens = TokenActor::builder(source_fn(|_cx| async { Ok(Token::new("abc")) })).start()?;
//! let api = BearerAuth::builder(&tokens).allow("https://api.example.com").build()?;
//! let client = awc::Client::builder().disable_redirects().finish();
//! let answer = client.get("https://api.example.com/orders").send_with(&api).await?;
//! # Ok(())
//! # }
//! ```

use std::future::Future;

use ::awc::error::SendRequestError;
use ::awc::http::header as header_02;
use ::awc::{ClientRequest, FrozenClientRequest, SendClientRequest};
use bytes::Bytes;
use http::header::{AGE, DATE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use zeroize::Zeroizing;

pub use super::BearerAuth;
use super::SendError;
use super::passage::{Next, Passage};
use super::replay::{Answer, Grpc};

/// The type of awc's response. It depends on awc's features.
pub type Response = <<SendClientRequest as Future>::Output as Outcome>::Answer;

/// The success type of a `Result`.
#[doc(hidden)]
pub trait Outcome {
    type Answer;
}

impl<T, E> Outcome for Result<T, E> {
    type Answer = T;
}

/// Sends a request with the token. The futures stay on their thread, like awc's own.
pub trait SendWith: Sized {
    /// Sends the request without a body, and once again if the answer requires it: see [the
    /// table](super#what-an-answer-means).
    ///
    /// # Errors
    /// There is no token, and nothing was sent; the API requires a new login; awc's own errors.
    fn send_with(
        self,
        auth: &BearerAuth,
    ) -> impl Future<Output = Result<Response, SendError<SendRequestError>>> {
        self.send_body_with(auth, Bytes::new())
    }

    /// The same with a body.
    fn send_body_with(
        self,
        auth: &BearerAuth,
        body: impl Into<Bytes>,
    ) -> impl Future<Output = Result<Response, SendError<SendRequestError>>>;
}

impl SendWith for ClientRequest {
    async fn send_body_with(
        self,
        auth: &BearerAuth,
        body: impl Into<Bytes>,
    ) -> Result<Response, SendError<SendRequestError>> {
        let frozen = self.freeze().map_err(|error| SendError::Client(error.into()))?;
        frozen.send_body_with(auth, body).await
    }
}

impl SendWith for FrozenClientRequest {
    async fn send_body_with(
        self,
        auth: &BearerAuth,
        body: impl Into<Bytes>,
    ) -> Result<Response, SendError<SendRequestError>> {
        let body = body.into();
        let mut caller = HeaderMap::new();
        copy(self.headers(), &["authorization", "host"], &mut caller);
        let passage = match self.get_uri().to_string().parse::<Uri>() {
            Ok(uri) => Passage::begin(auth, &uri, &caller).await?,
            Err(_) => None,
        };
        let Some(mut passage) = passage else { return self.send_body(body).await.map_err(SendError::Client) };
        let method = Method::from_bytes(self.get_method().as_str().as_bytes()).unwrap_or_default();
        loop {
            let mut headers = HeaderMap::new();
            passage.prepare(&method, &mut headers)?;
            let mut request = self.extra_headers(header_02::HeaderMap::new());
            for (name, value) in &headers {
                if let Some(header) = as_02(name, value) {
                    request = request.extra_header(header);
                }
            }
            let response = request.send_body(body.clone()).await.map_err(SendError::Client)?;
            let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or_default();
            let mut headers = HeaderMap::new();
            if status == StatusCode::UNAUTHORIZED || passage.is_bound() {
                let names = [WWW_AUTHENTICATE.as_str(), DATE.as_str(), AGE.as_str(), "dpop-nonce"];
                copy(response.headers(), &names, &mut headers);
            }
            let answer = Answer { status, headers: &headers, grpc: Grpc::No, is_redirected: false };
            match passage.answered(&answer, true).await {
                Next::Pass => return Ok(response),
                Next::Again => {}
                Next::StepUp(step_up) => return Err(SendError::StepUp(step_up)),
            }
        }
    }
}

/// Converts a header of http 1 to one of http 0.2, which awc uses. It is sensitive, and wiped like the original.
fn as_02(name: &HeaderName, value: &HeaderValue) -> Option<(header_02::HeaderName, header_02::HeaderValue)> {
    let bytes = Bytes::from_owner(Zeroizing::new(value.as_bytes().to_vec()));
    let mut value = header_02::HeaderValue::from_maybe_shared(bytes).ok()?;
    value.set_sensitive(true);
    Some((header_02::HeaderName::from_bytes(name.as_str().as_bytes()).ok()?, value))
}

/// Copies the headers of these names to headers of http 1.
fn copy(from: &header_02::HeaderMap, names: &[&str], to: &mut HeaderMap) {
    for name in names {
        for value in from.get_all(*name) {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
                to.append(name, value);
            }
        }
    }
}
