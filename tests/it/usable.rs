//! Promise 6: a usable token is never taken away by a failed refresh.

use std::future::ready;

use tokenflight::clock::Clock as _;
use tokenflight::testing::ManualClock;
use tokenflight::{FetchContext, Reason, Token, TokenActor, source_fn};

use crate::support::*;

/// The default margins of an hour's token, without jitter.
const AHEAD: std::time::Duration = std::time::Duration::from_secs(300);

#[actix::test]
async fn near_its_end_a_token_is_replaced_behind_the_callers_back() {
    let rig = rig();
    rig.handle.get().await.unwrap();
    tokio::time::sleep(HOUR - AHEAD - secs(2)).await;
    assert_eq!(rig.handle.current().unwrap().secret(), "token-1");
    settle().await;
    assert_eq!(rig.source.calls(), 1, "not before");
    tokio::time::sleep(secs(2)).await;
    for _ in 0..10 {
        assert_eq!(rig.handle.get().await.unwrap().secret(), "token-1", "nobody waits");
    }
    rig.source.called(2).await;
    tokio::time::sleep(millis(61)).await;
    assert_eq!(rig.handle.current().unwrap().secret(), "token-2");
    assert_eq!(rig.source.calls(), 2);
    assert_eq!(rig.source.contexts()[1].reason, Reason::Ahead);
}

#[actix::test]
async fn messages_start_it_too() {
    let rig = rig();
    let (collector, told) = Collector::begin();
    rig.handle.get().await.unwrap();
    tokio::time::sleep(HOUR - AHEAD).await;
    rig.handle.subscribe(subscription(&collector, 0));
    rig.source.called(2).await;
    assert_eq!(told.to(0)[0].as_ref().unwrap().secret(), "token-1");
}

#[actix::test]
async fn a_failed_refresh_ahead_leaves_the_token_in_use() {
    let rig = rig_with(plain().attempts(1));
    rig.handle.get().await.unwrap();
    rig.source.then_times(1_000, &transient());
    tokio::time::sleep(HOUR - AHEAD).await;
    // Until min_validity (10 s) of its end.
    for _ in 0..289 {
        assert_eq!(rig.handle.get().await.unwrap().secret(), "token-1");
        tokio::time::sleep(secs(1)).await;
    }
    let calls = rig.source.calls();
    assert!((28..=34).contains(&calls), "refreshed ahead again after each cooldown, 10 s at most: {calls}");
    tokio::time::sleep(secs(2)).await;
    assert!(rig.handle.get().await.unwrap_err().is_unavailable(), "then nobody gets it");
}

#[actix::test]
async fn a_failed_forced_refresh_leaves_the_token_in_use() {
    let rig = rig();
    rig.handle.get().await.unwrap();
    rig.source.then(terminal());
    assert!(rig.handle.refresh().await.unwrap_err().is_rejected());
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-1");
}

#[actix::test]
async fn stale_if_error_hands_out_the_old_token_so_long_and_no_longer() {
    let rig = rig_with(plain().attempts(1).stale_if_error(secs(600)));
    rig.handle.get().await.unwrap();
    rig.source.then_times(1_000, &transient());
    tokio::time::sleep(HOUR + secs(300)).await;
    assert!(rig.handle.current().is_none(), "the reader's rule is unchanged");
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-1", "after the flight has failed");
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-1", "and in the cooldown");
    assert!(rig.handle.refresh().await.is_err(), "who wants a new one gets no old one");
    tokio::time::sleep(secs(301)).await;
    assert!(rig.handle.get().await.unwrap_err().is_unavailable());
}

#[actix::test]
async fn stale_if_error_never_hands_out_what_was_discarded() {
    let rig = rig_with(plain().attempts(1).stale_if_error(secs(600)));
    let token = rig.handle.get().await.unwrap();
    rig.source.then(transient());
    rig.handle.discard(&token);
    assert!(rig.handle.get().await.is_err());
}

