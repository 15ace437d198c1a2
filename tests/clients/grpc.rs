//! tonic's client against a real socket: unary calls and streams. The server makes each answer frame by frame.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tokenflight::middleware::BearerAuth;
use tokenflight::{Token, TokenActor, TokenHandle, source_fn};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;

use crate::plain;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Text {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

pub(crate) fn text(text: &str) -> Text {
    Text { text: text.into() }
}

/// A message as gRPC frames it.
pub(crate) fn framed(message: &Text) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut frame).unwrap();
    frame.freeze()
}

pub(crate) fn status(code: u16) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from(code))])
}

/// What was asked: the path, the token, the body's length.
type Seen = Arc<Mutex<Vec<(String, String, usize)>>>;

pub(crate) fn answer(frames: Vec<Frame<Bytes>>) -> http::Response<Body> {
    let frames = stream::iter(frames.into_iter().map(Ok::<_, Infallible>));
    let answer = http::Response::builder().header("content-type", "application/grpc");
    answer.body(Body::new(StreamBody::new(frames))).unwrap()
}

/// Knows every token but the first. The path says how it rejects.
async fn serve(request: http::Request<Body>, seen: Seen) -> Result<http::Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let token = parts.headers["authorization"].to_str().unwrap().to_owned();
    if path == "/test/echo" {
        seen.lock().unwrap().push((path, token, 0));
        let echoed = body.into_data_stream().map(|data| data.map(Frame::data));
        let end = stream::iter([Ok(Frame::trailers(status(0)))]);
        let answer = http::Response::builder().header("content-type", "application/grpc");
        return Ok(answer.body(Body::new(StreamBody::new(echoed.chain(end)))).unwrap());
    }
    let length = body.collect().await.unwrap().to_bytes().len();
    let is_first = token == "Bearer token-1";
    let is_known = !is_first && path != "/test/late";
    seen.lock().unwrap().push((path.clone(), token, length));
    let message = || Frame::data(framed(&text("hello")));
    Ok(match path.as_str() {
        "/test/denied" => {
            let mut denied = answer(Vec::new());
            denied.headers_mut().extend(status(7));
            denied
        }
        _ if is_known => answer(vec![message(), Frame::trailers(status(0))]),
        "/test/headers" => {
            let mut rejected = answer(Vec::new());
            rejected.headers_mut().extend(status(16));
            rejected
        }
        "/test/trailers" => answer(vec![Frame::trailers(status(16))]),
        "/test/proxy" => http::Response::builder().status(401).body(Body::empty()).unwrap(),
        "/test/late" if is_first => http::Response::builder().status(401).body(Body::empty()).unwrap(),
        "/test/after" | "/test/late" => answer(vec![message(), Frame::trailers(status(16))]),
        other => panic!("{other}"),
    })
}

struct Stage {
    tokens: TokenHandle,
    seen: Seen,
    client: Grpc<Client>,
}

pub(crate) type Client = BoxCloneSyncService<
    http::Request<Body>,
    http::Response<tokenflight::middleware::tower::AnswerBody<Body>>,
    Box<dyn std::error::Error + Send + Sync>,
>;

async fn stage() -> Stage {
    let seen = Seen::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let noted = Arc::clone(&seen);
    let service = tower::service_fn(move |request| serve(request, Arc::clone(&noted)));
    tokio::spawn(Server::builder().serve_with_incoming(service, TcpIncoming::from(listener)));

    let numbers = std::sync::atomic::AtomicU32::new(0);
    let source = source_fn(move |_cx| {
        let number = numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        std::future::ready(Ok(Token::new(format!("token-{number}"))))
    });
    let tokens = TokenActor::builder(source).policy(plain()).start().unwrap();
    let auth = BearerAuth::builder(&tokens).relative_to(&origin).build().unwrap();
    let channel = Channel::from_shared(origin).unwrap().connect().await.unwrap();
    let service = ServiceBuilder::new()
        .buffer(32)
        .concurrency_limit(1)
        .layer(auth)
        .map_request(|request: http::Request<_>| request.map(Body::new))
        .concurrency_limit(1)
        .service(channel);
    Stage { tokens, seen, client: Grpc::new(BoxCloneSyncService::new(service)) }
}

impl Stage {
    async fn unary(&self, path: &'static str) -> Result<Text, Status> {
        let mut client = self.client.clone();
        client.ready().await.unwrap();
        let answer = client.unary(Request::new(text("hi")), path.parse().unwrap(), codec()).await?;
        Ok(answer.into_inner())
    }

