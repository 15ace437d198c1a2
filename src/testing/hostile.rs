//! A hostile authorization server and API, with scenarios as data, for tests of `OAuth 2` clients. Feature
//! `test-util`, with `oauth2`.
//!
//! A [`Scenario`] says what the servers do, what the client is asked to do, and what the servers must have seen
//! afterwards. [`play`] runs it with any client that uses a small [line protocol](protocol) on its standard input
//! and output. `docs/conformance.md` describes the protocol, and `tests/scenarios/conformance.json` has the
//! scenarios. The verdict comes from the requests that the servers saw and from the client's reports of its calls.
//! The client never judges itself.
//!
//! | file | contents |
//! |---|---|
//! | `hostile/scenario.rs` | the format of a scenario |
//! | `hostile/setting.rs` | the behaviour of the servers in a scenario |
//! | `hostile/protocol.rs` | the lines between runner and client |
//! | `hostile/play.rs` | the runner |
//! | `hostile/world.rs` | the state of the servers, and what they have seen |
//! | `hostile/token.rs`, `hostile/api.rs` | the token endpoint, the API |
//! | `hostile/proof.rs` | client assertions and `DPoP` proofs, checked |
//! | `hostile/seen.rs` | the counts and the verdict |
//!
//! ```
//! use tokenflight::testing::hostile::{Hostile, Scenario};
//!
//! # actix_rt::System::new().block_on(async {
//! let scenarios = Scenario::read(
//!     r#"[{ "name": "one call", "tried": "one call of the API", "by": "RFC 6749 section 4.4", "rank": "must",
//!           "steps": [{ "call": {} }], "seen": { "token_requests": 1, "applied": 1 } }]"#,
//! )?;
//! let servers = Hostile::start(&scenarios[0]).await?;
//! assert_eq!(servers.configure().client_id, "hostile-client");
//! // No client has called. Therefore both counts are wrong.
//! assert_eq!(servers.faults(), ["token_requests: 0, expected 1", "applied: 0, expected 1"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod api;
mod play;
mod proof;
pub mod protocol;
mod scenario;
mod seen;
mod setting;
mod token;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::reply::{Asked, Reply};
use super::server::FakeAuthServer;

pub use play::{Outcome, Verdict, play};
use protocol::Configure;
pub use scenario::{Call, Rank, Revoked, Scenario, ScenarioError, Step, Switch, Told};
pub use seen::{Bound, Count};
use world::World;

/// The servers of one scenario, on free ports of loopback: the authorization server, the API, and another host,
/// which records the requests that it gets. They end when this is dropped.
pub struct Hostile {
    world: Arc<Mutex<World>>,
    auth: FakeAuthServer,
    api: FakeAuthServer,
    /// Not used by this code: it lives as long as the others.
    _elsewhere: FakeAuthServer,
}

impl fmt::Debug for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (auth, api) = (self.auth.base_url(), self.api.base_url());
        f.debug_struct("Hostile").field("auth", &auth).field("api", &api).finish_non_exhaustive()
    }
}

impl Hostile {
    /// Starts them on the tokio runtime in which this is called.
    ///
    /// # Errors
    /// No port is available, or the system has no random bytes for a key.
    pub async fn start(scenario: &Scenario) -> io::Result<Self> {
        let world = Arc::new(Mutex::new(World::new(scenario)?));
        let side = |answer: fn(&mut World, &Asked) -> Reply| {
            let world = Arc::clone(&world);
            FakeAuthServer::answering(move |asked| answer(&mut lock(&world), asked))
        };
        let (auth, api) = (side(token::answer).await?, side(api::answer).await?);
        let elsewhere = side(api::elsewhere).await?;
        lock(&world).open(auth.base_url(), api.base_url(), elsewhere.base_url());
        Ok(Self { world, auth, api, _elsewhere: elsewhere })
    }

    /// The configuration for a client.
    pub fn configure(&self) -> Configure {
        lock(&self.world).configure()
    }

    /// Performs the servers' part of a step. A call and a pause need no action of the servers.
    pub fn act(&self, step: &Step) {
        lock(&self.world).act(step);
    }

    /// The counts so far.
    pub fn seen(&self) -> BTreeMap<Count, u64> {
        let mut seen = lock(&self.world).seen();
        seen.insert(Count::TokenRequestsAtOnce, self.auth.most_at_once().try_into().unwrap_or(u64::MAX));
        seen
    }

    /// Each count that is not as the scenario requires, as one sentence. Empty: the scenario is passed, as far as
    /// the servers can tell.
    pub fn faults(&self) -> Vec<String> {
        let seen = self.seen();
        lock(&self.world).bounds().iter().filter_map(|(count, bound)| bound.fault(*count, &seen)).collect()
    }

    /// The [faults](Self::faults) that no further step of a client can correct.
    fn lasting_faults(&self) -> Vec<String> {
        let seen = self.seen();
        lock(&self.world).bounds().iter().filter_map(|(count, bound)| bound.excess(*count, &seen)).collect()
    }

    /// Whether this text contains a secret that the client was given or that was issued to it.
    pub fn is_told(&self, text: &str) -> bool {
        lock(&self.world).shows_a_secret(text)
    }

    /// Counts a report of the client: a call's end, a failed call, or a secret.
    fn told(&self, count: Count) {
        lock(&self.world).add(count);
    }
}

/// The moment that is so much later. If it cannot be expressed, a moment after the end of any test.
fn after(from: Instant, time: Duration) -> Instant {
    const YEARS_30: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    from.checked_add(time).unwrap_or_else(|| from + YEARS_30)
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}
