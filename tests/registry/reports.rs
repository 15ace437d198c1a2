//! Promise 5: a 401 costs at most one refresh for its key, also where the key's machine rests in between.

use crate::support::*;

#[actix::test]
async fn reports_of_one_key_say_nothing_of_another() {
    let rig = rig();
    let (one, two) = (rig.tokens.get(&1).await.unwrap(), rig.tokens.get(&2).await.unwrap());
    assert_eq!(rig.tokens.replace(&1, &one).await.unwrap().secret(), "token-2");
    assert_eq!(rig.tokens.get(&2).await.unwrap().secret(), two.secret());
    assert_eq!(rig.tokens.replace(&1, &one).await.unwrap().secret(), "token-2", "the old one was replaced");
    assert_eq!((rig.source.of(1).calls(), rig.source.of(2).calls()), (2, 1));
}

#[actix::test]
async fn the_budget_is_remembered_while_the_key_rests() {
    let rig = rig_with(|builder| builder.policy(plain().reports(3)));
    let mut token = rig.tokens.get(&1).await.unwrap();
    for _ in 0..3 {
        let next = rig.tokens.replace(&1, &token).await.unwrap();
        assert!(!next.is_same(&token));
        token = next;
    }
    rig.tokens.replace(&1, &token).await.unwrap();
    assert_eq!(rig.source.of(1).calls(), 4);
    let counters = rig.tokens.status(&1).await.unwrap().counters;
    assert_eq!((counters.replaces, counters.refused_by_budget), (4, 1));
    let other = rig.tokens.get(&2).await.unwrap();
    assert!(!rig.tokens.replace(&2, &other).await.unwrap().is_same(&other), "another key has its own");
}

#[actix::test]
async fn a_reported_secret_is_remembered_while_the_key_rests() {
    let rig = rig();
    rig.source.of(1).then(token("same", HOUR)).then(token("same", HOUR)).then(token("same", HOUR));
    let old = rig.tokens.get(&1).await.unwrap();
    assert!(rig.tokens.replace(&1, &old).await.unwrap().is_same(&old));
    assert_eq!(rig.source.of(1).calls(), 3, "asked again, because the secret had been reported");
    assert_eq!(rig.tokens.status(&1).await.unwrap().counters.repeated_secrets, 1);
}

#[actix::test]
async fn a_discarded_token_is_never_handed_out_while_its_key_is_kept() {
    let rig = rig_with(|builder| builder.policy(plain().backoff(millis(0))));
    rig.source.of(1).then(token("bad", HOUR)).then(token("bad", HOUR)).then(token("good", HOUR));
    let bad = rig.tokens.get(&1).await.unwrap();
    rig.tokens.discard(&1, &bad);
    assert!(rig.tokens.current(&1).is_none(), "at once");
    assert_eq!(rig.tokens.get(&1).await.unwrap().secret(), "good");
}

#[actix::test]
async fn a_token_that_is_discarded_before_its_key_is_known_is_not_handed_out() {
    let rig = rig_with(|builder| builder.policy(plain().backoff(millis(0))));
    rig.source.of(1).then(token("bad", HOUR)).then(token("good", HOUR));
    rig.tokens.discard(&1, &tokenflight::Token::new("bad"));
    assert_eq!(rig.tokens.get(&1).await.unwrap().secret(), "good");
}

#[actix::test]
async fn after_an_invalidation_callers_wait_for_the_flight_and_get_the_token_again_if_it_fails() {
    let rig = rig();
    let old = rig.tokens.get(&1).await.unwrap();
    rig.source.of(1).then(terminal());
    rig.tokens.invalidate(&1, &old);
    assert!(rig.tokens.get(&1).await.unwrap().is_same(&old));
    let status = rig.tokens.status(&1).await.unwrap();
    assert!(status.suspect && status.counters.failed == 1);
    assert!(rig.tokens.current(&1).unwrap().is_same(&old));
}

#[actix::test]
async fn a_token_that_has_not_settled_is_not_replaced() {
    let rig = rig_with(|builder| builder.policy(plain().settle(secs(2))));
    let token = rig.tokens.get(&1).await.unwrap();
    assert!(rig.tokens.replace(&1, &token).await.unwrap().is_same(&token));
    rig.tokens.invalidate(&1, &token);
    assert!(rig.tokens.get(&1).await.unwrap().is_same(&token));
    assert_eq!(rig.tokens.status(&1).await.unwrap().counters.refused_by_settle, 2);
    tokio::time::sleep(secs(3)).await;
    assert!(!rig.tokens.replace(&1, &token).await.unwrap().is_same(&token));
}
