//! Promise 2 at the end of an actor: shutdown in every state, the last handle, a System that stops, a restart.

use actix::prelude::*;
use futures_util::FutureExt;
use tokenflight::handle::TokenWatch;
use tokenflight::testing::{ManualClock, ScriptedSource};
use tokenflight::{FlightState, GetStatus, GetToken, Shutdown, SourceError, TokenActor, TokenHandle};
use tokio::sync::oneshot;

use crate::support::*;

/// Waits until actor and handles are gone: nobody is left who could change what is watched.
#[track_caller]
fn ended(watch: &mut TokenWatch) -> impl Future<Output = ()> {
    let gone = async { while watch.changed().await.is_ok() {} };
    tokio::time::timeout(secs(100), gone).map(|gone| gone.expect("the actor goes on"))
}

/// Brings an actor into this state, with two attempts a flight of which the first fails if need be.
async fn bring(rig: &Rig, state: FlightState) {
    let in_vain = match state {
        FlightState::Idle => return drop(rig.handle.get().await.unwrap()),
        FlightState::Fetching => {
            rig.source.hold();
            rig.handle.get()
        }
        FlightState::Pausing => {
            let busy = SourceError::transient("slow down").with_retry_after(secs(7));
            rig.source.then(tokenflight::testing::Answer::Error(busy));
            rig.handle.get()
        }
        FlightState::Cooldown => {
            rig.source.then(terminal());
            rig.handle.get()
        }
        other => panic!("{other:?}"),
    };
    if let Ok(outcome) = tokio::time::timeout(secs(1), in_vain).await {
        outcome.unwrap_err();
    }
    assert_eq!(rig.handle.status().await.unwrap().state, state);
}

#[actix::test]
async fn shutdown_answers_everybody_in_every_state() {
    use FlightState::{Cooldown, Fetching, Idle, Pausing};
    tokio::time::pause();
    for state in [Idle, Fetching, Pausing, Cooldown] {
        let rig = another(plain());
        bring(&rig, state).await;
        let calls = rig.source.calls();
        let mut watch = rig.handle.watch();
        let (collector, told) = Collector::begin();
        rig.handle.subscribe(subscription(&collector, 0));
        let asks = async { tokio::join!(rig.handle.get(), rig.handle.addr().send(GetToken)) };
        let leave = async {
            settle().await;
            rig.handle.shutdown().await;
        };
        let ((get, ask), ()) = tokio::join!(asks, leave);
        settle().await;
        told.assert_each_once(0..1);
        for outcome in [get, ask.unwrap(), told.to(0)[0].clone()] {
            match state {
                Idle => assert!(outcome.is_ok()),
                Cooldown => assert!(outcome.unwrap_err().is_rejected(), "as known before the end"),
                _ => assert!(outcome.unwrap_err().is_stopped(), "{state:?}"),
            }
        }
        assert!(!rig.handle.addr().connected(), "and then it has stopped");
        assert!(rig.handle.get().await.unwrap_err().is_stopped());
        let source = rig.source.clone();
        drop(rig);
        ended(&mut watch).await;
        tokio::time::sleep(secs(100)).await;
        assert_eq!(source.calls(), calls, "{state:?}: a flight that has ended calls nobody");
    }
}

