//! The window and the cell of one key.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::*;
use std::time::{Duration, SystemTime};

use crate::clock::{Clock, Timestamp};
use crate::policy::Margins;

const SECOND: Duration = Duration::from_secs(1);
const KEY: u32 = 7;

/// A clock that is set by hand.
#[derive(Debug)]
struct Hand(Mutex<Timestamp>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

struct Kept {
    hand: Arc<Hand>,
    cells: Cells<u32>,
    cell: Arc<Cell>,
}

/// A key with a token of 100 s, usable for 90 of them, and near its end from the 80th on.
fn kept() -> Kept {
    let wall = SystemTime::UNIX_EPOCH + 1_000 * SECOND;
    let hand = Arc::new(Hand(Mutex::new(Timestamp { boot: 50 * SECOND, wall })));
    let cells = Cells::new(hand.clone());
    let cell = cells.make(&KEY, 0);
    let kept = Kept { hand, cells, cell };
    kept.publish("abc", 100 * SECOND, 20 * SECOND, 10 * SECOND);
    kept
}

impl Kept {
    fn frame(&self) -> Frame<'_, u32> {
        Frame { cells: &self.cells, key: &KEY, cell: &self.cell }
    }

    fn publish(&self, secret: &str, life: Duration, ahead: Duration, min_validity: Duration) {
        let clock: Arc<dyn Clock> = self.hand.clone();
        let token = Token::new(secret).with_lifetime(life).stamped(self.hand.now(), &clock, SECOND, life);
        self.cell.slot.publish(Some((token, Margins { ahead, min_validity })), &self.frame());
    }

    fn pass(&self, boot: Duration, wall: Duration) {
        let mut now = self.hand.0.lock().unwrap();
        now.boot += boot;
        now.wall += wall;
    }

    /// The result of a read at a moment that is `old` ago.
    fn read(&self, old: Duration) -> Option<(String, bool)> {
        let mut now = self.hand.now();
        now.boot -= old;
        now.wall -= old;
        let windows = self.cells.windows();
        let read = windows.get(&KEY)?.read(now.into());
        read.token.map(|token| (token.secret().to_owned(), read.reports))
    }

    #[track_caller]
    fn assert_read(&self, expected: Option<&str>) {
        assert_eq!(self.read(Duration::ZERO).as_ref().map(|(secret, _)| &**secret), expected);
    }
}

#[test]
fn a_moment_that_is_old_is_enough_until_a_second_before_it_matters() {
    const OLD: Duration = Duration::from_millis(999);
    let kept = kept();
    let found = |reports| Some(("abc".to_owned(), reports));
    kept.pass(79 * SECOND, 79 * SECOND);
    assert_eq!(kept.read(OLD), found(false));
    kept.pass(SECOND, SECOND);
    assert_eq!(kept.read(OLD), found(true));
    assert_eq!(kept.read(OLD), found(false));
    kept.pass(10 * SECOND, 10 * SECOND);
    assert_eq!(kept.read(OLD), None);
}

#[test]
fn either_clock_ends_it() {
    for (boot, wall) in [(90, 0), (0, 90)] {
        let kept = kept();
        kept.pass(boot * SECOND, wall * SECOND);
        kept.assert_read(None);
    }
}

#[test]
fn what_is_withheld_or_discarded_is_not_found() {
    let kept = kept();
    let slot = &kept.cell.slot;
    slot.withhold(kept.hand.now().boot + SECOND, &kept.frame());
    kept.assert_read(None);
    slot.release(&kept.frame());
    kept.assert_read(Some("abc"));
    kept.cells.discard(&KEY, &Token::new("abc"));
    kept.assert_read(None);
    kept.publish("abc", 100 * SECOND, 20 * SECOND, 10 * SECOND);
    kept.assert_read(None);
    kept.publish("xyz", 100 * SECOND, 20 * SECOND, 10 * SECOND);
    kept.assert_read(Some("xyz"));
    assert_eq!(kept.cells.invalidate(&KEY, &Token::new("xyz")), Some(false));
    kept.assert_read(None);
    kept.cells.close(&KEY, &kept.cell);
    kept.assert_read(None);
    assert_eq!(kept.cells.invalidate(&KEY, &Token::new("xyz")), None, "the key has gone");
}

