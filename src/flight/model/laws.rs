//! The laws: the conditions that must hold in every state. Each has a name under which its breach is reported.

use std::time::Duration;

use super::books::Due;
use super::rules::{Action, Name, Rules, Seat};
use super::sights::Sight;
use super::world::{Said, Shown, Waiting, World, left};
use crate::flight::{FlightState, Outcome};
use crate::token::Token;

macro_rules! laws {
    ($($name:ident $text:literal,)*) => {
        /// A law, named after its promise.
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
    OneAnswer "no pair is answered twice between its subscription and its answer",
    OnePlace "nobody waits twice under one ticket",
    Duplicate "only a duplicate is dropped",
    Kept "nobody who waits is forgotten",
    Flying "whoever waits, waits for a flight",
    Idle "nobody waits for a token that can be read",
    Woken "whatever is under way, a wake-up is set",
    Patience "nobody waits beyond the end of his patience",
    Order "all are told, the oldest first",
    Round "a round is closed to newcomers when its telling begins",
    Alive "no expired token is published",
    HandedOut "no expired token is handed out",
    Discarded "a discarded token is never published, readable or told",
    Newness "who wants a new token gets no old one",
    PublishedFirst "publish comes before telling",
    Usable "a usable token is never taken away",
    Withheld "a report withholds the token once a flight, for a second at most, while the flight's attempt runs",
    Reporter "who reported gets the flight's outcome, or at once the same token or a predecessor that helps",
    Honoured "a report that may have a flight has one",
    Budget "flights for reports keep to settle and budget, forced ones to settle",
    Demanded "what an API asks of the token stands in each attempt from then on, and an attempt follows",
    Previous "each call names the token that it replaces, first a discarded one that the source has given out again",
    LastWord "the source has the last word, and is asked once more at most",
    Offered "what others have fetched is taken where no flight is under way, and only there",
    Suspect "a token is suspect from the report until it is replaced or confirmed",
    Due "in background mode an unusable token means that a refresh is due, or a cooldown runs",
    OwnPace "refreshes that nobody asks for keep their distance",
    Cooldown "no flight begins in a cooldown",
    RetryAfter "no retry before the source's Retry-After",
    Attempts "a flight has its number of attempts and no more",
    Once "no second attempt follows where a credential may have been spent",
    FlightTime "no call begins after the flight's time",
    Queue "the queue is bounded, and those who are being told count",
    Reader "a reader that reports is told when to report again",
    Deaf "a call that was given up changes nothing",
    Stopped "a stopped machine calls nobody and holds nothing",
    Rest "it comes to rest",
    Recovery "it recovers when the source does",
}

impl World {
    /// Records a breach. The first one counts.
    pub(super) fn law(&mut self, law: Law, holds: bool) {
        if !holds && self.breach.is_none() {
            self.breach = Some(law);
        }
    }

    pub(super) fn left(&self, token: &Token) -> Duration {
        left(token, self.now)
    }

    /// Whether an answer with this token is correct.
    pub(super) fn is_good(&self, token: &Token) -> bool {
        token.is_presentable() && !self.left(token).is_zero() && !self.books.is_discarded(token)
    }

    fn is_over_for(&self, token: &Token) -> Duration {
        let end = token.end();
        let by_wall = self.now.wall.duration_since(end.wall).unwrap_or_default();
        by_wall.max(self.now.boot.saturating_sub(end.boot))
    }

    /// The token in the slot, if it is usable by the clocks.
    pub(super) fn usable(&self) -> Option<&Token> {
        let shown = self.slot.as_ref()?;
        (self.left(&shown.token) > shown.margins.min_validity).then_some(&shown.token)
    }

    /// The token that a reader of the slot finds.
    pub(super) fn readable(&self) -> Option<&Token> {
        self.usable().filter(|_| !self.slot.as_ref().is_some_and(|shown| self.is_withheld(shown)))
    }

    pub(super) fn is_withheld(&self, shown: &Shown) -> bool {
        shown.withheld_until.is_some_and(|until| self.now.boot < until)
    }

    pub(super) fn is_settling(&self, rules: &Rules) -> bool {
        self.slot.as_ref().is_some_and(|shown| self.now.boot < shown.since + rules.settle())
    }

    /// The laws about an outcome, when it is decided, or told at once.
    pub(super) fn judge_answer(&mut self, outcome: &Outcome, rules: &Rules) {
        let Ok(token) = outcome else { return };
        self.law(Law::Discarded, !self.books.is_discarded(token));
        self.law(Law::HandedOut, self.may_be_used(token, rules));
        let shown = self.slot.as_ref().is_some_and(|shown| shown.token.is_same(token));
        self.law(Law::PublishedFirst, shown);
    }

    /// The same for a caller that has just come.
    pub(super) fn judge_answer_at_once(
        &mut self,
        seat: Seat,
        outcome: &Outcome,
        said: &mut Said,
        rules: &Rules,
    ) {
        let Some(due) = said.due.filter(|due| *due != Due::Late) else {
            self.law(Law::Newness, seat.name != Name::Forcer || outcome.is_err());
            let withheld = self.slot.as_ref().is_some_and(|shown| self.is_withheld(shown));
            self.law(Law::Withheld, outcome.is_err() || !withheld);
            return self.judge_answer(outcome, rules);
        };
        let Ok(token) = outcome else {
            // The queue is full; otherwise a caller that names a usable token gets one.
            let overloaded = outcome.as_ref().is_err_and(crate::error::TokenError::is_overloaded);
            return self.law(Law::Reporter, overloaded && due.has_flight());
        };
        self.law(Law::Discarded, !self.books.is_discarded(token));
        let is_current = self.usable().is_some_and(|usable| usable.is_same(token));
        if seat.name == Name::Forcer {
            said.sights.push(Sight::ForcedWhileSettling);
            return self.law(Law::Newness, is_current && due == Due::Settling);
        }
        let offer = said.offer.clone().filter(|_| said.is_young || !due.has_flight());
        let is_offer = offer.as_ref().is_some_and(|offer| offer.is_same(token));
        if is_offer {
            said.sights.push(if due.has_flight() { Sight::PredecessorAtOnce } else { Sight::Predecessor });
            if self.books.entry(token).is_some() {
                said.sights.push(Sight::RejectedFromBirth);
            }
        } else {
            said.sights.push(Sight::SameToken);
        }
        let is_same = offer.is_none() && is_current && !due.has_flight();
        self.law(Law::Reporter, is_offer || is_same);
    }

    /// The laws about a caller that has just come.
    pub(super) fn judge_newcomer(&mut self, said: &mut Said) {
        let Some(number) = said.newcomer else { return };
        if said.could_read {
            // A caller that could have read a usable token is told it at once, or waits already.
            self.law(Law::Usable, said.answered && !said.sights.contains(&Sight::Refused));
        }
        let waits = self.waiting.iter().any(|waiting| waiting.number == number);
        self.law(Law::Kept, waits || said.answered);
        let reports =
            matches!(said.action, Some(Action::Replace(_) | Action::Confirm(_) | Action::Demand(_)));
        let Some(due) = said.due.filter(|due| reports && *due != Due::Late) else { return };
        let offered = said.offer.is_some() && said.is_young;
        self.law(Law::Reporter, said.answered || (due.has_flight() && !offered));
        if said.offer.is_some() && !said.answered {
            said.sights.push(Sight::OutcomeInsteadOfPredecessor);
        }
    }

    fn may_be_used(&self, token: &Token, rules: &Rules) -> bool {
        // An expired token is given only by `stale_if_error`, and only in place of an error that is not a refusal.
        let instead = self.books.cooldown.as_ref().is_some_and(|it| self.now.boot <= it.until && !it.refused);
        let stale = !rules.grace.is_zero() && self.is_over_for(token) <= rules.grace && instead;
        stale || !self.left(token).is_zero()
    }

    /// The laws about the state after an event.
    pub(super) fn judge_state(&mut self, said: &mut Said, rules: &Rules) {
        self.reconcile(said, rules);
        let waits = self.waiting.iter().any(|waiting| waiting.decided.is_none());
        let state = self.machine.state(self.now);
        let flying = matches!(state, FlightState::Fetching | FlightState::Pausing);
        self.law(Law::Flying, flying || !waits);
        self.law(Law::OneCall, (state == FlightState::Fetching) == self.call.is_some());
        self.law(Law::OneCall, flying == self.books.flight.is_some());
        self.judge_wake_up(flying || waits, rules);
        let callers = self.waiting.iter().filter(|waiting| waiting.name != Name::Round).count();
        self.law(Law::Queue, callers <= rules.limit && self.machine.waiters() == callers);
        self.judge_slot(flying);
        if said.action == Some(Action::Refresh) && said.due == Some(Due::Settling) {
            self.law(Law::Budget, !flying);
        }
        if state == FlightState::Stopped {
            let wake = self.machine.next_wake(self.now);
            self.law(Law::Stopped, !waits && self.call.is_none() && self.slot.is_none() && wake.is_none());
        }
    }

    fn judge_wake_up(&mut self, busy: bool, rules: &Rules) {
        let wake = self.machine.next_wake(self.now);
        self.law(Law::Woken, wake.is_some() || !(busy || self.refreshes_by_itself(rules)));
        let waiting = self.waiting.iter().filter(|waiting| waiting.decided.is_none());
        let patience = waiting.map(|waiting| waiting.deadline).filter(|at| *at < Duration::MAX).min();
        self.law(Law::Woken, patience.is_none_or(|end| wake.is_some_and(|wake| wake <= end)));
        let withheld =
            self.slot.as_ref().filter(|shown| self.is_withheld(shown)).and_then(|it| it.withheld_until);
        self.law(Law::Woken, withheld.is_none_or(|end| wake.is_some_and(|wake| wake <= end)));
        if self.refreshes_by_itself(rules) && self.books.flight.is_none() && self.usable().is_none() {
            let books = &self.books;
            let after_cooldown = books.cooldown.as_ref().map_or(Duration::ZERO, |cooldown| cooldown.until);
            let after_flight =
                books.last_flight.map_or(Duration::ZERO, |ended| ended + Rules::LEAST_INTERVAL);
            let due = self.now.boot.max(after_cooldown).max(after_flight);
            self.law(Law::Due, wake.is_some_and(|wake| wake <= due));
        }
        // Time may have passed without an alarm. Then the wake-up is due.
        let is_due = wake.is_some_and(|wake| wake <= self.now.boot);
        let in_vain = self.waiting.iter().any(|waiting| waiting.decided.is_none() && !waiting.renewing);
        self.law(Law::Idle, is_due || rules.sets_clocks() || !in_vain || self.readable().is_none());
    }

    fn judge_slot(&mut self, flying: bool) {
        let Some(shown) = self.slot.clone() else { return };
        self.law(Law::Discarded, !self.books.is_discarded(&shown.token));
        self.law(Law::Reader, shown.quiet_until < Duration::MAX || flying);
        self.law(Law::Suspect, self.machine.is_suspect() == shown.suspect);
        if self.is_withheld(&shown) {
            let until = self.books.flight.as_ref().and_then(|flight| flight.withheld_until);
            self.law(Law::Withheld, flying && shown.withheld_until == until);
        }
    }

    fn refreshes_by_itself(&self, rules: &Rules) -> bool {
        rules.background && self.machine.state(self.now) != FlightState::Stopped
    }

    /// All waiters are in the machine's lines or are being told. Only callers that have gone away may be dropped.
    fn reconcile(&mut self, said: &mut Said, rules: &Rules) {
        let machine = &self.machine;
        let lines = [&machine.wanting, &machine.renewing].map(|line| line.places().flatten());
        let in_line: Vec<Seat> = lines.into_iter().flatten().map(|(seat, ..)| *seat).collect();
        let mut told: Vec<(Seat, Outcome)> = Vec::new();
        for telling in &machine.telling {
            let seats = telling.crowd.places().flatten().map(|(seat, ..)| *seat);
            told.extend(seats.map(|seat| (seat, telling.outcome.clone())));
        }
        self.decisions += 1;
        let (mut kept, mut count) = (Vec::new(), 0);
        for mut waiting in std::mem::take(&mut self.waiting) {
            let outcome = told.iter().find(|(seat, _)| seat.number == waiting.number);
            let waits = in_line.iter().any(|seat| seat.number == waiting.number);
            let withdrawn = said.withdrawn.contains(&waiting.number);
            if let Some((seat, outcome)) = outcome {
                self.law(Law::Round, seat.decided || seat.name != Name::Round);
                if waiting.decided.is_none() || withdrawn {
                    self.judge_decision(waiting, outcome, said, rules);
                }
                count += usize::from(waiting.decided.is_none());
                if withdrawn {
                    said.sights.push(Sight::Retold);
                }
                waiting.decided = waiting.decided.or(Some(self.decisions));
            } else if waits {
                // Taken back, because the token to be told was discarded.
                if withdrawn {
                    said.sights.push(Sight::TakenBack);
                }
                self.law(Law::Kept, waiting.decided.is_none() || withdrawn);
                waiting.decided = None;
            } else {
                self.law(Law::Kept, waiting.gone && waiting.decided.is_none());
                continue;
            }
            kept.push(waiting);
        }
        if count > 1 {
            said.sights.push(Sight::Crowd);
        }
        self.law(Law::OneAnswer, in_line.len() + told.len() == kept.len());
        self.waiting = kept;
        let twice = |name| {
            let same = |waiting: &&Waiting| {
                waiting.name == name && !(name == Name::Round && waiting.decided.is_some())
            };
            self.waiting.iter().filter(same).count() > 1
        };
        let doubled = [Name::Ticket, Name::Hasty, Name::Round].into_iter().any(twice);
        self.law(Law::OnePlace, !doubled);
    }

    /// The outcome of a waiter is known.
    fn judge_decision(&mut self, waiting: Waiting, outcome: &Outcome, said: &Said, rules: &Rules) {
        match outcome {
            Ok(_) => {
                // After a discard the token in use may have been published before. It is newer than the discarded
                // token.
                let is_new = said.published || said.withdrawn.contains(&waiting.number);
                self.law(Law::Newness, !waiting.renewing || is_new);
                self.judge_answer(outcome, rules);
            }
            Err(error) => {
                let usable = self.usable().is_some();
                self.law(Law::Usable, waiting.renewing || error.is_stopped() || !usable);
            }
        }
    }

    /// After the alarm, no waiter is left whose deadline has passed.
    pub(super) fn judge_patience(&mut self) {
        let mut waiting = self.waiting.iter().filter(|waiting| waiting.decided.is_none());
        let late = waiting.any(|waiting| waiting.deadline <= self.now.boot);
        self.law(Law::Patience, !late);
    }
}
