//! A day of a fleet: a thousand processes, in virtual time, with the real actor, machine and protocol. This test
//! prints the figures of `docs/fleet.md` (`cargo test --all-features fleet -- --nocapture`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokenflight::clock::Clock;
use tokenflight::store::{
    Ask, Failure, Lease, Look, MemoryStore, News, SharedKey, SharedStore, StoreError, Stored,
};
use tokenflight::testing::{ManualClock, ScriptedSource};
use tokenflight::{RefreshPolicy, TokenActor};

use super::world::*;
use crate::support::*;

const PROCESSES: u32 = 1_000;

/// A store that notes who asks what, and when.
#[derive(Clone)]
struct Noting {
    store: MemoryStore,
    clock: ManualClock,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    operations: u32,
    /// When each process got the token of this id.
    taken: HashMap<String, Vec<Duration>>,
    /// Operations in each second, from the second token on: the first one all want at once.
    load: BTreeMap<u64, u32>,
}

impl Noting {
    /// The store, for one operation.
    fn noted(&self) -> &MemoryStore {
        let mut notes = self.notes.lock().unwrap();
        notes.operations += 1;
        if notes.taken.len() < 2 {
            return &self.store;
        }
        *notes.load.entry(self.clock.now().boot.as_secs()).or_default() += 1;
        &self.store
    }

    fn taken(&self, id: &str) {
        let now = self.clock.now().boot;
        self.notes.lock().unwrap().taken.entry(id.to_owned()).or_default().push(now);
    }
}

impl SharedStore for Noting {
    // One subscription for each process's life: on Redis it is a command only once.
    pass_on!(|this| this.store; watch);
    pass_on!(|this| this.noted(); load renew fail);

    async fn look_or_lease(&self, key: &SharedKey, ask: &Ask) -> Result<Look, StoreError> {
        let look = self.noted().look_or_lease(key, ask).await;
        if let Ok(Look::Found(stored)) = &look {
            self.taken(&stored.id);
        }
        look
    }

    async fn commit(
        &self,
        key: &SharedKey,
        lease: &Lease,
        value: &[u8],
        lives: Duration,
    ) -> Result<bool, StoreError> {
        let store = self.noted();
        self.taken(&lease.owner);
        store.commit(key, lease, value, lives).await
    }
}

struct Day {
    calls: usize,
    lives: usize,
    /// For each token life and process.
    operations: f64,
    busiest_second: u32,
    /// From the first process that took a token to the last one, in the median life.
    spread: Duration,
}

async fn day(policy: RefreshPolicy) -> Day {
    tokio::time::pause();
    let clock = ManualClock::new();
    let store =
        Noting { store: MemoryStore::with_clock(clock.clone()), clock: clock.clone(), notes: Arc::default() };
    let source = ScriptedSource::new().taking(millis(200));
    let fleet: Vec<_> = (0..u64::from(PROCESSES))
        .map(|seed| {
            let shared = settings(clock.clone()).lease(secs(5)).store_timeout(secs(1));
            let shared = shared.build(source.clone(), store.clone()).unwrap();
            let actor = TokenActor::builder(shared).policy(policy.clone()).clock(clock.clone()).seed(seed);
            actor.start().unwrap()
        })
        .collect();
    tokio::time::sleep(HOUR * 24).await;
    assert!(fleet.iter().all(|handle| handle.current().is_some()), "nobody is without a token");
    let notes = store.notes.lock().unwrap();
    let mut spreads: Vec<Duration> = notes
        .taken
        .values()
        .filter(|taken| taken.len() == PROCESSES as usize)
        .map(|taken| *taken.iter().max().unwrap() - *taken.iter().min().unwrap())
        .collect();
    spreads.sort_unstable();
    let lives = notes.taken.len();
    Day {
        calls: source.calls(),
        lives,
        operations: f64::from(notes.operations)
            / f64::from(PROCESSES)
            / f64::from(u32::try_from(lives).unwrap()),
        busiest_second: *notes.load.values().max().unwrap(),
        spread: spreads[spreads.len() / 2],
    }
}

fn print(name: &str, day: &Day) {
    let Day { calls, lives, operations, busiest_second, spread } = day;
    let (a_life, spread) = (calls / lives, spread.as_secs_f64());
    println!(
        "| {name} | {lives} | {calls} | {a_life} | {operations:.3} | {spread:.1} s | {busiest_second} |"
    );
}

#[actix::test]
async fn a_thousand_processes_make_one_call_a_life_and_their_refreshes_spread() {
    let day = day(RefreshPolicy::default().background(true)).await;
    print("default jitter", &day);
    assert_eq!(day.calls, day.lives, "one call a life");
    assert!((24..=27).contains(&day.lives), "{} lives", day.lives);
    assert!(day.operations < 1.1, "one look a process and life: {}", day.operations);
    assert!(day.spread > secs(60), "{:?}", day.spread);
}

#[actix::test]
async fn without_jitter_it_is_still_one_call_a_life() {
    let day = day(RefreshPolicy::default().background(true).jitter(0.0)).await;
    print("no jitter", &day);
    assert_eq!(day.calls, day.lives, "one call a life");
    assert!(day.operations < 2.1, "a look, news, and another look: {}", day.operations);
}
