//! Promise 9: short, unusual and missing lifetimes are safe.

use std::time::Duration;

use tokenflight::Token;
use tokenflight::testing::Answer;

use crate::support::*;

#[actix::test]
async fn a_token_of_a_second_never_loops() {
    let rig = rig_with(plain().background(true));
    for _ in 0..10_000 {
        rig.source.then(token("short", secs(1)));
    }
    for _ in 0..1_000 {
        rig.handle.get().await.unwrap();
        tokio::time::sleep(millis(10)).await;
    }
    let calls = rig.source.calls();
    assert!((9..=14).contains(&calls), "about one in 0.86 s for 10 s: {calls}");
}

#[actix::test]
async fn a_token_of_a_millisecond_never_loops_in_the_background() {
    let rig = rig_with(plain().background(true));
    rig.source.then_times(100_000, &token("tiny", millis(100)));
    tokio::time::sleep(secs(60)).await;
    let calls = rig.source.calls();
    assert!(calls <= 125, "{calls}");
}

#[actix::test]
async fn margins_shrink_to_fit_the_lifetime() {
    let rig = rig_with(plain().min_validity(secs(30)).refresh_ahead(secs(60)));
    rig.source.then_times(10, &token("short", secs(20)));
    rig.handle.get().await.unwrap();
    assert!(rig.handle.current().is_some(), "usable although it lives shorter than min_validity");
    tokio::time::sleep(secs(5)).await;
    assert!(rig.handle.current().is_some());
    settle().await;
    assert_eq!(rig.source.calls(), 1);
}

#[actix::test]
async fn a_missing_lifetime_is_five_minutes_or_what_the_policy_says() {
    let rig = rig_with(plain().missing_lifetime(secs(60)));
    rig.source.then(Answer::Token(Token::new("who-knows")));
    let token = rig.handle.get().await.unwrap();
    assert!(token.remaining().unwrap() <= secs(60), "{:?}", token.remaining());
    tokio::time::sleep(secs(60)).await;
    assert!(rig.handle.current().is_none());

    let rig = another(plain());
    rig.source.then(Answer::Token(Token::new("who-knows")));
    let remaining = rig.handle.get().await.unwrap().remaining().unwrap();
    assert!((secs(299)..=secs(300)).contains(&remaining), "{remaining:?}");
}

#[actix::test]
async fn a_success_that_has_already_expired_is_a_failure() {
    let rig = rig_with(plain().attempts(2));
    rig.source.then_times(2, &token("dead", Duration::ZERO));
    let error = rig.handle.get().await.unwrap_err();
    assert!(error.to_string().contains("had expired when it arrived"), "{error}");
    assert!(rig.handle.current().is_none());
    assert_eq!(rig.source.calls(), 2);
}

#[actix::test]
async fn a_huge_lifetime_overflows_nothing() {
    let rig = rig();
    rig.source.then(token("eternal", Duration::MAX));
    let token = rig.handle.get().await.unwrap();
    assert!(token.remaining().unwrap() > HOUR * 24 * 29, "30 days at most");
    assert!(token.expires_at().is_some());
    assert!(rig.handle.current().is_some());
}

#[actix::test]
async fn a_secret_that_no_header_can_carry_is_a_failure() {
    tokio::time::pause();
    for secret in ["", "two\r\nlines", "snow\u{2603}man", "sp ace"] {
        let rig = another(plain().attempts(1));
        rig.source.then(token(secret, HOUR));
        let error = rig.handle.get().await.unwrap_err();
        assert!(error.to_string().contains("no header can carry"), "{error}");
    }
}
