//! Whether a value from the store will do.

use std::time::Duration;

use super::Inner;
use super::envelope::Envelope;
use super::stats::Count;
use crate::source::{FetchContext, Reason, TokenSource};
use crate::store::{SharedStore, Stored};
use crate::token::Token;

/// Why a value from the store will not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It could not be read.
    Unopened,
    /// It ends too soon.
    Short,
    /// It is the token that is to be replaced, or an older one.
    Old,
}

impl<S: TokenSource, St: SharedStore> Inner<S, St> {
    pub(super) fn judge(&self, stored: &Stored, cx: &FetchContext) -> Result<Token, Refusal> {
        let now = self.now();
        let opened = self.settings.ring.open(&self.settings.key, &stored.value);
        let Some(envelope) = opened.ok().and_then(|text| Envelope::unpack(&text)) else {
            self.report_unopened(&stored.id);
            return Err(Refusal::Unopened);
        };
        // The store's clock and the wall clock must both say that it is good: the store may be made to keep a
        // token too long, and a wall clock may be wrong. The lesser remainder counts, as in the actor.
        let by_wall = envelope.end.duration_since(now.wall).unwrap_or_default();
        let left = stored.left.min(by_wall).min(envelope.life);
        if left <= self.least(envelope.life) {
            return Err(Refusal::Short);
        }
        if let Some(previous) = &cx.previous {
            // The store can be older than this process: a backup, or a replica that missed the last write.
            // What is newer lasts at least as long, unless the server changed its mind.
            const SLACK: Duration = Duration::from_secs(1);
            let rejected = cx.reason == Reason::Rejected;
            let known = self.id_of(Some(previous)).is_some();
            let same = previous.is_same(&envelope.token);
            let shorter = left.saturating_add(SLACK) < previous.remaining_at(now);
            // A server that gives the same token again to whoever asks has given its answer: once will do.
            if (same && (rejected || !known)) || (shorter && !rejected) {
                return Err(Refusal::Old);
            }
        }
        let ends = now.wall.checked_add(left).ok_or(Refusal::Short)?;
        Ok(envelope.token.with_expires_at(ends))
    }

    fn least(&self, life: Duration) -> Duration {
        const LIMIT: Duration = Duration::from_secs(10);
        self.settings.min_validity.unwrap_or((life / 10).min(LIMIT)).min(life / 2)
    }

    /// Once for each value: it will be replaced, and until then every look would find it.
    fn report_unopened(&self, id: &str) {
        if self.memory().unopened.replace(id.to_owned()).as_deref() != Some(id) {
            self.stats.count(Count::Unopened);
            let key = self.settings.key.as_str();
            log::warn!(target: "tokenflight", "shared {key}: the store holds a value that none of the keys opens; replacing it");
        }
    }
}
