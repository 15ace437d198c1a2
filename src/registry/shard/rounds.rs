//! The shard's own work: it takes the results of calls and the gate's decisions, wakes keys at their time, tells
//! crowds, and searches for unused keys.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
#[cfg(feature = "shared")]
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::{ActorContext, ActorFuture, ActorFutureExt, AsyncContext, Context, WrapFuture};
use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, Timeout};

use super::super::common::{Heard, Who};
use super::super::gate::Ending;
use super::super::verdict::ending;
use super::super::window::Window;
use super::busy::Call;
use super::entries::State;
use super::key::OneKey;
use super::{Decision, Key, Shard};
use crate::actor::{LONGEST_PARTING, Shell};
use crate::clock::Timestamp;
use crate::error::SourceError;
use crate::flight::{Event, Resting};
use crate::panics::Contained;
use crate::queue::CHUNK;
use crate::sync::Ordering;
use crate::token::Token;

/// Work that goes on outside the shard.
pub(super) enum Work {
    /// A call to the source.
    Call { who: Who, id: u64, call: Call },
    /// A look for a token that another process has fetched. It has a limit, because its key is busy meanwhile.
    Look { who: Who, began: Timestamp, look: Pin<Box<Timeout<Contained<Option<Token>>>>> },
}

/// The result of the work.
pub(super) enum Done {
    /// `None`: the call was given up.
    Call {
        who: Who,
        id: u64,
        result: Option<Result<Token, SourceError>>,
    },
    Look {
        who: Who,
        began: Timestamp,
        found: Option<Token>,
    },
}

impl Work {
    pub(super) fn look(
        who: Who,
        began: Timestamp,
        look: Pin<Box<dyn Future<Output = Option<Token>> + Send>>,
        limit: Duration,
    ) -> Self {
        Self::Look { who, began, look: Box::pin(tokio::time::timeout(limit, Contained::new(look))) }
    }
}

impl Future for Work {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Done> {
        match &mut *self {
            Self::Call { who, id, call } => {
                let (who, id) = (*who, *id);
                Pin::new(call).poll(task).map(|result| Done::Call { who, id, result })
            }
            Self::Look { who, began, look } => {
                let (who, began) = (*who, *began);
                // A look that panics, or takes too long, has found no token.
                let found = |found: Result<Option<_>, _>| found.ok().flatten().flatten();
                look.as_mut().poll(task).map(|looked| Done::Look { who, began, found: found(looked) })
            }
        }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

/// The shard's one timer.
pub(super) struct Timer {
    /// On the boot clock.
    at: Duration,
    sleep: Pin<Box<Sleep>>,
}

/// Runs while the shard has an address, or work to do. Its last work is to give the fleet's slots back.
#[derive(Default)]
pub(super) struct Rounds {
    #[cfg(feature = "shared")]
    leaving: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<K: Key> ActorFuture<Shard<K>> for Rounds {
    type Output = ();

    #[cfg_attr(not(feature = "shared"), allow(unused_mut))]
    fn poll(
        mut self: Pin<&mut Self>,
        shard: &mut Shard<K>,
        ctx: &mut Context<Shard<K>>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        shard.round(task);
        shard.observe();
        shard.leave(ctx);
        shard.rest(ctx);
        // While a pause is due, there may be unhandled messages.
        if ctx.connected() || ctx.waiting() || !shard.is_idle() {
            return Poll::Pending;
        }
        #[cfg(feature = "shared")]
        if let Some(course) = shard.course.take() {
            self.leaving = Some(Box::pin(course.leave(Arc::clone(&shard.common))));
        }
        #[cfg(feature = "shared")]
        if let Some(leaving) = &mut self.leaving {
            return leaving.as_mut().poll(task);
        }
        Poll::Ready(())
    }
}

impl<K: Key> Shard<K> {
    /// Each part has a share of the time, so that no part starves another.
    fn round(&mut self, task: &mut TaskContext<'_>) {
        self.take_decisions(task);
        self.ring();
        self.tell_on();
        // The parts above start calls. A new call is first polled here. Therefore this comes after them.
        self.take_results(task);
        self.receive_on();
        self.set_timer(task);
        if self.has_more() {
            // The other tasks of the arbiter run now, and then there is another round.
            self.events = CHUNK;
        }
    }

    fn share(&self) -> usize {
        self.events.saturating_add(CHUNK)
    }

