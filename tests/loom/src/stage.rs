//! The parts of the models: a clock that is set by hand, tokens, and a count of the seen interleavings.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant, SystemTime};

use crate::clock::{Clock, Timestamp};
use crate::lobby::{Lobby, Round, Wait};
use crate::models::Model;
use crate::policy::Margins;
use crate::slot::Slot;
use crate::token::Token;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// In how many interleavings each thing was seen.
static SEEN: Mutex<BTreeMap<&str, usize>> = Mutex::new(BTreeMap::new());

/// Notes that this interleaving shows `what`. A model that never sees what it is about shows nothing.
pub(crate) fn seen(what: &'static str) {
    *SEEN.lock().unwrap().entry(what).or_default() += 1;
}

/// Tries the interleavings of `model` that have so many preemptions at most, or all. Returns a row of the table.
///
/// # Panics
/// With the law that an interleaving broke, or if one of the things that the model is to see was not seen.
pub(crate) fn check(model: &'static Model, preemptions: Option<usize>) -> String {
    SEEN.lock().unwrap().clear();
    let (count, begin) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    let interleavings = Arc::clone(&count);
    builder.check(move || {
        interleavings.fetch_add(1, Ordering::Relaxed);
        (model.run)();
    });
    let (count, seen) = (count.load(Ordering::Relaxed), SEEN.lock().unwrap());
    let bound = preemptions.map_or("any".to_owned(), |bound| bound.to_string());
    let mut row = format!("| {} | {bound} | {count} | ", model.name.replace('_', " "));
    for (place, what) in model.sees.iter().enumerate() {
        let times = seen.get(what).unwrap_or_else(|| panic!("no interleaving shows \"{what}\""));
        let _ = write!(row, "{}{times} {what}", if place == 0 { "" } else { ", " });
    }
    row + &format!(" | {:.0} |", begin.elapsed().as_secs_f64())
}

/// A clock that is set by hand.
#[derive(Debug)]
pub(crate) struct Hand {
    /// std's lock, since loom's would order the threads that look at the clock.
    time: Mutex<Timestamp>,
    /// Lets loom move each look at the clock before and after the moment at which time passes. Orders nothing.
    moves: loom::sync::atomic::AtomicBool,
}

impl Hand {
    pub(crate) fn new() -> Arc<Self> {
        let wall = SystemTime::UNIX_EPOCH + 1_000 * SECOND;
        let time = Mutex::new(Timestamp { boot: 50 * SECOND, wall });
        Arc::new(Self { time, moves: loom::sync::atomic::AtomicBool::new(false) })
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.moves.store(true, Ordering::Relaxed);
        let mut now = self.time.lock().unwrap();
        now.boot += time;
        now.wall += time;
    }

    /// A token of 100 s, which is near its end after 80.
    pub(crate) fn token(self: &Arc<Self>, secret: &str) -> Token {
        let clock: Arc<dyn Clock> = self.clone();
        Token::new(secret).with_lifetime(100 * SECOND).stamped(self.now(), &clock, SECOND, 100 * SECOND)
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        self.moves.load(Ordering::Relaxed);
        *self.time.lock().unwrap()
    }

    /// Always the same: readers use the shortest way that they have.
    fn pulse(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(1)
    }
}

/// A slot without a token.
pub(crate) fn slot(hand: &Arc<Hand>) -> Arc<Slot> {
    Arc::new(Slot::new(hand.clone()))
}

pub(crate) fn publish(slot: &Slot, token: &Token) {
    slot.publish(Some((token.clone(), Margins { ahead: 20 * SECOND, min_validity: 10 * SECOND })), &());
}

/// The token that a reader finds.
pub(crate) fn found(slot: &Slot) -> Option<Token> {
    slot.read().token
}

pub(crate) fn finds(slot: &Slot, token: &Token) -> bool {
    found(slot).is_some_and(|found| found.is_same(token))
}

/// A waker that counts.
#[derive(Debug, Default)]
pub(crate) struct Bell(AtomicUsize);

impl Bell {
    pub(crate) fn rung(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sits down in the lobby, and returns the round that was opened for that, if one was.
pub(crate) fn sit_down(lobby: &Arc<Lobby>, bell: &Arc<Bell>) -> (Wait, Option<Arc<Round>>) {
    let (mut wait, mut opened) = (Wait::new(Arc::clone(lobby)), None);
    let waker = Waker::from(Arc::clone(bell));
    let poll = wait.poll(&mut Context::from_waker(&waker), |round| opened = round);
    assert!(poll.is_pending());
    (wait, opened)
}
