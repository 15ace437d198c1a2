//! Promise 2 when foreign code panics: in a source, in a waker.

use std::future::Future;
use std::panic::catch_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use actix::prelude::{Arbiter, MailboxError};
use futures_util::future::join_all;
use tokenflight::testing::{ManualClock, ScriptedSource};
use tokenflight::{
    FetchContext, GetStatus, GetToken, Replace, SourceError, Token, TokenActor, TokenError, TokenHandle,
    TokenSource, source_fn,
};

use crate::support::*;

type Outcome = Result<Token, TokenError>;

/// Panics when it wakes.
struct Explosive;

impl Wake for Explosive {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

/// Polls once, by a task whose waker panics.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::new(Explosive));
    future.poll(&mut Context::from_waker(&waker))
}

#[actix::test]
async fn a_source_that_panics_before_or_after_its_first_await_fails_the_flight() {
    for sync in [true, false] {
        let calls = AtomicUsize::new(0);
        let source = source_fn(move |_cx| {
            let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
            assert!(!(first && sync), "before there is a future");
            async move {
                tokio::task::yield_now().await;
                assert!(!first, "in the middle of it");
                Ok(Token::new("abc").with_lifetime(HOUR))
            }
        });
        let handle = TokenActor::builder(source).start().unwrap();
        let (collector, told) = Collector::begin();
        handle.subscribe(subscription(&collector, 0));
        let (get, ask, force) = tokio::join!(handle.get(), handle.addr().send(GetToken), handle.refresh());
        told.wait_for(1).await;
        for outcome in [get, ask.unwrap(), force, told.to(0)[0].clone()] {
            assert!(outcome.unwrap_err().is_panic());
        }
        assert_eq!(handle.get().await.unwrap().secret(), "abc", "the next request works");
    }
}

/// Panics when it is asked whether it can look.
struct Blind;

impl TokenSource for Blind {
    async fn fetch(&self, _: FetchContext) -> Result<Token, SourceError> {
        Ok(Token::new("abc").with_lifetime(HOUR))
    }

    fn can_look(&self) -> bool {
        panic!("the test says so");
    }
}

#[actix::test]
async fn a_source_that_panics_when_it_is_asked_whether_it_can_look_cannot_look() {
    let handle = TokenActor::builder(Blind).policy(plain().settle(HOUR)).start().unwrap();
    let token = handle.get().await.unwrap();
    assert!(handle.replace(&token).await.unwrap().is_same(&token), "it has not settled");
    assert!(handle.status().await.is_ok(), "the actor goes on");
}

/// Panics when it is dropped, with another of its kind.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        std::panic::panic_any(Grenade);
    }
}

#[test]
fn a_panic_whose_payload_panics_when_it_is_dropped_fails_the_flight_and_no_more() {
    // It would end the whole process.
    let name = "panics::a_panic_whose_payload_panics_when_it_is_dropped_fails_the_flight_and_no_more";
    if let Some(mut child) = in_its_own_process(name) {
        all_that_is_written_by(&mut child);
        return;
    }
    ends(panic_with_grenades);
}

/// Runs it on a thread of its own, so that a hang is a failure.
#[track_caller]
fn ends<F: Future<Output = ()>>(scene: impl FnOnce() -> F + Send + 'static) {
    let (done, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_rt::System::new().block_on(scene());
        done.send(()).unwrap();
    });
    end.recv_timeout(secs(20)).expect("it neither panics nor hangs");
}

async fn panic_with_grenades() {
    let calls = AtomicUsize::new(0);
    let source = source_fn(move |_cx| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        if call == 0 {
            std::panic::panic_any(Grenade);
        }
        async move {
            tokio::task::yield_now().await;
            if call == 1 {
                std::panic::panic_any(Grenade);
            }
            Ok(Token::new("abc").with_lifetime(HOUR))
        }
    });
    let handle = TokenActor::builder(source).policy(plain().cooldown(secs(0))).start().unwrap();
    for _ in 0..2 {
        assert!(handle.get().await.unwrap_err().is_panic());
    }
    assert_eq!(handle.get().await.unwrap().secret(), "abc");
}