    fn take_results(&mut self, task: &mut TaskContext<'_>) {
        let share = self.share();
        while self.events < share
            && let Poll::Ready(Some(done)) = self.works.poll_next_unpin(task)
        {
            match done {
                Done::Call { who, id, result: Some(result) } => self.call_ended(who, id, result),
                Done::Call { result: None, .. } => {}
                Done::Look { who, began, found } => self.look_ended(who, began, found),
            }
        }
    }

    fn call_ended(&mut self, who: Who, id: u64, result: Result<Token, SourceError>) {
        let Some(mut entry) = self.entries.take_same(who.entry, who.generation) else { return };
        let State::Busy(busy) = &mut entry.state else {
            return self.entries.put(who.entry, entry);
        };
        let (sent, permit) = (busy.sent, busy.permit.take());
        // Another process's token, or a statement of the store, proves nothing about the auth server.
        let is_asked = busy.call.take().is_none_or(|call| call.asked.is_asked());
        let now = self.now();
        let ending = if is_asked { ending(&result) } else { Ending::Abandoned };
        self.common.meters.call_ended(&entry.key, &ending, is_asked, now.boot.saturating_sub(sent.boot));
        self.end_call(permit, ending, now);
        let result = result.map(|token| self.stamped(token, sent));
        self.step(who.entry, entry, [Event::Fetched { id, result }], now);
        self.hear(now);
    }

    fn look_ended(&mut self, who: Who, began: Timestamp, found: Option<Token>) {
        let Some(mut entry) = self.entries.take_same(who.entry, who.generation) else { return };
        if let State::Busy(busy) = &mut entry.state {
            busy.looks.end();
        }
        let event = found.map_or(Event::Tick, |token| Event::Offered(self.stamped(token, began)));
        self.on(who.entry, entry, event);
    }

    /// Takes the gate's decisions after another shard has returned something.
    fn take_decisions(&mut self, task: &mut TaskContext<'_>) {
        let (now, share) = (self.now(), self.share());
        while self.events < share
            && let Poll::Ready(Some(heard)) = self.heard.poll_recv(task)
        {
            let Heard::Decided(decided) = heard else {
                while self.common.is_full() && self.evict() && self.common.is_too_full() {}
                continue;
            };
            self.decided.push_back(Decision::of(decided, now));
            self.hear(now);
        }
    }

    /// Wakes the keys whose alarms are due.
    fn ring(&mut self) {
        let (now, share) = (self.now(), self.share());
        while self.events < share
            && let Some((moment, number, generation)) = self.alarms.pop_due(now.boot)
        {
            let Some(mut entry) = self.entries.take_same(number, generation) else { continue };
            if entry.wake != Some(moment) {
                self.entries.put(number, entry);
                continue;
            }
            entry.wake = None;
            self.step(number, entry, [Event::Tick], now);
            self.hear(now);
        }
        self.sweep(now);
    }

    /// An early ring is harmless. Therefore the timer rings after a minute at the latest, because tokio's time
    /// stands still while the machine sleeps.
    fn set_timer(&mut self, task: &mut TaskContext<'_>) {
        const LONGEST: Duration = Duration::from_secs(60);
        let now = self.now();
        loop {
            let at = self.alarms.next().unwrap_or(Duration::MAX).min(self.next_sweep);
            let delay = at.saturating_sub(now.boot).min(LONGEST);
            let timer = match &mut self.timer {
                Some(timer) if timer.at == at => timer,
                place => {
                    let sleep = Box::pin(tokio::time::sleep_until(Instant::now() + delay));
                    place.insert(Timer { at, sleep })
                }
            };
            if timer.sleep.as_mut().poll(task).is_pending() {
                return;
            }
            // It rang. The next round finds the due events, and sets the timer anew for the others.
            self.timer = None;
            if at <= self.now().boot {
                self.events = CHUNK;
                return;
            }
        }
    }

    /// Tells the next waiters of one crowd. Then it is the next crowd's turn.
    fn tell_on(&mut self) {
        let Some(who) = self.telling.pop_front() else { return };
        let Some(mut entry) = self.entries.take_same(who.entry, who.generation) else { return };
        let State::Busy(busy) = &mut entry.state else {
            return self.entries.put(who.entry, entry);
        };
        busy.is_telling = false;
        // Also for tokens that were discarded meanwhile: the reports on the desk come first.
        self.on(who.entry, entry, Event::Tick);
    }

