//! A store, its time, and processes that share it.

use std::time::Duration;

use tokenflight::clock::Clock;
use tokenflight::source::{SealKey, SharedSource, SharedSourceBuilder, SharedStats};
use tokenflight::store::{
    Ask, Failure, Lease, Look, MemoryStore, News, SharedKey, SharedStore, StoreError, Stored, Take,
};
use tokenflight::testing::{ManualClock, ScriptedSource};
use tokenflight::{RefreshPolicy, Token, TokenActor, TokenError, TokenHandle};

use crate::support::*;

/// Short, since a lease in a real Redis runs out in real time.
pub(crate) const LEASE: Duration = Duration::from_millis(400);

/// A store that processes share, and the time in which they live.
pub(crate) trait World {
    type Store: SharedStore;
    type Clock: Clock + Clone;

    /// As another process sees the store: by a connection of its own.
    fn store(&self) -> Self::Store;
    fn clock(&self) -> Self::Clock;
}

pub(crate) struct Memory {
    store: MemoryStore,
    clock: ManualClock,
}

impl Memory {
    pub(crate) fn begin() -> Self {
        tokio::time::pause();
        let clock = ManualClock::new();
        Self { store: MemoryStore::with_clock(clock.clone()), clock }
    }
}

impl World for Memory {
    type Store = MemoryStore;
    type Clock = ManualClock;

    fn store(&self) -> MemoryStore {
        self.store.clone()
    }

    fn clock(&self) -> ManualClock {
        self.clock.clone()
    }
}

/// A process: an actor with a source, a store and counters of its own.
pub(crate) struct Process {
    pub(crate) handle: TokenHandle,
    pub(crate) stats: SharedStats,
}

impl Process {
    pub(crate) async fn secret(&self) -> String {
        self.handle.get().await.expect("a token").secret().to_owned()
    }
}

pub(crate) fn seal_key(id: &str, byte: u8) -> SealKey {
    // It looks random enough to be taken for a key.
    SealKey::new(id, std::array::from_fn(|at| byte.wrapping_mul(31) ^ u8::try_from(at * at % 251).unwrap()))
        .unwrap()
}

/// Settings with time enough for a machine that has other things to do.
pub(crate) fn settings(clock: impl Clock) -> SharedSourceBuilder {
    SharedSource::builder("orders")
        .part("issuer", "https://auth.example")
        .key(seal_key("k1", 1))
        .lease(secs(20))
        .store_timeout(secs(10))
        .clock(clock)
}

/// The same where a lease is to run out, or a store is given up.
pub(crate) fn short(settings: SharedSourceBuilder) -> SharedSourceBuilder {
    settings.lease(LEASE).store_timeout(LEASE / 2)
}

pub(crate) fn key() -> SharedKey {
    key_of(settings(tokenflight::clock::SystemClock))
}

pub(crate) fn key_of(settings: SharedSourceBuilder) -> SharedKey {
    settings.build(ScriptedSource::new(), MemoryStore::new()).unwrap().key().clone()
}

pub(crate) fn process<W: World>(world: &W, source: &ScriptedSource) -> Process {
    process_with(world, source, world.store(), |settings| settings)
}

pub(crate) fn process_with<W: World>(
    world: &W,
    source: &ScriptedSource,
    store: impl SharedStore,
    change: impl FnOnce(SharedSourceBuilder) -> SharedSourceBuilder,
) -> Process {
    process_by(world, source, store, change, plain())
}

pub(crate) fn process_by<W: World>(
    world: &W,
    source: &ScriptedSource,
    store: impl SharedStore,
    change: impl FnOnce(SharedSourceBuilder) -> SharedSourceBuilder,
    policy: RefreshPolicy,
) -> Process {
    let shared =
        change(settings(world.clock())).build(source.clone(), store).expect("the settings are sound");
    let stats = shared.stats();
    let builder = TokenActor::builder(shared).policy(policy).clock(world.clock());
    Process { handle: builder.start().expect("an arbiter"), stats }
}

pub(crate) fn processes<W: World>(world: &W, source: &ScriptedSource, n: usize) -> Vec<Process> {
    (0..n).map(|_| process(world, source)).collect()
}

/// All of them at once.
pub(crate) async fn get_all(processes: &[Process]) -> Vec<Result<Token, TokenError>> {
    futures_util::future::join_all(processes.iter().map(|process| process.handle.get())).await
}

#[track_caller]
pub(crate) fn assert_all(outcomes: &[Result<Token, TokenError>], secret: &str) {
    for outcome in outcomes {
        assert_eq!(outcome.as_ref().expect("a token").secret(), secret);
    }
}

