//! A request by reqwest whose token was revoked: the token is replaced, and the request is sent again.
//!
//! `cargo run --example reqwest_client`. The auth server and the API run in this process, on loopback.

use std::error::Error;
use std::time::Duration;

use tokenflight::middleware::reqwest::{BearerAuth, SendWith, same_origin_redirects};
use tokenflight::source::ClientCredentials;
use tokenflight::testing::{FakeAuthServer, Reply};
use tokenflight::{RefreshPolicy, TokenActor};

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (auth_server, api) = (FakeAuthServer::start().await?, FakeAuthServer::start().await?);
    api.then(Reply::json(401, "").with_header("WWW-Authenticate", r#"Bearer error="invalid_token""#));
    api.then(Reply::json(200, r#"{"orders":[]}"#));
    let origin = api.url().replace("/token", "");

    let source = ClientCredentials::builder(auth_server.url(), "app", "s3cret").build()?;
    // A token younger than `settle` (2 s) is not replaced: some APIs learn of a new one late. This one does not.
    let policy = RefreshPolicy::default().settle(Duration::ZERO);
    let tokens = TokenActor::builder(source).policy(policy).start()?;

    let auth = BearerAuth::builder(&tokens).allow(&origin).build()?;
    let client = reqwest::Client::builder().redirect(same_origin_redirects()).build()?;
    let answer = client.get(format!("{origin}/orders")).send_with(&auth).await?;

    println!("{}: {}", answer.status(), answer.text().await?);
    for asked in api.asked() {
        println!("the API was shown {}", asked.header("authorization").unwrap_or("nothing"));
    }
    tokens.shutdown().await;
    Ok(())
}