    /// Receives the next callers of one crowd. Then it is the next crowd's turn. A call that it starts is polled in
    /// the next round.
    fn receive_on(&mut self) {
        let Some(who) = self.crowds.pop_front() else { return };
        if let Some(entry) = self.entries.take_same(who.entry, who.generation) {
            self.receive(who.entry, entry);
            self.events = self.events.max(CHUNK);
        }
    }

    /// Searches for keys that were not used for the idle time: a part in each round, all of them four times in that
    /// time.
    fn sweep(&mut self, now: Timestamp) {
        /// A key that was unused in this many searches in a row is evicted.
        const TIMES: u8 = 4;
        if self.sweep.is_none() && now.boot < self.next_sweep {
            return;
        }
        let begin = self.sweep.unwrap_or(0);
        let end = begin.saturating_add(u32::try_from(CHUNK).unwrap_or(u32::MAX)).min(self.entries.numbers());
        for number in begin..end {
            let Some(entry) = self.entries.get_mut(number) else { continue };
            let is_used = self.common.cells.was_used(&entry.key, Window::SINCE_SWEEP)
                || matches!(entry.state, State::Busy(_));
            entry.idle = if is_used { 0 } else { entry.idle.saturating_add(1) };
            if entry.idle < TIMES || !entry.cell.arrivals.close_if_empty() {
                continue;
            }
            if let Some(entry) = self.entries.take(number) {
                self.common.counted.idled.fetch_add(1, Ordering::Relaxed);
                self.forget(number, &entry);
            }
        }
        if end < self.entries.numbers() {
            self.sweep = Some(end);
            self.events = CHUNK;
        } else {
            self.sweep = None;
            self.next_sweep = now.boot.saturating_add(self.common.limits.sweep_interval());
        }
    }

    /// From here on the gate decides nothing for this shard: its requests are withdrawn, and its permits are
    /// returned. The keys are kept until they are dropped, with all their waiters.
    pub(super) fn part_from_others(&mut self) {
        self.heard.close();
        let mut keys = Vec::new();
        for number in 0..self.entries.numbers() {
            let Some(mut entry) = self.entries.take(number) else { continue };
            if let State::Busy(mut busy) = mem::replace(&mut entry.state, State::Resting(Resting::default()))
            {
                OneKey { shard: self, number, entry: &entry, busy: &mut busy }.abort();
                self.give_place_back();
                entry.state = State::Busy(busy);
            }
            self.common.cells.remove(&entry.key);
            keys.push((number, entry));
        }
        let now = self.now();
        while let Ok(heard) = self.heard.try_recv() {
            if let Heard::Decided(decided) = heard {
                self.decided.push_back(Decision::of(decided, now));
            }
        }
        self.hear(now);
        for (number, entry) in keys {
            self.entries.put(number, entry);
        }
    }

    fn has_more(&self) -> bool {
        !self.telling.is_empty() || !self.crowds.is_empty() || self.events >= CHUNK
    }

    /// Lets the source finish work that must not be interrupted. The first shard does this for all shards, after
    /// the others have given up their calls. A shard that is gone has no calls.
    pub(super) fn part(&mut self, others: Vec<oneshot::Receiver<()>>, ctx: &mut Context<Self>) {
        if self.number != 0 {
            self.has_parted = true;
            return;
        }
        let finish = Contained::new(self.common.source.finish());
        let after_all = async move {
            for other in others {
                let _ = other.await;
            }
            finish.await
        };
        #[cfg(feature = "shared")]
        let course = self.course.take();
        let end = async move {
            let ended = tokio::time::timeout(LONGEST_PARTING, after_all).await;
            // Work that must not be interrupted may have been a call.
            #[cfg(feature = "shared")]
            if let Some(course) = course {
                course.end().await;
            }
            ended
        };
        ctx.spawn(end.into_actor(self).map(|ended, shard: &mut Self, ctx| {
            shard.common.source_finished(ended.is_ok());
            shard.has_parted = true;
            shard.leave(ctx);
        }));
    }

    /// Stops when all waiters have been told and the source has finished.
    pub(super) fn leave(&mut self, ctx: &mut Context<Self>) {
        if self.has_parted && self.telling.is_empty() && !self.leaving.is_empty() {
            for done in self.leaving.drain(..) {
                done.send(());
            }
            ctx.stop();
        }
    }
}
