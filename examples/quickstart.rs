//! One token for many requests: `cargo run --example quickstart`

use std::time::Duration;

use tokenflight::{Token, TokenActor, source_fn};

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init(); // RUST_LOG=debug shows the flight's life
    // Where tokens come from. In production: `tokenflight::source::ClientCredentials`.
    let source = source_fn(|cx| async move {
        println!("calling the auth server ({})", cx.reason.as_str());
        tokio::time::sleep(Duration::from_millis(100)).await;
        let secret = if cx.previous.is_none() { "s3cret" } else { "n3xt" };
        Ok(Token::new(secret).with_lifetime(Duration::from_secs(3600)))
    });
    let handle = TokenActor::builder(source).start()?;

    // Nine requests at once, and no token yet: one call.
    let requests = (1..=9).map(|number| {
        let handle = handle.clone();
        async move {
            let token = handle.get().await?;
            println!("request {number} goes out with {:?}", token.authorization());
            Ok::<_, tokenflight::TokenError>(())
        }
    });
    futures_util::future::try_join_all(requests).await?;

    // The API answered 401? Name the token, and repeat the request once with the one that comes back. A token younger
    // than 2 s is not replaced: some APIs learn of a new token late.
    let token = handle.get().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let next = handle.replace(&token).await?;
    println!("the request goes out again with another token: {}", !next.is_same(&token));

    handle.shutdown().await;
    Ok(())
}
