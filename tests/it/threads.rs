//! Use across arbiters, from plain tokio, without a runtime; and after the end of the thread that started the
//! actor.

use actix::prelude::*;
use futures_util::FutureExt;
use tokenflight::testing::ScriptedSource;
use tokenflight::{RefreshPolicy, TokenActor};

use crate::support::*;

#[actix::test]
async fn an_actor_on_another_arbiter_serves_this_one() {
    let arbiter = Arbiter::new();
    let source = ScriptedSource::new();
    let handle = TokenActor::builder(source.clone()).start_on(&arbiter.handle()).unwrap();
    let (collector, told) = Collector::begin();
    source.hold();
    for ticket in 0..10 {
        handle.subscribe(subscription(&collector, ticket));
    }
    source.called(1).await;
    let callers = futures_util::future::join_all((0..100).map(|_| handle.get()));
    let (outcomes, ()) = tokio::join!(callers, async { source.release() });
    assert!(outcomes.iter().all(Result::is_ok));
    handle.shutdown().await;
    told.wait_for(10).await;
    told.assert_each_once(0..10);
    assert_eq!(source.calls(), 1);
    arbiter.stop();
}

#[test]
fn the_thread_of_an_actor_has_its_name() {
    let (sender, names) = std::sync::mpsc::channel();
    let source = tokenflight::source_fn(move |_cx| {
        let _ = sender.send(std::thread::current().name().map(str::to_owned));
        std::future::ready(Ok(tokenflight::Token::new("abc")))
    });
    let handle = TokenActor::builder(source).name("orders").spawn_thread().unwrap();
    futures_executor::block_on(handle.get()).unwrap();
    assert_eq!(names.recv().unwrap().as_deref(), Some("tokenflight:orders"));
}

#[actix::test]
async fn an_arbiter_that_stops_answers_who_waits_on_it() {
    let arbiter = Arbiter::new();
    let source = ScriptedSource::new();
    source.hold();
    let handle = TokenActor::builder(source.clone()).start_on(&arbiter.handle()).unwrap();
    let (collector, told) = Collector::begin();
    for ticket in 0..10 {
        handle.subscribe(subscription(&collector, ticket));
    }
    source.called(1).await;
    let (get, ()) = tokio::join!(handle.get(), async {
        arbiter.stop();
    });
    assert!(get.unwrap_err().is_stopped());
    told.wait_for(10).await;
    told.assert_each_once(0..10);
    assert!(told.to(0)[0].as_ref().unwrap_err().is_stopped());
    assert!(handle.get().await.unwrap_err().is_stopped());
    arbiter.join().unwrap();
    let error = TokenActor::builder(source).start_on(&Arbiter::current()).map(|_| ());
    assert!(error.is_ok(), "this one runs");
}

#[actix::test]
async fn an_arbiter_that_stops_in_the_middle_of_telling_forgets_nobody() {
    const CROWD: u64 = 200_000;
    let arbiter = Arbiter::new();
    let source = ScriptedSource::new();
    source.hold();
    let policy = RefreshPolicy::default().max_waiters(1_000_000);
    let handle = TokenActor::builder(source.clone()).policy(policy).start_on(&arbiter.handle()).unwrap();
    let (collector, told) = Collector::begin();
    for ticket in 0..CROWD {
        handle.subscribe(subscription(&collector, ticket));
    }
    source.called(1).await;
    handle.status().await.unwrap(); // behind all of them in the mailbox
    source.release();
    told.wait_for(1).await;
    arbiter.stop();
    told.wait_for(CROWD).await;
    told.assert_each_once(0..CROWD);
    assert!((0..CROWD).all(|ticket| told.to(ticket)[0].is_ok()), "and all are told the same");
}

#[actix::test]
async fn an_arbiter_that_has_stopped_is_a_clear_error() {
    let arbiter = Arbiter::new();
    let handle = arbiter.handle();
    arbiter.stop();
    arbiter.join().unwrap();
    let error = TokenActor::builder(ScriptedSource::new()).start_on(&handle).unwrap_err();
    assert_eq!(error.field(), "arbiter");
}

