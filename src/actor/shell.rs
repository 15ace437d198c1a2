//! The shell of a machine: what performs its effects. A [`TokenActor`](super::TokenActor) has one machine, a registry's
//! shard one for each key. What both do with an effect stands here; what differs is a method of [`Shell`].

use std::sync::Arc;

use super::ticket::Ticket;
use crate::clock::{Clock, Timestamp};
use crate::flight::{Effect, Event, Machine, Note, Outcome};
use crate::policy::RefreshPolicy;
use crate::slot::{Copies, Front, Report, Slot};
use crate::source::FetchContext;
use crate::token::Token;

/// One machine, with all that its effects are performed on.
pub(crate) trait Shell {
    /// How readers read the slot.
    type Copies: Copies;

    fn machine(&mut self) -> &mut Machine<Ticket>;

    fn slot(&self) -> &Slot<Self::Copies>;

    /// What stands before the slot.
    fn front(&self) -> impl Front<Self::Copies>;

    /// A list to use again.
    fn effects(&mut self) -> &mut Vec<Effect<Ticket>>;

    /// Calls the source.
    fn fetch(&mut self, id: u64, cx: FetchContext, now: Timestamp);

    /// Drops the call that is running, or takes back what the gate was asked. Nothing, if there is neither.
    fn abort(&mut self);

    /// Asks the gate for a call. Only a machine [behind a gate](Machine::behind_a_gate) does.
    fn ask(&mut self, is_urgent: bool, now: Timestamp);

    /// Tells the gate that somebody waits by now.
    fn hurry(&mut self);

    /// Tells one.
    fn tell(&mut self, ticket: Ticket, outcome: &Outcome);

    /// A turn in the life of a flight.
    fn note(&mut self, note: &Note, now: Timestamp);

    /// Performs an event. Before it come the reports that handles have laid on the slot's desk: the machine knows of
    /// each before it decides what comes after it.
    fn on(&mut self, event: Event<Ticket>, now: Timestamp) {
        for report in self.slot().take_reports() {
            let event = match report {
                Report::Invalidate { token, .. } => Event::Invalidate(token),
                Report::Discard(token) => Event::Discard(token),
            };
            self.step(event, now);
        }
        self.step(event, now);
        let reports_from = self.machine().reports_from();
        self.slot().reports_from(reports_from);
    }

    fn step(&mut self, event: Event<Ticket>, now: Timestamp) {
        let mut effects = std::mem::take(self.effects());
        self.machine().on(event, now, &mut effects);
        for effect in effects.drain(..) {
            self.perform(effect, now);
        }
        *self.effects() = effects;
    }

    fn perform(&mut self, effect: Effect<Ticket>, now: Timestamp) {
        match effect {
            Effect::Fetch { id, cx } => {
                let cx = cx.with_clock(Arc::clone(self.slot().clock()));
                self.fetch(id, cx, now);
            }
            Effect::Abort => self.abort(),
            Effect::Ask { is_urgent } => self.ask(is_urgent, now),
            Effect::Hurry => self.hurry(),
            Effect::Publish(token) => self.slot().publish(token, &self.front()),
            Effect::Withhold(until) => self.slot().withhold(until, &self.front()),
            Effect::Release => self.slot().release(&self.front()),
            Effect::QuietUntil(moment) => self.slot().quiet_until(moment),
            Effect::Tell(ticket, outcome) => self.tell(ticket, &outcome),
            Effect::Duplicate(ticket) => ticket.forget(),
            Effect::Note(note) => self.note(&note, now),
        }
    }
}

/// A token as it is kept here: its life counts from when it was asked for.
pub(crate) fn stamped(
    token: Token,
    sent: Timestamp,
    clock: &Arc<dyn Clock>,
    policy: &RefreshPolicy,
) -> Token {
    token.stamped(sent, clock, policy.assumed_lifetime(), policy.longest_lifetime())
}
