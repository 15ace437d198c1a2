//! The store of a world: the one in memory, each operation behind a gate, and a writer without the key.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use tokenflight::clock::Clock;
use tokenflight::store::{
    Ask, Failure, Held, Lease, Look, MemoryStore, News, SharedKey, SharedStore, StoreError, Stored,
};
use tokenflight::testing::ManualClock;

use super::gates::{Gates, Kind, Verdict};

/// What somebody does who may write to the store, and has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    DeleteToken,
    DeleteLease,
    /// Everything but the fence: so does a store that has no room, or restarts.
    DeleteAll,
    RubbishToken,
    RubbishLease,
    RubbishPause,
    RubbishMark,
    /// Values in clear, which whoever can read the source can write.
    ClearToken,
    ClearLease,
    ClearPause,
    /// Sealed values that were once in the store.
    OldToken,
    OldLease,
    OldPause,
    OldMark,
    /// The lease that was given last.
    LastLease,
}

impl Act {
    pub(super) const ALL: [Self; 15] = [
        Self::DeleteToken,
        Self::DeleteLease,
        Self::DeleteAll,
        Self::RubbishToken,
        Self::RubbishLease,
        Self::RubbishPause,
        Self::RubbishMark,
        Self::ClearToken,
        Self::ClearLease,
        Self::ClearPause,
        Self::OldToken,
        Self::OldLease,
        Self::OldPause,
        Self::OldMark,
        Self::LastLease,
    ];
}

/// What an attacker has put over what is in the store in memory.
#[derive(Clone, Default)]
struct Planted {
    token: Option<Stored>,
    lease: Option<Vec<u8>>,
    pause: Option<Vec<u8>>,
    mark: Option<Vec<u8>>,
}

impl Planted {
    fn is_nothing(&self) -> bool {
        self.token.is_none() && self.lease.is_none() && self.pause.is_none() && self.mark.is_none()
    }
}

/// What was seen in the store.
#[derive(Default)]
pub(super) struct Seen {
    /// The leases that were taken or renewed.
    pub(super) leases: Vec<Lease>,
    /// The commits that were carried out.
    pub(super) tokens: Vec<Stored>,
    /// A commit was carried out though a later lease had been given.
    pub(super) late_commits: bool,
    pauses: Vec<Vec<u8>>,
    marks: Vec<Vec<u8>>,
    numbers: u8,
}

