//! The connection: made where it is used, forgotten when it fails, and the news that come by it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::{ErrorKind, FromRedisValue, PushInfo, PushKind, RedisResult, ServerErrorKind};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::address::Address;
use super::route::{Route, Wire};
use crate::store::{News, StoreError};

pub(super) struct Link {
    route: Route,
    timeout: Duration,
    open: Mutex<Option<Open>>,
    /// How many connections there have been.
    made: AtomicU64,
    channels: Arc<Channels>,
}

/// A connection, and what it listens to.
struct Open {
    wire: Wire,
    number: u64,
    subscribed: Vec<String>,
    /// It was lost, and whoever takes its place has to be asked for.
    gone: Arc<AtomicBool>,
    /// Ends with the runtime that the connection's own tasks run on: an arbiter may go, and the store stay.
    runtime: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.runtime.abort();
    }
}

/// For each channel, a counter of its news.
#[derive(Default)]
struct Channels(Mutex<HashMap<String, watch::Sender<u64>>>);

impl Open {
    fn is_live(&self) -> bool {
        // Whoever was woken by the loss sees the flag: it was set before, and the wake-up orders the two.
        !self.runtime.is_finished() && !self.gone.load(Ordering::Relaxed)
    }
}

impl Link {
    pub(super) fn new(address: Address, ca: Option<Vec<u8>>, timeout: Duration) -> RedisResult<Self> {
        let channels: Arc<Channels> = Arc::default();
        let hears = Arc::clone(&channels);
        let route = Route::new(address, ca, timeout, move |push| hears.hear(&push))?;
        Ok(Self { route, timeout, open: Mutex::default(), made: AtomicU64::new(0), channels })
    }

    pub(super) async fn connection(&self) -> RedisResult<Wire> {
        self.numbered().await.map(|(_, wire)| wire)
    }

    async fn numbered(&self) -> RedisResult<(u64, Wire)> {
        let live = |open: &Option<Open>| {
            open.as_ref().filter(|open| open.is_live()).map(|open| (open.number, open.wire.clone()))
        };
        if let Some(found) = live(&self.open()) {
            return Ok(found);
        }
        let gone = Arc::new(AtomicBool::new(false));
        let (channels, says, moves) = (Arc::clone(&self.channels), Arc::clone(&gone), self.route.moves());
        let hear = move |push: PushInfo| {
            // Before anybody is woken by it: they shall not find this connection again.
            if moves && push.kind == PushKind::Disconnection {
                says.store(true, Ordering::Relaxed);
            }
            channels.hear(&push);
        };
        let mut wire = self.route.connect(self.timeout, hear).await?;
        // Those who listened by the last connection go on listening by this one, before they look by it.
        let subscribed = self.channels.listened_to();
        if !subscribed.is_empty() {
            wire.subscribe(&subscribed).await?;
        }
        let mut open = self.open();
        // Somebody may have been quicker. One connection for all, or their news would come by several.
        if let Some(found) = live(&open) {
            return Ok(found);
        }
        let runtime = tokio::spawn(std::future::pending());
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        *open = Some(Open { wire: wire.clone(), number, subscribed, gone, runtime });
        Ok((number, wire))
    }

    /// The news of a channel. Redis has confirmed the subscription when this returns.
    pub(super) async fn news(&self, channel: &str) -> RedisResult<News> {
        // Listened to before it is subscribed to, so that no piece of news finds nobody.
        let news = News::new(self.channels.counter(channel));
        let (number, mut wire) = self.numbered().await?;
        let is_subscribed = |open: &Open| open.subscribed.iter().any(|known| known == channel);
        if !self.open().as_ref().is_some_and(is_subscribed) {
            wire.subscribe(&[channel.to_owned()]).await?;
            // Another operation may have given this connection up meanwhile.
            if let Some(open) = self.open().as_mut().filter(|open| open.number == number) {
                open.subscribed.push(channel.to_owned());
            }
        }
        Ok(news)
    }

    /// After an error, the next operation begins with a new connection: nobody knows what this one is worth.
    /// (It may be half open, and a timeout of ours is the only sign of it.)
    pub(super) fn checked<T>(&self, answer: RedisResult<T>) -> Result<T, StoreError> {
        answer.map_err(|error| {
            *self.open() = None;
            self.channels.wake_all();
            if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) {
                return StoreError::new(
                    "the server is one of a cluster: begin the URL with `redis+cluster://`",
                );
            }
            StoreError::new(error)
        })
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channels {
    fn counter(&self, channel: &str) -> watch::Receiver<u64> {
        let mut channels = self.lock();
        channels.entry(channel.to_owned()).or_default().subscribe()
    }

    fn listened_to(&self) -> Vec<String> {
        let channels = self.lock();
        channels.iter().filter(|(_, news)| news.receiver_count() > 0).map(|(name, _)| name.clone()).collect()
    }

    fn hear(&self, push: &PushInfo) {
        match (&push.kind, push.data.first().cloned().map(String::from_redis_value)) {
            // Nobody knows what was missed, so whoever waits had better look.
            (PushKind::Disconnection, _) => self.wake_all(),
            (PushKind::Message, Some(Ok(channel))) => {
                if let Some(counter) = self.lock().get(&channel) {
                    counter.send_modify(|count| *count += 1);
                }
            }
            _ => {}
        }
    }

    fn wake_all(&self) {
        for counter in self.lock().values() {
            counter.send_modify(|count| *count += 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
