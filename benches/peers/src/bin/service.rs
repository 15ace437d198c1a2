//! A service that calls an API with a token, in release mode, for the comparison with its twin in Node.
//!
//! `service third-party` is the auth server and the API. `service token URL` is the service with tokenflight.
//! `service bare URL` is the same without a token. Each prints its address and serves until it is ended. The
//! handler is the one of the example `actix_web_service`, without its error page.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;
use tokenflight::source::ClientCredentials;
use tokenflight::{TokenActor, TokenHandle};

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["third-party"] => third_party().await,
        ["token", url] => service(url, true).await,
        ["bare", url] => service(url, false).await,
        _ => Err(std::io::Error::other("service third-party | token URL | bare URL")),
    }
}

#[derive(Clone)]
struct Service {
    tokens: Option<TokenHandle>,
    client: reqwest::Client,
    api: String,
}

async fn service(third_party: &str, with_token: bool) -> std::io::Result<()> {
    let tokens = with_token.then(|| start(third_party)).transpose().map_err(std::io::Error::other)?;
    let api = if with_token { "api" } else { "open" };
    let service = Service { tokens, client: reqwest::Client::new(), api: format!("{third_party}/{api}") };
    serve(move |app| {
        app.app_data(web::Data::new(service.clone())).route("/", web::get().to(index));
    })
    .await
}

fn start(third_party: &str) -> Result<TokenHandle, Box<dyn std::error::Error + Send + Sync>> {
    let source = ClientCredentials::builder(format!("{third_party}/token"), "service", "s3cret").build()?;
    Ok(TokenActor::builder(source).start()?)
}

async fn index(service: web::Data<Service>) -> HttpResponse {
    for replay in [false, true] {
        let mut request = service.client.get(&service.api);
        let mut sent_with = None;
        if let Some(tokens) = &service.tokens {
            let Ok(token) = tokens.get().await else { return HttpResponse::ServiceUnavailable().finish() };
            request = request.header(AUTHORIZATION, token.authorization());
            sent_with = Some((tokens, token));
        }
        match (request.send().await, sent_with) {
            (Ok(answer), Some((tokens, token))) if answer.status() == StatusCode::UNAUTHORIZED && !replay => {
                tokens.invalidate(&token);
            }
            (Ok(answer), _) if answer.status().is_success() => {
                return HttpResponse::Ok().body(answer.text().await.unwrap_or_default());
            }
            _ => return HttpResponse::BadGateway().finish(),
        }
    }
    HttpResponse::BadGateway().finish()
}

/// The auth server, which takes 100 ms, and the API, which checks that its token is one that has not ended.
#[derive(Default)]
struct ThirdParty {
    auth_calls: AtomicU64,
    rejected: AtomicU64,
    lifetime: AtomicU64,
    /// When the tokens end, by their number.
    ends: Mutex<Vec<Instant>>,
}

async fn third_party() -> std::io::Result<()> {
    let state = web::Data::new(ThirdParty::default());
    serve(move |app| {
        app.app_data(state.clone())
            .route("/token", web::post().to(token))
            .route("/api", web::get().to(api))
            .route("/open", web::get().to(async || HttpResponse::Ok().body("hello from the api\n")))
            .route("/reset/{lifetime}", web::post().to(reset))
            .route("/counts", web::get().to(counts));
    })
    .await
}

async fn token(state: web::Data<ThirdParty>) -> HttpResponse {
    state.auth_calls.fetch_add(1, Relaxed);
    actix_web::rt::time::sleep(Duration::from_millis(100)).await;
    let lifetime = state.lifetime.load(Relaxed);
    let mut ends = state.ends.lock().expect("nobody panics");
    ends.push(Instant::now() + Duration::from_secs(lifetime));
    // As long as an access token often is.
    let text = format!("{:0>900}", ends.len() - 1);
    HttpResponse::Ok()
        .json(serde_json::json!({ "access_token": text, "token_type": "Bearer", "expires_in": lifetime }))
}

async fn api(state: web::Data<ThirdParty>, request: HttpRequest) -> HttpResponse {
    let number = request
        .headers()
        .get(AUTHORIZATION.as_str())
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ")?.parse::<usize>().ok());
    let ends = state.ends.lock().expect("nobody panics");
    if number.and_then(|number| ends.get(number)).is_some_and(|end| Instant::now() < *end) {
        HttpResponse::Ok().body("hello from the api\n")
    } else {
        state.rejected.fetch_add(1, Relaxed);
        HttpResponse::Unauthorized().finish()
    }
}

async fn reset(state: web::Data<ThirdParty>, lifetime: web::Path<u64>) -> HttpResponse {
    state.lifetime.store(*lifetime, Relaxed);
    state.auth_calls.store(0, Relaxed);
    state.rejected.store(0, Relaxed);
    HttpResponse::Ok().finish()
}

async fn counts(state: web::Data<ThirdParty>) -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({
        "authCalls": state.auth_calls.load(Relaxed),
        "rejected": state.rejected.load(Relaxed),
    }))
}

/// One worker, as Node has one thread.
async fn serve(configure: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static) -> std::io::Result<()> {
    let server =
        HttpServer::new(move || App::new().configure(configure.clone())).workers(1).bind(("127.0.0.1", 0))?;
    println!("http://{}", server.addrs()[0]);
    server.run().await
}
