//! A service on port 8080 that calls an API with a token: several workers, one actor, one auth call.
//!
//! `cargo run --example actix_web_service`, then `curl localhost:8080/` and `curl localhost:8080/status`.
//! With `--features metrics`, `curl localhost:8080/metrics` has the figures for Prometheus.
//! `-- --requests 200` asks it 200 times at once itself, prints what that cost, and ends.
//!
//! The auth server and the API run in this process, on loopback, on free ports.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Responder, web};
use clap::Parser;
use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;
use tokenflight::source::ClientCredentials;
use tokenflight::{Token, TokenActor, TokenError, TokenHandle};

#[derive(Parser)]
struct Options {
    /// The service's port; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Ask the service so often at once, print the result, and end.
    #[arg(long)]
    requests: Option<usize>,
}

/// What each worker of the service has: its own HTTP client, and a handle to the one actor.
#[derive(Clone)]
struct Service {
    tokens: TokenHandle,
    client: reqwest::Client,
    api: String,
}

/// The handler: a token costs nothing while there is one, and one call for everybody when there is none.
async fn index(service: web::Data<Service>) -> impl Responder {
    match call(&service).await {
        Ok(Some(answer)) if answer.status().is_success() => {
            HttpResponse::Ok().body(answer.text().await.unwrap_or_default())
        }
        Ok(Some(answer)) => HttpResponse::BadGateway().body(format!("the api answered {}", answer.status())),
        Ok(None) => HttpResponse::BadGateway().body("the api could not be reached"),
        // Fails closed: no token, no request. The caller learns when it is worth coming back.
        Err(error) => {
            let wait = error.retry_after().unwrap_or_default().as_secs().max(1);
            HttpResponse::ServiceUnavailable()
                .insert_header(("Retry-After", wait.to_string()))
                .body(error.to_string())
        }
    }
}

/// One call of the API, repeated once if the API answers 401 to the token. `None` if it cannot be reached.
async fn call(service: &Service) -> Result<Option<reqwest::Response>, TokenError> {
    let send =
        |token: &Token| service.client.get(&service.api).header(AUTHORIZATION, token.authorization()).send();
    let token = service.tokens.get().await?;
    let mut answer = send(&token).await;
    if answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::UNAUTHORIZED) {
        let token = service.tokens.replace(&token).await?;
        answer = send(&token).await;
    }
    Ok(answer.ok())
}

async fn status(service: web::Data<Service>) -> impl Responder {
    match service.tokens.status().await {
        Ok(status) => HttpResponse::Ok().body(format!("{status:#?}\n")),
        Err(error) => HttpResponse::ServiceUnavailable().body(error.to_string()),
    }
}

#[actix_web::main]
async fn main() -> ExitCode {
    env_logger::init();
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let (third_party, auth_calls) = third_party()?;
    // Before the actor: what it measures goes to the recorder that is there when it starts.
    let figures = figures()?;

    let source = ClientCredentials::builder(format!("{third_party}/token"), "service", "s3cret").build()?;
    let tokens = TokenActor::builder(source).name("third-party").start()?;
    let service =
        Service { tokens: tokens.clone(), client: reqwest::Client::new(), api: format!("{third_party}/api") };

    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(service.clone()))
            .route("/", web::get().to(index))
            .route("/status", web::get().to(status))
            .configure(figures.clone())
    })
    .workers(4)
    .bind(("127.0.0.1", options.port))
    .map_err(|err| format!("cannot listen on port {}: {err}; --port takes another", options.port))?;
    let address = server.addrs()[0];
    eprintln!("listening on http://{address}/");
    let server = server.run();
    let stop = server.handle();

    if let Some(requests) = options.requests {
        let client = reqwest::Client::new();
        let asked = (0..requests).map(|_| client.get(format!("http://{address}/")).send());
        let running = actix_web::rt::spawn(server);
        let answers = futures_util::future::join_all(asked).await;
        let ok = answers.iter().flatten().filter(|answer| answer.status().is_success()).count();
        println!("{requests} requests, {ok} ok, {} auth calls", auth_calls.load(Ordering::Relaxed));
        stop.stop(true).await;
        running.await??;
        if ok < requests {
            return Err(format!("{} requests failed", requests - ok).into());
        }
    } else {
        server.await?;
    }
    tokens.shutdown().await;
    Ok(())
}

/// For Prometheus, the actor's figures and whatever else the process measures.
#[cfg(feature = "metrics")]
fn figures() -> Result<impl Fn(&mut web::ServiceConfig) + Clone, Box<dyn Error>> {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;
    Ok(move |app: &mut web::ServiceConfig| {
        let recorder = recorder.clone();
        app.route("/metrics", web::get().to(move || std::future::ready(recorder.render())));
    })
}

#[cfg(not(feature = "metrics"))]
#[allow(clippy::unnecessary_wraps)] // its twin may fail
fn figures() -> Result<impl Fn(&mut web::ServiceConfig) + Clone, Box<dyn Error>> {
    Ok(|_: &mut web::ServiceConfig| {})
}

/// The third party: an auth server that takes 100 ms, and an API that wants its token.
fn third_party() -> std::io::Result<(String, Arc<AtomicU32>)> {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = web::Data::from(Arc::clone(&calls));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(counter.clone())
            .route(
                "/token",
                web::post().to(async |calls: web::Data<AtomicU32>| {
                    calls.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    HttpResponse::Ok().json(
                        serde_json::json!({ "access_token": "abc", "token_type": "Bearer", "expires_in": 3600 }),
                    )
                }),
            )
            .route(
                "/api",
                web::get().to(async |request: HttpRequest| {
                    match request.headers().get(AUTHORIZATION.as_str()).map(|value| value.as_bytes() == b"Bearer abc") {
                        Some(true) => HttpResponse::Ok().body("hello from the api\n"),
                        _ => HttpResponse::Unauthorized().finish(),
                    }
                }),
            )
    })
    .workers(1)
    .disable_signals()
    .bind(("127.0.0.1", 0))?;
    let address = server.addrs()[0];
    actix_web::rt::spawn(server.run());
    Ok((format!("http://{address}"), calls))
}
