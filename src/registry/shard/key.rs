//! One key of a shard, while it performs an event.

use crate::actor::{Shell, Ticket, stamped};
use crate::clock::Timestamp;
use crate::error::SourceError;
use crate::flight::{Effect, Machine, Note, Outcome};
use crate::panics::contain;
use crate::slot::{Front, Single, Slot};
use crate::source::{Asked, FetchContext, Group, Reason};
use crate::sync::lock;
use crate::token::Token;

use super::super::gate::{Answer, Ask, Ending};
use super::super::window::Frame;
use super::busy::{Busy, Call};
use super::entries::Entry;
use super::rounds::Work;
use super::{Decision, Key, Shard};

pub(super) struct OneKey<'a, K: Key> {
    pub(super) shard: &'a mut Shard<K>,
    pub(super) number: u32,
    pub(super) entry: &'a Entry<K>,
    pub(super) busy: &'a mut Busy,
}

impl<K: Key> Shell for OneKey<'_, K> {
    type Copies = Single;

    fn machine(&mut self) -> &mut Machine<Ticket> {
        &mut self.busy.machine
    }

    fn slot(&self) -> &Slot<Single> {
        &self.entry.cell.slot
    }

    fn front(&self) -> impl Front<Single> {
        Frame { cells: &self.shard.common.cells, key: &self.entry.key, cell: &self.entry.cell }
    }

    fn effects(&mut self) -> &mut Vec<Effect<Ticket>> {
        &mut self.shard.effects
    }

    fn fetch(&mut self, id: u64, cx: FetchContext, now: Timestamp) {
        let deadline = cx.deadline();
        self.busy.sent = now;
        let asked = Asked::new();
        let fetching = self.shard.common.source.call(&self.entry.key, cx.with_asked(asked.clone()));
        let call = Call::new(fetching, deadline, asked);
        self.busy.call = Some(call.clone());
        let who = self.shard.who(self.number, self.entry);
        self.shard.works.push(Work::Call { who, id, call });
    }

    /// If a call is given up at its own end, the auth server does not answer.
    fn abort(&mut self) {
        let now = self.shard.now();
        if let Some(call) = self.busy.call.take() {
            call.give_up();
            let is_late = call.deadline.is_some_and(|deadline| now.boot >= deadline);
            let late = || SourceError::timed_out("no answer in time".to_owned());
            let is_asked = call.asked.is_asked();
            let ending = if is_late && is_asked {
                Ending::EndpointFailed { error: late(), retry_after: None }
            } else {
                Ending::Abandoned
            };
            let took = now.boot.saturating_sub(self.busy.sent.boot);
            self.shard.common.meters.call_ended(&self.entry.key, &ending, is_asked, took);
            let permit = self.busy.permit.take();
            self.shard.end_call(permit, ending, now);
        }
        if let Some(number) = self.busy.asked.take() {
            lock(&self.shard.common.gate).withdraw(number);
        }
        let permit = self.busy.permit.take();
        self.shard.end_call(permit, Ending::Abandoned, now);
    }

    fn ask(&mut self, is_urgent: bool, now: Timestamp) {
        if !is_urgent && let Some(number) = self.busy.asked {
            return lock(&self.shard.common.gate).go_behind(number);
        }
        let (key, common) = (&self.entry.key, &self.shard.common);
        let who = self.shard.who(self.number, self.entry);
        // The source's methods for a key are foreign code. If they return nothing, the key is its own group and client.
        let number = |group: Option<Option<Group>>| group.flatten().map_or(self.entry.hash, Group::number);
        let ask = Ask {
            who,
            key: self.entry.hash,
            group: number(contain(|| common.source.group(key))),
            client: number(contain(|| common.source.client(key))),
            urgent: is_urgent,
            patience: self.busy.machine.patience(now),
        };
        let answer = lock(&common.gate).ask(ask, now.boot);
        let how = match answer {
            Answer::Granted(permit) => Ok(permit),
            Answer::Waits(number) => return self.busy.asked = Some(number),
            Answer::Refused(refusal) => Err(refusal.told_at(now)),
        };
        self.shard.decided.push_back(Decision { who, number: None, how });
    }

    fn hurry(&mut self) {
        let Some(number) = self.busy.asked else { return };
        let now = self.shard.now();
        let patience = self.busy.machine.patience(now);
        let refused = lock(&self.shard.common.gate).hurry(number, patience, now.boot);
        if let Some(refusal) = refused {
            let (who, how) = (self.shard.who(self.number, self.entry), Err(refusal.told_at(now)));
            self.shard.decided.push_back(Decision { who, number: Some(number), how });
        }
    }

    fn tell(&mut self, ticket: Ticket, outcome: &Outcome) {
        self.shard.delivery.tell(ticket, outcome);
    }

    fn note(&mut self, note: &Note, now: Timestamp) {
        if let Note::Landed { took, .. } | Note::Failed { took, .. } = note {
            self.busy.took = Some(*took);
        }
        self.shard.common.meters.note(&self.entry.key, self.entry.hash, note, now.boot);
        if note.is_refused_report() {
            self.look(now);
        }
    }
}

impl<K: Key> OneKey<'_, K> {
    /// A report that may start no flight causes no call. But another process may have fetched a newer token.
    fn look(&mut self, now: Timestamp) {
        let common = &self.shard.common;
        let Some(token) = self
            .busy
            .machine
            .token()
            .filter(|_| contain(|| common.source.can_look()).unwrap_or_default())
            .cloned()
        else {
            return;
        };
        if !self.busy.looks.begin(now.boot) {
            return;
        }
        let limit = common.policy.attempt_limit();
        let cx = FetchContext::new(Reason::Rejected)
            .with_previous(token)
            .with_clock(common.cells.clock().clone())
            .with_deadline(now.boot.saturating_add(limit));
        let look = common.source.look(&self.entry.key, cx);
        let who = self.shard.who(self.number, self.entry);
        self.shard.works.push(Work::look(who, now, look, limit));
    }
}

impl<K: Key> Shard<K> {
    /// A token as this registry keeps it.
    pub(super) fn stamped(&self, token: Token, sent: Timestamp) -> Token {
        stamped(token, sent, self.common.cells.clock(), &self.common.policy)
    }
}
