//! Promise 5: a 401 costs at most one refresh, and never an outage. The effects of one report; `storms` has many
//! reports.

use tokenflight::{Discard, GetToken, Invalidate, Reason, Replace, Token, TokenHandle};

use crate::support::*;

/// Tokens of this age have settled.
const SETTLED: std::time::Duration = secs(3);

/// An actor whose token-1 has settled.
async fn settled_rig() -> (Rig, Token) {
    let rig = rig_with(settling());
    let token = rig.handle.get().await.unwrap();
    tokio::time::sleep(SETTLED).await;
    (rig, token)
}

async fn suspect(handle: &TokenHandle) -> bool {
    handle.status().await.unwrap().suspect
}

#[actix::test]
async fn twenty_late_401s_for_one_old_token_cost_one_refresh() {
    let (rig, old) = settled_rig().await;
    for _ in 0..20 {
        rig.handle.invalidate(&old);
        assert_eq!(rig.handle.get().await.unwrap().secret(), "token-2");
    }
    assert_eq!(rig.source.calls(), 2);
    let counters = rig.handle.status().await.unwrap().counters;
    assert_eq!((counters.rejections, counters.invalidates, counters.reports_honoured), (1, 20, 1));
}

#[actix::test]
async fn the_same_storm_by_messages() {
    // The new token has settled as it comes: it is not this that protects it.
    let rig = rig();
    let old = rig.handle.get().await.unwrap();
    for _ in 0..20 {
        rig.handle.addr().do_send(Invalidate(old.clone()));
        assert_eq!(rig.handle.addr().send(GetToken).await.unwrap().unwrap().secret(), "token-2");
    }
    assert_eq!(rig.source.calls(), 2);
}

#[actix::test]
async fn fifty_reporters_wait_for_one_flight_and_all_others_keep_the_token() {
    let (rig, old) = settled_rig().await;
    let reporters = futures_util::future::join_all((0..50).map(|_| rig.handle.replace(&old)));
    let others = async {
        rig.source.called(2).await;
        assert_eq!(rig.handle.current().unwrap().secret(), "token-1");
        assert_eq!(rig.handle.get().await.unwrap().secret(), "token-1");
        assert!(suspect(&rig.handle).await);
    };
    let (replaced, ()) = tokio::join!(reporters, others);
    assert!(replaced.iter().all(|token| token.as_ref().unwrap().secret() == "token-2"));
    assert_eq!(rig.source.calls(), 2);
    assert!(!suspect(&rig.handle).await);
    let cx = rig.source.contexts().pop().unwrap();
    assert_eq!(cx.reason, Reason::Rejected);
    assert_eq!(cx.previous.unwrap().secret(), "token-1", "the source learns which token was rejected");
}

#[actix::test]
async fn a_late_report_is_answered_with_the_token_in_use() {
    let (rig, old) = settled_rig().await;
    rig.handle.replace(&old).await.unwrap();
    assert_eq!(rig.handle.replace(&old).await.unwrap().secret(), "token-2");
    assert_eq!(rig.handle.addr().send(Replace(old)).await.unwrap().unwrap().secret(), "token-2");
    assert_eq!(rig.handle.replace(&Token::new("never heard of")).await.unwrap().secret(), "token-2");
    assert_eq!(rig.source.calls(), 2);
}

#[actix::test]
async fn after_an_invalidation_callers_wait_for_the_flight() {
    let (rig, old) = settled_rig().await;
    rig.handle.invalidate(&old);
    assert!(rig.handle.current().is_none(), "at once, and not only when the actor has heard of it");
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-2");
    assert_eq!(rig.source.calls(), 2);
}

