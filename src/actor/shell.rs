//! The shell of a machine: it performs the machine's effects. A [`TokenActor`](super::TokenActor) has one machine.
//! A registry's shard has one for each key. The common code is here. The differences are methods of [`Shell`].

use std::sync::Arc;

use super::ticket::Ticket;
use crate::clock::{Clock, Timestamp};
use crate::flight::{Effect, Event, Machine, Note, Outcome};
use crate::policy::RefreshPolicy;
use crate::slot::{Copies, Front, Report, Slot};
use crate::source::FetchContext;
use crate::token::Token;

/// One machine, with the state that its effects change.
pub(crate) trait Shell {
    /// How readers read the slot.
    type Copies: Copies;

    fn machine(&mut self) -> &mut Machine<Ticket>;

    fn slot(&self) -> &Slot<Self::Copies>;

    /// The state that readers see before the slot.
    fn front(&self) -> impl Front<Self::Copies>;

    /// A list that is reused.
    fn effects(&mut self) -> &mut Vec<Effect<Ticket>>;

    /// Calls the source.
    fn fetch(&mut self, id: u64, cx: FetchContext, now: Timestamp);

    /// Drops the running call, or withdraws the request to the gate. Does nothing if there is neither.
    fn abort(&mut self);

    /// Asks the gate for a call. Only a machine [behind a gate](Machine::behind_a_gate) does.
    fn ask(&mut self, is_urgent: bool, now: Timestamp);

    /// Tells the gate that a caller waits now.
    fn hurry(&mut self);

    /// Tells one waiter.
    fn tell(&mut self, ticket: Ticket, outcome: &Outcome);

    /// An event in the life of a flight.
    fn note(&mut self, note: &Note, now: Timestamp);

    /// Performs an event. First the reports that handles have laid on the slot's desk are handled. Therefore the
    /// machine knows of each report before it decides anything that comes after the report.
    fn on(&mut self, event: Event<Ticket>, now: Timestamp) {
        for report in self.slot().take_reports() {
            let event = match report {
                Report::Invalidate { token, .. } => Event::Invalidate(token),
                Report::Discard(token) => Event::Discard(token),
                #[cfg(feature = "registry")]
                Report::Recall(token) => Event::Recall(token),
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

/// A token as this shell keeps it: its life counts from the moment when it was requested.
pub(crate) fn stamped(
    token: Token,
    sent: Timestamp,
    clock: &Arc<dyn Clock>,
    policy: &RefreshPolicy,
) -> Token {
    token.stamped(sent, clock, policy.assumed_lifetime(), policy.longest_lifetime())
}
