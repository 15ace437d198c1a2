//! The lines between runner and client: one JSON object a line. `docs/conformance.md` describes them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the runner writes.
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

/// What the client writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FromClient {
    /// It has read its configuration: always `true`.
    Ready(bool),
    /// A call has ended.
    Done(Done),
    /// It cannot do this; the text says what. The scenario ends.
    Unsupported(String),
}

/// What a client has to know.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Configure {
    /// The issuer, for clients that read its metadata (RFC 8414, or `OpenID` Connect Discovery).
    pub issuer: String,
    /// The token endpoint, for those that do not.
    pub token_endpoint: String,
    /// The client's id.
    pub client_id: String,
    /// How the client shows who it is.
    pub auth: Auth,
    /// Its secret, where `auth` needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// Its private key in PEM (PKCS #8, P-256, for ES256), where `auth` needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
    /// How it gets tokens.
    pub grant: Grant,
    /// Its first refresh token, where `grant` needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// Whether its tokens are to be bound to a key (RFC 9449). It makes the key itself.
    pub dpop: bool,
    /// The origin of the API: where its tokens belong.
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

/// How a client shows who it is.
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

/// A request that the client is to send.
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

/// How a call has ended: with a status, or with an error.
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