#[actix::test]
async fn stale_if_error_never_hands_out_what_was_reported() {
    let rig = rig_with(plain().attempts(1).stale_if_error(secs(600)));
    let token = rig.handle.get().await.unwrap();
    rig.source.then(transient());
    assert!(rig.handle.replace(&token).await.is_err());
    assert!(rig.handle.get().await.unwrap().is_same(&token), "in use to its end, and no longer");
    rig.source.then(transient());
    tokio::time::sleep(HOUR + secs(1)).await;
    assert!(rig.handle.get().await.unwrap_err().is_unavailable());
}

/// RFC 5861 section 4 speaks of a server that is not available. One that refuses is.
#[actix::test]
async fn stale_if_error_does_not_hide_a_refusal() {
    let rig = rig_with(plain().attempts(1).stale_if_error(secs(600)));
    rig.handle.get().await.unwrap();
    rig.source.then(terminal());
    tokio::time::sleep(HOUR + secs(1)).await;
    assert!(rig.handle.get().await.unwrap_err().is_rejected(), "from the flight");
    assert!(rig.handle.get().await.unwrap_err().is_rejected(), "and in the cooldown");
    rig.source.then(transient());
    tokio::time::sleep(secs(30)).await;
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-1", "the server is not available");
}

#[actix::test]
async fn lazy_by_default_and_by_itself_in_background_mode() {
    let lazy = rig();
    let background = another(plain().background(true));
    background.source.called(1).await;
    tokio::time::sleep(HOUR * 10).await;
    assert_eq!(lazy.source.calls(), 0);
    let calls = background.source.calls();
    assert_eq!(calls, 11, "one each 55 min");
    assert!(background.handle.current().is_some());
}

#[actix::test]
async fn a_background_actor_ends_with_its_last_handle() {
    let rig = rig_with(plain().background(true));
    rig.handle.get().await.unwrap();
    let addr = rig.handle.addr().downgrade();
    drop(rig.handle);
    settle().await;
    assert!(addr.upgrade().is_none_or(|addr| !addr.connected()));
    tokio::time::sleep(HOUR * 2).await;
    assert_eq!(rig.source.calls(), 1);
}

/// A source whose server is down gives out the token that was to be replaced, and so does an actor as a source.
#[actix::test]
async fn a_source_that_has_no_newer_token_is_not_asked_at_each_read() {
    tokio::time::pause();
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&calls);
    let source = source_fn(move |cx: FetchContext| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        ready(Ok(cx.previous.unwrap_or_else(|| Token::new("abc").with_lifetime(secs(100)))))
    });
    let handle = TokenActor::builder(source).policy(plain()).clock(ManualClock::new()).start().unwrap();
    handle.get().await.unwrap();
    tokio::time::sleep(secs(85)).await;
    for _ in 0..1_000 {
        assert!(handle.get().await.is_ok());
        tokio::time::sleep(millis(1)).await;
    }
    let calls = calls.load(std::sync::atomic::Ordering::Relaxed);
    assert!((2..=4).contains(&calls), "{calls} calls");
}

#[actix::test]
async fn a_source_that_has_its_next_token_late_lets_nobody_wait() {
    tokio::time::pause();
    for (life, cooldown) in [(5, 1), (100, 10)] {
        let clock = ManualClock::new();
        let (before, now) = (clock.clone(), clock.clone());
        let begin = before.now().boot;
        let source = source_fn(move |cx: FetchContext| {
            let is_early = now.now().boot < begin + secs(life) * 85 / 100;
            let fresh = || Token::new("abc").with_lifetime(secs(life));
            ready(Ok(cx.previous.filter(|_| is_early).unwrap_or_else(fresh)))
        });
        let policy = plain().cooldown(secs(cooldown));
        let handle = TokenActor::builder(source).policy(policy).clock(clock).start().unwrap();
        handle.get().await.unwrap();
        for _ in 0..life * 10 {
            tokio::time::sleep(millis(100)).await;
            assert!(handle.current().is_some(), "{life} s");
        }
    }
}
