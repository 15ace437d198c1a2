//! An attempt's way to the store: it looks and waits until there is a token, a reason why not, or a lease.
//!
//! What the store says is believed where it is sealed, and no further. A lease, a pause or a mark that does not open,
//! or that somebody put back, is void: the store is asked to take it away. One whose sealed end has come is passed. So
//! whoever may write to the store can delay an attempt by its patience at most.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::lead::{Leader, Trouble, random_name};
use super::record::Record;
use super::seal::Purpose;
use super::stats::Count;
use super::{Attempt, Inner};
use crate::duration::millis;
use crate::error::SourceError;
use crate::source::{FetchContext, TokenSource};
use crate::store::{Ask, Free, Held, Lease, Look, News, SharedStore, StoreError, Take};

/// So many looks come without a pause: one, one after news, and one for whatever comes between.
const AT_ONCE: u32 = 3;
/// Each later look comes so long after the last one.
const INTERVAL: Duration = Duration::from_millis(100);
/// Clocks are not read at the same moment: a look that comes too early would be one for nothing.
const GRACE: Duration = Duration::from_millis(10);

pub(super) struct Visit<'a, S, St> {
    inner: &'a Arc<Inner<S, St>>,
    cx: &'a FetchContext,
    ask: Ask,
    looks: u32,
    last_look: Duration,
    /// When this process waits for nobody any more.
    patient_until: Duration,
    /// The lease that it waits for: its fence, and its end as it was last seen.
    waits_for: Option<(u64, Duration)>,
    /// The owner of that lease has renewed it, so it is at work.
    owner_works: bool,
    /// As pause and mark say.
    trouble: Trouble,
}

/// What a value in the store has turned out to be.
enum Found {
    /// It holds.
    Holds(Record),
    /// It did.
    Passed(Record),
    /// Nobody with a key has written it, or somebody has put it back.
    Void,
}

impl<'a, S: TokenSource, St: SharedStore> Visit<'a, S, St> {
    pub(super) fn new(inner: &'a Arc<Inner<S, St>>, cx: &'a FetchContext) -> Self {
        let now = inner.now().boot;
        let settings = &inner.settings;
        let mut memory = inner.memory();
        if cx.attempt <= 1 {
            memory.waited = Duration::ZERO;
        }
        let half = cx.time_left().map_or(Duration::MAX, |left| left / 2);
        let patience = settings.wait_limit.unwrap_or(settings.lease.saturating_mul(2).min(half));
        let patience = cx.at_most(patience.saturating_sub(memory.waited));
        let ask = Ask {
            refused: cx.previous.as_ref().and_then(|token| memory.held_as(token)?.id.clone()),
            discard: cx.is_discarded(),
            mark: settings.ring.mark(|part| inner.source.credential(part)),
            ..Ask::default()
        };
        Self {
            inner,
            cx,
            ask,
            looks: 0,
            last_look: Duration::ZERO,
            patient_until: now.saturating_add(patience),
            waits_for: None,
            owner_works: false,
            trouble: Trouble::default(),
        }
    }

    /// Listen, then look: whatever happens after the look is heard.
    pub(super) async fn run(mut self) -> Attempt {
        let inner = self.inner;
        let mut news = inner.in_time(inner.store.watch(&inner.settings.key)).await?;
        loop {
            match self.look().await? {
                Look::Found(stored) => {
                    let id = stored.id.clone();
                    match inner.adopt(stored, self.cx) {
                        Ok(token) => return Ok(Ok(token)),
                        // The next look takes the lease, unless something else has come meanwhile.
                        Err(_) => self.ask.refused = Some(id),
                    }
                }
                Look::Paused(held) => {
                    if let Some(error) = self.pause(held, &mut news).await {
                        return Ok(Err(error));
                    }
                }
                Look::Taken(held) => self.wait_for_owner(held, &mut news).await?,
                Look::Free(free) => {
                    self.ask.take = Some(self.lease_to_take(free)?);
                    continue;
                }
                Look::Leased => {
                    if let Some(Take { lease, .. }) = self.ask.take.take() {
                        let leader = Leader::new(inner, lease, self.trouble);
                        return Ok(leader.lead(self.cx).await);
                    }
                }
                Look::Mended(number) => inner.report_fault(number),
            }
            self.ask.take = None;
        }
    }

    async fn look(&mut self) -> Result<Look, StoreError> {
        let inner = self.inner;
        // Looking and taking are one look.
        if self.ask.take.is_none() {
            self.pace().await?;
        }
        let look = inner.in_time(inner.store.look_or_lease(&inner.settings.key, &self.ask)).await?;
        let clock = match &look {
            Look::Free(free) => free.clock,
            Look::Taken(held) | Look::Paused(held) => held.clock,
            _ => return Ok(look),
        };
        inner.memory().set_clock(clock, inner.now().boot);
        Ok(look)
    }

