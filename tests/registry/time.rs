//! Promises 7 and 9: no expired token is handed out, also if the clocks jump, and reads refresh ahead.

use std::sync::Arc;
use std::time::Duration;

use tokenflight::clock::Clock;
use tokenflight::{FetchContext, Reason, TokenActor, TokenSource};

use crate::support::*;

#[actix::test]
async fn reads_near_the_end_refresh_in_the_background_once() {
    let rig = rig();
    rig.tokens.get(&1).await.unwrap();
    tokio::time::sleep(secs(3_400)).await;
    for _ in 0..100 {
        assert_eq!(rig.tokens.current(&1).unwrap().secret(), "token-1");
    }
    tokio::time::sleep(millis(100)).await;
    assert_eq!(rig.tokens.current(&1).unwrap().secret(), "token-2");
    assert_eq!(rig.source.of(1).calls(), 2);
}

#[actix::test]
async fn a_refresh_ahead_that_fails_is_tried_again_by_a_later_read() {
    let rig = rig();
    rig.tokens.get(&1).await.unwrap();
    rig.source.of(1).then(terminal());
    tokio::time::sleep(secs(3_400)).await;
    assert!(rig.tokens.current(&1).is_some());
    tokio::time::sleep(secs(30)).await;
    assert_eq!(rig.source.of(1).calls(), 2);
    assert!(rig.tokens.current(&1).is_some());
    tokio::time::sleep(secs(1)).await;
    assert_eq!(rig.tokens.current(&1).unwrap().secret(), "token-3");
}

#[actix::test]
async fn nothing_expired_is_handed_out() {
    let rig = rig();
    rig.tokens.get(&1).await.unwrap();
    tokio::time::sleep(HOUR).await;
    assert!(rig.tokens.current(&1).is_none());
    assert_eq!(rig.tokens.get(&1).await.unwrap().secret(), "token-2");
}

#[actix::test]
async fn nothing_expired_is_handed_out_after_a_suspension() {
    let rig = rig();
    rig.tokens.get(&1).await.unwrap();
    rig.clock.suspend(HOUR);
    assert!(rig.tokens.current(&1).is_none());
    assert_eq!(rig.tokens.get(&1).await.unwrap().secret(), "token-2");
}

#[actix::test]
async fn a_wall_clock_that_is_set_forward_ends_a_token_and_one_that_is_set_back_prolongs_none() {
    let rig = rig();
    rig.tokens.get(&1).await.unwrap();
    rig.clock.set_forward(HOUR);
    assert!(rig.tokens.current(&1).is_none());
    assert_eq!(rig.tokens.get(&1).await.unwrap().secret(), "token-2");
    rig.clock.set_back(HOUR);
    assert!(rig.tokens.current(&1).is_some());
    tokio::time::sleep(HOUR).await;
    assert!(rig.tokens.current(&1).is_none(), "the boot clock has not been set");
}

#[actix::test]
async fn a_token_that_lives_a_second_is_used_and_then_renewed() {
    let rig = rig();
    rig.source.of(1).then(token("brief", secs(1)));
    assert_eq!(rig.tokens.get(&1).await.unwrap().secret(), "brief");
    assert!(rig.tokens.current(&1).is_some());
    tokio::time::sleep(secs(1)).await;
    assert!(rig.tokens.current(&1).is_none());
}

#[actix::test]
async fn the_times_of_a_flight_begin_with_its_first_call() {
    let policy = plain().attempt_timeout(secs(3)).flight_timeout(secs(4)).attempts(1);
    let rig = rig_with(|builder| builder.max_calls(1).policy(policy));
    rig.source.of(1).hold();
    let first = rig.asks(1);
    settle().await;
    let second = rig.asks(2);
    tokio::time::sleep(millis(2_900)).await;
    rig.source.of(1).release();
    assert!(first.await.unwrap().is_ok());
    rig.source.of(2).called(1).await;
    assert_eq!(rig.source.of(2).contexts()[0].attempt, 1);
    assert!(second.await.unwrap().is_ok());
}

#[actix::test]
async fn who_depends_on_a_handle_waits_for_most_of_the_time_that_is_left() {
    let rig = rig();
    rig.source.of(4).hold();
    let cx = || FetchContext::new(Reason::First).with_clock(Arc::new(rig.clock.clone()));
    let now = rig.clock.now().boot;
    let handle = rig.tokens.handle(4);
    let error = handle.fetch(cx().with_deadline(now + secs(10))).await.unwrap_err();
    assert!(!error.is_terminal() && error.to_string().contains("within 9.0s"), "{error}");
    let waited = rig.clock.now().boot.saturating_sub(now);
    assert!((secs(9)..secs(9) + millis(5)).contains(&waited), "{waited:?}");
    rig.source.of(4).release();
    assert!(handle.fetch(cx().with_deadline(Duration::MAX)).await.is_ok());
    assert!(handle.fetch(cx()).await.is_ok());
    let actor = TokenActor::builder(rig.source.of(5)).clock(rig.clock.clone()).start().unwrap();
    assert!(actor.fetch(cx().with_deadline(Duration::MAX)).await.is_ok());
}
