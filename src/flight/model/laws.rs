//! The laws: what must never be, whatever happens. Each has a name under which its breach is reported.

use std::time::Duration;

use super::rules::{Name, Rules, Seat};
use super::world::{Said, World};
use crate::flight::{FlightState, Outcome};
use crate::token::Token;

macro_rules! laws {
    ($($name:ident $text:literal,)*) => {
        /// A law, named after what it promises.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Law { $($name,)* }

        impl Law {
            pub(super) const ALL: &[Law] = &[$(Law::$name,)*];

            pub(super) fn text(self) -> &'static str {
                match self { $(Law::$name => $text,)* }
            }
        }
    };
}

laws! {
    OneCall "at most one call to the source at a time",
    OneAnswer "nobody is told who does not wait",
    OnePlace "nobody waits twice under one ticket",
    Discarded "only a duplicate is discarded",
    Kept "nobody who waits is forgotten",
    Flying "whoever waits, waits for a flight",
    Woken "whatever is under way, a wake-up is set",
    Patience "nobody waits beyond the end of his patience",
    Order "all are told, the oldest first",
    Alive "no expired or rejected token is published",
    HandedOut "no expired or rejected token is handed out",
    Newness "who wants a new token gets no old one",
    PublishedFirst "publish comes before telling",
    Usable "a usable token is never taken away",
    Gone "a rejected token is no longer read",
    Cooldown "no flight begins in a cooldown",
    RetryAfter "no retry before the source's Retry-After",
    Attempts "a flight has its number of attempts and no more",
    FlightTime "no call begins after the flight's time",
    Queue "the queue is bounded",
    Reported "a reader that reports is told when to report again",
    Deaf "a call that was given up changes nothing",
    Stopped "a stopped machine calls nobody and holds nothing",
    Rest "it comes to rest",
    Recovery "it recovers when the source does",
}

impl World {
    /// Notes a breach; the first one counts.
    pub(super) fn law(&mut self, law: Law, holds: bool) {
        if !holds && self.breach.is_none() {
            self.breach = Some(law);
        }
    }

    /// How long a token lasts yet, by whichever clock says less. Reckoned here, and not by the token's own
    /// rule, which is among what is tried.
    pub(super) fn left(&self, token: &Token) -> Duration {
        let end = token.end();
        let by_wall = end.wall.duration_since(self.now.wall).unwrap_or_default();
        by_wall.min(end.boot.saturating_sub(self.now.boot))
    }

    fn is_over_for(&self, token: &Token) -> Duration {
        let end = token.end();
        let by_wall = self.now.wall.duration_since(end.wall).unwrap_or_default();
        by_wall.max(self.now.boot.saturating_sub(end.boot))
    }

    /// What a reader of the slot finds.
    pub(super) fn readable(&self) -> Option<&Token> {
        let shown = self.slot.as_ref()?;
        (self.left(&shown.token) > shown.margins.min_validity).then_some(&shown.token)
    }

    pub(super) fn is_rejected(&self, token: &Token) -> bool {
        self.rejected.as_ref().is_some_and(|rejected| rejected.same_secret(token))
    }

    /// The laws about an answer, for whoever gets it.
    pub(super) fn judge_answer(&mut self, seat: Seat, outcome: &Outcome, said: &Said, rules: &Rules) {
        let Ok(token) = outcome else { return };
        self.law(Law::HandedOut, !self.is_rejected(token) && self.may_be_used(token, rules));
        let shown = self.slot.as_ref().is_some_and(|shown| shown.token.same_secret(token));
        self.law(Law::PublishedFirst, shown);
        self.law(Law::Newness, seat.name != Name::Forcer || said.published);
    }

    fn may_be_used(&self, token: &Token, rules: &Rules) -> bool {
        // Past its end only by `stale_if_error`, and only where an error would be told instead.
        let instead = self.flight_not_before.is_some_and(|until| self.now.boot <= until);
        let stale = !rules.grace.is_zero() && self.is_over_for(token) <= rules.grace && instead;
        stale || !self.left(token).is_zero()
    }

    /// The laws about the state in which an event leaves the machine.
    pub(super) fn judge_state(&mut self, rules: &Rules) {
        self.reconcile();
        let waits = !self.waiting.is_empty();
        let state = self.machine.state(self.now);
        let flying = matches!(state, FlightState::Fetching | FlightState::Pausing);
        self.law(Law::Flying, flying || !waits);
        self.law(Law::OneCall, (state == FlightState::Fetching) == self.call.is_some());
        let wake = self.machine.next_wake();
        self.law(Law::Woken, wake.is_some() || !(flying || waits || self.background_due(rules)));
        let patience =
            self.waiting.iter().map(|waiting| waiting.deadline).filter(|at| *at < Duration::MAX).min();
        self.law(Law::Woken, patience.is_none_or(|end| wake.is_some_and(|wake| wake <= end)));
        let callers = self.waiting.iter().filter(|waiting| waiting.seat.name != Name::Round).count();
        self.law(Law::Queue, callers <= rules.limit);
        let twice = |name| self.waiting.iter().filter(|waiting| waiting.seat.name == name).count() > 1;
        let doubled = [Name::Ticket, Name::Hasty, Name::Round].into_iter().any(twice);
        self.law(Law::OnePlace, !doubled);
        let rejected = self.slot.as_ref().is_some_and(|shown| self.is_rejected(&shown.token));
        self.law(Law::Gone, !rejected);
        let silenced = self
            .slot
            .as_ref()
            .is_some_and(|shown| shown.quiet_until == Duration::MAX && !self.left(&shown.token).is_zero());
        self.law(Law::Reported, !silenced || flying);
        if state == FlightState::Stopped {
            self.law(Law::Stopped, !waits && self.call.is_none() && self.slot.is_none() && wake.is_none());
        }
    }

    fn background_due(&self, rules: &Rules) -> bool {
        rules.background && self.machine.state(self.now) != FlightState::Stopped
    }

    /// Whoever waits stands in the machine's line, but for those who have gone: they may be let go.
    fn reconcile(&mut self) {
        let mut seats = self.seats();
        let mut kept = Vec::new();
        let mut forgotten = false;
        for waiting in std::mem::take(&mut self.waiting) {
            match seats.iter().position(|seat| *seat == waiting.seat) {
                Some(at) => {
                    seats.remove(at);
                    kept.push(waiting);
                }
                None => forgotten |= !waiting.seat.gone,
            }
        }
        self.waiting = kept;
        self.law(Law::Kept, !forgotten);
        self.law(Law::OneAnswer, seats.is_empty());
    }

    /// After the alarm, nobody waits whose time had come.
    pub(super) fn judge_patience(&mut self) {
        let late = self.waiting.iter().any(|waiting| waiting.deadline <= self.now.boot);
        self.law(Law::Patience, !late);
    }
}
