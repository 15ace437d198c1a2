//! Single-flight auth tokens for actix applications.
//!
//! A service calls an API with a bearer token. The token expires while a hundred requests are under way, and each
//! of them calls the auth server. With this crate the **first** request starts **one** refresh, all others wait for
//! this refresh, and each waiter is answered **exactly once**.
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
//! 1. A caller reads the [slot](TokenHandle::current): a snapshot that the actor published. The read needs no lock
//!    and no message. If there is no usable token:
//! 2. The caller joins the open *round*. If no round is open, it opens one and sends the actor a single message. An
//!    actor [subscribes](Subscribe) instead, and gets a *ticket*.
//! 3. The actor passes the event to the *machine*, which has all rules and does no I/O. If no flight is under way
//!    and no cooldown runs, the machine says "fetch".
//! 4. The actor calls the [source](TokenSource), inside its own context. A caller that goes away does not end this
//!    call.
//! 5. The machine judges the result. After a token, it publishes the token, ends the flight, and tells all waiters,
//!    oldest first. After a failure, it pauses and tries again. Or it ends the flight, tells all waiters the same
//!    error, and begins a cooldown. During the cooldown new callers get the error at once.
//!
//! # What happens after a 401
//!
//! The client gets a token, sends its request, reports the token after a 401, and sends the request again, once:
//!
//! ```
//! use std::time::Duration;
//! use http::{HeaderMap, StatusCode, header::AUTHORIZATION};
//! use tokenflight::{RefreshPolicy, Token, TokenActor, source_fn};
//!
//! /// An API that no longer accepts the token "old".
//! fn send(headers: &HeaderMap) -> StatusCode {
//!     if headers[AUTHORIZATION] == "Bearer old" { StatusCode::UNAUTHORIZED } else { StatusCode::OK }
//! }
//!
//! # actix_rt::System::new().block_on(async {
//! let source = source_fn(|cx| async move {
//!     let secret = if cx.previous.is_some() { "new" } else { "old" };
//!     Ok(Token::new(secret).with_lifetime(Duration::from_secs(3600)))
//! });
//! // A token younger than `settle` (2 s) is not replaced: some APIs learn of a new one late. This one does not.
//! let policy = RefreshPolicy::default().settle(Duration::ZERO);
//! let tokens = TokenActor::builder(source).policy(policy).start()?;
//!
//! let mut headers = HeaderMap::new();
//! let token = tokens.get().await?;
//! headers.insert(AUTHORIZATION, token.authorization());
//! let mut answer = send(&headers);
//! assert_eq!(answer, StatusCode::UNAUTHORIZED);
//! if answer == StatusCode::UNAUTHORIZED {
//!     let next = tokens.replace(&token).await?; // all other callers keep the token until the next one is there
//!     headers.insert(AUTHORIZATION, next.authorization());
//!     answer = send(&headers); // a second 401 is the caller's
//! }
//! assert_eq!(answer, StatusCode::OK);
//!
//! // A report of a token that has been replaced costs no call.
//! assert_eq!(tokens.replace(&token).await?.secret(), "new");
//! assert_eq!(tokens.status().await?.counters.attempts, 2);
//! # tokens.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! The [`middleware`] does this for the usual HTTP clients.
//!
//! A *report* names the token. [`replace`](TokenHandle::replace) is for a client that repeats its request.
//! [`invalidate`](TokenHandle::invalidate) is for a handler that gets a token anew.
//! [`discard`](TokenHandle::discard) is for a compromised token. A report starts at most one refresh, within a
//! budget, and withholds the token for at most 1 s. If the source gives out the same token again, that token stays
//! in use. `docs/reports.md` in the repository has the states and the reason for each number.
//!
//! # Guide
//!
//! The `guide` module (in the documentation with all features: `cargo doc -p tokenflight --all-features --open`)
//! says which source is for which provider, where the actor starts, what to do after a 401, how to migrate from
//! other crates, and what the limits are.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | source | gives tokens: a grant at an auth server, a file, a metadata server, your own code ([`TokenSource`]) |
//! | flight | one refresh, with all its attempts. At most one is under way |
//! | waiter | a caller or an actor that waits for the outcome of a flight |
//! | ticket | the actor's record of a waiter that subscribed or sent a message. It is answered exactly once |
//! | round | the callers of handles that wait for the same outcome |
//! | lobby | where rounds are kept |
//! | slot | the place from which callers read the current token, without a lock |
//! | cooldown | the time after a failed flight in which the source is not called |
//! | report | the news that an API answered 401 to a token |
//! | settle | the age from which a report can replace a token |
//! | budget | how many flights reports may start |
//! | suspect | a token that was reported, and neither replaced nor confirmed since |
//! | lease | the right to fetch for the whole fleet, for a limited time |
//! | fence | the number of a lease. An owner with a lower number can no longer write |
//! | gate | the limit on the calls of a registry |
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
//! - The *machine* decides. It has no I/O, no clock and no actix. Therefore a model checker can visit all its
//!   states.
//! - [`TokenActor`] performs the machine's effects: one call to the source, one timer, one answer for each waiter.
//! - Callers hold a [`TokenHandle`]. It reads the slot, and waits in the lobby if there is no usable token.
//! - [`source`] and [`oauth`] have the sources. `SharedSource` shares a source's token with a whole fleet.
//! - [`middleware`] puts tokens on the requests of HTTP clients, and reports rejected ones.
//! - `registry` gives an actor's promises to each of many keys.
//!
//! `docs/house.md` in the repository names the file of each rule.
//!
//! # What it cannot promise
//!
//! - A subscriber counts as told when the answer is in its mailbox. A subscriber that has stopped by then gets no
//!   answer, and is counted: [`Status::lost`]. If it stops before it handles the message, it gets no answer either,
//!   and this cannot be counted.
//! - After a bare `System::stop()` no answer can be delivered in that System. Await [`TokenHandle::shutdown`]
//!   first, and let the subscribers handle their messages. Callers in other Systems and runtimes still get an
//!   answer, an error that [`is_stopped`](TokenError::is_stopped).
//! - The actor checks the deadlines of all waiters, so its arbiter must run. A blocked thread delays the answers,
//!   including timeouts. The same is true for a System that no longer runs (its `block_on` has returned, its runner
//!   has not been dropped). Do not block the thread, or give the actor [its own
//!   thread](TokenActorBuilder::spawn_thread).
//! - A token is checked when it is handed out, and not again when the caller looks at it: if the machine sleeps in between,
//!   or somebody discards the token after [`get`](TokenHandle::get) was called, the caller may hold a token that has
//!   ended or was discarded.
//! - A process that ends, aborts, or panics with `panic = "abort"`, answers no waiter.
//! - A panic of the source becomes an error for the waiters. A waker that panics affects only its own waiter. But
//!   if an observer's waker panics, [other observers](TokenHandle::watch) may not be woken for that change.
//! - Under a `Supervisor`, a shutdown answers all waiters and is followed by a restart. Counters and cooldown stay.
//!   Token and flight do not stay.
//! - A shared store gives efficiency, not mutual exclusion. A process that was suspended past its lease, or a store
//!   that failed over, costs a second call to the auth server.
//! - Secrets are wiped from the buffers that this crate owns. Copies in an HTTP client or in the kernel cannot
//!   be wiped.
//!
//! # Metrics
//!
//! With feature `metrics`, each actor reports to a recorder of the [`metrics`](https://docs.rs/metrics) facade,
//! under the label `token` with its [name](TokenActorBuilder::name). Install the recorder before the actor starts.
//! It must be a recorder for `metrics` 0.24, as `metrics-exporter-prometheus` 0.18 is. [`TokenHandle::status`] has
//! the same figures without a recorder. `docs/operations.md` in the repository says what to do after a metric, an
//! alert or a log line.
//!
//! | metric | kind | what |
//! |---|---|---|
//! | `tokenflight_refreshes_total` | counter | flights that ended, by `reason` and `outcome` (`ok`, or an error's kind) |
//! | `tokenflight_refresh_duration_seconds` | histogram | how long flights took, by the same labels |
//! | `tokenflight_requests_per_refresh` | histogram | callers that shared a flight's outcome |
//! | `tokenflight_attempts_total` | counter | calls to the source |
//! | `tokenflight_requests_total` | counter | requests that reached the actor |
//! | `tokenflight_waiters` | gauge | callers that wait |
//! | `tokenflight_expiry_timestamp_seconds` | gauge | the token's end in Unix time; minus `time()`, the seconds to expiry |
//! | `tokenflight_cooldown_seconds` | gauge | the length of the last cooldown; 0 after a success |
//! | `tokenflight_rejections_total` | counter | reports that named the token in use |
//! | `tokenflight_reports_total` | counter | reports by `kind` (`replace`, `invalidate`, `discard`), whichever token they named |
//! | `tokenflight_reports_honoured_total` | counter | reports that started or joined a flight, by `lane`: `budget`, or `confirmed` by several APIs |
//! | `tokenflight_reports_refused_total` | counter | reports that started no flight, by reason: `by` (`settle`, `budget`, `cooldown`) |
//! | `tokenflight_repeated_secrets_total` | counter | tokens from the source whose secret had been reported before |
//! | `tokenflight_withheld_milliseconds_total` | counter | how long the token was withheld from callers for a report |
//! | `tokenflight_suspect` | gauge | 1 while the token in use was reported, and neither replaced nor confirmed |
//! | `tokenflight_next_report_timestamp_seconds` | gauge | when a report may start a flight again, as of the last report |
//! | `tokenflight_wait_timeouts_total` | counter | callers that timed out |
//! | `tokenflight_overloads_total` | counter | callers that found the queue full |
//! | `tokenflight_lost_answers_total` | counter | answers whose subscriber had stopped |
//! | `tokenflight_replays_total` | counter | requests that a middleware sent again, by `origin` and `reason` |
//! | `tokenflight_origin_reports_total` | counter | tokens that a middleware reported, by `origin` and `reason` |
//!
//! A [`registry::TokenRegistry`] reports the sums over all its keys, under the label `registry` with its
//! [name](registry::TokenRegistryBuilder::name). No metric names a key. Only two metrics have a label for keys, if
//! [`key_label`](registry::TokenRegistryBuilder::key_label) gives a key a name.
//!
//! | metric | kind | what |
//! |---|---|---|
//! | `tokenflight_registry_calls_total` | counter | calls to the source that ended, by `outcome` (`ok`, `refused`, `client_refused`, `too_many_requests`, `unavailable`, `abandoned`, or `from_store`: another process had asked), and `key` |
//! | `tokenflight_registry_call_duration_seconds` | histogram | how long calls took, by `outcome` |
//! | `tokenflight_registry_refreshes_total` | counter | flights that ended, by `reason` and `outcome`, and `key` |
//! | `tokenflight_registry_refresh_duration_seconds` | histogram | how long flights took, by `reason` and `outcome` |
//! | `tokenflight_registry_keys`, `_busy_keys` | gauge | keys that are kept; of these, keys with a waiter or a flight |
//! | `tokenflight_registry_waiters` | gauge | callers that wait |
//! | `tokenflight_registry_calls`, `_max_calls` | gauge | calls under way; how many may be under way now |
//! | `tokenflight_registry_queued_keys` | gauge | keys that wait for their turn to call |
//! | `tokenflight_registry_gate_closed` | gauge | 1 while no call, or only one call as a test, goes to the auth server, because several keys failed |
//! | `tokenflight_registry_gate_closed_milliseconds_total` | counter | how long the gate was closed |
//! | `tokenflight_registry_closed_clients` | gauge | clients that the auth server refuses; their keys make no calls |
//! | `tokenflight_registry_closures_total` | counter | how often an endpoint or a client was closed, `of` (`endpoint`, `client`) |
//! | `tokenflight_registry_evictions_total` | counter | keys that were evicted, by `reason` (`room`, `idle`) |
//! | `tokenflight_registry_too_many_keys_total` | counter | requests that found every key busy |
//! | `tokenflight_registry_requests_total`, `_attempts_total`, `_rejections_total`, `_reports_total`, `_reports_honoured_total`, `_reports_refused_total`, `_repeated_secrets_total`, `_withheld_milliseconds_total`, `_wait_timeouts_total`, `_overloads_total`, `_lost_answers_total` | counter | as for an actor |
//!
//! A `SharedSource` reports its counters (`SharedStats`) under the label `source` with the name that its builder
//! was given. Sources of the same name are counted together.
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
//! | `tokenflight_shared_mended_total` | counter | values in the store that no process with a key had written |
//!
//! A source of refresh tokens ([`source::RefreshToken`]) reports the state of its login, under the label `client`
//! with the client's id.
//!
//! | metric | kind | what |
//! |---|---|---|
//! | `tokenflight_needs_login` | gauge | 1 while the refresh token can no longer be used and a user has to log in |
//! | `tokenflight_refresh_token_unsaved` | gauge | 1 while the newest refresh token is only in memory |
//!
//! # Features
//!
//! | feature | gives |
//! |---|---|
//! | `oauth2` (default) | [`oauth::Client`] and its grants; [`vault`]; `http` |
//! | `http` | [`source::JsonEndpoint`], [`source::Metadata`]; [`middleware`] for reqwest |
//! | `dpop` | `oauth::DpopKey`: tokens that are bound to a key (RFC 9449) |
//! | `rustls` (default), `rustls-no-provider` or `native-tls` | TLS for these sources |
//! | `shared` | [`source::SharedSource`], one auth call for many processes; [`store`] |
//! | `redis` | the store of `SharedSource` in Redis, and `vault::RedisVault` |
//! | `reqwest-middleware`, `tower`, `awc` | [`middleware`] for these clients |
//! | `actix-web` | [`TokenError`] as a handler's response |
//! | `registry` | [`registry::TokenRegistry`], a token for each of many keys |
//! | `metrics` | figures of refreshes, waiters and cooldowns for a recorder |
//! | `test-util` | [`testing`] |
//!
//! Without any of these features there is no HTTP client among the dependencies.
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
pub use flight::FlightState;
pub use handle::TokenHandle;
pub use policy::RefreshPolicy;
pub use source::{FetchContext, Reason, TokenSource, source_fn};
pub use token::{PresentError, Token, TokenType};

/// The README's programs, compiled and run as tests. Some need an HTTP client.
#[cfg(all(doctest, feature = "oauth2", feature = "registry"))]
#[doc = include_str!("../README.md")]
struct Readme;
