//! Performs the machine's effects as the actor does, and checks them against the laws.

use std::time::Duration;

use super::books::{Asks, Due, Flight};
use super::laws::Law;
use super::rules::{Action, Name, Reply, Rules, Seat};
use super::sights::Sight;
use super::world::{Call, Said, Shown, Waiting, World};
use crate::flight::{Effect, Event, FlightState, Note, Outcome};
use crate::policy::Margins;
use crate::source::{FetchContext, Reason};
use crate::token::Token;

impl World {
    pub(super) fn on(&mut self, event: Event<Seat>, mut said: Said, rules: &Rules) -> Vec<Sight> {
        let mut effects = Vec::new();
        self.machine.on(event, self.now, &mut effects);
        for effect in effects {
            self.perform(effect, &mut said, rules);
        }
        self.judge_newcomer(&mut said);
        self.judge_state(&mut said, rules);
        if !rules.one_by_one {
            while self.machine.is_telling() {
                self.tell_next(&mut said);
            }
        }
        said.sights
    }

    fn perform(&mut self, effect: Effect<Seat>, said: &mut Said, rules: &Rules) {
        match effect {
            Effect::Fetch { id, cx } => self.fetch(id, &cx, said, rules),
            Effect::Abort => {
                said.sights.push(Sight::Aborted);
                // A flight that ends in a pause has no call to drop.
                let ends = matches!(said.action, Some(Action::Restart | Action::Stop));
                self.law(Law::OneCall, self.call.is_some() || ends);
                if let Some(call) = self.call.take() {
                    self.late = Some(call.id);
                }
                if ends {
                    self.books.flight = None;
                }
            }
            Effect::Publish(None) => {
                self.law(Law::Usable, said.may_take_away);
                self.slot = None;
            }
            Effect::Publish(Some((token, margins))) => self.publish(token, margins, said, rules),
            Effect::Withhold(until) => self.withhold(until, said),
            Effect::Release => self.release(said),
            Effect::QuietUntil(moment) => {
                self.slot.iter_mut().for_each(|shown| shown.quiet_until = moment);
            }
            Effect::Tell(seat, outcome) => self.tell(seat, &outcome, said, rules),
            Effect::Duplicate(seat) => self.drop_duplicate(seat, said),
            // This machine has no gate.
            Effect::Ask { .. } | Effect::Hurry => self.law(Law::OneCall, false),
            Effect::Note(note) => self.note(&note, said, rules),
        }
    }

    fn fetch(&mut self, id: u64, cx: &FetchContext, said: &mut Said, rules: &Rules) {
        let now = self.now.boot;
        self.law(Law::OneCall, self.call.is_none());
        self.law(Law::Stopped, self.machine.state(self.now) != FlightState::Stopped);
        self.law(Law::Attempts, cx.attempt <= rules.attempts);
        if cx.attempt == 1 {
            self.take_off(said, rules);
        } else if let Some(flight) = &mut self.books.flight {
            said.sights.push(Sight::Retried);
            flight.attempt = cx.attempt;
            let until = flight.until;
            self.law(Law::FlightTime, now < until);
            self.law(Law::RetryAfter, self.books.retry_not_before.is_none_or(|until| until <= now));
        } else {
            self.law(Law::Attempts, false);
        }
        let is_due = said.due.is_some_and(Due::has_flight);
        let demanded = (matches!(said.action, Some(Action::Demand(_))) && is_due)
            || self.books.flight.as_ref().is_some_and(|flight| flight.demanded);
        self.law(Law::Demanded, cx.challenge().is_some() == demanded);
        if demanded {
            said.sights.push(Sight::Demanded);
        }
        if let Some(flight) = &mut self.books.flight {
            flight.passed_on = demanded;
        }
        self.judge_previous(cx, said);
        match cx.reason {
            Reason::Ahead => said.sights.push(Sight::Ahead),
            Reason::Forced => said.sights.push(Sight::Forced),
            _ => {}
        }
        self.books.retry_not_before = None;
        self.call = Some(Call { id, sent: self.now });
    }

