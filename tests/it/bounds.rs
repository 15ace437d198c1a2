//! Promises 10 and 12: everything has a limit, and a crowd does not block the arbiter's other tasks.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::join_all;
use tokenflight::{GetStatus, GetToken, TokenError};

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
    let overloaded = outcomes.iter().filter(|outcome| outcome.as_ref().is_err_and(TokenError::is_overloaded));
    assert_eq!(overloaded.count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 10);
}

/// As many subscriptions and messages as the limit says, and as many callers on handles besides.
#[actix::test]
async fn each_limit_stands_on_its_own() {
    tokio::time::pause();
    for subscribers_first in [true, false] {
        let rig = another(plain().max_waiters(10));
        rig.source.hold();
        let (collector, told) = Collector::begin();
        let subscribe = || (0..11).for_each(|ticket| rig.handle.subscribe(subscription(&collector, ticket)));
        let handle = rig.handle.clone();
        let callers = async move { join_all((0..11).map(|_| handle.get())).await };
        if subscribers_first {
            subscribe();
            settle().await;
        }
        let callers = actix_rt::spawn(callers);
        settle().await;
        if !subscribers_first {
            subscribe();
            settle().await;
        }
        assert_eq!(told.total(), 1, "one subscription too many");
        rig.source.release();
        let refused = callers.await.unwrap().iter().filter(|outcome| outcome.is_err()).count();
        assert_eq!(refused, 1, "one caller too many");
        told.wait_for(11).await;
        told.assert_each_once(0..11);
    }
}

#[actix::test]
async fn callers_on_handles_who_are_sent_away_are_counted() {
    let rig = rig_with(plain().max_waiters(10).wait_timeout(secs(5)));
    rig.source.hold();
    assert!(rig.get_all(14).await.iter().all(Result::is_err));
    let counters = rig.handle.status().await.unwrap().counters;
    assert_eq!((counters.timeouts, counters.overloads), (10, 4));
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
    let told = crowd(&rig).await;
    let turns = count_turns(&told);
    rig.source.release();
    assert!(turns.await >= 15, "one turn a chunk of 1,024");
    told.assert_each_once(0..CROWD);
}

#[actix::test]
async fn other_tasks_run_while_a_crowd_is_told_of_the_end() {
    let rig = rig_with(plain().max_waiters(100_000));
    let told = crowd(&rig).await;
    let turns = count_turns(&told);
    let (turns, ()) = tokio::join!(turns, rig.handle.shutdown());
    assert!(turns >= 15, "one turn a chunk of 1,024: {turns}");
    told.assert_each_once(0..CROWD);
}

#[actix::test]
async fn other_tasks_run_while_a_crowd_comes_in() {
    let rig = rig_with(plain().max_waiters(100_000));
    rig.source.hold();
    let (collector, _told) = Collector::begin();
    (0..CROWD).for_each(|ticket| rig.handle.subscribe(subscription(&collector, ticket)));
    // The question stands behind the crowd in the mailbox.
    let mut status = pin!(rig.handle.status());
    let mut turns = 0;
    let status = loop {
        tokio::select! {
            biased;
            status = &mut status => break status.unwrap(),
            () = tokio::task::yield_now() => turns += 1,
        }
    };
    assert_eq!(status.waiters as u64, CROWD);
    assert!(turns >= 15, "one turn a chunk of 1,024: {turns}");
}

#[actix::test]
async fn other_tasks_run_while_a_crowd_asks_for_the_status() {
    let rig = rig();
    (0..300_000).for_each(|_| rig.handle.addr().do_send(GetStatus));
    // This question stands behind the crowd in the mailbox.
    let mut status = pin!(rig.handle.status());
    let mut turns = 0;
    loop {
        tokio::select! {
            biased;
            status = &mut status => break drop(status.unwrap()),
            () = tokio::task::yield_now() => turns += 1,
        }
    }
    assert!(turns >= 250, "one turn a chunk of 1,024: {turns}");
}

#[actix::test]
async fn other_tasks_run_while_the_time_of_a_crowd_runs_out() {
    let rig = rig_with(plain().max_waiters(100_000).wait_timeout(secs(5)));
    let told = crowd(&rig).await;
    let mut before = 0;
    while told.total() < CROWD {
        tokio::time::sleep(millis(1)).await;
        let now = told.total();
        assert!(now - before <= 3_000, "{} were sent away between two turns", now - before);
        before = now;
    }
    told.assert_each_once(0..CROWD);
}

#[actix::test]
async fn a_crowd_on_handles_is_sent_away_in_chunks_too() {
    let rig = rig_with(plain().wait_timeout(secs(5)));
    rig.source.hold();
    let left = Rc::new(Cell::new(0));
    for _ in 0..CROWD {
        let (handle, left) = (rig.handle.clone(), Rc::clone(&left));
        actix_rt::spawn(async move {
            assert!(handle.get().await.unwrap_err().is_timeout());
            left.set(left.get() + 1);
        });
    }
    let mut before = 0;
    while left.get() < CROWD {
        tokio::time::sleep(millis(1)).await;
        assert!(left.get() - before <= 3_000, "{} were sent away between two turns", left.get() - before);
        before = left.get();
    }
}

const CROWD: u64 = 20_000;

/// Many subscriptions that wait for the source to be released.
async fn crowd(rig: &Rig) -> Told {
    rig.source.hold();
    let (collector, told) = Collector::begin();
    for ticket in 0..CROWD {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    tokio::time::sleep(secs(1)).await; // from here on it takes no time, so that another task may spin
    told
}

/// How often another task gets its turn before all have been told.
fn count_turns(told: &Told) -> impl Future<Output = usize> + use<> {
    let told = told.clone();
    let counting = actix_rt::spawn(async move {
        let mut turns = 0;
        while told.total() < CROWD {
            turns += 1;
            tokio::task::yield_now().await;
        }
        turns
    });
    async { counting.await.expect("it does not panic") }
}

#[actix::test]
async fn the_longest_times_overflow_nothing() {
    let forever = std::time::Duration::MAX;
    let policy = plain()
        .refresh_ahead(forever)
        .min_validity(forever)
        .attempt_timeout(forever)
        .flight_timeout(forever)
        .max_backoff(forever)
        .wait_timeout(forever)
        .max_cooldown(forever)
        .cooldown(forever)
        .terminal_cooldown(forever)
        .max_retry_after(forever)
        .missing_lifetime(forever)
        .max_lifetime(forever)
        .settle(forever)
        .report_every(forever)
        .stale_if_error(forever);
    let rig = rig_with(policy.clone());
    rig.handle.get().await.unwrap();
    let rig = another(policy);
    rig.source.then(tokenflight::testing::Answer::Error(
        tokenflight::SourceError::terminal("no").with_retry_after(forever),
    ));
    assert_eq!(rig.handle.get().await.unwrap_err().retry_after(), Some(forever));
}
