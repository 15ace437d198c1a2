//! The start and the end of a registry: all waiters are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_rt::{Arbiter, System};
use tokenflight::clock::{Clock, Timestamp};
use tokenflight::registry::TokenRegistry;
use tokenflight::source::KeyedSource;
use tokenflight::testing::ManualClock;
use tokenflight::{FetchContext, SourceError, Token};

use crate::support::*;

#[actix::test]
async fn keys_that_are_removed_together_begin_no_call() {
    let rig = rig_with(|builder| builder.max_calls(1));
    rig.source.of(1).hold();
    let callers: Vec<_> = (1..10).map(|key| rig.asks(key)).collect();
    settle().await;
    assert_eq!(rig.tokens.retain(|_| false).await, 9);
    for caller in callers {
        assert!(caller.await.unwrap().is_err());
    }
    assert_eq!(rig.tokens.totals().await.unwrap().counters.attempts, 1);
}

#[actix::test]
async fn a_shutdown_answers_who_waits_for_a_call_and_who_waits_at_the_gate() {
    let rig = rig_with(|builder| builder.max_calls(1));
    let (to, told) = Collector::begin();
    rig.source.of(1).hold();
    let callers: Vec<_> = (1..9).map(|key| rig.asks(key)).collect();
    rig.tokens.subscribe(1, to.clone(), 1);
    rig.tokens.subscribe(7, to, 1);
    settle().await;
    let (first, second) = (rig.tokens.clone(), rig.tokens.clone());
    tokio::join!(first.shutdown(), second.shutdown());
    for caller in callers {
        assert!(caller.await.unwrap().unwrap_err().is_stopped());
    }
    settle().await;
    assert!(told.to(1, 1)[0].is_err() && told.to(7, 1)[0].is_err());
    assert_eq!((told.total(), rig.source.running()), (2, 0));
    rig.tokens.shutdown().await;
    assert!(rig.tokens.get(&1).await.unwrap_err().is_stopped());
    assert!(rig.tokens.status(&1).await.unwrap_err().is_stopped());
    assert!(rig.tokens.totals().await.unwrap_err().is_stopped());
    assert!(!rig.tokens.remove(&1).await);
    assert!(rig.tokens.is_empty());
}

/// A source that holds this, and whose calls take so long.
fn holding(alive: &Arc<()>, takes: Duration) -> impl KeyedSource<u32> + use<> {
    let held = Arc::clone(alive);
    move |_: u32, _: FetchContext| {
        let held = Arc::clone(&held);
        async move {
            tokio::time::sleep(takes).await;
            drop(held);
            Ok::<_, SourceError>(Token::new("a"))
        }
    }
}

#[actix::test]
async fn the_last_clone_goes_and_who_waits_gets_the_answer_and_then_the_source_goes() {
    tokio::time::pause();
    let alive = Arc::new(());
    let source = holding(&alive, millis(60));
    let tokens = TokenRegistry::builder(source).clock(ManualClock::new()).start().unwrap();
    let waiting = actix_rt::spawn(tokens.get(&1));
    settle().await;
    drop(tokens);
    assert_eq!(waiting.await.unwrap().unwrap().secret(), "a");
    settle().await;
    assert_eq!(Arc::strong_count(&alive), 1, "the shard has ended");
}

#[actix::test]
async fn the_last_clone_goes_while_nobody_waits_and_the_shards_end() {
    tokio::time::pause();
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let source = move |_: u32, _: FetchContext| {
        let held = Arc::clone(&held);
        async move {
            drop(held);
            Ok::<_, SourceError>(Token::new("a"))
        }
    };
    let tokens = TokenRegistry::builder(source).clock(ManualClock::new()).start().unwrap();
    tokens.get(&1).await.unwrap();
    drop(tokens);
    settle().await;
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[actix::test]
async fn a_registry_that_is_only_a_call_is_enough() {
    let source = |_: u32, _: FetchContext| async { Ok(Token::new("a")) };
    let get = TokenRegistry::builder(source).clock(ManualClock::new()).start().unwrap().get(&1);
    assert!(get.await.is_ok());
}

#[test]
fn a_thread_of_its_own_serves_plain_threads() {
    let source = |key: u32, _: FetchContext| async move { Ok(Token::new(key.to_string())) };
    let tokens = TokenRegistry::builder(source).spawn_thread().unwrap();
    let threads: Vec<_> = (0..4)
        .map(|key: u32| {
            let tokens = tokens.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(tokens.get(&key)).unwrap()
            })
        })
        .collect();
    for (key, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().unwrap().secret(), key.to_string());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(tokens.shutdown());
}

