//! The values that observers see of a slot that changes.

use std::sync::Arc;

use loom::future::block_on;
use loom::thread;

use crate::slot::TokenWatch;
use crate::stage::{Hand, finds, publish, seen, slot};

/// The actor publishes a token while a handle discards another one. An observer who looks after each change that it is
/// told of has seen the last token in the end. A change that is not told would leave the observer waiting for ever.
pub(super) fn an_observer_hears_of_the_last_change() {
    let hand = Hand::new();
    let (slot, token, next) = (slot(&hand), hand.token("abc"), hand.token("next"));
    publish(&slot, &token);
    let mut watch = TokenWatch::new(slot.clone());
    let observer = {
        let next = next.clone();
        thread::spawn(move || {
            let mut changes = 0;
            while !watch.current().is_some_and(|token| token.is_same(&next)) {
                block_on(watch.changed()).unwrap();
                changes += 1;
            }
            match changes {
                1 => seen("one change"),
                2 => seen("two changes"),
                _ => {}
            }
        })
    };
    let handle = {
        let slot = slot.clone();
        thread::spawn(move || slot.discard(&token, &()))
    };
    publish(&slot, &next);
    handle.join().unwrap();
    observer.join().unwrap();
    assert!(finds(&slot, &next));
}

/// The actor publishes a token and ends. An observer who looks after each change, until it is told that the actor has
/// ended, has last seen that there is no token.
pub(super) fn an_observer_who_hears_of_the_end_sees_no_token() {
    let hand = Hand::new();
    let slot = slot(&hand);
    let mut watch = TokenWatch::new(slot.clone());
    let observer = thread::spawn(move || {
        let (mut changes, mut last) = (0, watch.current());
        while let Ok(()) = block_on(watch.changed()) {
            last = watch.current();
            changes += 1;
        }
        assert!(last.is_none(), "the last thing that the observer saw is a token");
        match changes {
            1 => seen("one change"),
            2 => seen("two changes"),
            _ => {}
        }
    });
    publish(&slot, &hand.token("abc"));
    slot.close(&());
    observer.join().unwrap();
    assert!(Arc::strong_count(&slot) == 1);
}
