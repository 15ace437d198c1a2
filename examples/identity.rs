//! A settings file selects the source of the token: `cargo run --example identity -- settings.json`. Without an
//! argument the example makes a file with a token, and reads the token from there.

use std::error::Error;

use tokenflight::TokenActor;
use tokenflight::source::SourceSettings;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let settings = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => settings_for_a_file()?,
    };
    let source = serde_json::from_str::<SourceSettings>(&settings)?.build()?;
    let tokens = TokenActor::builder(source).start()?;
    let token = tokens.get().await?;
    let left = token.remaining().unwrap_or_default().as_secs();
    println!("{} token of {} characters, for {left} s", token.token_type().as_str(), token.secret().len());
    tokens.shutdown().await;
    Ok(())
}

fn settings_for_a_file() -> Result<String, Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("tokenflight-identity-{}", std::process::id()));
    std::fs::write(&path, "a-token-that-an-agent-wrote\n")?;
    Ok(serde_json::json!({ "kind": "file", "path": path }).to_string())
}
