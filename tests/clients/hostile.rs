//! Unexpected behaviour of callers, servers and stacks.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::HeaderValue;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokenflight::middleware::BearerAuth;
use tokenflight::middleware::reqwest::SendWith as _;
use tokenflight::middleware::tower::KeptBody;
use tokenflight::testing::{FakeAuthServer, ManualClock, Reply};
use tokenflight::{RefreshPolicy, Token, TokenActor, TokenHandle, source_fn};
use tokio::net::TcpListener;
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::{ADAPTORS, Adaptor, Call, HOUR, Payload, Told, client, plain, secs};

fn tokens(policy: RefreshPolicy) -> TokenHandle {
    let numbers = AtomicU32::new(0);
    let source = source_fn(move |_cx| {
        let number = numbers.fetch_add(1, Ordering::Relaxed) + 1;
        ready(Ok(Token::new(format!("token-{number}")).with_lifetime(HOUR)))
    });
    TokenActor::builder(source).policy(policy).clock(ManualClock::new()).start().unwrap()
}

struct Stage {
    api: FakeAuthServer,
    origin: String,
    tokens: TokenHandle,
    auth: BearerAuth,
}

async fn stage() -> Stage {
    let (api, tokens) = (FakeAuthServer::start().await.unwrap(), tokens(plain()));
    let origin = api.url().replace("/token", "");
    let auth = BearerAuth::builder(&tokens).allow(&origin).build().unwrap();
    Stage { api, origin, tokens, auth }
}

impl Stage {
    /// The `Authorization` of each request, or nothing.
    fn shown(&self) -> Vec<Option<String>> {
        self.api.asked().iter().map(|asked| asked.header("authorization").map(ToOwned::to_owned)).collect()
    }

    async fn replaces(&self) -> u64 {
        self.tokens.status().await.unwrap().counters.replaces
    }
}

fn with(mut call: Call, name: &str, value: &str) -> Call {
    call.headers.push((name.into(), value.into()));
    call
}

#[actix::test]
async fn a_host_header_that_names_another_server_behind_the_same_address_gets_no_token() {
    for adaptor in ADAPTORS {
        let stage = stage().await;
        let call = with(Call::get(&stage.origin), "host", "evil.example");
        stage.api.then(Reply::json(401, "")).then(Reply::json(200, ""));
        assert_eq!(adaptor.send(&stage.auth, call).await, Told::Status(401), "{adaptor:?}");
        let own = stage.origin.trim_start_matches("http://");
        let call = with(Call::get(&stage.origin), "host", own);
        assert_eq!(adaptor.send(&stage.auth, call).await, Told::Status(200), "{adaptor:?}");
        assert_eq!(stage.shown(), [None, Some("Bearer token-1".into())], "{adaptor:?}");
        assert_eq!(stage.replaces().await, 0, "{adaptor:?}");
    }
}

#[actix::test]
async fn an_authorization_that_the_caller_has_set_to_nothing_stays() {
    for adaptor in ADAPTORS {
        let stage = stage().await;
        stage.api.then(Reply::json(401, ""));
        let call = with(Call::get(&stage.origin), "authorization", "");
        assert_eq!(adaptor.send(&stage.auth, call).await, Told::Status(401), "{adaptor:?}");
        assert_eq!(stage.shown(), [Some(String::new())], "{adaptor:?}");
        assert_eq!(stage.tokens.status().await.unwrap().counters.attempts, 0, "{adaptor:?}");
    }
}

