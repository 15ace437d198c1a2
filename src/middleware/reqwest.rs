//! Plain reqwest: `client.get(url).send_with(&api)`. With feature `reqwest-middleware`, [`BearerAuth`] is a middleware
//! too.
//!
//! ```no_run
//! use tokenflight::middleware::reqwest::{BearerAuth, SendWith};
//! # use tokenflight::{Token, TokenActor, source_fn};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # let tokens = TokenActor::builder(source_fn(|_cx| async { Ok(Token::new("abc")) })).start()?;
//! let api = BearerAuth::builder(&tokens).allow("https://api.example.com").build()?;
//! let answer = reqwest::Client::new().get("https://api.example.com/orders").send_with(&api).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The client may follow redirects. reqwest takes the token off where one leads to another host, port or scheme, and a
//! 401 that comes from behind one is the caller's. With tokens that are bound to a key (`DPoP`), turn redirects off: a
//! proof is good for one URL.
//!
//! An `Authorization` among the client's `default_headers` cannot be seen from here: the token replaces it.

#[cfg(feature = "reqwest-middleware")]
mod chain;

use std::future::Future;

use ::reqwest::{Client, Error, Request, RequestBuilder, Response, Url};
use bytes::Bytes;
use http::Uri;

pub use super::BearerAuth;
use super::SendError;
use super::passage::{Next, Passage};
use super::replay::{Answer, Grpc};

/// Sends a request with the token.
pub trait SendWith {
    /// Sends it, and once again where an answer asks for that: see [the table](super#what-an-answer-means).
    ///
    /// A streamed body is sent once.
    ///
    /// # Errors
    /// There is no token, and nothing was sent; the API wants another login; the client's own errors.
    fn send_with(self, auth: &BearerAuth) -> impl Future<Output = Result<Response, SendError<Error>>> + Send;
}

impl SendWith for RequestBuilder {
    async fn send_with(self, auth: &BearerAuth) -> Result<Response, SendError<Error>> {
        let (mut client, request) = self.build_split();
        send(auth, request.map_err(SendError::Client)?, true, &mut client).await
    }
}

/// What sends a request once.
trait Execute: Send {
    type Error: Send;

    fn execute(&mut self, request: Request) -> impl Future<Output = Result<Response, Self::Error>> + Send;
}

impl Execute for Client {
    type Error = Error;

    fn execute(&mut self, request: Request) -> impl Future<Output = Result<Response, Error>> + Send {
        Client::execute(self, request)
    }
}

async fn send<E: Execute>(
    auth: &BearerAuth,
    request: Request,
    may_repeat: bool,
    client: &mut E,
) -> Result<Response, SendError<E::Error>> {
    // A URL that `http` cannot express is none that may have the token.
    let asked = Bytes::copy_from_slice(before_fragment(request.url()).as_bytes());
    let passage = match Uri::from_maybe_shared(asked.clone()) {
        Ok(uri) => Passage::begin(auth, &uri, request.headers()).await?,
        Err(_) => None,
    };
    let Some(mut passage) = passage else { return client.execute(request).await.map_err(SendError::Client) };
    let mut next = Some(request);
    loop {
        // There is one: an answer is followed by another sending only if there is a copy.
        let Some(mut request) = next.take() else { return Err(SendError::Redirected) };
        next = if may_repeat { request.try_clone() } else { None };
        let method = request.method().clone();
        passage.prepare(&method, request.headers_mut())?;
        let response = client.execute(request).await.map_err(SendError::Client)?;
        let is_redirected = before_fragment(response.url()).as_bytes() != asked;
        if is_redirected && passage.is_bound() {
            return Err(SendError::Redirected);
        }
        let (status, headers) = (response.status(), response.headers());
        let answer = Answer { status, headers, grpc: Grpc::No, is_redirected };
        match passage.answered(&answer, next.is_some()).await {
            Next::Pass => return Ok(response),
            Next::Again => {}
            Next::StepUp(step_up) => return Err(SendError::StepUp(step_up)),
        }
    }
}

/// No other part of a URL may hold a `#` as it is.
fn before_fragment(url: &Url) -> &str {
    url.as_str().split('#').next().unwrap_or_default()
}
