//! Promise 5: a 401 costs at most one refresh for its key, also if the key's machine rests in between.

use std::sync::Arc;

use tokenflight::registry::TokenRegistry;
use tokenflight::source::KeyedSource;
use tokenflight::testing::ManualClock;
use tokenflight::{FetchContext, SourceError, Token};
use tokio::sync::Notify;

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

/// A middleware reports without waiting if it may not send the request again.
#[cfg(feature = "tower")]
#[actix::test]
async fn a_report_that_finds_no_seat_begins_a_search_for_those_who_have_gone() {
    use tokenflight::middleware::NoReplay;
    use tokenflight::middleware::tower::{BearerAuth, KeptBody};
    use tower::ServiceExt;
    use tower::layer::Layer;

    type Body = http_body_util::Empty<bytes::Bytes>;
    let rig = rig_with(|builder| builder.max_waiters(2));
    rig.tokens.get(&1).await.unwrap();
    rig.source.of(2).hold();
    let goes = [rig.asks(2), rig.asks(2)];
    settle().await;
    goes.iter().for_each(tokio::task::JoinHandle::abort);
    let auth = BearerAuth::builder(rig.tokens.handle(1)).allow("https://api.example").build().unwrap();
    let api = auth.layer(tower::service_fn(|_: http::Request<KeptBody<Body>>| {
        let mut answer = http::Response::new(Body::new());
        *answer.status_mut() = http::StatusCode::UNAUTHORIZED;
        std::future::ready(Ok::<_, std::convert::Infallible>(answer))
    }));
    for calls in [1, 2] {
        let mut request = http::Request::get("https://api.example/").body(Body::new()).unwrap();
        request.extensions_mut().insert(NoReplay);
        assert_eq!(api.clone().oneshot(request).await.unwrap().status(), 401);
        settle().await;
        assert_eq!(rig.source.of(1).calls(), calls, "the second report finds a seat");
    }
    assert_eq!(rig.tokens.totals().await.unwrap().counters.overloads, 1);
}

#[actix::test]
async fn a_secret_that_was_replaced_is_known_when_it_comes_again() {
    let rig = rig();
    for secret in ["a", "b", "a", "c"] {
        rig.source.of(1).then(token(secret, HOUR));
    }
    let old = rig.tokens.get(&1).await.unwrap();
    let next = rig.tokens.replace(&1, &old).await.unwrap();
    settle().await;
    assert_eq!(rig.tokens.replace(&1, &next).await.unwrap().secret(), "c");
}

/// Its looks wait until they may go on.
#[derive(Clone, Default)]
struct Looking(Arc<Notify>);

impl KeyedSource<u32> for Looking {
    async fn fetch(&self, key: &u32, _: FetchContext) -> Result<Token, SourceError> {
        Ok(Token::new(format!("called-for-{key}")))
    }

    async fn look(&self, key: &u32, _: FetchContext) -> Option<Token> {
        self.0.notified().await;
        Some(Token::new(format!("seen-for-{key}")))
    }

    fn can_look(&self) -> bool {
        true
    }
}

#[actix::test]
async fn what_was_seen_for_a_key_that_has_gone_is_not_given_to_the_next() {
    tokio::time::pause();
    let source = Looking::default();
    let builder = TokenRegistry::builder(source.clone()).policy(plain().settle(secs(2)));
    let tokens = builder.clock(ManualClock::new()).start().unwrap();
    let token = tokens.get(&1).await.unwrap();
    assert!(tokens.replace(&1, &token).await.unwrap().is_same(&token), "it has not settled");
    settle().await;
    assert!(tokens.remove(&1).await);
    // The new key has the number of the one that has gone.
    tokens.get(&2).await.unwrap();
    source.0.notify_waiters();
    settle().await;
    assert_eq!(tokens.current(&2).unwrap().secret(), "called-for-2");
}

