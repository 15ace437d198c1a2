//! The lines between runner and client: one JSON object a line. `docs/conformance.md` describes them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A line of the runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToClient {
    /// The first line.
    Configure(Box<Configure>),
    /// Send this request with a token.
    Call(Request),
    /// The last line: always `true`.
    End(bool),
}

/// A line of the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FromClient {
    /// The client has read its configuration: always `true`.
    Ready(bool),
    /// A call has ended.
    Done(Done),
    /// The client does not support this. The text names the feature. The scenario ends.
    Unsupported(String),
}

/// The configuration of a client.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Configure {
    /// The issuer, for clients that read its metadata (RFC 8414, or `OpenID` Connect Discovery).
    pub issuer: String,
    /// The token endpoint, for clients that read no metadata.
    pub token_endpoint: String,
    /// The client's id.
    pub client_id: String,
    /// How the client proves its identity.
    pub auth: Auth,
    /// Its secret, if `auth` needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// Its private key in PEM (PKCS #8, P-256, for ES256), if `auth` needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    /// How it gets tokens.
    pub grant: Grant,
    /// Its first refresh token, if `grant` needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// Whether its tokens are to be bound to a key (RFC 9449). The client makes the key itself.
    pub dpop: bool,
    /// The origin of the API, to which the tokens belong.
    pub api: String,
    /// How long one answer of the token endpoint may take, in milliseconds.
    pub timeout_ms: u64,
}

impl fmt::Debug for Configure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configure")
            .field("token_endpoint", &self.token_endpoint)
            .field("auth", &self.auth)
            .field("grant", &self.grant)
            .field("dpop", &self.dpop)
            .field("api", &self.api)
            .finish_non_exhaustive()
    }
}

/// How a client proves its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Auth {
    /// RFC 6749 section 2.3.1.
    ClientSecretBasic,
    /// RFC 7523 section 2.2.
    PrivateKeyJwt,
}

/// How a client gets tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Grant {
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 6749 section 6. Each refresh token can be used once.
    RefreshToken,
}

/// A request that the client must send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Request {
    /// The runner's number for it.
    pub id: u64,
    /// The method.
    pub method: String,
    /// The address.
    pub url: String,
    /// The body, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// The result of a call: a status, or an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The number of the call.
    pub id: u64,
    /// The status of the last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Or the error, as the client would log it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
