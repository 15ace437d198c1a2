//! The connection: made where it is used, forgotten when it fails, and the news that come by it.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::{
    ErrorKind, FromRedisValue, PushInfo, PushKind, RedisError, RedisResult, RetryMethod, ServerErrorKind,
};
use futures_util::future::{Either, select};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use super::address::Address;
use super::route::{Route, Wire};
use crate::store::{News, StoreError};

pub(super) struct Link {
    route: Route,
    /// How long one try of an operation may take, with connecting if there is no connection.
    limit: Duration,
    open: Mutex<Option<Open>>,
    /// Held by whoever connects, so that all others take the same connection.
    connecting: tokio::sync::Mutex<()>,
    /// How many connections there have been.
    made: AtomicU64,
    channels: Arc<Channels>,
}

/// A connection as an operation uses it.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) wire: Wire,
    /// Tells this connection from the ones before and after it.
    number: u64,
}

/// The connection that operations begin with, and the channels that it listens to.
struct Open {
    connection: Connection,
    subscribed: Vec<String>,
    /// The connection was lost.
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
        // First the flag is set. Then the waiters are woken. Therefore a woken waiter sees the flag.
        !self.runtime.is_finished() && !self.gone.load(Ordering::Relaxed)
    }
}

impl Link {
    /// `timeout`: for one operation in all. Each of its two tries has half of it.
    pub(super) fn new(address: Address, ca: Option<Vec<u8>>, timeout: Duration) -> RedisResult<Self> {
        let channels: Arc<Channels> = Arc::default();
        let hears = Arc::clone(&channels);
        let limit = timeout / 2;
        let route = Route::new(address, ca, limit, move |push| hears.hear(&push))?;
        let (open, connecting, made) = (Mutex::default(), tokio::sync::Mutex::default(), AtomicU64::new(0));
        Ok(Self { route, limit, open, connecting, made, channels })
    }

    /// Runs an operation. If the connection fails, or does not answer, the operation is tried once more by a new
    /// connection: an idle connection may be dead without a sign of it. So the operation must be one that may be
    /// carried out twice.
    pub(super) async fn run<T, F>(&self, operation: impl Fn(Connection) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let answer = match self.attempt(&operation).await {
            Err(error) if is_worth_a_second_try(&error) => self.attempt(&operation).await,
            answer => answer,
        };
        answer.map_err(|error| {
            if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) {
                return StoreError::new(
                    "the server is one of a cluster: begin the URL with `redis+cluster://`",
                );
            }
            StoreError::new(error)
        })
    }

    async fn attempt<T, F>(&self, operation: impl Fn(Connection) -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut limit = pin!(tokio::time::sleep(self.limit));
        let connection = before(limit.as_mut(), self.connection()).await?;
        let number = connection.number;
        let answer = before(limit, operation(connection)).await;
        if let Err(error) = &answer
            && !is_refusal(error)
        {
            self.give_up(number);
        }
        answer
    }

    /// The next operation begins with a new connection, for nobody knows whether this one still works. If there is a
    /// newer connection already, that one stays.
    fn give_up(&self, number: u64) {
        let given_up = self.open().take_if(|open| open.connection.number == number);
        if given_up.is_some() {
            self.channels.wake_all();
        }
    }

    fn live(&self) -> Option<Connection> {
        self.open().as_ref().filter(|open| open.is_live()).map(|open| open.connection.clone())
    }

    async fn connection(&self) -> RedisResult<Connection> {
        if let Some(found) = self.live() {
            return Ok(found);
        }
        let _connecting = self.connecting.lock().await;
        // Somebody may have connected meanwhile. One connection for all, or their news would come by several.
        if let Some(found) = self.live() {
            return Ok(found);
        }
        let gone = Arc::new(AtomicBool::new(false));
        let (channels, says) = (Arc::clone(&self.channels), Arc::clone(&gone));
        let hear = move |push: PushInfo| {
            // Before anybody is woken by it: they shall not find this connection again.
            if push.kind == PushKind::Disconnection {
                says.store(true, Ordering::Relaxed);
            }
            channels.hear(&push);
        };
        let mut wire = self.route.connect(self.limit, hear).await?;
        // Those who listened by the last connection go on listening by this one, before they look by it.
        let subscribed = self.channels.listened_to();
        if !subscribed.is_empty() {
            wire.subscribe(&subscribed).await?;
        }
        let runtime = tokio::spawn(std::future::pending());
        let connection = Connection { wire, number: self.made.fetch_add(1, Ordering::Relaxed) };
        *self.open() = Some(Open { connection: connection.clone(), subscribed, gone, runtime });
        Ok(connection)
    }

    /// The news of a channel. Redis has confirmed the subscription when this returns.
    pub(super) async fn news(&self, channel: &str) -> Result<News, StoreError> {
        // Listened to before it is subscribed to, so that no piece of news finds nobody.
        let news = News::new(self.channels.counter(channel));
        self.run(|connection| self.subscribe(connection, channel)).await?;
        Ok(news)
    }

    async fn subscribe(&self, mut connection: Connection, channel: &str) -> RedisResult<()> {
        let number = connection.number;
        let is_subscribed = |open: &Open| {
            open.connection.number == number && open.subscribed.iter().any(|known| known == channel)
        };
        if !self.open().as_ref().is_some_and(is_subscribed) {
            connection.wire.subscribe(&[channel.to_owned()]).await?;
            // Another operation may have given this connection up meanwhile.
            if let Some(open) = self.open().as_mut().filter(|open| open.connection.number == number) {
                open.subscribed.push(channel.to_owned());
            }
        }
        Ok(())
    }

    /// Waits for the answer to something that was sent after an operation whose answer nobody waits for any more.
    /// A connection that does not answer that either is given up.
    pub(super) async fn settle<F>(&self, connection: Connection, last: impl FnOnce(Wire) -> F)
    where
        F: Future<Output = RedisResult<()>>,
    {
        let answer = before(pin!(tokio::time::sleep(self.limit)), last(connection.wire)).await;
        if answer.is_err_and(|error| !is_refusal(&error)) {
            self.give_up(connection.number);
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The operation's result, or an error if the limit comes first.
async fn before<T>(
    limit: Pin<&mut Sleep>,
    operation: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    match select(pin!(operation), limit).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time").into()),
    }
}

/// The server has answered, and says no. The connection works.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_)) && !is_worth_a_second_try(error)
}

/// A new connection, perhaps to another server, may do better.
fn is_worth_a_second_try(error: &RedisError) -> bool {
    !matches!(error.retry_method(), RetryMethod::NoRetry | RetryMethod::MovedRedirect)
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
