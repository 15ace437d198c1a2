//! The owner of the lease: it fetches for the fleet, and stores the result.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::watch;

use super::Inner;
use super::envelope::{Envelope, requirement};
use super::memory::Newest;
use super::record::Record;
use super::seal::Purpose;
use super::stats::Count;
use crate::backoff::{doubled, part};
use crate::clock::Timestamp;
use crate::error::SourceError;
use crate::source::{FetchContext, TokenSource};
use crate::store::{Ask, Failure, Lease, Look, SharedStore, StoreError, hex};
use crate::token::{LONGEST_LIFETIME, Token};

/// After this many refusals in a row the processes with this credential pause. An auth server may refuse a
/// credential by mistake. The lease is handed on at once, so processes with a right credential are not delayed.
const FREE_REFUSALS: u32 = 3;
/// The pause after the last free refusal. It doubles with each further refusal.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A pause is shorter by up to this share, at random, so that processes do not look at the same moment.
const JITTER: f64 = 0.2;

/// A name that no other attempt of any process has: 128 random bits.
pub(super) fn random_name() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(StoreError::new)?;
    Ok(hex(&bytes))
}

/// The owner of a lease. It gives the lease back in any case: the actor drops a fetch that takes too long, and a
/// source may panic. In both cases the other processes should not wait for the lease's end, and should not all call
/// the auth server at once.
pub(super) struct Leader<S: TokenSource, St: SharedStore> {
    inner: Arc<Inner<S, St>>,
    lease: Lease,
    /// The store knows the result.
    ended: bool,
    /// The result that the store does not know yet. `None`: there is none yet.
    result: Option<Failure>,
    trouble: Trouble,
}

/// The earlier failures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    /// Failures of the fleet in a row.
    pub(super) failures: u32,
    /// Refusals of this process's credential in a row.
    pub(super) refusals: u32,
}

impl<S: TokenSource, St: SharedStore> Drop for Leader<S, St> {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.ended {
            return;
        }
        let (inner, lease, trouble) = (Arc::clone(&self.inner), self.lease.clone(), self.trouble);
        let result = self.result.take();
        let returning = inner.returns.begin();
        runtime.spawn(async move {
            // If this fails as well, the lease runs out.
            let failure = result.unwrap_or_else(|| inner.failure(None, &lease, trouble));
            let _ = inner.in_time(|store, key| store.fail(key, &lease, &failure)).await;
            drop(returning);
        });
    }
}

/// How many leases are being given back, by tasks of their own. The runtime may end with the actor. Therefore a
/// shutdown waits for these tasks.
#[derive(Debug, Default)]
pub(super) struct Returns(watch::Sender<usize>);

/// A lease that is being given back.
struct Returning(Arc<Returns>);

impl Returns {
    fn begin(self: &Arc<Self>) -> Returning {
        self.0.send_modify(|leases| *leases += 1);
        Returning(Arc::clone(self))
    }

    /// Waits until all leases have been given back, at most for this time.
    pub(super) async fn end(&self, limit: Duration) {
        let mut leases = self.0.subscribe();
        // The limit is for a runtime that has stopped.
        let _ = tokio::time::timeout(limit, leases.wait_for(|leases| *leases == 0)).await;
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        self.0.0.send_modify(|leases| *leases = leases.saturating_sub(1));
    }
}

/// Steps 3 to 5.
impl<S: TokenSource, St: SharedStore> Leader<S, St> {
    pub(super) fn new(inner: &Arc<Inner<S, St>>, lease: Lease, trouble: Trouble) -> Self {
        Self { inner: Arc::clone(inner), lease, ended: false, result: None, trouble }
    }

    pub(super) async fn lead(mut self, cx: &FetchContext) -> Result<Token, SourceError> {
        let inner = Arc::clone(&self.inner);
        inner.stats.count(Count::Led);
        let sent = inner.now();
        super::note_asked(cx, true);
        let fetched = inner.renewing(&mut self.lease, inner.source.fetch(cx.clone())).await;
        match fetched.and_then(|token| inner.sharable(token)) {
            Ok(token) => {
                // The auth server has answered. If the store does not hear of it, nobody has to pause.
                self.result = Some(Failure::default());
                let (token, told) = inner.share(token, cx, &self.lease, sent, self.trouble).await;
                self.ended = told == Told::Yes;
                Ok(token)
            }
            Err(error) => {
                let failure = inner.failure(Some(&error), &self.lease, self.trouble);
                self.ended = inner.share_failure(&failure, cx, &self.lease).await == Told::Yes;
                self.result = Some(failure);
                Err(error)
            }
        }
    }
}

