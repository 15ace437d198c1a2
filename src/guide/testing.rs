//! How to test your actors and handlers.
//!
//! Feature `test-util` has the [tools](crate::testing). It is for the dev-dependencies:
//!
//! ```toml
//! [dev-dependencies]
//! tokenflight = { version = "0.1", features = ["test-util"] }
//! ```
//!
//! `examples/testing_your_actors` in the repository is an actor that fetches orders with a token, with its eight
//! tests. The tests take a fraction of a second, and none of them sleeps.
//!
//! # Code that takes a handle
//!
//! [`fixed_handle`](crate::testing::fixed_handle) has a token at once, and needs no actix System.
//! [`failing_handle`](crate::testing::failing_handle) has none. Therefore both paths of a function can be tested
//! without an auth server:
//!
//! ```
//! use tokenflight::testing::{failing_handle, fixed_handle};
//! use tokenflight::{SourceError, TokenHandle};
//!
//! async fn greeting(tokens: &TokenHandle) -> String {
//!     match tokens.get().await {
//!         Ok(token) => format!("calling with {}", token.secret()),
//!         Err(error) if error.is_rejected() => "ask the operator".to_owned(),
//!         Err(_) => "come back later".to_owned(),
//!     }
//! }
//!
//! # actix_rt::System::new().block_on(async {
//! assert_eq!(greeting(&fixed_handle("abc")?).await, "calling with abc");
//! let refused = failing_handle(SourceError::terminal("invalid_client"))?;
//! assert_eq!(greeting(&refused).await, "ask the operator");
//! let down = failing_handle(SourceError::transient("connection refused"))?;
//! assert_eq!(greeting(&down).await, "come back later");
//! # Ok::<(), tokenflight::BuildError>(())
//! # }).unwrap();
//! ```
//!
//! # Actors that subscribe
//!
//! Send the actor its answer. [`TokenReady`](crate::TokenReady) has a constructor, and
//! [`errors`](crate::testing::errors) has an error of each kind.
//!
//! ```
//! use actix::prelude::*;
//! use tokenflight::testing::errors;
//! use tokenflight::{Token, TokenReady};
//!
//! #[derive(Default)]
//! struct Door {
//!     is_open: bool,
//! }
//!
//! impl Actor for Door {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<TokenReady> for Door {
//!     type Result = ();
//!     fn handle(&mut self, ready: TokenReady, _: &mut Context<Self>) {
//!         self.is_open = ready.result.is_ok();
//!     }
//! }
//!
//! #[derive(Message)]
//! #[rtype(bool)]
//! struct IsOpen;
//!
//! impl Handler<IsOpen> for Door {
//!     type Result = bool;
//!     fn handle(&mut self, _: IsOpen, _: &mut Context<Self>) -> bool {
//!         self.is_open
//!     }
//! }
//!
//! # actix_rt::System::new().block_on(async {
//! let door = Door::default().start();
//! door.send(TokenReady::new(0, Ok(Token::new("abc")))).await?;
//! assert!(door.send(IsOpen).await?);
//! door.send(TokenReady::new(0, Err(errors::stopped()))).await?;
//! assert!(!door.send(IsOpen).await?);
//! # Ok::<(), MailboxError>(())
//! # }).unwrap();
//! ```
//!
//! # Time
//!
//! A token actor uses two kinds of time: tokio's timers, and the clock by which a token ends.
//!
//! | the test uses | time | how it moves |
//! |---|---|---|
//! | no socket: a [`ScriptedSource`](crate::testing::ScriptedSource) | [`paused`](crate::testing::paused) | `tokio::time::sleep` and `tokio::time::advance` move both |
//! | sockets: a [`FakeAuthServer`](crate::testing::FakeAuthServer) | [`ManualClock::new`](crate::testing::ManualClock::new) | [`suspend`](crate::testing::ManualClock::suspend) moves the token's time; tokio's goes on by itself |
//!
//! An actor in paused time with the machine's clock would never see its token expire. Therefore it does not start,
//! and the error names the field `clock`. If tokio's time is paused after the start, the next flight fails with the
//! same text.
//!
//! ```
//! use std::time::Duration;
//! use tokenflight::testing::{Answer, ScriptedSource, paused};
//! use tokenflight::{SourceError, TokenActor};
//!
//! # actix_rt::System::new().block_on(async {
//! let clock = paused();
//! let source = ScriptedSource::new();
//! let tokens = TokenActor::builder(source.clone()).clock(clock).start()?;
//! let old = tokens.get().await?;
//!
//! // The auth server is down when the token ends. Callers get an error, and later a token.
//! source.then_times(3, &Answer::Error(SourceError::transient("connection refused")));
//! tokio::time::sleep(Duration::from_secs(3_600)).await;
//! assert!(tokens.get().await.unwrap_err().is_unavailable());
//! tokio::time::sleep(Duration::from_secs(10)).await; // the longest cooldown
//! assert!(!tokens.get().await?.is_same(&old));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # A 401
//!
//! A [`FakeAuthServer`](crate::testing::FakeAuthServer) is an auth server, and also an API that accepts this
//! server's tokens. [`revoke`](crate::testing::FakeAuthServer::revoke) makes the API answer 401;
//! [`wait_for`](crate::testing::FakeAuthServer::wait_for) waits until the token endpoint was called, without
//! polling. A token younger than [`settle`](crate::RefreshPolicy::settle) is not replaced, so move the clock
//! forward first:
//!
//! ```
//! use std::time::Duration;
//! use tokenflight::TokenActor;
//! use tokenflight::oauth::Client;
//! use tokenflight::testing::{FakeAuthServer, ManualClock};
//!
//! # actix_rt::System::new().block_on(async {
//! let (server, clock) = (FakeAuthServer::start().await?, ManualClock::new());
//! let client = Client::builder(server.url(), "orders").secret("s3cret").build()?;
//! let tokens = TokenActor::builder(client.client_credentials().build()?).clock(clock.clone()).start()?;
//! let token = tokens.get().await?;
//!
//! clock.suspend(Duration::from_secs(10));
//! server.revoke(token.secret());
//! let http = reqwest::Client::new();
//! let ask = |token: &tokenflight::Token| {
//!     http.get(server.api_url()).header("authorization", token.authorization()).send()
//! };
//! assert_eq!(ask(&token).await?.status(), 401);
//! let next = tokens.replace(&token).await?;
//! assert_eq!(ask(&next).await?.status(), 200);
//! server.wait_for(2).await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Several actors
//!
//! A `seed` makes jitter repeatable: [`seed`](crate::TokenActorBuilder::seed). With
//! [`FetchContext::new`](crate::FetchContext::new) a test calls your own source directly, without an actor.
