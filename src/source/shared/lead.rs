//! The owner of the lease: fetches for the fleet.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};

use super::Inner;
use super::envelope::Envelope;
use super::stats::Count;
use crate::clock::Timestamp;
use crate::error::SourceError;
use crate::source::{FetchContext, TokenSource};
use crate::store::{Lease, SharedStore, StoreError, hex};
use crate::token::{LONGEST_LIFETIME, Token};

/// A name that no other attempt of any process has: 128 random bits.
pub(super) fn random_name() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(StoreError::new)?;
    Ok(hex(&bytes))
}

/// Gives the lease back, whatever happens. The actor drops a fetch that takes too long, and a source may
/// panic: in both cases the others should neither wait for the lease's end nor run to the auth server at once.
struct Held<S: TokenSource, St: SharedStore> {
    inner: Arc<Inner<S, St>>,
    lease: Option<Lease>,
}

impl<S: TokenSource, St: SharedStore> Drop for Held<S, St> {
    fn drop(&mut self) {
        let (Some(lease), Ok(runtime)) = (self.lease.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let inner = Arc::clone(&self.inner);
        runtime.spawn(async move {
            let failure = inner.failure(None);
            // If this fails as well, the lease runs out.
            let _ = inner.in_time(inner.store.fail(&inner.settings.key, &lease, &failure)).await;
        });
    }
}

/// Steps 3 to 5.
impl<S: TokenSource, St: SharedStore> Inner<S, St> {
    pub(super) async fn lead(
        self: &Arc<Self>,
        cx: &FetchContext,
        lease: Lease,
    ) -> Result<Token, SourceError> {
        let mut held = Held { inner: Arc::clone(self), lease: Some(lease.clone()) };
        self.stats.count(Count::Led);
        let sent = self.now();
        let fetched = self.renewing(&lease, self.source.fetch(cx.clone())).await;
        let result = match fetched {
            Ok(token) => Ok(self.share(token, cx, &lease, sent).await),
            Err(error) => {
                self.share_failure(Some(&error), &lease).await;
                Err(error)
            }
        };
        held.lease = None;
        result
    }

    /// The fetch, while the lease is renewed beside it.
    async fn renewing<T>(&self, lease: &Lease, fetch: impl Future<Output = T>) -> T {
        let renewals = async {
            loop {
                tokio::time::sleep(self.settings.lease / 3).await;
                let renewal = self.store.renew(&self.settings.key, lease, self.settings.lease);
                // One that fails may be followed by one that does not. A lease that is lost stays lost; the
                // fetch goes on all the same, for its token is good.
                if let Ok(false) = self.in_time(renewal).await {
                    std::future::pending::<()>().await;
                }
            }
        };
        match select(pin!(fetch), pin!(renewals)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), fetch)) => fetch.await,
        }
    }

    /// Puts the token where the others find it. Whatever comes of that, this process has a token.
    async fn share(&self, token: Token, cx: &FetchContext, lease: &Lease, sent: Timestamp) -> Token {
        let settings = &self.settings;
        let stamped =
            token.clone().stamped(sent, &settings.clock, settings.missing_lifetime, LONGEST_LIFETIME);
        let left = stamped.remaining_at(self.now());
        if left.is_zero() || !stamped.is_presentable() {
            // Of no use to anybody, as the actor is about to say.
            self.share_failure(None, lease).await;
            return token;
        }
        let envelope = Envelope { end: stamped.end().wall, life: stamped.whole_life(), token: stamped };
        let committed = match settings.ring.seal(&settings.key, &envelope.pack()) {
            Some(value) => self.in_time(self.store.commit(&settings.key, lease, &value, left)).await,
            None => Err(StoreError::new("the token could not be sealed")),
        };
        match committed {
            Ok(true) => self.remember(&token, lease.owner.clone()),
            Ok(false) => return self.too_late(token, cx).await,
            Err(error) => self.note_outage(&error),
        }
        token
    }

    /// The lease was lost while the fetch ran, and the commit refused. If its new owner has committed, the fleet
    /// has one token, and this process takes that one too. Else its own is as good as any.
    async fn too_late(&self, own: Token, cx: &FetchContext) -> Token {
        self.stats.count(Count::Late);
        let loaded = self.in_time(self.store.load(&self.settings.key)).await;
        if let Ok(Some(stored)) = loaded
            && let Ok(token) = self.judge(&stored, cx)
        {
            self.stats.count(Count::Adopted);
            self.remember(&token, stored.id);
            return token;
        }
        own
    }

    async fn share_failure(&self, error: Option<&SourceError>, lease: &Lease) {
        let failure = self.failure(error);
        if let Err(error) = self.in_time(self.store.fail(&self.settings.key, lease, &failure)).await {
            self.note_outage(&error);
        }
    }
}
