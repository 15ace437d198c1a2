//! Promises 4, 6 and 8: one failure for all waiters of a key, a usable token stays, and an outage costs little.

use tokenflight::testing::Answer;

use crate::support::*;

#[actix::test]
async fn all_who_wait_for_a_key_get_its_error_and_other_keys_get_their_tokens() {
    let rig = rig();
    rig.source.of(1).then(terminal());
    let waiting: Vec<_> = (0..20).map(|_| rig.asks(1)).collect();
    assert!(rig.tokens.get(&2).await.is_ok());
    for caller in waiting {
        assert!(caller.await.unwrap().unwrap_err().is_rejected());
    }
    assert_eq!(rig.source.of(1).calls(), 1);
    let again = rig.tokens.get(&1).await.unwrap_err();
    assert!(again.retry_after().unwrap() > secs(0));
    assert_eq!(rig.source.of(1).calls(), 1, "the cooldown is remembered while the key rests");
}

#[actix::test]
async fn a_source_that_panics_is_an_error_and_nothing_else() {
    let rig = rig();
    rig.source.of(1).then(Answer::Panic);
    assert!(rig.tokens.get(&1).await.unwrap_err().is_panic());
    assert!(rig.tokens.get(&2).await.is_ok());
    tokio::time::sleep(secs(60)).await;
    assert!(rig.tokens.get(&1).await.is_ok());
    assert_eq!(rig.tokens.totals().await.unwrap().calls, 0);
}

#[actix::test]
async fn a_group_or_a_client_that_panics_is_the_key_by_itself() {
    let rig = rig();
    rig.source.group([1, 2], "panic");
    rig.source.client([2, 3], "panic");
    for key in 1..4 {
        assert!(rig.tokens.get(&key).await.is_ok());
    }
}

#[actix::test]
async fn a_call_that_hangs_is_given_up_and_its_slot_is_free() {
    let rig = rig_with(|builder| builder.max_calls(1).policy(plain().attempts(1)));
    rig.source.of(1).then(Answer::Hang);
    let (hangs, other) = (rig.asks(1), rig.asks(2));
    assert!(hangs.await.unwrap().unwrap_err().is_timeout());
    assert!(other.await.unwrap().is_ok());
    assert_eq!(rig.source.most_at_once(), 1);
}

#[actix::test]
async fn a_usable_token_is_not_taken_away_by_a_failed_refresh() {
    let rig = rig();
    rig.tokens.get(&1).await.unwrap();
    rig.source.of(1).then(terminal());
    assert!(rig.tokens.refresh(&1).await.is_err());
    assert_eq!(rig.tokens.get(&1).await.unwrap().secret(), "token-1");
    assert_eq!(rig.tokens.current(&1).unwrap().secret(), "token-1");
}

#[actix::test]
async fn the_status_of_a_key_at_rest_tells_its_last_flight() {
    let rig = rig();
    rig.tokens.get(&1).await.unwrap();
    let status = rig.tokens.status(&1).await.unwrap();
    assert!((millis(60)..millis(63)).contains(&status.last_refresh.unwrap()));
    assert_eq!(status.counters.landed, 1);
    let unknown = rig.tokens.status(&2).await.unwrap();
    assert_eq!((unknown.last_refresh, unknown.counters.requests), (None, 0));
    assert_eq!(rig.tokens.len(), 1, "to ask for a status keeps no key");
}

#[actix::test]
async fn the_error_in_a_status_tells_the_rest_of_the_cooldown() {
    let rig =
        rig_with(|builder| builder.policy(plain().attempts(1).cooldown(secs(60)).max_cooldown(secs(60))));
    rig.source.of(1).then(transient());
    assert_eq!(rig.tokens.get(&1).await.unwrap_err().retry_after(), Some(secs(60)));
    let left = async || {
        let status = rig.tokens.status(&1).await.unwrap();
        (status.last_error.unwrap().retry_after(), status.cooldown)
    };
    tokio::time::sleep(secs(59)).await;
    let (told, cooldown) = left().await;
    assert!(told == cooldown && told.unwrap() <= secs(1), "{told:?}");
    tokio::time::sleep(secs(2)).await;
    assert_eq!(left().await, (Some(secs(0)), None));
}
