//! A shard: the actor that drives the machines of some of a registry's keys, with one timer.
//!
//! A key at rest is a small record. An event wakes its machine, which decides. The shard performs the effects as a
//! [`TokenActor`](crate::TokenActor) does ([`Shell`]), and makes an idle machine rest again. This file has the
//! actor and the handling of an event. [`entries`] has the keys and their eviction, [`busy`] a machine and its
//! call, [`alarms`] the moments of the machines' own events, [`inbox`] the messages, [`rounds`] the shard's own work: ended calls, alarms, crowds.

mod alarms;
mod busy;
mod decisions;
mod entries;
mod inbox;
mod key;
mod rounds;

use std::collections::VecDeque;
use std::fmt;
use std::hash::Hash;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::UnboundedReceiver;

use super::common::{Common, Heard, Who};
use super::message::Reply;
use super::window::Window;
use crate::actor::{Delivery, Shell, Ticket, yield_turn};
use crate::clock::Timestamp;
use crate::error::TokenError;
use crate::flight::{Counters, Effect, Event, Machine};
use crate::queue::CHUNK;
use crate::sync::Ordering;

use alarms::Alarms;
use busy::Busy;
use decisions::Decision;
use entries::{Entries, Entry, State};
use inbox::Needs;
use key::OneKey;
use rounds::{Rounds, Timer, Work};

pub(super) struct Shard<K: Key> {
    number: usize,
    common: Arc<Common<K>>,
    entries: Entries<K>,
    /// Its keys with a waiter or a flight.
    busy: usize,
    /// A busy place was taken for the next event.
    has_place_ready: bool,
    /// The moments of events that happen by themselves.
    alarms: Alarms,
    timer: Option<Timer>,
    /// Calls and looks that are under way.
    works: FuturesUnordered<Work>,
    /// The gate's decisions for keys of this shard.
    decided: VecDeque<Decision>,
    /// The same decisions, from other shards.
    heard: UnboundedReceiver<Heard>,
    /// Keys whose crowds are being told.
    telling: VecDeque<Who>,
    /// Keys whose lines have more callers than are received at once.
    crowds: VecDeque<Who>,
    delivery: Delivery,
    effects: Vec<Effect<Ticket>>,
    dice: fastrand::Rng,
    /// The counters of its keys.
    totals: Counters,
    /// Where the search for idle keys continues, and when the next one begins.
    sweep: Option<u32>,
    next_sweep: Duration,
    leaving: Vec<Reply<()>>,
    has_parted: bool,
    #[cfg(feature = "metrics")]
    told: super::observe::Told,
    /// The fleet's slots. Only the first shard has them.
    #[cfg(feature = "shared")]
    course: Option<super::fleet::Course>,
    /// Events since the last pause for the arbiter's other tasks.
    events: usize,
}

/// The parts of a shard. If its arbiter has stopped, this is dropped, and no shard begins.
pub(super) struct Start {
    pub(super) number: usize,
    pub(super) heard: UnboundedReceiver<Heard>,
    pub(super) seed: u64,
    #[cfg(feature = "shared")]
    pub(super) course: Option<super::fleet::Course>,
}

/// The requirements on a key of a registry.
///
/// Its `Clone`, `Eq`, `Hash` and `Drop` run under the registry's locks. They must not call the registry.
pub trait Key: Clone + Eq + Hash + Send + Sync + 'static {}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Key for K {}

impl<K: Key> Shard<K> {
    pub(super) fn new(common: Arc<Common<K>>, start: Start) -> Self {
        let now = common.cells.clock().now().boot;
        let next_sweep = now.saturating_add(common.limits.sweep_interval());
        Self {
            number: start.number,
            common,
            entries: Entries::new(),
            busy: 0,
            has_place_ready: false,
            alarms: Alarms::default(),
            timer: None,
            works: FuturesUnordered::new(),
            decided: VecDeque::new(),
            heard: start.heard,
            telling: VecDeque::new(),
            crowds: VecDeque::new(),
            delivery: Delivery::default(),
            effects: Vec::new(),
            dice: fastrand::Rng::with_seed(start.seed),
            totals: Counters::default(),
            sweep: None,
            next_sweep,
            leaving: Vec::new(),
            has_parted: false,
            #[cfg(feature = "metrics")]
            told: super::observe::Told::default(),
            #[cfg(feature = "shared")]
            course: start.course,
            events: 0,
        }
    }

