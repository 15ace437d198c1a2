//! Promise 2: each subscription is told exactly once.

use crate::support::*;

#[actix::test]
async fn the_same_pair_is_told_once_until_it_has_been_told() {
    let rig = rig();
    let (to, told) = Collector::begin();
    for _ in 0..3 {
        rig.tokens.subscribe(1, to.clone(), 9);
    }
    // Another key is another subscription, and so is another recipient.
    rig.tokens.subscribe(2, to.clone(), 9);
    let (other, told_other) = Collector::begin();
    rig.tokens.subscribe(1, other, 9);
    tokio::time::sleep(millis(200)).await;
    assert_eq!((told.to(1, 9).len(), told.to(2, 9).len(), told_other.to(1, 9).len()), (1, 1, 1));
    rig.tokens.subscribe(1, to, 9);
    settle().await;
    assert_eq!(told.to(1, 9).len(), 2, "told, it may come again");
    assert_eq!(
        rig.tokens.totals().await.unwrap().waiters,
        0,
        "a pair that came twice has given its seat back"
    );
}

#[actix::test]
async fn a_crowd_is_told_once_each_also_who_comes_again_while_it_is_told() {
    let rig = rig();
    let (to, told) = Collector::begin();
    for ticket in 0..5_000 {
        rig.tokens.subscribe(1, to.clone(), ticket);
    }
    rig.source.of(1).called(1).await;
    while told.total() == 0 {
        tokio::task::yield_now().await;
        tokio::time::advance(millis(1)).await;
    }
    assert!(told.total() < 5_000, "the crowd is being told");
    let last = told.to(1, 4_999).len();
    rig.tokens.subscribe(1, to.clone(), 4_999);
    tokio::time::sleep(secs(1)).await;
    told.assert_each_once(1, 0..4_999);
    assert_eq!((last, told.to(1, 4_999).len()), (0, 1));
    assert_eq!(rig.source.calls(), 1);
}

#[actix::test]
async fn a_crowd_is_told_to_its_end_when_its_key_is_removed_meanwhile() {
    let rig = rig();
    let (to, told) = Collector::begin();
    for ticket in 0..5_000 {
        rig.tokens.subscribe(1, to.clone(), ticket);
    }
    rig.source.of(1).called(1).await;
    while told.total() == 0 {
        tokio::task::yield_now().await;
        tokio::time::advance(millis(1)).await;
    }
    assert!(rig.tokens.remove(&1).await);
    settle().await;
    told.assert_each_once(1, 0..5_000);
    let totals = rig.tokens.totals().await.unwrap();
    assert_eq!((totals.keys, totals.busy_keys, totals.waiters), (0, 0, 0));
}

#[actix::test]
async fn a_subscriber_that_finds_no_seat_is_told_so() {
    let rig = rig_with(|builder| builder.max_waiters(1));
    let (to, told) = Collector::begin();
    rig.tokens.subscribe(1, to.clone(), 1);
    rig.tokens.subscribe(1, to, 2);
    tokio::time::sleep(secs(1)).await;
    assert!(told.to(1, 1)[0].is_ok());
    assert!(told.to(1, 2)[0].as_ref().unwrap_err().is_overloaded());
}

#[actix::test]
async fn who_waits_already_is_not_told_that_there_is_no_seat() {
    let rig = rig_with(|builder| builder.max_waiters(1));
    let (to, told) = Collector::begin();
    // The second comes before the shard has seen the first, the third during the flight.
    rig.tokens.subscribe(1, to.clone(), 7);
    rig.tokens.subscribe(1, to.clone(), 7);
    rig.source.of(1).called(1).await;
    rig.tokens.subscribe(1, to.clone(), 7);
    tokio::time::sleep(secs(1)).await;
    let answers = told.to(1, 7);
    assert!(matches!(&answers[..], [Ok(_)]), "{answers:?}");
    // Now the key has a line.
    rig.source.of(1).hold();
    rig.tokens.discard(&1, answers[0].as_ref().unwrap());
    for _ in 0..3 {
        rig.tokens.subscribe(1, to.clone(), 7);
    }
    rig.source.of(1).called(2).await;
    rig.source.of(1).release();
    tokio::time::sleep(secs(1)).await;
    let answers = told.to(1, 7);
    assert!(matches!(&answers[..], [Ok(_), Ok(_)]), "{answers:?}");
    assert_eq!(rig.tokens.totals().await.unwrap().waiters, 0);
}

#[actix::test]
async fn a_subscriber_without_a_seat_is_told_a_token_that_is_there() {
    let rig = rig_with(|builder| builder.max_waiters(1));
    rig.tokens.get(&1).await.unwrap();
    rig.source.of(2).hold();
    let waits = rig.asks(2);
    settle().await;
    let (to, told) = Collector::begin();
    rig.tokens.subscribe(1, to.clone(), 1);
    rig.tokens.subscribe(3, to, 1);
    settle().await;
    assert!(told.to(1, 1)[0].is_ok(), "no seat is needed");
    assert!(told.to(3, 1)[0].as_ref().unwrap_err().is_overloaded());
    assert_eq!((rig.tokens.len(), rig.source.of(3).calls()), (2, 0), "it makes no key");
    assert_eq!(rig.tokens.totals().await.unwrap().counters.overloads, 2);
    rig.source.of(2).release();
    assert!(waits.await.unwrap().is_ok());
}
