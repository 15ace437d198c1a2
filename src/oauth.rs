//! The token endpoint (RFC 6749 section 3.2): who asks, what is asked, what the answer means.

mod client_auth;
// Its callers come with their own changes: client assertions, and the public module `oauth`.
#[allow(dead_code, unreachable_pub, unused_imports)]
pub(crate) mod jws;
mod request;
mod response;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use crate::error::{BuildError, SourceError};
use crate::token::Token;
use crate::transport::{Endpoint, Redactor, Settings, Transport, form};

pub use client_auth::ClientAuth;
pub(crate) use client_auth::ClientIdentity;
pub(crate) use request::{ClientCredentialsGrant, GrantSettings};

/// A token endpoint, and one client at it.
pub(crate) struct TokenEndpoint {
    transport: Transport,
    headers: HeaderMap,
    redactor: Redactor,
}

impl TokenEndpoint {
    pub(crate) fn new(
        token_url: &str,
        client: &ClientIdentity,
        settings: Settings,
    ) -> Result<Self, BuildError> {
        let redactor = client.redactor();
        let endpoint = Endpoint::parse("token_url", token_url)?;
        let transport = Transport::new(endpoint, redactor.clone(), settings)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(form::MEDIA_TYPE));
        if let Some(authorization) = client.authorization() {
            headers.insert(AUTHORIZATION, authorization);
        }
        Ok(Self { transport, headers, redactor })
    }

    /// The address, without its query.
    pub(crate) fn shown(&self) -> &str {
        self.transport.shown()
    }

    /// The address with its query, in which a key may stand.
    pub(crate) fn url(&self) -> &str {
        self.transport.url()
    }

    /// Whether the HTTP client is the user's own.
    pub(crate) fn is_foreign(&self) -> bool {
        self.transport.is_foreign()
    }

    /// Sends a grant. `requested` are its scopes, which an answer that names none has granted as they are
    /// (section 5.1).
    pub(crate) async fn ask(
        &self,
        grant: Bytes,
        requested: &[String],
        time_left: Option<Duration>,
    ) -> Result<Token, SourceError> {
        let headers = self.headers.clone();
        let answer = self.transport.exchange(Method::POST, headers, Some(grant), time_left).await?;
        response::read(&answer, requested, &self.redactor)
    }

    /// The same, when the answer is here already.
    #[cfg(any(test, fuzzing))]
    pub(crate) async fn parse_response(
        &self,
        response: http::Response<Vec<u8>>,
        requested: &[String],
    ) -> Result<Token, SourceError> {
        let answer = self.transport.parse_response(response).await?;
        response::read(&answer, requested, &self.redactor)
    }
}