/// What a server may send instead of a plain 401.
fn odd_rejections() -> Vec<(&'static str, Reply)> {
    let raw = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    vec![
        ("a body of 8 MiB", Reply::text(401, "text/html", "x".repeat(8 << 20))),
        ("more announced than sent", raw("HTTP/1.1 401 _\r\ncontent-length: 1000000\r\n\r\nno")),
        ("no length, to the end", raw("HTTP/1.1 401 _\r\n\r\nno")),
        ("HTTP/1.0", raw("HTTP/1.0 401 Unauthorized\r\n\r\n")),
        ("chunks that break off", raw("HTTP/1.1 401 _\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab")),
        (
            "an early hint before it",
            raw("HTTP/1.1 103 _\r\nlink: </a>\r\n\r\nHTTP/1.1 401 _\r\ncontent-length: 0\r\n\r\n"),
        ),
        (
            "100 Continue before it",
            raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 _\r\ncontent-length: 0\r\n\r\n"),
        ),
        (
            "bytes beyond ASCII in the challenge",
            raw(
                "HTTP/1.1 401 _\r\nwww-authenticate: \u{e4}\u{ff}, Bearer error=\"invalid_token\"\r\ncontent-length: 0\r\n\r\n",
            ),
        ),
        ("a redirect's header", Reply::json(401, "").with_header("Location", "http://127.0.0.1:1/")),
        (
            "thirty challenges",
            (0..30)
                .fold(Reply::json(401, ""), |reply, number| {
                    reply.with_header("WWW-Authenticate", format!("S{number} a=\"b\", c=d"))
                })
                .with_header("WWW-Authenticate", "Bearer error=\"invalid_token\""),
        ),
    ]
}

#[actix::test]
async fn a_401_in_any_shape_costs_one_replay() {
    for adaptor in ADAPTORS {
        for (name, rejection) in odd_rejections() {
            let stage = stage().await;
            // Only the first 16 lines are read, and what stands there is for others.
            let is_ours = name != "thirty challenges";
            stage.api.then(rejection).then(Reply::json(200, ""));
            let call = Call::post(&stage.origin, Payload::Text("order".into()));
            let told = adaptor.send(&stage.auth, call).await;
            // awc takes an interim answer for the answer.
            if adaptor == Adaptor::Awc && name.contains("before it") {
                println!("{name}: awc tells {told:?}");
                continue;
            }
            let status = if is_ours { 200 } else { 401 };
            assert_eq!(told, Told::Status(status), "{adaptor:?}, {name}");
            assert_eq!(stage.api.asked().len(), if is_ours { 2 } else { 1 }, "{adaptor:?}, {name}");
            assert_eq!(stage.replaces().await, u64::from(is_ours), "{adaptor:?}, {name}");
        }
    }
}

#[actix::test]
async fn head_and_odd_methods_and_an_expectation_are_sent_again() {
    for adaptor in ADAPTORS {
        for method in ["HEAD", "OPTIONS", "PUT", "PROPFIND"] {
            let stage = stage().await;
            stage.api.then(Reply::json(401, "")).then(Reply::json(200, ""));
            let call = Call { method: method.into(), ..Call::get(&stage.origin) };
            // awc waits for a "100 Continue" itself, and this server sends none.
            let call = if adaptor == Adaptor::Awc { call } else { with(call, "expect", "100-continue") };
            assert_eq!(adaptor.send(&stage.auth, call).await, Told::Status(200), "{adaptor:?} {method}");
            let asked = stage.api.asked();
            assert!(asked.iter().all(|asked| asked.head.starts_with(method)), "{adaptor:?} {method}");
            assert_eq!(
                stage.shown(),
                [1, 2].map(|n| Some(format!("Bearer token-{n}"))),
                "{adaptor:?} {method}"
            );
        }
    }
}

#[actix::test]
async fn odd_urls_are_the_ones_that_were_asked() {
    // reqwest tells where an answer comes from. Written in another way, each 401 would be one behind a redirect.
    for adaptor in [Adaptor::Reqwest, Adaptor::Chain] {
        for path in [
            "/a b/c",
            "/%zz?q=%",
            "/..%2f/./x/../y",
            "/?q=a'b\"c|d{e}^f`g[h]",
            "/\u{e4}?\u{e4}=\u{1f600}#\u{e4}",
            "/;a=b,c//d?",
            "?a",
            "#a",
            "/a?b#c?d#e",
        ] {
            let stage = stage().await;
            stage.api.then(Reply::json(401, "")).then(Reply::json(200, ""));
            let told = adaptor.send(&stage.auth, Call::get(&format!("{}{path}", stage.origin))).await;
            assert_eq!(told, Told::Status(200), "{adaptor:?} {path}");
        }
    }
}

