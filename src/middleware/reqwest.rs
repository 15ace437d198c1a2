//! Plain reqwest: `client.get(url).send_with(&api)`. With feature `reqwest-middleware`, [`BearerAuth`] is also a
//! middleware.
//!
//! ```no_run
//! use tokenflight::middleware::reqwest::{BearerAuth, SendWith, same_origin_redirects};
//! # use tokenflight::{Token, TokenActor, source_fn};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # let tokens = TokenActor::builder(source_fn(|_cx| async { Ok(Token::new("abc")) })).start()?;
//! let api = BearerAuth::builder(&tokens).allow("https://api.example.com").build()?;
//! let client = reqwest::Client::builder().redirect(same_origin_redirects()).build()?;
//! let answer = client.get("https://api.example.com/orders").send_with(&api).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Redirects
//!
//! **A client that may be redirected to other origins needs [`same_origin_redirects`]**, or no redirects at all. By
//! default reqwest follows ten redirects to any origin. If a redirect leads to another host, port or scheme,
//! reqwest removes the token. But if that host then redirects to itself, reqwest 0.13 (seen in 0.13.5) adds the
//! token again: the second request to the other host contains it. Nothing in a request can prevent this. Therefore
//! it is a setting of the client.
//!
//! The caller gets a 401 that comes after a redirect. With other policies one case cannot be detected: a redirect
//! back to the URL of the request, at once or over another URL. Such a 401 is treated as a rejection of the request:
//! the token is reported, and the request is sent again. If it was a `POST` that the API had performed and answered
//! with `303`, it is performed twice. [`same_origin_redirects`] follows no redirect back. With tokens that are bound
//! to a key (`DPoP`), turn redirects off: a proof is valid for one URL.
//!
//! # Other middlewares
//!
//! With feature `reqwest-middleware`, the place in the chain matters. `BearerAuth` compares the URL of the answer
//! with the URL of its request, to detect redirects. Therefore a middleware that changes the URL (a base URL, a
//! version in the path, a signed query) must come **before** `BearerAuth`. If it comes after, each answer looks
//! redirected: the caller gets a 401, no token is reported, no request is sent again, and with `DPoP` each request
//! is an error. The token may also reach an origin that is not on the list, because the list was compared with the
//! URL before the change. A middleware that retries must come before `BearerAuth` too: then each try gets the
//! current token. A middleware that only reads, such as tracing, may come after. The order is:
//!
//! 1. Middlewares that change the URL.
//! 2. Middlewares that send a request again.
//! 3. `BearerAuth`.
//! 4. Middlewares that only read.
//!
//! # Time limits
//!
//! A time limit of the client or of a request applies to each sending. The wait for a token is additional, and is
//! limited by [`wait_timeout`](crate::RefreshPolicy::wait_timeout). To limit the total, use `tokio::time::timeout`.
//!
//! # Default headers
//!
//! This middleware cannot see an `Authorization` among the client's `default_headers`. The token replaces it.

#[cfg(feature = "reqwest-middleware")]
mod chain;

use std::future::Future;

use ::reqwest::redirect::Policy;
use ::reqwest::{Client, Error, Request, RequestBuilder, Response, Url};

pub use super::BearerAuth;
use super::SendError;
use super::passage::{Next, Passage};
use super::replay::{Answer, Grpc};

/// Sends a request with the token.
pub trait SendWith {
    /// Sends the request, and once again if the answer requires it: see [the table](super#what-an-answer-means).
    ///
    /// A streamed body is sent once.
    ///
    /// # Errors
    /// There is no token, and nothing was sent; the API requires a new login; the client's own errors.
    fn send_with(self, auth: &BearerAuth) -> impl Future<Output = Result<Response, SendError<Error>>> + Send;
}

impl SendWith for RequestBuilder {
    async fn send_with(self, auth: &BearerAuth) -> Result<Response, SendError<Error>> {
        let (mut client, request) = self.build_split();
        send(auth, request.map_err(SendError::Client)?, true, &mut client).await
    }
}

/// Sends a request once.
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
    let Some(mut passage) = Passage::begin(auth, request.url(), request.headers()).await? else {
        return client.execute(request).await.map_err(SendError::Client);
    };
    let mut next = Some(request);
    loop {
        // There is one: an answer leads to a second sending only if there is a copy.
        let Some(mut request) = next.take() else { return Err(SendError::Redirected) };
        next = if may_repeat { request.try_clone() } else { None };
        let method = request.method().clone();
        passage.prepare(&method, request.headers_mut())?;
        let response = client.execute(request).await.map_err(SendError::Client)?;
        let is_redirected = before_fragment(response.url()) != before_fragment(passage.target());
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

/// Follows redirects within the origin of the request, ten at most. The caller gets an answer that leads to another
/// origin, or back to the URL of the request.
///
/// Therefore only this origin gets the token, no 401 of another origin counts as a rejection, and a request that was
/// performed before its redirect is not sent again. For
/// `reqwest::ClientBuilder::redirect`. To follow the answer's `Location`, use a client without the token.
///
/// ```
/// use tokenflight::middleware::reqwest::same_origin_redirects;
///
/// let client = reqwest::Client::builder().redirect(same_origin_redirects()).build()?;
/// # drop(client);
/// # Ok::<(), reqwest::Error>(())
/// ```
pub fn same_origin_redirects() -> Policy {
    const MOST: usize = 10;
    Policy::custom(|attempt| {
        let (to, asked) = (attempt.url(), attempt.previous().first());
        let is_within = asked.is_some_and(|asked| {
            asked.origin() == to.origin() && before_fragment(asked) != before_fragment(to)
        });
        match attempt.previous().len() {
            _ if !is_within => attempt.stop(),
            sent if sent > MOST => attempt.error("too many redirects"),
            _ => attempt.follow(),
        }
    })
}

/// No other part of a URL may contain an unescaped `#`.
fn before_fragment(url: &Url) -> &str {
    match url.fragment() {
        None => url.as_str(),
        Some(_) => url.as_str().split('#').next().unwrap_or_default(),
    }
}
