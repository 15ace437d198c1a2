//! The counts, and their required values.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The counts of the servers and the runner. In a scenario, and in a report, a count has the name in parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Count {
    /// Requests at the token endpoint (`token_requests`).
    TokenRequests,
    /// The maximum number of these requests under way at once (`token_requests_at_once`).
    TokenRequestsAtOnce,
    /// Requests at the token endpoint before the time in a `Retry-After` (`early_token_requests`).
    EarlyTokenRequests,
    /// Requests at the token endpoint with wrong credentials, or with a faulty assertion (`wrong_credentials`).
    WrongCredentials,
    /// Access tokens issued (`tokens_issued`).
    TokensIssued,
    /// The maximum number of uses of one refresh token (`uses_of_one_refresh_token`).
    UsesOfOneRefreshToken,
    /// Requests at the API (`api_requests`).
    ApiRequests,
    /// The maximum number of requests at the API for one call (`requests_of_one_call`).
    RequestsOfOneCall,
    /// Requests that the API has carried out (`applied`).
    Applied,
    /// The maximum number of times that the API has carried out one call (`applied_of_one_call`).
    AppliedOfOneCall,
    /// Requests at the API without a token (`without_token`).
    WithoutToken,
    /// Requests at the API with a token more than half a second past its end (`expired_token_shown`).
    ExpiredTokenShown,
    /// Requests at the API with a revoked token (`revoked_token_shown`).
    RevokedTokenShown,
    /// Proofs and assertions whose `jti` was seen before (`repeated_jti`).
    RepeatedJti,
    /// Proofs with a fault other than a missing or an old nonce (`flawed_proofs`).
    FlawedProofs,
    /// Proofs without the required nonce (`wrong_nonces`).
    WrongNonces,
    /// Requests at the other host (`requests_elsewhere`).
    RequestsElsewhere,
    /// Requests at the other host that contain a secret (`secrets_elsewhere`).
    SecretsElsewhere,
    /// Lines of the client that contain a secret (`secrets_told`).
    SecretsTold,
    /// Calls that the client reported with a status of 200 to 299 (`calls_ok`).
    CallsOk,
    /// Calls that the client reported otherwise (`calls_failed`).
    CallsFailed,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The required value of a count: a number, or `{"least": 1, "most": 2}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct Bound {
    least: u64,
    most: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Exactly(u64),
    Range(Range),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    #[serde(default)]
    least: u64,
    #[serde(default = "no_end")]
    most: u64,
}

fn no_end() -> u64 {
    u64::MAX
}

impl From<Written> for Bound {
    fn from(written: Written) -> Self {
        match written {
            Written::Exactly(number) => Self { least: number, most: number },
            Written::Range(Range { least, most }) => Self { least, most },
        }
    }
}

impl Bound {
    /// The fault of the count, if there is one.
    pub(super) fn fault(self, count: Count, seen: &BTreeMap<Count, u64>) -> Option<String> {
        let number = seen.get(&count).copied().unwrap_or_default();
        let is_fault = !(self.least..=self.most).contains(&number);
        is_fault.then(|| format!("{count}: {number}, expected {self}"))
    }

    /// The fault of the count that the rest of the scenario cannot correct.
    pub(super) fn excess(self, count: Count, seen: &BTreeMap<Count, u64>) -> Option<String> {
        Self { least: 0, ..self }.fault(count, seen).and_then(|_| self.fault(count, seen))
    }

    /// Whether no number satisfies it.
    pub(super) fn is_empty(self) -> bool {
        self.least > self.most
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.least, self.most) {
            (least, most) if least == most => write!(f, "{least}"),
            (0, most) => write!(f, "at most {most}"),
            (least, u64::MAX) => write!(f, "at least {least}"),
            (least, most) => write!(f, "{least} to {most}"),
        }
    }
}
