//! awc: `client.get(url).send_with(&api)`.
//!
//! The client must have `disable_redirects()`. awc loses the headers of such a request when it follows a redirect, and
//! does not give the URL of an answer. Therefore a 401 after a redirect would cause a false report. Where redirects
//! are needed, use [`send_anew`]: it follows them within the origin, and makes the request anew for each step.
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

mod redirect;

use std::future::Future;

use ::awc::error::SendRequestError;
use ::awc::http::{Uri as Uri02, header as header_02};
use ::awc::{ClientRequest, FrozenClientRequest, FrozenSendBuilder, SendClientRequest};
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
        let asked = Asked::of(self.get_uri(), self.get_method(), self.headers());
        send(auth, &asked, |headers| with_extra(&self, headers).send_body(body.clone())).await
    }
}

/// Sends a request with the token, and follows redirects within its origin, ten at most. `request` makes the request
/// anew for each sending.
///
/// Each step has the current token, and a token that is bound to a key has a new proof. A 401 is treated as
/// [the table](super#what-an-answer-means) says, and only the step that was answered by it is sent again. The caller
/// gets an answer that leads to another origin. Therefore only this origin gets the token. After a 303, and after a
/// 301 or 302 to a POST, the next step is a GET without the body.
///
/// The client must have `disable_redirects()` here too. A client that follows redirects by itself keeps a bearer
/// token within the origin, and takes it off at another one. But a 401 of the other origin would cause a false
/// report, and a token that is bound to a key would get lost.
///
/// ```no_run
/// use tokenflight::middleware::awc::{BearerAuth, send_anew};
/// # use tokenflight::{Token, TokenActor, source_fn};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// # let tokens = TokenActor::builder(source_fn(|_cx| async { Ok(Token::new("abc")) })).start()?;
/// let api = BearerAuth::builder(&tokens).allow("https://api.example.com").build()?;
/// let client = awc::Client::builder().disable_redirects().finish();
/// let answer = send_anew(&api, || client.post("https://api.example.com/orders"), "an order").await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As for [`send_with`](SendWith::send_with).
pub async fn send_anew(
    auth: &BearerAuth,
    mut request: impl FnMut() -> ClientRequest,
    body: impl Into<Bytes>,
) -> Result<Response, SendError<SendRequestError>> {
    const MOST: usize = 10;
    let mut body = body.into();
    let (mut place, mut is_get) = (None, false);
    let mut followed = 0;
    loop {
        let mut make = || {
            let mut request = request();
            if let Some(place) = &place {
                request = request.uri(Uri02::clone(place));
            }
            if is_get {
                request = request.method(::awc::http::Method::GET);
                for name in ABOUT_THE_BODY {
                    request.headers_mut().remove(name);
                }
            }
            request
        };
        let first = make();
        let asked = Asked::of(first.get_uri(), first.get_method(), first.headers());
        let mut first = Some(first);
        let once = |headers: &HeaderMap| send_once(first.take().unwrap_or_else(&mut make), headers, &body);
        let response = send(auth, &asked, once).await?;
        let next = asked.redirect(&response).filter(|_| followed < MOST);
        let Some((uri, becomes_get)) = next else { return Ok(response) };
        followed += 1;
        place = Some(uri);
        if becomes_get {
            is_get = true;
            body = Bytes::new();
        }
    }
}

/// The headers of a body (RFC 9110 section 15.4).
const ABOUT_THE_BODY: [&str; 6] = [
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-location",
    "transfer-encoding",
];

/// The token is a header like any other: awc keeps it within the origin. awc would also keep a proof, and at each
/// origin. Therefore a proof is a header that awc drops.
fn send_once(mut request: ClientRequest, headers: &HeaderMap, body: &Bytes) -> SendClientRequest {
    if headers.contains_key("dpop") {
        return match request.freeze() {
            Ok(frozen) => with_extra(&frozen, headers).send_body(body.clone()),
            Err(error) => SendRequestError::from(error).into(),
        };
    }
    for header in headers.iter().filter_map(|(name, value)| as_02(name, value)) {
        request = request.insert_header(header);
    }
    request.send_body(body.clone())
}

fn with_extra(request: &FrozenClientRequest, headers: &HeaderMap) -> FrozenSendBuilder {
    let request = request.extra_headers(header_02::HeaderMap::new());
    let headers = headers.iter().filter_map(|(name, value)| as_02(name, value));
    headers.fold(request, FrozenSendBuilder::extra_header)
}

/// The parts of a request that matter, in the types of http 1.
struct Asked {
    /// `None` if http 1 cannot express it. Then the request gets no token.
    uri: Option<Uri>,
    method: Method,
    /// The headers that only the caller may set.
    headers: HeaderMap,
}

impl Asked {
    fn of(uri: &Uri02, method: &::awc::http::Method, headers: &header_02::HeaderMap) -> Self {
        let mut caller = HeaderMap::new();
        copy(headers, &["authorization", "host"], &mut caller);
        let method = Method::from_bytes(method.as_str().as_bytes()).unwrap_or_default();
        Self { uri: uri.to_string().parse().ok(), method, headers: caller }
    }

    /// The URL to which this answer leads within the origin, and whether the next request is a GET without the body.
    fn redirect(&self, response: &Response) -> Option<(Uri02, bool)> {
        let status = StatusCode::from_u16(response.status().as_u16()).ok()?;
        let location = response.headers().get(header_02::LOCATION)?;
        let next = redirect::follow(self.uri.as_ref()?, &self.method, status, location.as_bytes())?;
        Some((next.uri.to_string().parse().ok()?, next.is_get))
    }
}

/// Sends a request by `once`, which gets the headers of the token.
async fn send(
    auth: &BearerAuth,
    asked: &Asked,
    mut once: impl FnMut(&HeaderMap) -> SendClientRequest,
) -> Result<Response, SendError<SendRequestError>> {
    let passage = match &asked.uri {
        Some(uri) => Passage::begin(auth, uri, &asked.headers).await?,
        None => None,
    };
    let Some(mut passage) = passage else {
        return once(&HeaderMap::new()).await.map_err(SendError::Client);
    };
    loop {
        let mut headers = HeaderMap::new();
        passage.prepare(&asked.method, &mut headers)?;
        let response = once(&headers).await.map_err(SendError::Client)?;
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
