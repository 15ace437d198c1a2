//! The store of a fleet: Redis 6 or later (or Valkey), by scripts and one connection.

mod address;
mod builder;
mod channels;
mod credentials;
#[cfg(all(feature = "oauth2", feature = "redis", any(test, fuzzing)))]
pub(crate) mod fuzzing;
mod link;
mod route;
mod scripts;
mod sentinels;
mod slots;
#[cfg(feature = "oauth2")]
mod vaults;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::duration;
use crate::store::{
    Ask, Failure, LONGEST_VALUE, Lease, Look, News, SharedKey, SharedStore, SlotAnswer, SlotAsk, StoreError,
    Stored, Take,
};
use ::redis::{FromRedisValue, Script, ScriptInvocation, pipe};
pub use builder::RedisStoreBuilder;
pub use credentials::RedisCredentials;
use link::{Connection, Link};
use route::Wire;
use scripts::Scripts;

/// A store in Redis.
///
/// One connection carries commands and news (RESP3). The first operation makes it, on the arbiter on which the
/// operation runs. It is made anew if that arbiter has stopped or the connection is lost. An operation without an
/// answer is tried once more on a new connection. A clone is the same store. Give each arbiter its own store, so
/// that none depends on another arbiter.
///
/// ```
/// use tokenflight::store::RedisStore;
///
/// let store = RedisStore::builder("redis://user:password@localhost:6379").build()?; // does not connect yet
/// # let _ = store;
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// - **TLS**: `rediss://`, with the feature `rustls`. See [`ca`](RedisStoreBuilder::ca) for your own certificate
///   authority. The program chooses the provider of cryptography when it starts:
///   `rustls::crypto::aws_lc_rs::default_provider().install_default()`, or another provider. This crate installs
///   none.
/// - **Cluster**: all keys of one token have the same hash tag. Therefore they are in one slot, even if the slot
///   moves.
/// - **Sentinel**: all sentinels are asked for the master, at the first connection and whenever one is lost. Of
///   three or more, a majority must name the same server. Of one or two, the first answer is accepted.
/// - **Passwords that rotate**: see [`credentials`](RedisStoreBuilder::credentials) and
///   [`password_file`](RedisStoreBuilder::password_file).
/// - **ACL**: for keys `~tokenflight:*` and channels `&tokenflight:*`, the commands `+hello +auth +ping +select +evalsha
///   +script|load +subscribe +unsubscribe +publish +type +strlen +hlen +hstrlen +hget +hgetall +hmget +hset +hdel +hkeys +get
///   +set +unlink +pttl +pexpire +time +multi +exec`.
/// - **Eviction**: all lost values can be fetched again. Each key has an expiry.
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    link: Link,
    scripts: Scripts,
    prefix: String,
}

impl RedisStore {
    /// `prefix:{name:hash}:what`. The braces are the hash tag: Redis Cluster puts all these keys in one slot.
    fn place(&self, key: &SharedKey, what: &str) -> String {
        format!("{}:{{{}}}:{what}", self.0.prefix, key.as_str())
    }

    fn channel(&self, key: &SharedKey) -> String {
        self.place(key, "news")
    }

    async fn run<T: FromRedisValue>(&self, script: ScriptInvocation<'_>) -> Result<T, StoreError> {
        let script = &script;
        let invoked =
            |mut connection: Connection| async move { script.invoke_async(&mut connection.wire).await };
        self.0.link.run(invoked).await
    }

    async fn is_done(&self, script: ScriptInvocation<'_>) -> Result<bool, StoreError> {
        self.run::<u8>(script).await.map(|done| done == 1)
    }

    /// A script with the keys that all scripts have.
    fn script<'a>(&self, script: &'a Script, key: &SharedKey) -> ScriptInvocation<'a> {
        let mut script = script.prepare_invoke();
        for what in ["token", "lease", "pause", "state", "marks", "waiting"] {
            script.key(self.place(key, what));
        }
        script
    }

    /// `time` zero: the ask of [`Unheard`].
    fn ask(&self, key: &SharedKey, ask: &Ask, time: u64) -> ScriptInvocation<'_> {
        let mut script = self.script(&self.0.scripts.look_or_lease, key);
        match &ask.take {
            Some(Take { lease, .. }) => script.arg(name_of(lease)).arg(&lease.value).arg(lease.fence),
            None => script.arg("").arg("").arg(0),
        };
        script.arg(time).arg(ask.refused.as_deref().unwrap_or_default());
        script.arg(u8::from(ask.discard)).arg(&ask.mark).arg(self.channel(key));
        script.arg(self.0.link.name()).arg(ask.passed.len());
        for value in ask.passed.iter().chain(&ask.void) {
            script.arg(value.as_slice());
        }
        script
    }
}

