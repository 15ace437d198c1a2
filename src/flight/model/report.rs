//! Reports in the model: by APIs and by users, with their required results.

use super::books::{Due, Weight};
use super::laws::Law;
use super::rules::{Name, Rules, Which};
use super::sights::Sight;
use super::world::{Said, World, left};
use crate::flight::{Event, Outcome, Rejection};
use crate::token::Token;

impl World {
    /// The token that is meant.
    pub(super) fn named(&self, which: Which) -> Option<Token> {
        let current = self.slot.as_ref().map(|shown| &shown.token);
        match which {
            Which::Current => current.cloned(),
            Which::Old => self.books.old.clone(),
            Which::Again => {
                let is_other = |token: &&Token| current.is_none_or(|current| !current.is_same(token));
                self.books.reported.iter().rev().map(|entry| &entry.token).find(is_other).cloned()
            }
            Which::Unknown => Some(Token::new("unknown")),
        }
    }

    /// Whether a report of this token would have to be remembered.
    pub(super) fn is_new_report(&self, token: &Token) -> bool {
        let known = [self.usable(), self.books.old.as_ref()];
        self.books.entry(token).is_none() && known.into_iter().flatten().any(|known| known.is_same(token))
    }

    /// The required result of a report. It is calculated before the machine gets the report.
    fn reckon_report(&mut self, token: &Token, weight: Weight, said: &mut Said, rules: &Rules) {
        let hit = self.usable().is_some_and(|usable| usable.is_same(token));
        let Some(shown) = self.slot.as_mut().filter(|_| hit) else {
            // An expired token that was reported is not given in place of an error either.
            if let Some(shown) = self.slot.as_mut().filter(|shown| shown.token.is_same(token)) {
                shown.suspect = true;
            }
            if let Some(old) = self.books.old.clone().filter(|old| old.is_same(token)) {
                self.books.remember(&old, false);
            }
            said.due = Some(Due::Late);
            return said.sights.push(Sight::LateReport);
        };
        shown.suspect = true;
        let lived = self.now.boot.saturating_sub(shown.since);
        let token = shown.token.clone();
        let left = |token: &Token| left(token, self.now);
        let due = self.books.report(&token, weight, lived, self.now, rules);
        // An old token does not help a reporter that requires another kind. A reporter that knows of a revocation
        // waits until the token has settled. A revoked token is not too young.
        let waits = weight == Weight::Confirmed && due == Due::Settling;
        let helps = weight != Weight::Demand && !waits;
        said.offer = self.books.offer(&token, left, rules).filter(|_| helps).cloned();
        said.is_young = lived < Rules::FIRST_MINUTE && weight != Weight::Confirmed;
        said.due = Some(due);
        if due == Due::Starts && weight == Weight::Confirmed && self.books.is_broke(rules) {
            said.sights.push(Sight::OnTheHouse);
        }
        said.sights.push(match due {
            Due::Late => Sight::LateReport,
            Due::Joins => Sight::Joined,
            Due::Starts => Sight::Started,
            Due::CoolingDown => Sight::CoolingDown,
            Due::Settling => Sight::Settling,
            Due::OverBudget => Sight::OverBudget,
        });
    }

    fn was_confirmed(&self, token: &Token) -> bool {
        self.books.entry(token).is_some_and(|entry| entry.confirmed)
    }

    pub(super) fn replace(
        &mut self,
        which: Which,
        rejection: Rejection,
        mut said: Said,
        rules: &Rules,
    ) -> Vec<Sight> {
        let Some(token) = self.named(which) else { return Vec::new() };
        let was_confirmed = self.was_confirmed(&token);
        let weight = match &rejection {
            Rejection { challenge: Some(_), .. } => Weight::Demand,
            Rejection { is_confirmed: true, .. } => Weight::Confirmed,
            Rejection { .. } => Weight::Plain,
        };
        self.reckon_report(&token, weight, &mut said, rules);
        let hit = said.due != Some(Due::Late);
        let waiter = self.sit(Name::Reporter, hit, &mut said, rules);
        let due = said.due;
        let sights = self.on(Event::Replace { waiter, token, rejection }, said, rules);
        self.judge_report(due, was_confirmed);
        if weight == Weight::Demand
            && due.is_some_and(Due::has_flight)
            && let Some(flight) = &mut self.books.flight
        {
            flight.demanded = true;
        }
        sights
    }

    pub(super) fn invalidate(&mut self, which: Which, mut said: Said, rules: &Rules) -> Vec<Sight> {
        let Some(token) = self.named(which) else { return Vec::new() };
        let was_confirmed = self.was_confirmed(&token);
        self.reckon_report(&token, Weight::Plain, &mut said, rules);
        // The handle withholds the token before the machine gets the report.
        let until = self.now.boot + Rules::WITHHELD;
        let may = self.machine.reports_from() <= self.now.boot;
        if let Some(shown) = self.slot.as_mut().filter(|shown| may && shown.token.is_same(&token)) {
            shown.withheld_until =
                shown.withheld_until.filter(|until| *until > self.now.boot).or(Some(until));
        }
        let due = said.due;
        let sights = self.on(Event::Invalidate(token), said, rules);
        self.judge_report(due, was_confirmed);
        sights
    }

    /// Checks the result of a report: a flight if one may start or is under way, otherwise none.
    fn judge_report(&mut self, due: Option<Due>, was_confirmed: bool) {
        let Some(due) = due.filter(|due| *due != Due::Late) else { return };
        let flies = self.books.flight.is_some();
        self.law(Law::Budget, due.has_flight() || !flies);
        self.law(Law::Honoured, !due.has_flight() || flies);
        if due.has_flight() {
            self.books.join(was_confirmed);
        }
    }

    pub(super) fn discard(&mut self, which: Which, mut said: Said, rules: &Rules) -> Vec<Sight> {
        let Some(token) = self.named(which) else { return Vec::new() };
        self.books.discard(&token);
        let is_it = |outcome: &Outcome| outcome.as_ref().is_ok_and(|told| told.is_same(&token));
        let crowds = self.machine.telling.iter().filter(|telling| is_it(&telling.outcome));
        let seats = crowds.flat_map(|telling| telling.crowd.places().flatten());
        said.withdrawn = seats.map(|(seat, ..)| seat.number).collect();
        // The handle takes the token out of the slot before the machine gets the report.
        said.may_take_away = self.slot.take_if(|shown| shown.token.is_same(&token)).is_some();
        if said.may_take_away {
            self.books.again = Some(token.clone());
        }
        said.sights.push(Sight::Discarded);
        self.on(Event::Discard(token), said, rules)
    }
}
