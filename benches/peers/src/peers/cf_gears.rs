//! cf-gears-toolkit-auth's token provider: a separate worker, which gets a command to replace the token.

use toolkit_auth::{OAuthClientConfig, SecretString, TokenProvider};

use crate::peer::{Failure, Peer};
use crate::server;
use crate::source::{Source, number};

pub struct CfGears(TokenProvider);

impl Peer for CfGears {
    const NAME: &str = "cf-gears-toolkit-auth 0.8.3, TokenProvider";
    const NOTE: &str = "over HTTP; by default it refreshes 30 minutes ahead";
    const REJECTS: bool = true;
    type Token = SecretString;

    async fn new(source: Source) -> Result<Self, Failure> {
        let config = OAuthClientConfig {
            token_endpoint: Some(server::token_url(source)?.parse().map_err(|_| "a sound URL")?),
            client_id: "peer".into(),
            client_secret: SecretString::new("s3cret"),
            ..OAuthClientConfig::default()
        };
        TokenProvider::new(config).map(Self).map_err(|error| error.to_string())
    }

    async fn get(&self) -> Result<SecretString, Failure> {
        self.0.get().await.map_err(|error| error.to_string())
    }

    fn number(token: &SecretString) -> u64 {
        number(token.expose())
    }

    async fn rejected(&self, _: SecretString) {
        let _ = self.0.invalidate().await;
    }
}