    fn now(&self) -> Timestamp {
        self.common.cells.clock().now()
    }

    /// Performs an event for a key, and all decisions of the gate that follow.
    fn on(&mut self, number: u32, entry: Box<Entry<K>>, event: Event<Ticket>) {
        let now = self.now();
        self.step(number, entry, [event], now);
        self.hear(now);
    }

    fn step(
        &mut self,
        number: u32,
        mut entry: Box<Entry<K>>,
        events: impl IntoIterator<Item = Event<Ticket>>,
        now: Timestamp,
    ) {
        let was_busy = matches!(entry.state, State::Busy(_));
        let has_place = was_busy || self.take_place();
        let mut busy = self.wake(&mut entry, now);
        busy.machine.let_fly_unasked(has_place);
        let before = busy.machine.counters();
        for event in events {
            OneKey { shard: self, number, entry: &entry, busy: &mut busy }.on(event, now);
            self.events += 1;
        }
        self.totals.add(&before, &busy.machine.counters());
        self.tell(number, &entry, &mut busy);
        entry.took = busy.took.or(entry.took);
        let resting = busy.rest(now);
        let is_busy = resting.is_none();
        if is_busy {
            self.set_alarm(number, &mut entry, &mut busy, now);
        }
        entry.state = resting.map_or(State::Busy(busy), State::Resting);
        match (has_place, is_busy) {
            (true, false) => self.give_place_back(),
            // It is counted, for any reason why it is busy.
            (false, true) => self.take_place_beyond_the_limit(),
            _ => {}
        }
        self.entries.put(number, entry);
        // Several shards may have made keys at the same time, or may have found none to evict. Then there is one
        // key too many.
        if !is_busy && self.common.is_too_full() {
            self.evict();
        }
    }

    /// A place among the busy keys: the one that was already taken for this event, or another.
    fn take_place(&mut self) -> bool {
        mem::take(&mut self.has_place_ready) || self.find_place()
    }

    fn find_place(&mut self) -> bool {
        let found = self.common.take_busy_place();
        self.busy += usize::from(found);
        found
    }

    fn take_place_beyond_the_limit(&mut self) {
        self.busy += 1;
        self.common.busy.fetch_add(1, Ordering::Relaxed);
    }