/// Does with the handle whatever a handle can do, when it wakes and when it is dropped.
struct Busybody {
    handle: TokenHandle,
    woken: AtomicUsize,
}

impl Busybody {
    fn call_back(&self) {
        let handle = &self.handle;
        let mut get = Box::pin(handle.get());
        let old = Token::new("some old one");
        let mut replace = Box::pin(handle.replace(&old));
        let mut ask = Box::pin(handle.addr().send(GetToken));
        let mut cx = Context::from_waker(Waker::noop());
        let _ = (get.as_mut().poll(&mut cx), replace.as_mut().poll(&mut cx), ask.as_mut().poll(&mut cx));
        if let Some(token) = handle.watch().current() {
            handle.invalidate(&token);
        }
        handle.discard(&old);
        let _ = handle.current();
    }
}

impl Wake for Busybody {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        self.call_back();
    }
}

impl Drop for Busybody {
    fn drop(&mut self) {
        self.call_back();
    }
}

#[test]
fn a_waker_that_calls_back_into_the_handle_locks_nothing_up() {
    ends(call_back_from_wakers);
}

async fn call_back_from_wakers() {
    tokio::time::pause();
    for held in [false, true] {
        let rig = another(plain().wait_timeout(secs(2)));
        if held {
            rig.source.hold();
        }
        let busybody = || Arc::new(Busybody { handle: rig.handle.clone(), woken: AtomicUsize::new(0) });
        let (caller, asker, observer) = (busybody(), busybody(), busybody());
        let mut watch = rig.handle.watch();
        let mut get = Box::pin(rig.handle.get());
        let mut ask = Box::pin(rig.handle.addr().send(GetToken));
        let mut change = Box::pin(watch.changed());
        let by = |waker: &Arc<Busybody>| Waker::from(Arc::clone(waker));
        assert!(get.as_mut().poll(&mut Context::from_waker(&by(&caller))).is_pending());
        assert!(ask.as_mut().poll(&mut Context::from_waker(&by(&asker))).is_pending());
        assert!(change.as_mut().poll(&mut Context::from_waker(&by(&observer))).is_pending());
        // One that leaves: its waker is the last to hold the busybody.
        let mut leaver = Box::pin(rig.handle.get());
        assert!(leaver.as_mut().poll(&mut Context::from_waker(&Waker::from(busybody()))).is_pending());
        drop(leaver);
        let others = rig.get_all(10).await;
        assert_eq!(others.iter().filter(|outcome| outcome.is_ok()).count(), if held { 0 } else { 10 });
        settle().await;
        assert_eq!(caller.woken.load(Ordering::SeqCst), 1);
        assert_eq!(asker.woken.load(Ordering::SeqCst), 1);
        assert_eq!(observer.woken.load(Ordering::SeqCst), usize::from(!held));
        assert_eq!(get.await.is_ok(), !held, "woken by the token, or at its deadline");
        drop((ask, change));
        rig.source.release();
        tokio::time::sleep(secs(1)).await;
        assert!(rig.handle.get().await.is_ok(), "the actor lives");
        rig.handle.discard(&rig.handle.current().unwrap());
        rig.handle.shutdown().await;
    }
}

#[actix::test]
async fn a_source_that_panics_when_it_is_given_up_leaves_nobody_waiting() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a future that panics when it is dropped");
        }
    }
    tokio::time::pause();
    let source = source_fn(|_cx| async {
        let _bomb = Bomb;
        std::future::pending().await
    });
    let handle = TokenActor::builder(source).clock(ManualClock::new()).start().unwrap();
    let (collector, told) = Collector::begin();
    handle.subscribe(subscription(&collector, 0));
    let (get, ask) = tokio::join!(handle.get(), handle.addr().send(GetToken));
    assert!(get.unwrap_err().is_timeout());
    assert!(ask.unwrap().unwrap_err().is_timeout());
    settle().await;
    told.assert_each_once(0..1);
    assert!(handle.status().await.is_ok(), "the actor lives");
}

