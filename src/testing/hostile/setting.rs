//! What the servers of a scenario do.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::protocol::{Auth, Grant};
use crate::duration::duration;

/// What the client is configured with.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ClientSide {
    pub(super) grant: Grant,
    pub(super) auth: Auth,
    pub(super) secret: String,
    pub(super) dpop: bool,
    /// How long it is to wait for an answer of the token endpoint.
    #[serde(deserialize_with = "duration")]
    pub(super) timeout: Duration,
}

impl fmt::Debug for ClientSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grant, auth, secret: _, dpop, timeout } = self;
        f.debug_tuple("ClientSide").field(grant).field(auth).field(dpop).field(timeout).finish()
    }
}

impl Default for ClientSide {
    fn default() -> Self {
        let secret = "s3cret-of-the-client".to_owned();
        let (grant, auth) = (Grant::ClientCredentials, Auth::ClientSecretBasic);
        Self { grant, auth, secret, dpop: false, timeout: Duration::from_secs(5) }
    }
}

/// The token endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TokenSide {
    /// In the order of the requests; then the usual one.
    pub(super) answers: VecDeque<Scripted>,
    /// As it is written into the answer. `null`: left out.
    pub(super) expires_in: Value,
    /// Left out: `Bearer`, or `DPoP` where the client has a key.
    pub(super) token_type: Option<String>,
    /// How long an answer takes.
    #[serde(deserialize_with = "duration")]
    pub(super) takes: Duration,
    pub(super) nonce: Nonce,
    /// Whether an answer has `Cache-Control: no-store`.
    pub(super) cache_control: bool,
}

impl Default for TokenSide {
    fn default() -> Self {
        Self {
            answers: VecDeque::new(),
            expires_in: json!(3600),
            token_type: None,
            takes: Duration::ZERO,
            nonce: Nonce::Never,
            cache_control: true,
        }
    }
}

/// The API.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ApiSide {
    pub(super) answers: VecDeque<Scripted>,
    /// The lines with which a token that is not good is rejected.
    pub(super) challenges: Vec<String>,
    pub(super) nonce: Nonce,
    /// One request in so many is rejected though its token is good, by dice with this seed.
    pub(super) random: Option<Random>,
}

impl Default for ApiSide {
    fn default() -> Self {
        let challenges = vec![r#"Bearer error="invalid_token""#.to_owned()];
        Self { answers: VecDeque::new(), challenges, nonce: Nonce::Never, random: None }
    }
}

/// Whether a proof has to have a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Nonce {
    Never,
    /// One, for all requests.
    Once,
    /// Another one after each answer.
    Each,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Random {
    pub(super) one_in: u32,
    pub(super) seed: u64,
}

/// One answer out of turn. In headers and body `{elsewhere}` stands for the other host, `{secret}` for the client's secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scripted {
    /// An HTTP answer; nothing is carried out.
    pub(super) status: Option<u16>,
    #[serde(default)]
    pub(super) headers: Vec<(String, String)>,
    #[serde(default)]
    pub(super) body: String,
    /// What is done instead.
    pub(super) does: Option<Does>,
    /// For so many requests. 0: for all that come.
    #[serde(default = "once")]
    pub(super) times: u32,
}

fn once() -> u32 {
    1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Does {
    /// What is usual.
    Usual,
    /// The usual, carried out; then the connection is closed without an answer.
    Lose,
    /// The connection is closed; nothing is carried out.
    Close,
    /// The usual answer, a byte each 100 ms.
    Drip,
    /// The usual answer, with 4 MiB of white space in front.
    Oversize,
}

impl Scripted {
    /// Whether it says one thing.
    pub(super) fn is_clear(&self) -> bool {
        self.status.is_some() != self.does.is_some()
    }
}

/// The next answer of a script.
pub(super) fn next(script: &mut VecDeque<Scripted>) -> Option<Scripted> {
    let first = script.front_mut()?;
    if first.times == 1 {
        return script.pop_front();
    }
    // 0 stands for all that come.
    first.times = first.times.saturating_sub(1);
    Some(first.clone())
}
