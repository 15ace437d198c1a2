//! Single-flight auth tokens for actix.

mod actor;
mod builder;
pub mod clock;
mod error;
mod flight;
mod handle;
mod human;
#[cfg(feature = "oauth2")]
mod oauth;
mod policy;
mod round;
mod slot;
pub mod source;
#[cfg(feature = "test-util")]
pub mod testing;
mod token;
#[cfg(feature = "oauth2")]
mod transport;

pub use actor::{GetStatus, GetToken, Invalidate, Refresh, Shutdown, Status, Subscribe, TokenActor, TokenReady};
pub use builder::TokenActorBuilder;
pub use error::{BuildError, SourceError, TokenError};
pub use flight::{Counters, FlightState};
pub use handle::TokenHandle;
pub use policy::RefreshPolicy;
pub use source::{FetchContext, Reason, TokenSource, source_fn};
pub use token::{Token, TokenType};