#[actix::test]
async fn an_ipv6_origin_is_the_same_however_it_is_written() {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    for adaptor in ADAPTORS {
        let tokens = tokens(plain());
        let auth =
            BearerAuth::builder(&tokens).allow(format!("http://[0:0:0:0:0:0:0:1]:{port}")).build().unwrap();
        // Nobody listens there: whether a token was asked for says what would have been sent.
        let told = adaptor.send(&auth, Call::get(&format!("http://[::1]:{port}/"))).await;
        assert!(matches!(told, Told::Other(_)), "{adaptor:?}: {told:?}");
        assert_eq!(tokens.status().await.unwrap().counters.attempts, 1, "{adaptor:?}");
    }
}

#[actix::test]
async fn a_body_that_fails_midway_is_the_caller_s_error_and_no_report() {
    let stage = stage().await;
    let pieces = || stream::iter([Ok(Bytes::from("half")), Err(std::io::Error::other("the disc is gone"))]);
    let request = client().post(&stage.origin).body(reqwest::Body::wrap_stream(pieces()));
    let error = request.send_with(&stage.auth).await.unwrap_err();
    assert!(format!("{error:?}").contains("the disc is gone"), "{error:?}");
    let hyper =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let body = StreamBody::new(futures_util::StreamExt::map(pieces(), |piece| piece.map(Frame::data)));
    let request = http::Request::post(&stage.origin).body(body.boxed_unsync()).unwrap();
    let error = stage.auth.layer(hyper).oneshot(request).await.unwrap_err();
    assert!(format!("{error:?}").contains("the disc is gone"), "{error:?}");
    assert_eq!(stage.replaces().await, 0);
}

/// Answers as it is told, and notes each request.
#[derive(Clone)]
struct Api<F>(F, Arc<Mutex<Vec<http::request::Parts>>>);

impl<F: Fn(usize) -> http::Response<Full<Bytes>>> Api<F> {
    fn new(answer: F) -> Self {
        Self(answer, Arc::default())
    }
}

impl<F, B> Service<http::Request<KeptBody<B>>> for Api<F>
where
    F: Fn(usize) -> http::Response<Full<Bytes>>,
{
    type Response = http::Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    /// Ready for one request, and never again after it.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(match self.1.lock().unwrap().len() {
            0 | 2.. => Ok(()),
            _ => Err("the connection is gone".into()),
        })
    }

    fn call(&mut self, request: http::Request<KeptBody<B>>) -> Self::Future {
        let mut seen = self.1.lock().unwrap();
        seen.push(request.into_parts().0);
        ready(Ok(self.0(seen.len())))
    }
}

fn status(status: u16) -> http::Response<Full<Bytes>> {
    http::Response::builder().status(status).body(Full::default()).unwrap()
}

fn get(uri: &str) -> http::Request<Empty<Bytes>> {
    http::Request::get(uri).body(Empty::new()).unwrap()
}

#[actix::test]
async fn a_service_that_is_not_ready_for_the_replay_is_the_caller_s_error() {
    let tokens = tokens(plain());
    let auth = BearerAuth::builder(&tokens).allow("https://api.example").build().unwrap();
    let api = Api::new(|_| status(401));
    let error = auth.layer(api.clone()).oneshot(get("https://api.example/")).await.unwrap_err();
    assert_eq!(error.to_string(), "the connection is gone");
    assert_eq!(api.1.lock().unwrap().len(), 1);
    assert_eq!(tokens.get().await.unwrap().secret(), "token-2", "and the token was reported");
}