#[actix::test]
async fn a_token_that_was_seen_is_taken_by_its_key() {
    tokio::time::pause();
    let source = Looking::default();
    let builder = TokenRegistry::builder(source.clone()).policy(plain().settle(secs(2)));
    let tokens = builder.clock(ManualClock::new()).start().unwrap();
    let token = tokens.get(&1).await.unwrap();
    tokens.replace(&1, &token).await.unwrap();
    settle().await;
    source.0.notify_waiters();
    settle().await;
    assert_eq!(tokens.current(&1).unwrap().secret(), "seen-for-1");
    tokio::time::sleep(secs(2)).await;
    assert_eq!(tokens.totals().await.unwrap().busy_keys, 0, "it rests when the next look may begin");
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
async fn a_discarded_token_is_not_handed_out_after_its_key_was_evicted_or_removed() {
    tokio::time::pause();
    for is_evicted in [true, false] {
        let policy = plain().backoff(millis(0));
        let rig = another(|builder| builder.max_keys(1).policy(policy));
        rig.source.of(1).then(token("bad", HOUR)).then(token("bad", HOUR)).then(token("good", HOUR));
        let bad = rig.tokens.get(&1).await.unwrap();
        rig.tokens.discard(&1, &bad);
        settle().await;
        if is_evicted {
            rig.tokens.get(&2).await.unwrap();
        } else {
            assert!(rig.tokens.remove(&1).await);
        }
        assert_eq!(rig.tokens.get(&1).await.unwrap().secret(), "good");
        assert_eq!(rig.source.of(1).calls(), 3, "the source repeated itself once");
        assert_eq!(rig.tokens.totals().await.unwrap().counters.discards, 1, "it is counted once");
    }
}

#[actix::test]
async fn a_second_discard_of_a_token_whose_key_was_evicted_is_counted_too() {
    let rig = rig_with(|builder| builder.max_keys(1));
    let bad = rig.tokens.get(&1).await.unwrap();
    rig.tokens.discard(&1, &bad);
    settle().await;
    rig.tokens.get(&2).await.unwrap();
    rig.source.of(3).hold();
    let busy = rig.asks(3);
    settle().await;
    rig.tokens.discard(&1, &bad);
    settle().await;
    rig.source.of(3).release();
    assert!(busy.await.unwrap().is_ok());
    assert!(rig.tokens.get(&1).await.is_ok());
    assert_eq!(rig.tokens.totals().await.unwrap().counters.discards, 2);
}

#[actix::test]
async fn a_token_that_is_discarded_while_its_key_is_about_to_be_evicted_is_not_handed_out() {
    tokio::time::pause();
    for max_keys in [1, 2] {
        let policy = plain().backoff(millis(0));
        let rig = another(|builder| builder.max_keys(max_keys).policy(policy));
        rig.source.of(1).then(token("bad", HOUR)).then(token("bad", HOUR)).then(token("good", HOUR));
        let bad = rig.tokens.get(&1).await.unwrap();
        if max_keys == 2 {
            rig.tokens.get(&3).await.unwrap();
        }
        let (to, told) = Collector::begin();
        // The shard evicts the key for the first message before it handles the second.
        rig.tokens.subscribe(2, to, 1);
        rig.tokens.discard(&1, &bad);
        tokio::time::sleep(secs(1)).await;
        assert_eq!(told.total(), 1);
        assert_eq!(rig.tokens.get(&1).await.unwrap().secret(), "good");
        assert!(rig.tokens.totals().await.unwrap().evicted > 0);
        assert_eq!(rig.tokens.totals().await.unwrap().counters.discards, 1, "it is counted once");
    }
}

#[actix::test]
async fn a_discarded_token_is_not_handed_out_after_its_key_was_idle() {
    let policy = plain().backoff(millis(0));
    let rig = rig_with(|builder| builder.idle_timeout(secs(100)).policy(policy));
    rig.source.of(1).then(token("bad", HOUR)).then(token("bad", HOUR)).then(token("good", HOUR));
    let bad = rig.tokens.get(&1).await.unwrap();
    rig.tokens.discard(&1, &bad);
    tokio::time::sleep(secs(200)).await;
    assert!(rig.tokens.is_empty());
    assert_eq!(rig.tokens.get(&1).await.unwrap().secret(), "good");
}

#[actix::test]
async fn a_token_that_is_discarded_before_its_key_is_known_is_not_handed_out() {
    let rig = rig_with(|builder| builder.policy(plain().backoff(millis(0))));
    rig.source.of(1).then(token("bad", HOUR)).then(token("good", HOUR));
    rig.tokens.discard(&1, &Token::new("bad"));
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

#[actix::test]
async fn a_token_that_is_discarded_between_the_answer_and_the_poll_is_not_handed_out() {
    let rig = rig();
    let mut waiting = rig.tokens.get(&1);
    assert!(begins(&mut waiting).await);
    tokio::time::sleep(secs(1)).await;
    let token = rig.tokens.current(&1).expect("the flight has landed");
    rig.tokens.discard(&1, &token);
    assert_eq!(waiting.await.unwrap().secret(), "token-2");
    settle().await;
    assert_eq!(rig.tokens.status(&1).await.unwrap().counters.discards, 1, "it is counted once");
}

#[actix::test]
async fn a_token_that_is_discarded_after_its_key_has_gone_is_not_handed_out_to_who_waited() {
    let rig = rig_with(|builder| builder.max_keys(1));
    let mut waiting = rig.tokens.get(&1);
    assert!(begins(&mut waiting).await);
    tokio::time::sleep(secs(1)).await;
    let token = rig.tokens.current(&1).expect("the flight has landed");
    rig.tokens.get(&2).await.unwrap();
    rig.tokens.discard(&1, &token);
    assert_eq!(waiting.await.unwrap().secret(), "token-2");
}

#[actix::test]
async fn a_token_that_is_discarded_before_the_last_clone_goes_is_not_handed_out() {
    let Rig { tokens, .. } = rig();
    let mut waiting = tokens.get(&1);
    assert!(begins(&mut waiting).await);
    tokio::time::sleep(secs(1)).await;
    let token = tokens.current(&1).expect("the flight has landed");
    tokens.discard(&1, &token);
    drop(tokens);
    settle().await;
    assert!(waiting.await.unwrap_err().is_stopped());
}

#[actix::test]
async fn the_time_for_which_tokens_were_withheld_is_counted_for_all_keys() {
    let rig = rig();
    for key in 1..3 {
        let old = rig.tokens.get(&key).await.unwrap();
        rig.tokens.invalidate(&key, &old);
        assert!(rig.tokens.get(&key).await.is_ok());
    }
    let of_keys = [&1, &2].map(|key| rig.tokens.status(key));
    let [one, two] = of_keys;
    let withheld = one.await.unwrap().counters.withheld + two.await.unwrap().counters.withheld;
    assert!((millis(120)..millis(126)).contains(&withheld), "{withheld:?}");
    assert_eq!(rig.tokens.totals().await.unwrap().counters.withheld, withheld);
}

#[actix::test]
async fn a_report_that_nobody_waits_for_makes_no_key() {
    let rig = rig_with(|builder| builder.max_keys(2));
    let old = rig.tokens.get(&1).await.unwrap();
    for key in 2..4 {
        assert!(rig.tokens.get(&key).await.is_ok());
    }
    assert!(rig.tokens.current(&1).is_none(), "it was evicted");
    let mut goes = Box::pin(rig.tokens.replace(&1, &old));
    assert!(begins(&mut goes).await);
    drop(goes);
    settle().await;
    assert_eq!(rig.source.running(), 0);
    assert_eq!((rig.source.of(1).calls(), rig.tokens.totals().await.unwrap().evicted), (1, 1));
    assert!(rig.tokens.current(&2).is_some() && rig.tokens.current(&3).is_some());
}