#[actix::test]
async fn shutdown_in_the_middle_of_telling_lets_the_telling_end() {
    const CROWD: u64 = 5_000;
    let rig = rig();
    let (collector, told) = Collector::begin();
    for ticket in 0..CROWD {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    told.wait_for(1).await;
    assert!(told.total() < CROWD, "the rest is told in further chunks");
    rig.handle.shutdown().await;
    settle().await;
    told.assert_each_once(0..CROWD);
    assert!((0..CROWD).all(|ticket| told.to(ticket)[0].is_ok()), "the token, not the end");
}

#[actix::test]
async fn several_who_shut_it_down_are_all_answered() {
    let rig = rig();
    rig.source.hold();
    let (collector, told) = Collector::begin();
    for ticket in 0..3_000 {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    rig.source.called(1).await;
    let other = rig.handle.clone();
    tokio::join!(rig.handle.shutdown(), other.shutdown(), rig.handle.addr().send(Shutdown).map(|_| ()));
    settle().await;
    told.assert_each_once(0..3_000);
}

#[actix::test]
async fn without_handles_and_waiters_the_actor_ends_in_either_mode() {
    tokio::time::pause();
    for background in [false, true] {
        for flying in [false, true] {
            let Rig { handle, source, .. } = another(plain().background(background));
            let mut watch = handle.watch();
            if flying {
                assert!(tokio::time::timeout(millis(20), handle.get()).await.is_err());
            } else {
                handle.get().await.unwrap();
            }
            drop(handle);
            ended(&mut watch).await;
            tokio::time::sleep(HOUR).await;
            assert_eq!(source.calls(), 1, "background {background}, flying {flying}");
        }
    }
}

#[actix::test]
async fn without_handles_the_actor_ends_however_its_flight_does() {
    use tokenflight::testing::Answer::Hang;
    tokio::time::pause();
    for background in [false, true] {
        for answers in [vec![transient()], vec![transient(); 2], vec![terminal()], vec![Hang], vec![Hang; 2]]
        {
            let policy = plain().attempts(2).wait_timeout(secs(3)).background(background);
            let Rig { handle, source, .. } = another(policy);
            for answer in answers {
                source.then(answer);
            }
            let mut watch = handle.watch();
            assert!(tokio::time::timeout(millis(20), handle.get()).await.is_err());
            drop(handle);
            ended(&mut watch).await;
        }
    }
}

#[actix::test]
async fn in_background_mode_too_who_waits_is_answered_though_the_last_handle_goes() {
    let Rig { handle, source, .. } = rig_with(plain().background(true));
    let (collector, told) = Collector::begin();
    handle.subscribe(subscription(&collector, 0));
    let mut watch = handle.watch();
    drop(handle);
    ended(&mut watch).await;
    settle().await;
    told.assert_each_once(0..1);
    assert!(told.to(0)[0].is_ok());
    assert_eq!(source.calls(), 1);
}

#[actix::test]
async fn a_subscription_that_is_never_sent_is_answered() {
    let (collector, told) = Collector::begin();
    drop(subscription(&collector, 7));
    told.wait_for(1).await;
    assert!(told.to(7)[0].as_ref().unwrap_err().is_stopped());
}

/// A System on a thread of its own, with an actor on its main arbiter and one on a further arbiter.
async fn elsewhere(source: &ScriptedSource) -> (System, [TokenHandle; 2], std::thread::JoinHandle<()>) {
    let source = source.clone();
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let system = System::new();
        system.block_on(async {
            let here = TokenActor::builder(source.clone()).start().unwrap();
            let there = TokenActor::builder(source).start_on(&Arbiter::new().handle()).unwrap();
            sender.send((System::current(), [here, there])).map_err(|_| "nobody waits").unwrap();
        });
        system.run().unwrap();
    });
    let (system, handles) = receiver.await.unwrap();
    (system, handles, thread)
}

#[actix::test]
async fn a_system_that_stops_answers_who_waits_in_another() {
    let source = ScriptedSource::new();
    source.hold();
    let (system, handles, thread) = elsewhere(&source).await;
    let (collector, told) = Collector::begin();
    for (ticket, handle) in (0..).zip(&handles) {
        handle.subscribe(subscription(&collector, ticket));
    }
    source.called(2).await;
    let [here, there] = &handles;
    let asks = async { tokio::join!(here.get(), here.refresh(), there.get(), there.refresh()) };
    let stop = async {
        assert!(here.status().await.unwrap().waiters > 0);
        system.stop();
    };
    let ((one, two, three, four), ()) = tokio::join!(asks, stop);
    for outcome in [one, two, three, four] {
        assert!(outcome.unwrap_err().is_stopped());
    }
    told.wait_for(2).await;
    told.assert_each_once(0..2);
    assert!(told.to(0)[0].as_ref().unwrap_err().is_stopped());
    thread.join().unwrap();
}