#[test]
fn without_an_arbiter_the_error_says_so() {
    let source = |_: u32, _: FetchContext| async { Ok(Token::new("a")) };
    assert_eq!(TokenRegistry::builder(source).start().unwrap_err().field(), "arbiter");
}

/// One arbiter stops with a call under way. Its keys are stopped; the slot, and the room, are for the others.
#[test]
fn a_shard_that_stops_leaves_its_slots_and_its_room_to_the_others() {
    System::new().block_on(async {
        let arbiters: Vec<_> = (0..2).map(|_| Arbiter::new()).collect();
        let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
        let called_on = Arc::new(std::sync::Mutex::new(None));
        let noted = Arc::clone(&called_on);
        let source = move |key: u32, _: FetchContext| {
            *noted.lock().unwrap() = Some(std::thread::current().id());
            async move {
                if key < 1_000 {
                    std::future::pending::<()>().await;
                }
                Ok(Token::new("a"))
            }
        };
        let (tell, thread) = tokio::sync::oneshot::channel();
        arbiters[0].spawn_fn(move || tell.send(std::thread::current().id()).unwrap());
        let first_thread = thread.await.unwrap();
        let builder = TokenRegistry::builder(source).max_calls(1).max_keys(100).max_busy_keys(100);
        let tokens = builder.policy(plain().wait_timeout(HOUR)).start_on(&handles).unwrap();
        // Which key belongs to which shard, nobody knows: the hash is random.
        let mut hanging = None;
        for key in 0..1_000 {
            let asks = tokio::spawn(tokens.get(&key));
            while called_on.lock().unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            if called_on.lock().unwrap().take() == Some(first_thread) {
                hanging = Some(asks);
                break;
            }
            assert!(tokens.remove(&key).await);
        }
        let hanging = hanging.unwrap();
        // Somebody of each shard waits at the gate.
        let waiting: Vec<_> = (1_000..1_020).map(|key| tokio::spawn(tokens.get(&key))).collect();
        while tokens.totals().await.unwrap().queued < 20 {
            tokio::task::yield_now().await;
        }
        let (mut arbiters, mut stopped) = (arbiters, Vec::new());
        let first = arbiters.remove(0);
        first.stop();
        first.join().unwrap();
        assert!(hanging.await.unwrap().unwrap_err().is_stopped());
        let mut served = 0;
        for caller in waiting {
            match tokio::time::timeout(secs(10), caller).await.expect("an answer is missing").unwrap() {
                Ok(_) => served += 1,
                Err(error) => stopped.push(error),
            }
        }
        assert!(stopped.iter().all(tokenflight::TokenError::is_stopped), "{stopped:?}");
        assert!(served > 0, "the other shard goes on");
        assert_eq!(tokens.len(), served, "the keys of the shard that has stopped take no room");
        arbiters.remove(0).stop();
    });
}

/// A source that notes how many of its calls run when it is asked to come to its end.
#[derive(Clone, Default)]
struct Ending(Arc<std::sync::Mutex<(usize, Option<usize>)>>, FirstThread);

/// The thread of the test, and of the first shard.
#[derive(Clone, Copy)]
struct FirstThread(std::thread::ThreadId);

impl Default for FirstThread {
    fn default() -> Self {
        Self(std::thread::current().id())
    }
}

struct Running(Ending, std::thread::ThreadId);

impl Drop for Running {
    /// Takes long on other threads than the first shard's, so that their shards are not done before it.
    fn drop(&mut self) {
        if std::thread::current().id() != self.1 {
            std::thread::sleep(millis(40));
        }
        self.0.0.lock().unwrap().0 -= 1;
    }
}

