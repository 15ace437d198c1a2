//! The middlewares between other middlewares.

use std::future::Ready;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Full;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::TokioExecutor;
use reqwest_middleware::{ClientBuilder, Middleware, Next};
use tokenflight::middleware::BearerAuth;
use tokenflight::testing::{FakeAuthServer, Reply};
use tokenflight::{Token, TokenActor, TokenHandle, source_fn};
use tower::retry::{Policy, RetryLayer};
use tower::{BoxError, ServiceBuilder, ServiceExt};

use crate::{client, plain};

fn tokens() -> TokenHandle {
    let numbers = std::sync::atomic::AtomicU32::new(0);
    let source = source_fn(move |_cx| {
        let number = numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        std::future::ready(Ok(Token::new(format!("token-{number}"))))
    });
    TokenActor::builder(source).policy(plain()).start().unwrap()
}

fn auth(tokens: &TokenHandle, api: &FakeAuthServer) -> BearerAuth {
    BearerAuth::builder(tokens).allow(api.url().replace("/token", "")).build().unwrap()
}

fn sent(api: &FakeAuthServer) -> Vec<String> {
    let asked = api.asked();
    asked.iter().map(|asked| asked.header("authorization").unwrap().replace("Bearer ", "")).collect()
}

/// Tries thrice where the answer is 503.
#[derive(Clone, Debug)]
struct On503(u32);

impl<B, R> Policy<http::Request<B>, http::Response<R>, BoxError> for On503
where
    http::Request<B>: Clone,
{
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut http::Request<B>,
        result: &mut Result<http::Response<R>, BoxError>,
    ) -> Option<Ready<()>> {
        let is_503 = result.as_ref().is_ok_and(|answer| answer.status() == 503);
        self.0 += 1;
        (is_503 && self.0 < 3).then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, request: &http::Request<B>) -> Option<http::Request<B>> {
        Some(request.clone())
    }
}

#[actix::test]
async fn towers_of_limits_buffers_timeouts_and_retries_stand() {
    let (api, tokens) = (FakeAuthServer::start().await.unwrap(), tokens());
    let client = HyperClient::builder(TokioExecutor::new()).build_http();
    let service = ServiceBuilder::new()
        .buffer(16)
        .concurrency_limit(1)
        .layer(RetryLayer::new(On503(0)))
        .timeout(Duration::from_secs(30))
        .layer(auth(&tokens, &api))
        .concurrency_limit(1)
        .service(client);
    // Each in its turn: a 503, a 401 to what is sent again, and then it is served.
    for _ in 0..5 {
        api.then(Reply::json(503, "")).then(Reply::json(401, "")).then(Reply::json(200, ""));
    }
    let requests = (0..5).map(|_| {
        let request = http::Request::post(api.url()).body(Full::new(Bytes::from("order"))).unwrap();
        service.clone().oneshot(request)
    });
    let answers = join_all(requests).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status() == 200)));
    assert!(api.asked().iter().all(|asked| asked.body == "order"));
    let sent = sent(&api);
    assert_eq!(sent.len(), 15);
    assert_eq!(sent[..4], ["token-1", "token-1", "token-2", "token-2"]);
}

/// Tries again where the answer is 503.
struct Retry;

#[async_trait::async_trait]
impl Middleware for Retry {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        let again = request.try_clone().unwrap();
        let answer = next.clone().run(request, extensions).await?;
        if answer.status() == 503 { next.run(again, extensions).await } else { Ok(answer) }
    }
}

#[actix::test]
async fn a_chain_may_have_it_before_or_after_what_retries() {
    for is_after in [true, false] {
        let (api, tokens) = (FakeAuthServer::start().await.unwrap(), tokens());
        let auth = auth(&tokens, &api);
        let chain = ClientBuilder::new(client());
        let chain =
            if is_after { chain.with(Retry).with(auth) } else { chain.with(auth).with(Retry) }.build();
        for status in [503, 401, 200, 401, 503, 200] {
            api.then(Reply::json(status, ""));
        }
        for _ in 0..2 {
            let answer = chain.post(api.url()).body("order").send().await.unwrap();
            assert_eq!(answer.status(), 200, "after: {is_after}");
        }
        assert_eq!(sent(&api), ["token-1", "token-1", "token-2", "token-2", "token-3", "token-3"]);
        assert!(api.asked().iter().all(|asked| asked.body == "order"));
    }
}

/// Between the tries a token is replaced.
struct Refresh(TokenHandle);
#[async_trait::async_trait]
impl Middleware for Refresh {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        let answer = next.run(request, extensions).await;
        self.0.refresh().await.unwrap();
        answer
    }
}

#[actix::test]
async fn a_retry_has_the_token_of_its_time() {
    let (api, tokens) = (FakeAuthServer::start().await.unwrap(), tokens());
    let refreshing = tokens.clone();
    let chain = ClientBuilder::new(client()).with(Retry).with(auth(&tokens, &api));
    let chain = chain.with(Refresh(refreshing)).build();
    api.then(Reply::json(503, "")).then(Reply::json(200, ""));
    assert_eq!(chain.get(api.url()).send().await.unwrap().status(), 200);
    assert_eq!(sent(&api), ["token-1", "token-2"]);
}

/// Puts a version in the query.
struct Version;

#[async_trait::async_trait]
impl Middleware for Version {
    async fn handle(
        &self,
        mut request: reqwest::Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        request.url_mut().set_query(Some("version=2"));
        next.run(request, extensions).await
    }
}

#[actix::test]
async fn what_changes_the_url_stands_before_it_or_each_answer_looks_redirected() {
    for (is_before, status, shown) in [(true, 200, vec!["token-1", "token-2"]), (false, 401, vec!["token-1"])]
    {
        let (api, tokens) = (FakeAuthServer::start().await.unwrap(), tokens());
        let auth = auth(&tokens, &api);
        let chain = ClientBuilder::new(client());
        let chain =
            if is_before { chain.with(Version).with(auth) } else { chain.with(auth).with(Version) }.build();
        api.then(Reply::json(401, "")).then(Reply::json(200, ""));
        assert_eq!(chain.get(api.url()).send().await.unwrap().status(), status, "before: {is_before}");
        assert_eq!(sent(&api), shown);
    }
}