pub(crate) fn sum(processes: &[Process], what: fn(&SharedStats) -> u64) -> u64 {
    processes.iter().map(|process| what(&process.stats)).sum()
}

/// What a process asks that would take the lease.
pub(crate) async fn ask_for(store: &impl SharedStore, key: &SharedKey, ask: Ask, owner: &str) -> Ask {
    let look = store.look_or_lease(key, &ask).await.unwrap();
    let Look::Free(free) = look else { panic!("free for {owner}, and not {look:?}") };
    let fence = (free.fence + 1).max(u64::try_from(free.clock.as_millis()).unwrap());
    let value = format!("{owner} has it").into_bytes();
    let lease = Lease { owner: owner.into(), fence, mark: ask.mark.clone(), value };
    Ask { take: Some(Take { lease, time: LEASE }), ..ask }
}

/// Takes the lease.
pub(crate) async fn lease_by(store: &impl SharedStore, key: &SharedKey, ask: Ask, owner: &str) -> Lease {
    let ask = ask_for(store, key, ask, owner).await;
    match store.look_or_lease(key, &ask).await.unwrap() {
        Look::Leased => ask.take.unwrap().lease,
        other => panic!("{owner} should have the lease: {other:?}"),
    }
}

pub(crate) async fn lease(store: &impl SharedStore, owner: &str) -> Lease {
    lease_by(store, &key(), Ask::default(), owner).await
}

pub(crate) fn refusing(id: &str) -> Ask {
    Ask { refused: Some(id.into()), ..Ask::default() }
}

/// A process that has the lease, and an auth server that does not answer it.
pub(crate) async fn owner_at_work<W: World>(
    world: &W,
    store: impl SharedStore,
    change: impl FnOnce(SharedSourceBuilder) -> SharedSourceBuilder,
) -> Process {
    let source = ScriptedSource::new();
    source.hold();
    let owner = process_with(world, &source, store, change);
    let handle = owner.handle.clone();
    actix_rt::spawn(async move { handle.get().await });
    source.called(1).await;
    owner
}

/// The operations that a store of a test passes on to the one behind it, which the expression names.
macro_rules! pass_on {
    (|$this:ident| $store:expr; $($operation:ident)*) => {
        $(crate::shared::world::pass_on!(@ $operation, $this, $store);)*
    };
    (@ watch, $this:ident, $store:expr) => {
        async fn watch(&self, key: &SharedKey) -> Result<News, StoreError> {
            let $this = self;
            $store.watch(key).await
        }
    };
    (@ look_or_lease, $this:ident, $store:expr) => {
        async fn look_or_lease(&self, key: &SharedKey, ask: &Ask) -> Result<Look, StoreError> {
            let $this = self;
            $store.look_or_lease(key, ask).await
        }
    };
    (@ load, $this:ident, $store:expr) => {
        async fn load(&self, key: &SharedKey) -> Result<Option<Stored>, StoreError> {
            let $this = self;
            $store.load(key).await
        }
    };
    (@ renew, $this:ident, $store:expr) => {
        async fn renew(&self, key: &SharedKey, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
            let $this = self;
            $store.renew(key, lease, time).await
        }
    };
    (@ commit, $this:ident, $store:expr) => {
        async fn commit(
            &self,
            key: &SharedKey,
            lease: &Lease,
            value: &[u8],
            lives: Duration,
        ) -> Result<bool, StoreError> {
            let $this = self;
            $store.commit(key, lease, value, lives).await
        }
    };
    (@ fail, $this:ident, $store:expr) => {
        async fn fail(&self, key: &SharedKey, lease: &Lease, failure: &Failure) -> Result<bool, StoreError> {
            let $this = self;
            $store.fail(key, lease, failure).await
        }
    };
}
pub(crate) use pass_on;

/// A store whose renewals get lost on the way.
pub(crate) struct Unrenewed<St>(pub(crate) St);

impl<St: SharedStore> SharedStore for Unrenewed<St> {
    pass_on!(|this| this.0; watch look_or_lease load commit fail);

    async fn renew(&self, _: &SharedKey, _: &Lease, _: Duration) -> Result<bool, StoreError> {
        Err(StoreError::new("lost on the way"))
    }
}

/// Makes tests of functions over a [`World`]: each on the store in memory, and on Redis.
macro_rules! on_each_store {
    ($($promise:ident),* $(,)?) => {
        mod memory {
            $(
                #[actix::test]
                async fn $promise() {
                    super::$promise(crate::shared::world::Memory::begin()).await;
                }
            )*
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(
                #[actix::test]
                async fn $promise() {
                    super::$promise(crate::shared::redis::server::Redis::begin()).await;
                }
            )*
        }
    };
}
pub(crate) use on_each_store;