    /// The token that the call must replace.
    fn judge_previous(&mut self, cx: &FetchContext, said: &mut Said) {
        let books = &self.books;
        let due = books.again.as_ref().or(self.slot.as_ref().map(|shown| &shown.token));
        let due = due.or(books.discarded.last());
        let names = match (&cx.previous, due) {
            (Some(previous), Some(due)) => previous.is_same(due),
            (previous, due) => previous.is_none() && due.is_none(),
        };
        let is_discarded = due.is_some_and(|token| books.is_discarded(token));
        if is_discarded {
            said.sights.push(Sight::NamedDiscarded);
        }
        self.law(Law::Previous, names && cx.is_discarded() == is_discarded);
    }

    /// A flight begins.
    fn take_off(&mut self, said: &mut Said, rules: &Rules) {
        let now = self.now.boot;
        self.law(Law::OneCall, self.books.flight.is_none());
        self.law(Law::Cooldown, !self.books.cools(self.now));
        if said.action == Some(Action::Tick) {
            // No caller has asked.
            said.sights.push(Sight::OwnRefresh);
            let least = self.books.last_flight.map_or(Duration::ZERO, |ended| ended + Rules::LEAST_INTERVAL);
            self.law(Law::OwnPace, least <= now);
        }
        if self.slot.is_some() {
            // The source gave out the discarded token in an earlier flight.
            self.books.again = None;
        }
        self.books.flight = Some(Flight {
            until: now + rules.flight(),
            attempt: 1,
            asks: Asks::No,
            withheld_until: None,
            released: false,
            demanded: false,
            passed_on: false,
            spare: None,
        });
    }

    fn publish(&mut self, token: Token, margins: Margins, said: &mut Said, rules: &Rules) {
        self.law(Law::Alive, !self.left(&token).is_zero() && token.is_presentable());
        self.law(Law::Discarded, !self.books.is_discarded(&token));
        said.published = true;
        // The first of two answers has only made the token's life longer. The second answer decides.
        let prolonged = self.slot.as_ref().filter(|shown| said.asks_again && shown.token.is_same(&token));
        let (since, suspect) = match prolonged {
            Some(shown) => {
                self.books.renew(&token);
                (shown.since, shown.suspect)
            }
            None => (self.now.boot, self.books.publish(&token)),
        };
        let shown =
            Shown { token, margins, since, quiet_until: Duration::ZERO, withheld_until: None, suspect };
        if let Some(before) = self.slot.replace(shown.clone())
            && !before.token.is_same(&shown.token)
        {
            self.books.succeed(before.token, self.now, rules);
        }
    }

    /// Withholds the token, with the limit, and once per flight.
    fn withhold(&mut self, until: Duration, said: &mut Said) {
        let now = self.now.boot;
        let known = self.books.flight.as_ref().map(|flight| (flight.withheld_until, flight.released));
        let holds = match known {
            None | Some((_, true)) => false,
            Some((None, false)) => until <= now + Rules::WITHHELD && said.due.is_some_and(Due::has_flight),
            Some((Some(first), false)) => until == first,
        };
        self.law(Law::Withheld, holds);
        if let Some(flight) = &mut self.books.flight {
            flight.withheld_until = Some(until);
        }
        if let Some(shown) = &mut self.slot {
            shown.withheld_until = Some(until);
            said.sights.push(Sight::Withheld);
        }
    }

    fn release(&mut self, said: &mut Said) {
        let now = self.now.boot;
        if let Some(flight) = self.books.flight.as_mut().filter(|flight| flight.withheld_until.is_some()) {
            said.sights.push(match said.action {
                Some(Action::Answer(_)) => Sight::ReleasedByAnswer,
                Some(Action::Tick) => Sight::ReleasedByTime,
                _ => Sight::NotWithheldAgain,
            });
            let over = flight.withheld_until.is_some_and(|until| until <= now);
            let answered = matches!(said.action, Some(Action::Answer(_) | Action::Tick));
            let too_early = !flight.released && !over && !answered;
            flight.released = true;
            self.law(Law::Withheld, !too_early);
        }
        if let Some(shown) = &mut self.slot {
            shown.withheld_until = None;
        }
    }