#[test]
fn a_name_with_a_nul_is_refused() {
    let named = || TokenActor::builder(ScriptedSource::new()).name("a\0b");
    let error = named().spawn_thread().map(drop).unwrap_err();
    assert_eq!(error.field(), "name", "no thread can be called so");
    assert_eq!(named().build().map(drop).unwrap_err().field(), "name");
    System::new().block_on(async {
        assert_eq!(named().start().map(drop).unwrap_err().field(), "name");
    });
}

#[cfg(unix)]
#[test]
fn without_file_descriptors_a_thread_of_its_own_is_refused() {
    let name = "threads::without_file_descriptors_a_thread_of_its_own_is_refused";
    if let Some(mut child) = in_its_own_process(name) {
        all_that_is_written_by(child.env("LIMITS", "ulimit -n 64"));
        return;
    }
    // All that there are.
    let files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(!files.is_empty() && files.len() < 64, "{}", files.len());
    let refused = TokenActor::builder(ScriptedSource::new()).spawn_thread().map(drop);
    drop(files);
    let error = refused.unwrap_err();
    assert_eq!(error.field(), "thread", "{error}");
    let handle = TokenActor::builder(ScriptedSource::new()).spawn_thread().unwrap();
    assert!(futures_executor::block_on(handle.get()).is_ok(), "with file descriptors it starts");
}

#[test]
fn without_a_system_start_says_what_to_do() {
    let error = TokenActor::builder(ScriptedSource::new()).start().unwrap_err();
    assert!(error.to_string().contains("spawn_thread()"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_tokio_is_served_by_a_thread_of_its_own() {
    let source = ScriptedSource::new();
    let handle = TokenActor::builder(source.clone()).spawn_thread().unwrap();
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.get().await.map(|token| token.secret().to_owned()) })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), "token-1");
    }
    assert_eq!(source.calls(), 1);
    handle.shutdown().await;
    assert!(handle.get().await.unwrap_err().is_stopped());
}

#[test]
fn no_runtime_at_all_is_enough_to_wait() {
    let handle = TokenActor::builder(ScriptedSource::new()).spawn_thread().unwrap();
    let token = futures_executor::block_on(handle.get()).unwrap();
    assert_eq!(token.secret(), "token-1");
}

#[test]
fn the_runtime_that_started_it_may_end() {
    let source = ScriptedSource::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let on_thread = runtime.block_on(async {
        let handle = TokenActor::builder(source.clone()).spawn_thread().unwrap();
        handle.get().await.unwrap();
        handle
    });
    let in_system = System::new().block_on(async { TokenActor::builder(source.clone()).start().unwrap() });
    drop(runtime);
    futures_executor::block_on(async {
        assert!(on_thread.refresh().await.is_ok(), "a thread of its own goes on");
        assert!(
            in_system.get().await.unwrap_err().is_stopped(),
            "an actor ends with its System, and says so"
        );
    });
}

/// On the actor's own arbiter, where a lock held over an await would hang the thread for ever.
#[actix::test]
async fn what_an_observer_keeps_over_an_await_does_not_hold_up_the_actor() {
    let rig = rig();
    let mut watch = rig.handle.watch();
    let kept = (watch.current(), watch.clone());
    rig.handle.get().await.unwrap();
    let seen = watch.current();
    watch.changed().await.unwrap();
    let mut change = Box::pin(watch.changed());
    assert!(change.as_mut().now_or_never().is_none());
    assert_eq!(rig.handle.refresh().await.unwrap().secret(), "token-2");
    rig.handle.discard(&rig.handle.current().unwrap());
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-3");
    change.await.unwrap();
    assert!(kept.0.is_none() && seen.unwrap().secret() == "token-1");
    assert_eq!(kept.1.current().unwrap().secret(), "token-3");
}

#[actix::test]
async fn observers_see_every_change() {
    let rig = rig();
    let mut watch = rig.handle.watch();
    assert!(watch.current().is_none());
    let token = rig.handle.get().await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(watch.current().unwrap().secret(), "token-1");
    rig.handle.discard(&token);
    watch.changed().await.unwrap();
    assert!(watch.current().is_none());
    rig.handle.get().await.unwrap();
    assert_eq!(watch.current().unwrap().secret(), "token-2");
}
