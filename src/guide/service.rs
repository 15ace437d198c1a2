//! A service: where to start the actor, how to end it, and what may change while it runs.
//!
//! # One actor per process
//!
//! Start the actor before the HTTP server, and clone its handle into the workers. If each worker starts its own
//! actor, each worker makes its own auth calls.
//!
//! ```toml
//! [dependencies]
//! tokenflight = { version = "0.1", features = ["actix-web", "metrics"] }
//! actix-web = "4"
//! metrics-exporter-prometheus = { version = "0.18", default-features = false }   # for `metrics` 0.24, as this crate
//! reqwest = { version = "0.13", default-features = false }
//! serde = { version = "1", features = ["derive"] }
//! toml = "0.9"
//! ```
//!
//! One file has the source of the tokens, the refresh policy, and the allowed origins. Another source needs another
//! file and a restart, and no build. Paths in the file are relative to the working directory.
//!
//! ```toml
//! [source]
//! kind = "client_credentials"
//! token_url = "https://auth.example.com/token"
//! client_id = "orders"
//! client_secret = { file = "/run/secrets/orders" }
//!
//! [policy]
//! refresh_ahead = "1m"
//!
//! [auth]
//! allow = "https://api.example.com"
//! ```
//!
#![cfg_attr(feature = "actix-web", doc = "```no_run")]
#![cfg_attr(not(feature = "actix-web"), doc = "```ignore")]
//! use actix_web::{App, HttpResponse, HttpServer, web};
//! use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
//! use tokenflight::middleware::reqwest::{BearerAuth, SendWith, same_origin_redirects};
//! use tokenflight::middleware::{BearerAuthSettings, SendError};
//! use tokenflight::source::SourceSettings;
//! use tokenflight::{RefreshPolicy, TokenActor, TokenError, TokenHandle};
//!
//! #[derive(serde::Deserialize)]
//! struct Settings {
//!     source: SourceSettings,
//!     #[serde(default)]
//!     policy: RefreshPolicy,
//!     auth: BearerAuthSettings,
//! }
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let file = std::fs::read_to_string("service.toml")?;
//!     // Without the text of the file, which may hold a secret.
//!     let settings: Settings = toml::from_str(&file).map_err(|error| error.message().to_owned())?;
//!     let figures = PrometheusBuilder::new().install_recorder()?;             // before the actor
//!     let builder = TokenActor::builder(settings.source.build()?).policy(settings.policy);
//!     let tokens = builder.name("orders").start()?;                           // here, once
//!     let auth = settings.auth.builder(&tokens).build()?;
//!     let client = reqwest::Client::builder().redirect(same_origin_redirects()).build()?;
//!
//!     let for_workers = (tokens.clone(), auth, client, figures);
//!     HttpServer::new(move || {
//!         let (tokens, auth, client, figures) = for_workers.clone();          // for each worker: reference counts
//!         App::new()
//!             .app_data(web::Data::new(tokens))
//!             .app_data(web::Data::new(auth))
//!             .app_data(web::Data::new(client))
//!             .app_data(web::Data::new(figures))
//!             .route("/orders", web::get().to(orders))
//!             .route("/ready", web::get().to(ready))
//!             .route("/status", web::get().to(status))
//!             .route("/metrics", web::get().to(metrics))
//!     })
//!     .bind("127.0.0.1:8080")?
//!     .run()
//!     .await?;                         // until SIGTERM, and until the requests are answered (30 s, `shutdown_timeout`)
//!     tokens.shutdown().await;                                                // after the server
//!     Ok(())
//! }
//!
//! /// With feature `actix-web` a `SendError` and a `TokenError` are answers: 503 with `Retry-After`, or 502.
//! async fn orders(
//!     auth: web::Data<BearerAuth>,
//!     client: web::Data<reqwest::Client>,
//! ) -> Result<HttpResponse, SendError<reqwest::Error>> {
//!     let answer = client.get("https://api.example.com/orders").send_with(&auth).await?;
//!     Ok(HttpResponse::Ok().body(answer.bytes().await.map_err(SendError::Client)?))
//! }
//!
//! async fn metrics(figures: web::Data<PrometheusHandle>) -> String {
//!     figures.run_upkeep();
//!     figures.render()
//! }
//!
//! async fn ready(tokens: web::Data<TokenHandle>) -> Result<&'static str, TokenError> {
//!     tokens.get().await.map(|_| "ready")
//! }
//!
//! /// For operators only.
//! async fn status(tokens: web::Data<TokenHandle>) -> Result<HttpResponse, TokenError> {
//!     Ok(HttpResponse::Ok().json(tokens.status().await?))
//! }
//! ```
//!
//! `examples/actix_web_service` is a similar, larger program, with settings of its own.
//!
//! This `/ready` requests a token. It fails in each process while the auth server is down and no token is usable. It may take
//! [`wait_timeout`](crate::RefreshPolicy::wait_timeout) (30 s). It keeps a token fresh even if no request uses it. If your probes
//! give up sooner, use [`current`](crate::TokenHandle::current) there, which never waits, and set
//! [`background`](crate::RefreshPolicy::background).
//!
//! # Is there a token before the first caller?
//!
//! No. The first caller starts the first call. If you need a token at the start, await [`get`](crate::TokenHandle::get) before the server
//! accepts requests. If you need a token at all times, set [`background`](crate::RefreshPolicy::background): the actor refreshes by itself.
//!
//! # Without actix
//!
//! [`spawn_thread`](crate::TokenActorBuilder::spawn_thread) gives the actor a thread. Its handle works in any async runtime.
//!
//! ```
//! use tokenflight::{Token, TokenActor, source_fn};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source = source_fn(|_cx| async { Ok(Token::new("abc")) });
//! let tokens = TokenActor::builder(source).spawn_thread()?;
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! assert_eq!(runtime.block_on(async { tokens.get().await })?.secret(), "abc");
//! runtime.block_on(tokens.shutdown());
//! # Ok(())
//! # }
//! ```
//!
//! # Rotation of secrets without a restart
//!
//! Give the secret, the key or the certificate as a file: `{ file = "/run/secrets/x" }`,
//! [`secret_file`](crate::oauth::ClientBuilder::secret_file), [`private_key_file`](crate::oauth::ClientBuilder::private_key_file). Write the
//! new secret there **before** the server stops accepting the old one. The next attempt reads it. In the other order a refresh
//! between the two steps is refused, and the next attempt comes after the `terminal_cooldown` (5 s, and up to half longer). A file
//! that cannot be read is a WARN, and the old contents stay in use. A secret from the environment cannot change while the process
//! runs. For your own secret store use [`secret_fn`](crate::oauth::ClientBuilder::secret_fn), which is called for each request.
//!
//! # Tenants
//!
//! Use the [`registry`](crate::registry) for a token for each of many keys. Do not start an actor for each tenant: nothing would limit
//! the number of actors and calls.
//!
//! ```
//! use tokenflight::registry::TokenRegistry;
//! use tokenflight::{FetchContext, Token};
//!
//! # actix_rt::System::new().block_on(async {
//! let source = |tenant: String, _cx: FetchContext| async move { Ok(Token::new(format!("for-{tenant}"))) };
//! let tokens = TokenRegistry::builder(source).max_keys(50_000).start()?;
//! assert_eq!(tokens.get(&"acme".to_owned()).await?.secret(), "for-acme");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Fleets
//!
//! Fifty processes make fifty auth calls per token life. With [`SharedSource`](crate::source::SharedSource) they make one. Use it if the
//! auth server limits or bills calls, or if all processes start at once. A few processes need no store.
//!
//! ```no_run
//! use tokenflight::TokenActor;
//! use tokenflight::source::{ClientCredentials, SealKey, SharedSource};
//! use tokenflight::store::RedisStore;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let fetches = ClientCredentials::builder("https://auth.example.com/token", "id", "s3cret").build()?;
//! let source = SharedSource::builder("orders")
//!     .key(SealKey::from_hex("2026-11", &std::env::var("SEAL_KEY")?)?)   // openssl rand -hex 32
//!     .build(fetches, RedisStore::builder("rediss://redis.internal").build()?)?;
//! let tokens = TokenActor::builder(source).start()?;
//! # Ok(())
//! # }
//! ```
//!
//! # HTTP libraries
//!
//! - **reqwest 0.13, reqwest-middleware, tower (hyper, tonic), awc**: [`middleware`](crate::middleware).
//! - **reqwest 0.12, ureq, anything else**: put [`Token::authorization`](crate::Token::authorization) on the request by yourself, and
//!   call `replace` after a 401. The value is of `http` 1, as in reqwest 0.12. It is marked sensitive: keep the mark.
//! - **awc uses `http` 0.2**: its middleware converts. By hand: `request.insert_header(("authorization", token.authorization().as_bytes()))`.
//! - **another provider for rustls** (ring): `default-features = false, features = ["oauth2", "rustls-no-provider"]`, and call the provider's
//!   `install_default()` first in `main`. Without it `build()` returns an error that says so. If two providers are compiled in, rustls
//!   chooses none by itself.
