//! Tools for tests: handles with or without a token, time that the test moves, a source and a server under the
//! test's control. Feature `test-util`.
//!
//! | a test needs | tool |
//! |---|---|
//! | a handle with a token, and nothing else | [`fixed_handle`] |
//! | a handle without a token | [`failing_handle`] |
//! | an error of a certain kind | [`errors`] |
//! | hours of virtual time | [`paused`]; [`ManualClock`] if sockets are used |
//! | control of the source's answers and their time | [`ScriptedSource`] |
//! | an auth server, and an API that accepts its tokens | [`FakeAuthServer`] |
//! | a cloud's metadata server, GitHub, Vault | `fakes` |
//!
//! The [guide](crate::guide::testing) shows an example program with its tests.
//!
//! With tokio's time paused, no test waits in real time, and every ready task has run when a sleep ends:
//!
//! ```
//! use std::time::Duration;
//! use tokenflight::TokenActor;
//! use tokenflight::testing::{ScriptedSource, paused};
//!
//! actix_rt::System::new().block_on(async {
//!     let clock = paused();
//!     let source = ScriptedSource::new().taking(Duration::from_millis(60));
//!     let handle = TokenActor::builder(source.clone()).clock(clock).start()?;
//!
//!     let (one, other) = tokio::join!(handle.get(), handle.get());
//!     assert_eq!(one.unwrap().secret(), "token-1");
//!     assert_eq!(other.unwrap().secret(), "token-1");
//!
//!     tokio::time::sleep(Duration::from_secs(3600)).await; // the default lifetime
//!     assert!(handle.current().is_none());
//!     assert_eq!(handle.get().await.unwrap().secret(), "token-2");
//!     assert_eq!(source.calls(), 2);
//!     Ok::<(), tokenflight::BuildError>(())
//! }).unwrap();
//! ```

mod api;
mod clock;
pub mod errors;
#[cfg(feature = "http")]
pub mod fakes;
mod handles;
#[cfg(feature = "oauth2")]
pub mod hostile;
mod reply;
mod request;
mod server;
mod source;

pub use clock::{ManualClock, paused};
pub use handles::{failing_handle, fixed_handle};
pub use reply::{Asked, Reply};
pub use server::FakeAuthServer;
pub use source::{Answer, ScriptedSource};
