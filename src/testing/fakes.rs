//! Servers on loopback that enforce the rules of the real ones, for tests of a program that has its identity from a
//! cloud. Feature `test-util`, with `http`.
//!
//! Each answers like the real server, and refuses what the real one refuses: a missing header, a second resource, a
//! wrong key. Faults are switched on by the methods of [`FakeAuthServer`], to which each of them dereferences:
//! [`then`](FakeAuthServer::then) for the next request, [`during`](FakeAuthServer::during) for a while.
//!
//! ```
//! use tokenflight::source::Metadata;
//! use tokenflight::testing::{Reply, fakes};
//! use tokenflight::{FetchContext, Reason, TokenSource};
//!
//! # actix_rt::System::new().block_on(async {
//! let server = fakes::GcpMetadata::start().await?;
//! let source = Metadata::gcp().base_url(server.base_url()).build()?;
//! assert_eq!(source.fetch(FetchContext::new(Reason::First)).await?.secret(), "gcp-1");
//!
//! server.then(Reply::text(503, "text/html", "overloaded"));
//! let error = source.fetch(FetchContext::new(Reason::Expired)).await.unwrap_err();
//! assert!(!error.is_terminal());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

#[cfg(feature = "oauth2")]
mod aws;
mod azure;
mod gcp;
#[cfg(feature = "oauth2")]
mod github;
#[cfg(feature = "oauth2")]
mod vault;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::reply::Asked;
use super::server::FakeAuthServer;
use crate::clock::{Clock, SystemClock};

#[cfg(feature = "oauth2")]
pub use aws::Aws;
pub use azure::{AzureArc, AzureImds};
pub use gcp::GcpMetadata;
#[cfg(feature = "oauth2")]
pub use github::GithubApi;
#[cfg(feature = "oauth2")]
pub use vault::VaultServer;

/// The path of a request, and its query.
fn target(asked: &Asked) -> (&str, Vec<(String, String)>) {
    let target = asked.target();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    (path, form_urlencoded::parse(query.as_bytes()).into_owned().collect())
}

/// The wall clock's time after `time` from now, in Unix seconds.
fn unix_in(time: Duration) -> u64 {
    let now = SystemClock.now().wall.duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().saturating_add(time).as_secs()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tokens of a server, one for each thing that can be asked for. Each is given again and again until it is near
/// its end.
#[derive(Debug)]
struct Cached {
    name: &'static str,
    lifetime: Duration,
    /// This long before the end of the old token a new one is given.
    renewed: Duration,
    /// How many tokens were issued.
    number: u32,
    /// The last token for each thing.
    last: BTreeMap<String, Issued>,
    began: Instant,
    /// How far this server's time was moved.
    moved: Duration,
}

#[derive(Clone, Debug)]
struct Issued {
    token: String,
    /// By this server's time.
    at: Duration,
}

impl Cached {
    fn new(name: &'static str, lifetime: Duration, renewed: Duration) -> Self {
        let (began, last) = (Instant::now(), BTreeMap::new());
        Self { name, lifetime, renewed, number: 0, last, began, moved: Duration::ZERO }
    }

    fn advance(&mut self, time: Duration) {
        self.moved = self.moved.saturating_add(time);
    }

    /// The token for `what`, and its remaining life.
    fn token(&mut self, what: String) -> (String, Duration) {
        let now = self.began.elapsed().saturating_add(self.moved);
        let left = |issued: &Issued| self.lifetime.saturating_sub(now.saturating_sub(issued.at));
        let last = self.last.get(&what).filter(|last| left(last) > self.renewed).cloned();
        let issued = last.unwrap_or_else(|| {
            self.number += 1;
            Issued { token: format!("{}-{}", self.name, self.number), at: now }
        });
        self.last.insert(what, issued.clone());
        let left = self.lifetime.saturating_sub(now.saturating_sub(issued.at));
        (issued.token, left)
    }
}

macro_rules! is_a_server {
    ($($name:ident),*) => {
        $(
            impl Deref for $name {
                type Target = FakeAuthServer;

                fn deref(&self) -> &FakeAuthServer {
                    &self.server
                }
            }
        )*
    };
}

is_a_server!(GcpMetadata, AzureImds, AzureArc);
#[cfg(feature = "oauth2")]
is_a_server!(Aws, GithubApi, VaultServer);
