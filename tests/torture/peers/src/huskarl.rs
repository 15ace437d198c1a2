//! The code of a huskarl user: its source of tokens by a grant, with a store in a file, which reports a new token
//! before the access token is used. Commands come on standard input, as in `client.rs`. Here each token counts as
//! expired.

use std::io::BufRead;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use huskarl::cache::{GrantTokenSource, NoSource, RefreshTokenStore, TokenSource};
use huskarl::core::Error;
use huskarl::core::client_auth::ClientSecret;
use huskarl::core::platform::MaybeSendBoxFuture;
use huskarl::core::secrets::{ProvidedSecret, SecretString};
use huskarl::grant::refresh::RefreshGrant;
use huskarl::token::RefreshToken;
use huskarl_reqwest::ReqwestClient;
use serde_json::{Value, json};

/// A refresh token in a file.
struct InFile(PathBuf);

impl RefreshTokenStore for InFile {
    fn get(&self) -> MaybeSendBoxFuture<'_, Result<Option<RefreshToken>, Error>> {
        Box::pin(async {
            let text = std::fs::read_to_string(&self.0).unwrap();
            let stored: Value = serde_json::from_str(&text).unwrap();
            let token = stored["refresh_token"].as_str().filter(|token| !token.is_empty());
            Ok(token.map(|token| RefreshToken::new(SecretString::new(token), None)))
        })
    }

    fn set<'a>(&'a self, token: &'a RefreshToken) -> MaybeSendBoxFuture<'a, Result<(), Error>> {
        Box::pin(async {
            self.write(token.token().expose_secret());
            Ok(())
        })
    }

    fn clear(&self) -> MaybeSendBoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            self.write("");
            Ok(())
        })
    }
}

impl InFile {
    /// A reader never finds half of it.
    fn write(&self, token: &str) {
        let temporary = self.0.with_extension(std::process::id().to_string());
        std::fs::write(&temporary, json!({ "refresh_token": token }).to_string()).unwrap();
        std::fs::rename(temporary, &self.0).unwrap();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let http = http.timeout(Duration::from_secs(30)).build().unwrap();
    let secret = ProvidedSecret::new(SecretString::new("rotating-secret"));
    let grant = RefreshGrant::builder()
        .client_id("rotating")
        .client_auth(ClientSecret::new(secret))
        .http_client(ReqwestClient::from(http))
        .token_endpoint(variable("TORTURE_URL").parse().unwrap())
        .build();
    let source = GrantTokenSource::builder()
        .grant(grant)
        .grant_parameters(NoSource)
        .refresh_store(InFile(variable("TORTURE_VAULT").into()))
        .build();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let time = line.strip_prefix("go ").and_then(|time| time.parse().ok()).expect("an order");
        rotate(&source, Duration::from_millis(time)).await;
        println!("rest");
    }
}

async fn rotate(source: &impl TokenSource, time: Duration) {
    let mut first: Option<Instant> = None;
    while first.is_none_or(|first| first.elapsed() < time) {
        match source.token().await {
            Ok(_) => {
                println!("token");
                first = first.or(Some(Instant::now()));
                if !time.is_zero() {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(..200))).await;
                }
            }
            Err(error) => {
                let told = format!("{error:?}");
                if told.contains("invalid_grant")
                    || told.contains("InvalidGrant")
                    || told.contains("NoTokenSource")
                {
                    println!("needs_login");
                    return;
                }
                println!("failed {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