#[actix::test]
async fn after_its_system_has_ended_a_handle_answers_everything_at_once() {
    let source = ScriptedSource::new();
    let (system, handles, thread) = elsewhere(&source).await;
    let token = handles[0].get().await.unwrap();
    let watch = handles[0].watch();
    handles[1].get().await.unwrap();
    system.stop();
    thread.join().unwrap();
    // The further arbiter's thread is not joined by its System.
    handles[1].shutdown().await;
    let (collector, told) = Collector::begin();
    for (ticket, handle) in (0..).zip(&handles) {
        assert!(handle.current().is_none());
        handle.invalidate(&token);
        assert!(handle.get().await.unwrap_err().is_stopped());
        assert!(handle.refresh().await.unwrap_err().is_stopped());
        assert!(handle.status().await.unwrap_err().is_stopped());
        handle.subscribe(subscription(&collector, ticket));
        handle.shutdown().await;
    }
    told.wait_for(2).await;
    told.assert_each_once(0..2);
    assert!(told.to(1)[0].as_ref().unwrap_err().is_stopped());
    assert!(watch.current().is_none(), "observers have seen the end");
}

#[actix::test]
async fn who_waits_on_a_system_that_is_not_run_is_answered_when_it_goes() {
    let source = ScriptedSource::new();
    let (sender, receiver) = oneshot::channel();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let system = System::new();
        let handle = system.block_on(async { TokenActor::builder(source).start().unwrap() });
        sender.send(handle).map_err(|_| "nobody waits").unwrap();
        gate.recv().unwrap_or_default(); // the System is there, and nobody runs it
        drop(system);
    });
    let handle = receiver.await.unwrap();
    let (collector, told) = Collector::begin();
    handle.subscribe(subscription(&collector, 0));
    let (get, ask, ()) = tokio::join!(handle.get(), handle.addr().send(GetToken), async { drop(go) });
    assert!(get.unwrap_err().is_stopped());
    assert!(ask.is_err());
    told.wait_for(1).await;
    told.assert_each_once(0..1);
    thread.join().unwrap();
}

#[actix::test]
async fn an_arbiter_that_stops_before_the_actor_has_begun_answers_too() {
    for background in [false, true] {
        let arbiter = Arbiter::new();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let (here, at_the_gate) = std::sync::mpsc::channel::<()>();
        arbiter.spawn_fn(move || {
            here.send(()).unwrap();
            gate.recv().unwrap_or_default();
        });
        // Else a thread that starts late would find gate and actor in one go, and the stop after them.
        at_the_gate.recv().unwrap();
        let source = ScriptedSource::new();
        let builder = TokenActor::builder(source.clone()).policy(plain().background(background));
        let handle = builder.start_on(&arbiter.handle()).unwrap();
        let (collector, told) = Collector::begin();
        handle.subscribe(subscription(&collector, 0));
        arbiter.stop();
        let (get, ()) = tokio::join!(handle.get(), async { drop(go) });
        assert!(get.unwrap_err().is_stopped());
        told.wait_for(1).await;
        assert_eq!(source.calls(), 0);
        arbiter.join().unwrap();
    }
}

/// An actor under a `Supervisor`, in paused time.
fn supervised(rig: &Rig, policy: tokenflight::RefreshPolicy) -> Addr<TokenActor> {
    let builder = TokenActor::builder(rig.source.clone()).policy(policy).clock(rig.clock.clone());
    let actor = builder.build().unwrap();
    Supervisor::start(move |_| actor)
}

