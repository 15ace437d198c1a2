//! A service calls an API on behalf of a user: it exchanges the user's token for one that the API accepts (RFC
//! 8693). The user's token is a separate link, with its own actor: only the link that has expired is fetched again.
//!
//! `cargo run --example token_exchange`
//!
//! The authorization server runs in this process, on loopback.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use tokenflight::oauth::{Client, OAuthError};
use tokenflight::{RefreshPolicy, TokenActor};

/// How often the server gave each kind of token.
#[derive(Default)]
struct Server {
    logins: AtomicU32,
    exchanges: AtomicU32,
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/token", listener.local_addr()?);
    let server = web::Data::new(Server::default());
    let app = server.clone();
    let running =
        HttpServer::new(move || App::new().app_data(app.clone()).route("/token", web::post().to(token)));
    actix_web::rt::spawn(running.workers(1).listen(listener)?.run());

    // A token need not settle here: this server knows its own at once.
    let policy = || RefreshPolicy::default().settle(Duration::ZERO);
    let client = Client::builder(url, "orders").secret("s3cret").build()?;

    // The first link: the subject. Any source would do; this one is the service's own login.
    let login =
        TokenActor::builder(client.client_credentials().build()?).name("login").policy(policy()).start()?;

    // The second link: its token in exchange for one that the stock API accepts.
    let exchange = client.token_exchange(login.clone()).audience("https://stock.example/").build()?;
    let stock = TokenActor::builder(exchange).name("stock").policy(policy()).start()?;

    println!("for the stock API: {}", stock.get().await?.secret());
    stock.refresh().await?;
    println!(
        "after a refresh of the second link: {} login, {} exchanges",
        server.logins.load(Ordering::Relaxed),
        server.exchanges.load(Ordering::Relaxed)
    );

    let nobody = client.token_exchange(login.clone()).audience("https://nobody.example/").build()?;
    let nobody = TokenActor::builder(nobody).start()?;
    let error = nobody.get().await.expect_err("nobody is not known");
    let code = error.cause::<OAuthError>().map(|error| error.code.as_str());
    println!("an audience that the server does not know: {}", code.unwrap_or("no code"));

    for tokens in [nobody, stock, login] {
        tokens.shutdown().await;
    }
    Ok(())
}

/// The token endpoint.
async fn token(server: web::Data<Server>, form: web::Form<Value>) -> HttpResponse {
    if form["grant_type"] == "client_credentials" {
        let number = server.logins.fetch_add(1, Ordering::Relaxed) + 1;
        return HttpResponse::Ok().json(json!({
            "access_token": format!("login-{number}"), "token_type": "Bearer", "expires_in": 3600
        }));
    }
    let subject = form["subject_token"].as_str().unwrap_or_default();
    let audience = form["audience"].as_str().unwrap_or_default();
    if !subject.starts_with("login-") {
        return HttpResponse::BadRequest().json(json!({ "error": "invalid_request" }));
    }
    if audience != "https://stock.example/" {
        return HttpResponse::BadRequest().json(json!({ "error": "invalid_target" }));
    }
    let number = server.exchanges.fetch_add(1, Ordering::Relaxed) + 1;
    HttpResponse::Ok().json(json!({
        "access_token": format!("stock-{number}-for-{subject}"),
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 600,
    }))
}
