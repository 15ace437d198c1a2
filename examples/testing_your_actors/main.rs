//! An actor of a service, with its tests: `cargo test --example testing_your_actors`, and `cargo run` for the actor alone.
//!
//! The actor fetches orders from an API with a token. `tests.rs` beside this file shows how to test each of its answers.

use std::time::Duration;

use actix::prelude::*;
use tokenflight::oauth::Client;
use tokenflight::testing::FakeAuthServer;
use tokenflight::{Token, TokenActor, TokenError, TokenHandle};

/// Fetches orders from an API.
struct Orders {
    tokens: TokenHandle,
    api: String,
    http: reqwest::Client,
}

impl Actor for Orders {
    type Context = Context<Self>;
}

/// "Fetch this order."
#[derive(Message)]
#[rtype(result = "Result<String, Failure>")]
struct Fetch(u64);

/// Why there is no order.
#[derive(Debug, PartialEq)]
enum Failure {
    /// No token, and asking again soon does not help: somebody has to look at the settings.
    Refused,
    /// No token now. Ask again after this time, if it is known.
    Later(Option<Duration>),
    /// The API rejected the token, and the next one too.
    Rejected,
    /// The API failed.
    Api,
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        if error.is_rejected() { Self::Refused } else { Self::Later(error.retry_after()) }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(_: reqwest::Error) -> Self {
        Self::Api
    }
}

impl Orders {
    fn new(tokens: TokenHandle, api: impl Into<String>) -> Self {
        Self { tokens, api: api.into(), http: reqwest::Client::new() }
    }

    async fn ask(http: &reqwest::Client, url: &str, token: &Token) -> reqwest::Result<reqwest::Response> {
        http.get(url).header("authorization", token.authorization()).send().await
    }
}

impl Handler<Fetch> for Orders {
    type Result = ResponseFuture<Result<String, Failure>>;

    fn handle(&mut self, Fetch(number): Fetch, _: &mut Context<Self>) -> Self::Result {
        let (tokens, http) = (self.tokens.clone(), self.http.clone());
        let url = format!("{}/orders/{number}", self.api);
        Box::pin(async move {
            let token = tokens.get().await?;
            let mut answer = Self::ask(&http, &url, &token).await?;
            if answer.status() == 401 {
                // Once: a second 401 has another reason than the token.
                let token = tokens.replace(&token).await?;
                answer = Self::ask(&http, &url, &token).await?;
            }
            match answer.status().as_u16() {
                200 => Ok(answer.text().await?),
                401 => Err(Failure::Rejected),
                _ => Err(Failure::Api),
            }
        })
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init();
    let server = FakeAuthServer::start().await?; // in production: your auth server, and your API
    let client = Client::builder(server.url(), "orders").secret("s3cret").build()?;
    let tokens = TokenActor::builder(client.client_credentials().build()?).start()?;
    let orders = Orders::new(tokens.clone(), server.api_url()).start();
    println!("order 7: {:?}", orders.send(Fetch(7)).await?);
    server.api_then(tokenflight::testing::Reply::json(500, "{}"));
    println!("order 8: {:?}", orders.send(Fetch(8)).await?);
    tokens.shutdown().await;
    println!("order 9: {:?}", orders.send(Fetch(9)).await?);
    Ok(())
}

#[cfg(test)]
mod tests;
