//! Promise 1: at most one refresh is in flight per actor, for any mix of messages and handle calls.

use tokenflight::{GetToken, Refresh};

use crate::support::*;

#[actix::test]
async fn fifty_callers_of_an_empty_cache_cost_one_call() {
    let rig = rig();
    let outcomes = rig.get_all(50).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().secret() == "token-1"));
    assert_eq!(rig.source.calls(), 1);
}

#[actix::test]
async fn every_kind_of_request_joins_the_same_flight() {
    let rig = rig();
    let (collector, told) = Collector::begin();
    rig.source.hold();
    rig.handle.subscribe(subscription(&collector, 0));
    rig.source.called(1).await;
    let asks = async {
        tokio::join!(
            rig.handle.get(),
            rig.handle.addr().send(GetToken),
            rig.handle.refresh(),
            rig.handle.addr().send(Refresh),
        )
    };
    let release = async {
        settle().await;
        assert_eq!(rig.handle.status().await.unwrap().waiters, 5);
        rig.source.release();
    };
    let ((get, ask, refresh, force), ()) = tokio::join!(asks, release);
    for outcome in [get, ask.unwrap(), refresh, force.unwrap()] {
        assert_eq!(outcome.unwrap().secret(), "token-1");
    }
    settle().await;
    told.assert_each_once(0..1);
    assert_eq!((rig.source.calls(), rig.source.most_at_once()), (1, 1));
}

#[actix::test]
async fn an_expired_token_is_refreshed_once_for_all() {
    let rig = rig();
    rig.handle.get().await.unwrap();
    tokio::time::sleep(HOUR).await;
    let outcomes = rig.get_all(100).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().secret() == "token-2"));
    assert_eq!(rig.source.calls(), 2);
}

#[actix::test]
async fn a_forced_refresh_leaves_the_old_token_to_the_others() {
    let rig = rig();
    rig.handle.get().await.unwrap();
    rig.source.hold();
    let forced = rig.handle.refresh();
    let others = async {
        rig.source.called(2).await;
        assert_eq!(rig.handle.get().await.unwrap().secret(), "token-1");
        rig.source.release();
    };
    let (forced, ()) = tokio::join!(forced, others);
    assert_eq!(forced.unwrap().secret(), "token-2");
    assert_eq!(rig.handle.current().unwrap().secret(), "token-2");
}

#[actix::test]
async fn one_message_a_flight_however_many_handles_wait() {
    let rig = rig();
    rig.get_all(1_000).await;
    // The machine has seen one request: the round of all thousand.
    assert_eq!(rig.handle.status().await.unwrap().counters.requests, 1);
}
