//! A service as in production: settings from one TOML file and the environment, which also select the source of the
//! tokens, `/metrics`, `/ready`, `/live`, and a SIGTERM after which all callers are answered.
//!
//! `cargo run --example actix_web_service --features actix-web,metrics -- service.toml` serves. `-- --demo 200`
//! starts an auth server and an API on loopback, sends 200 requests to itself, prints their cost, and ends.
//! `examples/actix_web_service/service.toml` shows the settings.

mod demo;

use std::error::Error;
use std::process::ExitCode;

use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::Deserialize;
use tokenflight::middleware::reqwest::{BearerAuth, SendWith, same_origin_redirects};
use tokenflight::middleware::{BearerAuthSettings, SendError};
use tokenflight::source::{BoxSource, ClientCredentialsBuilder, JsonEndpointBuilder};
use tokenflight::{BuildError, RefreshPolicy, TokenActor, TokenError, TokenHandle};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    listen: String,
    /// The API's origin.
    api: String,
    token: Source,
    /// Who may have the token beside the API, and whether in clear.
    #[serde(default)]
    auth: BearerAuthSettings,
    #[serde(default)]
    policy: RefreshPolicy,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    ClientCredentials(Box<ClientCredentialsBuilder>),
    JsonEndpoint(Box<JsonEndpointBuilder>),
}

impl Source {
    fn build(self) -> Result<BoxSource, BuildError> {
        Ok(match self {
            Self::ClientCredentials(source) => BoxSource::new(source.build()?),
            Self::JsonEndpoint(source) => BoxSource::new(source.build()?),
        })
    }
}

impl Settings {
    fn read(text: &str) -> Result<Self, Box<dyn Error>> {
        // The error as a whole shows the line at fault, and a secret may stand there.
        let shown = |error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            format!("line {line}: {}", error.message())
        };
        let mut settings: Self = toml::from_str(text).map_err(shown)?;
        for (name, setting) in [("SERVICE_LISTEN", &mut settings.listen), ("SERVICE_API", &mut settings.api)]
        {
            if let Ok(value) = std::env::var(name) {
                *setting = value;
            }
        }
        Ok(settings)
    }
}

/// What the handlers share.
#[derive(Clone)]
struct Service {
    tokens: TokenHandle,
    auth: BearerAuth,
    client: reqwest::Client,
    api: String,
    figures: PrometheusHandle,
}

type Shared = web::Data<Service>;

/// Passes on what the API answers. Without a token it is 503 with `Retry-After`, or 502 where the settings are wrong.
async fn orders(service: Shared) -> Result<HttpResponse, SendError<reqwest::Error>> {
    let request = service.client.get(format!("{}/orders", service.api));
    let answer = request.send_with(&service.auth).await?;
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    Ok(HttpResponse::build(status).body(answer.bytes().await.map_err(SendError::Client)?))
}

/// Ready when a token is there or can be had.
async fn ready(service: Shared) -> Result<&'static str, TokenError> {
    service.tokens.get().await.map(|_| "ready\n")
}

async fn run(settings: Settings, demo: Option<usize>) -> Result<(), Box<dyn Error>> {
    // Before the actor: what it measures goes to the recorder that is there when it starts.
    let figures = PrometheusBuilder::new().install_recorder()?;
    let builder = TokenActor::builder(settings.token.build()?).policy(settings.policy).name("orders");
    let tokens = builder.start()?;
    let api = settings.api.trim_end_matches('/').to_owned();
    let auth =
        settings.auth.builder(&tokens).allow(&api).build().map_err(|error| format!("`api`: {error}"))?;
    let client = reqwest::Client::builder().redirect(same_origin_redirects()).build()?;
    let service = Service { tokens: tokens.clone(), auth, client, api, figures };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(service.clone()))
            .route("/orders", web::get().to(orders))
            .route("/ready", web::get().to(ready))
            .route("/live", web::get().to(async || "alive\n"))
            .route("/metrics", web::get().to(async |service: Shared| service.figures.render()))
    })
    .bind(&settings.listen)
    .map_err(|error| format!("`listen` is {:?}: {error}", settings.listen))?;
    let address = server.addrs()[0];
    eprintln!("listening on http://{address}/");
    // SIGTERM ends the server when its requests are answered, and only then the actor.
    let server = server.run();
    if let Some(requests) = demo {
        let stop = server.handle();
        actix_web::rt::spawn(demo::ask(address, requests, stop));
    }
    server.await?;
    tokens.shutdown().await;
    Ok(())
}

#[actix_web::main]
async fn main() -> ExitCode {
    env_logger::init();
    let outcome = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [flag, requests] if flag == "--demo" => demo::run(requests).await,
        [file] => serve(file).await,
        _ => Err("give the file of settings, or --demo and a number of requests".into()),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn serve(file: &str) -> Result<(), Box<dyn Error>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    run(Settings::read(&text).map_err(|error| format!("{file}, {error}"))?, None).await
}
