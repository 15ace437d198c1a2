//! What Vault says of a token: its lease.

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
    /// Zero: it does not end, if a login said so.
    pub(super) lasts: Duration,
    /// The lease that the login gave.
    first: Duration,
    pub(super) is_renewable: bool,
    /// Its end, by the boot clock.
    pub(super) until: Duration,
}

impl Lease {
    /// From the answer to a login or to a renewal.
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
        let lasts = document.get("/auth/lease_duration").and_then(lifetime).unwrap_or_default();
        let is_renewable = document.get("/auth/renewable").and_then(serde_json::Value::as_bool);
        Ok(Self {
            secret: Secret::new(secret),
            lasts,
            first: lasts,
            is_renewable: is_renewable.unwrap_or(false),
            until: now.saturating_add(lasts),
        })
    }

    /// The lease after its renewal.
    pub(super) fn renewed(&self, renewed: Self) -> Self {
        Self { first: self.first, ..renewed }
    }

    /// Of a renewed one. What can be renewed has an end, and Vault counts in whole seconds.
    pub(super) fn has_ended(&self) -> bool {
        self.lasts.is_zero()
    }

    /// Vault renews a lease for less and less where the token's longest life ends.
    pub(super) fn is_near_its_end(&self) -> bool {
        self.lasts <= self.first / 2
    }
}

fn refused(answer: &Answer, document: Option<&Document>) -> SourceError {
    // 412: this server has not heard yet of what another one has written.
    let may_pass = answer.may_pass()
        || answer.status() == StatusCode::PRECONDITION_FAILED
        || answer.retry_after().is_some();
    answer.refusal_of(may_pass, document, None)
}