#[actix::test]
async fn callers_wait_for_a_dead_server_for_a_second_and_then_have_the_token_as_before() {
    let rig = rig_with(settling().attempt_timeout(secs(10)));
    let old = rig.handle.get().await.unwrap();
    tokio::time::sleep(SETTLED).await;
    rig.source.hold();
    rig.handle.invalidate(&old);
    let begin = tokio::time::Instant::now();
    assert!(rig.handle.get().await.unwrap().is_same(&old));
    assert!((millis(990)..millis(1_050)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert!(suspect(&rig.handle).await);
    // A second report to the same flight does not hold them up again.
    rig.handle.invalidate(&old);
    assert!(rig.handle.current().is_some_and(|token| token.is_same(&old)));
    settle().await;
    assert!(
        rig.handle.current().is_some_and(|token| token.is_same(&old)),
        "nor when the actor has heard of it"
    );
    assert_eq!(rig.source.calls(), 2);
    let withheld = rig.handle.status().await.unwrap().counters.withheld;
    assert_eq!(withheld, secs(1));
}

#[actix::test]
async fn callers_wait_for_the_first_attempt_and_not_for_the_flight() {
    let (rig, old) = settled_rig().await;
    rig.source.then(transient()).then(transient()).then(transient());
    rig.handle.invalidate(&old);
    let begin = tokio::time::Instant::now();
    assert!(rig.handle.get().await.unwrap().is_same(&old));
    assert!(begin.elapsed() < millis(100), "{:?}", begin.elapsed());
}

#[actix::test]
async fn a_flight_that_fails_leaves_the_token_and_its_error_to_those_who_reported() {
    let (rig, old) = settled_rig().await;
    rig.source.then(terminal());
    assert!(rig.handle.replace(&old).await.unwrap_err().is_rejected());
    assert!(rig.handle.get().await.unwrap().is_same(&old));
    assert!(suspect(&rig.handle).await);
    // In the cooldown no flight may start: the same token, at once.
    assert!(rig.handle.replace(&old).await.unwrap().is_same(&old));
    rig.handle.invalidate(&old);
    assert!(rig.handle.current().is_some(), "no flight may start, so it is not withheld");
    let status = rig.handle.status().await.unwrap();
    assert_eq!((status.counters.refused_by_cooldown, rig.source.calls()), (2, 2));
    assert!(status.next_report.is_some() && status.last_error.is_some());
}

#[actix::test]
async fn a_token_that_has_not_settled_is_not_replaced() {
    let rig = rig_with(settling());
    let token = rig.handle.get().await.unwrap();
    assert!(rig.handle.replace(&token).await.unwrap().is_same(&token));
    rig.handle.invalidate(&token);
    assert!(rig.handle.current().is_some());
    let status = rig.handle.status().await.unwrap();
    assert_eq!((status.counters.refused_by_settle, rig.source.calls(), status.suspect), (2, 1, true));
    tokio::time::sleep(secs(2)).await;
    assert_eq!(rig.handle.replace(&token).await.unwrap().secret(), "token-2");
}

#[actix::test]
async fn reports_have_a_budget() {
    let rig = rig_with(settling());
    let mut token = rig.handle.get().await.unwrap();
    for number in 2..=9 {
        tokio::time::sleep(secs(2)).await;
        token = rig.handle.replace(&token).await.unwrap();
        assert_eq!(token.secret(), format!("token-{number}"));
    }
    tokio::time::sleep(secs(2)).await;
    assert!(rig.handle.replace(&token).await.unwrap().is_same(&token));
    rig.handle.invalidate(&token);
    assert!(rig.handle.current().is_some());
    let status = rig.handle.status().await.unwrap();
    assert_eq!(status.counters.refused_by_budget, 2);
    // Eight have been spent within 17 s, so that the next comes a minute after the first.
    assert!((secs(40)..secs(45)).contains(&status.next_report.unwrap()), "{:?}", status.next_report);
    tokio::time::sleep(secs(45)).await;
    assert_eq!(rig.handle.replace(&token).await.unwrap().secret(), "token-10");
}

#[actix::test]
async fn a_reporter_is_given_the_predecessor_of_a_token_that_is_too_young() {
    let rig = rig_with(settling());
    let old = rig.handle.get().await.unwrap();
    tokio::time::sleep(secs(3_310)).await;
    rig.handle.get().await.unwrap();
    rig.source.called(2).await;
    settle().await;
    tokio::time::sleep(millis(100)).await;
    let new = rig.handle.current().unwrap();
    assert_eq!(new.secret(), "token-2", "refreshed ahead");
    assert!(rig.handle.replace(&new).await.unwrap().is_same(&old));
    assert_eq!(rig.source.calls(), 2);
    // One that was reported itself is no help.
    assert!(rig.handle.replace(&old).await.unwrap().is_same(&new));
    assert!(rig.handle.replace(&new).await.unwrap().is_same(&new));
}

#[actix::test]
async fn the_predecessor_is_not_given_past_its_min_validity() {
    let rig = rig_with(settling().terminal_cooldown(HOUR).max_cooldown(HOUR));
    let old = rig.handle.get().await.unwrap();
    tokio::time::sleep(secs(3_310)).await;
    rig.handle.get().await.unwrap();
    tokio::time::sleep(secs(3)).await;
    let new = rig.handle.current().unwrap();
    assert_eq!(new.secret(), "token-2", "refreshed ahead");
    // From now on no flight may start.
    rig.source.then(terminal());
    assert!(rig.handle.refresh().await.is_err());
    assert!(rig.handle.replace(&new).await.unwrap().is_same(&old));
    tokio::time::sleep(secs(279)).await;
    assert!(rig.handle.replace(&new).await.unwrap().is_same(&new), "the old one has less than 10 s left");
    assert_eq!(rig.source.calls(), 3);
}

#[actix::test]
async fn the_source_has_the_last_word() {
    let (rig, old) = settled_rig().await;
    rig.source.then(token("token-1", HOUR)).then(token("token-1", HOUR)).then(token("token-1", HOUR));
    assert!(rig.handle.replace(&old).await.unwrap().is_same(&old));
    assert_eq!(rig.source.calls(), 3, "asked once more");
    let status = rig.handle.status().await.unwrap();
    assert!(!status.suspect && status.cooldown.is_none());
    assert!(status.token_age.unwrap() < secs(2), "its age starts anew");
    assert_eq!(status.counters.repeated_secrets, 1);
    // From then on a report of this secret is one attempt.
    tokio::time::sleep(SETTLED).await;
    assert!(rig.handle.replace(&old).await.unwrap().is_same(&old));
    assert_eq!(rig.source.calls(), 4);
}

#[actix::test]
async fn callers_do_not_wait_for_the_second_question() {
    let (rig, old) = settled_rig().await;
    rig.source.then(token("token-1", HOUR));
    rig.handle.invalidate(&old);
    let begin = tokio::time::Instant::now();
    assert!(rig.handle.get().await.unwrap().is_same(&old));
    assert!(begin.elapsed() < millis(100), "{:?}", begin.elapsed());
    tokio::time::sleep(secs(5)).await;
    assert_eq!(rig.handle.current().unwrap().secret(), "token-3", "the second answer was another token");
}

#[actix::test]
async fn a_source_that_alternates_between_two_rejected_tokens_is_believed() {
    let (rig, a) = settled_rig().await;
    for _ in 0..4 {
        rig.source.then(token("b", HOUR)).then(token("token-1", HOUR));
    }
    let b = rig.handle.replace(&a).await.unwrap();
    assert_eq!(b.secret(), "b");
    tokio::time::sleep(SETTLED).await;
    // It brings token-1, which was reported, and then b.
    assert!(rig.handle.replace(&b).await.unwrap().is_same(&b));
    assert_eq!(rig.source.calls(), 4);
    for calls in 5..8 {
        tokio::time::sleep(SETTLED).await;
        let token = rig.handle.current().unwrap();
        assert!(!rig.handle.replace(&token).await.unwrap().is_same(&token));
        assert_eq!(rig.source.calls(), calls, "one attempt a report");
    }
}

#[actix::test]
async fn a_refresh_ahead_takes_a_repeated_secret_as_it_is() {
    let rig = rig_with(settling());
    let old = rig.handle.get().await.unwrap();
    rig.source.then(terminal()).then(token("token-1", HOUR));
    tokio::time::sleep(secs(3_200)).await;
    assert!(rig.handle.replace(&old).await.is_err());
    tokio::time::sleep(secs(200)).await;
    rig.handle.get().await.unwrap();
    tokio::time::sleep(secs(1)).await;
    let status = rig.handle.status().await.unwrap();
    assert!(status.expires_in.unwrap() > secs(3_500));
    assert_eq!((rig.source.calls(), status.suspect), (3, true));
}

#[actix::test]
async fn a_report_joins_the_flight_under_way_and_costs_no_budget() {
    let (rig, old) = settled_rig().await;
    rig.source.hold();
    let forced = rig.handle.refresh();
    let report = async {
        rig.source.called(2).await;
        let replaced = rig.handle.replace(&old);
        let release = async {
            settle().await;
            rig.source.release();
        };
        tokio::join!(replaced, release).0
    };
    let (forced, replaced) = tokio::join!(forced, report);
    assert_eq!(forced.unwrap().secret(), "token-2");
    assert_eq!(replaced.unwrap().secret(), "token-2");
    assert_eq!(rig.source.calls(), 2);
}

#[actix::test]
async fn an_invalidation_while_a_refresh_runs_holds() {
    let rig = rig_with(settling().backoff(millis(0)));
    let old = rig.handle.get().await.unwrap();
    tokio::time::sleep(SETTLED).await;
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
async fn a_forced_refresh_waits_for_the_token_to_settle() {
    let rig = rig_with(settling());
    let token = rig.handle.get().await.unwrap();
    assert!(rig.handle.refresh().await.unwrap().is_same(&token));
    tokio::time::sleep(SETTLED).await;
    assert_eq!(rig.handle.refresh().await.unwrap().secret(), "token-2");
    assert_eq!(rig.source.calls(), 2);
}

#[actix::test]
async fn an_unknown_token_is_ignored() {
    let (rig, _) = settled_rig().await;
    rig.handle.invalidate(&Token::new("never heard of"));
    settle().await;
    assert_eq!(rig.handle.current().unwrap().secret(), "token-1");
    assert_eq!(rig.source.calls(), 1);
}

#[actix::test]
async fn a_discarded_token_is_never_handed_out_again() {
    let rig = rig_with(settling());
    let old = rig.handle.get().await.unwrap();
    rig.handle.discard(&old);
    assert!(rig.handle.current().is_none(), "no settling: it is compromised");
    rig.source.then(token("token-1", HOUR));
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-3");
    assert_eq!(rig.source.calls(), 3, "the source brought it again, which is a failed attempt");
    // Not as a predecessor either, and not by a message.
    let new = rig.handle.current().unwrap();
    assert!(rig.handle.replace(&new).await.unwrap().is_same(&new));
    rig.handle.addr().send(Discard(new.clone())).await.unwrap();
    assert!(rig.handle.current().is_none());
    assert_eq!(rig.handle.addr().send(GetToken).await.unwrap().unwrap().secret(), "token-4");
}

#[actix::test]
async fn a_source_that_gives_out_a_discarded_token_has_failed() {
    let rig = rig_with(settling().attempts(1));
    let ask = async || rig.handle.addr().send(GetToken).await.unwrap();
    let old = ask().await.unwrap();
    rig.handle.addr().send(Discard(old)).await.unwrap();
    rig.source.then(token("token-1", HOUR));
    assert!(ask().await.unwrap_err().is_unavailable());
    tokio::time::sleep(secs(2)).await;
    assert_eq!(ask().await.unwrap().secret(), "token-3");
}

#[actix::test]
async fn a_token_that_is_discarded_while_it_is_being_told_is_told_to_nobody_more() {
    let rig = rig_with(settling());
    let (collector, told) = Collector::begin();
    // More than one chunk.
    for ticket in 0..5_000 {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    let waiting = tokio::task::spawn_local({
        let handle = rig.handle.clone();
        async move { handle.get().await }
    });
    told.wait_for(1).await;
    let token = rig.handle.current().unwrap();
    let before = told.total();
    rig.handle.discard(&token);
    told.wait_for(5_000).await;
    assert_eq!(waiting.await.unwrap().unwrap().secret(), "token-2");
    told.assert_each_once(0..5_000);
    let with = |secret: &str| {
        (0..5_000).filter(|ticket| told.to(*ticket)[0].as_ref().unwrap().secret() == secret).count() as u64
    };
    assert!(before < 5_000 && with("token-1") >= before && with("token-2") > 1_000, "{}", with("token-1"));
    assert_eq!(with("token-1") + with("token-2"), 5_000);
}

#[actix::test]
async fn a_get_after_a_discard_does_not_join_those_who_are_being_told() {
    let rig = rig_with(settling());
    let (collector, told) = Collector::begin();
    // More than one chunk ahead of the round, which is told last.
    for ticket in 0..3_000 {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    let waiting = rig.handle.get();
    let rejecting = async {
        told.wait_for(1).await;
        let token = rig.handle.current().unwrap();
        rig.handle.discard(&token);
        assert_eq!(rig.handle.get().await.unwrap().secret(), "token-2");
    };
    let (waited, ()) = tokio::join!(waiting, rejecting);
    assert!(waited.is_ok());
    assert_eq!(rig.source.calls(), 2);
}

#[actix::test]
async fn observers_hear_of_another_secret_and_of_a_discard_and_of_no_report() {
    let (rig, old) = settled_rig().await;
    let mut watch = rig.handle.watch();
    rig.handle.invalidate(&old);
    assert!(watch.current().is_some(), "withheld from callers, and still the token");
    watch.changed().await.unwrap();
    assert_eq!(watch.current().unwrap().secret(), "token-2");
    rig.source.then(token("token-2", HOUR)).then(token("token-2", HOUR));
    tokio::time::sleep(SETTLED).await;
    rig.handle.replace(&watch.current().unwrap()).await.unwrap();
    assert!(tokio::time::timeout(secs(1), watch.changed()).await.is_err(), "the same secret again");
    rig.handle.discard(&watch.current().unwrap());
    watch.changed().await.unwrap();
    assert!(watch.current().is_none());
    rig.handle.get().await.unwrap();
    watch.changed().await.unwrap();
    rig.handle.shutdown().await;
    watch.changed().await.unwrap();
    assert!(watch.current().is_none());
}

#[actix::test]
async fn a_token_that_is_discarded_between_the_answer_and_the_poll_of_a_report_is_not_handed_out() {
    let (rig, old) = settled_rig().await;
    let (mut report, mut refresh) = (Box::pin(rig.handle.replace(&old)), Box::pin(rig.handle.refresh()));
    std::future::poll_fn(|task| {
        assert!(report.as_mut().poll(task).is_pending() && refresh.as_mut().poll(task).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    tokio::time::sleep(secs(1)).await;
    let token = rig.handle.current().unwrap();
    assert_eq!(token.secret(), "token-2", "the flight has landed");
    rig.handle.discard(&token);
    assert_eq!(report.await.unwrap().secret(), "token-3");
    assert_eq!(refresh.await.unwrap().secret(), "token-3");
    assert_eq!(rig.source.calls(), 3);
}
