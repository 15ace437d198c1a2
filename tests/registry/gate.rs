//! Promise 16: all keys together are behind one gate.

use std::sync::Arc;

use http::StatusCode;
use tokenflight::oauth::{Client, OAuthError};
use tokenflight::registry::TokenRegistry;
use tokenflight::source::JsonEndpoint;
use tokenflight::testing::{Answer, FakeAuthServer, Reply};
use tokenflight::{FetchContext, SourceError, TokenSource};

use crate::support::*;

fn said(status: u16, code: &str) -> Answer {
    let error = OAuthError::new(StatusCode::from_u16(status).unwrap(), code);
    let terminal = status < 429;
    Answer::Error(if terminal { SourceError::terminal(error) } else { SourceError::transient(error) })
}

fn one_attempt(rig: fn() -> tokenflight::RefreshPolicy) -> Rig {
    rig_with(|builder| builder.policy(rig().attempts(1)))
}

#[actix::test]
async fn no_more_calls_are_made_at_once_than_allowed_and_a_group_has_half() {
    let rig = rig_with(|builder| builder.max_calls(4));
    rig.source.group(0..20, "crowd");
    let crowd: Vec<_> = (0..20).map(|key| rig.asks(key)).collect();
    settle().await;
    assert_eq!(rig.source.running(), 2);
    let others: Vec<_> = (20..40).map(|key| rig.asks(key)).collect();
    settle().await;
    assert_eq!(rig.source.running(), 4);
    let totals = rig.tokens.totals().await.unwrap();
    assert_eq!((totals.calls, totals.queued, totals.busy_keys), (4, 36, 40));
    for caller in crowd.into_iter().chain(others) {
        assert!(caller.await.unwrap().is_ok());
    }
    assert_eq!((rig.source.most_at_once(), rig.source.calls()), (4, 40));
}

#[actix::test]
async fn keys_whose_callers_have_timed_out_go_behind_keys_with_callers() {
    let rig = rig_with(|builder| builder.max_calls(1).policy(plain().wait_timeout(secs(1))));
    rig.source.of(0).hold();
    let first = rig.asks(0);
    settle().await;
    let late: Vec<_> = (1..9).map(|key| rig.asks(key)).collect();
    for caller in late {
        assert!(caller.await.unwrap().unwrap_err().is_timeout());
    }
    assert!(first.await.unwrap().unwrap_err().is_timeout());
    // One of them has a caller again.
    let callers = [rig.asks(9), rig.asks(5)];
    settle().await;
    assert_eq!(rig.tokens.totals().await.unwrap().queued, 9);
    rig.source.of(0).release();
    for caller in callers {
        assert!(caller.await.unwrap().is_ok());
    }
    let calls = |keys: &[u32]| keys.iter().map(|key| rig.source.of(*key).calls()).sum::<usize>();
    assert_eq!(calls(&[9, 5]), 2);
    assert!(calls(&[1, 2, 3, 4, 6, 7, 8]) <= 1, "the next call has begun");
    tokio::time::sleep(secs(1)).await;
    assert_eq!(calls(&[1, 2, 3, 4, 6, 7, 8]), 7, "they are called too");
}

#[actix::test]
async fn two_keys_that_fail_close_the_gate_and_a_probe_opens_it() {
    let rig = one_attempt(plain);
    for key in 1..3 {
        rig.source.of(key).then(said(503, "temporarily_unavailable"));
        assert!(rig.tokens.get(&key).await.is_err());
    }
    let began = tokio::time::Instant::now();
    let error = rig.tokens.get(&3).await.unwrap_err();
    assert!(began.elapsed() < millis(10), "at once");
    assert!(error.is_unavailable(), "{error}");
    assert_eq!(error.cause::<OAuthError>().unwrap().status, 503);
    let left = error.retry_after().unwrap();
    assert!(left > secs(0) && left <= secs(1), "{left:?}");
    assert_eq!(rig.source.of(3).calls(), 0);
    let totals = rig.tokens.totals().await.unwrap();
    assert!(totals.closed.is_some() && totals.closed_by.is_some());
    assert_eq!(totals.closures, 1);
    tokio::time::sleep(left + millis(1)).await;
    assert!(rig.tokens.get(&3).await.is_ok());
    assert!(rig.tokens.totals().await.unwrap().closed.is_none());
}