impl<S: TokenSource, St: SharedStore> Inner<S, St> {
    /// A token is useless for other processes if they cannot give it its key. Then this process keeps it for
    /// itself.
    fn sharable(&self, token: Token) -> Result<Token, SourceError> {
        let bare = || Token::new(token.secret()).with_type(token.token_type().clone());
        if !token.has_key() || self.source.rebind(bare()).has_key() {
            return Ok(token);
        }
        Err(SourceError::terminal(
            "the token is bound to a DPoP key that the shared source cannot reach: share the OAuth source itself, not \
             a source that wraps it",
        ))
    }

    /// Runs the fetch, and renews the lease meanwhile.
    async fn renewing<T>(&self, lease: &mut Lease, fetch: impl Future<Output = T>) -> T {
        let renewals = async {
            loop {
                tokio::time::sleep(self.settings.lease / 3).await;
                if self.seal_lease(lease).is_err() {
                    continue;
                }
                let renewal = self.in_time(|store, key| store.renew(key, lease, self.settings.lease));
                // After a failed renewal the next one may succeed. A lost lease stays lost. The fetch still goes
                // on, because its token is usable.
                if let Ok(false) = renewal.await {
                    std::future::pending::<()>().await;
                }
            }
        };
        match select(pin!(fetch), pin!(renewals)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), fetch)) => fetch.await,
        }
    }

    /// Sets the value of the lease that other processes read: it contains the lease's new end.
    pub(super) fn seal_lease(&self, lease: &mut Lease) -> Result<(), StoreError> {
        let ends = self.store_clock().saturating_add(self.settings.lease);
        let record = Record { fence: lease.fence, ends, failures: 0 };
        lease.value = self.seal(Purpose::Lease, record).ok_or_else(not_sealed)?;
        Ok(())
    }

    fn seal(&self, purpose: Purpose<'_>, record: Record) -> Option<Vec<u8>> {
        record.seal(&self.settings.ring, &self.settings.key, purpose)
    }

    /// The store's clock, as far as it is known: a lease is taken after a look.
    fn store_clock(&self) -> Duration {
        self.memory().clock_at(self.now().boot).unwrap_or_default()
    }

    /// Stores the token for the other processes. This process has a token in any case.
    async fn share(
        &self,
        token: Token,
        cx: &FetchContext,
        lease: &Lease,
        sent: Timestamp,
        trouble: Trouble,
    ) -> (Token, Told) {
        let settings = &self.settings;
        let stamped =
            token.clone().stamped(sent, &settings.clock, settings.missing_lifetime, LONGEST_LIFETIME);
        let left = stamped.remaining_at(self.now());
        if left.is_zero() || !stamped.is_presentable() {
            // The token is unusable, as the actor is about to report.
            let failure = self.failure(None, lease, trouble);
            let told = self.share_failure(&failure, cx, lease).await;
            return (token, told);
        }
        let fetched = self.memory().clock_at(sent.boot).unwrap_or_default();
        let age = Newest { fence: lease.fence, fetched, own: false };
        let (end, life) = (stamped.end().wall, stamped.whole_life());
        let requirement = requirement(cx.challenge());
        let envelope = Envelope { token: stamped, fence: age.fence, fetched, end, life, requirement };
        let committed = match settings.ring.seal(&settings.key, Purpose::Token, &envelope.pack()) {
            Some(value) => within(cx, self.commit(lease, &value, left, cx)).await,
            None => Some(Err(not_sealed())),
        };
        match committed {
            Some(Ok(Commit::Done)) => self.memory().hold(&token, Some(lease.owner.clone()), age),
            // The fleet has one token, and this process takes that token too.
            Some(Ok(Commit::Overtaken(newer))) => return (newer, Told::Yes),
            // This process's own token is equally usable.
            Some(Ok(Commit::Refused)) => self.memory().hold(&token, None, age),
            Some(Err(error)) if error.is_too_long() => {
                self.memory().hold(&token, None, age);
                let key = self.shown();
                log::warn!(target: "tokenflight", "shared {key}: the token is too long for the store ({error}); each process fetches its own");
                // The store works. The next process may have the lease.
                return (token, self.share_failure(&Failure::default(), cx, lease).await);
            }
            Some(Err(error)) => {
                self.memory().hold(&token, None, age);
                self.note_outage(&error);
            }
            None => {
                self.memory().hold(&token, None, age);
                self.note_outage(&no_time());
                return (token, Told::No);
            }
        }
        (token, Told::Yes)
    }

    /// Commits the token. If the lease was lost meanwhile, this function checks the reason: another process may
    /// have had it since, or a writer has put invalid data in its place.
    async fn commit(
        &self,
        lease: &Lease,
        value: &[u8],
        left: Duration,
        cx: &FetchContext,
    ) -> Result<Commit, StoreError> {
        /// One look finds the token that is to be replaced, the next one the invalid value, and the next one
        /// deletes it.
        const TRIES: u32 = 8;
        let mut ask = Ask::default();
        let mut tries = 0;
        while tries < TRIES {
            if self.in_time(|store, key| store.commit(key, lease, value, left)).await? {
                return Ok(Commit::Done);
            }
            if tries == 0 {
                self.stats.count(Count::Late);
            }
            tries += 1;
            match self.in_time(|store, key| store.look_or_lease(key, &ask)).await? {
                Look::Found(stored) => {
                    let id = stored.id.clone();
                    if let Ok(token) = self.adopt(stored, cx) {
                        return Ok(Commit::Overtaken(token));
                    }
                    ask.refused = Some(id);
                }
                Look::Taken(held) if self.open_record(Purpose::Lease, &held.value).is_none() => {
                    self.report_fault(1);
                    ask.void.push(held.value);
                }
                Look::Mended(number) => self.report_fault(number),
                Look::Free(free) if free.fence == lease.fence => {}
                _ => break,
            }
        }
        Ok(Commit::Refused)
    }

    pub(super) fn open_record(&self, purpose: Purpose<'_>, value: &[u8]) -> Option<Record> {
        Record::open(&self.settings.ring, &self.settings.key, purpose, value)
    }

    async fn share_failure(&self, failure: &Failure, cx: &FetchContext, lease: &Lease) -> Told {
        let stored = self.in_time(|store, key| store.fail(key, lease, failure));
        match within(cx, stored).await {
            Some(Ok(_)) => Told::Yes,
            Some(Err(error)) => {
                self.note_outage(&error);
                Told::Yes
            }
            None => {
                self.note_outage(&no_time());
                Told::No
            }
        }
    }

    /// The record of a failure. A refusal concerns the processes that would send the same credential. Any other
    /// failure concerns all processes.
    fn failure(&self, error: Option<&SourceError>, lease: &Lease, trouble: Trouble) -> Failure {
        let settings = &self.settings;
        let requested = error.and_then(SourceError::retry_after).unwrap_or_default();
        let at_least = requested.min(settings.max_retry_after);
        let share = 1.0 - JITTER * fastrand::f64();
        let is_refusal = error.is_some_and(SourceError::is_terminal);
        let (purpose, failures, pause, memory) = if is_refusal {
            let refusals = trouble.refusals.saturating_add(1);
            let pause = match refusals.checked_sub(FREE_REFUSALS - 1) {
                None | Some(0) => Duration::ZERO,
                Some(times) => part(doubled(FIRST_PAUSE, times, LONGEST_PAUSE), share),
            };
            (Purpose::Mark(&lease.mark), refusals, pause, LONGEST_PAUSE)
        } else {
            let failures = trouble.failures.saturating_add(1);
            let pause = part(doubled(settings.cooldown, failures, settings.max_cooldown), share);
            (Purpose::Pause, failures, pause, settings.max_cooldown)
        };
        let pause = pause.max(at_least);
        let ends = self.store_clock().saturating_add(pause);
        // The record is kept longer than the pause, so that the next failure can count this one.
        let kept = pause.saturating_add(memory);
        let record = Record { fence: lease.fence, ends, failures };
        let left = self.seal(purpose, record).map(|value| (value, kept));
        if is_refusal { Failure { mark: left, pause: None } } else { Failure { pause: left, mark: None } }
    }
}

/// The result of a commit.
enum Commit {
    Done,
    /// Another process has committed this token.
    Overtaken(Token),
    Refused,
}

/// Whether the store was told the result, or had all its time for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Yes,
    /// The attempt has ended before. The lease is given back without it.
    No,
}

/// An operation after the fetch. It ends before the attempt does: the actor drops an attempt at its end, and the result of
/// the fetch with it. `None`: there was no time for an answer.
async fn within<T>(cx: &FetchContext, operation: impl Future<Output = T>) -> Option<T> {
    let Some(left) = cx.time_left() else { return Some(operation.await) };
    tokio::time::timeout(left / 10 * 9, operation).await.ok()
}

fn no_time() -> StoreError {
    StoreError::new("no answer before the end of the attempt")
}

fn not_sealed() -> StoreError {
    StoreError::new("the value could not be sealed")
}
