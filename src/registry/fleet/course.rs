//! The task that asks the store for slots, and lends them to the gate. The first shard has it.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use tokio::task::JoinHandle;

use super::super::common::Common;
use super::super::gate::Lent;
use super::super::shard::Key;
use super::Fleet;
use crate::backoff::doubled;
use crate::store::{News, SlotAnswer, StoreError};
use crate::sync::{Ordering, lock};

/// The minimum time between two requests.
const GAP: Duration = Duration::from_millis(100);
/// How long a process holds slots for which processes without a slot wait.
const TURN: Duration = Duration::from_secs(1);
/// The time between two requests while something changes.
const TICK: Duration = Duration::from_secs(1);

/// When its owner is dropped, the slots are given back.
pub(in crate::registry) struct Course {
    fleet: Arc<Fleet>,
    /// Present until the course begins.
    own_limit: Option<OwnLimit>,
    task: Option<JoinHandle<()>>,
}

/// When this is dropped, the gate uses its own limit: when the task ends in any way, and when it never begins.
struct OwnLimit(Box<dyn Fn() + Send>);

impl Drop for OwnLimit {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Course {
    pub(in crate::registry) fn new<K: Key>(common: &Arc<Common<K>>) -> Option<Self> {
        let fleet = Arc::clone(common.fleet.as_ref()?);
        let common = Arc::downgrade(common);
        let goes_back = move || {
            if let Some(common) = common.upgrade() {
                common.lend(None);
            }
        };
        Some(Self { fleet, own_limit: Some(OwnLimit(Box::new(goes_back))), task: None })
    }

    /// On this thread's arbiter.
    pub(in crate::registry) fn begin<K: Key>(&mut self, common: &Arc<Common<K>>) {
        let Some(own_limit) = self.own_limit.take() else { return };
        let run = Run::new(Arc::clone(&self.fleet), Arc::clone(common));
        self.task = Some(tokio::task::spawn_local(async move {
            let _own_limit = own_limit;
            run.go_on().await;
        }));
    }
}

impl Course {
    /// The registry's last handle was dropped. Calls for the remaining waiters keep their slots: the other shards
    /// end first.
    pub(in crate::registry) async fn leave<K: Key>(self, common: Arc<Common<K>>) {
        for other in common.doors.iter().skip(1) {
            other.closed().await;
        }
        self.end().await;
    }

    /// Gives the slots back when no more calls are made here: the process may end after this. At most 2 s.
    pub(in crate::registry) async fn end(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // It sends no more requests after this.
            let _ = task.await;
        }
        if self.fleet.has_asked.swap(false, Ordering::Relaxed) {
            // If this fails, the lease ends.
            let _ = self.fleet.ask(0, 0).await;
        }
    }
}

/// If an arbiter has stopped, no task waits for this.
impl Drop for Course {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        // If this fails, or no task runs any more, the lease ends.
        let fleet = Arc::clone(&self.fleet);
        if fleet.has_asked.swap(false, Ordering::Relaxed)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { fleet.ask(0, 0).await.map(drop) });
        }
    }
}

impl fmt::Debug for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Course")
    }
}

struct Run<K: Key> {
    fleet: Arc<Fleet>,
    common: Arc<Common<K>>,
    last: SlotAnswer,
    /// Since when it has held slots without giving all of them back.
    since: Option<Duration>,
    news: Option<News>,
    /// The number that it has requested.
    wanted: usize,
    /// The next request is due at once, and not when the lease must be renewed.
    is_changing: bool,
    renew_at: Duration,
    failures: u32,
}

impl<K: Key> Run<K> {
    fn new(fleet: Arc<Fleet>, common: Arc<Common<K>>) -> Self {
        Self {
            fleet,
            common,
            last: SlotAnswer::default(),
            since: None,
            news: None,
            wanted: 0,
            is_changing: true,
            renew_at: Duration::ZERO,
            failures: 0,
        }
    }

    async fn go_on(mut self) {
        loop {
            let (running, demand) = lock(&self.common.gate).demand();
            // In an outage it still asks, because nothing would wake it when the store is back. If the store still
            // has an entry of this process, it first asks for no slots. That removes the entry, and clears
            // `is_short`. While `is_short` is set, a new key does not wake this task.
            let has_entry = self.fleet.has_asked.load(Ordering::Relaxed);
            if demand == 0 && self.last.held == 0 && self.failures == 0 && !has_entry {
                self.fleet.stirs.notified().await;
                continue;
            }
            let is_steady = !self.is_changing && demand == self.wanted;
            let until_renewal = self.renew_at.saturating_sub(self.now());
            if is_steady && !until_renewal.is_zero() {
                self.wait(TICK.min(until_renewal)).await;
                continue;
            }
            // New calls keep to `cap`. The running calls may be more.
            let cap = self.cap(demand);
            let sent = self.now();
            let wait = match self.fleet.ask(demand, cap.max(running)).await {
                Ok(answer) => self.answered(answer, demand, cap, sent).await,
                Err(error) => self.failed(&error),
            };
            self.wait(wait).await;
        }
    }

