//! gcp_auth with a service account.

use std::sync::Arc;

use gcp_auth::{CustomServiceAccount, Token, TokenProvider};

use crate::peer::{Failure, Peer};
use crate::server;
use crate::source::{Source, number};

pub struct GcpAuth(CustomServiceAccount);

impl Peer for GcpAuth {
    const NAME: &str = "gcp_auth 0.12.7, service account";
    const NOTE: &str = "over HTTP; signs each request to the source";
    type Token = Arc<Token>;

    async fn new(source: Source) -> Result<Self, Failure> {
        let account = server::service_account(&server::token_url(source)?)?;
        CustomServiceAccount::from_json(&account.to_string()).map(Self).map_err(|error| error.to_string())
    }

    async fn get(&self) -> Result<Arc<Token>, Failure> {
        self.0.token(&["api"]).await.map_err(|error| error.to_string())
    }

    fn number(token: &Arc<Token>) -> u64 {
        number(token.as_str())
    }
}
