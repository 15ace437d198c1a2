//! Your own source, with errors that say whether another attempt can help, and the flight in the log:
//! `RUST_LOG=debug cargo run --example custom_source`

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokenflight::{FetchContext, RefreshPolicy, SourceError, Token, TokenActor, TokenSource};

/// Asks a vault that is down at first, then healthy, and that hands out tokens of two seconds.
struct Vault {
    calls: AtomicU32,
}

impl TokenSource for Vault {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        println!("  vault: call {call}, attempt {} ({})", cx.attempt, cx.reason.as_str());
        tokio::time::sleep(Duration::from_millis(50)).await;
        match call {
            // The flight tries again by itself, not before the time that the server asked for.
            1 => Err(SourceError::transient("the vault is sealed").with_retry_after(Duration::from_secs(1))),
            _ => Ok(Token::new(format!("lease-{call}")).with_lifetime(Duration::from_secs(2))),
        }
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init();
    // From a settings file, in production.
    let policy: RefreshPolicy = serde_json::from_str(r#"{ "attempts": 5, "flight_timeout": "10s" }"#)?;
    let vault = Vault { calls: AtomicU32::new(0) };
    let handle = TokenActor::builder(vault).policy(policy).name("vault").start()?;

    for second in 0..6 {
        let token = handle.get().await?;
        println!("second {second}: a token for another {:?}", token.remaining().unwrap_or_default());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let status = handle.status().await?;
    println!("{} flights, {} calls", status.counters.flights, status.counters.attempts);
    handle.shutdown().await;
    Ok(())
}
