//! Errors and settings name the fault, and none contains a secret.

use std::error::Error;

use tokenflight::testing::{Answer, ScriptedSource};
use tokenflight::{RefreshPolicy, SourceError, Token, TokenActor, TokenError, TokenType};

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

/// What the usual loop over `source()` prints.
fn printed(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}\ncaused by: {cause}"))
}

/// The error of a flight whose only attempt failed with `error`, where time stands still already.
async fn told(error: SourceError) -> TokenError {
    let rig = another(plain().attempts(1));
    rig.source.then(Answer::Error(error));
    rig.handle.get().await.unwrap_err()
}

#[derive(Debug)]
struct OutOfOrder(Option<std::io::Error>);

impl std::fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("out of order")
    }
}

impl Error for OutOfOrder {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.as_ref().map(|error| error as _)
    }
}

#[actix::test]
async fn printing_an_error_with_its_sources_shows_each_part_once() {
    tokio::time::pause();
    let error = told(SourceError::transient(OutOfOrder(Some(std::io::Error::other("no paper"))))).await;
    assert_eq!(printed(&error), "token refresh failed: out of order: no paper");
    let source = error.cause::<SourceError>().unwrap();
    assert_eq!(printed(source), "out of order: no paper");
    // One actor's error is the cause of another's.
    let chained = told(SourceError::transient(error)).await;
    assert_eq!(printed(&chained), "token refresh failed: token refresh failed: out of order: no paper");
}

#[actix::test]
async fn a_cause_is_found_by_its_type() {
    tokio::time::pause();
    let error = told(SourceError::transient(OutOfOrder(Some(std::io::Error::other("no paper"))))).await;
    assert!(error.cause::<OutOfOrder>().unwrap().0.is_some());
    assert_eq!(error.cause::<std::io::Error>().unwrap().to_string(), "no paper");
    assert!(error.cause::<std::fmt::Error>().is_none());
    let source = error.cause::<SourceError>().unwrap();
    assert!(!source.is_terminal() && source.cause::<OutOfOrder>().is_some());
    // Of a caller's own timeout there is no cause.
    let rig = another(plain().wait_timeout(millis(1)));
    assert!(rig.handle.get().await.unwrap_err().cause::<SourceError>().is_none());
}

#[actix::test]
async fn a_line_break_in_a_source_s_error_forges_no_log_line() {
    tokio::time::pause();
    let error =
        told(SourceError::terminal("refused\r\n2026-01-01 ERROR all is lost\u{1b}[2J\u{2028}x")).await;
    let text = r"token refresh was refused: refused\r\n2026-01-01 ERROR all is lost\u{1b}[2J\u{2028}x";
    assert_eq!(error.to_string(), text);
    assert_eq!(format!("{error:?}").lines().count(), 1);
    assert_eq!(error.cause::<SourceError>().unwrap().to_string().lines().count(), 1);
}

#[actix::test]
async fn a_timeout_names_the_setting_that_ran_out() {
    tokio::time::pause();
    let text = async |policy: RefreshPolicy| {
        let rig = another(policy.attempts(1));
        rig.source.then(Answer::Hang);
        rig.handle.get().await.unwrap_err().to_string()
    };
    let attempt = "token refresh timed out: no answer within attempt_timeout (10s)";
    assert_eq!(text(plain()).await, attempt);
    assert_eq!(text(plain().flight_timeout(secs(10))).await, attempt, "both at once: the narrower one");
    let flight = "token refresh timed out: the flight took longer than flight_timeout (1s)";
    assert_eq!(text(plain().flight_timeout(secs(1))).await, flight);
}

#[actix::test]
async fn each_kind_of_error_has_a_name() {
    tokio::time::pause();
    for (error, kind) in
        [(SourceError::terminal("no"), "rejected"), (SourceError::transient("no"), "unavailable")]
    {
        assert_eq!(told(error).await.kind(), kind);
    }
    let rig = another(plain().attempts(1).wait_timeout(secs(1)).max_waiters(1));
    rig.source.then(Answer::Panic);
    assert_eq!(rig.handle.get().await.unwrap_err().kind(), "panic");
    rig.source.then(Answer::Hang);
    let (one, other) = tokio::join!(rig.handle.get(), rig.handle.get());
    assert_eq!(one.unwrap_err().kind(), "timeout");
    assert_eq!(other.unwrap_err().kind(), "overloaded");
    rig.handle.shutdown().await;
    assert_eq!(rig.handle.get().await.unwrap_err().kind(), "stopped");
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
        tokenflight::TokenReady::new(0, Ok(token.clone())),
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

#[cfg(feature = "shared")]
#[test]
fn a_store_s_error_is_one_short_line() {
    let error =
        tokenflight::store::StoreError::new(format!("down\nWARN forged\u{1b}[2K{}", "x".repeat(10_000)));
    let shown = error.to_string();
    assert!(shown.starts_with("the shared store: down?WARN forged?[2Kxx"), "{shown}");
    assert!(shown.len() < 250, "{shown}");
    // As programs print an error with its causes.
    let error = tokenflight::store::StoreError::new(std::io::Error::other("down\nWARN forged"));
    let (mut shown, mut next) = (Vec::new(), Some(&error as &dyn std::error::Error));
    while let Some(error) = next {
        shown.push(error.to_string());
        next = error.source();
    }
    assert_eq!(shown, ["the shared store: down?WARN forged"], "each part once, on one line");
}