    /// One waiter is told at once.
    fn tell(&mut self, seat: Seat, outcome: &Outcome, said: &mut Said, rules: &Rules) {
        let at = self.waiting.iter().position(|waiting| waiting.number == seat.number);
        self.law(Law::OneAnswer, at.is_some());
        let Some(at) = at else { return };
        let told = self.waiting.remove(at);
        let same = self.waiting.iter().any(|waiting| waiting.name == seat.name && !waiting.gone);
        self.law(Law::OneAnswer, !(seat.name.is_keyed() && same));
        said.sights.push(match outcome {
            Ok(token) if self.left(token).is_zero() => Sight::Stale,
            Ok(_) => Sight::Served,
            Err(error) if error.is_overloaded() => Sight::Overloaded,
            Err(_) => Sight::Refused,
        });
        if told.decided.is_some() {
            // A round whose token was discarded: its callers see that, and join the next round.
            said.sights.push(Sight::TakenBack);
            self.law(Law::Kept, seat.name == Name::Round && said.withdrawn.contains(&seat.number));
        } else if said.newcomer == Some(seat.number) {
            said.answered = true;
            self.judge_answer_at_once(seat, outcome, said, rules);
        } else {
            self.judge_answer(outcome, rules);
        }
    }

    /// The next waiter of a crowd is told.
    pub(super) fn tell_next(&mut self, said: &mut Said) {
        let Some((seat, outcome)) =
            self.machine.next_to_tell().map(|(seat, outcome)| (seat, outcome.clone()))
        else {
            return;
        };
        let at = self.waiting.iter().position(|waiting| waiting.number == seat.number);
        self.law(Law::OneAnswer, at.is_some());
        let Some(at) = at else { return };
        let told = self.waiting.remove(at);
        // Crowds are told in the order of their decisions, and within a crowd the oldest waiter is first.
        let is_before = |(place, other): (usize, &Waiting)| {
            other.renewing == told.renewing
                && other.decided.is_some_and(|since| (Some(since), place) < (told.decided, at))
        };
        let passed_over = self.waiting.iter().enumerate().any(is_before);
        self.law(Law::Order, told.decided.is_some() && !passed_over);
        self.law(Law::Discarded, !outcome.as_ref().is_ok_and(|token| self.books.is_discarded(token)));
        said.sights.push(if outcome.is_ok() { Sight::Served } else { Sight::Refused });
    }

    fn drop_duplicate(&mut self, seat: Seat, said: &mut Said) {
        said.sights.push(Sight::Duplicate);
        self.law(Law::Duplicate, said.newcomer == Some(seat.number) && seat.name.is_keyed());
        self.waiting.retain(|waiting| waiting.number != seat.number);
        said.answered = true;
        let first = self.waiting.iter().find(|waiting| waiting.name == seat.name).copied();
        self.law(Law::Duplicate, first.is_some());
        if first.is_some_and(|first| first.decided.is_some()) {
            said.sights.push(Sight::DuplicateWhileTold);
        }
    }

    fn note(&mut self, note: &Note, said: &mut Said, rules: &Rules) {
        match note {
            Note::Retrying { .. } => {
                self.law(Law::Once, said.action != Some(Action::Answer(Reply::Ambiguous)));
                self.books.retry_not_before = Some(self.now.boot + said.pause);
            }
            Note::Landed { .. } => {
                said.sights.push(Sight::Landed);
                (self.books.failures, self.books.cooldown) = (0, None);
                self.books.again = None;
                self.books.end_flight(self.now);
            }
            Note::Received { .. } => {
                self.books.again = None;
                self.law(Law::Offered, said.action == Some(Action::Offer));
            }
            Note::Failed { .. } => self.reckon_failure(said, rules),
            Note::Started { .. } | Note::AskingAgain { .. } | Note::Reported { .. } => {}
        }
    }

    fn reckon_failure(&mut self, said: &mut Said, rules: &Rules) {
        said.sights.push(Sight::Failed);
        self.books.failures += 1;
        let failures = self.books.failures;
        let usual = rules.doubled(failures);
        let reply = match said.action {
            Some(Action::Answer(reply)) => Some(reply),
            _ => None,
        };
        let pause = match reply {
            Some(Reply::Panic) if failures == 1 => Duration::ZERO,
            Some(Reply::Terminal) => usual.max(rules.terminal),
            _ => usual.max(said.pause),
        };
        self.books.fail(pause, reply == Some(Reply::Terminal), self.now);
    }
}
