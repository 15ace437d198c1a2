//! Two crates that coalesce calls and store nothing.

use std::sync::Arc;

use async_singleflight::Group;
use singleflight_async::SingleFlight;

use crate::peer::{Failure, Peer};
use crate::source::{Answer, Refused, Source, number};

const NOTE: &str = "keeps no token: a cache and its expiry are left to the user";

pub struct AsyncSingleflight {
    group: Group<u8, Arc<Answer>, Refused>,
    source: Source,
}

impl Peer for AsyncSingleflight {
    const NAME: &str = "async_singleflight 0.6.2, Group";
    const NOTE: &str = NOTE;
    const KEEPS: bool = false;
    type Token = Arc<Answer>;

    async fn new(source: Source) -> Result<Self, Failure> {
        Ok(Self { group: Group::new(), source })
    }

    async fn get(&self) -> Result<Self::Token, Failure> {
        let fetch = async { self.source.fetch().await.map(Arc::new) };
        self.group.work(&1, fetch).await.map_err(|error| format!("{error:?}"))
    }

    fn number(token: &Self::Token) -> u64 {
        number(&token.secret)
    }
}

pub struct SingleflightAsync {
    group: SingleFlight<u8, Result<Arc<Answer>, Refused>>,
    source: Source,
}

impl Peer for SingleflightAsync {
    const NAME: &str = "singleflight-async 0.2.0";
    const NOTE: &str = NOTE;
    const KEEPS: bool = false;
    type Token = Arc<Answer>;

    async fn new(source: Source) -> Result<Self, Failure> {
        Ok(Self { group: SingleFlight::new(), source })
    }

    async fn get(&self) -> Result<Self::Token, Failure> {
        let fetch = || async { self.source.fetch().await.map(Arc::new) };
        self.group.work(1, fetch).await.map_err(|error| error.to_string())
    }

    fn number(token: &Self::Token) -> u64 {
        number(&token.secret)
    }
}