impl tokenflight::source::KeyedSource<u32> for Ending {
    async fn fetch(&self, _: &u32, _: FetchContext) -> Result<Token, SourceError> {
        self.0.lock().unwrap().0 += 1;
        let _running = Running(self.clone(), self.1.0);
        std::future::pending().await
    }

    async fn finish(&self) {
        let mut ending = self.0.lock().unwrap();
        ending.1 = Some(ending.0);
    }
}

/// A registry on two arbiters of which the first has stopped, and the second.
fn without_the_first_arbiter(source: &Ending) -> (TokenRegistry<u32>, Arbiter) {
    let [first, second] = [Arbiter::new(), Arbiter::new()];
    let arbiters = [first.handle(), second.handle()];
    let tokens = TokenRegistry::builder(source.clone()).start_on(&arbiters).unwrap();
    first.stop();
    first.join().unwrap();
    (tokens, second)
}

#[actix::test]
async fn a_source_comes_to_its_end_though_the_first_arbiter_has_stopped() {
    let source = Ending::default();
    let (tokens, second) = without_the_first_arbiter(&source);
    tokens.shutdown().await;
    assert_eq!(source.0.lock().unwrap().1.take(), Some(0), "it was asked to end");
    tokens.shutdown().await;
    assert_eq!(source.0.lock().unwrap().1, None, "and only once");
    second.stop();
    second.join().unwrap();
}

#[actix::test]
async fn a_source_comes_to_its_end_in_a_runtime_without_timers() {
    let source = Ending::default();
    let (tokens, second) = without_the_first_arbiter(&source);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(tokens.shutdown());
    });
    thread.join().unwrap();
    assert_eq!(source.0.lock().unwrap().1, Some(0), "it was asked to end");
    second.stop();
    second.join().unwrap();
}

/// A source that takes a while to end. It notes how often it began to, and how often it has.
#[derive(Clone, Default)]
struct Parting(Arc<std::sync::Mutex<(usize, usize)>>);

impl KeyedSource<u32> for Parting {
    async fn fetch(&self, _: &u32, _: FetchContext) -> Result<Token, SourceError> {
        Ok(Token::new("a"))
    }

    async fn finish(&self) {
        self.0.lock().unwrap().0 += 1;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        self.0.lock().unwrap().1 += 1;
    }
}

#[actix::test]
async fn a_source_comes_to_its_end_once_and_every_shutdown_waits_for_it() {
    let source = Parting::default();
    let [first, second] = [Arbiter::new(), Arbiter::new()];
    let arbiters = [first.handle(), second.handle()];
    let tokens = TokenRegistry::builder(source.clone()).start_on(&arbiters).unwrap();
    first.stop();
    first.join().unwrap();
    let shutdown = async || {
        tokens.shutdown().await;
        assert_eq!(*source.0.lock().unwrap(), (1, 1));
    };
    tokio::join!(shutdown(), shutdown(), shutdown());
    second.stop();
    second.join().unwrap();
}

#[actix::test]
async fn a_source_comes_to_its_end_after_the_calls_of_all_shards() {
    let source = Ending::default();
    let threads = [Arbiter::new(), Arbiter::new()];
    let arbiters = [Arbiter::current(), threads[0].handle(), threads[1].handle()];
    let tokens = TokenRegistry::builder(source.clone()).start_on(&arbiters).unwrap();
    let waiting: Vec<_> = (0..16).map(|key| actix_rt::spawn(tokens.get(&key))).collect();
    while source.0.lock().unwrap().0 < 16 {
        tokio::task::yield_now().await;
    }
    tokens.shutdown().await;
    assert_eq!(source.0.lock().unwrap().1, Some(0), "calls that ran when the source was asked to end");
    assert!(threads.iter().all(Arbiter::stop));
    for caller in waiting {
        assert!(caller.await.unwrap().unwrap_err().is_stopped());
    }
}

