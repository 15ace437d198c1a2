//! The troubles of single keys, told for all keys together. No line names a key.

use std::collections::HashMap;
use std::time::Duration;

use super::journal::{Line, REMINDER, kind_of};
use crate::error::TokenError;
use crate::flight::{Note, Repeat, ReportAnswer};
#[cfg(feature = "oauth2")]
use crate::oauth::OAuthError;

/// The maximum number of keys that are counted as failing.
const MOST: usize = 1_024;

/// A key that has not failed for this time is no longer counted. It may have been evicted.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// The time between two looks for keys to forget, because a look walks through all of them.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct OfKeys {
    failures: Failures,
    budget: Tally,
    repeats: Tally,
}

/// Which troubles the gate has. Their lines stand for the failures of the keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shut {
    pub(super) endpoint: bool,
    pub(super) clients: bool,
}

impl Shut {
    fn covers(self, fault: &Fault) -> bool {
        self.endpoint || (self.clients && fault.names_client)
    }
}

/// What the log says of a failed call. It is found without the lock, because the error is foreign code.
pub(super) struct Fault {
    kind: String,
    is_refusal: bool,
    /// The auth server has refused the client, and not the key.
    names_client: bool,
}

impl Fault {
    /// `None` if there was no call.
    pub(super) fn of(note: &Note) -> Option<Self> {
        let Note::Failed { attempts: 1.., error, .. } = note else { return None };
        let (kind, is_refusal) = (kind_of(error), error.is_rejected());
        Some(Self { kind, is_refusal, names_client: names_client(error) })
    }
}

impl OfKeys {
    pub(super) fn is_quiet(&self) -> bool {
        self.failures.keys.is_empty() && self.budget.since.is_none() && self.repeats.since.is_none()
    }

    /// An event of this key, which is named by its hash.
    pub(super) fn note(
        &mut self,
        key: u64,
        note: &Note,
        fault: Option<Fault>,
        shut: Shut,
        now: Duration,
    ) -> Option<Line> {
        match note {
            Note::Failed { .. } => {
                match fault {
                    Some(fault) if !shut.covers(&fault) => self.failures.failed(key, fault, now),
                    _ => self.failures.goes_on(key, now),
                }
                None
            }
            Note::Landed { repeat, .. } => {
                if *repeat == (Repeat::Confirmed { first: true }) {
                    self.repeats.again(now);
                }
                self.failures.landed(key, now)
            }
            Note::Received { .. } => self.failures.landed(key, now),
            Note::Reported { answer: ReportAnswer::OverBudget, .. } => {
                self.budget.again(now);
                None
            }
            Note::Reported { .. }
            | Note::Started { .. }
            | Note::Retrying { .. }
            | Note::AskingAgain { .. } => None,
        }
    }

    /// The gate has shut something. Its line stands for failures of keys that were not told.
    pub(super) fn gate_shut(&mut self) {
        self.failures.forget_untold();
    }

    /// The lines that are due after a round of a shard. A failure is told only now, because the gate may have shut
    /// in the same round.
    pub(super) fn due(&mut self, now: Duration) -> impl Iterator<Item = Line> {
        let budget = self.budget.due(now).map(|times| Line::OverBudget { times });
        let ended = self.budget.end(now).map(|(lasted, times)| Line::WithinBudget { lasted, times });
        let repeats = self.repeats.due(now).map(|times| Line::Repeats { times });
        self.repeats.end(now);
        let failures = self.failures.due(now);
        [failures, budget, ended, repeats].into_iter().flatten()
    }
}

/// Whether the auth server has refused the client, and not the key.
#[cfg(feature = "oauth2")]
fn names_client(error: &TokenError) -> bool {
    error.cause::<OAuthError>().is_some_and(|said| said.code == "invalid_client")
}

#[cfg(not(feature = "oauth2"))]
fn names_client(_: &TokenError) -> bool {
    false
}