    fn seen(&self) -> Vec<(String, String, usize)> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

pub(crate) fn codec() -> ProstCodec<Text, Text> {
    ProstCodec::default()
}

#[actix::test]
async fn a_unary_call_that_is_rejected_is_sent_again_with_the_next_token() {
    for path in ["/test/headers", "/test/trailers", "/test/proxy"] {
        let stage = stage().await;
        assert_eq!(stage.unary(path).await.unwrap(), text("hello"), "{path}");
        let length = framed(&text("hi")).len();
        let sent = ["Bearer token-1", "Bearer token-2"].map(|token| (path.into(), token.into(), length));
        assert_eq!(stage.seen(), sent, "{path}");
        stage.unary(path).await.unwrap();
        assert_eq!(stage.tokens.status().await.unwrap().counters.attempts, 2, "{path}");
    }
}

#[actix::test]
async fn many_calls_that_are_rejected_at_once_cost_one_refresh_under_a_limit_of_one() {
    let stage = stage().await;
    let calls = futures_util::future::join_all((0..20).map(|_| stage.unary("/test/headers"))).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    assert_eq!(stage.tokens.status().await.unwrap().counters.attempts, 2);
}

#[actix::test]
async fn permission_denied_is_never_ours() {
    let stage = stage().await;
    assert_eq!(stage.unary("/test/denied").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(stage.seen().len(), 1);
    assert_eq!(stage.tokens.status().await.unwrap().counters.replaces, 0);
}

#[actix::test]
async fn a_client_s_stream_is_sent_again_whole() {
    let stage = stage().await;
    let mut client = stage.client.clone();
    client.ready().await.unwrap();
    let messages = stream::iter((0..3).map(|number| text(&number.to_string())));
    let path = "/test/trailers".parse().unwrap();
    let answer = client.client_streaming(Request::new(messages), path, codec()).await.unwrap();
    assert_eq!(answer.into_inner(), text("hello"));
    let seen = stage.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].2, seen[1].2);
}

#[actix::test]
async fn a_rejection_after_a_message_is_reported_and_the_caller_s() {
    let stage = stage().await;
    let mut client = stage.client.clone();
    client.ready().await.unwrap();
    let path = "/test/after".parse().unwrap();
    let mut messages =
        client.server_streaming(Request::new(text("hi")), path, codec()).await.unwrap().into_inner();
    let mut watch = stage.tokens.watch();
    assert_eq!(messages.message().await.unwrap(), Some(text("hello")));
    assert_eq!(messages.message().await.unwrap_err().code(), Code::Unauthenticated);
    watch.changed().await.unwrap();
    assert_eq!(stage.tokens.current().unwrap().secret(), "token-2");
    assert_eq!(stage.seen().len(), 1, "sent once");
}

#[actix::test]
async fn a_rejection_after_a_message_costs_no_second_refresh() {
    let stage = stage().await;
    let mut client = stage.client.clone();
    client.ready().await.unwrap();
    let path = "/test/late".parse().unwrap();
    let mut messages =
        client.server_streaming(Request::new(text("hi")), path, codec()).await.unwrap().into_inner();
    assert_eq!(messages.message().await.unwrap(), Some(text("hello")));
    assert_eq!(messages.message().await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(stage.seen().len(), 2);
    let counters = stage.tokens.status().await.unwrap().counters;
    assert_eq!((counters.replaces, counters.attempts), (1, 2));
}

/// An answer in gRPC-Web whose only frame is the status.
fn web_status(code: u8) -> http::Response<Body> {
    let trailers = format!("grpc-status:{code}\r\n");
    let mut frame = BytesMut::new();
    frame.put_u8(0x80);
    frame.put_u32(u32::try_from(trailers.len()).unwrap());
    frame.put_slice(trailers.as_bytes());
    answer(vec![Frame::data(frame.freeze())])
}

#[actix::test]
async fn the_body_of_grpc_web_says_nothing_about_the_token() {
    use tower::{Layer, Service, ServiceExt};
    let source = source_fn(|_cx| std::future::ready(Ok(Token::new("s3cret"))));
    let tokens = TokenActor::builder(source).policy(plain()).start().unwrap();
    let auth = BearerAuth::builder(&tokens).relative_to("http://localhost:1").allow_http().build().unwrap();
    let statuses = Arc::new(Mutex::new(vec![401u16, 200, 401]));
    let service = tower::service_fn(move |request: http::Request<_>| {
        drop(request);
        let status = statuses.lock().unwrap().pop().unwrap_or(200);
        let refused = || http::Response::builder().status(401).body(Body::empty()).unwrap();
        std::future::ready(Ok::<_, Infallible>(if status == 401 { refused() } else { web_status(16) }))
    });
    let mut service = auth.layer(service);
    // An origin that accepts a token after it has rejected it is noisy: its next 401 would be sent again at first
    // with the same token.
    let mut reports = Vec::new();
    for _ in 0..3 {
        let request =
            http::Request::post("/test.Echo/Say").header("content-type", "application/grpc-web+proto");
        let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
        drop(service.ready().await.unwrap().call(request).await.unwrap());
        reports.push(tokens.status().await.unwrap().counters.replaces);
    }
    assert_eq!(reports, [1, 2, 2]);
}

#[actix::test]
async fn a_conversation_begins_before_the_first_message() {
    let stage = stage().await;
    let mut client = stage.client.clone();
    client.ready().await.unwrap();
    let (say, said) = tokio::sync::mpsc::channel::<Text>(1);
    let said = stream::unfold(said, |mut said| async move { Some((said.recv().await?, said)) });
    let path = "/test/echo".parse().unwrap();
    // The server answers at once, and the client says nothing before it has the answer.
    let mut heard = client.streaming(Request::new(said), path, codec()).await.unwrap().into_inner();
    for number in 0..3 {
        say.send(text(&number.to_string())).await.unwrap();
        assert_eq!(heard.message().await.unwrap(), Some(text(&number.to_string())));
    }
    drop(say);
    assert_eq!(heard.message().await.unwrap(), None);
    assert_eq!(stage.tokens.status().await.unwrap().counters.replaces, 0);
}