    fn now(&self) -> Duration {
        self.common.cells.clock().now().boot
    }

    /// The maximum number of calls here, because other processes want slots too.
    fn cap(&self, demand: usize) -> usize {
        let SlotAnswer { held, share, others_want, .. } = self.last;
        if !others_want {
            return demand;
        }
        let now = self.now();
        let turn_is_over = self.since.is_some_and(|since| now >= since.saturating_add(TURN));
        match share {
            0 if turn_is_over => 0,
            0 => demand.min(1),
            share if held > share => demand.min(share),
            _ => demand,
        }
    }

    async fn answered(&mut self, answer: SlotAnswer, demand: usize, cap: usize, sent: Duration) -> Duration {
        if std::mem::take(&mut self.failures) > 0 {
            let name = &*self.common.name;
            log::warn!(target: "tokenflight", "registry {name:?}: the store of the fleet's slots answers again");
        }
        let gave_all_back = cap == 0 && answer.held == 0;
        self.last = answer;
        self.since = (answer.held > 0).then_some(self.since.unwrap_or(sent));
        let is_short = answer.held < demand;
        self.fleet.is_short.store(is_short, Ordering::Relaxed);
        self.fleet.gives_back.store(answer.held > cap, Ordering::Relaxed);
        self.fleet.held.store(answer.held, Ordering::Relaxed);
        let slots = answer.held.min(cap);
        // Free slots belong to the other processes that want them.
        let free = if answer.others_want { 0 } else { answer.free };
        let until = sent.saturating_add(self.fleet.lease);
        self.common.lend(Some(Lent { slots, reach: slots.saturating_add(free), until, is_short }));
        // If the answer to the subscription does not come, the lease must not be lost.
        let next = sent.saturating_add(TICK.min(self.fleet.lease / 3));
        self.listen(is_short, next.saturating_sub(self.now())).await;
        if gave_all_back {
            // The other processes come first.
            self.news = None;
            return GAP * 2 + Duration::from_millis(fastrand::u64(..100));
        }
        self.is_changing = is_short || answer.others_want || answer.held > demand;
        (self.wanted, self.renew_at) = (demand, sent.saturating_add(self.fleet.lease / 3));
        next.saturating_sub(self.now()).max(GAP)
    }

    /// Subscribes to the news while slots are missing. Without news there is the next tick.
    async fn listen(&mut self, is_short: bool, limit: Duration) {
        if !is_short {
            self.news = None;
        } else if self.news.is_none() {
            self.news = self.fleet.watch(limit).await;
        }
    }

    /// Without the store each process uses its own limit.
    fn failed(&mut self, error: &StoreError) -> Duration {
        const LONGEST: Duration = Duration::from_secs(60);
        if self.failures == 0 {
            let name = &*self.common.name;
            log::warn!(target: "tokenflight", "registry {name:?}: {error}; it uses its own limit of calls, not the fleet's");
        }
        self.failures = self.failures.saturating_add(1);
        (self.last, self.since, self.news) = (SlotAnswer::default(), None, None);
        self.fleet.held.store(usize::MAX, Ordering::Relaxed);
        self.fleet.gives_back.store(false, Ordering::Relaxed);
        self.common.lend(None);
        self.is_changing = true;
        doubled(TICK, self.failures, LONGEST)
    }

    /// Waits until the time is over, or a change wakes it, and at least for the minimum time.
    async fn wait(&mut self, time: Duration) {
        tokio::time::sleep(GAP.min(time)).await;
        let rest = tokio::time::sleep(time.saturating_sub(GAP));
        if self.failures > 0 {
            return rest.await;
        }
        let waiting = self.last.owners.saturating_sub(self.fleet.slots);
        let news = async {
            match &mut self.news {
                Some(news) => heard(news, waiting).await,
                None => std::future::pending().await,
            }
        };
        select(pin!(self.fleet.stirs.notified()), select(pin!(news), pin!(rest))).await;
    }
}

/// Waits for news that concern this process. All waiting processes get the news of a free slot, and only few can
/// have it: about two of them ask. The others continue to wait. Otherwise all would ask for each slot. If none has
/// asked, the first process at its next tick gets the slot.
async fn heard(news: &mut News, waiting: usize) {
    /// The average number of waiting processes that ask.
    const ASK: usize = 2;
    loop {
        news.next().await;
        if fastrand::usize(..waiting.max(1)) < ASK {
            return;
        }
    }
}

impl<K: Key> Common<K> {
    /// Sets the gate's limit to these slots. The gate's decisions that follow are sent to the shards.
    pub(in crate::registry) fn lend(&self, slots: Option<Lent>) {
        let now = self.cells.clock().now().boot;
        let mut gate = lock(&self.gate);
        gate.lend(slots);
        while let Some(decided) = gate.next_decided(now) {
            self.send(&mut gate, decided, now);
        }
    }
}
