//! The lease of a token, from Vault's answers.

use std::time::Duration;

use http::StatusCode;

use super::Answer;
use crate::error::SourceError;
use crate::secret::Secret;
use crate::transport::{Document, lifetime};

/// A token with its lease.
#[derive(Clone)]
pub(super) struct Lease {
    pub(super) secret: Secret,
    /// Zero: the token does not end, if this lease is from a login.
    pub(super) lasts: Duration,
    /// The lease from the login.
    first: Duration,
    pub(super) is_renewable: bool,
    /// Its end, by the boot clock.
    pub(super) until: Duration,
    /// The token was reported, or a new one was wanted, and there is none yet.
    pub(super) is_doubted: bool,
}

impl Lease {
    /// Reads the answer to a login or to a renewal.
    pub(super) fn read(mut answer: Answer, now: Duration) -> Result<Self, SourceError> {
        let document = answer.json();
        if let Some(secret) = document.as_ref().ok().and_then(|document| document.text("/auth/client_token"))
        {
            answer.hide(secret);
        }
        if !answer.is_success() {
            return Err(refused(&answer, document.ok().as_ref()));
        }
        let document = document?;
        let Some(secret) = document.text("/auth/client_token").filter(|secret| !secret.is_empty()) else {
            return Err(answer.nonsense("without a token at \"/auth/client_token\""));
        };
        let lasts = lasts(&answer, &document);
        let is_renewable = document.get("/auth/renewable").and_then(serde_json::Value::as_bool);
        Ok(Self {
            secret: Secret::new(secret),
            lasts,
            first: lasts,
            is_renewable: is_renewable.unwrap_or(false),
            until: now.saturating_add(lasts),
            is_doubted: false,
        })
    }

    /// The lease after its renewal.
    pub(super) fn renewed(&self, renewed: Self) -> Self {
        Self { first: self.first, is_doubted: self.is_doubted, ..renewed }
    }

    /// For a renewed lease. A lease that can be renewed has an end, and Vault counts whole seconds.
    pub(super) fn has_ended(&self) -> bool {
        self.lasts.is_zero()
    }

    /// Near the end of a token's longest life Vault shortens each renewed lease.
    pub(super) fn is_near_its_end(&self) -> bool {
        self.lasts <= self.first / 2
    }
}

/// Zero if the answer gives no time.
fn lasts(answer: &Answer, document: &Document) -> Duration {
    let Some(value) = document.get("/auth/lease_duration").filter(|value| !value.is_null()) else {
        return Duration::ZERO;
    };
    lifetime(value).unwrap_or_else(|| {
        log::warn!("{} that is not a number of seconds", answer.sentence("with a `lease_duration`"));
        Duration::ZERO
    })
}

fn refused(answer: &Answer, document: Option<&Document>) -> SourceError {
    // 412: this server does not know yet what another one has written.
    let may_pass = answer.may_pass()
        || answer.status() == StatusCode::PRECONDITION_FAILED
        || answer.retry_after().is_some();
    answer.refusal_of(may_pass, document, None)
}
