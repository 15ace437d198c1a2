//! The guide: from a provider's settings to a service in production. This module has text only. Its programs are
//! compiled.
//!
//! - [`providers`]: the source for each provider, with its settings file.
//! - [`service`]: where the actor starts, shutdown, several HTTP libraries, rotation of secrets, tenants, fleets.
//! - [`rejections`]: when to call `replace`, when `invalidate`, when neither; `settle` and the budget.
//! - [`testing`]: how to test your actors and handlers, in virtual time and without an auth server.
//! - [`migration`]: from a mutex, from oauth2-rs, from aliri.
//! - [`limits`]: the cost of a read, the cost of a worker closure, and what the crate does not do.
//!
//! Questions, and the chapters with the answers:
//!
//! | question | answer |
//! |---|---|
//! | When must I not call `invalidate`? | [`rejections`] |
//! | When is a report refused? How are `settle` and the budget tuned? | [`rejections`] |
//! | Is there a token before the first caller? | [`service`]: not by default |
//! | Where do I start the actor in actix-web? | [`service`]: before `HttpServer::new`, once for each process |
//! | How do I rotate the client secret? | [`service`]: write the file |
//! | What do I do with awc's http 0.2, with reqwest 0.12, with another rustls provider? | [`service`] |
//! | What does a worker closure cost? | [`limits`] |
//! | How do I test code that uses a handle? | [`testing`] |
//! | How are alerts written? | `docs/operations.md` in the repository has them, with their tests |

pub mod limits;
pub mod migration;
pub mod providers;
pub mod rejections;
pub mod service;
#[cfg(feature = "test-util")]
pub mod testing;