    fn give_place_back(&mut self) {
        self.busy = self.busy.saturating_sub(1);
        self.common.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// The key's machine, which may have been at rest.
    fn wake(&mut self, entry: &mut Entry<K>, now: Timestamp) -> Box<Busy> {
        match mem::replace(&mut entry.state, State::Resting(crate::flight::Resting::default())) {
            State::Busy(busy) => busy,
            State::Resting(resting) => {
                let machine = resting.resume(Arc::clone(&self.common.policy), self.dice.u64(..));
                Box::new(Busy::new(machine.behind_a_gate(), now))
            }
        }
    }

    /// The machine of a key that was not used yet.
    fn fresh(&mut self, now: Timestamp) -> Box<Busy> {
        let machine = Machine::new(Arc::clone(&self.common.policy), self.dice.u64(..));
        Box::new(Busy::new(machine.behind_a_gate(), now))
    }

    /// Tells the first waiters whose outcome is known. The rest are told in rounds.
    fn tell(&mut self, number: u32, entry: &Entry<K>, busy: &mut Busy) {
        if !busy.is_telling && self.delivery.tell_chunk(&mut busy.machine) {
            busy.is_telling = true;
            self.telling.push_back(self.who(number, entry));
        }
    }

    fn who(&self, number: u32, entry: &Entry<K>) -> Who {
        Who { shard: self.number, entry: number, generation: entry.generation }
    }

    fn set_alarm(&mut self, number: u32, entry: &mut Entry<K>, busy: &mut Busy, now: Timestamp) {
        if let Some(wake) = busy.next_wake(now) {
            self.alarms.set(number, entry, wake, &self.entries);
        }
    }

    /// An entry for this key. It is made if there is none. `None` if there is no room.
    fn find_or_make(&mut self, key: &K, needs: Needs) -> Option<(u32, Box<Entry<K>>)> {
        let found = self.find(key);
        if !self.has_room_for(found.as_ref().map(|(_, entry)| &entry.state), needs) {
            if let Some((number, entry)) = found {
                self.entries.put(number, entry);
            }
            return None;
        }
        if found.is_some() {
            self.common.cells.note_use(key);
            return found;
        }
        if self.common.is_full() && !self.evict() {
            self.ask_for_room();
        }
        let number = self.entries.reserve();
        let cell = self.common.cells.make(key, number);
        let hash = self.common.cells.hash(key);
        Some((number, self.entries.new_entry(key.clone(), hash, cell)))
    }

    fn find(&mut self, key: &K) -> Option<(u32, Box<Entry<K>>)> {
        let number = self.common.cells.get(key)?.entry;
        self.entries.take(number).map(|entry| (number, entry))
    }

    /// Evicts one key without waiters. Returns whether there was one.
    fn evict(&mut self) -> bool {
        let cells = &self.common.cells;
        let picked = self.entries.pick(|key| cells.was_used(key, Window::SINCE_HAND));
        let Some((number, entry)) = picked else { return false };
        self.common.counted.evicted.fetch_add(1, Ordering::Relaxed);
        self.forget(number, &entry);
        true
    }

    /// Forgets a key. It has no waiters.
    fn forget(&mut self, number: u32, entry: &Entry<K>) {
        self.common.cells.close(&entry.key, &entry.cell);
        self.entries.release(number);
    }

    /// This shard can evict none of its keys. Another shard may have one: any of them is asked.
    fn ask_for_room(&mut self) {
        let shards = self.common.doors.len();
        if shards < 2 {
            return;
        }
        let other = (self.number + 1 + self.dice.usize(..shards - 1)) % shards;
        if let Some(door) = self.common.doors.get(other) {
            let _ = door.send(Heard::MakeRoom);
        }
    }

    fn refuse(&self, ticket: Ticket) {
        self.common.counted.crowded.fetch_add(1, Ordering::Relaxed);
        let error = TokenError::too_many_keys(self.common.limits.max_busy_keys);
        // A recipient is foreign code.
        crate::panics::contain(|| ticket.tell(&Err(error)));
    }

    /// Actix delivers all messages in the mailbox in one turn. Therefore the shard pauses from time to time, and
    /// the arbiter's other tasks run.
    fn rest(&mut self, ctx: &mut Context<Self>) {
        if self.events >= CHUNK {
            self.events = 0;
            ctx.wait(yield_turn().into_actor(self));
        }
    }

    fn is_idle(&self) -> bool {
        self.works.is_empty() && self.telling.is_empty() && self.crowds.is_empty() && self.busy == 0
    }
}

impl<K: Key> Actor for Shard<K> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(Rounds::default());
        #[cfg(feature = "shared")]
        if let Some(course) = &mut self.course {
            course.begin(&self.common);
        }
    }

    /// Also when its arbiter stops: its permits at the gate, and the places of its keys, are returned for the other
    /// shards.
    fn stopped(&mut self, _ctx: &mut Self::Context) {
        self.part_from_others();
        self.observe();
    }
}

/// However the shard ends: readers find no token, waiters with an outcome are told, and each ticket of the other
/// waiters answers when it is dropped.
impl<K: Key> Drop for Shard<K> {
    fn drop(&mut self) {
        for who in mem::take(&mut self.telling) {
            if let Some(State::Busy(busy)) = self.entries.get_mut(who.entry).map(|entry| &mut entry.state) {
                while self.delivery.tell_chunk(&mut busy.machine) {}
            }
        }
        for number in 0..self.entries.numbers() {
            if let Some(entry) = self.entries.get(number) {
                self.common.cells.close(&entry.key, &entry.cell);
            }
        }
        // A key that was being processed when foreign code panicked is not among them.
        self.common.cells.close_all(|hash| self.common.shard_of(hash) == self.number);
        for done in self.leaving.drain(..) {
            done.send(());
        }
    }
}

impl<K: Key> fmt::Debug for Shard<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The address for messages to a shard of a registry.
pub(super) type Door<K> = actix::Addr<Shard<K>>;
