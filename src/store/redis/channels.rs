//! The listeners of each channel, and the subscriptions of a connection for them.
//!
//! A channel is subscribed to while there is a listener. Each connection has a task that unsubscribes from channels
//! without listeners, and from a channel that floods the connection. Listeners of a flooded channel have been
//! woken, and the next operation subscribes again before it looks.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::str;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redis::{PushInfo, PushKind, RedisResult, Value, cmd};
use tokio::sync::{RwLock, watch};

use super::route::Wire;
use crate::store::News;

/// The channels with listeners.
pub(super) struct Channels {
    /// The name of this process. Some news are for certain processes only, and contain their names.
    name: String,
    state: Mutex<State>,
    /// Increases when there is a channel to unsubscribe from.
    untidy: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    listened_to: HashMap<String, Channel>,
    /// The channels that flood the connection. Their names stay here until they are subscribed to again.
    flooded: HashSet<String>,
    /// The channels whose last listener has left while this process's name was among the waiters in Redis.
    left_waiting: HashSet<String>,
}

#[derive(Default)]
struct Channel {
    /// Increases with each message.
    counter: watch::Sender<u64>,
    /// How many messages came since the channel was last subscribed to.
    heard: u32,
    /// Whether this process's name is among the waiters in Redis.
    is_waiting: bool,
}

