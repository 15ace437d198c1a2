//! A service: where the actor starts, how it ends, and what changes while it runs.
//!
//! # One actor for each process
//!
//! Start the actor before the HTTP server, and clone its handle into the workers. An actor that each worker starts for itself
//! makes one auth call for each worker. The recorder of metrics is installed before the actor.
//!
#![cfg_attr(feature = "actix-web", doc = "```no_run")]
#![cfg_attr(not(feature = "actix-web"), doc = "```ignore")]
//! use actix_web::{App, HttpResponse, HttpServer, web};
//! use tokenflight::middleware::reqwest::{BearerAuth, SendWith};
//! use tokenflight::source::SourceSettings;
//! use tokenflight::{TokenActor, TokenError, TokenHandle};
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let settings = std::fs::read_to_string("source.json")?;
//!     let source = serde_json::from_str::<SourceSettings>(&settings)?.build()?;
//!     let tokens = TokenActor::builder(source).name("orders").start()?;      // here, once
//!     let auth = BearerAuth::builder(&tokens).allow("https://api.example.com").build()?;
//!     let client = reqwest::Client::new();
//!
//!     let for_workers = (tokens.clone(), auth, client);
//!     HttpServer::new(move || {
//!         let (tokens, auth, client) = for_workers.clone();                   // for each worker: reference counts
//!         App::new()
//!             .app_data(web::Data::new(tokens))
//!             .app_data(web::Data::new(auth))
//!             .app_data(web::Data::new(client))
//!             .route("/orders", web::get().to(orders))
//!             .route("/ready", web::get().to(ready))
//!             .route("/status", web::get().to(status))
//!     })
//!     .bind("127.0.0.1:8080")?
//!     .run()
//!     .await?;                                                                // until SIGTERM
//!     tokens.shutdown().await;                                                // after the server
//!     Ok(())
//! }
//!
//! async fn orders(auth: web::Data<BearerAuth>, client: web::Data<reqwest::Client>) -> HttpResponse {
//!     match client.get("https://api.example.com/orders").send_with(&auth).await {
//!         Ok(answer) if answer.status().is_success() => HttpResponse::Ok().finish(),
//!         _ => HttpResponse::BadGateway().finish(),
//!     }
//! }
//!
//! /// With feature `actix-web` a `TokenError` is an answer: 503 with `Retry-After`, or 502.
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
//! `examples/actix_web_service` is the whole of it, with metrics.
//!
//! # Is there a token before anybody asks?
//!
//! No. The first caller starts the first call. To have a token at the start, await [`get`](crate::TokenHandle::get) before the server
//! takes requests. To have one always, set [`background`](crate::RefreshPolicy::background): the actor refreshes by itself.
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
//! new one there. The next attempt reads it. A file that cannot be read is a WARN, and the old contents stay in use. A secret from the
//! environment cannot change while the process runs. A secret store of your own is asked for each request by
//! [`secret_fn`](crate::oauth::ClientBuilder::secret_fn).
//!
//! # Tenants
//!
//! A token for each of many keys is the [`registry`](crate::registry)'s. Do not start an actor for each tenant: nothing would limit
//! their number and their calls.
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
//! Fifty processes make fifty auth calls for each token life. [`SharedSource`](crate::source::SharedSource) makes one. Use it if the
//! auth server limits calls, or bills them, or if all processes start at once. A handful of processes needs no store.
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
//!   call `replace` after a 401. The value is of `http` 1, as in reqwest 0.12. It is marked sensitive: keep it so.
//! - **awc speaks `http` 0.2**: its middleware converts. By hand: `request.insert_header(("authorization", token.authorization().as_bytes()))`.
//! - **another provider for rustls** (ring): use feature `rustls-no-provider` instead of `rustls`, and call the provider's
//!   `install_default()` first in `main`. Without it `build()` returns an error that says so. With two providers compiled in, rustls
//!   chooses none by itself.
