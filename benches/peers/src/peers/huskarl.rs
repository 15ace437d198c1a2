//! huskarl's cache with our own source.

use std::sync::Arc;
use std::time::SystemTime;

use huskarl::cache::{InMemoryTokenCache, TokenError, TokenSource};
use huskarl::core::platform::MaybeSendBoxFuture;
use huskarl::core::{Error, RetryAdvice};
use huskarl::grant::core::{RawTokenResponse, TokenResponse};

use crate::peer::{Failure, Peer};
use crate::source::{Source, number};

pub struct Huskarl(InMemoryTokenCache<Mock>);

struct Mock(Source);

impl TokenSource for Mock {
    fn token(&self) -> MaybeSendBoxFuture<'_, Result<Arc<TokenResponse>, TokenError>> {
        Box::pin(async {
            let answer = self.0.fetch().await.map_err(|error| Error::new(RetryAdvice::RETRY, error))?;
            let response = RawTokenResponse::builder()
                .access_token(answer.secret)
                .token_type("Bearer")
                .expires_in(answer.lifetime.as_secs())
                .build()
                .into_token_response(None, SystemTime::now())
                .map_err(|error| Error::new(RetryAdvice::No, error))?;
            Ok(Arc::new(response))
        })
    }
}

impl Peer for Huskarl {
    const NAME: &str = "huskarl 0.11.10, InMemoryTokenCache";
    const REJECTS: bool = true;
    type Token = Arc<TokenResponse>;

    async fn new(source: Source) -> Result<Self, Failure> {
        Ok(Self(InMemoryTokenCache::builder().source(Mock(source)).build()))
    }

    async fn get(&self) -> Result<Self::Token, Failure> {
        self.0.token().await.map_err(|error| error.to_string())
    }

    fn number(token: &Self::Token) -> u64 {
        token
            .access_token()
            .expose_header_value()
            .ok()
            .and_then(|value| value.to_str().map(number).ok())
            .unwrap_or(0)
    }

    async fn rejected(&self, _: Self::Token) {
        self.0.invalidate();
    }
}