impl Channels {
    pub(super) fn new() -> Arc<Self> {
        let name = format!("{:016x}", fastrand::u64(..));
        Arc::new(Self { name, state: Mutex::default(), untidy: watch::Sender::new(0) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The channel is in [`listened_to`](Self::listened_to) until the last of its `News` is dropped.
    pub(super) fn listen(self: &Arc<Self>, channel: &str) -> News {
        let counter = self.lock().listened_to.entry(channel.to_owned()).or_default().counter.subscribe();
        let listener = Listener { channels: Arc::clone(self), channel: channel.to_owned() };
        News::guarded(counter, Arc::new(listener))
    }

    pub(super) fn listened_to(&self) -> Vec<String> {
        self.lock().listened_to.keys().cloned().collect()
    }

    /// Called by the task of the connection, for each push message.
    pub(super) fn hear(&self, push: &PushInfo) {
        match push.kind {
            // It is unknown which news were missed. Therefore all waiters must look.
            PushKind::Disconnection => self.wake_all(),
            PushKind::Message => {
                if let Some(name) = push.data.first().and_then(text) {
                    let news = push.data.get(1).and_then(text);
                    self.count(name, news.is_none_or(|news| self.is_meant(news)));
                    if news.is_some_and(|news| self.has_struck_out(news)) {
                        self.set_waiting(name, false);
                    }
                }
            }
            _ => {}
        }
    }

    /// The news of a lease's end contain the processes that must look. All other news are for all processes.
    fn is_meant(&self, news: &str) -> bool {
        let Some(names) = news.strip_prefix("failed ").filter(|names| !names.is_empty()) else { return true };
        self.is_among(names)
    }

    fn is_among(&self, names: &str) -> bool {
        names.split(' ').any(|name| name == self.name)
    }

    /// Whether the script with these news has deleted this process's name from the waiters in Redis.
    fn has_struck_out(&self, news: &str) -> bool {
        news == "token" || news.strip_prefix("failed ").is_some_and(|names| self.is_among(names))
    }

    /// Whether this process's name is among the waiters in Redis. When the last listener leaves, a waiter's name is
    /// deleted there. Otherwise the end of a lease would wake a process that waits no longer.
    pub(super) fn set_waiting(&self, channel: &str, is_waiting: bool) {
        if let Some(channel) = self.lock().listened_to.get_mut(channel) {
            channel.is_waiting = is_waiting;
        }
    }

    /// First a channel is marked as flooded. Then its listeners are woken. Therefore a listener that looks because
    /// of this message subscribes again before its look. A listener that has looked already is woken once more.
    fn count(&self, name: &str, is_meant: bool) {
        /// More than the messages in the life of a token, even if refreshes fail.
        const FLOOD: u32 = 32;
        let mut state = self.lock();
        let state = &mut *state;
        let Some(channel) = state.listened_to.get_mut(name) else { return };
        channel.heard = channel.heard.saturating_add(1);
        if channel.heard == FLOOD {
            state.flooded.insert(name.to_owned());
            self.note_untidy();
        }
        // A listener that gets no news for a while must look.
        if is_meant || channel.heard == FLOOD {
            channel.counter.send_modify(|count| *count += 1);
        }
    }

    fn note_untidy(&self) {
        self.untidy.send_modify(|count| *count += 1);
    }

    pub(super) fn wake_all(&self) {
        for channel in self.lock().listened_to.values() {
            channel.counter.send_modify(|count| *count += 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// A part of `News`, after its receiver.
#[derive(Debug)]
struct Listener {
    channels: Arc<Channels>,
    channel: String,
}

impl Drop for Listener {
    /// First `News` drops its receiver. Then it drops this. Therefore the last of a channel's listeners finds no
    /// receiver here. `listen` adds a receiver under the same lock. If it comes before, the channel stays. If it
    /// comes after, it makes the channel anew.
    fn drop(&mut self) {
        let mut state = self.channels.lock();
        let channel = state.listened_to.get(&self.channel);
        if channel.is_some_and(|channel| channel.counter.receiver_count() == 0) {
            let left = state.listened_to.remove(&self.channel);
            state.flooded.remove(&self.channel);
            if left.is_some_and(|channel| channel.is_waiting) {
                state.left_waiting.insert(self.channel.clone());
            }
            drop(state);
            self.channels.note_untidy();
        }
    }
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channels").field("listened_to", &self.listened_to().len()).finish_non_exhaustive()
    }
}

/// The subscriptions of one connection.
pub(super) struct Subscriptions {
    /// `true`: Redis has confirmed it. `false`: the request was sent, and the answer may have been lost.
    known: Mutex<HashMap<String, bool>>,
    /// Held by all subscribers at once, or by one unsubscriber alone.
    order: RwLock<()>,
}

impl Subscriptions {
    /// Subscribes a new connection to the present channels.
    pub(super) async fn begin(wire: &mut Wire, channels: &Channels) -> RedisResult<Self> {
        let listened_to = channels.listened_to();
        if !listened_to.is_empty() {
            wire.subscribe(&listened_to).await?;
        }
        let known = listened_to.into_iter().map(|channel| (channel, true)).collect();
        Ok(Self { known: Mutex::new(known), order: RwLock::default() })
    }

    /// When this returns, Redis has confirmed the subscription. The caller must listen to the channel already.
    ///
    /// First the caller listens. Then this waits for its turn. [`tidy`](Self::tidy) checks the listeners in its own
    /// turn. If that turn comes later, it sees the listener. If it came earlier, it has removed the channel from
    /// `known` and has the answer to its UNSUBSCRIBE, so the SUBSCRIBE is sent after that. Therefore every listener
    /// has a subscription.
    pub(super) async fn subscribe(&self, wire: &mut Wire, channel: &str) -> RedisResult<()> {
        let _turn = self.order.read().await;
        self.subscribe_in_turn(wire, channel).await
    }

    async fn subscribe_in_turn(&self, wire: &mut Wire, channel: &str) -> RedisResult<()> {
        if self.known().get(channel) != Some(&true) {
            // Before the sending, because this future may be dropped while it waits for the answer.
            self.known().insert(channel.to_owned(), false);
            wire.subscribe(&[channel.to_owned()]).await?;
            self.known().insert(channel.to_owned(), true);
        }
        Ok(())
    }

    /// Subscribes again to flooded channels, if there are any. An operation begins with this, so that it misses no
    /// later news.
    ///
    /// First Redis confirms. Then the name is removed. Therefore, if this future is dropped in between, the next
    /// operation subscribes again. The name is removed in the same turn: [`tidy`](Self::tidy) comes before, or
    /// finds it removed.
    pub(super) async fn listen_again(&self, wire: &mut Wire, channels: &Channels) -> RedisResult<()> {
        let flooded: Vec<String> = channels.lock().flooded.iter().cloned().collect();
        if flooded.is_empty() {
            return Ok(());
        }
        let _turn = self.order.read().await;
        for name in flooded {
            self.subscribe_in_turn(wire, &name).await?;
            let mut state = channels.lock();
            state.flooded.remove(&name);
            if let Some(channel) = state.listened_to.get_mut(&name) {
                channel.heard = 0;
            }
        }
        Ok(())
    }

    /// Unsubscribes from channels without listeners, and from channels that flood the connection, as long as the
    /// connection lasts. Also deletes this process's name from the waiters in Redis where it waits no longer.
    pub(super) async fn tidy(&self, mut wire: Wire, channels: &Channels) {
        // Before the first look, so that no leaving listener is missed.
        let mut untidy = channels.untidy.subscribe();
        loop {
            self.unsubscribe(&mut wire, channels).await;
            if untidy.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// A process that begins to wait again subscribes after this turn, and looks after that. Therefore this deletes no
    /// name of a process that waits.
    async fn unsubscribe(&self, wire: &mut Wire, channels: &Channels) {
        let _turn = self.order.write().await;
        let (left, left_waiting): (Vec<String>, _) = {
            let mut state = channels.lock();
            let mut left_waiting = mem::take(&mut state.left_waiting);
            left_waiting.retain(|name| !state.listened_to.contains_key(name));
            let is_wanted =
                |name: &String| state.listened_to.contains_key(name) && !state.flooded.contains(name);
            let left = self.known().extract_if(|name, _| !is_wanted(name)).map(|(name, _)| name).collect();
            (left, left_waiting)
        };
        if !left.is_empty() {
            // If this fails, the connection is lost, or Redis does not allow it. Then the subscription stays until
            // the connection ends, and its news have no listener.
            let _ = wire.unsubscribe(&left).await;
        }
        for place in left_waiting.iter().filter_map(|channel| channel.strip_suffix("news")) {
            // If this fails, the name counts until the end of the lease that this process has seen.
            let mut strikes = cmd("HDEL");
            strikes.arg(format!("{place}waiting")).arg(channels.name());
            let _ = strikes.exec_async(wire).await;
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