/// In real time, because an arbiter is blocked.
#[actix::test]
async fn while_an_arbiter_is_blocked_a_caller_of_another_shard_without_a_seat_is_told_so() {
    let here = std::thread::current().id();
    let keys_of_here = Arc::new(std::sync::Mutex::new([Vec::new(), Vec::new()]));
    let noted = Arc::clone(&keys_of_here);
    let source = move |key: u32, _: FetchContext| {
        let is_here = std::thread::current().id() == here;
        noted.lock().unwrap()[usize::from(is_here)].push(key);
        std::future::ready(Ok(Token::new("a")))
    };
    let other = Arbiter::new();
    let builder = TokenRegistry::builder(source).max_waiters(4);
    let tokens = builder.start_on([&other.handle(), &Arbiter::current()]).unwrap();
    for key in 0..64 {
        assert!(tokens.get(&key).await.is_ok());
    }
    assert_eq!(tokens.retain(|_| false).await, 64);
    let [of_other, of_here] = keys_of_here.lock().unwrap().clone();

    let (began, has_begun) = tokio::sync::oneshot::channel();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    other.spawn_fn(move || {
        began.send(()).unwrap();
        let _ = ends.recv();
    });
    has_begun.await.unwrap();
    for key in &of_other[..4] {
        let mut goes = tokens.get(key);
        assert!(begins(&mut goes).await, "it has a seat");
    }
    let asked = tokio::time::timeout(secs(20), tokens.get(&of_here[0])).await;
    assert!(asked.expect("an outcome in time").unwrap_err().is_overloaded());

    drop(end);
    let served = async {
        while tokens.get(&of_here[0]).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(secs(20), served).await.expect("the seats are free");
    other.stop();
    other.join().unwrap();
}

/// The shard that has nothing to do ends when the last one is done, and not at its next look at the clock.
#[actix::test]
async fn all_shards_end_with_the_last_call() {
    tokio::time::pause();
    let alive = Arc::new(());
    let source = holding(&alive, secs(5));
    let arbiters = [Arbiter::current(), Arbiter::current()];
    let builder = TokenRegistry::builder(source).clock(ManualClock::new());
    let tokens = builder.start_on(&arbiters).unwrap();
    let get = actix_rt::spawn(tokens.get(&1));
    settle().await;
    drop(tokens);
    assert!(get.await.unwrap().is_ok());
    tokio::time::sleep(secs(1)).await;
    assert_eq!(Arc::strong_count(&alive), 1, "no shard holds the source any more");
}

#[actix::test]
async fn the_last_clone_goes_and_a_message_behind_a_thousand_others_is_answered() {
    let Rig { tokens, source, .. } = rig();
    let (to, told) = Collector::begin();
    // None of them makes a key busy.
    let asked: Vec<_> = (0..3_000).map(|_| Box::pin(tokens.remove(&9))).collect();
    for mut removal in asked {
        assert!(begins(&mut removal).await);
    }
    tokens.subscribe(1, to, 0);
    drop(tokens);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(told.to(1, 0)[0].as_ref().unwrap().secret(), "token-1");
    assert_eq!(source.calls(), 1);
}

/// A clock that panics once, when it is told to.
#[derive(Clone, Debug, Default)]
struct Faulty(ManualClock, Arc<AtomicBool>);

impl Clock for Faulty {
    fn now(&self) -> Timestamp {
        assert!(!self.1.swap(false, Ordering::Relaxed), "the test's clock panics");
        self.0.now()
    }
}

#[actix::test]
async fn who_asks_for_the_key_that_was_in_hand_when_foreign_code_panicked_is_told() {
    tokio::time::pause();
    let clock = Faulty::default();
    let source = |_: u32, _: FetchContext| async { Ok::<_, SourceError>(Token::new("a")) };
    let tokens = TokenRegistry::builder(source).clock(clock.clone()).start().unwrap();
    tokens.get(&1).await.unwrap();
    let (to, told) = Collector::begin();
    tokens.subscribe(1, to.clone(), 0);
    clock.1.store(true, Ordering::Relaxed);
    settle().await;
    assert!(tokens.current(&1).is_none(), "readers find no token of a shard that is gone");
    tokens.subscribe(1, to, 1);
    let asked = tokio::time::timeout(secs(60), tokens.get(&1)).await.expect("nobody hangs");
    assert!(asked.unwrap_err().is_stopped());
    settle().await;
    for ticket in [0, 1] {
        assert!(told.to(1, ticket)[0].as_ref().unwrap_err().is_stopped());
    }
}
