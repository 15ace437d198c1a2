//! The part of a machine behind a gate that decides how it continues, for the model of two machines at one gate:
//! `registry/gate/model`. Reports are left out: that model has none.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::flight::{Caller, Machine, Phase};

impl<W: Caller> Machine<W> {
    /// Moments are counted from now, and moments in the past are equal.
    pub(crate) fn outline(&mut self, now: Timestamp) -> Vec<u64> {
        let left = |moment: Duration| {
            let left = moment.saturating_sub(now.boot).as_millis();
            u64::try_from(left).unwrap_or(u64::MAX)
        };
        let mut out = vec![u64::from(self.stopped), u64::from(self.failures.min(3))];
        out.push(self.held.as_ref().map_or(0, |held| 1 + left(held.token.end().boot)));
        out.push(self.cooldown.as_ref().map_or(0, |cooldown| left(cooldown.until)));
        for deadline in [self.wanting.next_deadline(), self.renewing.next_deadline()] {
            out.push(deadline.map_or(0, |deadline| 1 + left(deadline)));
        }
        let Some(flight) = &self.flight else { return out };
        let (kind, until) = match flight.phase {
            Phase::Queued => (1, Duration::ZERO),
            Phase::Fetching { until, .. } => (2, until),
            Phase::Pausing { until } => (3, until),
        };
        out.extend([kind, left(until), u64::from(flight.attempt), u64::from(flight.is_urgent)]);
        out.push(if flight.attempt == 0 { 0 } else { left(flight.deadline) });
        out
    }
}
