//! What is counted, and what the counts must be.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What the servers and the runner count. In a scenario, and in a report, it has the name in parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Count {
    /// Requests at the token endpoint (`token_requests`).
    TokenRequests,
    /// The most of them that were under way at once (`token_requests_at_once`).
    TokenRequestsAtOnce,
    /// Requests there before the time that a `Retry-After` named (`early_token_requests`).
    EarlyTokenRequests,
    /// Requests there with wrong credentials, or with an assertion that is flawed (`wrong_credentials`).
    WrongCredentials,
    /// Access tokens issued (`tokens_issued`).
    TokensIssued,
    /// The most uses of one refresh token (`uses_of_one_refresh_token`).
    UsesOfOneRefreshToken,
    /// Requests at the API (`api_requests`).
    ApiRequests,
    /// The most requests there for one call (`requests_of_one_call`).
    RequestsOfOneCall,
    /// Requests that the API has carried out (`applied`).
    Applied,
    /// The most times that it has carried out one call (`applied_of_one_call`).
    AppliedOfOneCall,
    /// Requests there without a token (`without_token`).
    WithoutToken,
    /// Requests there with a token half a second past its end (`expired_token_shown`).
    ExpiredTokenShown,
    /// Requests there with a token that has been revoked (`revoked_token_shown`).
    RevokedTokenShown,
    /// Proofs and assertions whose `jti` was seen before (`repeated_jti`).
    RepeatedJti,
    /// Proofs with another flaw than a missing or an old nonce (`flawed_proofs`).
    FlawedProofs,
    /// Proofs without the nonce that is asked for (`wrong_nonces`).
    WrongNonces,
    /// Requests at the other host (`requests_elsewhere`).
    RequestsElsewhere,
    /// Requests there that show a secret (`secrets_elsewhere`).
    SecretsElsewhere,
    /// Lines of the client that show a secret (`secrets_told`).
    SecretsTold,
    /// Calls that the client told a status of 200 to 299 for (`calls_ok`).
    CallsOk,
    /// Calls that it told anything else for (`calls_failed`).
    CallsFailed,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What a count must be: a number, or `{"least": 1, "most": 2}`.
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
    /// What is wrong with the count, if anything is.
    pub(super) fn fault(self, count: Count, seen: &BTreeMap<Count, u64>) -> Option<String> {
        let number = seen.get(&count).copied().unwrap_or_default();
        let is_fault = !(self.least..=self.most).contains(&number);
        is_fault.then(|| format!("{count}: {number}, expected {self}"))
    }

    /// What is wrong with the count however the rest of the scenario goes.
    pub(super) fn excess(self, count: Count, seen: &BTreeMap<Count, u64>) -> Option<String> {
        Self { least: 0, ..self }.fault(count, seen).and_then(|_| self.fault(count, seen))
    }

    /// Whether no number is inside.
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
