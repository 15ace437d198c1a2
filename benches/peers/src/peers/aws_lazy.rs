//! The AWS SDK's identity cache, as its clients use it.

use std::time::SystemTime;

use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime_api::client::identity::http::Token;
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityCache,
    SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_types::config_bag::ConfigBag;

use crate::peer::{Failure, Peer};
use crate::source::{Source, number};

pub struct AwsLazy {
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    config: ConfigBag,
}

#[derive(Debug)]
struct Resolver(Source);

impl ResolveIdentity for Resolver {
    fn resolve_identity<'a>(&'a self, _: &'a RuntimeComponents, _: &'a ConfigBag) -> IdentityFuture<'a> {
        IdentityFuture::new(async {
            let answer = self.0.fetch().await?;
            let end = Some(SystemTime::now() + answer.lifetime);
            Ok(Identity::new(Token::new(answer.secret, end), end))
        })
    }
}

impl Peer for AwsLazy {
    const NAME: &str = "aws-smithy-runtime 1.16.2, lazy identity cache";
    type Token = Identity;

    async fn new(source: Source) -> Result<Self, Failure> {
        let components = RuntimeComponentsBuilder::for_tests()
            .with_time_source(Some(SystemTimeSource::new()))
            .with_sleep_impl(Some(TokioSleep::new()))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            cache: IdentityCache::lazy().build(),
            resolver: SharedIdentityResolver::new(Resolver(source)),
            components,
            config: ConfigBag::base(),
        })
    }

    async fn get(&self) -> Result<Identity, Failure> {
        self.cache
            .resolve_cached_identity(self.resolver.clone(), &self.components, &self.config)
            .await
            .map_err(|error| error.to_string())
    }

    fn number(token: &Identity) -> u64 {
        token.data::<Token>().map_or(0, |token| number(token.token()))
    }
}