#[actix::test]
async fn a_waker_that_panics_costs_its_own_waiter_only() {
    let rig = rig();
    let (collector, told) = Collector::begin();
    rig.handle.subscribe(subscription(&collector, 0));
    let mut ask = Box::pin(rig.handle.addr().send(GetToken));
    assert!(poll_once(ask.as_mut()).is_pending());
    let mut get = Box::pin(rig.handle.get());
    assert!(poll_once(get.as_mut()).is_pending());
    let (others, late) = tokio::join!(rig.get_all(10), rig.handle.addr().send(GetToken));
    assert!(others.iter().all(Result::is_ok) && late.unwrap().is_ok());
    settle().await;
    told.assert_each_once(0..1);
    // The answers of the two are there all the same.
    assert!(get.await.is_ok());
    assert!(ask.await.unwrap().is_ok());
    assert_eq!(rig.handle.status().await.unwrap().lost, 2, "could not be woken");
}

#[actix::test]
async fn a_waker_that_panics_at_its_deadline_hurts_nobody() {
    let rig = rig_with(plain().wait_timeout(secs(2)));
    rig.source.hold();
    let mut ask = Box::pin(rig.handle.addr().send(GetToken));
    assert!(poll_once(ask.as_mut()).is_pending());
    let mut get = Box::pin(rig.handle.get());
    assert!(poll_once(get.as_mut()).is_pending());
    let (others, late) = tokio::join!(rig.get_all(10), rig.handle.addr().send(GetToken));
    assert!(others.iter().all(|outcome| outcome.as_ref().unwrap_err().is_timeout()));
    assert!(late.unwrap().unwrap_err().is_timeout());
    assert!(get.await.unwrap_err().is_timeout());
    rig.source.release();
    settle().await;
    assert!(rig.handle.get().await.is_ok(), "the actor lives");
}

#[actix::test]
async fn an_observer_s_waker_that_panics_hurts_nobody() {
    let rig = rig();
    let mut watch = rig.handle.watch();
    let mut change = Box::pin(watch.changed());
    assert!(poll_once(change.as_mut()).is_pending());
    assert!(rig.get_all(10).await.iter().all(Result::is_ok));
    assert!(rig.handle.status().await.is_ok(), "the actor lives");
}

#[actix::test]
async fn wakers_that_panic_as_an_arbiter_stops_leave_nobody_waiting() {
    let arbiter = Arbiter::new();
    let source = ScriptedSource::new();
    source.hold();
    let handle = TokenActor::builder(source.clone()).start_on(&arbiter.handle()).unwrap();
    let (collector, told) = Collector::begin();
    // Two of each, first: one panic while another unwinds would end the process.
    let mut gets: Vec<_> = (0..2).map(|_| Box::pin(handle.get())).collect();
    let mut asks: Vec<_> = (0..2).map(|_| Box::pin(handle.addr().send(GetToken))).collect();
    assert!(gets.iter_mut().all(|get| poll_once(get.as_mut()).is_pending()));
    assert!(asks.iter_mut().all(|ask| poll_once(ask.as_mut()).is_pending()));
    handle.subscribe(subscription(&collector, 0));
    source.called(1).await;
    let stop = async {
        handle.status().await.unwrap(); // behind all of them in the mailbox
        arbiter.stop();
    };
    let asking = join_all((0..3).map(|_| handle.addr().send(GetToken)));
    let (others, late, ()) = tokio::join!(join_all((0..10).map(|_| handle.get())), asking, stop);
    assert!(others.iter().all(|outcome| outcome.as_ref().unwrap_err().is_stopped()));
    assert!(late.into_iter().all(is_stopped));
    told.wait_for(1).await;
    for get in gets {
        assert!(get.await.unwrap_err().is_stopped());
    }
}

