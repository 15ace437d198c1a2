//! The answer of a caller, compared with the expected one.

use std::time::Duration;

use tokenflight::{Token, TokenError};

use super::format::{Failure, Kind, Span};

/// A token by its name, or none, or an error.
pub(super) type Outcome = Result<Option<String>, Failure>;

/// By how much a time that is told may be off.
const TOLERANCE: Duration = Duration::from_millis(500);

#[allow(clippy::needless_pass_by_value)] // for `map`
pub(super) fn named(token: Token) -> String {
    token.secret().to_owned()
}

pub(super) fn outcome(result: Result<Token, TokenError>) -> Outcome {
    match result {
        Ok(token) => Ok(Some(named(token))),
        Err(error) => Err(Failure { kind: kind(&error), retry_after: error.retry_after().map(Span) }),
    }
}

fn kind(error: &TokenError) -> Kind {
    match () {
        () if error.is_rejected() => Kind::Rejected,
        () if error.is_unavailable() => Kind::Unavailable,
        () if error.is_timeout() => Kind::Timeout,
        () if error.is_overloaded() => Kind::Overloaded,
        () if error.is_panic() => Kind::Panic,
        () => Kind::Stopped,
    }
}

pub(super) fn stopped() -> Failure {
    Failure { kind: Kind::Stopped, retry_after: None }
}

pub(super) fn fits(seen: &Outcome, expected: &Outcome) -> bool {
    match (seen, expected) {
        (Ok(seen), Ok(expected)) => seen == expected,
        (Err(seen), Err(expected)) => {
            let near = |expected: Span| {
                seen.retry_after.is_some_and(|seen| seen.0.abs_diff(expected.0) <= TOLERANCE)
            };
            seen.kind == expected.kind && expected.retry_after.is_none_or(near)
        }
        _ => false,
    }
}

pub(super) fn show(outcome: &Outcome) -> String {
    match outcome {
        Ok(token) => or_none(token.as_ref()).to_owned(),
        Err(failure) => {
            let kind = format!("{:?}", failure.kind).to_lowercase();
            match failure.retry_after {
                Some(delay) => format!("{kind} (retry after {:?})", delay.0),
                None => kind,
            }
        }
    }
}

pub(super) fn or_none(text: Option<&String>) -> &str {
    text.map_or("none", String::as_str)
}
