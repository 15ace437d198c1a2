//! An attempt's use of the store: it looks and waits until there is a token, a reason for a failure, or a lease.
//!
//! Only sealed values of the store are accepted. A lease, a pause or a mark that does not open, or that a writer
//! has put back, is void: the store is asked to delete it. If its sealed end has passed, it is ignored. Therefore a
//! writer to the store can delay an attempt by its patience at most.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::lead::{LONGEST_PAUSE, Leader, Trouble, random_name};
use super::memory::Memory;
use super::record::Record;
use super::seal::Purpose;
use super::stats::Count;
use super::{Attempt, Inner};
use crate::duration::millis;
use crate::error::SourceError;
use crate::source::{FetchContext, TokenSource};
use crate::store::{Ask, Free, Held, Lease, Look, News, SharedStore, StoreError, Take, is_ahead};

/// The number of looks without a pause: the first, one after news, and one for anything in between.
const AT_ONCE: u32 = 3;
/// The time between two later looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// Clocks are not read at the same moment. A look that comes too early would be useless.
const GRACE: Duration = Duration::from_millis(10);

pub(super) struct Visit<'a, S, St> {
    inner: &'a Arc<Inner<S, St>>,
    cx: &'a FetchContext,
    ask: Ask,
    looks: u32,
    last_look: Duration,
    /// When this process stops waiting for other processes.
    patient_until: Duration,
    /// The lease for which it waits: its fence, and its end at the last look.
    waits_for: Option<(u64, Duration)>,
    /// The owner of that lease has renewed it. Therefore the owner is working.
    owner_works: bool,
    /// The failures that pause and mark state.
    trouble: Trouble,
}

/// The meaning of a value in the store.
enum Found {
    /// It is in force.
    Holds(Record),
    /// It was in force, and has ended.
    Passed(Record),
    /// No holder of the key has written it, or a writer has put it back.
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
            refused: refused(cx, &memory),
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

    /// Listens, then looks. Therefore it gets news of everything after the look.
    pub(super) async fn run(mut self) -> Attempt {
        let inner = self.inner;
        let mut news = inner.in_time(St::watch).await?;
        loop {
            match self.look().await? {
                Look::Found(stored) => {
                    let id = stored.id.clone();
                    match inner.adopt(stored, self.cx) {
                        Ok(token) => {
                            inner.note_answer();
                            return Ok(Ok(token));
                        }
                        // The next look takes the lease, unless something else has arrived meanwhile.
                        Err(_) => self.ask.refused = Some(id),
                    }
                }
                Look::Paused(held) => {
                    if let Some(error) = self.pause(held, &mut news).await {
                        inner.note_answer();
                        return Ok(Err(error));
                    }
                }
                Look::Taken(held) => self.wait_for_owner(held, &mut news).await?,
                Look::Free(free) => {
                    // A store that does not give what it calls free is not asked again at once.
                    if self.ask.take.take().is_none() {
                        self.ask.take = Some(self.lease_to_take(free)?);
                        continue;
                    }
                }
                Look::Leased => {
                    if let Some(Take { lease, .. }) = self.ask.take.take() {
                        // Before the fetch: a commit that fails later begins an outage, and the answer from before it
                        // must not end that outage.
                        inner.note_answer();
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
        loop {
            // A look and the following take count as one look.
            if self.ask.take.is_none() {
                self.pace().await?;
            }
            let look = inner.in_time(|store, key| store.look_or_lease(key, &self.ask)).await?;
            let clock = match &look {
                Look::Free(free) => free.clock,
                Look::Taken(held) | Look::Paused(held) => held.clock,
                _ => return Ok(look),
            };
            let mut memory = inner.memory();
            if !memory.set_clock(clock, inner.now().boot) {
                return Ok(look);
            }
            // The store's token seemed to be older than the last one, and may be newer.
            self.ask.take = None;
            self.ask.refused = refused(self.cx, &memory);
        }
    }

    /// There is a pause between two looks, and an end, however often the store requires a look.
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

    /// Waits until a pause ends, if the patience is long enough. Otherwise the pause is the attempt's outcome.
    async fn pause(&mut self, held: Held, news: &mut News) -> Option<SourceError> {
        let mark = self.ask.mark.clone();
        // It is one of the two, and neither opens as the other.
        let by_mark = self.open(Purpose::Mark(&mark), &held);
        let found = match by_mark {
            Found::Void => self.open(Purpose::Pause, &held),
            Found::Passed(record) => {
                self.trouble.refusals = record.failures;
                self.ask.passed.push(held.value);
                return None;
            }
            Found::Holds(record) => {
                let left = self.left(&record, &held, LONGEST_PAUSE);
                let message = "the auth server refused this process's credential; the next call is due later";
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
                let left = self.left(&record, &held, self.inner.settings.max_cooldown).saturating_add(GRACE);
                if left > self.patience() {
                    let message = "a refresh failed in the fleet; the next one is due later";
                    return Some(SourceError::transient(message).with_retry_after(left));
                }
                self.wait(news, left).await;
            }
        }
        None
    }

    /// How long a pause goes on, by the store's clock: no longer than this process would pause.
    fn left(&self, record: &Record, held: &Held, longest: Duration) -> Duration {
        let longest = longest.max(self.inner.settings.max_retry_after);
        // After the store's clock was set back, the sealed end is too far away.
        record.ends.saturating_sub(held.clock).min(held.left).min(longest)
    }

    /// Waits until there is news, or the lease has run out. Without patience left, it continues to wait only while
    /// the owner renews the lease from look to look.
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
        // There has been a token since. That token ended this pause, so a writer has put the pause back.
        let is_put_back =
            !matches!(purpose, Purpose::Mark(_)) && record.fence <= self.inner.memory().newest.fence;
        if is_put_back {
            Found::Void
        // After the store's clock was set back, the end of an older value is too far away.
        } else if record.ends <= held.clock || is_ahead(record.fence, held.clock) {
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

/// The id of the token that is to be replaced.
fn refused(cx: &FetchContext, memory: &Memory) -> Option<String> {
    cx.previous.as_ref().and_then(|token| memory.held_as(token)?.id.clone())
}

fn out_of_patience() -> StoreError {
    StoreError::new(OutOfPatience)
}

/// The store answers, and its value for this key prevents an answer.
#[derive(Debug)]
struct OutOfPatience;

impl fmt::Display for OutOfPatience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no token came in time")
    }
}

impl std::error::Error for OutOfPatience {}

/// Whether the error tells nothing about the other keys in the store.
pub(super) fn is_of_one_key(error: &StoreError) -> bool {
    error.cause::<OutOfPatience>().is_some()
}
