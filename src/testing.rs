//! For tests: time that you move, a source that does what you say. Feature `test-util`.
//!
//! With tokio's time paused, nothing waits for real and everything that can run has run when a sleep ends:
//!
//! ```
//! use std::time::Duration;
//! use tokenflight::testing::{ManualClock, ScriptedSource};
//! use tokenflight::TokenActor;
//!
//! actix_rt::System::new().block_on(async {
//!     tokio::time::pause();
//!     let source = ScriptedSource::new().taking(Duration::from_millis(60));
//!     let handle = TokenActor::builder(source.clone()).clock(ManualClock::new()).start()?;
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

mod clock;
#[cfg(feature = "http")]
pub mod fakes;
#[cfg(feature = "oauth2")]
pub mod hostile;
mod server;
mod source;

pub use clock::ManualClock;
pub use server::{Asked, FakeAuthServer, Reply};
pub use source::{Answer, ScriptedSource};