#[actix::test]
async fn the_policy_s_jitter_makes_the_pause_of_a_gate_shorter() {
    tokio::time::pause();
    let mut pauses = Vec::new();
    for (jitter, seed) in [(0.0, 1), (1.0, 1), (1.0, 2), (1.0, 3)] {
        let policy = plain().attempts(1).jitter(jitter);
        let rig = another(|builder| builder.policy(policy).seed(seed));
        for key in 1..3 {
            rig.source.of(key).then(said(503, "temporarily_unavailable"));
            assert!(rig.tokens.get(&key).await.is_err());
        }
        pauses.push(rig.tokens.get(&3).await.unwrap_err().retry_after().unwrap());
    }
    let without = pauses.remove(0);
    assert!((millis(950)..=secs(1)).contains(&without), "{without:?}");
    pauses.sort();
    pauses.dedup();
    assert!(pauses.len() == 3 && pauses[0] < millis(900) && pauses[2] <= secs(1), "{pauses:?}");
}

#[actix::test]
async fn a_retry_after_closes_the_gate_for_as_long_as_the_policy_allows() {
    let rig = rig_with(|builder| builder.policy(plain().attempts(1).max_retry_after(secs(60))));
    for key in 1..3 {
        let error = OAuthError::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable");
        let error = SourceError::transient(error).with_retry_after(HOUR);
        rig.source.of(key).then(Answer::Error(error));
        assert!(rig.tokens.get(&key).await.is_err());
    }
    let left = rig.tokens.get(&3).await.unwrap_err().retry_after().unwrap();
    assert!((secs(59)..=secs(60)).contains(&left), "{left:?}");
}

#[actix::test]
async fn who_waits_at_a_gate_that_closes_is_told_at_once() {
    let rig = rig_with(|builder| builder.max_calls(2).max_calls_per_group(1).policy(plain().attempts(1)));
    for key in 1..3 {
        rig.source.of(key).then(said(503, "temporarily_unavailable"));
    }
    let began = tokio::time::Instant::now();
    let all: Vec<_> = (1..100).map(|key| rig.asks(key)).collect();
    let mut served = 0;
    for caller in all {
        match caller.await.unwrap() {
            Ok(_) => served += 1,
            Err(error) => assert!(error.is_unavailable()),
        }
    }
    assert!(began.elapsed() < millis(200));
    // One was sent when the first had failed and the second had not.
    assert_eq!((served, rig.source.calls()), (1, 3));
    tokio::time::sleep(secs(2)).await;
    assert_eq!(rig.tokens.totals().await.unwrap().busy_keys, 0);
}

#[actix::test]
async fn a_429_halves_the_calls() {
    let rig = one_attempt(plain);
    rig.source.of(1).then(said(429, "slow_down"));
    assert!(rig.tokens.get(&1).await.is_err());
    assert_eq!(rig.tokens.totals().await.unwrap().max_calls, 8);
    assert!(rig.tokens.get(&2).await.is_ok());
    assert_eq!(rig.tokens.totals().await.unwrap().max_calls, 9);
}

/// Keys that are served by this server, with one attempt each.
fn of_server(server: &FakeAuthServer) -> TokenRegistry<u32> {
    let client = Client::builder(server.url(), "app").secret("s3cret").build().unwrap();
    let source = client.client_credentials().for_key(|_: &u32, request| request).unwrap();
    TokenRegistry::builder(source).policy(plain().attempts(1)).start().unwrap()
}

#[actix::test]
async fn a_429_halves_the_calls_whatever_its_body_is() {
    let server = FakeAuthServer::start().await.unwrap();
    let bodies = [
        "",
        "{}",
        "<html>Too Many Requests</html>",
        r#"{"message":"slow down"}"#,
        r#"{"error":"slow_down"}"#,
    ];
    for body in bodies {
        let tokens = of_server(&server);
        server.then(Reply::json(429, body));
        assert!(tokens.get(&1).await.is_err());
        assert_eq!(tokens.totals().await.unwrap().max_calls, 8, "{body:?}");
    }
}

