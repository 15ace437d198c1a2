//! middle: a task refreshes ahead, readers take a lock.

use std::sync::Arc;

use http::HeaderValue;
use middle::{Authorizer, BasicClientCredentialAuthorizer};

use crate::peer::{Failure, Peer};
use crate::server;
use crate::source::{Source, number};

pub struct Middle(BasicClientCredentialAuthorizer);

impl Peer for Middle {
    const NAME: &str = "middle 0.5.0, client credentials";
    const NOTE: &str = "over HTTP; fetches the first token when it is made; nobody waits: once the token has ended, there is an error until its task has the next";
    const LAZY: bool = false;
    type Token = Arc<HeaderValue>;

    async fn new(source: Source) -> Result<Self, Failure> {
        let url = server::token_url(source)?.parse().map_err(|_| "a sound URL")?;
        BasicClientCredentialAuthorizer::basic_builder("peer", "s3cret", url)
            .build()
            .await
            .map(Self)
            .map_err(|error| error.to_string())
    }

    async fn get(&self) -> Result<Arc<HeaderValue>, Failure> {
        self.0.authorization_header().map_err(|error| error.to_string())
    }

    fn number(token: &Arc<HeaderValue>) -> u64 {
        token.to_str().map(number).unwrap_or(0)
    }
}
