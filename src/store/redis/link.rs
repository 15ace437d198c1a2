//! The connection: made where it is used, forgotten when it fails, and the news that come by it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, FromRedisValue, PushInfo, PushKind, RedisResult};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::store::News;

/// Hidden: it may hold a password.
#[derive(Clone)]
pub(super) struct Url(pub(super) String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

pub(super) struct Link {
    client: Client,
    timeout: Duration,
    open: Mutex<Option<Open>>,
    /// How many connections there have been.
    made: AtomicU64,
    channels: Arc<Channels>,
}

/// A connection, and what it listens to.
struct Open {
    manager: ConnectionManager,
    number: u64,
    subscribed: Vec<String>,
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

impl Link {
    pub(super) fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout, open: Mutex::default(), made: AtomicU64::new(0), channels: Arc::default() }
    }

    /// Does not wait: what connects is the first command.
    pub(super) fn connection(&self) -> RedisResult<ConnectionManager> {
        self.numbered().map(|(_, manager)| manager)
    }

    fn numbered(&self) -> RedisResult<(u64, ConnectionManager)> {
        let mut open = self.open();
        if let Some(open) = open.as_ref().filter(|open| !open.runtime.is_finished()) {
            return Ok((open.number, open.manager.clone()));
        }
        let channels = Arc::clone(&self.channels);
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
            // A blip costs nobody anything, and a Redis that is down is soon known to be.
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(50))
            .set_push_sender(move |push: PushInfo| {
                channels.hear(&push);
                Ok::<(), ()>(())
            })
            .set_automatic_resubscription();
        let manager = ConnectionManager::new_lazy_with_config(self.client.clone(), config)?;
        let runtime = tokio::spawn(std::future::pending());
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        *open = Some(Open { manager: manager.clone(), number, subscribed: Vec::new(), runtime });
        Ok((number, manager))
    }

    /// The news of a channel. Redis has confirmed the subscription when this returns.
    pub(super) async fn news(&self, channel: &str) -> RedisResult<News> {
        let (number, mut connection) = self.numbered()?;
        // Listened to before it is subscribed to, so that no piece of news finds nobody.
        let news = News::new(self.channels.counter(channel));
        let is_subscribed = |open: &Open| open.subscribed.iter().any(|known| known == channel);
        if !self.open().as_ref().is_some_and(is_subscribed) {
            connection.subscribe(channel).await?;
            // Another operation may have given this connection up meanwhile.
            if let Some(open) = self.open().as_mut().filter(|open| open.number == number) {
                open.subscribed.push(channel.to_owned());
            }
        }
        Ok(news)
    }

    /// After an error, the next operation begins with a new connection: nobody knows what this one is worth.
    /// (It may be half open, and a timeout of ours is the only sign of it.)
    pub(super) fn checked<T>(&self, answer: RedisResult<T>) -> RedisResult<T> {
        if answer.is_err() {
            *self.open() = None;
            self.channels.wake_all();
        }
        answer
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
