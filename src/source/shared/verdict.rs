//! Whether a value from the store can be used.

use std::time::Duration;

use super::Inner;
use super::envelope::{Envelope, requirement};
use super::memory::Newest;
use super::seal::Purpose;
use super::stats::Count;
use crate::source::{FetchContext, TokenSource};
use crate::store::{SharedStore, Stored};
use crate::token::Token;

/// The reason why a value from the store cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It could not be opened.
    Unopened,
    /// It ends too soon.
    Short,
    /// It is the token that is to be replaced, or an older one.
    Old,
    /// It was requested without the claims that the API requires.
    Unasked,
}

impl<S: TokenSource, St: SharedStore> Inner<S, St> {
    /// Accepts a value from the store, if it can be used.
    pub(super) fn adopt(&self, stored: Stored, cx: &FetchContext) -> Result<Token, Refusal> {
        let (token, age) = self.judge(&stored, cx)?;
        self.stats.count(Count::Adopted);
        self.memory().hold(&token, Some(stored.id), age);
        Ok(token)
    }

    fn judge(&self, stored: &Stored, cx: &FetchContext) -> Result<(Token, Newest), Refusal> {
        let now = self.now();
        let opened = self.settings.ring.open(&self.settings.key, Purpose::Token, &stored.value);
        let envelope = opened.ok().and_then(|text| Envelope::unpack(&text));
        // The fence beside the value is for the store only. The fence in the value counts.
        let Some(envelope) = envelope.filter(|envelope| envelope.fence == stored.fence) else {
            self.report_unopened(&stored.id);
            return Err(Refusal::Unopened);
        };
        // The store's clock and the wall clock must both say that the token is valid: the store may keep a token
        // too long, and a wall clock may be wrong. The shorter remainder counts, as in the actor.
        let by_wall = envelope.end.duration_since(now.wall).unwrap_or_default();
        let left = stored.left.min(by_wall).min(envelope.life);
        if left <= self.least(envelope.life) {
            return Err(Refusal::Short);
        }
        // The store may be older than this process: a backup, a replica that missed the last write, or an old value
        // that a writer has put back.
        let age = Newest { fence: envelope.fence, fetched: envelope.fetched, own: false };
        if age.is_older_than(self.memory().newest) {
            return Err(Refusal::Old);
        }
        // The API requires claims of the next token. A token that another process has requested with the same claims has
        // them too.
        let required = requirement(cx.challenge());
        if required != 0 && envelope.requirement != required {
            return Err(Refusal::Unasked);
        }
        // The secret that is to be replaced is a valid answer if it was fetched since: then the source has given it
        // again.
        if let Some(previous) = cx.previous.as_ref().filter(|previous| previous.is_same(&envelope.token)) {
            let held = self.memory().held_as(previous).map(|seen| seen.age);
            let is_news = held.is_some_and(|held| age.is_newer_than(held));
            if cx.is_discarded() || !is_news {
                return Err(Refusal::Old);
            }
        }
        let ends = now.wall.checked_add(left).ok_or(Refusal::Short)?;
        // The token's key is not in the store.
        let token = self.source.rebind(envelope.token);
        Ok((token.with_expires_at(ends), age))
    }

    fn least(&self, life: Duration) -> Duration {
        const LIMIT: Duration = Duration::from_secs(10);
        self.settings.min_validity.unwrap_or((life / 10).min(LIMIT)).min(life / 2)
    }

    /// Logged once for each value: it will be replaced, and until then every look would find it.
    fn report_unopened(&self, id: &str) {
        if self.memory().unopened.replace(id.to_owned()).as_deref() != Some(id) {
            self.stats.count(Count::Unopened);
            let key = self.settings.key.as_str();
            log::warn!(target: "tokenflight", "shared {key}: the store holds a value that none of the keys opens; replacing it");
        }
    }
}
