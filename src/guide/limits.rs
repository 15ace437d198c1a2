//! Limits and performance.
//!
//! # What a call costs
//!
//! | call | cost |
//! |---|---|
//! | [`current`](crate::TokenHandle::current), or [`get`](crate::TokenHandle::get) with a good token | a few atomic loads and one read of the clock; no lock, no message, no allocation |
//! | [`Token::authorization`](crate::Token::authorization) | the header's value is made once per token, and shared |
//! | a clone of a handle | one reference count |
//! | `get` without a usable token | one message for all callers together, and a place in a round for each caller |
//! | [`subscribe`](crate::TokenHandle::subscribe) | one message each |
//! | a refresh | one call to the source, on the actor's arbiter |
//!
//! **A worker closure** (`HttpServer::new(move || ..)`) runs once for each worker thread. A handle that it clones
//! costs a reference count. An actor that it *starts* costs a token and an auth call per worker. Therefore start
//! the actor outside.
//!
//! `benches/README.md` in the repository has the figures, with the command that makes each.
//!
//! # What it does not do
//!
//! - It does not get a user's consent. Log in with another library, and pass the refresh token to
//!   [`source::RefreshToken`](crate::source::RefreshToken).
//! - It does not check tokens: an API that receives tokens needs another library.
//! - It does not know the rules of an API: it has no rate limits, and retries no failure except a 401.
//! - The actor's arbiter must run. Do not block it: see the limits in the [crate's documentation](crate#what-it-cannot-promise).
//! - A `SharedSource` saves calls. It is not a lock: two processes may fetch at once, and both tokens are usable.
//! - An actor has one token. For many tokens use [`registry`](crate::registry), which is bounded by
//!   [`max_keys`](crate::registry::TokenRegistryBuilder::max_keys).
//!
//! # Its own limits
//!
//! | what | bound | setting |
//! |---|---|---|
//! | callers that wait | 65,536 | [`max_waiters`](crate::RefreshPolicy::max_waiters) |
//! | time of a caller | 30 s | [`wait_timeout`](crate::RefreshPolicy::wait_timeout) |
//! | calls for one flight | 3 | [`attempts`](crate::RefreshPolicy::attempts) |
//! | life of a token | 30 days | [`max_lifetime`](crate::RefreshPolicy::max_lifetime) |