/// Refreshes that fail though the auth server is called.
#[derive(Debug, Default)]
struct Failures {
    /// The keys whose last refresh has failed, by their hashes, each with the moment.
    keys: HashMap<u64, Duration>,
    since: Duration,
    /// When it was last looked for keys to forget.
    looked: Duration,
    /// Whether the log says that it has begun.
    is_told: bool,
    /// When the last line was written.
    told: Option<Duration>,
    /// The kind of the last failure since the last line, and whether one of them was a refusal.
    last: Option<(String, bool)>,
}

impl Failures {
    fn failed(&mut self, key: u64, fault: Fault, now: Duration) {
        if self.keys.is_empty() {
            (self.since, self.is_told) = (now, false);
        }
        if self.keys.len() < MOST || self.keys.contains_key(&key) {
            self.keys.insert(key, now);
        }
        let was_refusal = self.last.take().is_some_and(|(_, is_refusal)| is_refusal);
        self.last = Some((fault.kind, was_refusal || fault.is_refusal));
    }

    /// The gate's line stands for this failure, or there was no call. A key that is counted is not served yet.
    fn goes_on(&mut self, key: u64, now: Duration) {
        if let Some(failed) = self.keys.get_mut(&key) {
            *failed = now;
        }
    }

    /// The line about the end, if the log has the begin.
    fn landed(&mut self, key: u64, now: Duration) -> Option<Line> {
        self.keys.remove(&key)?;
        self.end(now)
    }

    fn end(&mut self, now: Duration) -> Option<Line> {
        self.keys.retain(|_, failed| now.saturating_sub(*failed) < FORGOTTEN);
        if !self.keys.is_empty() {
            return None;
        }
        self.last = None;
        let lasted = now.saturating_sub(self.since);
        std::mem::take(&mut self.is_told).then_some(Line::KeysServed { lasted })
    }

    fn forget_untold(&mut self) {
        if !self.is_told {
            self.keys.clear();
            self.last = None;
        }
    }

    fn due(&mut self, now: Duration) -> Option<Line> {
        if self.keys.is_empty() {
            return None;
        }
        let is_due = self.told.is_none_or(|told| now.saturating_sub(told) >= REMINDER);
        match self.last.take_if(|_| is_due) {
            Some((kind, is_refusal)) => {
                (self.told, self.is_told) = (Some(now), true);
                Some(Line::KeysFail { keys: self.keys.len(), kind, is_refusal })
            }
            None if now.saturating_sub(self.looked) < LOOK => None,
            None => {
                self.looked = now;
                self.end(now)
            }
        }
    }
}

/// Events that are counted, with one line a minute.
#[derive(Debug, Default)]
struct Tally {
    since: Option<Duration>,
    seen: Duration,
    told: Option<Duration>,
    /// Since the last line, and in all.
    times: u32,
    total: u32,
}

impl Tally {
    fn again(&mut self, now: Duration) {
        self.since.get_or_insert(now);
        self.seen = now;
        self.times = self.times.saturating_add(1);
        self.total = self.total.saturating_add(1);
    }

