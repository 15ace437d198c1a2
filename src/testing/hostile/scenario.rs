//! The format of a scenario in a file.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seen::{Bound, Count};
use super::setting::{ApiSide, ClientSide, TokenSide};
use crate::duration::duration;

/// One scenario: the behaviour of the servers, the requests to the client, and the required counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    name: String,
    tried: String,
    by: String,
    rank: Rank,
    #[serde(default)]
    pub(super) client: ClientSide,
    #[serde(default)]
    pub(super) token: TokenSide,
    #[serde(default)]
    pub(super) api: ApiSide,
    steps: Vec<Step>,
    pub(super) seen: BTreeMap<Count, Bound>,
    #[serde(default = "limit", deserialize_with = "duration")]
    limit: Duration,
}

fn limit() -> Duration {
    Duration::from_secs(20)
}

/// The rank of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rank {
    /// A standard requires it.
    Must,
    /// A standard recommends it.
    Should,
    /// No standard requires it. Good clients do it.
    Practice,
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// The client is asked to call the API. The step ends when the client has reported each call.
    Call(Call),
    /// Time passes.
    #[serde(deserialize_with = "duration")]
    Pause(Duration),
    /// The authorization server revokes the tokens that it has issued so far.
    Revoke(Revoked),
    /// The token endpoint fails from now on (503), or works again.
    AuthServer(Switch),
}

/// Calls of the API that the client must make.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Call {
    /// How many. Default: 1.
    pub times: u32,
    /// The time between two calls. Default: none, so all are requested at once.
    #[serde(deserialize_with = "duration")]
    pub every: Duration,
    /// Whether each call is requested after the end of the one before. Default: false.
    pub in_turn: bool,
    /// Default: `GET`.
    pub method: String,
    /// Default: none.
    pub body: Option<String>,
    /// The query of the address. Default: none.
    pub query: Option<String>,
    /// What the client must report for each call. Default: `ok`.
    pub told: Told,
}

impl Default for Call {
    fn default() -> Self {
        let (method, told) = ("GET".to_owned(), Told::Ok);
        Self { times: 1, every: Duration::ZERO, in_turn: false, method, body: None, query: None, told }
    }
}

/// The required report of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Told {
    /// A status of 200 to 299.
    Ok,
    /// Another status, or an error.
    Failed,
    /// Either.
    Any,
}

/// The tokens that are revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Revoked {
    /// All access tokens.
    AccessTokens,
    /// All access tokens and all refresh tokens.
    Family,
}

/// A switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Switch {
    /// It fails.
    Down,
    /// It works.
    Up,
}

/// The reason why a file of scenarios cannot be used.
#[derive(Debug)]
pub struct ScenarioError(String);

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScenarioError {}

impl Scenario {
    /// Reads a file: a JSON array of scenarios.
    ///
    /// # Errors
    /// The text is not such an array, a scenario has an unknown field, two scenarios have the same name, or a
    /// scenario can be neither passed nor failed.
    pub fn read(text: &str) -> Result<Vec<Self>, ScenarioError> {
        let all: Vec<Self> =
            serde_json::from_str(text).map_err(|error| ScenarioError(format!("no scenarios: {error}")))?;
        for (at, scenario) in all.iter().enumerate() {
            if let Some(fault) = scenario.fault() {
                return Err(ScenarioError(format!("{:?} {fault}", scenario.name)));
            }
            if all[..at].iter().any(|other| other.name == scenario.name) {
                return Err(ScenarioError(format!("{:?} occurs twice", scenario.name)));
            }
        }
        Ok(all)
    }

    fn fault(&self) -> Option<&'static str> {
        let answers = self.token.answers.iter().chain(&self.api.answers);
        let has_call = self.steps.iter().any(|step| matches!(step, Step::Call(call) if call.times > 0));
        match () {
            () if !has_call => Some("asks the client for no call"),
            () if self.seen.is_empty() => Some("expects nothing to be seen"),
            () if self.seen.values().any(|bound| bound.is_empty()) => {
                Some("expects a count whose `least` is more than its `most`")
            }
            () if !answers.into_iter().all(super::setting::Scripted::is_clear) => {
                Some("has an answer without exactly one of `status` and `does`")
            }
            () if self.api.random.is_some_and(|random| random.one_in == 0) => {
                Some("has `one_in: 0`: at least 1")
            }
            () => None,
        }
    }

    /// A sentence that is unique in its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The behaviour that is tested.
    pub fn tried(&self) -> &str {
        &self.tried
    }

    /// The section of the standard, or "practice".
    pub fn by(&self) -> &str {
        &self.by
    }

    /// The rank.
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The time limit.
    pub fn limit(&self) -> Duration {
        self.limit
    }
}
