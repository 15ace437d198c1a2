//! Callers join, leave and move, while the actor ends their round.

use std::future::poll_fn;
use std::sync::Arc;

use loom::future::block_on;
use loom::sync::mpsc::{Sender, channel};
use loom::thread;

use crate::clock::Clock;
use crate::flight::Outcome;
use crate::lobby::{Lobby, Round, Wait};
use crate::stage::{Bell, Hand, SECOND, seen, sit_down};
use crate::sync::{AtomicUsize, Ordering};

/// What the actor receives.
enum Message {
    /// A round was opened.
    Join(Arc<Round>),
    /// A caller has its answer.
    Answered(Outcome),
}

fn lobby(hand: &Arc<Hand>) -> Arc<Lobby> {
    Arc::new(Lobby::new(hand.clone(), SECOND, 10))
}

/// A caller waits to the end, on a thread of its own.
fn wait_for_the_outcome(mut wait: Wait, mail: Sender<Message>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let announce = |round: Option<_>| {
            round.into_iter().for_each(|round| mail.send(Message::Join(round)).unwrap());
        };
        let outcome = block_on(poll_fn(|cx| wait.poll(cx, announce)));
        assert!(wait.is_standing());
        mail.send(Message::Answered(outcome)).unwrap();
    })
}

/// Nobody sits in the lobby, and no round is open in it.
#[track_caller]
fn assert_is_empty(lobby: &Lobby, hand: &Hand) {
    assert_eq!(lobby.waiters(), 0);
    assert_eq!(lobby.next_deadline(hand.now().boot), None);
}

/// Two callers sit down while the actor closes the round that the first of them has opened. Each is woken and gets one
/// outcome, and none that was decided before the caller came. A round is announced once, by the caller who opened it.
pub(super) fn two_sit_down_while_a_round_closes() {
    let hand = Hand::new();
    let lobby = lobby(&hand);
    let (mail, inbox) = channel();
    // Relaxed: it must not order what the lobby does not.
    let closed = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let (lobby, mail, closed) = (lobby.clone(), mail.clone(), closed.clone());
            thread::spawn(move || {
                let mut wait = Wait::new(lobby);
                let before = closed.load(Ordering::Relaxed);
                let announce = |round: Option<_>| {
                    round.into_iter().for_each(|round| mail.send(Message::Join(round)).unwrap());
                };
                let outcome = block_on(poll_fn(|cx| wait.poll(cx, announce)));
                let round: usize = outcome.as_ref().unwrap().secret().parse().unwrap();
                assert!(round > before, "the outcome of a round that was over");
                mail.send(Message::Answered(outcome)).unwrap();
            })
        })
        .collect();
    let (mut rounds, mut answers): (Vec<Arc<Round>>, _) = (Vec::new(), 0);
    while answers < 2 {
        match inbox.recv().unwrap() {
            Message::Join(round) => {
                assert!(!rounds.iter().any(|other| Arc::ptr_eq(other, &round)), "announced twice");
                rounds.push(round);
                let token = hand.token(&rounds.len().to_string());
                let ended = lobby.close(&rounds[rounds.len() - 1], &Ok(token));
                closed.store(rounds.len(), Ordering::Relaxed);
                drop(ended);
            }
            Message::Answered(_) => answers += 1,
        }
    }
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert!(inbox.try_recv().is_err(), "a round without anybody in it");
    assert_is_empty(&lobby, &hand);
    seen(if rounds.len() == 1 { "one round" } else { "two rounds" });
}

