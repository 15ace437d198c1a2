//! tower: a layer for any service that takes an `http::Request`: hyper's client, tonic, axum's stacks.
//!
//! [`BearerAuth`] is the layer. It keeps a request's body while it is sent, up to 64 KiB
//! ([`kept_body`](super::BearerAuthBuilder::kept_body)), so that the body can be sent again. Put it *below* layers
//! that retry, so that each try gets the current token. It works above and below `Buffer`, `ConcurrencyLimit`,
//! `Timeout`.
//!
//! A layer that follows redirects must stand *above* [`BearerAuth`]: in a `ServiceBuilder`, add it first. Then each step
//! is compared with the list of origins, and has its own token and proof. In the other order this layer does not see
//! the redirects: the token may reach other origins, and their answers count as answers of the requested origin.
//!
//! With tonic the layer also reads the status of gRPC. A 16 (`UNAUTHENTICATED`) before any message is a rejection.
//! After a message it is only reported. A 16 in the trailers is also only reported if the client was still sending
//! its messages when the answer began: to wait there would delay each conversation in which the client waits for the
//! answer before it goes on. A 16 in the headers does not need this wait. The body must be converted back to tonic's own type, and the origin of the
//! channel must be given:
//!
//! ```no_run
//! use tokenflight::middleware::tower::{BearerAuth, KeptBody};
//! use tonic::body::Body;
//! # use tokenflight::{Token, TokenActor, source_fn};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # let tokens = TokenActor::builder(source_fn(|_cx| async { Ok(Token::new("abc")) })).start()?;
//! let api = BearerAuth::builder(&tokens).relative_to("http://127.0.0.1:50051").build()?;
//! let channel = tonic::transport::Channel::from_static("http://127.0.0.1:50051").connect().await?;
//! let service = tower::ServiceBuilder::new()
//!     .layer(api)
//!     .map_request(|request: http::Request<KeptBody<Body>>| request.map(Body::new))
//!     .service(channel);
//! # let _ = service;
//! # Ok(())
//! # }
//! ```
//!
//! Errors are boxed. Besides the service's own errors there may be a [`TokenError`](crate::TokenError), a
//! [`PresentError`](crate::PresentError) or a [`StepUp`](super::StepUp). Find it by `downcast_ref`. In the first
//! two cases nothing was sent.

mod kept;
mod watched;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

pub use super::BearerAuth;
use super::NoReplay;
use super::passage::{Next, Passage};
use super::replay::{Answer, Code, Grpc};

use kept::Keeper;
pub use kept::KeptBody;
pub use watched::AnswerBody;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The status of a gRPC call, in headers or trailers.
const GRPC_STATUS: &str = "grpc-status";

impl<S> Layer<S> for BearerAuth {
    type Service = BearerService<S>;

    fn layer(&self, inner: S) -> BearerService<S> {
        BearerService { inner, auth: self.clone() }
    }
}

/// The service that wraps another one with [`BearerAuth`].
#[derive(Clone, Debug)]
pub struct BearerService<S> {
    inner: S,
    auth: BearerAuth,
}

impl<S, B, R> Service<Request<B>> for BearerService<S>
where
    S: Service<Request<KeptBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    R: Body + Unpin + Send + 'static,
    R::Data: Send,
    R::Error: Send,
{
    type Response = Response<AnswerBody<R>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that was polled ready must be the one that is called.
        let other = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, other);
        Box::pin(send(self.auth.clone(), ready, request))
    }
}

async fn send<S, B, R>(
    auth: BearerAuth,
    mut service: S,
    request: Request<B>,
) -> Result<Response<AnswerBody<R>>, BoxError>
where
    S: Service<Request<KeptBody<B>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: Body,
    R: Body + Unpin,
{
    let (parts, body) = request.into_parts();
    let Some(mut passage) = Passage::begin(&auth, &parts.uri, &parts.headers).await? else {
        let answer = service.call(Request::from_parts(parts, KeptBody::once(body))).await;
        return answer.map(|answer| answer.map(AnswerBody::plain)).map_err(Into::into);
    };
    let kind = Kind::of(&parts.headers);
    let may_repeat = !auth.1 && parts.extensions.get::<NoReplay>().is_none();
    let (keeper, mut body) = Keeper::new(body, if may_repeat { auth.0.kept_body } else { 0 });
    loop {
        let mut head: Parts = parts.clone();
        passage.prepare(&parts.method, &mut head.headers)?;
        let (head, answer) =
            service.call(Request::from_parts(head, body)).await.map_err(Into::into)?.into_parts();
        let is_open =
            kind == Kind::Grpc && head.status == StatusCode::OK && !head.headers.contains_key(GRPC_STATUS);
        let mut answer = AnswerBody::plain(answer);
        if is_open && keeper.was_read() {
            answer.peek().await;
        }
        let grpc = if kind == Kind::Other { Grpc::No } else { grpc(&head.headers, &answer) };
        let said = Answer { status: head.status, headers: &head.headers, grpc, is_redirected: false };
        let may_repeat = may_repeat && passage.may_repeat_after(&said) && keeper.can_repeat().await;
        match passage.answered(&said, may_repeat).await {
            Next::Pass if is_open => return Ok(Response::from_parts(head, answer.watched(passage))),
            Next::Pass => return Ok(Response::from_parts(head, answer)),
            Next::StepUp(step_up) => return Err(step_up.into()),
            Next::Again => {
                // The answer may hold a slot of a connection or of a limit. The second sending needs this slot.
                drop(answer);
                let Some(again) = keeper.again() else {
                    return Err("the request's body is no longer available".into());
                };
                body = again;
                poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
            }
        }
    }
}

/// What a request speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grpc,
    /// The status at the end is a part of the body. This file reads no bodies, so such an answer says nothing about
    /// the token unless its status is in the headers.
    GrpcWeb,
    Other,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        match kind {
            _ if kind.starts_with(b"application/grpc-web") => Self::GrpcWeb,
            _ if kind.starts_with(b"application/grpc") => Self::Grpc,
            _ => Self::Other,
        }
    }
}

fn grpc<R: Body + Unpin>(headers: &HeaderMap, answer: &AnswerBody<R>) -> Grpc {
    let in_headers = headers.get(GRPC_STATUS);
    match in_headers.or_else(|| answer.first_trailers()?.get(GRPC_STATUS)) {
        Some(status) => Grpc::Status(Code::parse(status.as_bytes())),
        None if answer.has_message() => Grpc::Message,
        None => Grpc::Open,
    }
}