fn is_stopped(outcome: Result<Outcome, MailboxError>) -> bool {
    outcome.map_or(true, |outcome| outcome.unwrap_err().is_stopped())
}

#[actix::test]
async fn a_caller_dropped_together_with_another_s_waker_does_not_lock_up() {
    /// A task that waits itself, and lives as long as its waker does.
    struct Task(#[allow(dead_code)] std::sync::Mutex<Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>>);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let rig = rig();
    let handle = rig.handle.clone();
    let mut inner: Pin<Box<dyn Future<Output = Outcome> + Send>> =
        Box::pin(async move { handle.get().await });
    assert!(inner.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let mut get = Box::pin(rig.handle.get());
    {
        let waker = Waker::from(Arc::new(Task(Some(inner).into())));
        assert!(get.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    // Takes another waker; the old one was the last to hold the task.
    let polled = catch_unwind(std::panic::AssertUnwindSafe(|| {
        get.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }));
    assert!(polled.unwrap());
    assert!(get.await.is_ok());
}

/// The answer is there when the message is handled.
#[actix::test]
async fn a_waker_that_panics_costs_nobody_else_if_the_answer_is_known_at_once() {
    let rig = rig_with(plain().settle(HOUR));
    let token = rig.handle.get().await.unwrap();
    let (handle, addr) = (&rig.handle, rig.handle.addr());
    assert!(poll_once(pin!(handle.status())).is_pending());
    assert!(poll_once(pin!(addr.send(GetStatus))).is_pending());
    assert!(poll_once(pin!(addr.send(GetToken))).is_pending());
    assert!(poll_once(pin!(handle.replace(&token))).is_pending());
    assert!(poll_once(pin!(addr.send(Replace(token.clone())))).is_pending());
    assert!(poll_once(pin!(handle.refresh())).is_pending());
    let mut last = Box::pin(handle.status());
    assert!(poll_once(last.as_mut()).is_pending());
    settle().await;
    assert!(last.await.is_ok(), "it has its answer");
    assert_eq!(handle.status().await.unwrap().state, tokenflight::FlightState::Idle);
}

#[actix::test]
async fn a_waker_that_panics_at_a_shutdown_leaves_the_others_their_answer() {
    let rig = rig();
    let mut first = Box::pin(rig.handle.shutdown());
    assert!(poll_once(first.as_mut()).is_pending());
    rig.handle.shutdown().await;
    assert!(!rig.handle.addr().connected());
    first.await;
}

/// An error whose text cannot be made.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("no words for it");
    }
}

impl std::error::Error for Unspeakable {}

/// Panics at each line.
struct Screaming;

impl log::Log for Screaming {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "tokenflight"
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        assert!(!self.enabled(record.metadata()), "a line of {} bytes cannot be written", text.len());
    }

    fn flush(&self) {}
}

/// In a process of its own, where the log is its own.
#[test]
fn a_log_that_panics_and_an_error_without_a_text_cost_a_line() {
    const NAME: &str = "panics::a_log_that_panics_and_an_error_without_a_text_cost_a_line";
    if let Some(mut child) = in_its_own_process(NAME) {
        all_that_is_written_by(&mut child);
        return;
    }
    log::set_logger(&Screaming).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    actix_rt::System::new().block_on(async {
        let calls = AtomicUsize::new(0);
        let source = source_fn(move |_cx| {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            std::future::ready(match call {
                0 => Err(SourceError::transient(Unspeakable)),
                _ => Ok(Token::new("abc").with_lifetime(HOUR)),
            })
        });
        let handle = TokenActor::builder(source).policy(plain().backoff(secs(0))).start().unwrap();
        assert_eq!(handle.get().await.unwrap().secret(), "abc");
        assert!(handle.status().await.is_ok());
        handle.shutdown().await;
    });
}