/// An ask whose answer has not been received yet. The answer may never be received, because it came too late, the
/// connection was cut, or the caller was dropped. Then the lease that the ask may still get is given back: a frozen
/// server carries out the commands later, and a lease without an owner would delay the fleet.
///
/// This is sent after the ask, on each connection on which the ask was sent. Therefore it is carried out after the
/// ask. It is the same script, so the server knows the script if it has carried out the ask. A connection that does
/// not answer is closed.
struct Unheard<'a> {
    store: &'a RedisStore,
    key: &'a SharedKey,
    ask: &'a Ask,
    /// One connection for each try.
    sent_by: Mutex<Vec<Connection>>,
    heard: bool,
}

impl Unheard<'_> {
    fn sent_by(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.sent_by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.heard {
            return;
        }
        for connection in std::mem::take(&mut *self.sent_by()) {
            let (store, key, ask) = (self.store.clone(), self.key.clone(), self.ask.clone());
            runtime.spawn(async move {
                let gives_back = store.ask(&key, &ask, 0);
                // If this fails as well, the lease runs out.
                let last = |mut wire: Wire| {
                    let gives_back = &gives_back;
                    async move { gives_back.invoke_async(&mut wire).await }
                };
                store.0.link.settle(connection, last).await;
            });
        }
    }
}

/// The beginning of a lease in Redis.
fn name_of(lease: &Lease) -> String {
    format!("{}:{}:", lease.owner, lease.fence)
}

/// Redis counts milliseconds, and does not accept zero.
fn millis(time: Duration) -> u64 {
    duration::millis(time).clamp(1, 1 << 52)
}

impl SharedStore for RedisStore {
    async fn watch(&self, key: &SharedKey) -> Result<News, StoreError> {
        self.0.link.news(&self.channel(key)).await
    }

    async fn look_or_lease(&self, key: &SharedKey, ask: &Ask) -> Result<Look, StoreError> {
        let mut unheard = Unheard { store: self, key, ask, sent_by: Mutex::default(), heard: false };
        let script = &self.ask(key, ask, ask.take.as_ref().map_or(1, |take| millis(take.time)));
        let looks = |mut connection: Connection| {
            unheard.sent_by().push(connection.clone());
            async move { script.invoke_async(&mut connection.wire).await }
        };
        let answer = self.0.link.run(looks).await;
        unheard.heard = answer.is_ok();
        let look = scripts::read_look(answer?)?;
        if matches!(look, Look::Taken(_)) {
            self.0.link.note_waiting(&self.channel(key));
        }
        Ok(look)
    }

    async fn load(&self, key: &SharedKey) -> Result<Option<Stored>, StoreError> {
        let place = self.place(key, "token");
        let mut both = pipe();
        both.atomic().cmd("HMGET").arg(&place).arg(&["id", "fence", "value"]).cmd("PTTL").arg(&place);
        let both = &both;
        let loads = |mut connection: Connection| async move {
            both.query_async::<((Option<String>, Option<String>, Option<Vec<u8>>), i64)>(&mut connection.wire)
                .await
        };
        let ((id, fence, value), left) = self.0.link.run(loads).await?;
        let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
        // If the fence has another form, the value is not a token.
        let fence = fence.and_then(|fence| fence.parse().ok());
        let stored = id.zip(fence).zip(value);
        Ok(stored.map(|((id, fence), value)| Stored { id, fence, value, left }))
    }

    async fn renew(&self, key: &SharedKey, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
        let mut script = self.script(&self.0.scripts.renew, key);
        script.arg(name_of(lease)).arg(lease.value.as_slice()).arg(millis(time));
        self.is_done(script).await
    }

    async fn commit(
        &self,
        key: &SharedKey,
        lease: &Lease,
        value: &[u8],
        lives: Duration,
    ) -> Result<bool, StoreError> {
        if value.len() > LONGEST_VALUE {
            return Err(StoreError::too_long());
        }
        let mut script = self.script(&self.0.scripts.commit, key);
        script.arg(name_of(lease)).arg(&lease.owner).arg(lease.fence).arg(value).arg(millis(lives));
        script.arg(self.channel(key)).arg(&lease.mark);
        self.is_done(script).await
    }

    async fn fail(&self, key: &SharedKey, lease: &Lease, failure: &Failure) -> Result<bool, StoreError> {
        let nothing = (Vec::new(), Duration::ZERO);
        // Here zero has its literal meaning: nothing is stored.
        let kept = |time: Duration| if time.is_zero() { 0 } else { millis(time) };
        let (pause, time) = failure.pause.as_ref().unwrap_or(&nothing);
        let (mark, mark_time) = failure.mark.as_ref().unwrap_or(&nothing);
        let mut script = self.script(&self.0.scripts.fail, key);
        script.arg(name_of(lease)).arg(pause.as_slice()).arg(kept(*time));
        script.arg(&lease.mark).arg(mark.as_slice()).arg(kept(*mark_time)).arg(self.channel(key));
        self.is_done(script).await
    }

    fn keeps_slots(&self) -> bool {
        true
    }

    async fn slots(&self, key: &SharedKey, ask: &SlotAsk) -> Result<SlotAnswer, StoreError> {
        self.ask_for_slots(key, ask).await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisStore")
            .field("prefix", &self.0.prefix)
            .field("listened_to", &self.0.link.listened_to())
            .finish_non_exhaustive()
    }
}
