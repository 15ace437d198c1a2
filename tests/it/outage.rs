//! Promises 4 and 8: a failure costs one flight, an outage costs the auth server little.

use tokenflight::testing::Answer;
use tokenflight::{SourceError, TokenError};

use crate::support::*;

#[actix::test]
async fn fifty_callers_of_a_failing_source_cost_one_flight_and_get_one_error() {
    let rig = rig_with(plain().attempts(1));
    rig.source.then_times(50, &transient());
    let began = tokio::time::Instant::now();
    let outcomes = rig.get_all(50).await;
    assert!(began.elapsed() < millis(65), "as long as one call takes: {:?}", began.elapsed());
    assert_eq!(rig.source.calls(), 1);
    let cause = |error: &TokenError| std::ptr::from_ref(error.cause::<SourceError>().unwrap()).addr();
    let first = cause(outcomes[0].as_ref().unwrap_err());
    for outcome in &outcomes {
        let error = outcome.as_ref().unwrap_err();
        assert!(error.is_unavailable());
        assert_eq!(cause(error), first, "the very same error");
    }
}

#[actix::test]
async fn a_transient_failure_is_retried_within_the_flight() {
    let rig = rig();
    rig.source.then_times(2, &transient());
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-3");
    let attempts: Vec<u32> = rig.source.contexts().iter().map(|cx| cx.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert_eq!(rig.handle.status().await.unwrap().counters.flights, 1);
}

#[actix::test]
async fn after_three_attempts_the_flight_has_failed() {
    let rig = rig();
    rig.source.then_times(9, &transient());
    let error = rig.handle.get().await.unwrap_err();
    assert_eq!(error.to_string(), "token refresh failed after 3 attempts: the server is down");
    assert_eq!(rig.source.calls(), 3);
}

#[actix::test]
async fn a_terminal_failure_is_not_retried_and_recovers_after_the_cooldown() {
    let rig = rig();
    rig.source.then(terminal());
    let error = rig.handle.get().await.unwrap_err();
    assert!(error.is_rejected());
    assert_eq!(error.retry_after(), Some(secs(5)));
    assert_eq!(rig.source.calls(), 1);
    tokio::time::sleep(millis(4_900)).await;
    assert!(rig.handle.get().await.unwrap_err().is_rejected());
    assert_eq!(rig.source.calls(), 1);
    tokio::time::sleep(millis(200)).await;
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-2");
}

#[actix::test]
async fn in_a_cooldown_callers_get_the_known_error_at_once() {
    let rig = rig_with(plain().attempts(1));
    rig.source.then(transient());
    rig.handle.get().await.unwrap_err();
    let began = tokio::time::Instant::now();
    for outcome in rig.get_all(20).await {
        assert!(outcome.unwrap_err().is_unavailable());
    }
    assert!(rig.handle.refresh().await.unwrap_err().is_unavailable(), "a forced refresh is not exempt");
    assert!(began.elapsed() < millis(1), "without waiting");
    assert_eq!(rig.source.calls(), 1);
    tokio::time::sleep(millis(1_001)).await;
    assert!(rig.handle.get().await.is_ok());
}

#[actix::test]
async fn cooldowns_double_up_to_their_limit_and_a_success_ends_the_count() {
    let rig = rig_with(plain().attempts(1).max_cooldown(secs(4)));
    rig.source.then_times(5, &transient());
    for expected in [1, 2, 4, 4, 4] {
        let error = rig.handle.get().await.unwrap_err();
        assert_eq!(error.retry_after(), Some(secs(expected)));
        tokio::time::sleep(secs(expected)).await;
    }
    rig.handle.get().await.unwrap();
    rig.source.then(transient());
    tokio::time::sleep(HOUR).await;
    assert_eq!(rig.handle.get().await.unwrap_err().retry_after(), Some(secs(1)));
}

#[actix::test]
async fn retry_after_is_waited_within_the_flight() {
    let rig = rig();
    rig.source.then(Answer::Error(SourceError::transient("slow down").with_retry_after(secs(7))));
    let began = tokio::time::Instant::now();
    rig.handle.get().await.unwrap();
    assert!((secs(7)..millis(7_200)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[actix::test]
async fn a_retry_after_beyond_the_flight_ends_it_and_is_the_cooldown() {
    let rig = rig();
    rig.source.then(Answer::Error(SourceError::transient("slow down").with_retry_after(secs(120))));
    assert_eq!(rig.handle.get().await.unwrap_err().retry_after(), Some(secs(120)));
    tokio::time::sleep(secs(119)).await;
    rig.handle.get().await.unwrap_err();
    assert_eq!(rig.source.calls(), 1);
    tokio::time::sleep(secs(2)).await;
    rig.handle.get().await.unwrap();
}

#[actix::test]
async fn retry_after_tells_what_is_left_when_it_is_told() {
    let rig = rig();
    rig.source.then(Answer::Error(SourceError::terminal("go away").with_retry_after(secs(60))));
    assert_eq!(rig.handle.get().await.unwrap_err().retry_after(), Some(secs(60)));
    tokio::time::sleep(secs(59)).await;
    let left = |error: tokenflight::TokenError| error.retry_after().unwrap();
    let about_a_second = millis(900)..=secs(1);
    assert!(about_a_second.contains(&left(rig.handle.get().await.unwrap_err())));
    assert!(about_a_second.contains(&left(rig.handle.refresh().await.unwrap_err())));
    let (collector, told) = Collector::begin();
    rig.handle.subscribe(subscription(&collector, 0));
    told.wait_for(1).await;
    assert!(about_a_second.contains(&left(told.to(0)[0].clone().unwrap_err())));
}

/// However little the policy asks for, a server that is down is left alone for a moment after each flight.
#[actix::test]
async fn a_background_actor_without_cooldowns_spares_a_server_that_is_down() {
    tokio::time::pause();
    for failure in [transient(), terminal(), Answer::Panic] {
        let policy = plain().background(true).attempts(1);
        let rig = another(policy.cooldown(secs(0)).terminal_cooldown(secs(0)));
        rig.source.then_times(1_000, &failure);
        tokio::time::sleep(secs(60)).await;
        let calls = rig.source.calls();
        assert!((60..=121).contains(&calls), "at most two a second: {calls} in a minute");
        rig.handle.shutdown().await;
    }
}

#[actix::test]
async fn attempts_for_which_nobody_waits_have_a_pause_between_them() {
    let rig = rig_with(plain().background(true).backoff(secs(0)).attempts(1_000));
    rig.source.then_times(10_000, &transient());
    tokio::time::sleep(secs(60)).await;
    let calls = rig.source.calls();
    assert!((60..=660).contains(&calls), "at most ten a second: {calls} in a minute");
}

#[actix::test]
async fn retry_after_is_capped() {
    let rig = rig();
    rig.source.then(Answer::Error(SourceError::terminal("go away").with_retry_after(secs(86_400))));
    assert_eq!(rig.handle.get().await.unwrap_err().retry_after(), Some(secs(300)));
}

#[actix::test]
async fn a_source_that_hangs_is_tried_one_at_a_time_and_timed_out() {
    let rig = rig_with(plain().wait_timeout(secs(60)));
    rig.source.then_times(3, &Answer::Hang);
    let began = tokio::time::Instant::now();
    for outcome in rig.get_all(50).await {
        assert!(outcome.unwrap_err().is_timeout());
    }
    assert!(began.elapsed() <= millis(30_010), "the flight's limit: {:?}", began.elapsed());
    assert_eq!((rig.source.calls(), rig.source.most_at_once()), (3, 1));
}

#[actix::test]
async fn after_a_panic_the_next_request_works() {
    let rig = rig();
    rig.source.then(Answer::Panic);
    for outcome in rig.get_all(10).await {
        assert!(outcome.unwrap_err().is_panic());
    }
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-2");
}

#[actix::test]
async fn a_source_that_keeps_panicking_is_left_alone() {
    let rig = rig();
    rig.source.then_times(10, &Answer::Panic);
    for _ in 0..10 {
        assert!(rig.handle.get().await.unwrap_err().is_panic());
    }
    assert_eq!(rig.source.calls(), 2);
}
