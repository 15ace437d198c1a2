//! A shard's inbox: it turns each message into an event of a key's machine.

use actix::{Context, Handler};
use tokio::sync::oneshot;

use super::super::message::{Keeps, Reply, ToShard};
use super::super::status::RegistryStatus;
use super::entries::{Entry, State};
use super::{Key, Shard};
use crate::actor::{Status, Ticket};
use crate::error::TokenError;
use crate::flight::{Caller, Event};
use crate::panics::contain;
use crate::sync::{Ordering, lock};

/// The part of the key that a message needs.
#[derive(Clone, Copy)]
pub(super) enum Needs {
    /// Only its memory.
    Memory,
    /// Its token.
    Token,
    /// A new token.
    Flight,
}

fn wants(ticket: Ticket) -> Event<Ticket> {
    Event::Want { waiter: ticket, timeout: None }
}

impl<K: Key> Handler<ToShard<K>> for Shard<K> {
    type Result = ();

    fn handle(&mut self, message: ToShard<K>, ctx: &mut Context<Self>) {
        self.events += 1;
        if !self.leaving.is_empty() && !matches!(message, ToShard::Shutdown { .. }) {
            // Dropping it answers the caller.
            return self.rest(ctx);
        }
        match message {
            ToShard::Want { key, ticket } => self.want(&key, ticket),
            // A closed line has answered its callers.
            ToShard::Arrived { key } => {
                if let Some((number, entry)) = self.find(&key) {
                    self.receive(number, entry);
                }
            }
            ToShard::Refresh { key, ticket } => match self.find_or_make(&key, Needs::Flight) {
                Some((number, entry)) => self.on(number, entry, Event::Refresh { waiter: ticket }),
                None => self.refuse(ticket),
            },
            // A report that nobody waits for makes no key.
            ToShard::Replace { key, ticket, .. }
                if ticket.is_gone() && self.common.cells.get(&key).is_none() => {}
            ToShard::Replace { key, ticket, token, rejection } => {
                match self.find_or_make(&key, Needs::Flight) {
                    Some((number, entry)) => {
                        self.on(number, entry, Event::Replace { waiter: ticket, token, rejection });
                    }
                    None => self.answer_or_refuse(&key, ticket),
                }
            }
            ToShard::Invalidate { key, token } => self.if_kept(&key, Event::Invalidate(token)),
            ToShard::Reported { key } => self.if_kept(&key, Event::Tick),
            ToShard::NearEnd { key } => self.if_kept(&key, Event::NearEnd),
            // A key that is not kept is made: it remembers the token that must not be given out.
            ToShard::Discard { key } => {
                if let Some((number, entry)) = self.find_or_make(&key, Needs::Memory) {
                    // The report is on the key's desk.
                    self.on(number, entry, Event::Tick);
                }
            }
            ToShard::Remove { key, done } => {
                let removed = self.find(&key).map(|(number, entry)| self.remove(number, entry));
                done.send(removed.is_some());
            }
            ToShard::Retain { keeps, done } => done.send(self.retain(keeps)),
            ToShard::Status { key, done } => done.send(self.status(&key)),
            ToShard::Totals { done } => done.send(self.totals()),
            ToShard::Purge(search) => {
                self.purge();
                search.shard_has_searched();
            }
            ToShard::Shutdown { done, quiet, others } => self.shut_down(done, quiet, others, ctx),
        }
        self.rest(ctx);
    }
}

impl<K: Key> Shard<K> {
    /// Whether the key may become busy. If so, its place is taken. An answer without a flight makes no key busy.
    pub(super) fn has_room_for(&mut self, state: Option<&State>, needs: Needs) -> bool {
        let is_busy_anyway = matches!(state, Some(State::Busy(_)));
        let needs_none = match (state, needs) {
            (Some(_), Needs::Memory) => true,
            (Some(State::Resting(resting)), Needs::Token) => resting.knows(self.now()),
            _ => false,
        };
        if is_busy_anyway || needs_none {
            return true;
        }
        self.has_place_ready = self.take_place();
        self.has_place_ready
    }

