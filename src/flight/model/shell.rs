//! Performs what the machine says, as the actor does, and holds it against the laws.

use std::time::Duration;

use super::laws::Law;
use super::rules::{Name, Reply, Rules, Seat, WISH};
use super::sights::Sight;
use super::world::{Call, Said, Shown, World};
use crate::flight::{Effect, Event, FlightState, Note, Outcome};
use crate::policy::Margins;
use crate::queue::Line;
use crate::source::{FetchContext, Reason};
use crate::token::Token;

impl World {
    pub(super) fn on(&mut self, event: Event<Seat>, mut said: Said, rules: &Rules) -> Vec<Sight> {
        let mut effects = Vec::new();
        self.machine.on(event, self.now, &mut effects);
        for effect in effects {
            self.perform(effect, &mut said, rules);
        }
        if let Some(true) = said.newcomer_can_read {
            // Whoever could have read a usable token is told it at once.
            self.law(Law::Usable, said.sights.contains(&Sight::Served));
        }
        self.judge_state(rules);
        said.sights
    }

    fn perform(&mut self, effect: Effect<Seat>, said: &mut Said, rules: &Rules) {
        match effect {
            Effect::Fetch { id, cx } => self.fetch(id, &cx, said, rules),
            Effect::Abort => {
                said.sights.push(Sight::Aborted);
                // A flight that ends in a pause has no call to drop.
                self.law(Law::OneCall, self.call.is_some() || said.restarts || self.is_stopped());
                if let Some(call) = self.call.take() {
                    self.late = Some(call.id);
                }
            }
            Effect::Publish(None) => {
                self.law(Law::Usable, said.may_take_away);
                self.slot = None;
            }
            Effect::Publish(Some((token, margins))) => self.publish(token, margins, said),
            Effect::QuietUntil(moment) => {
                self.slot.iter_mut().for_each(|shown| shown.quiet_until = moment);
            }
            Effect::Tell(seat, outcome) => self.tell(seat, &outcome, said, rules),
            Effect::TellAll(line, outcome) => self.tell_all(line, &outcome, said, rules),
            Effect::Discard(seat) => self.discard(seat, said),
            Effect::Note(note) => self.note(&note, said, rules),
        }
    }

    fn is_stopped(&self) -> bool {
        self.machine.state(self.now) == FlightState::Stopped
    }

    fn fetch(&mut self, id: u64, cx: &FetchContext, said: &mut Said, rules: &Rules) {
        let now = self.now.boot;
        self.law(Law::OneCall, self.call.is_none());
        self.law(Law::Stopped, !self.is_stopped());
        self.law(Law::Attempts, cx.attempt <= rules.attempts);
        if cx.attempt == 1 {
            self.law(Law::Cooldown, self.flight_not_before.is_none_or(|until| until <= now));
            self.flight_until = now + Rules::FLIGHT;
        } else {
            said.sights.push(Sight::Retried);
            self.law(Law::RetryAfter, self.retry_not_before.is_none_or(|until| until <= now));
            self.law(Law::FlightTime, now < self.flight_until);
        }
        match cx.reason {
            Reason::Ahead => said.sights.push(Sight::Ahead),
            Reason::Forced => said.sights.push(Sight::Forced),
            _ => {}
        }
        self.retry_not_before = None;
        self.call = Some(Call { id, sent: self.now });
    }

    fn publish(&mut self, token: Token, margins: Margins, said: &mut Said) {
        self.law(Law::Alive, !self.left(&token).is_zero() && !self.is_rejected(&token));
        self.law(Law::Alive, token.is_presentable());
        said.published = true;
        let shown = Shown { token, margins, since: self.now.boot, quiet_until: Duration::ZERO };
        if let Some(before) = self.slot.replace(shown.clone())
            && !before.token.same_secret(&shown.token)
        {
            self.old = Some(before.token);
        }
    }

    fn tell(&mut self, seat: Seat, outcome: &Outcome, said: &mut Said, rules: &Rules) {
        // Of two of the same name the newcomer is the one that is told at once; the one whose patience has
        // ended is the oldest.
        let mut same = self.waiting.iter().enumerate().filter(|(_, waiting)| waiting.seat == seat);
        let at =
            if said.newcomer_can_read.is_some() { same.next_back() } else { same.next() }.map(|(at, _)| at);
        self.law(Law::OneAnswer, at.is_some());
        if let Some(at) = at {
            self.waiting.remove(at);
        }
        said.sights.push(match outcome {
            Ok(token) if self.left(token).is_zero() => Sight::Stale,
            Ok(_) => Sight::Served,
            Err(error) if error.is_overloaded() => Sight::Overloaded,
            Err(_) => Sight::Refused,
        });
        self.judge_answer(seat, outcome, said, rules);
    }

    fn tell_all(&mut self, line: Line<Seat>, outcome: &Outcome, said: &mut Said, rules: &Rules) {
        let line: Vec<Seat> = line.collect();
        let forcing = line.iter().any(|seat| seat.name == Name::Forcer);
        let (all, others): (Vec<_>, Vec<_>) =
            self.waiting.iter().copied().partition(|waiting| (waiting.seat.name == Name::Forcer) == forcing);
        self.law(Law::Order, all.iter().map(|waiting| waiting.seat).eq(line.iter().copied()));
        self.waiting = others;
        if line.len() > 1 {
            said.sights.push(Sight::Crowd);
        }
        for seat in line {
            self.judge_answer(seat, outcome, said, rules);
        }
        let stopped = outcome.as_ref().is_err_and(crate::error::TokenError::is_stopped);
        self.law(Law::Usable, forcing || outcome.is_ok() || stopped || self.readable().is_none());
    }

    fn discard(&mut self, seat: Seat, said: &mut Said) {
        said.sights.push(Sight::Discarded);
        let same = self.waiting.iter().filter(|waiting| waiting.seat.name == seat.name);
        let twice = same.count() == 2;
        self.law(Law::Discarded, twice);
        if let Some(at) = self.waiting.iter().rposition(|waiting| waiting.seat == seat) {
            self.waiting.remove(at);
        }
    }

    fn note(&mut self, note: &Note, said: &mut Said, rules: &Rules) {
        match note {
            Note::Started { .. } => {}
            Note::Retrying { .. } => {
                let wish = if said.reply == Some(Reply::Wait) { WISH } else { Duration::ZERO };
                self.retry_not_before = Some(self.now.boot + wish);
            }
            Note::Landed { .. } => {
                said.sights.push(Sight::Landed);
                (self.failures, self.flight_not_before) = (0, None);
            }
            Note::Failed { .. } => self.reckon_failure(said, rules),
            Note::Rejected { .. } if self.streak > 2 => said.sights.push(Sight::Storm),
            Note::Rejected { .. } => said.sights.push(Sight::Rejected),
        }
    }

    /// How long the source is left alone after a flight that failed.
    fn reckon_failure(&mut self, said: &mut Said, rules: &Rules) {
        said.sights.push(Sight::Failed);
        self.failures += 1;
        let usual = rules.doubled(self.failures);
        let pause = match said.reply {
            Some(Reply::Panic) if self.failures == 1 => Duration::ZERO,
            Some(Reply::Terminal) => usual.max(rules.terminal),
            Some(Reply::Wait) => usual.max(WISH),
            _ => usual,
        };
        self.flight_not_before = self.flight_not_before.max(Some(self.now.boot + pause));
    }
}
