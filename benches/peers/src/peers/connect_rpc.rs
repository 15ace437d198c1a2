//! reqwest-connect-rpc: a task refreshes ahead, readers copy from a channel.

use std::time::{Duration, Instant};

use reqwest_connect_rpc::token_source::refresh::{RefreshTokenSource, TokenWithExpiry};
use reqwest_connect_rpc::token_source::{TokenSource, TokenSourceError};

use crate::peer::{Failure, Peer};
use crate::source::{Source, number};

pub struct ConnectRpc(RefreshTokenSource);

impl Peer for ConnectRpc {
    const NAME: &str = "reqwest-connect-rpc 0.8.6, RefreshTokenSource";
    const NOTE: &str = "margins set to 0, or it would refuse the short token; a read copies the text and does not check the expiry";
    type Token = String;

    async fn new(source: Source) -> Result<Self, Failure> {
        let fetch = move || {
            let source = source.clone();
            async move {
                let answer = source.fetch().await.map_err(TokenSourceError::unavailable)?;
                Ok(TokenWithExpiry { token: answer.secret, expires_at: Instant::now() + answer.lifetime })
            }
        };
        let source = RefreshTokenSource::builder("peer", fetch)
            .min_token_lifetime(Duration::ZERO)
            .refresh_threshold(Duration::ZERO)
            .build();
        Ok(Self(source))
    }

    async fn get(&self) -> Result<String, Failure> {
        self.0.get_token().await.map_err(|error| error.to_string())
    }

    fn number(token: &String) -> u64 {
        number(token)
    }
}
