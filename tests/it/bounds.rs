//! Promises 10 and 12: everything has a limit, and a crowd does not keep the arbiter busy.

use futures_util::future::join_all;
use tokenflight::GetToken;

use crate::support::*;

#[actix::test]
async fn one_waiter_too_many_is_told_so() {
    let rig = rig_with(plain().max_waiters(10));
    rig.source.hold();
    let (collector, told) = Collector::begin();
    for ticket in 0..11 {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    settle().await;
    assert_eq!(told.total(), 1);
    let error = told.to(10)[0].as_ref().unwrap_err().clone();
    assert!(error.is_overloaded());
    assert!(error.to_string().contains("max_waiters is 10"), "{error}");
    rig.source.release();
    tokio::time::sleep(secs(1)).await;
    told.assert_each_once(0..11);
}

#[actix::test]
async fn one_handle_caller_too_many_is_told_so() {
    let rig = rig_with(plain().max_waiters(10));
    let outcomes = rig.get_all(11).await;
    let overloaded =
        outcomes.iter().filter(|outcome| outcome.as_ref().is_err_and(|error| error.is_overloaded()));
    assert_eq!(overloaded.count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 10);
}

#[actix::test]
async fn askers_who_left_make_room() {
    let rig = rig_with(plain().max_waiters(10));
    rig.source.hold();
    let leavers = join_all((0..10).map(|_| rig.handle.addr().send(GetToken)));
    assert!(tokio::time::timeout(millis(10), leavers).await.is_err());
    let (asked, ()) = tokio::join!(rig.handle.addr().send(GetToken), async {
        settle().await;
        rig.source.release();
    });
    assert!(asked.unwrap().is_ok());
}

#[actix::test]
async fn other_tasks_run_while_a_crowd_is_told() {
    let rig = rig_with(plain().max_waiters(100_000));
    rig.source.hold();
    let (collector, told) = Collector::begin();
    for ticket in 0..20_000 {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    tokio::time::sleep(secs(1)).await; // from here on it takes no time, so that the other task may spin
    let turns = std::rc::Rc::new(std::cell::Cell::new(0));
    let other = actix_rt::spawn({
        let (turns, told) = (turns.clone(), told.clone());
        async move {
            while told.total() < 20_000 {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        }
    });
    rig.source.release();
    other.await.unwrap();
    told.assert_each_once(0..20_000);
    assert!(turns.get() >= 15, "one turn a chunk of 1,024: {}", turns.get());
}
