//! The middlewares: each test of an adaptor runs with all of them, on real sockets.
// A test that computes a wrong time should panic.
#![allow(clippy::unchecked_time_subtraction)]

mod bodies;
mod conformance;
mod dpop;
mod grpc;
mod hostile;
mod keys;
mod redirects;
mod repeats;
mod revoked;
mod sigterm;
mod stacks;
mod storms;
mod table;

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::TokioExecutor;
use tokenflight::middleware::awc::SendWith as _;
use tokenflight::middleware::reqwest::SendWith as _;
use tokenflight::middleware::{BearerAuth, NoReplay, SendError, StepUp};
use tokenflight::{PresentError, RefreshPolicy, TokenError};
use tower::{Layer, ServiceExt};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Without the dice, and a new token may be replaced at once.
pub(crate) fn plain() -> RefreshPolicy {
    RefreshPolicy::default().jitter(0.0).settle(Duration::ZERO)
}

/// The ways to send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adaptor {
    Reqwest,
    Chain,
    Tower,
    Awc,
}

pub(crate) const ADAPTORS: [Adaptor; 4] = [Adaptor::Reqwest, Adaptor::Chain, Adaptor::Tower, Adaptor::Awc];

/// A body as the caller has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Empty,
    Text(String),
    /// One that cannot be sent again: a stream, or one that is too long to be kept.
    Once(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) payload: Payload,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) no_replay: bool,
}

impl Call {
    pub(crate) fn get(url: &str) -> Self {
        Self {
            method: "GET".into(),
            url: url.into(),
            payload: Payload::Empty,
            headers: Vec::new(),
            no_replay: false,
        }
    }

    pub(crate) fn post(url: &str, payload: Payload) -> Self {
        Self { method: "POST".into(), payload, ..Self::get(url) }
    }
}

/// What a caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Status(u16),
    Token,
    Present,
    StepUp,
    Other(String),
}

impl Adaptor {
    /// Redirects are followed, except by awc.
    pub(crate) async fn send(self, auth: &BearerAuth, call: Call) -> Told {
        match self {
            Self::Reqwest => by_reqwest(auth, call).await,
            Self::Chain => by_chain(auth, call).await,
            Self::Tower => by_tower(auth, call).await,
            Self::Awc => by_awc(auth, call).await,
        }
    }
}

fn pieces(length: usize) -> impl Iterator<Item = Result<Bytes, Infallible>> {
    let piece = Bytes::from(vec![b'x'; 1024]);
    (0..length.div_ceil(1024)).map(move |_| Ok(piece.clone()))
}

/// One for all tests, since to make one takes 100 ms. It keeps no connection, which would be another runtime's.
fn client() -> reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap()).clone()
}

fn reqwest_body(payload: Payload) -> reqwest::Body {
    match payload {
        Payload::Empty => Bytes::new().into(),
        Payload::Text(text) => text.into(),
        Payload::Once(length) => reqwest::Body::wrap_stream(stream::iter(pieces(length))),
    }
}

fn told<E: std::fmt::Display>(error: SendError<E>) -> Told {
    match error {
        SendError::Token(_) => Told::Token,
        SendError::Present(_) => Told::Present,
        SendError::StepUp(_) => Told::StepUp,
        error => Told::Other(error.to_string()),
    }
}

async fn by_reqwest(auth: &BearerAuth, call: Call) -> Told {
    let auth = if call.no_replay { auth.without_replay() } else { auth.clone() };
    let mut request = client().request(call.method.parse().unwrap(), &call.url);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    if call.payload != Payload::Empty {
        request = request.body(reqwest_body(call.payload));
    }
    match request.send_with(&auth).await {
        Ok(answer) => Told::Status(answer.status().as_u16()),
        Err(error) => told(error),
    }
}

async fn by_chain(auth: &BearerAuth, call: Call) -> Told {
    let client = reqwest_middleware::ClientBuilder::new(client()).with(auth.clone()).build();
    let mut request = client.request(call.method.parse().unwrap(), &call.url);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    if call.payload != Payload::Empty {
        request = request.body(reqwest_body(call.payload));
    }
    if call.no_replay {
        request = request.with_extension(NoReplay);
    }
    match request.send().await {
        Ok(answer) => Told::Status(answer.status().as_u16()),
        Err(reqwest_middleware::Error::Middleware(error)) if error.is::<TokenError>() => Told::Token,
        Err(reqwest_middleware::Error::Middleware(error)) if error.is::<PresentError>() => Told::Present,
        Err(reqwest_middleware::Error::Middleware(error)) if error.is::<StepUp>() => Told::StepUp,
        Err(error) => Told::Other(error.to_string()),
    }
}

pub(crate) fn tower_request(call: &Call) -> http::Request<UnsyncBoxBody<Bytes, Infallible>> {
    let body = match &call.payload {
        Payload::Empty => Full::default().boxed_unsync(),
        Payload::Text(text) => Full::new(Bytes::from(text.clone())).boxed_unsync(),
        Payload::Once(length) => {
            let frames = pieces(*length).map(|piece| piece.map(http_body::Frame::data));
            StreamBody::new(stream::iter(frames)).boxed_unsync()
        }
    };
    let mut request = http::Request::builder().method(call.method.as_str()).uri(&call.url);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    if call.no_replay {
        request = request.extension(NoReplay);
    }
    request.body(body).unwrap()
}

async fn by_tower(auth: &BearerAuth, call: Call) -> Told {
    let client = HyperClient::builder(TokioExecutor::new()).build_http();
    match auth.layer(client).oneshot(tower_request(&call)).await {
        Ok(answer) => Told::Status(answer.status().as_u16()),
        Err(error) if error.is::<TokenError>() => Told::Token,
        Err(error) if error.is::<PresentError>() => Told::Present,
        Err(error) if error.is::<StepUp>() => Told::StepUp,
        Err(error) => Told::Other(error.to_string()),
    }
}

async fn by_awc(auth: &BearerAuth, call: Call) -> Told {
    let auth = if call.no_replay { auth.without_replay() } else { auth.clone() };
    let client = awc::Client::builder().disable_redirects().finish();
    let mut request = client.request(call.method.parse().unwrap(), &call.url);
    for (name, value) in &call.headers {
        request = request.insert_header((name.as_str(), value.as_str()));
    }
    let body = match call.payload {
        Payload::Empty => Bytes::new(),
        Payload::Text(text) => text.into(),
        Payload::Once(_) => panic!("awc is given its bodies whole"),
    };
    match request.send_body_with(&auth, body).await {
        Ok(answer) => Told::Status(answer.status().as_u16()),
        Err(error) => told(error),
    }
}
