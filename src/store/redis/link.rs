//! The connection: made at its first use, dropped when it fails, and the carrier of the news.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::{ErrorKind, PushInfo, PushKind, RedisError, RedisResult, RetryMethod, ServerErrorKind};
use futures_util::future::{Either, select};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use super::channels::{Channels, Subscriptions};
use super::route::{Route, Wire, is_login_refused};
use crate::store::{News, StoreError};

pub(super) struct Link {
    route: Route,
    /// The time limit of one try of an operation, including connecting if there is no connection.
    limit: Duration,
    open: Mutex<Option<Open>>,
    /// Held while one task connects, so that all others use the same connection.
    connecting: tokio::sync::Mutex<()>,
    /// How many connections there have been.
    made: AtomicU64,
    channels: Arc<Channels>,
}

/// A connection for an operation.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) wire: Wire,
    subscriptions: Arc<Subscriptions>,
    /// Distinguishes this connection from the ones before and after it.
    number: u64,
}

/// The connection with which operations begin.
struct Open {
    connection: Connection,
    /// The connection was lost.
    gone: Arc<AtomicBool>,
    /// Unsubscribes from channels without listeners. It ends with the runtime of the connection's own tasks: an
    /// arbiter may stop while the store continues.
    tidies: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tidies.abort();
    }
}

impl Open {
    fn is_live(&self) -> bool {
        // First the flag is set. Then the waiters are woken. Therefore a woken waiter sees the flag.
        !self.tidies.is_finished() && !self.gone.load(Ordering::Relaxed)
    }
}

impl Link {
    /// `timeout`: for the whole operation. Each of its two tries gets half of it.
    pub(super) fn new(route: Route, timeout: Duration) -> Self {
        let (open, connecting, made) = (Mutex::default(), tokio::sync::Mutex::default(), AtomicU64::new(0));
        Self { route, limit: timeout / 2, open, connecting, made, channels: Channels::new() }
    }

    /// Runs an operation. If the connection fails, or does not answer, the operation is tried once more on a new
    /// connection, because an idle connection may be dead without a sign. Therefore the operation must be safe to
    /// carry out twice.
    pub(super) async fn run<T, F>(&self, operation: impl Fn(Connection) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let answer = match self.attempt(&operation).await {
            Err(error) if self.is_worth_a_second_try(&error) => self.attempt(&operation).await,
            answer => answer,
        };
        answer.map_err(|error| self.told(&error))
    }

    /// A connection may lose its login during its use. In a cluster the first command logs in.
    fn is_worth_a_second_try(&self, error: &RedisError) -> bool {
        is_worth_a_second_try(error) || (self.route.login().is_asked() && is_login_refused(error))
    }

    /// The error's text instead of the error: a text of Redis or a proxy may contain the password.
    fn told(&self, error: &RedisError) -> StoreError {
        if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) {
            return StoreError::new("the server is one of a cluster: begin the URL with `redis+cluster://`");
        }
        let text = self.route.login().clean(&error.to_string());
        StoreError::new(text.unwrap_or_else(|| unshown(error)))
    }

    async fn attempt<T, F>(&self, operation: impl Fn(Connection) -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut limit = pin!(tokio::time::sleep(self.limit));
        let connection = before(limit.as_mut(), self.connection()).await?;
        let number = connection.number;
        let answer = before(limit, async {
            let Connection { mut wire, subscriptions, .. } = connection.clone();
            subscriptions.listen_again(&mut wire, &self.channels).await?;
            operation(connection).await
        })
        .await;
        if let Err(error) = &answer
            && !is_refusal(error)
        {
            self.give_up(number);
        }
        answer
    }

    /// The next operation begins with a new connection, because it is unknown whether this one still works. If
    /// there is a newer connection already, that one stays.
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
        // Another task may have connected meanwhile. There must be one connection for all, or their news would come
        // on several connections.
        if let Some(found) = self.live() {
            return Ok(found);
        }
        let gone = Arc::new(AtomicBool::new(false));
        let (channels, says) = (Arc::clone(&self.channels), Arc::clone(&gone));
        let hear = move |push: PushInfo| {
            // Before any waiter is woken by this: waiters must not find this connection again.
            if push.kind == PushKind::Disconnection {
                says.store(true, Ordering::Relaxed);
            }
            channels.hear(&push);
        };
        let mut wire = self.route.connect(self.limit, &self.channels, hear).await?;
        // Listeners of the last connection continue on this one, before they look.
        let subscriptions = Arc::new(Subscriptions::begin(&mut wire, &self.channels).await?);
        let tidies = tokio::spawn({
            let (subscriptions, channels) = (Arc::clone(&subscriptions), Arc::clone(&self.channels));
            let wire = wire.clone();
            async move { subscriptions.tidy(wire, &channels).await }
        });
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let connection = Connection { wire, subscriptions, number };
        *self.open() = Some(Open { connection: connection.clone(), gone, tidies });
        Ok(connection)
    }

    /// The news of a channel. When this returns, Redis has confirmed the subscription.
    pub(super) async fn news(&self, channel: &str) -> Result<News, StoreError> {
        // The listener is added before the subscription, so that every message finds it.
        let news = self.channels.listen(channel);
        let subscribes = |mut connection: Connection| async move {
            connection.subscriptions.subscribe(&mut connection.wire, channel).await
        };
        self.run(subscribes).await?;
        Ok(news)
    }

    /// The name of this process among the waiters in Redis.
    pub(super) fn name(&self) -> &str {
        self.channels.name()
    }

    /// Redis has this process's name among the waiters of the channel's key.
    pub(super) fn note_waiting(&self, channel: &str) {
        self.channels.set_waiting(channel, true);
    }

    /// How many channels have listeners.
    pub(super) fn listened_to(&self) -> usize {
        self.channels.listened_to().len()
    }

    /// Waits for the answer to a command after an operation whose caller has gone. A connection that does not
    /// answer this command either is closed.
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

/// The operation's result, or an error at the limit.
async fn before<T>(
    limit: Pin<&mut Sleep>,
    operation: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    match select(pin!(operation), limit).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time").into()),
    }
}

/// The server has answered, and refuses. The connection works.
fn is_refusal(error: &RedisError) -> bool {
    error.clone().into_server_errors().is_some() && !is_worth_a_second_try(error) && !is_login_refused(error)
}

/// Whether a new connection, perhaps to another server, may succeed.
fn is_worth_a_second_try(error: &RedisError) -> bool {
    !matches!(error.retry_method(), RetryMethod::NoRetry | RetryMethod::MovedRedirect)
}

/// The sentence in place of a text that contains a secret of the login. A code in the text is kept if it is one of
/// Redis. Another code may be a part of the secret.
fn unshown(error: &RedisError) -> String {
    const CODES: &[&str] =
        &["LOADING", "MASTERDOWN", "MISCONF", "NOAUTH", "NOPERM", "OOM", "READONLY", "WRONGPASS"];
    let text = error.to_string();
    let words = text.split(|char: char| !char.is_ascii_uppercase());
    let code = words.filter_map(|word| CODES.iter().find(|code| **code == word)).copied().next();
    let code = code.unwrap_or(error.category());
    format!("{code}: the rest contains a secret of the login, and is not shown")
}
