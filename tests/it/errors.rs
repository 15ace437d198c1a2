//! Errors and settings say what is wrong; nothing says a secret.

use std::error::Error;

use tokenflight::testing::ScriptedSource;
use tokenflight::{RefreshPolicy, Token, TokenActor, TokenType};

use crate::support::*;

#[test]
fn an_impossible_policy_names_the_field() {
    let refused = |policy: RefreshPolicy, field: &str| {
        let error = TokenActor::builder(ScriptedSource::new()).policy(policy).build().unwrap_err();
        assert_eq!(error.field(), field);
        assert!(error.to_string().starts_with(&format!("`{field}` ")), "{error}");
    };
    let policy = RefreshPolicy::default;
    refused(policy().attempts(0), "attempts");
    refused(policy().max_waiters(0), "max_waiters");
    refused(policy().jitter(1.5), "jitter");
    refused(policy().jitter(f64::NAN), "jitter");
    refused(policy().attempt_timeout(secs(0)), "attempt_timeout");
    refused(policy().flight_timeout(secs(0)), "flight_timeout");
    refused(policy().wait_timeout(secs(0)), "wait_timeout");
    refused(policy().missing_lifetime(secs(0)), "missing_lifetime");
    refused(policy().max_lifetime(secs(0)), "max_lifetime");
    refused(policy().reports(0), "reports");
    refused(policy().report_every(secs(0)), "report_every");
    refused(policy().jitter(-0.1), "jitter");
    refused(policy().jitter(f64::INFINITY), "jitter");
    refused(policy().cooldown(secs(61)), "cooldown");
    refused(policy().cooldown(secs(11)), "cooldown");
    refused(policy().max_cooldown(secs(0)), "cooldown");
    refused(policy().backoff(secs(6)), "backoff");
    refused(policy().refresh_ahead(secs(5)).min_validity(secs(6)), "refresh_ahead");
    assert!(TokenActor::builder(ScriptedSource::new()).policy(policy()).build().is_ok());
}

#[test]
fn a_misspelt_setting_is_refused_by_name() {
    let error = serde_json::from_str::<RefreshPolicy>(r#"{"atempts": 3}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `atempts`"), "{error}");
    let error = serde_json::from_str::<RefreshPolicy>(r#"{"cooldown": "soon"}"#).unwrap_err();
    assert!(error.to_string().contains(r#""soon" is not a duration: write it like "30s""#), "{error}");
}

#[test]
fn every_setting_can_be_read() {
    let policy: RefreshPolicy = serde_json::from_str(
        r#"{"refresh_ahead": "2m", "min_validity": "5s", "jitter": 0.25, "attempts": 2, "attempt_timeout": "1s",
            "flight_timeout": "3s", "backoff": "10ms", "max_backoff": "1s", "wait_timeout": "4s", "max_waiters": 7,
            "cooldown": "1s", "max_cooldown": "2m", "terminal_cooldown": "9s", "max_retry_after": "1h",
            "missing_lifetime": "8m", "max_lifetime": "2d", "settle": "3s", "reports": 4, "report_every": "90s",
            "stale_if_error": "11s", "background": true}"#,
    )
    .unwrap();
    let same = RefreshPolicy::default()
        .refresh_ahead(secs(120))
        .min_validity(secs(5))
        .jitter(0.25)
        .attempts(2)
        .attempt_timeout(secs(1))
        .flight_timeout(secs(3))
        .backoff(millis(10))
        .max_backoff(secs(1))
        .wait_timeout(secs(4))
        .max_waiters(7)
        .cooldown(secs(1))
        .max_cooldown(secs(120))
        .terminal_cooldown(secs(9))
        .max_retry_after(HOUR)
        .missing_lifetime(secs(480))
        .max_lifetime(HOUR * 48)
        .settle(secs(3))
        .reports(4)
        .report_every(secs(90))
        .stale_if_error(secs(11))
        .background(true);
    assert_eq!(policy, same);
}

#[actix::test]
async fn the_cause_is_kept() {
    #[derive(Debug)]
    struct OutOfOrder;
    impl std::fmt::Display for OutOfOrder {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("out of order")
        }
    }
    impl Error for OutOfOrder {}
    let rig = rig_with(plain().attempts(1));
    rig.source.then(tokenflight::testing::Answer::Error(tokenflight::SourceError::transient(OutOfOrder)));
    let error = rig.handle.get().await.unwrap_err();
    assert_eq!(error.to_string(), "token refresh failed: out of order");
    let cause = error.source().and_then(Error::source).expect("the source's own error");
    assert!(cause.downcast_ref::<OutOfOrder>().is_some());
}

#[actix::test]
async fn debug_shows_no_secret() {
    const SECRET: &str = "tell-nobody";
    let rig = rig();
    rig.source.then(token(SECRET, HOUR));
    let token = rig.handle.get().await.unwrap();
    let shown = format!(
        "{token:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        rig.handle,
        rig.handle.watch(),
        rig.handle.status().await,
        tokenflight::TokenReady { ticket: 0, result: Ok(token.clone()) },
        tokenflight::Invalidate(token.clone()),
        token.authorization(),
    );
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains("redacted") && shown.contains("Sensitive"), "{shown}");
}

#[test]
fn a_type_is_a_scheme() {
    let token = Token::new("abc").with_type(TokenType::parse("dpop"));
    assert_eq!(token.authorization(), "DPoP abc");
    assert_eq!(token.secret(), "abc");
    assert_eq!(TokenType::parse("bEARER"), TokenType::Bearer);
    let forged = Token::new("abc").with_type(TokenType::parse("Bearer x\r\nHost:"));
    assert_eq!(forged.authorization(), "Bearer", "no header can carry it: fails closed");
}
