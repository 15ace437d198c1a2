//! From a hand-written mutex, from oauth2-rs, from aliri.
//!
//! # From a mutex around a token
//!
//! ```text
//! let mut cached = CACHE.lock().await;              // all wait here while one fetches,
//! if cached.expires_at < Instant::now() {           // a failure is repeated by each of them,
//!     *cached = fetch().await?;                     // and a caller who goes away ends the fetch
//! }
//! ```
//!
//! The body of `fetch` becomes a source, and the mutex is removed:
//!
//! ```
//! use std::time::Duration;
//! use tokenflight::{SourceError, Token, TokenActor, source_fn};
//!
//! async fn fetch() -> Result<(String, u64), std::io::Error> {
//!     Ok(("abc".to_owned(), 3600)) // your code
//! }
//!
//! # actix_rt::System::new().block_on(async {
//! let source = source_fn(|_cx| async {
//!     let (secret, seconds) = fetch().await.map_err(SourceError::transient)?;
//!     Ok(Token::new(secret).with_lifetime(Duration::from_secs(seconds)))
//! });
//! let tokens = TokenActor::builder(source).start()?;
//! assert_eq!(tokens.get().await?.secret(), "abc");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Remove your own margins and retries: they are in [`RefreshPolicy`](crate::RefreshPolicy). Use
//! [`SourceError::terminal`](crate::SourceError::terminal) if a retry cannot help, for example after a wrong
//! secret.
//!
//! # From oauth2-rs
//!
//! oauth2-rs makes one request and leaves its result to you. Keep it for logins with a browser. For tokens of the service itself:
//!
//! | oauth2-rs | here |
//! |---|---|
//! | `BasicClient::new(ClientId::new(id)).set_client_secret(..).set_token_uri(..)` | [`oauth::Client::with_token_url`](crate::oauth::Client::with_token_url)`(url, id).secret(..)` |
//! | `set_auth_type(AuthType::RequestBody)` | [`auth_method`](crate::oauth::ClientBuilder::auth_method), `"client_secret_post"` in a file |
//! | `exchange_client_credentials().add_scope(..)` | [`client_credentials()`](crate::oauth::Client::client_credentials)`.scope(..)` |
//! | `exchange_refresh_token(..)` | [`refresh_token(vault)`](crate::oauth::Client::refresh_token), which also keeps the next one |
//! | `request_async(&http_client)` | [`TokenHandle::get`](crate::TokenHandle::get) |
//! | `RequestTokenError::ServerResponse` | [`TokenError::cause`](crate::TokenError::cause)`::<`[`OAuthError`](crate::oauth::OAuthError)`>()` |
//!
//! After a login with oauth2-rs, pass its refresh token to a source:
//!
//! ```
//! use tokenflight::oauth::Client;
//! use tokenflight::vault::MemoryVault;
//!
//! let refresh_token = "from the login"; // response.refresh_token().unwrap().secret()
//! let client = Client::with_token_url("https://auth.example.com/token", "my-app").secret("s3cret").build()?;
//! let source = client.refresh_token(MemoryVault::new()).login(refresh_token).build()?; // `FileVault` outlives the process
//! # let _ = source;
//! # Ok::<(), tokenflight::BuildError>(())
//! ```
//!
//! # From aliri
//!
//! | aliri_tokens | here |
//! |---|---|
//! | a `TokenWatcher`, spawned from a source | [`TokenActor::builder`](crate::TokenActor::builder) with [`background`](crate::RefreshPolicy::background) |
//! | `watcher.token()` (borrows) | [`current`](crate::TokenHandle::current) (no guard that could be held over an await), or [`get`](crate::TokenHandle::get), which waits |
//! | `watcher.watch(..)` | [`watch`](crate::TokenHandle::watch) |
//! | jitter and backoff of the spawned task | [`RefreshPolicy`](crate::RefreshPolicy) |
//! | an `AsyncTokenSource` of your own | [`TokenSource`](crate::TokenSource) |
//!
//! The new parts are the handling of a 401 ([`rejections`](super::rejections)), and errors for the waiting callers.
