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
