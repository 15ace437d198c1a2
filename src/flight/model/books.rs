//! The laws' own records: cooldowns, reports, settle and budget, the predecessor. Written from `docs/reports.md`,
//! independently of the machine.

use std::time::Duration;

use super::rules::Rules;
use super::world::left;
use crate::clock::Timestamp;
use crate::token::Token;

#[derive(Clone, Default)]
pub(super) struct Books {
    /// The token before the current one, for reporters.
    pub(super) old: Option<Token>,
    /// Reported secrets, each until its token's end. The last one is the one that was reported first most recently.
    pub(super) reported: Vec<Entry>,
    /// Discarded secrets, for ever.
    pub(super) discarded: Vec<Token>,
    /// The discarded token that was in use, or that the source has given out: the next call must name it.
    pub(super) again: Option<Token>,
    /// The saved budget of flights for reports, in time: each flight costs an interval.
    pub(super) purse: Duration,
    pub(super) flight: Option<Flight>,
    pub(super) failures: u32,
    pub(super) cooldown: Option<Cooldown>,
    pub(super) last_flight: Option<Duration>,
    pub(super) retry_not_before: Option<Duration>,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) token: Token,
    /// The secret was reported before it had settled.
    pub(super) from_birth: bool,
    /// The source has given it again.
    pub(super) confirmed: bool,
}

#[derive(Clone)]
pub(super) struct Flight {
    pub(super) until: Duration,
    pub(super) attempt: u32,
    pub(super) asks: Asks,
    /// Until when the token is withheld in this flight.
    pub(super) withheld_until: Option<Duration>,
    /// The token has been withheld, and is in use again.
    pub(super) released: bool,
    /// An API has required another kind of token: the next attempt and all later ones pass this on.
    pub(super) demanded: bool,
    /// The running call passes this on.
    pub(super) passed_on: bool,
    /// The token of a call that did not. It is used if the next call gets none.
    pub(super) spare: Option<Token>,
}

/// The relation of reports to a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// None.
    No,
    /// One more call to the source, if a reported secret comes.
    Once,
    /// The next result is accepted.
    Enough,
}

#[derive(Clone)]
pub(super) struct Cooldown {
    pub(super) until: Duration,
    /// The auth server refused.
    pub(super) refused: bool,
}

/// The contents of a report beside its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Plain,
    /// Several APIs had accepted the token, and reject it now: the report needs no budget.
    Confirmed,
    /// The API knows the token, and requires another kind: the token need not settle.
    Demand,
}

/// The required result of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The report does not name the token in use.
    Late,
    Joins,
    Starts,
    CoolingDown,
    Settling,
    OverBudget,
}

impl Due {
    pub(super) fn has_flight(self) -> bool {
        matches!(self, Self::Joins | Self::Starts)
    }
}

impl Books {
    pub(super) fn new(rules: &Rules) -> Self {
        Self { purse: full(rules), ..Self::default() }
    }

    /// Time has passed.
    pub(super) fn pass(&mut self, time: Duration, now: Timestamp, rules: &Rules) {
        self.purse = self.purse.saturating_add(time).min(full(rules));
        let lasts = |token: &Token| token.end().boot > now.boot;
        self.reported.retain(|entry| lasts(&entry.token));
        self.old.take_if(|old| !lasts(old));
    }

    pub(super) fn entry(&self, token: &Token) -> Option<&Entry> {
        self.reported.iter().find(|entry| entry.token.is_same(token))
    }

    pub(super) fn is_discarded(&self, token: &Token) -> bool {
        self.discarded.iter().any(|discarded| discarded.is_same(token))
    }

    pub(super) fn cools(&self, now: Timestamp) -> bool {
        self.cooldown.as_ref().is_some_and(|cooldown| now.boot < cooldown.until)
    }

    /// A report about the token in use, which was published `lived` ago.
    pub(super) fn report(
        &mut self,
        token: &Token,
        weight: Weight,
        lived: Duration,
        now: Timestamp,
        rules: &Rules,
    ) -> Due {
        let settling = lived < rules.settle();
        let due = if self.flight.is_some() {
            Due::Joins
        } else if self.cools(now) {
            Due::CoolingDown
        } else if settling && weight != Weight::Demand {
            Due::Settling
        } else if weight == Weight::Confirmed {
            Due::Starts
        } else if self.is_broke(rules) {
            Due::OverBudget
        } else {
            self.purse -= price(rules);
            Due::Starts
        };
        self.remember(token, settling && weight == Weight::Plain);
        due
    }

