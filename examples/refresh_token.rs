//! A program that acts for a user who has logged in once, with a rotating refresh token. It keeps the login in a file.
//!
//! `cargo run --example refresh_token`
//!
//! The program starts itself, kills the child with -9 during its rotations, and starts it again. Each time the
//! child reports the state of the login, and continues. The authorization server runs in the first process, on
//! loopback. It accepts each refresh token once, and counts those that come twice. (A refresh token that was being
//! sent when its process died may come again, inside the grace period of 30 s, which the server allows and the
//! program knows.)

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use tokenflight::clock::{Clock, SystemClock};
use tokenflight::oauth::Client;
use tokenflight::vault::{FileVault, RefreshTokenStore};
use tokenflight::{RefreshPolicy, TokenActor};

const GRACE: Duration = Duration::from_secs(30);

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if let (Ok(url), Ok(file)) = (std::env::var("EXAMPLE_URL"), std::env::var("EXAMPLE_FILE")) {
        return work(&url, Path::new(&file)).await;
    }
    let folder = std::env::temp_dir().join(format!("tokenflight-refresh-token-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/token", listener.local_addr()?);
    let server = web::Data::new(Mutex::new(Server::default()));
    let app = server.clone();
    let running =
        HttpServer::new(move || App::new().app_data(app.clone()).route("/token", web::post().to(token)));
    actix_web::rt::spawn(running.workers(1).listen(listener)?.run());

    for life in 1..=5 {
        let (url, file) = (url.clone(), folder.join("login"));
        // Reading and waiting block: not on the thread of the server.
        let told = web::block(move || live(&url, &file).map_err(|error| error.to_string())).await??;
        println!("life {life}: {told}, then kill -9");
    }
    let server = server.lock().map_err(|_| "the server has failed")?;
    let twice = server.seen.values().filter(|times| **times > 1).count();
    println!(
        "the server has seen {} refresh tokens, {twice} of them twice inside its grace",
        server.seen.len()
    );
    println!("the login is good: {}", !server.is_revoked);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// The program that a user writes: it rotates at each request, so that there is something to see.
async fn work(url: &str, file: &Path) -> Result<(), Box<dyn Error>> {
    let vault = FileVault::new(file)?;
    if let Some(there) = vault.load().await? {
        println!("found number {} {:?}", there.record().generation(), there.record().state());
    } else {
        println!("found no login");
    }
    let client = Client::builder(url, "my-app").secret("s3cret").build()?;
    let source = client.refresh_token(vault.clone()).login("refresh-1").grace(GRACE).build()?;
    let policy = RefreshPolicy::default().settle(Duration::ZERO);
    let tokens = TokenActor::builder(source).policy(policy).start()?;
    loop {
        tokens.refresh().await?;
        println!("number");
    }
}

/// Starts the program, and kills it while it rotates. Returns what it found.
fn live(url: &str, file: &Path) -> std::io::Result<String> {
    let mut child = Command::new(std::env::current_exe()?)
        .env("EXAMPLE_URL", url)
        .env("EXAMPLE_FILE", file)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?).lines();
    let found = lines.next().transpose()?.unwrap_or_default();
    let rotated = lines.by_ref().map_while(Result::ok).take(3).count();
    child.kill()?;
    child.wait()?;
    Ok(format!("{found}, then {rotated} tokens and more"))
}

/// What the server knows.
#[derive(Default)]
struct Server {
    current: u32,
    previous: Option<(u32, Duration)>,
    seen: HashMap<u32, u32>,
    is_revoked: bool,
}

/// The token endpoint.
async fn token(server: web::Data<Mutex<Server>>, form: web::Form<Value>) -> HttpResponse {
    let Ok(mut server) = server.lock() else { return HttpResponse::InternalServerError().finish() };
    let number =
        form["refresh_token"].as_str().and_then(|token| token.strip_prefix("refresh-")?.parse().ok());
    let Some(number) = number else {
        return HttpResponse::BadRequest().json(json!({ "error": "invalid_request" }));
    };
    let (current, now) = (server.current.max(1), SystemClock.now().boot);
    *server.seen.entry(number).or_default() += 1;
    let in_grace =
        server.previous.is_some_and(|(last, used)| last == number && now.saturating_sub(used) < GRACE);
    if server.is_revoked || (number != current && !in_grace) {
        server.is_revoked = true;
        return HttpResponse::BadRequest().json(json!({ "error": "invalid_grant" }));
    }
    if number == current {
        (server.current, server.previous) = (current + 1, Some((number, now)));
    }
    HttpResponse::Ok().json(json!({
        "access_token": format!("access-{}", server.seen.values().sum::<u32>()),
        "refresh_token": format!("refresh-{}", server.current),
        "token_type": "Bearer",
        "expires_in": 600,
    }))
}