/// A caller leaves and another one moves to another task, while the actor closes their round. Who moves is woken where
/// it is now, and gets the outcome. Each is counted out once.
pub(super) fn one_leaves_and_one_moves_while_the_round_closes() {
    let hand = Hand::new();
    let lobby = lobby(&hand);
    let (bell, other_bell) = (Arc::new(Bell::default()), Arc::default());
    let (leaver, round) = sit_down(&lobby, &bell);
    let (mover, none) = sit_down(&lobby, &other_bell);
    assert!(none.is_none());
    let (mail, inbox) = channel();
    let mover = wait_for_the_outcome(mover, mail);
    let leaver = thread::spawn(move || drop(leaver));
    drop(lobby.close(&round.unwrap(), &Ok(hand.token("abc"))));
    assert!(matches!(inbox.recv(), Ok(Message::Answered(Ok(_)))));
    mover.join().unwrap();
    leaver.join().unwrap();
    assert!(inbox.try_recv().is_err());
    assert_is_empty(&lobby, &hand);
    seen(if bell.rung() == 0 { "left in time" } else { "left too late" });
}

/// The same, and before the actor closes the round, it sends those away whose time has run out. Who moves is woken, and
/// learns that its time is over, or what the outcome is. Each is counted out once.
pub(super) fn time_runs_out_while_one_leaves_and_one_moves() {
    let hand = Hand::new();
    let lobby = lobby(&hand);
    let (bell, other_bell) = (Arc::new(Bell::default()), Arc::default());
    let (leaver, round) = sit_down(&lobby, &bell);
    let (mover, none) = sit_down(&lobby, &other_bell);
    assert!(none.is_none());
    let (mail, inbox) = channel();
    let mover = wait_for_the_outcome(mover, mail);
    let leaver = thread::spawn(move || drop(leaver));
    hand.pass(SECOND);
    lobby.expire(hand.now().boot);
    drop(lobby.close(&round.unwrap(), &Ok(hand.token("abc"))));
    let Ok(Message::Answered(outcome)) = inbox.recv() else { panic!("a second round") };
    mover.join().unwrap();
    leaver.join().unwrap();
    assert!(inbox.try_recv().is_err());
    assert_is_empty(&lobby, &hand);
    assert_eq!(lobby.timeouts(), 1 + bell.rung() as u64, "who left in time did not wait too long");
    match outcome {
        Ok(_) => seen("answered"),
        Err(error) => {
            assert!(error.is_timeout());
            seen("timed out");
        }
    }
}

/// A caller's time runs out while another one sits down in the same round. Both are answered, once. The second one gets
/// an outcome, unless it came before the time passed.
pub(super) fn time_runs_out_while_one_sits_down() {
    let hand = Hand::new();
    let lobby = lobby(&hand);
    let bell = Arc::new(Bell::default());
    let (first, round) = sit_down(&lobby, &bell);
    let (mail, inbox) = channel();
    let start = hand.now().boot;
    let second = {
        let (hand, mut wait) = (hand.clone(), Wait::new(lobby.clone()));
        thread::spawn(move || {
            let is_late = hand.now().boot > start;
            let announce = |round: Option<_>| {
                round.into_iter().for_each(|round| mail.send(Message::Join(round)).unwrap());
            };
            let outcome = block_on(poll_fn(|cx| wait.poll(cx, announce)));
            assert!(outcome.is_ok() || !is_late, "its time is not over");
            mail.send(Message::Answered(outcome)).unwrap();
        })
    };
    hand.pass(SECOND);
    lobby.expire(hand.now().boot);
    drop(lobby.close(&round.unwrap(), &Ok(hand.token("abc"))));
    assert_eq!(bell.rung(), 1);
    let outcome = loop {
        match inbox.recv().unwrap() {
            Message::Join(round) => drop(lobby.close(&round, &Ok(hand.token("xyz")))),
            Message::Answered(outcome) => break outcome,
        }
    };
    second.join().unwrap();
    drop(first);
    assert!(inbox.try_recv().is_err());
    assert_is_empty(&lobby, &hand);
    match outcome {
        Ok(_) => seen("answered"),
        Err(error) => {
            assert!(error.is_timeout() && lobby.timeouts() == 2);
            seen("timed out");
        }
    }
}
