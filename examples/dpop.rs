//! Tokens that are bound to a key (`DPoP`, RFC 9449): a thief of a token cannot use it.
//!
//! `cargo run --example dpop --features dpop`
//!
//! The authorization server and the API run in this process, on loopback. Both require a nonce in each proof, and
//! accept no proof twice.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method, Uri};
use serde_json::{Value, json};
use tokenflight::oauth::{Client, DpopKey};
use tokenflight::{Token, TokenActor};

/// What both servers know.
struct Server {
    origin: String,
    nonce: AtomicUsize,
    requests: AtomicUsize,
    used: Mutex<HashSet<String>>,
    /// The public key that the token is bound to.
    bound_to: Mutex<Value>,
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let origin = format!("http://{}", listener.local_addr()?);
    let server = web::Data::new(Server {
        origin: origin.clone(),
        nonce: AtomicUsize::new(1),
        requests: AtomicUsize::new(0),
        used: Mutex::default(),
        bound_to: Mutex::default(),
    });
    let app = server.clone();
    let routes = move || {
        App::new()
            .app_data(app.clone())
            .route("/token", web::post().to(token))
            .route("/orders", web::get().to(orders))
    };
    actix_web::rt::spawn(HttpServer::new(routes).workers(1).listen(listener)?.run());

    let key = DpopKey::generate()?;
    println!("the key: {key:?}");
    let client = Client::builder(format!("{origin}/token"), "my-app").secret("s3cret").dpop(key).build()?;
    let tokens = TokenActor::builder(client.client_credentials().build()?).start()?;

    let token = tokens.get().await?;
    println!(
        "a token took {} requests: the server wanted a nonce",
        server.requests.swap(0, Ordering::Relaxed)
    );

    let uri: Uri = format!("{origin}/orders?page=2").parse()?;
    for number in 1..=3 {
        let status = call(&token, &uri).await?;
        println!("call {number}: {status}, {} requests", server.requests.swap(0, Ordering::Relaxed));
    }
    server.nonce.fetch_add(1, Ordering::Relaxed);
    let status = call(&token, &uri).await?;
    println!("with another nonce: {status}, {} requests", server.requests.swap(0, Ordering::Relaxed));

    // The thief has the token and no key.
    let stolen = Token::new(token.secret());
    println!("a thief gets {}", call(&stolen, &uri).await?);
    tokens.shutdown().await;
    Ok(())
}

/// One request, and one repetition if the API wants another nonce.
async fn call(token: &Token, uri: &Uri) -> Result<u16, Box<dyn Error>> {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let mut is_repeated = false;
    loop {
        let mut headers = HeaderMap::new();
        token.apply(&Method::GET, uri, &mut headers)?;
        let answer = client.get(uri.to_string()).headers(headers).send().await?;
        let is_of_use = token.learn(uri, answer.headers());
        let challenge = answer.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
        let wants_nonce = challenge.is_some_and(|challenge| challenge.contains("use_dpop_nonce"));
        if is_repeated || !is_of_use || !wants_nonce {
            return Ok(answer.status().as_u16());
        }
        is_repeated = true;
    }
}

/// The token endpoint.
async fn token(server: web::Data<Server>, request: HttpRequest) -> HttpResponse {
    let nonce = server.nonce.load(Ordering::Relaxed).to_string();
    match verified(&server, &request, None) {
        Ok(key) => {
            *server.bound_to.lock().unwrap() = key;
            let token = json!({ "access_token": "t0ken", "token_type": "DPoP", "expires_in": 3600 });
            HttpResponse::Ok().insert_header(("DPoP-Nonce", nonce)).json(token)
        }
        Err(code) => {
            HttpResponse::BadRequest().insert_header(("DPoP-Nonce", nonce)).json(json!({ "error": code }))
        }
    }
}

/// The API.
async fn orders(server: web::Data<Server>, request: HttpRequest) -> HttpResponse {
    let nonce = server.nonce.load(Ordering::Relaxed).to_string();
    let is_there = request.headers().get("authorization").is_some_and(|value| value == "DPoP t0ken");
    let verdict = verified(&server, &request, Some("t0ken")).and_then(|key| {
        (is_there && key == *server.bound_to.lock().unwrap()).then_some(()).ok_or("invalid_token")
    });
    match verdict {
        Ok(()) => HttpResponse::Ok().insert_header(("DPoP-Nonce", nonce)).json(json!(["an order"])),
        Err(code) => HttpResponse::Unauthorized()
            .insert_header(("DPoP-Nonce", nonce))
            .insert_header(("WWW-Authenticate", format!(r#"DPoP error="{code}""#)))
            .finish(),
    }
}

/// The public key of a good proof (RFC 9449 section 4.3).
fn verified(server: &Server, request: &HttpRequest, token: Option<&str>) -> Result<Value, &'static str> {
    server.requests.fetch_add(1, Ordering::Relaxed);
    let (header, claims) = signed(request).ok_or("invalid_dpop_proof")?;
    let ath = token.map(|token| URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())));
    let names_this = header["typ"] == "dpop+jwt"
        && claims["htm"] == request.method().as_str()
        && claims["htu"] == format!("{}{}", server.origin, request.path())
        && claims["ath"].as_str() == ath.as_deref()
        && server.used.lock().unwrap().insert(claims["jti"].to_string());
    if !names_this {
        return Err("invalid_dpop_proof");
    }
    let nonce = server.nonce.load(Ordering::Relaxed).to_string();
    if claims["nonce"].as_str() != Some(&*nonce) {
        return Err("use_dpop_nonce");
    }
    Ok(header["jwk"].clone())
}

fn signed(request: &HttpRequest) -> Option<(Value, Value)> {
    let (text, signature) = request.headers().get("dpop")?.to_str().ok()?.rsplit_once('.')?;
    let (header, claims) = text.split_once('.')?;
    let part = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    let (header, claims) = (part(header)?, part(claims)?);
    let number = |name: &str| URL_SAFE_NO_PAD.decode(header["jwk"][name].as_str()?).ok();
    let point = [vec![4], number("x")?, number("y")?].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    Some((header, claims))
}
