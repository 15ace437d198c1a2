//! yup-oauth2 with a service account.

use yup_oauth2::authenticator::DefaultAuthenticator;
use yup_oauth2::{AccessToken, ServiceAccountAuthenticator, ServiceAccountKey};

use crate::peer::{Failure, Peer};
use crate::server;
use crate::source::{Source, number};

pub struct YupOauth2(DefaultAuthenticator);

impl Peer for YupOauth2 {
    const NAME: &str = "yup-oauth2 12.1.2, service account";
    const NOTE: &str = "over HTTP; signs each request to the source";
    type Token = AccessToken;

    async fn new(source: Source) -> Result<Self, Failure> {
        let account = server::service_account(&server::token_url(source)?)?;
        let key: ServiceAccountKey = serde_json::from_value(account).map_err(|error| error.to_string())?;
        ServiceAccountAuthenticator::builder(key).build().await.map(Self).map_err(|error| error.to_string())
    }

    async fn get(&self) -> Result<AccessToken, Failure> {
        self.0.token(&["api"]).await.map_err(|error| error.to_string())
    }

    fn number(token: &AccessToken) -> u64 {
        token.token().map_or(0, number)
    }
}
