//! Seats for the waiters of all keys together, and the search for waiters who have gone away.
//!
//! All seats may belong to callers who have gone away. Then the shards search for them, at most once a second, and a
//! caller without a seat tries once more when the search has ended. A search ends when each shard has searched. If
//! an arbiter is blocked, it ends after [`LONGEST_SEARCH`], or when the next search begins.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::duration::millis;
use crate::error::TokenError;
use crate::panics::contain;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock};

/// The time after which a search ends though an arbiter has not searched.
const LONGEST_SEARCH: Duration = Duration::from_secs(1);

/// The number of searchers that may always wait, however few seats there are.
const FEW: usize = 1_024;

#[derive(Debug)]
pub(super) struct Seats {
    taken: AtomicUsize,
    pub(super) limit: usize,
    overloads: AtomicU64,
    searchers: Mutex<Searchers>,
    /// When the next search for callers who have gone away may begin, in milliseconds on the boot clock.
    next_purge: AtomicU64,
}

/// One seat. Dropping it frees the seat.
#[derive(Debug)]
pub(super) struct Seat(Arc<Seats>);

/// Callers who wait for the end of the newest search.
#[derive(Debug, Default)]
struct Searchers {
    /// The number of the newest search.
    newest: u64,
    /// `None`: it has ended.
    waiting: Option<Vec<oneshot::Sender<()>>>,
}

impl Seats {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            limit,
            overloads: AtomicU64::new(0),
            searchers: Mutex::default(),
            next_purge: AtomicU64::new(0),
        })
    }

    pub(super) fn take(self: &Arc<Self>) -> Option<Seat> {
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.limit {
            return Some(Seat(Arc::clone(self)));
        }
        self.taken.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// The error of a caller without a seat.
    pub(super) fn overloaded(&self) -> TokenError {
        self.count_overload();
        TokenError::overloaded(self.limit)
    }

    pub(super) fn count_overload(&self) {
        self.overloads.fetch_add(1, Ordering::Relaxed);
    }

    /// All seats are taken. Some may belong to callers who have gone away. If a search for them is due, `begin` begins
    /// it. `searcher` is told when the newest search has ended. Returns whether the searcher will be told: there may
    /// be no search under way, or too many searchers.
    ///
    /// First the searcher is in the list. Then the search begins, so it cannot end before.
    pub(super) fn search(
        self: &Arc<Self>,
        searcher: Option<oneshot::Sender<()>>,
        now: Duration,
        begin: impl FnOnce(Arc<Search>),
    ) -> bool {
        let (is_due, of_earlier, number, will_be_told) = {
            let mut searchers = lock(&self.searchers);
            let is_due = self.is_search_due(now);
            let of_earlier = if is_due { searchers.begin() } else { None };
            // After the search more callers would find no seat.
            let will_be_told = searchers.join(searcher, self.limit.max(FEW));
            (is_due, of_earlier, searchers.newest, will_be_told)
        };
        answer(of_earlier);
        if is_due {
            begin(Arc::new(Search { seats: Arc::clone(self), number }));
        }
        will_be_told
    }

    /// Once a second, because a search walks through all waiters.
    fn is_search_due(&self, now: Duration) -> bool {
        let now = millis(now);
        let due = self.next_purge.load(Ordering::Relaxed);
        let next = now.saturating_add(1_000);
        due <= now
            && self.next_purge.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn overloads(&self) -> u64 {
        self.overloads.load(Ordering::Relaxed)
    }
}

impl Searchers {
    /// Begins a search. Returns the searchers of an earlier one that has not ended.
    fn begin(&mut self) -> Option<Vec<oneshot::Sender<()>>> {
        self.newest += 1;
        self.waiting.replace(Vec::new())
    }

    fn join(&mut self, searcher: Option<oneshot::Sender<()>>, limit: usize) -> bool {
        let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.len() < limit) else {
            return false;
        };
        waiting.extend(searcher);
        true
    }

    fn end(&mut self, number: u64) -> Option<Vec<oneshot::Sender<()>>> {
        if number == self.newest { self.waiting.take() } else { None }
    }
}

/// A waker is foreign code: if one panics, the shard and the other searchers go on.
fn answer(searchers: Option<Vec<oneshot::Sender<()>>>) {
    for searcher in searchers.into_iter().flatten() {
        contain(|| searcher.send(()));
    }
}

/// The end of a search for callers who have gone away.
pub(super) type Searching = oneshot::Receiver<()>;

/// A search for callers who have gone away. Each shard has a clone until it has searched. The search ends with the
/// last one.
#[derive(Debug)]
pub(super) struct Search {
    seats: Arc<Seats>,
    number: u64,
}

impl Search {
    /// A shard has searched. If the arbiter of another shard is blocked, the search ends without that shard.
    pub(super) fn shard_has_searched(self: Arc<Self>) {
        let unfinished = Arc::downgrade(&self);
        drop(self);
        if unfinished.strong_count() == 0 {
            return;
        }
        tokio::task::spawn_local(async move {
            tokio::time::sleep(LONGEST_SEARCH).await;
            if let Some(search) = unfinished.upgrade() {
                search.end();
            }
        });
    }

    /// Tells its searchers that it has ended.
    fn end(&self) {
        let searchers = lock(&self.seats.searchers).end(self.number);
        answer(searchers);
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A caller without a seat. `begun` has the searches that have not ended.
    fn asks(seats: &Arc<Seats>, at: u64, begun: &mut Vec<Arc<Search>>) -> Option<Searching> {
        let (searcher, end) = oneshot::channel();
        let told = seats.search(Some(searcher), Duration::from_secs(at), |search| begun.push(search));
        told.then_some(end)
    }

    #[test]
    fn searchers_do_not_pile_up_while_a_search_does_not_end() {
        let (seats, mut begun) = (Seats::new(1), Vec::new());
        let waiting = (0..3 * FEW).filter_map(|_| asks(&seats, 1, &mut begun)).count();
        assert_eq!((waiting, begun.len()), (FEW, 1));
        let kept = lock(&seats.searchers).waiting.as_ref().map(Vec::len);
        assert_eq!(kept, Some(FEW), "though all of them have gone away");
    }

    #[test]
    fn the_next_search_answers_the_searchers_of_one_that_has_not_ended() {
        let (seats, mut begun) = (Seats::new(1), Vec::new());
        let mut first = asks(&seats, 1, &mut begun).unwrap();
        assert!(first.try_recv().is_err(), "a shard has not searched yet");
        let mut second = asks(&seats, 2, &mut begun).unwrap();
        assert_eq!((first.try_recv(), begun.len()), (Ok(()), 2));
        drop(begun.remove(0));
        assert!(second.try_recv().is_err(), "the earlier search is not its own");
        begun.clear();
        assert_eq!(second.try_recv(), Ok(()));
        assert!(asks(&seats, 2, &mut begun).is_none(), "no search is under way");
    }
}
