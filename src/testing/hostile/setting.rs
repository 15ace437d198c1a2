//! The behaviour of the servers in a scenario.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::protocol::{Auth, Grant};
use crate::duration::duration;

/// The configuration of the client.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ClientSide {
    pub(super) grant: Grant,
    pub(super) auth: Auth,
    pub(super) secret: String,
    pub(super) dpop: bool,
    /// How long the client must wait for an answer of the token endpoint.
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
    /// The answers in the order of the requests. After these comes the usual answer.
    pub(super) answers: VecDeque<Scripted>,
    /// The value as it is written into the answer. `null`: left out.
    pub(super) expires_in: Value,
    /// Left out: `Bearer`, or `DPoP` if the client has a key.
    pub(super) token_type: Option<String>,
    /// The time that an answer takes.
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
    /// The header lines that reject an unaccepted token.
    pub(super) challenges: Vec<String>,
    pub(super) nonce: Nonce,
    /// Rejects one in so many requests although the token is valid, at random with this seed.
    pub(super) random: Option<Random>,
}

impl Default for ApiSide {
    fn default() -> Self {
        let challenges = vec![r#"Bearer error="invalid_token""#.to_owned()];
        Self { answers: VecDeque::new(), challenges, nonce: Nonce::Never, random: None }
    }
}

/// Whether a proof must have a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Nonce {
    Never,
    /// One nonce, for all requests.
    Once,
    /// A new nonce after each answer.
    Each,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Random {
    pub(super) one_in: u32,
    pub(super) seed: u64,
}

/// One special answer. In headers and body `{elsewhere}` stands for the other host, `{secret}` for the client's secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scripted {
    /// An HTTP answer. The request is not carried out.
    pub(super) status: Option<u16>,
    #[serde(default)]
    pub(super) headers: Vec<(String, String)>,
    #[serde(default)]
    pub(super) body: String,
    /// The behaviour instead of an HTTP answer.
    pub(super) does: Option<Does>,
    /// The number of requests. 0: all requests.
    #[serde(default = "once")]
    pub(super) times: u32,
}

fn once() -> u32 {
    1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Does {
    /// The usual answer.
    Usual,
    /// The request is carried out. Then the connection is closed without an answer.
    Lose,
    /// The connection is closed, and the request is not carried out.
    Close,
    /// The usual answer, a byte each 100 ms.
    Drip,
    /// The usual answer, with 4 MiB of white space in front.
    Oversize,
}

impl Scripted {
    /// Whether exactly one behaviour is given.
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
    // 0 stands for all requests.
    first.times = first.times.saturating_sub(1);
    Some(first.clone())
}
