//! Single-flight auth tokens for actix applications.
//!
//! A service calls an API with a bearer token. The token expires while a hundred requests are under way, and
//! each of them calls the auth server. With this crate the **first** one starts **one** refresh, all others wait
//! for it, and each waiter is answered **exactly once**.
//!
//! ```
//! use std::time::Duration;
//! use tokenflight::{Token, TokenActor, source_fn};
//!
//! # actix_rt::System::new().block_on(async {
//! let source = source_fn(|_cx| async {
//!     Ok(Token::new("s3cret").with_lifetime(Duration::from_secs(3600)))
//! });
//! let tokens = TokenActor::builder(source).start()?;
//!
//! let (one, other) = tokio::join!(tokens.get(), tokens.get()); // one call to the source
//! assert_eq!(one?.authorization(), "Bearer s3cret");
//! assert_eq!(other?.secret(), "s3cret");
//!
//! let status = tokens.status().await?;
//! assert_eq!(status.counters.attempts, 1);
//! tokens.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # What happens when a token expires
//!
//! 1. A caller reads the [slot](TokenHandle::current): a snapshot that the actor published. It needs no lock and no
//!    message. If nothing usable is there:
//! 2. The caller sits down in the *round* that is open, or opens one and sends the actor a single message. An
//!    actor [subscribes](Subscribe) instead, and has a *ticket*.
//! 3. The actor gives the event to the *machine*, which knows every rule and does no I/O. If no flight is under way and
//!    no cooldown runs, the machine says "fetch".
//! 4. The actor calls the [source](TokenSource), inside its own context. A caller who goes away does not end that call.
//! 5. The machine judges the result. A token: publish it, end the flight, tell everybody, oldest first. A
//!    failure: pause and try again; or end the flight, tell everybody the same error, and begin a cooldown in
//!    which callers get it at once.
//!
//! # What happens after a 401
//!
//! A *report* names the token: [`replace`](TokenHandle::replace) for a client that repeats its request,
//! [`invalidate`](TokenHandle::invalidate) for a handler that gets a token anew, [`discard`](TokenHandle::discard) for a
//! token that is compromised. It starts at most one refresh, within a budget, and withholds the token for at most 1 s. If the source
//! gives out the same token again, that token stays in use. `docs/reports.md` in the repository has the states and the reason of each number.
//!
//! # Guide
//!
//! The `guide` module (in the documentation with all features: `cargo doc -p tokenflight --all-features --open`) says which source is for which provider, where the actor
//! starts, what to do after a 401, how to come from other crates, and where the limits are.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | source | gives tokens: a grant at an auth server, a file, a metadata server, your own code ([`TokenSource`]) |
//! | flight | one refresh, with all its attempts. At most one is under way |
//! | waiter | a caller or an actor that waits for the outcome of a flight |
//! | ticket | how the actor remembers a waiter that subscribed or sent a message. It is answered exactly once |
//! | round | the callers of handles that wait for the same outcome |
//! | lobby | where rounds are kept |
//! | slot | the place from which callers read the current token, without a lock |
//! | cooldown | the time after a failed flight in which the source is not called |
//! | report | the news that an API answered 401 to a token |
//! | settle | the age from which on a report can replace a token |
//! | budget | how many flights reports may start |
//! | suspect | a token that was reported, and neither replaced nor confirmed since |
//! | lease | the right to fetch for the whole fleet, for a limited time |
//! | fence | the number of a lease. A lower one can no longer write |
//! | gate | what limits the calls of a registry |
//!
//! # Components
//!
//! ```text
//!  callers      TokenHandle ── reads ──► slot ◄── publishes ──┐      actors: Subscribe
//!                   │ no usable token                         │               │
//!                   └──► lobby (rounds) ── one message ──► TokenActor ◄───────┘ (tickets)
//!                                                            │    ▲
//!                                                     events │    │ effects: fetch, tell, publish
//!                                                            ▼    │
//!                                                           machine (no I/O, knows every rule)
//!                                        TokenActor ── fetch ──► TokenSource ──► auth server
//! ```
//!
//! - The *machine* decides. It has no I/O, no clock and no actix, so that a model checker can visit all its states.
//! - [`TokenActor`] performs what the machine says: one call to the source, one timer, one answer for each waiter.
//! - [`TokenHandle`] is what callers hold. It reads the slot, and waits in the lobby if there is no usable token.
//! - [`source`] and [`oauth`] have the sources; `SharedSource` puts one in front of a whole fleet.
//! - [`middleware`] puts tokens on the requests of HTTP clients, and reports rejected ones.
//! - `registry` has an actor's promises for each of many keys.
//!
//! `docs/house.md` in the repository names the file of each rule.
//!
//! # What it cannot promise
//!
//! - A subscriber is told when the answer lies in its mailbox. One that has stopped by then is not told, and
//!   is counted: [`Status::lost`]. If it stops before it handles the message, it is not told either, and this cannot be counted.
//! - After a bare `System::stop()` nothing can be delivered in that System. Await [`TokenHandle::shutdown`]
//!   first, and let the subscribers handle what they have got. Callers in other Systems and runtimes are
//!   answered all the same, with an error that [`is_stopped`](TokenError::is_stopped).
//! - The actor watches over everybody's deadline, so its arbiter has to run. A source or a task that blocks
//!   that thread, or a System that nobody runs (its `block_on` has returned, its runner has not been dropped),
//!   holds up the answers, timeouts included. Do not block there, or give the actor [a thread of its
//!   own](TokenActorBuilder::spawn_thread).
//! - A process that ends, aborts, or is built with `panic = "abort"` and panics, tells nobody.
//! - A panic of the source is an error to those who wait, and a waker that panics costs its own waiter. But
//!   with an observer's that panics, [other observers](TokenHandle::watch) may not be woken for that change.
//! - Under a `Supervisor`, a shutdown answers everybody and is followed by a restart: counters and cooldown
//!   stay, token and flight do not.
//! - A shared store gives efficiency, not mutual exclusion: a process that was suspended past its lease, or a
//!   store that failed over, costs a second call to the auth server.
//! - Secrets are wiped from the buffers that this crate owns. Copies in an HTTP client or in the kernel cannot
//!   be wiped.
//!
//! # Metrics
//!
//! With feature `metrics`, each actor tells a recorder of the [`metrics`](https://docs.rs/metrics) facade its
//! life, under the label `token` with the [name](TokenActorBuilder::name) that it was given. Install the recorder
//! before the actor starts; it has to be one for `metrics` 0.24, as `metrics-exporter-prometheus` 0.18 is. [`TokenHandle::status`] has the same without any recorder. `docs/operations.md` in the repository says
//! what to do when a metric, an alert or a log line says that something is wrong.
//!
//! | metric | kind | what |
//! |---|---|---|
//! | `tokenflight_refreshes_total` | counter | flights that ended, by `reason` and `outcome` (`ok`, or an error's kind) |
//! | `tokenflight_refresh_duration_seconds` | histogram | how long they took, by the same |
//! | `tokenflight_requests_per_refresh` | histogram | callers that shared a flight's outcome |
//! | `tokenflight_attempts_total` | counter | calls to the source |
//! | `tokenflight_requests_total` | counter | requests that reached the actor |
//! | `tokenflight_waiters` | gauge | callers that wait |
//! | `tokenflight_expiry_timestamp_seconds` | gauge | the token's end in Unix time; minus `time()`, the seconds to expiry |
//! | `tokenflight_cooldown_seconds` | gauge | for how long the last failure closed the source; 0 after a success |
//! | `tokenflight_rejections_total` | counter | reports that named the token in use |
//! | `tokenflight_reports_total` | counter | reports by `kind` (`replace`, `invalidate`, `discard`), whichever token they named |
//! | `tokenflight_reports_refused_total` | counter | reports that started no flight, `by` (`settle`, `budget`, `cooldown`) |
//! | `tokenflight_repeated_secrets_total` | counter | tokens whose secret had been reported before they came |
//! | `tokenflight_withheld_milliseconds_total` | counter | how long the token was withheld from callers for a report |
//! | `tokenflight_suspect` | gauge | 1 while the token in use was reported, and neither replaced nor confirmed |
//! | `tokenflight_next_report_timestamp_seconds` | gauge | when a report may start a flight again, as of the last report |
//! | `tokenflight_wait_timeouts_total` | counter | callers whose own time ran out |
//! | `tokenflight_overloads_total` | counter | callers that found the queue full |
//! | `tokenflight_lost_answers_total` | counter | answers that found their subscriber stopped |
//! | `tokenflight_replays_total` | counter | requests that a middleware sent again, by `origin` and `reason` |
//! | `tokenflight_origin_reports_total` | counter | tokens that a middleware reported, by `origin` and `reason` |
//!
//! A [`registry::TokenRegistry`] tells all its keys together, under the label `registry` with its
//! [name](registry::TokenRegistryBuilder::name). No key is named, unless
//! [`key_label`](registry::TokenRegistryBuilder::key_label) gives it a name, for the two metrics that say so.
//!
//! | metric | kind | what |
//! |---|---|---|
//! | `tokenflight_registry_calls_total` | counter | calls to the source that ended, by `outcome` (`ok`, `refused`, `client_refused`, `too_many_requests`, `unavailable`, `abandoned`, or `from_store`: another process had asked), and `key` |
//! | `tokenflight_registry_call_duration_seconds` | histogram | how long they took, by `outcome` |
//! | `tokenflight_registry_refreshes_total` | counter | flights that ended, by `reason` and `outcome`, and `key` |
//! | `tokenflight_registry_refresh_duration_seconds` | histogram | how long they took, by `reason` and `outcome` |
//! | `tokenflight_registry_keys`, `_busy_keys` | gauge | keys that are kept; of these, keys that are waited for or fly |
//! | `tokenflight_registry_waiters` | gauge | callers that wait |
//! | `tokenflight_registry_calls`, `_max_calls` | gauge | calls under way; how many may be under way now |
//! | `tokenflight_registry_queued_keys` | gauge | keys that wait for their turn to call |
//! | `tokenflight_registry_gate_closed` | gauge | 1 while the auth server is left alone, or tried by one call, because several keys failed |
//! | `tokenflight_registry_gate_closed_milliseconds_total` | counter | for how long that was so |
//! | `tokenflight_registry_closed_clients` | gauge | clients that the auth server refuses, and whose keys are left alone |
//! | `tokenflight_registry_closures_total` | counter | how often something was closed, `of` (`endpoint`, `client`) |
//! | `tokenflight_registry_evictions_total` | counter | keys that went, by `reason` (`room`, `idle`) |
//! | `tokenflight_registry_too_many_keys_total` | counter | requests that found every key busy |
//! | `tokenflight_registry_requests_total`, `_attempts_total`, `_rejections_total`, `_reports_total`, `_reports_refused_total`, `_repeated_secrets_total`, `_withheld_milliseconds_total`, `_wait_timeouts_total`, `_overloads_total`, `_lost_answers_total` | counter | as for an actor |
//!
//! A `SharedSource` tells what it counts (`SharedStats`) under the label `source` with the name that its builder was
//! given. Sources of the same name are counted together.
//!
//! | metric | kind | what |
//! |---|---|---|
//! | `tokenflight_shared_led_total` | counter | calls to the source under a lease, for the whole fleet |
//! | `tokenflight_shared_adopted_total` | counter | tokens that another process had fetched |
//! | `tokenflight_shared_local_total` | counter | calls to the source for this process alone, without the store |
//! | `tokenflight_shared_pushes_total` | counter | waits that ended with news from the store |
//! | `tokenflight_shared_polls_total` | counter | waits that ended with the lease, without news |
//! | `tokenflight_shared_late_total` | counter | commits that were refused, because the lease had been lost |
//! | `tokenflight_shared_unopened_total` | counter | values in the store that no key opened |
//! | `tokenflight_shared_store_errors_total` | counter | operations of the store that failed or took too long |
//! | `tokenflight_shared_mended_total` | counter | things in the store that no process with a key had written |
//!
//! A source of refresh tokens ([`source::RefreshToken`]) says how its login stands, under the label `client` with the
//! client's id.
//!
//! | metric | kind | what |
//! |---|---|---|
//! | `tokenflight_needs_login` | gauge | 1 while the refresh token can no longer be used and somebody has to log in |
//! | `tokenflight_refresh_token_unsaved` | gauge | 1 while the newest refresh token is in memory alone |
//!
//! # Features
//!
//! | feature | gives |
//! |---|---|
//! | `oauth2` (default) | [`oauth::Client`] and its grants; [`vault`]; `http` |
//! | `http` | [`source::JsonEndpoint`], [`source::Metadata`]; [`middleware`] for reqwest |
//! | `dpop` | `oauth::DpopKey`: tokens that are bound to a key (RFC 9449) |
//! | `rustls` (default), `rustls-no-provider` or `native-tls` | TLS for them |
//! | `shared` | [`source::SharedSource`], one auth call for many processes; [`store`] |
//! | `redis` | its store in Redis, and `vault::RedisVault` |
//! | `reqwest-middleware`, `tower`, `awc` | [`middleware`] for these clients |
//! | `actix-web` | [`TokenError`] as a handler's answer |
//! | `registry` | [`registry::TokenRegistry`], a token for each of many keys |
//! | `metrics` | refreshes, waiters, cooldowns for a recorder |
//! | `test-util` | [`testing`] |
//!
//! Without any of them there is no HTTP client in the tree.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod actor;
mod backoff;
mod builder;
#[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
mod challenge;
pub mod clock;
mod duration;
mod error;
#[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
mod evidence;
mod flight;
#[cfg(all(feature = "oauth2", any(test, fuzzing)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(any(doc, doctest), feature = "oauth2", feature = "redis", feature = "registry"))]
pub mod guide;
pub mod handle;
#[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
mod host;
mod json;
mod jwt;
mod lobby;
#[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
pub mod middleware;
#[cfg(feature = "oauth2")]
pub mod oauth;
mod panics;
mod policy;
mod queue;
mod redactor;
#[cfg(feature = "registry")]
pub mod registry;
mod secret;
mod settings;
mod slot;
pub mod source;
#[cfg(feature = "test-util")]
mod still;
#[cfg(feature = "shared")]
pub mod store;
mod sync;
#[cfg(feature = "test-util")]
pub mod testing;
mod token;
#[cfg(feature = "http")]
mod transport;
#[cfg(feature = "oauth2")]
pub mod vault;

pub use actor::{
    Discard, GetStatus, GetToken, Invalidate, Refresh, Replace, Shutdown, Status, Subscribe, TokenActor,
    TokenReady,
};
pub use builder::TokenActorBuilder;
pub use error::{BuildError, SourceError, TokenError};
pub use flight::{Counters, FlightState};
pub use handle::TokenHandle;
pub use policy::RefreshPolicy;
pub use source::{FetchContext, Reason, TokenSource, source_fn};
pub use token::{PresentError, Token, TokenType};

/// The README's programs, compiled and run as tests. Some need an HTTP client.
#[cfg(all(doctest, feature = "oauth2", feature = "registry"))]
#[doc = include_str!("../README.md")]
struct Readme;
