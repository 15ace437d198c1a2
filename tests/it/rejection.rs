//! Promise 5: a storm of late 401s costs one refresh.

use tokenflight::{GetToken, Invalidate, Reason, Token};

use crate::support::*;

#[actix::test]
async fn twenty_late_401s_for_one_old_token_cost_one_refresh() {
    let rig = rig();
    let old = rig.handle.get().await.unwrap();
    for _ in 0..20 {
        rig.handle.invalidate(&old);
        assert_eq!(rig.handle.get().await.unwrap().secret(), "token-2");
    }
    assert_eq!(rig.source.calls(), 2);
    assert_eq!(rig.handle.status().await.unwrap().counters.rejections, 1);
}

#[actix::test]
async fn the_same_storm_by_messages() {
    let rig = rig();
    let old = rig.handle.get().await.unwrap();
    for _ in 0..20 {
        rig.handle.addr().do_send(Invalidate(old.clone()));
        assert_eq!(rig.handle.addr().send(GetToken).await.unwrap().unwrap().secret(), "token-2");
    }
    assert_eq!(rig.source.calls(), 2);
}

#[actix::test]
async fn a_rejected_token_is_not_handed_out_any_more() {
    let rig = rig();
    let old = rig.handle.get().await.unwrap();
    rig.handle.invalidate(&old);
    settle().await;
    assert!(rig.handle.current().is_none());
    rig.handle.get().await.unwrap();
    let cx = rig.source.contexts().pop().unwrap();
    assert_eq!(cx.reason, Reason::Rejected);
    assert_eq!(cx.previous.unwrap().secret(), "token-1", "the source learns which token was rejected");
}

#[actix::test]
async fn an_unknown_token_is_ignored() {
    let rig = rig();
    rig.handle.get().await.unwrap();
    rig.handle.invalidate(&Token::new("never heard of"));
    settle().await;
    assert_eq!(rig.handle.current().unwrap().secret(), "token-1");
}

#[actix::test]
async fn an_invalidation_while_a_refresh_runs_holds() {
    let rig = rig_with(plain().backoff(millis(0)));
    let old = rig.handle.get().await.unwrap();
    rig.source.hold();
    // The server had not heard of the rejection when it answered.
    rig.source.then(token("token-1", HOUR)).then(token("new", HOUR));
    let forced = rig.handle.refresh();
    let reject = async {
        rig.source.called(2).await;
        rig.handle.invalidate(&old);
        settle().await;
        assert!(rig.handle.current().is_none());
        rig.source.release();
    };
    let (forced, ()) = tokio::join!(forced, reject);
    assert_eq!(forced.unwrap().secret(), "new");
    assert_eq!(rig.source.calls(), 3);
}

#[actix::test]
async fn the_same_secret_again_is_a_failed_attempt() {
    let rig = rig();
    let old = rig.handle.get().await.unwrap();
    rig.handle.invalidate(&old);
    for _ in 0..3 {
        rig.source.then(token("token-1", HOUR));
    }
    let error = rig.handle.get().await.unwrap_err();
    assert!(error.is_unavailable());
    assert!(error.to_string().contains("gave out again the token that the api had rejected"), "{error}");
    assert_eq!(rig.source.calls(), 4);
}

#[actix::test]
async fn a_server_that_rejects_every_token_meets_a_growing_floor() {
    let rig = rig_with(plain().max_cooldown(secs(60)));
    let mut calls = Vec::new();
    // A client that retries at once, for a minute.
    for _ in 0..600 {
        if let Ok(token) = rig.handle.get().await {
            rig.handle.invalidate(&token);
        }
        calls.push(rig.source.calls());
        tokio::time::sleep(millis(100)).await;
    }
    // At once, at once, then after 1 s, 2 s, 4 s, ...
    let within = |seconds: usize| calls[seconds * 10 - 1];
    assert!(within(1) <= 3, "{}", within(1));
    assert!(within(10) <= 6, "{}", within(10));
    assert!((5..=9).contains(&within(60)), "{}", within(60));
}

#[actix::test]
async fn in_the_floor_callers_learn_that_the_api_rejects() {
    let rig = rig();
    for _ in 0..2 {
        let token = rig.handle.get().await.unwrap();
        rig.handle.invalidate(&token);
    }
    let error = rig.handle.get().await.unwrap_err();
    assert!(error.is_rejected());
    assert!(error.to_string().contains("rejected 2 tokens in a row"), "{error}");
    tokio::time::sleep(secs(2)).await;
    rig.handle.get().await.unwrap();
}

#[actix::test]
async fn a_token_that_served_well_is_replaced_at_once() {
    let rig = rig();
    for _ in 0..5 {
        let token = rig.handle.get().await.unwrap();
        tokio::time::sleep(secs(61)).await;
        rig.handle.invalidate(&token);
        rig.handle.get().await.unwrap();
        // The next one is young when it is rejected, but it is the first in a row.
    }
    assert_eq!(rig.source.calls(), 6);
}

#[actix::test]
async fn a_get_after_a_rejection_does_not_join_those_who_are_being_told() {
    let rig = rig();
    let (collector, told) = Collector::begin();
    // More than one chunk ahead of the round, which is told last.
    for ticket in 0..3_000 {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    let waiting = rig.handle.get();
    let rejecting = async {
        told.wait_for(1).await;
        let token = rig.handle.current().unwrap();
        rig.handle.invalidate(&token);
        assert_eq!(rig.handle.get().await.unwrap().secret(), "token-2");
    };
    let (waited, ()) = tokio::join!(waiting, rejecting);
    assert!(waited.is_ok());
    assert_eq!(rig.source.calls(), 2);
}