pub(super) struct Shelf {
    pub(super) key: SharedKey,
    store: MemoryStore,
    clock: ManualClock,
    planted: Mutex<Planted>,
    seen: Mutex<Seen>,
    /// Before each look the writer does this again.
    pub(super) restless: Mutex<Option<Act>>,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Shelf {
    pub(super) fn new(key: SharedKey, clock: ManualClock) -> Self {
        let store = MemoryStore::with_clock(clock.clone());
        let (planted, seen, restless) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { key, store, clock, planted, seen, restless }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn planted(&self) -> MutexGuard<'_, Planted> {
        self.planted.lock().unwrap()
    }

    /// Whether the act would change anything.
    pub(super) async fn can(&self, act: Act) -> bool {
        let token = self.store.load(&self.key).await.unwrap();
        let is_token = token.is_some() || self.planted().token.is_some();
        let seen = self.seen();
        match act {
            Act::DeleteToken => is_token,
            Act::OldToken => seen.tokens.len() >= 2,
            Act::DeleteLease | Act::DeleteAll | Act::OldLease | Act::LastLease => !seen.leases.is_empty(),
            Act::OldPause => !seen.pauses.is_empty(),
            Act::OldMark => !seen.marks.is_empty(),
            _ => true,
        }
    }

    pub(super) async fn act(&self, act: Act) {
        let number = {
            let mut seen = self.seen();
            seen.numbers = seen.numbers.wrapping_add(1);
            seen.numbers
        };
        let rubbish = || vec![b'r', number];
        match act {
            Act::DeleteToken => self.delete_token().await,
            Act::DeleteLease => self.delete_lease().await,
            Act::DeleteAll => {
                self.store.clear();
                *self.planted() = Planted::default();
            }
            Act::RubbishToken => self.plant_token(&format!("rubbish {number}"), rubbish()).await,
            Act::ClearToken => self.plant_token("forged", token_in_clear(self.clock_ms())).await,
            Act::RubbishLease => self.plant_lease(rubbish()).await,
            Act::ClearLease => self.plant_lease(record_in_clear(b'l', self.clock_ms())).await,
            Act::OldLease | Act::LastLease => {
                let value = {
                    let seen = self.seen();
                    let lease = if act == Act::OldLease { seen.leases.first() } else { seen.leases.last() };
                    lease.unwrap().value.clone()
                };
                self.plant_lease(value).await;
            }
            Act::RubbishPause => self.planted().pause = Some(rubbish()),
            Act::ClearPause => self.planted().pause = Some(record_in_clear(b'p', self.clock_ms())),
            Act::OldPause => self.planted().pause = self.seen().pauses.last().cloned(),
            Act::RubbishMark => self.planted().mark = Some(rubbish()),
            Act::OldMark => self.planted().mark = self.seen().marks.last().cloned(),
            Act::OldToken => {
                let old = self.seen().tokens.iter().rev().nth(1).unwrap().clone();
                self.delete_token().await;
                self.planted().token = Some(old);
            }
        }
    }

    fn clock_ms(&self) -> u64 {
        u64::try_from(self.store_clock().as_millis()).unwrap()
    }

    fn store_clock(&self) -> Duration {
        self.clock.now().wall.duration_since(UNIX_EPOCH).unwrap()
    }

    async fn delete_token(&self) {
        self.planted().token = None;
        if let Some(stored) = self.store.load(&self.key).await.unwrap() {
            let ask = Ask { refused: Some(stored.id), discard: true, ..Ask::default() };
            self.store.look_or_lease(&self.key, &ask).await.unwrap();
        }
    }

    async fn delete_lease(&self) {
        self.planted().lease = None;
        let refused = self.store.load(&self.key).await.unwrap().map(|stored| stored.id);
        let void = self.seen().leases.iter().map(|lease| lease.value.clone()).collect();
        let ask = Ask { refused, void, ..Ask::default() };
        self.store.look_or_lease(&self.key, &ask).await.unwrap();
    }

    async fn plant_lease(&self, value: Vec<u8>) {
        self.delete_lease().await;
        self.planted().lease = Some(value);
    }

    /// With a fence that fits what the processes have seen.
    async fn plant_token(&self, id: &str, value: Vec<u8>) {
        self.delete_token().await;
        let fence = self.clock_ms() + 1_000;
        self.planted().token = Some(Stored { id: id.into(), fence, value, left: DAY });
    }

    async fn look(&self, ask: &Ask) -> Result<Look, StoreError> {
        let restless = *self.restless.lock().unwrap();
        if let Some(act) = restless
            && self.can(act).await
        {
            self.act(act).await;
        }
        if self.planted().is_nothing() {
            return self.look_below(ask).await;
        }
        let token = self.planted().token.clone();
        if let Some(stored) = token {
            if ask.refused.as_ref() != Some(&stored.id) {
                return Ok(Look::Found(stored));
            }
            if ask.discard {
                self.planted().token = None;
            }
        } else if let Some(stored) = self.store.load(&self.key).await?
            && ask.refused.as_ref() != Some(&stored.id)
        {
            return Ok(Look::Found(stored));
        }
        let (pause, lease) = {
            let mut planted = self.planted();
            let Planted { pause, mark, lease, .. } = &mut *planted;
            for value in [&mut *pause, &mut *mark, &mut *lease] {
                value.take_if(|value| ask.void.contains(value));
            }
            let stands = |value: &Option<Vec<u8>>| value.clone().filter(|value| !ask.passed.contains(value));
            (stands(pause).or_else(|| stands(mark)), stands(lease))
        };
        let held = |value| Held { value, left: DAY, clock: self.store_clock() };
        if let Some(value) = pause {
            return Ok(Look::Paused(held(value)));
        }
        if let Some(value) = lease {
            let ask = Ask { take: None, ..ask.clone() };
            return Ok(match self.look_below(&ask).await? {
                Look::Free(_) => Look::Taken(held(value)),
                other => other,
            });
        }
        self.look_below(ask).await
    }

    async fn look_below(&self, ask: &Ask) -> Result<Look, StoreError> {
        let look = self.store.look_or_lease(&self.key, ask).await?;
        if let (Look::Leased, Some(take)) = (&look, &ask.take) {
            self.planted().lease = None;
            self.seen().leases.push(take.lease.clone());
        }
        Ok(look)
    }

    async fn load(&self) -> Result<Option<Stored>, StoreError> {
        let planted = self.planted().token.clone();
        if planted.is_some() { Ok(planted) } else { self.store.load(&self.key).await }
    }

    async fn renew(&self, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
        if self.planted().lease.is_some() {
            return Ok(false);
        }
        let renewed = self.store.renew(&self.key, lease, time).await?;
        if renewed {
            self.seen().leases.push(lease.clone());
        }
        Ok(renewed)
    }

    async fn commit(&self, lease: &Lease, value: &[u8], lives: Duration) -> Result<bool, StoreError> {
        if self.planted().lease.is_some() {
            return Ok(false);
        }
        let done = self.store.commit(&self.key, lease, value, lives).await?;
        if done {
            let mut planted = self.planted();
            (planted.token, planted.pause) = (None, None);
            let (id, fence, value) = (lease.owner.clone(), lease.fence, value.to_vec());
            let mut seen = self.seen();
            seen.late_commits |= seen.leases.iter().any(|other| other.fence > fence);
            seen.tokens.push(Stored { id, fence, value, left: lives });
        }
        Ok(done)
    }

    async fn fail(&self, lease: &Lease, failure: &Failure) -> Result<bool, StoreError> {
        if self.planted().lease.is_some() {
            return Ok(false);
        }
        let done = self.store.fail(&self.key, lease, failure).await?;
        if done {
            let mut seen = self.seen();
            if let Some((pause, _)) = &failure.pause {
                self.planted().pause = None;
                seen.pauses.push(pause.clone());
            }
            seen.marks.extend(failure.mark.iter().map(|(mark, _)| mark.clone()));
        }
        Ok(done)
    }
}

/// A lease or a pause of the next hour, as a process without keys writes it.
fn record_in_clear(letter: u8, now: u64) -> Vec<u8> {
    let (fence, ends) = (now + 1_000, now + 3_600_000);
    [&[0, letter][..], &fence.to_be_bytes(), &ends.to_be_bytes(), &1u32.to_be_bytes()].concat()
}

/// A token of the next hour, as a process without keys writes it.
fn token_in_clear(now: u64) -> Vec<u8> {
    let numbers = [now + 1_000, now, now + 3_600_000, 3_600_000];
    let pieces = [b"Bearer".as_slice(), b"forged"];
    let mut bytes = vec![0, b't', 2];
    bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    for piece in pieces {
        bytes.extend(u32::try_from(piece.len()).unwrap().to_be_bytes());
        bytes.extend(piece);
    }
    bytes
}

/// The store, as a process sees it.
pub(super) struct Gated {
    pub(super) who: usize,
    pub(super) gates: Gates,
    pub(super) shelf: Arc<Shelf>,
}

impl Gated {
    async fn step<T>(
        &self,
        kind: Kind,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let verdict = self.gates.pass(self.who, kind).await;
        let answer = step.await;
        if verdict == Verdict::AnswerLost { Err(StoreError::new("lost on the way")) } else { answer }
    }
}

impl SharedStore for Gated {
    async fn watch(&self, key: &SharedKey) -> Result<News, StoreError> {
        self.step(Kind::Watch, self.shelf.store.watch(key)).await
    }
    async fn look_or_lease(&self, _: &SharedKey, ask: &Ask) -> Result<Look, StoreError> {
        let changes = ask.take.is_some() || ask.discard || !ask.void.is_empty();
        self.step(if changes { Kind::Take } else { Kind::Read }, self.shelf.look(ask)).await
    }
    async fn load(&self, _: &SharedKey) -> Result<Option<Stored>, StoreError> {
        self.step(Kind::Read, self.shelf.load()).await
    }
    async fn renew(&self, _: &SharedKey, lease: &Lease, time: Duration) -> Result<bool, StoreError> {
        self.step(Kind::Renew, self.shelf.renew(lease, time)).await
    }
    async fn commit(
        &self,
        _: &SharedKey,
        lease: &Lease,
        value: &[u8],
        lives: Duration,
    ) -> Result<bool, StoreError> {
        self.step(Kind::Commit, self.shelf.commit(lease, value, lives)).await
    }
    async fn fail(&self, _: &SharedKey, lease: &Lease, failure: &Failure) -> Result<bool, StoreError> {
        self.step(Kind::Fail, self.shelf.fail(lease, failure)).await
    }
}
