//! moka's `try_get_with`. Each entry lives as long as its token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;

use crate::peer::{Failure, Peer};
use crate::source::{Answer, Refused, Source, number};

pub struct Moka {
    cache: Cache<u8, Arc<Answer>>,
    source: Source,
}

struct Lifetime;

impl Expiry<u8, Arc<Answer>> for Lifetime {
    fn expire_after_create(&self, _: &u8, answer: &Arc<Answer>, _: Instant) -> Option<Duration> {
        Some(answer.lifetime)
    }
}

impl Peer for Moka {
    const NAME: &str = "moka 0.12.16, try_get_with";
    const NOTE: &str = "a general cache";
    const REJECTS: bool = true;
    type Token = Arc<Answer>;

    async fn new(source: Source) -> Result<Self, Failure> {
        Ok(Self { cache: Cache::builder().max_capacity(8).expire_after(Lifetime).build(), source })
    }

    async fn get(&self) -> Result<Self::Token, Failure> {
        let fetch = async { Ok::<_, Refused>(Arc::new(self.source.fetch().await?)) };
        self.cache.try_get_with(1, fetch).await.map_err(|error| error.to_string())
    }

    fn number(token: &Self::Token) -> u64 {
        number(&token.secret)
    }

    async fn rejected(&self, _: Self::Token) {
        self.cache.invalidate(&1).await;
    }
}
