//! The owner of the lease: fetches for the fleet, and says what became of it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::Inner;
use super::envelope::Envelope;
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

/// After so many refusals in a row those who carry the credential pause. An auth server may refuse one by mistake, and
/// with the lease handed on at once the good ones among the fleet are not held up by it.
const FREE_REFUSALS: u32 = 3;
/// The pause after the last free refusal. It doubles with each one more.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A pause is up to so much shorter, at random, so that processes do not look at the same moment.
const JITTER: f64 = 0.2;

/// A name that no other attempt of any process has: 128 random bits.
pub(super) fn random_name() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(StoreError::new)?;
    Ok(hex(&bytes))
}

/// The owner of a lease. It gives the lease back, whatever happens: the actor drops a fetch that takes too long, and a
/// source may panic. In both cases the others should neither wait for the lease's end nor run to the auth server at once.
pub(super) struct Leader<S: TokenSource, St: SharedStore> {
    inner: Arc<Inner<S, St>>,
    lease: Lease,
    /// The store knows what became of it.
    ended: bool,
    trouble: Trouble,
}

/// What had gone wrong before.
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
        runtime.spawn(async move {
            // If this fails as well, the lease runs out.
            let failure = inner.failure(None, &lease, trouble);
            let _ = inner.in_time(inner.store.fail(&inner.settings.key, &lease, &failure)).await;
        });
    }
}

/// Steps 3 to 5.
impl<S: TokenSource, St: SharedStore> Leader<S, St> {
    pub(super) fn new(inner: &Arc<Inner<S, St>>, lease: Lease, trouble: Trouble) -> Self {
        Self { inner: Arc::clone(inner), lease, ended: false, trouble }
    }

    pub(super) async fn lead(mut self, cx: &FetchContext) -> Result<Token, SourceError> {
        let inner = Arc::clone(&self.inner);
        inner.stats.count(Count::Led);
        let sent = inner.now();
        super::note_asked(cx, true);
        let fetched = inner.renewing(&mut self.lease, inner.source.fetch(cx.clone())).await;
        let result = match fetched.and_then(|token| inner.sharable(token)) {
            Ok(token) => Ok(inner.share(token, cx, &self.lease, sent, self.trouble).await),
            Err(error) => {
                inner.share_failure(Some(&error), &self.lease, self.trouble).await;
                Err(error)
            }
        };
        self.ended = true;
        result
    }
}

impl<S: TokenSource, St: SharedStore> Inner<S, St> {
    /// A token whose key no other process could give back to it is of use to this process alone.
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

    /// The fetch, while the lease is renewed beside it.
    async fn renewing<T>(&self, lease: &mut Lease, fetch: impl Future<Output = T>) -> T {
        let renewals = async {
            loop {
                tokio::time::sleep(self.settings.lease / 3).await;
                if self.seal_lease(lease).is_err() {
                    continue;
                }
                let renewal = self.store.renew(&self.settings.key, lease, self.settings.lease);
                // One that fails may be followed by one that does not. A lease that is lost stays lost; the
                // fetch goes on all the same, for its token is good.
                if let Ok(false) = self.in_time(renewal).await {
                    std::future::pending::<()>().await;
                }
            }
        };
        match select(pin!(fetch), pin!(renewals)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), fetch)) => fetch.await,
        }
    }

    /// Gives the lease the value that others find: it says when the lease ends, from now on.
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

    /// Puts the token where the others find it. Whatever comes of that, this process has a token.
    async fn share(
        &self,
        token: Token,
        cx: &FetchContext,
        lease: &Lease,
        sent: Timestamp,
        trouble: Trouble,
    ) -> Token {
        let settings = &self.settings;
        let stamped =
            token.clone().stamped(sent, &settings.clock, settings.missing_lifetime, LONGEST_LIFETIME);
        let left = stamped.remaining_at(self.now());
        if left.is_zero() || !stamped.is_presentable() {
            // Of no use to anybody, as the actor is about to say.
            self.share_failure(None, lease, trouble).await;
            return token;
        }
        let fetched = self.memory().clock_at(sent.boot).unwrap_or_default();
        let age = Newest { fence: lease.fence, fetched };
        let (end, life) = (stamped.end().wall, stamped.whole_life());
        let envelope = Envelope { token: stamped, fence: age.fence, fetched, end, life };
        let committed = match settings.ring.seal(&settings.key, Purpose::Token, &envelope.pack()) {
            Some(value) => self.commit(lease, &value, left, cx).await,
            None => Err(not_sealed()),
        };
        match committed {
            Ok(Commit::Done) => self.memory().hold(&token, Some(lease.owner.clone()), age),
            // The fleet has one token, and this process takes that one too.
            Ok(Commit::Overtaken(newer)) => return newer,
            // Its own is as good as any.
            Ok(Commit::Refused) => self.memory().hold(&token, None, age),
            Err(error) => {
                self.memory().hold(&token, None, age);
                self.note_outage(&error);
            }
        }
        token
    }

    /// Puts the token in place. If the lease was lost meanwhile, it looks why: somebody else may have had it since, or
    /// somebody has written rubbish in its place.
    async fn commit(
        &self,
        lease: &Lease,
        value: &[u8],
        left: Duration,
        cx: &FetchContext,
    ) -> Result<Commit, StoreError> {
        /// One look finds the token that is to be replaced, the next one the rubbish, and the next one takes that away.
        const TRIES: u32 = 8;
        let settings = &self.settings;
        let mut ask = Ask::default();
        let mut tries = 0;
        while tries < TRIES {
            if self.in_time(self.store.commit(&settings.key, lease, value, left)).await? {
                return Ok(Commit::Done);
            }
            if tries == 0 {
                self.stats.count(Count::Late);
            }
            tries += 1;
            match self.in_time(self.store.look_or_lease(&settings.key, &ask)).await? {
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

    async fn share_failure(&self, error: Option<&SourceError>, lease: &Lease, trouble: Trouble) {
        let failure = self.failure(error, lease, trouble);
        if let Err(error) = self.in_time(self.store.fail(&self.settings.key, lease, &failure)).await {
            self.note_outage(&error);
        }
    }

    /// What a failure leaves behind. A refusal concerns those who would send the same credential, and anything else
    /// everybody.
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
        // It is kept for longer than it holds, so that the next failure knows of this one.
        let kept = pause.saturating_add(memory);
        let record = Record { fence: lease.fence, ends, failures };
        let left = self.seal(purpose, record).map(|value| (value, kept));
        if is_refusal { Failure { mark: left, pause: None } } else { Failure { pause: left, mark: None } }
    }
}

/// What became of a commit.
enum Commit {
    Done,
    /// Somebody else has committed this one.
    Overtaken(Token),
    Refused,
}

fn not_sealed() -> StoreError {
    StoreError::new("what is to be stored could not be sealed")
}
