//! Random histories of eight keys in a registry of one to three shards, which has room for four and makes two calls at once.
//!
//! Keys are evicted, removed and used again. Two keys are of one group. Some histories are shut down in the middle.
//! The checker has the laws: each waiter is answered once, a key has one call at once, the limits of the gate and
//! of a group are kept, no expired and no discarded token is handed out, and everything that was taken is given
//! back.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use actix::Addr;
use actix_rt::Arbiter;
use tokenflight::testing::{Answer, ManualClock};
use tokenflight::{SourceError, Token};
use tokio::task::JoinHandle;

use crate::support::*;

const KEYS: u32 = 8;
const ROOM: usize = 4;
const CALLS: usize = 2;

/// The source repeats this secret. So it may come back after its key was forgotten.
const REPEATED: &str = "repeated";

fn some_answer(dice: &mut fastrand::Rng) -> Answer {
    match dice.u32(..10) {
        0 => transient(),
        1 => terminal(),
        2 => Answer::Hang,
        3 => Answer::Panic,
        4 => Answer::Error(SourceError::transient("slow down").with_retry_after(secs(2))),
        5 => token(REPEATED, secs(20)),
        _ => token(&format!("t{}", dice.u64(..)), secs(dice.u64(1..40))),
    }
}

/// Keys, and secrets that come from the source once.
type Discarded = HashSet<(u32, String)>;

/// What the checker knows.
#[derive(Default)]
struct Books {
    answers: usize,
    discarded: Discarded,
    breach: Option<String>,
}

impl Books {
    /// Nobody is given what had been discarded when they asked.
    fn check(&mut self, before: &Discarded, key: u32, token: &Token) {
        if before.contains(&(key, token.secret().to_owned())) {
            self.breach = Some(format!("the discarded {} of key {key} is handed out", token.secret()));
        }
    }
}

struct History {
    seed: u64,
    dice: fastrand::Rng,
    rig: Rig,
    shards: usize,
    books: Rc<RefCell<Books>>,
    asked: usize,
    /// Callers who went away before they were answered.
    gone: usize,
    callers: Vec<JoinHandle<()>>,
    to: Addr<Collector>,
    told: Told,
    /// With what had been discarded before.
    tickets: Vec<(u32, u64, Discarded)>,
    known: Vec<(u32, Token)>,
    is_shut_down: bool,
}

impl History {
    fn begin(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let policy =
            plain().attempt_timeout(secs(2)).flight_timeout(secs(6)).wait_timeout(secs(5)).attempts(2);
        let (busy, shards) = (dice.usize(2..=ROOM), dice.usize(1..=3));
        let (source, clock) = (Scripts::default(), ManualClock::new());
        source.group([0, 1], "two");
        let builder = tokenflight::registry::TokenRegistry::builder(source.clone());
        let builder = builder.policy(policy).clock(clock.clone()).seed(seed);
        let here = Arbiter::current();
        let tokens = builder
            .max_keys(ROOM)
            .max_busy_keys(busy)
            .max_calls(CALLS)
            .start_on(std::iter::repeat_n(&here, shards))
            .expect("the settings are sound");
        let (to, told) = Collector::begin();
        Self {
            seed,
            dice,
            rig: Rig { tokens, source, clock },
            shards,
            books: Rc::default(),
            asked: 0,
            gone: 0,
            callers: Vec::new(),
            to,
            told,
            tickets: Vec::new(),
            known: Vec::new(),
            is_shut_down: false,
        }
    }

    fn asks(&mut self, key: u32, asking: impl Future<Output = Outcome> + 'static) {
        self.asked += 1;
        let books = Rc::clone(&self.books);
        let before = books.borrow().discarded.clone();
        self.callers.push(actix_rt::spawn(async move {
            let answer = asking.await;
            let mut books = books.borrow_mut();
            books.answers += 1;
            if let Ok(token) = answer {
                books.check(&before, key, &token);
            }
        }));
    }

    fn some_known(&mut self) -> Option<(u32, Token)> {
        (!self.known.is_empty()).then(|| self.known[self.dice.usize(..self.known.len())].clone())
    }

