//! Random histories of eight keys in a registry that has room for four and makes two calls at once.

use std::cell::RefCell;
use std::rc::Rc;

use tokenflight::testing::Answer;
use tokenflight::{SourceError, Token};

use crate::support::*;

const KEYS: u32 = 8;

/// What came of a request.
#[derive(Default)]
struct Books {
    answers: usize,
}

fn some_answer(dice: &mut fastrand::Rng) -> Answer {
    match dice.u32(..10) {
        0 => transient(),
        1 => terminal(),
        2 => Answer::Hang,
        3 => Answer::Panic,
        4 => Answer::Error(SourceError::transient("slow down").with_retry_after(secs(2))),
        5 => token("repeated", secs(20)),
        _ => token(&format!("t{}", dice.u64(..)), secs(dice.u64(1..40))),
    }
}

#[allow(clippy::too_many_lines)]
async fn history(seed: u64) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let policy = plain().attempt_timeout(secs(2)).flight_timeout(secs(6)).wait_timeout(secs(5)).attempts(2);
    let busy = dice.usize(2..5);
    let rig =
        another(|builder| builder.policy(policy).max_keys(4).max_busy_keys(busy).max_calls(2).seed(seed));
    let (to, told) = Collector::begin();
    let books: Rc<RefCell<Books>> = Rc::default();
    let (mut asked, mut dropped, mut tickets) = (0, 0, Vec::new());
    let mut callers = Vec::new();
    let mut known: Vec<(u32, Token)> = Vec::new();
    for step in 0..60_u64 {
        let key = dice.u32(..KEYS);
        if dice.u8(..3) == 0 {
            rig.source.of(key).then(some_answer(&mut dice));
        }
        match dice.u32(..14) {
            0..=3 => {
                let (tokens, books) = (rig.tokens.clone(), Rc::clone(&books));
                asked += 1;
                callers.push(actix_rt::spawn(async move {
                    let answer = tokens.get(&key).await;
                    books.borrow_mut().answers += 1;
                    answer.ok().map(|token| (key, token))
                }));
            }
            4 => {
                let (tokens, books) = (rig.tokens.clone(), Rc::clone(&books));
                asked += 1;
                callers.push(actix_rt::spawn(async move {
                    let answer = tokens.refresh(&key).await;
                    books.borrow_mut().answers += 1;
                    answer.ok().map(|token| (key, token))
                }));
            }
            5 => {
                rig.tokens.subscribe(key, to.clone(), step);
                tickets.push((key, step));
            }
            6 if !known.is_empty() => {
                let (key, token) = known[dice.usize(..known.len())].clone();
                rig.tokens.invalidate(&key, &token);
            }
            7 if !known.is_empty() => {
                let (key, token) = known[dice.usize(..known.len())].clone();
                let (tokens, books) = (rig.tokens.clone(), Rc::clone(&books));
                asked += 1;
                callers.push(actix_rt::spawn(async move {
                    let answer = tokens.replace(&key, &token).await;
                    books.borrow_mut().answers += 1;
                    answer.ok().map(|token| (key, token))
                }));
            }
            8 if !known.is_empty() => {
                let (key, token) = known[dice.usize(..known.len())].clone();
                rig.tokens.discard(&key, &token);
                assert!(
                    rig.tokens.current(&key).is_none_or(|now| !now.is_same(&token)),
                    "history {seed}: a token that was just discarded is handed out"
                );
            }
            9 => drop(rig.tokens.remove(&key).await),
            10 if dice.u8(..4) == 0 => drop(rig.tokens.retain(move |kept| kept % 3 != key % 3).await),
            11 if !callers.is_empty() => {
                let caller: tokio::task::JoinHandle<_> = callers.swap_remove(dice.usize(..callers.len()));
                if !caller.is_finished() {
                    dropped += 1;
                }
                caller.abort();
            }
            12 => rig.clock.suspend(secs(dice.u64(..30))),
            _ => tokio::time::sleep(millis(dice.u64(..3_000))).await,
        }
        if dice.bool() {
            settle().await;
        }
        for key in 0..KEYS {
            let Some(token) = rig.tokens.current(&key) else { continue };
            assert!(!token.remaining().unwrap().is_zero(), "history {seed}: an expired token");
            known.push((key, token));
        }
        let totals = rig.tokens.totals().await.unwrap();
        assert!(totals.keys <= 4, "history {seed}: {totals:?}");
        assert!(totals.calls <= 2 && totals.busy_keys <= 4, "history {seed}: {totals:?}");
    }
    let ends_by_itself = dice.bool();
    if ends_by_itself {
        tokio::time::sleep(secs(60)).await;
        let totals = rig.tokens.totals().await.unwrap();
        let left = (totals.busy_keys, totals.waiters, totals.calls, totals.queued);
        assert_eq!(left, (0, 0, 0, 0), "history {seed}: {totals:?}");
    }
    rig.tokens.shutdown().await;
    settle().await;
    assert_eq!(rig.source.running(), 0, "history {seed}");
    let answers = books.borrow().answers;
    assert!((asked - dropped..=asked).contains(&answers), "history {seed}: {answers} answers to {asked}");
    assert!(callers.iter().all(tokio::task::JoinHandle::is_finished), "history {seed}");
    for (key, ticket) in tickets {
        assert_eq!(told.to(key, ticket).len(), 1, "history {seed}: ticket {ticket} of key {key}");
    }
    assert!(rig.source.most_at_once() <= 2, "history {seed}");
    for key in 0..KEYS {
        assert!(rig.source.of(key).most_at_once() <= 1, "history {seed}: key {key}");
    }
}

#[actix::test]
async fn whatever_happens_everybody_is_answered_once_and_all_limits_hold() {
    tokio::time::pause();
    for seed in 0..300 {
        history(seed).await;
    }
}
