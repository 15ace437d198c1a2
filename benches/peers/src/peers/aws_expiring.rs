//! The cache below the AWS SDK's identities, used as the lazy cache uses it.

use std::time::{Duration, SystemTime};

use aws_smithy_runtime::expiring_cache::ExpiringCache;
use aws_smithy_runtime_api::client::identity::http::Token;

use crate::peer::{Failure, Peer};
use crate::source::{Source, number};

pub struct AwsExpiring {
    cache: ExpiringCache<Token, Failure>,
    source: Source,
}

impl Peer for AwsExpiring {
    const NAME: &str = "aws-smithy-runtime 1.16.2, ExpiringCache";
    type Token = Token;

    async fn new(source: Source) -> Result<Self, Failure> {
        // The lazy cache's default.
        Ok(Self { cache: ExpiringCache::new(Duration::from_secs(10)), source })
    }

    async fn get(&self) -> Result<Token, Failure> {
        if let Some(token) = self.cache.yield_or_clear_if_expired(SystemTime::now()).await {
            return Ok(token);
        }
        let fetch = || async {
            let answer = self.source.fetch().await.map_err(|error| error.to_string())?;
            let end = SystemTime::now() + answer.lifetime;
            Ok((Token::new(answer.secret, Some(end)), end))
        };
        self.cache.get_or_load(fetch).await
    }

    fn number(token: &Token) -> u64 {
        number(token.token())
    }
}