    async fn step(&mut self, number: u64) {
        let key = self.dice.u32(..KEYS);
        if self.dice.u8(..3) == 0 {
            self.rig.source.of(key).then(some_answer(&mut self.dice));
        }
        let tokens = self.rig.tokens.clone();
        match self.dice.u32(..15) {
            0..=3 => self.asks(key, tokens.get(&key)),
            4 => self.asks(key, async move { tokens.refresh(&key).await }),
            5 => {
                tokens.subscribe(key, self.to.clone(), number);
                let before = self.books.borrow().discarded.clone();
                self.tickets.push((key, number, before));
            }
            6 => {
                if let Some((key, token)) = self.some_known() {
                    tokens.invalidate(&key, &token);
                }
            }
            7 => {
                if let Some((key, token)) = self.some_known() {
                    self.asks(key, async move { tokens.replace(&key, &token).await });
                }
            }
            8 => {
                if let Some((key, token)) = self.some_known() {
                    tokens.discard(&key, &token);
                    if token.secret() != REPEATED {
                        self.books.borrow_mut().discarded.insert((key, token.secret().to_owned()));
                    }
                    let now = tokens.current(&key);
                    assert!(now.is_none_or(|now| !now.is_same(&token)), "history {}: discarded", self.seed);
                }
            }
            9 => drop(tokens.remove(&key).await),
            10 if self.dice.u8(..4) == 0 => drop(tokens.retain(move |kept| kept % 3 != key % 3).await),
            11 if !self.callers.is_empty() => {
                let caller = self.callers.swap_remove(self.dice.usize(..self.callers.len()));
                self.gone += usize::from(!caller.is_finished());
                caller.abort();
            }
            12 => self.rig.clock.suspend(secs(self.dice.u64(..30))),
            13 if self.dice.u8(..40) == 0 => {
                self.is_shut_down = true;
                drop(actix_rt::spawn(async move { tokens.shutdown().await }));
            }
            _ => tokio::time::sleep(millis(self.dice.u64(..3_000))).await,
        }
        if self.dice.bool() {
            settle().await;
        }
    }

    /// What holds at any time.
    async fn check(&mut self) {
        let seed = self.seed;
        for key in 0..KEYS {
            let Some(token) = self.rig.tokens.current(&key) else { continue };
            assert!(!token.remaining().unwrap().is_zero(), "history {seed}: an expired token");
            let mut books = self.books.borrow_mut();
            let discarded = books.discarded.clone();
            books.check(&discarded, key, &token);
            self.known.push((key, token));
        }
        if let Ok(totals) = self.rig.tokens.totals().await {
            // A shard that makes a key while all of its own are busy asks another one for room.
            let beside = if self.shards == 1 { 0 } else { totals.busy_keys };
            assert!(totals.keys <= ROOM + beside, "history {seed}: {totals:?}");
            assert!(totals.calls <= CALLS && totals.busy_keys <= ROOM, "history {seed}: {totals:?}");
        }
        let breach = self.books.borrow().breach.clone();
        assert_eq!(breach, None, "history {seed}");
    }

    /// Everything comes to rest by itself, or is shut down.
    async fn end(mut self) {
        let seed = self.seed;
        if self.dice.bool() && !self.is_shut_down {
            tokio::time::sleep(secs(60)).await;
            let totals = self.rig.tokens.totals().await.unwrap();
            let left = (totals.busy_keys, totals.waiters, totals.calls, totals.queued);
            assert_eq!(left, (0, 0, 0, 0), "history {seed}: {totals:?}");
            assert!(totals.keys <= ROOM, "history {seed}: {totals:?}");
        }
        self.rig.tokens.shutdown().await;
        settle().await;
        let source = &self.rig.source;
        assert_eq!(source.running(), 0, "history {seed}");
        let answers = self.books.borrow().answers;
        let least = self.asked - self.gone;
        assert!((least..=self.asked).contains(&answers), "history {seed}: {answers} of {}", self.asked);
        assert!(self.callers.iter().all(JoinHandle::is_finished), "history {seed}");
        for (key, ticket, before) in self.tickets {
            let answers = self.told.to(key, ticket);
            assert_eq!(answers.len(), 1, "history {seed}: ticket {ticket} of key {key}");
            if let Ok(token) = &answers[0] {
                assert!(
                    !before.contains(&(key, token.secret().to_owned())),
                    "history {seed}: a discarded token is told"
                );
            }
        }
        assert!(source.most_at_once() <= CALLS, "history {seed}: the gate is passed");
        assert!(source.most_at_once_of("two") <= 1, "history {seed}: the group's share is passed");
        for key in 0..KEYS {
            assert!(source.of(key).most_at_once() <= 1, "history {seed}: two flights of key {key}");
        }
        assert_eq!(self.books.borrow().breach, None, "history {seed}");
    }
}

#[actix::test]
async fn whatever_happens_everybody_is_answered_once_and_all_limits_hold() {
    tokio::time::pause();
    let (mut shut_down, mut of_many_shards, mut evicted) = (0, 0, 0);
    for seed in 0..400 {
        let mut history = History::begin(seed);
        for number in 0..60 {
            history.step(number).await;
            history.check().await;
        }
        shut_down += usize::from(history.is_shut_down);
        of_many_shards += usize::from(history.shards > 1);
        evicted += history.rig.tokens.totals().await.map_or(0, |totals| totals.evicted);
        history.end().await;
    }
    assert!(
        shut_down > 20 && of_many_shards > 100 && evicted > 500,
        "{shut_down} {of_many_shards} {evicted}"
    );
}
