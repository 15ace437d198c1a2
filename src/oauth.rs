//! OAuth 2: one client at one authorization server, and its grants, which get tokens (RFC 6749).
//!
//! A [`Client`] finds the server (by [discovery](Client::builder) or a token URL), proves the client's identity
//! ([`ClientAuth`]), and owns the connections. All sources of one client share it.
//!
//! ```
//! use tokenflight::TokenActor;
//! use tokenflight::oauth::Client;
//!
//! # actix_rt::System::new().block_on(async {
//! let client = Client::builder("https://auth.example.com/token", "my-app").secret("s3cret").build()?;
//! let orders = client.client_credentials().scope("orders.read orders.write").build()?;
//! let stock = client.client_credentials().scope("stock.read").build()?;
//!
//! let orders = TokenActor::builder(orders).start()?; // one actor per source
//! let stock = TokenActor::builder(stock).start()?;
//! # let _ = (orders, stock);
//! # Ok::<(), tokenflight::BuildError>(())
//! # }).unwrap();
//! ```
//!
//! # The file of each rule
//!
//! | file | rule |
//! |---|---|
//! | `oauth/client.rs`, `oauth/builder.rs` | one client: its settings, one request |
//! | `oauth/client_auth.rs`, `oauth/assertion.rs` | how the client proves its identity |
//! | `oauth/discovery.rs` | where the server's endpoint is, and what the server offers |
//! | `oauth/grant.rs`, `oauth/params.rs` | the settings common to all grants |
//! | `oauth/keyed.rs` | a separate request for each key of a registry |
//! | `source/client_credentials.rs`, `source/token_exchange.rs`, `source/jwt_bearer.rs` | one grant each |
//! | `oauth/rotation.rs`, `source/refresh_token.rs` | the order of the steps when a refresh token is used; the grant that performs them |
//! | `oauth/response.rs`, `oauth/error.rs` | the meaning of an answer |
//! | `oauth/jws.rs` | signatures |
//! | `oauth/dpop.rs`, `oauth/dpop/` | tokens that are bound to a key (feature `dpop`) |
//!
//! # Tolerated deviations
//!
//! Deviations of servers from the standard, and their treatment. Any other deviation is an error with a reason.
//!
//! | the server | the meaning |
//! |---|---|
//! | leaves out `token_type`, or says `BearerToken`, `Application Access Token`, `jwt` | `Bearer`; see [`GrantBuilder::token_type`] |
//! | writes `expires_in` in quotes, or with a fraction | seconds, rounded down |
//! | writes an `expires_in` that is no number | WARN, and the policy's `missing_lifetime` |
//! | leaves out `expires_in` | the policy's `missing_lifetime`; a JWT's `exp` is used |
//! | writes `scope` as a list, or with commas | the scopes in it |
//! | grants fewer scopes than requested | WARN; an error with [`GrantBuilder::require_scopes`] |
//! | writes an `error` beside a token that is `false`, `0`, `""`, `[]`, `{}` or `null`, also as a text, or `none`, `ok`, `success`, `no_error` | a success |
//! | answers 200 with an `error` | the same as a 400 |
//! | writes white space or `Bearer ` around the token | cut off |
//! | begins the JSON with a byte order mark, or states another content type | accepted |
//! | writes a byte that is no UTF-8 into the JSON | replaced by `U+FFFD` |
//! | writes its error in another field (`message`, `error.message`, `detail`) | quoted, if it contains no secret |
//! | writes `Retry-After` with a fraction | rounded up |
//! | answers 403 or another refusal without an OAuth code, but with `Retry-After` | transient |

mod assertion;
mod builder;
mod certificate;
pub(crate) mod claims;
mod client;
mod client_auth;
mod discovery;
#[cfg(feature = "dpop")]
pub(crate) mod dpop;
#[cfg(not(feature = "dpop"))]
#[path = "oauth/no_dpop.rs"]
pub(crate) mod dpop;
mod error;
mod grant;
pub(crate) mod jws;
mod key_source;
#[cfg(feature = "registry")]
mod keyed;
mod limit;
mod params;
mod response;
pub(crate) mod rotation;
#[cfg(all(test, feature = "test-util"))]
mod tests;

pub use assertion::{Audience, Preset};
pub use builder::ClientBuilder;
pub use certificate::Certificate;
pub use client::Client;
pub(crate) use client::Once;
pub use client_auth::ClientAuth;
#[cfg(feature = "dpop")]
pub use dpop::DpopKey;
pub use error::OAuthError;
pub use grant::{GrantBuilder, GrantSource};
pub use jws::{Algorithm, PrivateKey};
#[cfg(feature = "registry")]
pub use keyed::{AnyClient, KeyedGrant};

pub(crate) use assertion::Claims;
#[cfg(any(test, fuzzing))]
pub(crate) use discovery::Discovery;
pub(crate) use grant::Grant;
pub(crate) use jws::{Header, SigningKey};
pub(crate) use key_source::{KeyOrigin, KeySource};
pub(crate) use limit::Limit;
pub(crate) use params::{Expected, GrantSettings, client_and_grant};
pub(crate) use response::{NextRefreshToken, TokenResponse};
