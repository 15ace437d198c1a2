//! A client without a secret: it signs each request with its private key (RFC 7523), and the key is replaced on the
//! disc while the service runs.
//!
//! `cargo run --example private_key_jwt`
//!
//! The authorization server runs in this process, on loopback. It knows the client's public keys, verifies each signature,
//! and accepts no assertion twice.

use std::collections::HashSet;
use std::error::Error;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokenflight::oauth::{Client, OAuthError};
use tokenflight::{RefreshPolicy, TokenActor};

/// What the server knows.
#[derive(Default)]
struct Server {
    url: String,
    public_keys: Mutex<Vec<Vec<u8>>>,
    used: Mutex<HashSet<String>>,
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("tokenflight-private-key-jwt-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let key_file = folder.join("key.pem");
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/token", listener.local_addr()?);
    let server = web::Data::new(Server { url: url.clone(), ..Server::default() });
    server.public_keys.lock().unwrap().push(new_key(&key_file)?);
    let app = server.clone();
    let running =
        HttpServer::new(move || App::new().app_data(app.clone()).route("/token", web::post().to(token)));
    let running = running.workers(1).listen(listener)?.run();
    actix_web::rt::spawn(running);

    // The client: this is all that a user writes.
    let client = Client::builder(url, "orders").private_key_file(&key_file).build()?;
    // A token need not settle here: this server knows its own at once.
    let policy = RefreshPolicy::default().settle(Duration::ZERO);
    let source = client.client_credentials().scope("orders.read").build()?;
    let tokens = TokenActor::builder(source).policy(policy).start()?;

    let first = tokens.get().await?;
    println!("a token by the first key, for {:?}", first.remaining().unwrap_or_default());

    // Rotation: the server learns the new key, the file is replaced, the old key is forgotten.
    server.public_keys.lock().unwrap().push(new_key(&key_file)?);
    server.public_keys.lock().unwrap().remove(0);
    let second = tokens.refresh().await?;
    println!("a token by the second key: another one? {}", !second.is_same(&first));

    // A key that the server does not know.
    new_key(&key_file)?;
    let error = tokens.refresh().await.expect_err("the server does not know this key");
    let code = error.cause::<OAuthError>().map(|error| error.code.as_str());
    println!("a key that the server does not know: {}", code.unwrap_or("no code"));
    println!("the token is still good: {}", tokens.current().is_some());
    println!("assertions that the server accepted: {}, each once", server.used.lock().unwrap().len());

    tokens.shutdown().await;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Makes a key, writes it to the file in one step, and returns the public half.
fn new_key(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let der = pair.to_pkcs8v1()?;
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    let beside = path.with_extension("new");
    std::fs::write(&beside, pem)?;
    std::fs::rename(beside, path)?;
    Ok(pair.public_key().as_ref().to_vec())
}

/// The token endpoint.
async fn token(server: web::Data<Server>, form: web::Form<Value>) -> HttpResponse {
    let refused = |why: &str| {
        HttpResponse::Unauthorized().json(json!({ "error": "invalid_client", "error_description": why }))
    };
    let Some(assertion) = form["client_assertion"].as_str() else { return refused("no assertion") };
    let Some(claims) = verified(&server, assertion) else {
        return refused("the signature is not the client's");
    };
    if claims["aud"] != server.url.as_str() || claims["sub"] != "orders" {
        return refused("the assertion is not for this server");
    }
    if !server.used.lock().unwrap().insert(claims["jti"].to_string()) {
        return refused("the assertion was used before");
    }
    let number = server.used.lock().unwrap().len();
    let lifetime = Duration::from_secs(3600).as_secs();
    HttpResponse::Ok().json(json!({
        "access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": lifetime
    }))
}

fn verified(server: &Server, assertion: &str) -> Option<Value> {
    let (signed, signature) = assertion.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let is_by = |key: &Vec<u8>| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(signed.as_bytes(), &signature).is_ok()
    };
    server.public_keys.lock().unwrap().iter().any(is_by).then_some(())?;
    let claims = URL_SAFE_NO_PAD.decode(signed.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}