    /// However often the store calls for a look, there is a pause between two of them, and an end.
    async fn pace(&mut self) -> Result<(), StoreError> {
        if self.looks >= AT_ONCE {
            if self.patience().is_zero() && !self.owner_works {
                return Err(out_of_patience());
            }
            let due = self.last_look.saturating_add(INTERVAL);
            tokio::time::sleep(due.saturating_sub(self.inner.now().boot)).await;
        }
        self.looks = self.looks.saturating_add(1);
        self.last_look = self.inner.now().boot;
        Ok(())
    }

    fn patience(&self) -> Duration {
        self.patient_until.saturating_sub(self.inner.now().boot)
    }

    /// A pause is waited out, if there is patience enough. Else it is the attempt's outcome.
    async fn pause(&mut self, held: Held, news: &mut News) -> Option<SourceError> {
        let mark = self.ask.mark.clone();
        // One of the two it is; and none opens as the other.
        let by_mark = self.open(Purpose::Mark(&mark), &held);
        let found = match by_mark {
            Found::Void => self.open(Purpose::Pause, &held),
            Found::Passed(record) => {
                self.trouble.refusals = record.failures;
                self.ask.passed.push(held.value);
                return None;
            }
            Found::Holds(record) => {
                let left = record.ends.saturating_sub(held.clock);
                let message =
                    "the fleet's credential of this process was refused; the next call is due later";
                return Some(SourceError::terminal(message).with_retry_after(left));
            }
        };
        match found {
            Found::Void => self.put_out_of_the_way(held.value),
            Found::Passed(record) => {
                self.trouble.failures = record.failures;
                self.ask.passed.push(held.value);
            }
            Found::Holds(record) => {
                let left = record.ends.saturating_sub(held.clock).saturating_add(GRACE);
                if left > self.patience() {
                    let message = "a refresh failed in the fleet; the next one is due later";
                    return Some(SourceError::transient(message).with_retry_after(left));
                }
                self.wait(news, left).await;
            }
        }
        None
    }

    /// Until there is news, or the lease has run out. Who has no patience left goes on waiting for an owner that has
    /// renewed its lease since the last look, as long as it goes on renewing it.
    async fn wait_for_owner(&mut self, held: Held, news: &mut News) -> Result<(), StoreError> {
        match self.open(Purpose::Lease, &held) {
            Found::Void => self.put_out_of_the_way(held.value),
            Found::Passed(_) => self.ask.passed.push(held.value),
            Found::Holds(lease) => {
                let has_renewed = |(fence, ends)| lease.fence == fence && lease.ends > ends;
                self.owner_works = self.waits_for.is_some_and(has_renewed);
                self.waits_for = Some((lease.fence, lease.ends));
                let patience =
                    if self.owner_works { self.cx.at_most(Duration::MAX) } else { self.patience() };
                if patience.is_zero() {
                    return Err(out_of_patience());
                }
                let left = lease.ends.saturating_sub(held.clock).min(held.left).saturating_add(GRACE);
                if !self.wait(news, left.min(patience)).await {
                    self.inner.stats.count(Count::Polls);
                }
            }
        }
        Ok(())
    }

    /// Returns whether there was news.
    async fn wait(&self, news: &mut News, limit: Duration) -> bool {
        let began = self.inner.now().boot;
        let told = tokio::time::timeout(limit, news.next()).await.is_ok();
        if told {
            self.inner.stats.count(Count::Pushes);
        }
        self.inner.memory().waited += self.inner.now().boot.saturating_sub(began);
        told
    }

    fn open(&self, purpose: Purpose<'_>, held: &Held) -> Found {
        let Some(record) = self.inner.open_record(purpose, &held.value) else { return Found::Void };
        // After it there has been a token, which took it away.
        let is_put_back =
            !matches!(purpose, Purpose::Mark(_)) && record.fence <= self.inner.memory().newest.fence;
        if is_put_back {
            Found::Void
        } else if record.ends <= held.clock {
            Found::Passed(record)
        } else {
            Found::Holds(record)
        }
    }

    fn put_out_of_the_way(&mut self, value: Vec<u8>) {
        self.inner.report_fault(1);
        self.ask.void.push(value);
    }

    fn lease_to_take(&self, free: Free) -> Result<Take, StoreError> {
        let settings = &self.inner.settings;
        let newest = self.inner.memory().newest.fence;
        let fence = free.fence.max(newest).saturating_add(1).max(millis(free.clock));
        let mut lease =
            Lease { owner: random_name()?, fence, mark: self.ask.mark.clone(), value: Vec::new() };
        self.inner.seal_lease(&mut lease)?;
        Ok(Take { lease, time: settings.lease })
    }
}

fn out_of_patience() -> StoreError {
    StoreError::new(OutOfPatience)
}

/// The store answers, and what it holds for this key is in the way.
#[derive(Debug)]
struct OutOfPatience;

impl fmt::Display for OutOfPatience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no token has come of it in time")
    }
}

impl std::error::Error for OutOfPatience {}

/// Whether it says nothing of the other keys in the store.
pub(super) fn is_of_one_key(error: &StoreError) -> bool {
    let Some(cause) = error.source() else { return false };
    cause.is::<OutOfPatience>()
}
