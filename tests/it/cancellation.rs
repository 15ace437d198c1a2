//! Promise 3: a caller's cancellation does not affect others. The actor owns the flight.

use std::pin::Pin;

use futures_util::FutureExt;
use tokenflight::GetToken;

use crate::support::*;

#[actix::test]
async fn the_first_caller_going_away_costs_nothing() {
    let rig = rig();
    let began = tokio::time::Instant::now();
    let first = tokio::time::timeout(millis(23), rig.handle.get());
    let second = rig.handle.get();
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_err());
    assert_eq!(second.unwrap().secret(), "token-1");
    assert_eq!(rig.source.calls(), 1);
    assert!(began.elapsed() < millis(65), "as long as one call takes, not two: {:?}", began.elapsed());
}

#[actix::test]
async fn who_asked_before_the_token_came_and_looks_afterwards_has_it_at_once() {
    let rig = rig();
    let mut early = rig.handle.get();
    rig.handle.get().await.unwrap();
    assert_eq!(Pin::new(&mut early).now_or_never().unwrap().unwrap().secret(), "token-1");
    assert_eq!(rig.handle.status().await.unwrap().counters.requests, 1, "the actor was not asked");
}

#[actix::test]
async fn a_flight_that_everybody_left_goes_on() {
    let rig = rig();
    assert!(tokio::time::timeout(millis(20), rig.handle.get()).await.is_err());
    assert!(tokio::time::timeout(millis(20), rig.handle.addr().send(GetToken)).await.is_err());
    assert_eq!(
        rig.handle.status().await.unwrap().waiters,
        1,
        "the asker's place is kept, the handle's is not"
    );
    tokio::time::sleep(millis(60)).await;
    assert_eq!(rig.handle.current().unwrap().secret(), "token-1");
    assert_eq!(rig.source.calls(), 1);
}

#[actix::test]
async fn a_round_whose_opener_left_still_frees_those_who_came_later_in_their_time() {
    let rig = rig_with(plain().wait_timeout(secs(2)));
    rig.source.hold();
    {
        let mut opener = Box::pin(rig.handle.get());
        assert!(opener.as_mut().now_or_never().is_none());
    }
    tokio::time::sleep(secs(1)).await;
    let began = tokio::time::Instant::now();
    assert!(rig.handle.get().await.unwrap_err().is_timeout());
    assert!((millis(1_990)..millis(2_010)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[actix::test]
async fn callers_are_freed_at_their_own_deadline_and_the_flight_goes_on() {
    let rig = rig_with(plain().wait_timeout(secs(3)));
    rig.source.hold();
    let began = tokio::time::Instant::now();
    let late = async {
        tokio::time::sleep(secs(1)).await;
        let outcome = rig.handle.get().await;
        (outcome, began.elapsed())
    };
    let (early, (late, when)) = tokio::join!(rig.handle.get(), late);
    assert!(early.unwrap_err().is_timeout());
    assert!(late.unwrap_err().is_timeout());
    assert!((millis(3_990)..millis(4_010)).contains(&when), "{when:?}");
    rig.source.release();
    settle().await;
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-1");
    assert_eq!(rig.source.calls(), 1);
}

#[actix::test]
async fn a_shutdown_whose_caller_has_gone_is_carried_out() {
    let rig = rig();
    rig.handle.get().await.unwrap();
    assert!(Box::pin(rig.handle.shutdown()).now_or_never().is_none());
    settle().await;
    assert!(!rig.handle.addr().connected());
    assert!(rig.handle.current().is_none());
}

#[actix::test]
async fn a_report_whose_reporter_has_gone_counts_and_a_late_one_calls_nobody() {
    let rig = rig();
    let token = rig.handle.get().await.unwrap();
    rig.source.hold();
    assert!(Box::pin(rig.handle.replace(&token)).now_or_never().is_none());
    rig.source.called(2).await;
    assert!(rig.handle.status().await.unwrap().suspect);
    rig.source.release();
    tokio::time::sleep(HOUR).await;
    let token = rig.handle.get().await.unwrap();
    tokio::time::sleep(HOUR).await;
    assert!(Box::pin(rig.handle.replace(&token)).now_or_never().is_none());
    settle().await;
    assert_eq!(rig.source.calls(), 3, "its token has ended, and nobody waits for another one");
}

/// The caller was answered with a token that was discarded before it looked. It joins the round of others, and its
/// time is over before theirs.
#[actix::test]
async fn who_joins_again_is_freed_at_its_first_deadline_and_counted() {
    let policy = plain().wait_timeout(secs(30)).attempt_timeout(HOUR).flight_timeout(HOUR);
    let rig = rig_with(policy);
    rig.source.hold();
    let mut early = Box::pin(rig.handle.get());
    assert!(early.as_mut().now_or_never().is_none());
    tokio::time::sleep(secs(20)).await;
    rig.source.release();
    settle().await;
    rig.source.hold();
    rig.handle.discard(&rig.handle.current().unwrap());
    let mut other = Box::pin(rig.handle.get());
    assert!(other.as_mut().now_or_never().is_none());
    settle().await;
    let began = tokio::time::Instant::now();
    assert!(early.await.unwrap_err().is_timeout());
    assert!((millis(9_900)..millis(10_100)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(other.await.unwrap_err().is_timeout());
    assert_eq!(rig.handle.status().await.unwrap().counters.timeouts, 2);
}

#[actix::test]
async fn who_looks_again_after_its_deadline_is_a_timeout_that_counts() {
    let rig = rig_with(plain().wait_timeout(secs(5)));
    let mut early = Box::pin(rig.handle.get());
    assert!(early.as_mut().now_or_never().is_none());
    tokio::time::sleep(secs(1)).await;
    rig.handle.discard(&rig.handle.current().unwrap());
    tokio::time::sleep(secs(5)).await;
    assert!(early.await.unwrap_err().is_timeout());
    assert_eq!(rig.handle.status().await.unwrap().counters.timeouts, 1);
}

#[actix::test]
async fn reporters_who_come_and_go_while_the_arbiter_is_blocked_have_a_limit() {
    let rig = rig_with(plain().max_waiters(100));
    let token = rig.handle.get().await.unwrap();
    for number in 0..1_000 {
        let answer = Box::pin(rig.handle.replace(&token)).now_or_never();
        assert_eq!(answer.is_some_and(|answer| answer.unwrap_err().is_overloaded()), number >= 100);
    }
    settle().await;
    assert!(rig.handle.replace(&token).await.is_ok());
}