#[actix::test]
async fn a_429_halves_the_calls_of_a_source_without_oauth() {
    let server = FakeAuthServer::start().await.unwrap();
    let endpoint = JsonEndpoint::builder(http::Method::POST, server.url())
        .token_pointer("/access_token")
        .build()
        .unwrap();
    let endpoint = Arc::new(endpoint);
    let tokens = TokenRegistry::builder(move |_: u32, cx: FetchContext| {
        let endpoint = Arc::clone(&endpoint);
        async move {
            endpoint.fetch(cx).await.map_err(|error| SourceError::transient(std::io::Error::other(error)))
        }
    });
    let tokens = tokens.policy(plain().attempts(1)).start().unwrap();
    server.then(Reply::json(429, "{}"));
    assert!(tokens.get(&1).await.is_err());
    assert_eq!(tokens.totals().await.unwrap().max_calls, 8);
}

#[actix::test]
async fn answers_below_500_do_not_close_the_gate_whatever_their_body_is() {
    let server = FakeAuthServer::start().await.unwrap();
    let tokens = of_server(&server);
    let later = Reply::json(403, "{}").with_header("Retry-After", "60");
    let answers =
        [Reply::json(200, "{}"), Reply::json(200, "<html>Welcome</html>"), later, Reply::json(425, "")];
    for (key, answer) in (1..).zip(answers) {
        server.then(answer);
        assert!(tokens.get(&key).await.is_err());
    }
    assert!(tokens.totals().await.unwrap().closed.is_none());
    for key in 11..13 {
        server.then(Reply::json(503, r#"{"error":"invalid_client"}"#));
        assert!(tokens.get(&key).await.is_err());
    }
    assert!(tokens.totals().await.unwrap().closed.is_some());
}

#[actix::test]
async fn a_client_that_is_refused_for_two_keys_is_closed_for_its_keys_alone() {
    let rig = rig();
    rig.source.client(1..4, "client");
    for key in 1..3 {
        rig.source.of(key).then(said(401, "invalid_client"));
        assert!(rig.tokens.get(&key).await.unwrap_err().is_rejected());
    }
    let error = rig.tokens.get(&3).await.unwrap_err();
    assert_eq!(error.cause::<OAuthError>().unwrap().code, "invalid_client");
    assert_eq!(rig.source.of(3).calls(), 0);
    assert!(rig.tokens.get(&4).await.is_ok());
    assert_eq!(rig.tokens.totals().await.unwrap().closed_clients, 1);
    tokio::time::sleep(error.retry_after().unwrap() + secs(5)).await;
    assert!(rig.tokens.get(&3).await.is_ok());
    assert_eq!(rig.tokens.totals().await.unwrap().closed_clients, 0);
}

#[actix::test]
async fn a_queue_that_is_too_long_is_an_overload_at_once() {
    let policy = plain().wait_timeout(secs(2));
    let rig = rig_with(|builder| builder.max_calls(1).policy(policy));
    rig.source.of(0).hold();
    let first = rig.asks(0);
    tokio::time::sleep(secs(1)).await;
    rig.source.of(0).release();
    assert!(first.await.unwrap().is_ok());
    // A call is known to take a second.
    rig.source.of(1).hold();
    let callers: Vec<_> = (1..6).map(|key| rig.asks(key)).collect();
    settle().await;
    let refused = callers.iter().filter(|caller| caller.is_finished()).count();
    assert!((1..5).contains(&refused), "{refused}");
    for caller in callers.into_iter().filter(tokio::task::JoinHandle::is_finished) {
        assert!(caller.await.unwrap().unwrap_err().is_overloaded());
    }
}

/// A call is known to take about a second.
async fn a_call_takes_a_second(rig: &Rig) {
    rig.source.of(0).hold();
    let first = rig.asks(0);
    tokio::time::sleep(secs(1)).await;
    rig.source.of(0).release();
    assert!(first.await.unwrap().is_ok());
}

#[actix::test]
async fn who_joins_a_queued_refresh_ahead_is_an_overload_at_once_if_the_line_is_too_long() {
    let policy = plain().wait_timeout(secs(2));
    let rig = rig_with(|builder| builder.max_calls(1).policy(policy));
    a_call_takes_a_second(&rig).await;
    rig.source.of(1).then(token("first", secs(100)));
    assert_eq!(rig.tokens.get(&1).await.unwrap().secret(), "first");
    tokio::time::sleep(millis(89_500)).await;
    rig.source.of(2).hold();
    let mut others = vec![rig.asks(2)];
    settle().await;
    assert!(rig.tokens.get(&1).await.is_ok(), "its refresh ahead waits in the line");
    others.extend((3..6).map(|key| rig.asks(key)));
    tokio::time::sleep(secs(1)).await;
    assert_eq!(rig.tokens.totals().await.unwrap().queued, 4);
    let caller = rig.asks(1);
    settle().await;
    assert!(caller.is_finished());
    assert!(caller.await.unwrap().unwrap_err().is_overloaded());
    drop(others);
}

#[actix::test]
async fn a_second_attempt_is_refused_at_once_if_the_line_is_longer_than_its_callers_still_wait() {
    let policy = plain().wait_timeout(secs(10)).attempts(2);
    let rig = rig_with(|builder| builder.max_calls(1).policy(policy));
    a_call_takes_a_second(&rig).await;
    let later = SourceError::transient("busy").with_retry_after(secs(8));
    rig.source.of(1).then(Answer::Error(later));
    let caller = rig.asks(1);
    tokio::time::sleep(secs(7)).await;
    rig.source.of(2).hold();
    let others: Vec<_> = (2..7).map(|key| rig.asks(key)).collect();
    settle().await;
    assert!(!caller.is_finished() && others.iter().all(|other| !other.is_finished()));
    tokio::time::sleep(millis(1_500)).await;
    assert!(caller.is_finished());
    assert!(caller.await.unwrap().unwrap_err().is_overloaded());
    assert!(others.iter().all(|other| !other.is_finished()));
}

#[actix::test]
async fn the_time_in_the_line_is_a_part_of_a_refresh() {
    let rig = rig_with(|builder| builder.max_calls(1));
    rig.source.of(0).hold();
    let first = rig.asks(0);
    settle().await;
    let second = rig.asks(1);
    tokio::time::sleep(secs(5)).await;
    rig.source.of(0).release();
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
    let took = rig.tokens.status(&1).await.unwrap().last_refresh.unwrap();
    assert!((secs(5)..secs(6)).contains(&took), "{took:?}");
}

#[actix::test]
async fn a_key_that_is_removed_while_it_waits_at_the_gate_leaves_its_place() {
    let rig = rig_with(|builder| builder.max_calls(1));
    rig.source.of(1).hold();
    let first = rig.asks(1);
    settle().await;
    let waiting: Vec<_> = (2..5).map(|key| rig.asks(key)).collect();
    settle().await;
    assert_eq!(rig.tokens.totals().await.unwrap().queued, 3);
    assert!(rig.tokens.remove(&2).await);
    assert_eq!(rig.tokens.totals().await.unwrap().queued, 2);
    assert!(rig.tokens.remove(&1).await);
    let mut answers = Vec::new();
    for caller in waiting {
        answers.push(caller.await.unwrap().is_ok());
    }
    assert_eq!(answers, [false, true, true]);
    assert!(first.await.unwrap().unwrap_err().is_stopped());
}

#[actix::test]
async fn a_queue_that_is_too_long_leaves_callers_the_expired_token_that_the_policy_allows() {
    let policy = plain().wait_timeout(secs(2)).stale_if_error(HOUR);
    let rig = rig_with(|builder| builder.max_calls(1).policy(policy));
    for key in 1..6 {
        let _ = rig.source.of(key).taking(secs(1));
        rig.source.of(key).then(token("old", secs(30)));
        rig.tokens.get(&key).await.unwrap();
    }
    tokio::time::sleep(secs(31)).await;
    rig.source.of(1).hold();
    let callers: Vec<_> = (1..6).map(|key| rig.asks(key)).collect();
    settle().await;
    let mut stale = 0;
    for caller in callers.into_iter().filter(tokio::task::JoinHandle::is_finished) {
        assert_eq!(caller.await.unwrap().unwrap().secret(), "old");
        stale += 1;
    }
    assert!((1..5).contains(&stale), "{stale}");
    assert_eq!(rig.tokens.totals().await.unwrap().counters.overloads, stale, "they are counted all the same");
}