#[actix::test]
async fn a_restart_forgets_the_fetch_and_the_token_and_keeps_the_rest() {
    let rig = rig();
    let addr = supervised(&rig, plain());
    rig.source.then(terminal());
    assert!(addr.send(GetToken).await.unwrap().unwrap_err().is_rejected());
    let (collector, told) = Collector::begin();
    addr.do_send(subscription(&collector, 0));
    addr.send(Shutdown).await.unwrap();
    assert!(addr.send(GetToken).await.unwrap().unwrap_err().is_rejected(), "the cooldown goes on");
    let status = addr.send(GetStatus).await.unwrap();
    assert_eq!((status.state, status.counters.failed), (FlightState::Cooldown, 1));
    tokio::time::sleep(secs(5)).await;
    assert_eq!(addr.send(GetToken).await.unwrap().unwrap().secret(), "token-2");
    addr.send(Shutdown).await.unwrap();
    assert_eq!(addr.send(GetToken).await.unwrap().unwrap().secret(), "token-3", "the token was forgotten");
    told.assert_each_once(0..1);
    assert_eq!((rig.source.calls(), rig.source.most_at_once()), (3, 1));
}

#[actix::test]
async fn a_restart_in_any_state_and_mode_leaves_an_actor_that_works() {
    use FlightState::{Cooldown, Fetching, Idle, Pausing};
    tokio::time::pause();
    for background in [false, true] {
        for state in [Idle, Fetching, Pausing, Cooldown] {
            let rig = another(plain());
            rig.source.hold();
            let addr = supervised(&rig, plain().background(background));
            match state {
                Pausing => drop(rig.source.then(transient())),
                Cooldown => drop(rig.source.then(terminal())),
                _ => {}
            }
            addr.do_send(GetToken);
            rig.source.called(1).await;
            if state != Fetching {
                rig.source.release();
                tokio::time::sleep(millis(60)).await;
            }
            let (collector, told) = Collector::begin();
            addr.do_send(subscription(&collector, 0));
            addr.send(Shutdown).await.unwrap();
            settle().await;
            told.assert_each_once(0..1);
            rig.source.release();
            tokio::time::sleep(secs(60)).await;
            let next = tokio::time::timeout(secs(60), addr.send(GetToken)).await;
            let next = next.unwrap_or_else(|_| panic!("no answer: background {background}, {state:?}"));
            assert!(next.unwrap().is_ok());
            assert_eq!(rig.source.most_at_once(), 1);
        }
    }
}

/// A source that has something to end.
struct Busy {
    end: std::sync::Mutex<Option<oneshot::Receiver<()>>>,
    panics: bool,
}

impl tokenflight::TokenSource for Busy {
    async fn fetch(&self, _: tokenflight::FetchContext) -> Result<tokenflight::Token, SourceError> {
        Ok(tokenflight::Token::new("abc"))
    }

    async fn finish(&self) {
        assert!(!self.panics, "at the end");
        let end = self.end.lock().unwrap().take();
        if let Some(end) = end {
            let _ = end.await;
        }
    }
}

fn busy(panics: bool) -> (oneshot::Sender<()>, TokenHandle) {
    let (end, ends) = oneshot::channel();
    let source = Busy { end: std::sync::Mutex::new(Some(ends)), panics };
    // By way of a box and an `Arc`, which pass it on.
    let source = tokenflight::source::BoxSource::new(std::sync::Arc::new(source));
    (end, TokenActor::builder(source).clock(ManualClock::new()).start().unwrap())
}

#[actix::test]
async fn a_shutdown_waits_for_what_the_source_has_to_end() {
    tokio::time::pause();
    let (end, handle) = busy(false);
    handle.get().await.unwrap();
    let (one, other) = (handle.shutdown(), handle.addr().send(Shutdown));
    tokio::pin!(one, other);
    assert!(tokio::time::timeout(secs(60), &mut one).await.is_err());
    assert!(handle.get().await.unwrap_err().is_stopped(), "nobody else waits");
    end.send(()).unwrap();
    one.await;
    other.await.unwrap();
}