    /// A report for which no flight may start gets the token in use.
    fn answer_or_refuse(&mut self, key: &K, ticket: Ticket) {
        match self.find(key) {
            Some((number, entry)) if self.has_room_for(Some(&entry.state), Needs::Token) => {
                self.on(number, entry, wants(ticket));
            }
            Some((number, entry)) => {
                self.entries.put(number, entry);
                self.refuse(ticket);
            }
            None => self.refuse(ticket),
        }
    }

    fn want(&mut self, key: &K, mut ticket: Ticket) {
        self.seat(&mut ticket);
        if ticket.turned_away().is_some() {
            return self.turn_away(key, ticket);
        }
        match self.find_or_make(key, Needs::Token) {
            Some((number, entry)) => self.on(number, entry, wants(ticket)),
            None => self.refuse(ticket),
        }
    }

    /// A subscriber that found no seat tries once more. It does not wait for a search for callers who have gone away.
    fn seat(&self, ticket: &mut Ticket) {
        ticket.sit();
        if ticket.turned_away().is_some() {
            self.common.seats.count_overload();
        }
    }

    /// A subscriber without a seat waits already, or is told what is known, or else that there is no seat. It makes
    /// no key.
    fn turn_away(&mut self, key: &K, ticket: Ticket) {
        match (self.find(key), ticket.turned_away()) {
            (Some((number, entry)), _) => self.on(number, entry, wants(ticket)),
            (None, Some(error)) => drop(contain(|| ticket.tell(&Err(error)))),
            (None, None) => {}
        }
    }

    /// Receives the first callers in the key's line.
    pub(super) fn receive(&mut self, number: u32, entry: Box<Entry<K>>) {
        self.common.cells.note_use(&entry.key);
        let (mut arrived, more) = entry.cell.arrivals.next();
        for ticket in &mut arrived {
            self.seat(ticket);
        }
        if more {
            self.crowds.push_back(self.who(number, &entry));
        }
        if self.has_room_for(Some(&entry.state), Needs::Token) {
            let now = self.now();
            self.step(number, entry, arrived.into_iter().map(wants), now);
            return self.hear(now);
        }
        self.entries.put(number, entry);
        for ticket in arrived {
            self.refuse(ticket);
        }
    }

    /// If all busy places are taken, no flight starts for this event: the machine knows this.
    fn if_kept(&mut self, key: &K, event: Event<Ticket>) {
        if let Some((number, entry)) = self.find(key) {
            self.on(number, entry, event);
        }
    }

    /// Removes the key. Its waiters get an error.
    fn remove(&mut self, number: u32, mut entry: Box<Entry<K>>) {
        if matches!(entry.state, State::Busy(_)) {
            self.on(number, entry, Event::Stop);
            let Some(stopped) = self.entries.take(number) else { return };
            entry = stopped;
            if let State::Busy(busy) = &mut entry.state {
                while self.delivery.tell_chunk(&mut busy.machine) {}
                self.give_place_back();
            }
        }
        self.forget(number, &entry);
    }

    fn retain(&mut self, mut keeps: Keeps<K>) -> usize {
        let mut going = Vec::new();
        for number in 0..self.entries.numbers() {
            if self.entries.get(number).is_some_and(|entry| !keeps.keeps(&entry.key)) {
                self.withdraw(number);
                going.push(number);
            }
        }
        let mut gone = 0;
        for number in going {
            if let Some(entry) = self.entries.take(number) {
                self.remove(number, entry);
                gone += 1;
            }
        }
        gone
    }

    /// Withdraws the key's request to the gate. Of several keys that go, each must withdraw its request before the
    /// first one gives up its call. Otherwise the next key is granted a call that is given up before it is made.
    fn withdraw(&mut self, number: u32) {
        if let Some(Entry { state: State::Busy(busy), .. }) = self.entries.get_mut(number)
            && let Some(asked) = busy.asked.take()
        {
            lock(&self.common.gate).withdraw(asked);
        }
    }

