//! tokenflight itself, on the arbiter that its callers run on.

use std::hint::black_box;
use std::time::Duration;

use tokenflight::{RefreshPolicy, SourceError, Token, TokenActor, TokenHandle, source_fn};

use crate::peer::{Failure, Peer, Read};
use crate::source::{Source, number};

fn start(source: Source, policy: RefreshPolicy) -> Result<TokenHandle, Failure> {
    let source = source_fn(move |_cx| {
        let source = source.clone();
        async move {
            let answer = source.fetch().await.map_err(SourceError::transient)?;
            Ok(Token::new(answer.secret).with_lifetime(answer.lifetime))
        }
    });
    TokenActor::builder(source).policy(policy).start().map_err(|error| error.to_string())
}

/// The default, but for `settle`: tokens are rejected here as soon as they are born.
fn policy() -> RefreshPolicy {
    RefreshPolicy::default().settle(Duration::ZERO)
}

pub struct Tokenflight(TokenHandle);

impl Peer for Tokenflight {
    const NAME: &str = "tokenflight, `get()`";
    const NOTE: &str = "3 attempts, with pauses between, are one flight";
    const REJECTS: bool = true;
    type Token = Token;

    async fn new(source: Source) -> Result<Self, Failure> {
        start(source, policy()).map(Self)
    }

    async fn get(&self) -> Result<Token, Failure> {
        self.0.get().await.map_err(|error| error.to_string())
    }

    fn number(token: &Token) -> u64 {
        number(token.secret())
    }

    async fn rejected(&self, token: Token) {
        self.0.invalidate(&token);
    }
}

/// For a look at the failing source beside peers that do not try again.
pub struct OneAttempt(Tokenflight);

impl Peer for OneAttempt {
    const NAME: &str = "tokenflight, `attempts(1)`";
    const NOTE: &str = "for comparison with peers that try once";
    const REJECTS: bool = true;
    type Token = Token;

    async fn new(source: Source) -> Result<Self, Failure> {
        start(source, policy().attempts(1)).map(Tokenflight).map(Self)
    }

    async fn get(&self) -> Result<Token, Failure> {
        self.0.get().await
    }

    fn number(token: &Token) -> u64 {
        Tokenflight::number(token)
    }

    async fn rejected(&self, token: Token) {
        self.0.rejected(token).await;
    }
}

/// `current()` alone.
pub struct Current(TokenHandle);

impl Current {
    pub async fn new() -> Result<Self, Failure> {
        let peer = Tokenflight::new(Source::default()).await?;
        peer.get().await?;
        Ok(Self(peer.0))
    }
}

impl Read for Current {
    async fn read(&self) {
        black_box(self.0.current());
    }
}