#[actix::test]
async fn extensions_are_sent_again_and_each_token_is_marked_sensitive() {
    #[derive(Clone, Debug, PartialEq)]
    struct Mark(u8);
    let tokens = tokens(plain());
    let auth = BearerAuth::builder(&tokens).allow("https://api.example").build().unwrap();
    let seen = Arc::<Mutex<Vec<_>>>::default();
    let noted = Arc::clone(&seen);
    let service = tower::service_fn(move |request: http::Request<KeptBody<Empty<Bytes>>>| {
        let value = request.headers()["authorization"].clone();
        noted.lock().unwrap().push((request.extensions().get::<Mark>().cloned(), value.is_sensitive()));
        assert!(!format!("{request:?}").contains("token-"));
        ready(Ok::<_, Infallible>(status(if value == "Bearer token-1" { 401 } else { 200 })))
    });
    let mut request = get("https://api.example/");
    request.extensions_mut().insert(Mark(7));
    assert_eq!(auth.layer(service).oneshot(request).await.unwrap().status(), 200);
    assert_eq!(*seen.lock().unwrap(), [(Some(Mark(7)), true), (Some(Mark(7)), true)]);
}

#[actix::test]
async fn of_two_middlewares_the_outer_one_s_token_is_sent_and_only_that_is_reported() {
    let (outer, inner) = (tokens(plain()), tokens(plain()));
    let auth = |tokens| BearerAuth::builder(tokens).allow("https://api.example").build().unwrap();
    let answers = Arc::new(AtomicU32::new(0));
    let service = tower::service_fn(move |_: http::Request<KeptBody<KeptBody<Empty<Bytes>>>>| {
        let is_first = answers.fetch_add(1, Ordering::Relaxed) == 0;
        ready(Ok::<_, Infallible>(status(if is_first { 401 } else { 200 })))
    });
    let service = auth(&outer).layer(auth(&inner).layer(service));
    assert_eq!(service.oneshot(get("https://api.example/")).await.unwrap().status(), 200);
    assert_eq!(outer.status().await.unwrap().counters.attempts, 2);
    assert_eq!(inner.status().await.unwrap().counters.attempts, 0);
}

