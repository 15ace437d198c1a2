//! The tests of the actor. None waits in real time, and none needs an external auth server.

use tokenflight::testing::{
    Answer, FakeAuthServer, ManualClock, Reply, ScriptedSource, errors, failing_handle, fixed_handle, paused,
};
use tokenflight::{RefreshPolicy, SourceError};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// The usual case needs a token, and no auth server.
#[actix::test]
async fn an_order_is_fetched_with_the_token() {
    let api = FakeAuthServer::start().await.unwrap();
    api.issue("abc");
    let orders = Orders::new(fixed_handle("abc").unwrap(), api.api_url()).start();
    assert_eq!(orders.send(Fetch(7)).await.unwrap().unwrap(), r#"{"ok":true}"#);
    assert_eq!((api.accepted(), api.asked().len()), (1, 0));
}

/// Where there is no token, the actor says when to come back, and the API is not asked.
#[actix::test]
async fn without_a_token_the_actor_says_when_to_come_back() {
    let api = FakeAuthServer::start().await.unwrap();
    let busy = SourceError::transient("too many requests").with_retry_after(Duration::from_secs(7));
    let orders = Orders::new(failing_handle(busy).unwrap(), api.api_url()).start();
    let Failure::Later(Some(left)) = orders.send(Fetch(7)).await.unwrap().unwrap_err() else { panic!() };
    assert!(left > Duration::from_secs(6) && left <= Duration::from_secs(7));
    assert_eq!(api.accepted() + api.rejected(), 0);
}

/// A function of the error alone is tested with an error of each kind.
#[test]
fn each_error_has_its_answer() {
    assert_eq!(Failure::from(errors::rejected("invalid_client")), Failure::Refused);
    for error in [errors::overloaded(10), errors::wait_timed_out(), errors::stopped()] {
        assert_eq!(Failure::from(error), Failure::Later(None));
    }
}

/// An actor that gets its tokens from the server, and a clock by which these tokens end. The sockets' time goes on as usual.
fn with_server(server: &FakeAuthServer) -> (Addr<Orders>, ManualClock) {
    let clock = ManualClock::new();
    let client = Client::builder(server.url(), "orders").secret("s3cret").build().unwrap();
    let source = client.client_credentials().build().unwrap();
    let tokens = TokenActor::builder(source).clock(clock.clone()).start().unwrap();
    (Orders::new(tokens, server.api_url()).start(), clock)
}

#[actix::test]
async fn a_revoked_token_is_replaced_and_the_request_is_sent_again() {
    let server = FakeAuthServer::start().await.unwrap();
    let (orders, clock) = with_server(&server);
    orders.send(Fetch(7)).await.unwrap().unwrap();

    clock.suspend(Duration::from_secs(10)); // a token younger than 2 s is not replaced
    server.revoke("token-1");
    orders.send(Fetch(8)).await.unwrap().unwrap();
    assert_eq!((server.accepted(), server.rejected(), server.asked().len()), (2, 1, 2));
}

#[actix::test]
async fn an_api_that_rejects_everything_costs_one_refresh_and_two_requests() {
    let server = FakeAuthServer::start().await.unwrap();
    let (orders, clock) = with_server(&server);
    orders.send(Fetch(7)).await.unwrap().unwrap();

    clock.suspend(Duration::from_secs(10));
    server.api_then(Reply::json(401, "{}")).api_then(Reply::json(401, "{}"));
    assert_eq!(orders.send(Fetch(8)).await.unwrap(), Err(Failure::Rejected));
    assert_eq!(server.asked().len(), 2);
}

#[actix::test]
async fn an_expired_token_is_fetched_again() {
    let server = FakeAuthServer::start().await.unwrap();
    let (orders, clock) = with_server(&server);
    orders.send(Fetch(7)).await.unwrap().unwrap();
    clock.suspend(HOUR);
    orders.send(Fetch(8)).await.unwrap().unwrap();
    assert_eq!(server.asked().len(), 2);
    assert!(server.rejected() == 0, "the old token was not sent");
}

/// In paused time an auth server that never answers costs the test nothing.
#[actix::test]
async fn an_auth_server_that_hangs_is_given_up() {
    let clock = paused();
    let source = ScriptedSource::new();
    source.then_times(3, &Answer::Hang);
    let policy = RefreshPolicy::default().wait_timeout(Duration::from_secs(5));
    let tokens = TokenActor::builder(source.clone()).policy(policy).clock(clock).start().unwrap();
    let orders = Orders::new(tokens, "http://127.0.0.1:9").start();

    let begin = tokio::time::Instant::now();
    assert_eq!(orders.send(Fetch(7)).await.unwrap(), Err(Failure::Later(None)));
    assert_eq!(begin.elapsed().as_secs(), 5);
    assert_eq!(source.calls(), 1);
}

/// A crowd of requests while the first call is under way: one call.
#[actix::test]
async fn a_hundred_requests_share_one_call() {
    let server = FakeAuthServer::start().await.unwrap();
    server.then(Reply::After(
        Duration::from_millis(50),
        Box::new(Reply::json(200, r#"{"access_token":"abc","token_type":"Bearer","expires_in":60}"#)),
    ));
    let (orders, _clock) = with_server(&server);
    let crowd: Vec<_> = (0..100).map(|number| orders.send(Fetch(number))).collect();
    server.wait_for(1).await;
    for order in futures_util::future::join_all(crowd).await {
        order.unwrap().unwrap();
    }
    assert_eq!((server.accepted(), server.asked().len()), (100, 1));
}