    /// How many there were since the last line, if a line is due.
    fn due(&mut self, now: Duration) -> Option<u32> {
        let is_due = self.told.is_none_or(|told| now.saturating_sub(told) >= REMINDER);
        if self.times == 0 || !is_due {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.times))
    }

    /// How long it lasted, and how many there were, once there were none for a minute.
    fn end(&mut self, now: Duration) -> Option<(Duration, u32)> {
        let seen = self.seen;
        let since = self.since.take_if(|_| now.saturating_sub(seen) >= REMINDER)?;
        Some((seen.saturating_sub(since), std::mem::take(&mut self.total)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SourceError;

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn refused() -> TokenError {
        TokenError::flight_failed(SourceError::terminal("no"), 1, Duration::ZERO)
    }

    fn down() -> TokenError {
        TokenError::flight_failed(SourceError::transient("down"), 1, Duration::ZERO)
    }

    fn failure(attempts: u32, error: TokenError) -> Note {
        let (reason, took, cooldown) = (crate::source::Reason::First, at(1), at(1));
        Note::Failed { reason, attempts, took, waiters: 1, cooldown, error }
    }

    fn fault(error: TokenError) -> Fault {
        Fault::of(&failure(1, error)).unwrap()
    }

    #[test]
    fn keys_that_fail_are_told_once_a_minute_and_when_the_last_one_is_served() {
        let mut failures = Failures::default();
        failures.failed(1, fault(down()), at(1));
        failures.failed(2, fault(refused()), at(1));
        failures.failed(1, fault(down()), at(1));
        let line = failures.due(at(1));
        assert!(matches!(line, Some(Line::KeysFail { keys: 2, is_refusal: true, .. })), "{line:?}");
        failures.failed(1, fault(down()), at(30));
        assert!(failures.due(at(30)).is_none(), "within the minute");
        let line = failures.due(at(61));
        assert!(matches!(line, Some(Line::KeysFail { keys: 2, is_refusal: false, .. })), "{line:?}");
        assert!(failures.due(at(200)).is_none(), "none has failed since");
        assert!(failures.landed(3, at(200)).is_none() && failures.landed(1, at(200)).is_none());
        let line = failures.landed(2, at(201));
        assert!(matches!(line, Some(Line::KeysServed { lasted }) if lasted == at(200)), "{line:?}");
        assert!(failures.landed(2, at(202)).is_none());
    }

    #[test]
    fn a_key_that_is_not_asked_for_any_more_is_forgotten_and_the_number_is_bounded() {
        let mut failures = Failures::default();
        for key in 0..2_000 {
            failures.failed(key, fault(refused()), at(1));
        }
        assert!(matches!(failures.due(at(1)), Some(Line::KeysFail { keys: MOST, .. })));
        assert!(failures.due(at(600)).is_none());
        assert!(matches!(failures.due(at(601)), Some(Line::KeysServed { .. })));
        assert!(failures.keys.is_empty());
    }

    #[test]
    fn a_key_that_still_fails_is_not_forgotten_though_the_gate_s_line_stands_for_it() {
        for (is_shut, attempts) in [(true, 1), (false, 0)] {
            let mut keys = OfKeys::default();
            let mut fails = |attempts, is_shut, now| {
                let (note, shut) = (failure(attempts, down()), Shut { endpoint: is_shut, clients: false });
                assert!(keys.note(1, &note, Fault::of(&note), shut, now).is_none());
                keys.due(now).collect::<Vec<_>>()
            };
            assert!(matches!(fails(1, false, at(1))[..], [Line::KeysFail { keys: 1, .. }]));
            for secs in (20..=700).step_by(20) {
                let lines = fails(attempts, is_shut, at(secs));
                assert!(lines.is_empty(), "it has not been served: {lines:?}");
            }
            assert!(matches!(keys.due(at(1_300)).collect::<Vec<_>>()[..], [Line::KeysServed { .. }]));
        }
    }

    #[test]
    fn an_end_without_a_begin_is_not_told() {
        let mut failures = Failures::default();
        failures.failed(1, fault(refused()), at(1));
        assert!(failures.landed(1, at(2)).is_none(), "no line was written");
        failures.failed(1, fault(refused()), at(3));
        failures.forget_untold();
        assert!(failures.due(at(3)).is_none(), "the gate's line stands for it");
    }

    #[test]
    fn what_is_counted_ends_a_minute_after_the_last_time() {
        let mut tally = Tally::default();
        assert_eq!((tally.due(at(1)), tally.end(at(1))), (None, None));
        tally.again(at(1));
        tally.again(at(1));
        assert_eq!(tally.due(at(1)), Some(2));
        tally.again(at(31));
        assert_eq!((tally.due(at(60)), tally.end(at(60))), (None, None));
        assert_eq!(tally.due(at(61)), Some(1));
        assert_eq!((tally.end(at(90)), tally.end(at(91))), (None, Some((at(30), 3))));
        assert_eq!(tally.end(at(200)), None);
    }
}
