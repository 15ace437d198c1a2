//! A source that gives the same token again, as metadata servers, files and token endpoints with a cache do.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use tokenflight::middleware::BearerAuth;
use tokenflight::middleware::tower::KeptBody;
use tokenflight::testing::ManualClock;
use tokenflight::{RefreshPolicy, Token, TokenActor, TokenHandle, source_fn};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

use crate::{HOUR, millis, plain, secs};

/// How long a call takes, to the auth server or to an API.
const TAKES: Duration = millis(20);

struct Stage {
    tokens: TokenHandle,
    auth: BearerAuth,
    clock: ManualClock,
    calls: Arc<AtomicU64>,
}

impl Stage {
    /// `secret`: the one that the source gives so long after the beginning.
    fn new(policy: RefreshPolicy, secret: fn(Duration) -> &'static str) -> Self {
        let (calls, begin, clock) = (Arc::<AtomicU64>::default(), Instant::now(), ManualClock::new());
        let counter = Arc::clone(&calls);
        let source = source_fn(move |_cx| {
            counter.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(TAKES).await;
                Ok(Token::new(secret(begin.elapsed())).with_lifetime(HOUR))
            }
        });
        let builder = TokenActor::builder(source).policy(policy).clock(clock.clone()).seed(7);
        let tokens = builder.start().unwrap();
        let auth = BearerAuth::builder(&tokens).allow("https://api.example").build().unwrap();
        Self { tokens, auth, clock, calls }
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The status that the caller gets. `api` gets the secret of each sending.
    async fn send(&self, api: impl Fn(&str) -> u16 + Clone + Send + Sync + 'static) -> u16 {
        let service = tower::service_fn(move |request: http::Request<KeptBody<Empty<Bytes>>>| {
            let status =
                api(request.headers()["authorization"].to_str().unwrap().trim_start_matches("Bearer "));
            async move {
                tokio::time::sleep(TAKES).await;
                Ok::<_, Infallible>(
                    http::Response::builder().status(status).body(Empty::<Bytes>::new()).unwrap(),
                )
            }
        });
        let request = http::Request::get("https://api.example/").body(Empty::<Bytes>::new()).unwrap();
        self.auth.layer(service).oneshot(request).await.unwrap().status().as_u16()
    }

    /// An API that gives these answers in turn, to any token.
    async fn answered(&self, statuses: &[u16]) -> u16 {
        let left = Arc::new(Mutex::new(statuses.iter().rev().copied().collect::<Vec<_>>()));
        let last = self.send({
            let left = Arc::clone(&left);
            move |_| left.lock().unwrap().pop().unwrap()
        });
        let last = last.await;
        assert!(left.lock().unwrap().is_empty(), "each answer was asked for");
        last
    }
}

#[actix::test]
async fn an_origin_that_accepts_the_same_secret_after_rejecting_it_is_noisy() {
    tokio::time::pause();
    let stage = Stage::new(plain(), |_| "same");
    stage.tokens.get().await.unwrap();
    assert_eq!(stage.answered(&[401, 200]).await, 200);
    assert_eq!(stage.calls(), 3, "the source is asked once more before it is believed");
    assert_eq!(stage.answered(&[401, 200]).await, 200);
    assert_eq!(stage.calls(), 3, "and then the request is first sent again with the same token");
    assert_eq!(stage.tokens.status().await.unwrap().counters.replaces, 1);
}

#[actix::test]
async fn a_revoked_token_that_the_source_gives_for_30_s_more_is_replaced_soon_after() {
    tokio::time::pause();
    let stage = Stage::new(RefreshPolicy::default(), |age| if age < secs(130) { "a" } else { "b" });
    stage.tokens.get().await.unwrap();
    // Long enough for the token to have no predecessor that helps, and to have settled.
    tokio::time::sleep(secs(100)).await;
    assert_eq!(stage.send(|_| 200).await, 200);
    let (revoked, before) = (Instant::now(), stage.calls());
    let mut served = None;
    while served.is_none() && revoked.elapsed() < secs(120) {
        if stage.send(|secret| if secret == "b" { 200 } else { 401 }).await == 200 {
            served = Some(revoked.elapsed());
        }
        tokio::time::sleep(millis(200)).await;
    }
    let (served, calls) = (served.expect("served"), stage.calls() - before);
    println!("served after {served:?}, {calls} calls");
    assert!(served <= secs(34), "{served:?}");
    // Each flight is one call, except the first, which asks once more. One flight for each time that the token settles.
    assert!(calls <= 17 + 2, "{calls} calls");
}

#[actix::test]
async fn a_revoked_token_that_the_source_gives_to_its_end_is_asked_for_less_and_less() {
    tokio::time::pause();
    let stage = Stage::new(RefreshPolicy::default(), |_| "a");
    assert_eq!(stage.send(|_| 200).await, 200);
    tokio::time::sleep(secs(100)).await;
    let before = stage.calls();
    let revoked = Instant::now();
    while revoked.elapsed() < HOUR {
        assert_eq!(stage.send(|_| 401).await, 401);
        tokio::time::sleep(millis(200)).await;
    }
    let calls = stage.calls() - before;
    println!("{calls} calls in an hour");
    assert!(calls <= 200, "{calls} calls");
}

#[actix::test]
async fn a_rejected_token_that_had_settled_is_sent_again_as_soon_as_the_source_repeats_it() {
    tokio::time::pause();
    let stage = Stage::new(RefreshPolicy::default(), |_| "same");
    stage.tokens.get().await.unwrap();
    stage.clock.suspend(secs(61));
    let begin = Instant::now();
    assert_eq!(stage.answered(&[401, 200]).await, 200);
    assert_eq!(stage.calls(), 3);
    assert!(begin.elapsed() < secs(1), "{:?}", begin.elapsed());
}