#[actix::test]
async fn a_shutdown_waits_for_two_minutes_at_most_and_not_for_a_panic() {
    tokio::time::pause();
    let (_end, handle) = busy(false);
    let began = tokio::time::Instant::now();
    handle.shutdown().await;
    assert_eq!(began.elapsed().as_secs(), 120);
    let (_end, handle) = busy(true);
    let began = tokio::time::Instant::now();
    handle.shutdown().await;
    assert_eq!(began.elapsed(), secs(0));
}

/// A source whose end asks its own actor for everything.
struct Entangled(
    std::sync::Arc<std::sync::Mutex<Option<TokenHandle>>>,
    std::sync::Arc<std::sync::Mutex<Vec<bool>>>,
);

impl tokenflight::TokenSource for Entangled {
    async fn fetch(&self, _: tokenflight::FetchContext) -> Result<tokenflight::Token, SourceError> {
        Ok(tokenflight::Token::new("abc"))
    }

    async fn finish(&self) {
        let handle = self.0.lock().unwrap().clone().unwrap();
        let token = tokenflight::Token::new("abc");
        handle.invalidate(&token);
        handle.discard(&token);
        let outcomes = [
            handle.get().await.is_err_and(|error| error.is_stopped()),
            handle.refresh().await.is_err_and(|error| error.is_stopped()),
            handle.replace(&token).await.is_err_and(|error| error.is_stopped()),
            handle.status().await.is_ok(),
            handle.current().is_none(),
        ];
        self.1.lock().unwrap().extend(outcomes);
        handle.shutdown().await;
        self.1.lock().unwrap().push(false);
    }
}

#[actix::test]
async fn an_end_that_asks_its_own_actor_is_answered_and_one_that_waits_for_itself_is_cut_off() {
    tokio::time::pause();
    let (place, outcomes) = (std::sync::Arc::default(), std::sync::Arc::default());
    let source = Entangled(std::sync::Arc::clone(&place), std::sync::Arc::clone(&outcomes));
    let handle = TokenActor::builder(source).clock(ManualClock::new()).start().unwrap();
    *place.lock().unwrap() = Some(handle.clone());
    handle.get().await.unwrap();
    let began = tokio::time::Instant::now();
    handle.shutdown().await;
    assert_eq!(began.elapsed().as_secs(), 120);
    assert_eq!(*outcomes.lock().unwrap(), [true; 5]);
    handle.shutdown().await;
}

#[actix::test]
async fn a_shutdown_while_a_crowd_is_told_waits_for_the_source_and_tells_each_once() {
    tokio::time::pause();
    let (end, handle) = busy(false);
    let (addr, told) = Collector::begin();
    for ticket in 0..20_000 {
        handle.subscribe(subscription(&addr, ticket));
    }
    let mut one = Box::pin(handle.shutdown());
    let clone = handle.clone();
    let mut other = Box::pin(clone.shutdown());
    assert!(tokio::time::timeout(secs(1), &mut one).await.is_err());
    assert!(tokio::time::timeout(secs(1), &mut other).await.is_err());
    told.wait_for(20_000).await;
    end.send(()).unwrap();
    one.await;
    other.await;
    told.assert_each_once(0..20_000);
}

#[actix::test]
async fn an_ambiguous_failure_leaves_the_stale_token_in_use_and_starts_a_cooldown() {
    let rig = rig_with(plain().stale_if_error(HOUR).cooldown(secs(10)).attempts(3));
    rig.source.then(token("old", secs(100)));
    rig.handle.get().await.unwrap();
    tokio::time::sleep(secs(150)).await;
    rig.source.then(tokenflight::testing::Answer::Error(SourceError::ambiguous("lost")));
    assert_eq!(rig.handle.get().await.unwrap().secret(), "old");
    let status = rig.handle.status().await.unwrap();
    assert!(status.last_error.as_ref().unwrap().is_ambiguous() && status.cooldown.is_some(), "{status:?}");
    assert_eq!(rig.source.calls(), 2);
    assert_eq!(rig.handle.get().await.unwrap().secret(), "old");
    assert_eq!(rig.source.calls(), 2, "the cooldown holds");
}
