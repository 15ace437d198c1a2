//! The counters of the machine.

use std::time::Duration;

use serde::Serialize;

use crate::duration;
use crate::source::Reason;

/// The counters since the machine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Requests and subscriptions that the actor has received. A handle's read of a usable token is not counted,
    /// and the handle waiters of one flight count as one.
    pub requests: u64,
    /// Flights started.
    pub flights: u64,
    /// Calls to the source.
    pub attempts: u64,
    /// Flights that got a token.
    pub landed: u64,
    /// Flights that failed.
    pub failed: u64,
    /// Reports of every kind that named the token in use.
    pub rejections: u64,
    /// Reports by [`Replace`](crate::Replace), whichever token they named.
    pub replaces: u64,
    /// Reports by [`Invalidate`](crate::Invalidate), whichever token they named.
    pub invalidates: u64,
    /// Reports by [`Discard`](crate::Discard), whichever token they named.
    pub discards: u64,
    /// Reports that started a flight or joined one.
    pub reports_honoured: u64,
    /// Of these, the reports that needed no budget, because several APIs that had accepted the token reject it now.
    pub reports_confirmed: u64,
    /// Reports that started no flight because the token had not settled.
    pub refused_by_settle: u64,
    /// Reports that started no flight because the budget for them was spent.
    pub refused_by_budget: u64,
    /// Reports that started no flight because a cooldown ran.
    pub refused_by_cooldown: u64,
    /// Tokens from the source whose secret had been reported.
    pub repeated_secrets: u64,
    /// How long the token in use was withheld from callers, for reports by [`Invalidate`](crate::Invalidate).
    #[serde(serialize_with = "duration::seconds")]
    pub withheld: Duration,
    /// Requests that waited for a flight which another request had started.
    pub coalesced: u64,
    /// Requests that timed out, on handles too.
    pub timeouts: u64,
    /// Requests that found the queue full, on handles too.
    pub overloads: u64,
    #[serde(skip)]
    landed_by: [u64; Reason::COUNT],
    #[serde(skip)]
    failed_by: [u64; Reason::COUNT],
}

impl Counters {
    /// Flights for this reason that got a token.
    pub fn landed_by(&self, reason: Reason) -> u64 {
        self.landed_by[reason as usize]
    }

    /// Flights for this reason that failed.
    pub fn failed_by(&self, reason: Reason) -> u64 {
        self.failed_by[reason as usize]
    }

    /// With the counters of handle callers from the lobby.
    pub(crate) fn with_lobby(mut self, timeouts: u64, overloads: u64) -> Self {
        self.timeouts += timeouts;
        self.overloads += overloads;
        self
    }

    pub(super) fn count_landing(&mut self, reason: Reason) {
        self.landed += 1;
        self.landed_by[reason as usize] += 1;
    }

    pub(super) fn count_failure(&mut self, reason: Reason) {
        self.failed += 1;
        self.failed_by[reason as usize] += 1;
    }
}

/// For code that keeps or adds the counters of many keys.
#[cfg(feature = "registry")]
impl Counters {
    const TOTALS: usize = 18;
    pub(crate) const NUMBERS: usize = Self::TOTALS + 2 * Reason::COUNT;

    /// All fields that are numbers.
    fn numbers_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let totals: [&mut u64; Self::TOTALS] = [
            &mut self.requests,
            &mut self.flights,
            &mut self.attempts,
            &mut self.landed,
            &mut self.failed,
            &mut self.rejections,
            &mut self.replaces,
            &mut self.invalidates,
            &mut self.discards,
            &mut self.reports_honoured,
            &mut self.reports_confirmed,
            &mut self.refused_by_settle,
            &mut self.refused_by_budget,
            &mut self.refused_by_cooldown,
            &mut self.repeated_secrets,
            &mut self.coalesced,
            &mut self.timeouts,
            &mut self.overloads,
        ];
        totals.into_iter().chain(&mut self.landed_by).chain(&mut self.failed_by)
    }

    pub(super) fn numbers(mut self) -> [u64; Self::NUMBERS] {
        let mut numbers = [0; Self::NUMBERS];
        numbers.iter_mut().zip(self.numbers_mut()).for_each(|(place, number)| *place = *number);
        numbers
    }

    pub(super) fn set_numbers(&mut self, numbers: [u64; Self::NUMBERS]) {
        self.numbers_mut().zip(numbers).for_each(|(place, number)| *place = number);
    }

    /// Adds the increase of one key between two looks.
    pub(crate) fn add(&mut self, before: &Self, after: &Self) {
        self.withheld += after.withheld.saturating_sub(before.withheld);
        let (before, after) = (before.numbers(), after.numbers());
        let more = before.into_iter().zip(after).map(|(before, after)| after.saturating_sub(before));
        self.numbers_mut().zip(more).for_each(|(place, more)| *place += more);
    }
}