#[test]
fn what_was_discarded_before_its_key_was_made_is_not_found_once_it_is() {
    let mut kept = kept();
    kept.cells.remove(&KEY);
    kept.cells.discard(&KEY, &Token::new("bad"));
    kept.cell = kept.cells.make(&KEY, 1);
    kept.publish("bad", 100 * SECOND, 20 * SECOND, 10 * SECOND);
    kept.assert_read(None);
    kept.publish("good", 100 * SECOND, 20 * SECOND, 10 * SECOND);
    kept.assert_read(Some("good"));
}

#[test]
fn what_was_discarded_is_remembered_after_its_key_has_gone() {
    let mut kept = kept();
    let is_discarded = |kept: &Kept| kept.cells.is_discarded(&KEY, &Token::new("abc"));
    assert!(!is_discarded(&kept));
    kept.cells.discard(&KEY, &Token::new("abc"));
    for entry in 1..4 {
        kept.cells.close(&KEY, &kept.cell);
        assert!(is_discarded(&kept), "the key is not kept");
        kept.cell = kept.cells.make(&KEY, entry);
        assert!(is_discarded(&kept), "the key is kept again");
        kept.publish("abc", 100 * SECOND, 20 * SECOND, 10 * SECOND);
        kept.assert_read(None);
    }
}

#[test]
fn a_key_that_has_come_back_is_not_shown_what_its_old_cell_says() {
    let mut kept = kept();
    let old = Arc::clone(&kept.cell);
    kept.cells.remove(&KEY);
    kept.cell = kept.cells.make(&KEY, 1);
    kept.publish("new", 100 * SECOND, 20 * SECOND, 10 * SECOND);
    let frame = Frame { cells: &kept.cells, key: &KEY, cell: &old };
    old.slot.discard(&Token::new("abc"), &frame);
    kept.assert_read(Some("new"));
    old.slot.close(&frame);
    kept.assert_read(Some("new"));
}

#[test]
fn another_window_is_as_much_used_as_the_one_before() {
    let kept = kept();
    assert!(kept.cells.was_used(&KEY, Window::SINCE_HAND));
    kept.publish("xyz", 100 * SECOND, 20 * SECOND, 10 * SECOND);
    assert!(!kept.cells.was_used(&KEY, Window::SINCE_HAND));
    assert!(kept.cells.was_used(&KEY, Window::SINCE_SWEEP));
    kept.cells.read(&KEY);
    assert!(kept.cells.was_used(&KEY, Window::SINCE_HAND) && kept.cells.was_used(&KEY, Window::SINCE_SWEEP));
}

/// Readers read at a moment when one token is calm and the other is over. None of them gets the other one.
#[test]
fn a_reader_never_takes_a_new_token_for_as_good_as_the_old_one() {
    let kept = kept();
    let begun = kept.hand.now();
    kept.pass(50 * SECOND, 50 * SECOND);
    let late = kept.hand.now();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (kept, done) = (&kept, &done);
        let readers = [(); 2].map(|()| {
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let windows = kept.cells.windows();
                    if let Some(token) = windows.get(&KEY).and_then(|window| window.read(late.into()).token) {
                        assert_ne!(token.secret(), "short");
                    }
                }
            })
        });
        let clock: Arc<dyn Clock> = kept.hand.clone();
        for _ in 0..20_000 {
            for (secret, life) in [("long", 100 * SECOND), ("short", 10 * SECOND)] {
                let token = Token::new(secret).with_lifetime(life).stamped(begun, &clock, SECOND, life);
                let margins = Margins { ahead: Duration::ZERO, min_validity: Duration::ZERO };
                kept.cell.slot.publish(Some((token, margins)), &kept.frame());
            }
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// A token is discarded while readers read. No reader that begins afterwards gets it.
#[test]
fn nobody_who_reads_after_a_discard_gets_the_token() {
    for round in 0..200 {
        let kept = kept();
        let gone = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (kept, gone) = (&kept, &gone);
            scope.spawn(move || {
                for _ in 0..500 {
                    let is_gone = gone.load(Ordering::Acquire);
                    assert!(!is_gone || kept.read(Duration::ZERO).is_none(), "round {round}");
                }
            });
            scope.spawn(move || kept.publish("abc", 100 * SECOND, 20 * SECOND, 10 * SECOND));
            kept.cells.discard(&KEY, &Token::new("abc"));
            gone.store(true, Ordering::Release);
        });
        kept.assert_read(None);
    }
}