    /// A key that is not kept has the status of a key that was never used.
    fn status(&mut self, key: &K) -> Status {
        let now = self.now();
        let Some((number, mut entry)) = self.find(key) else {
            return Status::of(&self.fresh(now).machine, now);
        };
        let was_busy = matches!(entry.state, State::Busy(_));
        let mut busy = self.wake(&mut entry, now);
        let mut status = Status::of(&busy.machine, now);
        status.waiters += entry.cell.arrivals.len();
        status.last_refresh = busy.took.or(entry.took);
        // A busy key is counted as busy, and only an event brings it to rest.
        let resting = if was_busy { None } else { busy.rest(now) };
        entry.state = resting.map_or(State::Busy(busy), State::Resting);
        self.entries.put(number, entry);
        status
    }

    fn totals(&self) -> RegistryStatus {
        let (now, gate) = (self.now().boot, lock(&self.common.gate).status());
        RegistryStatus {
            calls: gate.calls,
            max_calls: gate.limit,
            queued: gate.urgent + gate.ahead,
            closed: gate.closed.as_ref().map(|(_, until)| until.saturating_sub(now)),
            closed_by: gate
                .closed
                .map(|(error, until)| TokenError::flight_failed(error, 0, until.saturating_sub(now))),
            closures: gate.closures,
            closed_clients: gate.clients_shut,
            client_closures: gate.client_closures,
            ..self.totals_without_gate()
        }
    }

    fn totals_without_gate(&self) -> RegistryStatus {
        let common = &self.common;
        let load = |number: &crate::sync::AtomicU64| number.load(Ordering::Relaxed);
        RegistryStatus {
            keys: common.cells.keys.load(Ordering::Relaxed),
            busy_keys: common.busy.load(Ordering::Relaxed),
            waiters: common.seats.taken(),
            evicted: load(&common.counted.evicted),
            idled: load(&common.counted.idled),
            too_many_keys: load(&common.counted.crowded),
            lost: self.delivery.lost,
            counters: self.totals,
            ..RegistryStatus::default()
        }
    }

    /// Writes the lines that are due, and reports the present state to a metrics recorder.
    pub(super) fn observe(&mut self) {
        let lines = self.common.meters.due(self.now().boot);
        if !lines.is_empty() {
            let keys = self.common.busy.load(Ordering::Relaxed);
            self.common.meters.write(lines, keys, self.common.seats.taken());
        }
        #[cfg(feature = "metrics")]
        {
            let now = self.now().boot;
            let figures = self.common.figures.each_ref().map(|figure| figure.load(Ordering::Relaxed));
            let [calls, max_calls, queued, is_closed, closed_clients, closures, client_closures] = figures;
            let count = |figure: u64| usize::try_from(figure).unwrap_or(usize::MAX);
            let status = RegistryStatus {
                calls: count(calls),
                max_calls: count(max_calls),
                queued: count(queued),
                closed: (is_closed > 0).then_some(std::time::Duration::ZERO),
                closures,
                closed_clients: count(closed_clients),
                client_closures,
                ..self.totals_without_gate()
            };
            self.common.meters.observe(&status, self.common.seats.overloads(), &mut self.told, now);
        }
    }

    /// Removes waiters that have gone away.
    fn purge(&mut self) {
        for number in 0..self.entries.numbers() {
            let Some(entry) = self.entries.get_mut(number) else { continue };
            entry.cell.arrivals.purge();
            if let State::Busy(busy) = &mut entry.state {
                for ticket in busy.machine.purge() {
                    self.delivery.tell(ticket, &Err(TokenError::stopped()));
                }
            }
        }
    }

    fn shut_down(
        &mut self,
        done: Reply<()>,
        quiet: Option<oneshot::Sender<()>>,
        others: Vec<oneshot::Receiver<()>>,
        ctx: &mut Context<Self>,
    ) {
        let is_first = self.leaving.is_empty() && !self.has_parted;
        self.leaving.push(done);
        for number in 0..self.entries.numbers() {
            self.withdraw(number);
        }
        for number in 0..self.entries.numbers() {
            let Some(entry) = self.entries.take(number) else { continue };
            if matches!(entry.state, State::Busy(_)) {
                self.common.cells.close(&entry.key, &entry.cell);
                self.on(number, entry, Event::Stop);
            } else {
                self.forget(number, &entry);
            }
        }
        if let Some(quiet) = quiet {
            let _ = quiet.send(());
        }
        if is_first {
            self.part(others, ctx);
        }
    }
}
