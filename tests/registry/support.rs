//! Helpers of the tests: a registry in virtual time, a script for each key, and an actor that counts its answers.

use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use actix::prelude::*;
use tokenflight::registry::{TokenReady, TokenRegistry, TokenRegistryBuilder};
use tokenflight::source::{Group, KeyedSource};
use tokenflight::testing::{Answer, ManualClock, ScriptedSource};
use tokenflight::{FetchContext, RefreshPolicy, SourceError, Token, TokenError, TokenSource};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) type Outcome = Result<Token, TokenError>;

/// A script for each key. A clone is the same source.
#[derive(Clone, Default)]
pub(crate) struct Scripts(Arc<Inner>);

#[derive(Default)]
struct Inner {
    of: Mutex<HashMap<u32, ScriptedSource>>,
    running: AtomicUsize,
    most: AtomicUsize,
    clients: Mutex<HashMap<u32, &'static str>>,
    groups: Mutex<HashMap<u32, &'static str>>,
    /// Of each group: the calls that run now, and at once at most.
    of_group: Mutex<HashMap<&'static str, (usize, usize)>>,
}

impl Scripts {
    /// The key's script. A call takes 60 ms.
    pub(crate) fn of(&self, key: u32) -> ScriptedSource {
        let mut of = self.0.of.lock().unwrap();
        of.entry(key).or_insert_with(|| ScriptedSource::new().taking(millis(60))).clone()
    }

    /// Calls for all keys.
    pub(crate) fn calls(&self) -> usize {
        self.0.of.lock().unwrap().values().map(ScriptedSource::calls).sum()
    }

    /// How many calls ran at once, at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.0.most.load(Ordering::Relaxed)
    }

    /// The same for the keys of this group.
    pub(crate) fn most_at_once_of(&self, group: &'static str) -> usize {
        self.0.of_group.lock().unwrap().get(group).map_or(0, |(_, most)| *most)
    }

    /// How many calls run now.
    pub(crate) fn running(&self) -> usize {
        self.0.running.load(Ordering::Relaxed)
    }

    /// These keys are of this client. "panic": the source panics when it is asked.
    pub(crate) fn client(&self, keys: impl IntoIterator<Item = u32>, client: &'static str) {
        self.0.clients.lock().unwrap().extend(keys.into_iter().map(|key| (key, client)));
    }

    /// The same for the group.
    pub(crate) fn group(&self, keys: impl IntoIterator<Item = u32>, group: &'static str) {
        self.0.groups.lock().unwrap().extend(keys.into_iter().map(|key| (key, group)));
    }
}

/// A call, with its group.
struct Running(Arc<Inner>, Option<&'static str>);

impl Running {
    fn begin(inner: &Arc<Inner>, key: u32) -> Self {
        let running = inner.running.fetch_add(1, Ordering::Relaxed) + 1;
        inner.most.fetch_max(running, Ordering::Relaxed);
        let group = inner.groups.lock().unwrap().get(&key).copied();
        if let Some(group) = group {
            let mut of_group = inner.of_group.lock().unwrap();
            let (now, most) = of_group.entry(group).or_default();
            *now += 1;
            *most = (*most).max(*now);
        }
        Self(Arc::clone(inner), group)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
        if let Some(group) = self.1 {
            self.0.of_group.lock().unwrap().get_mut(group).unwrap().0 -= 1;
        }
    }
}

fn named(names: &Mutex<HashMap<u32, &'static str>>, key: u32) -> Option<Group> {
    let name = names.lock().unwrap().get(&key).copied()?;
    assert_ne!(name, "panic", "the test says so");
    Some(Group::of(name))
}

impl KeyedSource<u32> for Scripts {
    async fn fetch(&self, key: &u32, cx: FetchContext) -> Result<Token, SourceError> {
        let _running = Running::begin(&self.0, *key);
        self.of(*key).fetch(cx).await
    }

    fn group(&self, key: &u32) -> Option<Group> {
        named(&self.0.groups, *key)
    }

    fn client(&self, key: &u32) -> Option<Group> {
        named(&self.0.clients, *key)
    }
}

/// A registry on this arbiter, in paused time.
pub(crate) struct Rig {
    pub(crate) tokens: TokenRegistry<u32>,
    pub(crate) source: Scripts,
    pub(crate) clock: ManualClock,
}

/// Exact pauses, and tokens that have settled as they come.
pub(crate) fn plain() -> RefreshPolicy {
    RefreshPolicy::default().jitter(0.0).settle(millis(0))
}

pub(crate) fn rig() -> Rig {
    rig_with(|builder| builder)
}

pub(crate) fn rig_with(set: impl FnOnce(TokenRegistryBuilder<u32>) -> TokenRegistryBuilder<u32>) -> Rig {
    tokio::time::pause();
    another(set)
}

/// A further one, where time stands still already.
pub(crate) fn another(set: impl FnOnce(TokenRegistryBuilder<u32>) -> TokenRegistryBuilder<u32>) -> Rig {
    let (source, clock) = (Scripts::default(), ManualClock::new());
    let builder = TokenRegistry::builder(source.clone()).policy(plain()).clock(clock.clone()).seed(7);
    Rig { tokens: set(builder).start().expect("the settings are sound"), source, clock }
}

impl Rig {
    /// One who asks, and does so now.
    pub(crate) fn asks(&self, key: u32) -> tokio::task::JoinHandle<Outcome> {
        actix_rt::spawn(self.tokens.get(&key))
    }
}

pub(crate) fn transient() -> Answer {
    Answer::Error(SourceError::transient("the server is down"))
}

pub(crate) fn terminal() -> Answer {
    Answer::Error(SourceError::terminal("access_denied"))
}

pub(crate) fn token(secret: &str, lifetime: Duration) -> Answer {
    Answer::Token(Token::new(secret).with_lifetime(lifetime))
}

/// Waits until everything that can run without time passing has run.
pub(crate) async fn settle() {
    tokio::time::sleep(millis(1)).await;
}

/// Polls it once. Returns whether it waits.
pub(crate) async fn begins(future: &mut (impl Future + Unpin)) -> bool {
    poll_fn(|task| Poll::Ready(Pin::new(&mut *future).poll(task).is_pending())).await
}

/// What a collector has been told, by key and ticket.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Answers>>);

/// By key and ticket.
type Answers = BTreeMap<(u32, u64), Vec<Outcome>>;

impl Told {
    pub(crate) fn to(&self, key: u32, ticket: u64) -> Vec<Outcome> {
        self.0.lock().unwrap().get(&(key, ticket)).cloned().unwrap_or_default()
    }

    pub(crate) fn total(&self) -> usize {
        self.0.lock().unwrap().values().map(Vec::len).sum()
    }

    #[track_caller]
    pub(crate) fn assert_each_once(&self, key: u32, tickets: std::ops::Range<u64>) {
        for ticket in tickets {
            assert_eq!(self.to(key, ticket).len(), 1, "answers to ticket {ticket} of key {key}");
        }
    }
}

/// An actor that notes each answer.
pub(crate) struct Collector(Told);

impl Collector {
    pub(crate) fn begin() -> (Addr<Self>, Told) {
        let told = Told::default();
        (Self(told.clone()).start(), told)
    }
}

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<TokenReady<u32>> for Collector {
    type Result = ();

    fn handle(&mut self, ready: TokenReady<u32>, _: &mut Context<Self>) {
        self.0.0.lock().unwrap().entry((ready.key, ready.ticket)).or_default().push(ready.result);
    }
}
