//! Promises 1 and 3: one flight for each key, and a caller's cancellation does not affect others.

use crate::support::*;

#[actix::test]
async fn whatever_mix_of_requests_comes_a_key_has_one_call_at_a_time() {
    let rig = rig();
    let (to, told) = Collector::begin();
    let old = rig.tokens.get(&1).await.unwrap();
    let mut callers = Vec::new();
    for number in 0..50 {
        let (tokens, old) = (rig.tokens.clone(), old.clone());
        tokens.invalidate(&1, &old);
        tokens.discard(&1, &old);
        tokens.subscribe(1, to.clone(), number);
        let asked = tokens.clone();
        callers.push(actix_rt::spawn(async move { asked.get(&1).await }));
        let asked = tokens.clone();
        callers.push(actix_rt::spawn(async move { asked.refresh(&1).await }));
        callers.push(actix_rt::spawn(async move { tokens.replace(&1, &old).await }));
    }
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().secret(), "token-2");
    }
    settle().await;
    told.assert_each_once(1, 0..50);
    assert_eq!((rig.source.of(1).calls(), rig.source.of(1).most_at_once()), (2, 1));
}

#[actix::test]
async fn callers_who_go_away_leave_the_flight_to_the_others() {
    let rig = rig();
    let (goes, stays) = (rig.asks(1), rig.asks(1));
    rig.source.of(1).called(1).await;
    goes.abort();
    assert_eq!(stays.await.unwrap().unwrap().secret(), "token-1");
    let all_go = rig.asks(2);
    rig.source.of(2).called(1).await;
    all_go.abort();
    tokio::time::sleep(millis(100)).await;
    assert_eq!(rig.tokens.current(&2).unwrap().secret(), "token-1", "the flight has landed all the same");
}

#[actix::test]
async fn a_second_attempt_is_made_when_its_pause_is_over_and_not_later() {
    let rig = rig_with(|builder| builder.policy(plain().backoff(millis(0))));
    rig.source.of(1).then(transient());
    let began = tokio::time::Instant::now();
    assert_eq!(rig.tokens.get(&1).await.unwrap().secret(), "token-2");
    assert!(began.elapsed() < secs(1), "{:?}", began.elapsed());
}

#[actix::test]
async fn a_handle_of_a_key_is_the_key() {
    let rig = rig();
    let handle = rig.tokens.handle(4);
    let token = handle.get().await.unwrap();
    assert!(handle.current().unwrap().is_same(&rig.tokens.current(&4).unwrap()));
    assert_eq!(handle.replace(&token).await.unwrap().secret(), "token-2");
    assert_eq!(handle.status().await.unwrap().counters.replaces, 1);
}
