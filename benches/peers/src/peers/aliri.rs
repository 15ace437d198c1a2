//! aliri_tokens: a task refreshes ahead, readers borrow from a channel.

use aliri_clock::DurationSecs;
use aliri_tokens::backoff::ErrorBackoffConfig;
use aliri_tokens::jitter::NullJitter;
use aliri_tokens::sources::AsyncTokenSource;
use aliri_tokens::{AccessToken, IdToken, TokenLifetimeConfig, TokenStatus, TokenWatcher, TokenWithLifetime};
use async_trait::async_trait;

use crate::peer::{Failure, Peer};
use crate::source::{Refused, Source, number};

pub struct Aliri(TokenWatcher);

struct Mock(Source);

#[async_trait]
impl AsyncTokenSource for Mock {
    type Error = Refused;

    async fn request_token(&mut self) -> Result<TokenWithLifetime, Refused> {
        let answer = self.0.fetch().await?;
        Ok(TokenLifetimeConfig::default().create_token(
            AccessToken::from(answer.secret),
            None::<IdToken>,
            DurationSecs::from(answer.lifetime),
        ))
    }
}

impl Peer for Aliri {
    const NAME: &str = "aliri_tokens 0.3.2, TokenWatcher";
    const NOTE: &str = "fetches the first token when it is made; nobody waits: a read, with the status and a copy of the text, gives what there is";
    const LAZY: bool = false;
    type Token = String;

    async fn new(source: Source) -> Result<Self, Failure> {
        TokenWatcher::spawn_from_token_source(Mock(source), NullJitter, ErrorBackoffConfig::default())
            .await
            .map(Self)
            .map_err(|error| error.to_string())
    }

    async fn get(&self) -> Result<String, Failure> {
        // What is borrowed must not be held across an await, so a request takes a copy.
        let token = self.0.token();
        let _: TokenStatus = token.token_status();
        Ok(token.access_token().as_str().to_owned())
    }

    fn number(token: &String) -> u64 {
        number(token)
    }
}