#[actix::test]
async fn who_goes_away_between_the_401_and_the_replay_leaves_one_flight_to_the_others() {
    for adaptor in ADAPTORS {
        let api = FakeAuthServer::start().await.unwrap();
        let (calls, release) = (Arc::new(AtomicU32::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
        let source = source_fn({
            let (calls, release) = (Arc::clone(&calls), Arc::clone(&release));
            move |_cx| {
                let (number, release) = (calls.fetch_add(1, Ordering::Relaxed) + 1, Arc::clone(&release));
                async move {
                    if number > 1 {
                        release.acquire().await.unwrap().forget();
                    }
                    Ok(Token::new(format!("token-{number}")))
                }
            }
        });
        let tokens = TokenActor::builder(source).policy(plain()).start().unwrap();
        let auth = BearerAuth::builder(&tokens).allow(api.url().replace("/token", "")).build().unwrap();
        tokens.get().await.unwrap();
        for _ in 0..10 {
            api.then(Reply::json(401, ""));
        }
        let url = api.url();
        let mut requests: Vec<_> = (0..10).map(|_| Box::pin(adaptor.send(&auth, Call::get(&url)))).collect();
        // Until all have their 401, and wait for the flight.
        let reported = async {
            while tokens.status().await.unwrap().counters.replaces < 10 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = join_all(&mut requests) => panic!("nobody has a token"),
            () = reported => {}
        }
        let stay = requests.split_off(5);
        drop(requests);
        release.add_permits(1);
        let told = join_all(stay).await;
        assert!(told.iter().all(|told| *told == Told::Status(200)), "{adaptor:?}: {told:?}");
        assert_eq!((calls.load(Ordering::Relaxed), api.asked().len()), (2, 15), "{adaptor:?}");
    }
}

#[actix::test]
async fn a_token_that_is_discarded_while_it_settles_is_not_sent_again() {
    tokio::time::pause();
    let calls = AtomicU32::new(0);
    let source = source_fn(move |_cx| {
        let is_first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        ready(if is_first {
            Ok(Token::new("token-1"))
        } else {
            Err(tokenflight::SourceError::terminal("no"))
        })
    });
    let policy = RefreshPolicy::default().settle(secs(5));
    let tokens = TokenActor::builder(source).policy(policy).clock(ManualClock::new()).start().unwrap();
    let auth = BearerAuth::builder(&tokens).allow("https://api.example").build().unwrap();
    let seen = Arc::new(AtomicU32::new(0));
    let noted = Arc::clone(&seen);
    let service = tower::service_fn(move |_: http::Request<KeptBody<Empty<Bytes>>>| {
        noted.fetch_add(1, Ordering::Relaxed);
        ready(Ok::<_, Infallible>(status(401)))
    });
    let discarding = async {
        tokio::time::sleep(secs(1)).await;
        tokens.discard(&tokens.current().unwrap());
    };
    let (answer, ()) = tokio::join!(auth.layer(service).oneshot(get("https://api.example/")), discarding);
    assert_eq!(answer.unwrap().status(), 401, "it is compromised, and there is no other");
    assert_eq!(seen.load(Ordering::Relaxed), 1, "sent once");
}

#[actix::test]
async fn a_token_that_is_discarded_while_a_noisy_origin_answers_is_not_sent_again() {
    tokio::time::pause();
    let calls = AtomicU32::new(0);
    // The same token again for the first report. So the origin, which then accepts it, is noisy.
    let source = source_fn(move |_cx| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        ready(Ok(Token::new(if call < 3 { "same" } else { "other" })))
    });
    let policy = RefreshPolicy::default().settle(secs(0));
    let tokens = TokenActor::builder(source).policy(policy).clock(ManualClock::new()).start().unwrap();
    let auth = BearerAuth::builder(&tokens).allow("https://api.example").build().unwrap();
    let (seen, handle) = (Arc::new(Mutex::new(Vec::new())), tokens.clone());
    let noted = Arc::clone(&seen);
    let service = auth.layer(tower::service_fn(move |request: http::Request<KeptBody<Empty<Bytes>>>| {
        let mut seen = noted.lock().unwrap();
        seen.push(request.headers()["authorization"].to_str().unwrap().to_owned());
        if seen.len() == 3 {
            handle.discard(&handle.current().unwrap());
        }
        ready(Ok::<_, Infallible>(status(if seen.len() % 2 == 1 { 401 } else { 200 })))
    }));
    for _ in 0..2 {
        let answer = service.clone().oneshot(get("https://api.example/")).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(*seen.lock().unwrap(), ["Bearer same", "Bearer same", "Bearer same", "Bearer other"]);
}

/// Frames without anything in them, and then one with something.
struct Hollow(u32);

impl Body for Hollow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0 = self.0.saturating_sub(1);
        Poll::Ready(match self.0 {
            0 => None,
            1 => Some(Ok(Frame::data(Bytes::from_static(b"order")))),
            _ => Some(Ok(Frame::data(Bytes::new()))),
        })
    }
}

#[actix::test]
async fn empty_frames_of_a_body_are_not_kept() {
    let tokens = tokens(plain());
    let auth = BearerAuth::builder(&tokens).allow("https://api.example").build().unwrap();
    let frames = Arc::<Mutex<Vec<usize>>>::default();
    let noted = Arc::clone(&frames);
    let service = tower::service_fn(move |request: http::Request<KeptBody<Hollow>>| {
        let noted = Arc::clone(&noted);
        async move {
            let value: HeaderValue = request.headers()["authorization"].clone();
            let (mut body, mut count) = (request.into_body(), 0);
            while body.frame().await.is_some() {
                count += 1;
            }
            noted.lock().unwrap().push(count);
            Ok::<_, Infallible>(status(if value == "Bearer token-1" { 401 } else { 200 }))
        }
    });
    let request = http::Request::post("https://api.example/").body(Hollow(1_000)).unwrap();
    assert_eq!(auth.layer(service).oneshot(request).await.unwrap().status(), 200);
    assert_eq!(*frames.lock().unwrap(), [999, 1]);
}

