//! The slot by itself.

use std::sync::Mutex;
use std::time::SystemTime;

use super::*;
use crate::clock::Timestamp;

/// A time that is set by hand, and a pulse, or 0 for none.
#[derive(Debug)]
struct Hand(Mutex<Timestamp>, AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn pulse(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.1.load(Ordering::Relaxed))
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// A token of 100 s, usable for 90 of them, and near its end from the 80th on.
fn slot() -> (Arc<Hand>, Slot) {
    let wall = SystemTime::UNIX_EPOCH + 1_000 * SECOND;
    let hand = Arc::new(Hand(Mutex::new(Timestamp { boot: 50 * SECOND, wall }), AtomicU64::new(0)));
    let slot = Slot::new(hand.clone());
    let clock: Arc<dyn Clock> = hand.clone();
    let token =
        Token::new("abc").with_lifetime(100 * SECOND).stamped(hand.now(), &clock, SECOND, 100 * SECOND);
    slot.publish(Some((token, Margins { ahead: 20 * SECOND, min_validity: 10 * SECOND })), &());
    (hand, slot)
}

fn publish(hand: &Arc<Hand>, slot: &Slot, secret: &str) {
    let clock: Arc<dyn Clock> = hand.clone();
    let token =
        Token::new(secret).with_lifetime(100 * SECOND).stamped(hand.now(), &clock, SECOND, 100 * SECOND);
    slot.publish(Some((token, Margins { ahead: 20 * SECOND, min_validity: 10 * SECOND })), &());
}

fn pass(hand: &Hand, time: Duration) {
    let mut now = hand.0.lock().unwrap();
    now.boot += time;
    now.wall += time;
}

#[track_caller]
fn assert_reports(slot: &Slot, expected: Option<bool>) {
    let read = slot.read();
    assert_eq!(read.token.map(|_| read.reports), expected);
}

#[test]
fn one_reader_reports_that_the_end_is_near() {
    let (hand, slot) = slot();
    assert_reports(&slot, Some(false));
    pass(&hand, Duration::new(79, 999_999_999));
    assert_reports(&slot, Some(false));
    pass(&hand, Duration::from_nanos(1));
    assert_reports(&slot, Some(true));
    assert_reports(&slot, Some(false));
    pass(&hand, 10 * SECOND);
    assert_reports(&slot, None);
}

#[test]
fn after_a_failure_the_next_report_waits_for_the_cooldown() {
    let (hand, slot) = slot();
    pass(&hand, 80 * SECOND);
    assert_reports(&slot, Some(true));
    slot.quiet_until(hand.now().boot + 3 * SECOND);
    assert_reports(&slot, Some(false));
    pass(&hand, Duration::new(2, 999_999_999));
    assert_reports(&slot, Some(false));
    pass(&hand, Duration::from_nanos(1));
    assert_reports(&slot, Some(true));
    assert_reports(&slot, Some(false));
}

#[test]
fn either_clock_alone_says_that_it_is_near_or_over() {
    for (time, expected) in [(80 * SECOND, Some(true)), (90 * SECOND, None)] {
        let (hand, slot) = slot();
        hand.0.lock().unwrap().boot += time;
        assert_reports(&slot, expected);
        let (hand, slot) = self::slot();
        hand.0.lock().unwrap().wall += time;
        assert_reports(&slot, expected);
    }
}

fn found(slot: &Slot) -> bool {
    slot.read().token.is_some()
}

#[test]
fn a_report_withholds_the_token_that_it_names_and_no_other() {
    let (hand, slot) = slot();
    assert!(slot.invalidate(&Token::new("another"), &()), "the actor is told by name");
    assert!(found(&slot) && slot.take_reports().is_empty());
    assert!(!slot.invalidate(&Token::new("abc"), &()));
    assert!(!found(&slot));
    assert!(slot.invalidate(&Token::new("abc"), &()), "a second report goes by a message");
    assert_eq!(slot.take_reports().len(), 1);
    pass(&hand, SECOND);
    assert!(found(&slot), "though the actor has said nothing");
}

#[test]
fn a_report_that_can_do_nothing_withholds_nothing() {
    let (hand, slot) = slot();
    slot.reports_from(hand.now().boot + SECOND);
    assert!(!slot.invalidate(&Token::new("abc"), &()));
    assert!(found(&slot));
    assert_eq!(slot.take_reports().len(), 1, "the actor hears of it");
    pass(&hand, SECOND);
    slot.invalidate(&Token::new("abc"), &());
    assert!(!found(&slot));
}

#[test]
fn a_publication_does_not_cross_a_report_of_the_same_secret() {
    let (hand, slot) = slot();
    slot.invalidate(&Token::new("abc"), &());
    publish(&hand, &slot, "abc");
    assert!(!found(&slot), "the report lies on the desk");
    slot.release(&());
    assert!(!found(&slot));
    slot.take_reports();
    slot.release(&());
    assert!(found(&slot));
    slot.invalidate(&Token::new("abc"), &());
    publish(&hand, &slot, "another");
    assert!(found(&slot));
    slot.discard(&Token::new("third"), &());
    publish(&hand, &slot, "third");
    assert!(!found(&slot));
}

#[test]
fn a_discarded_token_is_gone_at_once_and_observers_see_it() {
    let (_, slot) = slot();
    let slot = Arc::new(slot);
    let watch = TokenWatch::new(Arc::clone(&slot));
    slot.discard(&Token::new("another"), &());
    assert!(found(&slot) && watch.current().is_some());
    slot.discard(&Token::new("abc"), &());
    assert!(!found(&slot) && watch.current().is_none());
    assert!(slot.is_discarded(&Token::new("abc")));
}

#[test]
fn a_report_is_laid_once_and_none_is_laid_after_the_end() {
    let (_, slot) = slot();
    let discard = |secret: &str| slot.discard(&Token::new(secret), &());
    ["another", "another", "third", "another"].into_iter().for_each(discard);
    assert_eq!(slot.take_reports().len(), 2);
    discard("another");
    assert_eq!(slot.take_reports().len(), 1, "the actor hears of it again");
    slot.close(&());
    discard("fourth");
    assert!(!slot.has_reports() && slot.take_reports().is_empty());
    assert!(slot.is_discarded(&Token::new("fourth")), "who waited is not given it");
}

#[test]
fn what_readers_have_reported_survives_a_report() {
    let (hand, slot) = slot();
    pass(&hand, 80 * SECOND);
    assert_reports(&slot, Some(true));
    slot.withhold(hand.now().boot + SECOND, &());
    assert_reports(&slot, None);
    slot.release(&());
    assert_reports(&slot, Some(false));
}

#[test]
fn the_actor_is_told_that_reports_lie_on_the_desk() {
    let (_, slot) = slot();
    assert!(!slot.has_reports());
    slot.invalidate(&Token::new("abc"), &());
    assert!(slot.has_reports());
    slot.take_reports();
    assert!(!slot.has_reports());
}

#[test]
fn a_report_does_not_shorten_what_the_actor_withholds() {
    let (hand, slot) = slot();
    slot.withhold(hand.now().boot + 5 * SECOND, &());
    slot.invalidate(&Token::new("abc"), &());
    pass(&hand, Duration::new(4, 999_999_999));
    assert!(!found(&slot));
    pass(&hand, Duration::from_nanos(1));
    assert!(found(&slot));
}

#[test]
fn a_report_after_the_token_was_withheld_withholds_it_anew() {
    let (hand, slot) = slot();
    slot.withhold(hand.now().boot + SECOND, &());
    pass(&hand, SECOND);
    assert!(found(&slot));
    slot.invalidate(&Token::new("abc"), &());
    assert!(!found(&slot));
}

/// A pulse lasts less than a second. Here it lasts longer, so that the test can see whether the exact time was
/// read.
#[test]
fn only_a_token_that_lasts_a_second_by_both_clocks_is_read_without_the_time() {
    /// How long the token of `slot()` is usable.
    const USABLE: Duration = Duration::from_secs(90);
    /// One second before that, and a little earlier.
    const EXACT: Duration = Duration::from_secs(89);
    const BEFORE: Duration = Duration::new(88, 999_999_999);
    const LAST: Duration = Duration::new(89, 999_999_999);
    for (boot, wall, is_trusted) in [
        (Duration::ZERO, Duration::ZERO, true),
        (BEFORE, Duration::ZERO, true),
        (EXACT, Duration::ZERO, false),
        (Duration::ZERO, BEFORE, true),
        (Duration::ZERO, EXACT, false),
        (LAST, Duration::ZERO, false),
        (Duration::ZERO, LAST, false),
    ] {
        let (hand, slot) = slot();
        hand.1.store(7, Ordering::Relaxed);
        {
            let mut now = hand.0.lock().unwrap();
            now.boot += boot;
            now.wall += wall;
        }
        assert!(found(&slot), "{boot:?} {wall:?}");
        pass(&hand, 2 * USABLE);
        assert_eq!(found(&slot), is_trusted, "{boot:?} {wall:?}");
        hand.1.store(8, Ordering::Relaxed);
        assert!(!found(&slot), "another pulse");
    }
}

#[test]
fn of_many_discarded_tokens_each_is_remembered_and_no_other_token_is_one() {
    let (_, slot) = slot();
    let secrets: Vec<String> = (0..1_024).map(|number| number.to_string()).collect();
    for secret in &secrets {
        slot.discard(&Token::new(secret.as_str()), &());
    }
    assert!(secrets.iter().all(|secret| slot.is_discarded(&Token::new(secret.as_str()))));
    assert!(!slot.is_discarded(&Token::new("abc")));
    slot.discard(&Token::new("one more"), &());
    assert!(slot.is_discarded(&Token::new("one more")) && slot.is_discarded(&Token::new("1")));
    assert!(!slot.is_discarded(&Token::new("0")), "the oldest makes room");
}

#[test]
fn observers_hear_of_changes_only() {
    let (hand, slot) = slot();
    let mut observer = slot.observers.subscribe();
    let mut heard = || {
        let changed = observer.has_changed().unwrap();
        observer.mark_unchanged();
        changed
    };
    publish(&hand, &slot, "abc");
    assert!(!heard());
    slot.publish(None, &());
    assert!(heard());
    slot.publish(None, &());
    assert!(!heard());
}

#[cfg(feature = "registry")]
#[test]
fn one_token_among_many_is_calm_until_a_second_before_its_end_is_near_and_never_while_it_is_withheld() {
    let (hand, _) = slot();
    let clock: Arc<dyn Clock> = hand.clone();
    let token =
        Token::new("abc").with_lifetime(100 * SECOND).stamped(hand.now(), &clock, SECOND, 100 * SECOND);
    let margins = Margins { ahead: 20 * SECOND, min_validity: 10 * SECOND };
    let calm = Published::<Single>::new(&token, margins, None).calm().expect("it is not withheld");
    assert!(calm.token.is_same(&token));
    assert_eq!((calm.boot, calm.wall), (nanos((50 + 79) * SECOND), nanos((1_000 + 79) * SECOND)));
    assert!(Published::<Single>::new(&token, margins, Some(SECOND)).calm().is_none());
}
