//! The OAuth client and the JSON source: with real and strict authorization servers, and with unusual servers and
//! settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokenflight::oauth::{Client, ClientBuilder, PrivateKey};
use tokenflight::{
    RefreshPolicy, SourceError, Token, TokenActor, TokenError, TokenHandle, TokenSource, source_fn,
};

use crate::servers::{ClientKey, Provider};
use crate::support::*;

mod ambiguous;
mod answer_times;
mod answers;
mod chained;
mod discovery;
#[cfg(feature = "dpop")]
mod dpop;
#[cfg(feature = "dpop")]
mod dpop_server;
mod exchange;
mod gate;
#[cfg(feature = "registry")]
mod keyed;
mod killed;
mod kinds;
mod loopback;
mod meddled;
mod odd_answers;
mod odd_claims;
mod odd_discovery;
#[cfg(feature = "dpop")]
mod odd_dpop;
pub(crate) mod quoted;
mod real;
mod refusals;
mod replaced;
mod requests;
mod rotation;
mod routes;
mod settings;
mod shared_client;
#[cfg(feature = "redis")]
mod shared_login;
mod staged;
mod strict;
mod strict_server;

/// One attempt a flight, so that a test sees what the first answer leads to.
fn once() -> RefreshPolicy {
    // A new token need not settle: these servers know their own tokens at once.
    RefreshPolicy::default().attempts(1).settle(millis(0))
}

fn started(source: impl TokenSource) -> TokenHandle {
    TokenActor::builder(source).policy(once()).start().unwrap()
}

async fn refused(source: impl TokenSource) -> TokenError {
    started(source).get().await.unwrap_err()
}

/// The client `id` at the real server, which is found by its issuer.
fn client(provider: &Provider, id: &str) -> ClientBuilder {
    Client::builder(provider.address("issuer"), id)
}

/// The client `public`, which has no proof of its identity.
fn public(provider: &Provider) -> Client {
    client(provider, "public").public().build().unwrap()
}

#[track_caller]
fn private_key(key: &ClientKey) -> PrivateKey {
    PrivateKey::from_pem(&key.pem).unwrap().with_kid(&key.kid)
}

/// A source whose every token is a new JWT of the identity provider that the server trusts.
fn idp(provider: &Arc<Provider>, subject: &'static str) -> impl TokenSource + use<> {
    let provider = Arc::clone(provider);
    source_fn(move |_cx| {
        let provider = Arc::clone(&provider);
        async move { Ok::<_, SourceError>(Token::new(provider.idp_jwt(subject).await.0)) }
    })
}

/// A folder that is gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tokenflight-oauth-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file.
    #[track_caller]
    fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// Replaces a file as a whole: whoever reads it sees the old contents or the new ones.
    #[track_caller]
    fn replace(&self, name: &str, contents: &str) {
        let new = self.write(&format!("{name}.new"), contents);
        std::fs::rename(new, self.path(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