    /// Whether the budget is spent.
    pub(super) fn is_broke(&self, rules: &Rules) -> bool {
        self.purse < price(rules)
    }

    pub(super) fn remember(&mut self, token: &Token, from_birth: bool) {
        if self.entry(token).is_none() {
            self.reported.push(Entry { token: token.clone(), from_birth, confirmed: false });
        }
    }

    /// A report has started this flight or joined it. `was_confirmed`: the source had given its token again before.
    pub(super) fn join(&mut self, was_confirmed: bool) {
        if let Some(flight) = self.flight.as_mut().filter(|flight| flight.asks == Asks::No) {
            flight.asks = if was_confirmed { Asks::Enough } else { Asks::Once };
        }
    }

    /// Whether the source must be asked once more if it gives this token.
    pub(super) fn asks_again(&self, token: &Token, now: Timestamp, rules: &Rules) -> bool {
        self.flight.as_ref().is_some_and(|flight| {
            let possible = flight.attempt < rules.attempts && now.boot < flight.until;
            flight.asks == Asks::Once && self.entry(token).is_some() && possible
        })
    }

    /// Whether the source must be asked once more because an API's requirement came during the call.
    pub(super) fn asks_for_more(&self, now: Timestamp, rules: &Rules) -> bool {
        self.flight.as_ref().is_some_and(|flight| {
            let possible = flight.attempt < rules.attempts && now.boot < flight.until;
            flight.demanded && !flight.passed_on && possible
        })
    }

    /// The same secret has a new life.
    pub(super) fn renew(&mut self, token: &Token) {
        if let Some(entry) = self.reported.iter_mut().find(|entry| entry.token.is_same(token)) {
            entry.token = token.clone();
        }
    }

    /// This token is published. Returns whether it is suspect from the beginning.
    pub(super) fn publish(&mut self, token: &Token) -> bool {
        let for_report = self.flight.as_ref().is_some_and(|flight| flight.asks != Asks::No);
        let Some(entry) = self.reported.iter_mut().find(|entry| entry.token.is_same(token)) else {
            return false;
        };
        entry.token = token.clone();
        entry.confirmed |= for_report;
        !entry.confirmed
    }

    /// Another secret is in use now. The best predecessor was never reported. Of the tokens that were rejected from
    /// their birth the oldest stays. A token that was reported after it had settled is no predecessor.
    pub(super) fn succeed(&mut self, before: Token, now: Timestamp, rules: &Rules) {
        let helps = |token: &Token| {
            let is_known_to_help = self.entry(token).is_none_or(|entry| entry.from_birth);
            is_known_to_help && left(token, now) > rules.min_validity()
        };
        let is_better = match self.entry(&before) {
            None => true,
            Some(entry) => entry.from_birth && !self.old.as_ref().is_some_and(helps),
        };
        // By the clock that is never set back: a change of the wall clock may lengthen a token's life.
        if is_better && before.end().boot > now.boot && !self.is_discarded(&before) {
            self.old = Some(before);
        }
    }

    /// The token that a reporter of `current` may get instead.
    pub(super) fn offer(
        &self,
        current: &Token,
        left: impl Fn(&Token) -> Duration,
        rules: &Rules,
    ) -> Option<&Token> {
        let from_birth = |token| self.entry(token).is_some_and(|entry| entry.from_birth);
        self.old.as_ref().filter(|old| {
            let helps = self.entry(old).is_none() || (from_birth(old) && from_birth(current));
            helps && !old.is_same(current) && left(old) > rules.min_validity()
        })
    }

    pub(super) fn discard(&mut self, token: &Token) {
        self.old.take_if(|old| old.is_same(token));
        if !self.is_discarded(token) {
            self.discarded.push(token.clone());
        }
    }

    /// How long the source is not called after a failed flight.
    pub(super) fn fail(&mut self, pause: Duration, refused: bool, now: Timestamp) {
        let until = now.boot + pause;
        self.cooldown = Some(Cooldown { until, refused });
        self.end_flight(now);
    }

    pub(super) fn end_flight(&mut self, now: Timestamp) {
        self.flight = None;
        self.last_flight = Some(now.boot);
    }
}

/// The cost of a flight for a report.
fn price(rules: &Rules) -> Duration {
    rules.budget.map_or(Duration::ZERO, |(_, interval)| interval)
}

fn full(rules: &Rules) -> Duration {
    rules.budget.map_or(Duration::ZERO, |(reports, interval)| interval * reports)
}