#[actix::test]
async fn who_wants_no_replay_does_not_wait_for_the_body() {
    tokio::time::pause();
    let tokens = tokens(plain());
    let auth = BearerAuth::builder(&tokens).allow("https://api.example").build().unwrap();
    let service = tower::service_fn(|request: http::Request<KeptBody<_>>| {
        // It answers early, and never lets go of the body.
        std::mem::forget(request);
        ready(Ok::<_, Infallible>(status(401)))
    });
    let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let request = http::Request::post("https://api.example/").body(body).unwrap();
    tokens.get().await.unwrap();
    let mut watch = tokens.watch();
    let begin = tokio::time::Instant::now();
    let answer = auth.without_replay().layer(service).oneshot(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), begin.elapsed()), (401, std::time::Duration::ZERO));
    watch.changed().await.unwrap();
    assert_eq!(tokens.current().unwrap().secret(), "token-2", "it is reported all the same");
}

#[actix::test]
async fn a_401_that_is_not_about_the_token_is_passed_on_while_the_body_is_still_being_sent() {
    tokio::time::pause();
    for challenge in [
        r#"Basic realm="x""#,
        r#"Bearer error="insufficient_scope""#,
        r#"Bearer error="insufficient_user_authentication", acr_values="high""#,
        r#"DPoP error="invalid_dpop_proof""#,
    ] {
        let tokens = tokens(plain());
        let auth = BearerAuth::builder(&tokens).allow("https://api.example").build().unwrap();
        let service = tower::service_fn(move |request: http::Request<KeptBody<_>>| {
            std::mem::forget(request);
            let mut answer = status(401);
            answer.headers_mut().insert("www-authenticate", HeaderValue::from_static(challenge));
            ready(Ok::<_, Infallible>(answer))
        });
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let request = http::Request::post("https://api.example/").body(body).unwrap();
        tokens.get().await.unwrap();
        let begin = tokio::time::Instant::now();
        let answer = auth.layer(service).oneshot(request).await;
        assert_eq!(begin.elapsed(), std::time::Duration::ZERO, "{challenge}");
        let is_step_up = challenge.contains("insufficient_user");
        match answer {
            Ok(answer) => assert_eq!((answer.status().as_u16(), is_step_up), (401, false), "{challenge}"),
            Err(error) => assert!(is_step_up && error.is::<tokenflight::middleware::StepUp>(), "{error}"),
        }
        assert_eq!(tokens.status().await.unwrap().counters.replaces, 0, "{challenge}");
    }
}

#[actix::test]
async fn an_empty_frame_before_the_status_of_grpc_is_no_message() {
    let tokens = tokens(plain());
    let auth = BearerAuth::builder(&tokens).allow("https://api.example").build().unwrap();
    let service = tower::service_fn(|request: http::Request<KeptBody<Empty<Bytes>>>| {
        let code = if request.headers()["authorization"] == "Bearer token-1" { "16" } else { "0" };
        let trailers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            code.parse().unwrap(),
        )]);
        let frames = [Frame::data(Bytes::new()), Frame::data(Bytes::new()), Frame::trailers(trailers)];
        let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
        let answer = http::Response::builder().header("content-type", "application/grpc");
        ready(Ok::<_, Infallible>(answer.body(body).unwrap()))
    });
    let mut request = get("https://api.example/");
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let answer = auth.layer(service).oneshot(request).await.unwrap();
    let trailers = answer.into_body().collect().await.unwrap().trailers().cloned().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(tokens.status().await.unwrap().counters.attempts, 2);
}
