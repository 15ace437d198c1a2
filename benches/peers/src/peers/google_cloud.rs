//! google-cloud-auth with a user account's refresh token: a task refreshes ahead.

use google_cloud_auth::credentials::user_account::Builder;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap};

use crate::peer::{Failure, Peer};
use crate::server;
use crate::source::{Source, number};

pub struct GoogleCloud(Credentials);

impl Peer for GoogleCloud {
    const NAME: &str = "google-cloud-auth 1.18.0, user account";
    const NOTE: &str =
        "over HTTP, a client for each fetch; refreshes a token that lasts less than 4 minutes every 10 s";
    type Token = HeaderMap;

    async fn new(source: Source) -> Result<Self, Failure> {
        let account = serde_json::json!({
            "type": "authorized_user",
            "client_id": "peer",
            "client_secret": "s3cret",
            "refresh_token": "refresh",
        });
        Builder::new(account)
            .with_token_uri(server::token_url(source)?)
            .build()
            .map(Self)
            .map_err(|error| error.to_string())
    }

    async fn get(&self) -> Result<HeaderMap, Failure> {
        match self.0.headers(Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => Ok(data),
            Ok(CacheableResource::NotModified) => Err("not modified".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn number(token: &HeaderMap) -> u64 {
        token.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map_or(0, number)
    }
}
