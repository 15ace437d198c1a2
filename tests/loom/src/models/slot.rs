//! Handles report a token, while the actor publishes and reads the reports.

use std::sync::Arc;

use loom::thread;

use crate::slot::{Report, Slot, TokenWatch};
use crate::stage::{Hand, SECOND, finds, found, publish, seen, slot};
use crate::sync::{AtomicBool, Ordering};

/// A handle invalidates the token in use while the actor publishes the same secret and releases the slot. After
/// `invalidate` has returned, nobody reads the token until the actor has taken the report and has decided.
pub(super) fn a_publication_does_not_cross_a_report() {
    let hand = Hand::new();
    let (slot, token) = (slot(&hand), hand.token("abc"));
    publish(&slot, &token);
    assert!(finds(&slot, &token));
    // loom's, or loom would not try a read before and after it. Relaxed: it must not order what the slot does not.
    let decided = Arc::new(AtomicBool::new(false));
    let handle = {
        let (slot, token, decided) = (slot.clone(), token.clone(), decided.clone());
        thread::spawn(move || {
            assert!(!slot.invalidate(&token, &()), "this report is the first");
            if found(&slot).is_some() {
                assert!(decided.load(Ordering::Relaxed), "read between the report and the decision");
                seen("found after the decision");
            } else {
                seen("withheld");
            }
        })
    };
    if found(&slot).is_some() {
        seen("found before the decision");
    }
    publish(&slot, &hand.token("abc"));
    slot.release(&());
    if !slot.take_reports().is_empty() {
        decided.store(true, Ordering::Relaxed);
        slot.release(&());
        assert!(finds(&slot, &token));
    }
    handle.join().unwrap();
    if !decided.load(Ordering::Relaxed) {
        assert!(found(&slot).is_none());
        assert_eq!(slot.take_reports().len(), 1);
        slot.release(&());
    }
    assert!(finds(&slot, &token));
}

/// A handle discards a token while the actor publishes its secret. After `discard` has returned, neither the handle nor
/// a thread that has heard of it reads the token, whatever the actor publishes and releases.
pub(super) fn a_publication_does_not_undo_a_discard() {
    let hand = Hand::new();
    let (slot, token) = (slot(&hand), hand.token("abc"));
    let told = Arc::new(AtomicBool::new(false));
    let handle = {
        let (slot, token, told) = (slot.clone(), token.clone(), told.clone());
        thread::spawn(move || {
            let was_there = found(&slot).is_some();
            slot.discard(&token, &());
            told.store(true, Ordering::Release);
            assert!(found(&slot).is_none(), "read after the discard");
            assert!(slot.is_discarded(&token));
            seen(if was_there { "published before" } else { "published after" });
        })
    };
    let reader = {
        let (slot, told) = (slot.clone(), told.clone());
        thread::spawn(move || {
            if told.load(Ordering::Acquire) {
                assert!(found(&slot).is_none(), "read after the discard");
            }
        })
    };
    publish(&slot, &hand.token("abc"));
    slot.take_reports();
    slot.release(&());
    handle.join().unwrap();
    reader.join().unwrap();
    assert!(found(&slot).is_none() && TokenWatch::new(slot).current().is_none());
}

/// Two handles report, and the second one sends a message. The actor takes each report once, and has the second one
/// before it handles the message.
pub(super) fn each_report_is_taken_once_and_in_time() {
    let hand = Hand::new();
    let (slot, token) = (slot(&hand), hand.token("abc"));
    publish(&slot, &token);
    let first = {
        let (slot, token) = (slot.clone(), token.clone());
        thread::spawn(move || assert!(!slot.invalidate(&token, &())))
    };
    let mailbox = Arc::new(AtomicBool::new(false));
    let second = {
        let (slot, mailbox, other) = (slot.clone(), mailbox.clone(), hand.token("xyz"));
        thread::spawn(move || {
            slot.discard(&other, &());
            mailbox.store(true, Ordering::Release);
        })
    };
    let mut taken = Vec::new();
    for _ in 0..2 {
        let message = mailbox.load(Ordering::Acquire);
        let before = discards(&taken);
        taken.extend(slot.take_reports());
        if message {
            assert_eq!(discards(&taken), 1, "a message overtook its report");
            seen(if before == 1 { "taken early" } else { "taken in time" });
        }
    }
    if discards(&taken) == 0 {
        seen("taken late");
    }
    first.join().unwrap();
    second.join().unwrap();
    taken.extend(slot.take_reports());
    assert_eq!((taken.len(), discards(&taken)), (2, 1), "each once");
}

fn discards(reports: &[Report]) -> usize {
    reports.iter().filter(|report| matches!(report, Report::Discard(_))).count()
}

/// One handle discards the token in use and another one invalidates it, while the actor publishes the next. In the end
/// readers and observers have the next token, and the actor knows of the discard.
pub(super) fn two_reports_and_a_publication_agree() {
    let hand = Hand::new();
    let (slot, token, next) = (slot(&hand), hand.token("abc"), hand.token("next"));
    publish(&slot, &token);
    let by_name = Arc::new(AtomicBool::new(false));
    let one = {
        let (slot, token) = (slot.clone(), token.clone());
        thread::spawn(move || slot.discard(&token, &()))
    };
    let other = {
        let (slot, token, by_name) = (slot.clone(), token.clone(), by_name.clone());
        thread::spawn(move || by_name.store(slot.invalidate(&token, &()), Ordering::Relaxed))
    };
    // The source brings the discarded secret once more, then another one.
    publish(&slot, &hand.token("abc"));
    publish(&slot, &next);
    one.join().unwrap();
    other.join().unwrap();
    assert!(finds(&slot, &next));
    let watch = TokenWatch::new(slot.clone());
    assert!(watch.current().is_some_and(|shown| shown.is_same(&next)));
    let reports = slot.take_reports();
    assert_eq!(discards(&reports), 1);
    let by_name = by_name.load(Ordering::Relaxed);
    assert_eq!(reports.len(), if by_name { 1 } else { 2 }, "told by name or laid on the desk, not both");
    seen(if by_name { "reported by name" } else { "laid on the desk" });
}

/// A handle invalidates the token while the actor says when readers may report again that the end is near. They may,
/// whichever came first.
pub(super) fn a_report_does_not_silence_readers() {
    use crate::clock::Clock;
    let hand = Hand::new();
    let (slot, token) = (slot(&hand), hand.token("abc"));
    publish(&slot, &token);
    hand.pass(80 * SECOND);
    assert!(reader_reports(&slot), "this reader reports");
    let handle = {
        let (slot, token) = (slot.clone(), token.clone());
        thread::spawn(move || assert!(!slot.invalidate(&token, &())))
    };
    slot.quiet_until(hand.now().boot);
    let came_first = !slot.take_reports().is_empty();
    handle.join().unwrap();
    slot.take_reports();
    slot.release(&());
    assert!(reader_reports(&slot), "no reader reports any more");
    seen(if came_first { "the report came first" } else { "the report came last" });
}

/// Whether a reader finds the token, and is the one to report that its end is near.
fn reader_reports(slot: &Slot) -> bool {
    let read = slot.read();
    read.token.is_some() && read.reports
}
