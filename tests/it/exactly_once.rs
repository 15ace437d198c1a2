//! Promise 2: each subscription gets exactly one `TokenReady` in any case.

use actix::prelude::*;
use tokenflight::{Shutdown, Subscribe, TokenActor, TokenReady};

use crate::support::*;

#[actix::test]
async fn each_ticket_is_answered_once() {
    let rig = rig();
    let (collector, told) = Collector::begin();
    for ticket in 0..100 {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    tokio::time::sleep(secs(1)).await;
    told.assert_each_once(0..100);
    assert_eq!(rig.source.calls(), 1);
}

#[actix::test]
async fn a_usable_token_is_sent_at_once() {
    let rig = rig();
    rig.handle.get().await.unwrap();
    let (collector, told) = Collector::begin();
    rig.handle.subscribe(collector.recipient());
    settle().await;
    assert_eq!(told.to(0)[0].as_ref().unwrap().secret(), "token-1");
}

#[actix::test]
async fn the_same_pair_again_changes_nothing_and_another_ticket_is_another() {
    let rig = rig();
    let (collector, told) = Collector::begin();
    let (other, told_other) = Collector::begin();
    for _ in 0..3 {
        rig.handle.subscribe(subscription(&collector, 7));
        rig.handle.subscribe(subscription(&other, 7));
    }
    rig.handle.subscribe(subscription(&collector, 8));
    tokio::time::sleep(secs(1)).await;
    told.assert_each_once(7..9);
    told_other.assert_each_once(7..8);
    // Once it has been answered, the pair is free again.
    rig.handle.subscribe(subscription(&collector, 7));
    settle().await;
    assert_eq!(told.to(7).len(), 2);
}

#[actix::test]
async fn who_subscribes_again_while_a_crowd_is_being_told_is_answered_once() {
    let rig = rig();
    let (collector, told) = Collector::begin();
    // More than one chunk.
    for ticket in 0..5_000 {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    told.wait_for(1).await;
    assert!(told.to(4_998).is_empty(), "it waits for its turn");
    rig.handle.subscribe(subscription(&collector, 4_998));
    tokio::time::sleep(secs(1)).await;
    told.assert_each_once(0..5_000);
}

#[actix::test]
async fn a_failure_is_an_answer_too() {
    let rig = rig_with(plain().attempts(1));
    rig.source.then(transient());
    let (collector, told) = Collector::begin();
    rig.handle.subscribe(subscription(&collector, 0));
    rig.handle.subscribe(subscription(&collector, 1));
    tokio::time::sleep(secs(1)).await;
    told.assert_each_once(0..2);
    assert!(told.to(0)[0].as_ref().unwrap_err().is_unavailable());
}

#[actix::test]
async fn a_panic_of_the_source_is_an_answer_too() {
    let rig = rig();
    rig.source.then(tokenflight::testing::Answer::Panic);
    let (collector, told) = Collector::begin();
    for ticket in 0..10 {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    tokio::time::sleep(secs(1)).await;
    told.assert_each_once(0..10);
    assert!(told.to(3)[0].as_ref().unwrap_err().is_panic());
}

#[actix::test]
async fn of_a_crowd_of_whole_chunks_nobody_counts_as_lost() {
    let rig = rig();
    rig.source.hold();
    let (collector, told) = Collector::begin();
    for ticket in 0..2 * 1_024 {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    rig.source.called(1).await;
    rig.source.release();
    rig.handle.get().await.unwrap();
    settle().await;
    told.assert_each_once(0..2 * 1_024);
    assert_eq!(rig.handle.status().await.unwrap().lost, 0);
}

#[actix::test]
async fn shutdown_answers_everybody_before_it_returns() {
    let rig = rig();
    rig.source.hold();
    let (collector, told) = Collector::begin();
    // More than one chunk.
    for ticket in 0..3_000 {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    let get = rig.handle.get();
    let stop = async {
        rig.source.called(1).await;
        rig.handle.shutdown().await;
    };
    let (get, ()) = tokio::join!(get, stop);
    assert!(get.unwrap_err().is_stopped());
    settle().await;
    told.assert_each_once(0..3_000);
    assert!(told.to(0)[0].as_ref().unwrap_err().is_stopped());
    // And afterwards nobody is left waiting either.
    assert!(!rig.handle.addr().connected());
    assert!(rig.handle.get().await.unwrap_err().is_stopped());
    assert!(rig.handle.refresh().await.unwrap_err().is_stopped());
    assert!(rig.handle.current().is_none());
    rig.handle.subscribe(subscription(&collector, 5_000));
    settle().await;
    assert!(told.to(5_000)[0].as_ref().unwrap_err().is_stopped());
    rig.handle.shutdown().await;
}

#[actix::test]
async fn a_supervisor_s_restart_answers_and_goes_on() {
    let rig = rig(); // for the clock and the source
    let actor = TokenActor::builder(rig.source.clone()).clock(rig.clock.clone()).build().unwrap();
    let addr = Supervisor::start(move |_| actor);
    rig.source.hold();
    let (collector, told) = Collector::begin();
    addr.do_send(subscription(&collector, 1));
    rig.source.called(1).await;
    addr.send(Shutdown).await.unwrap();
    settle().await;
    assert!(told.to(1)[0].as_ref().unwrap_err().is_stopped());
    rig.source.release();
    addr.do_send(subscription(&collector, 2));
    tokio::time::sleep(secs(1)).await;
    told.assert_each_once(1..3);
    assert!(told.to(2)[0].is_ok());
}

#[actix::test]
async fn a_full_mailbox_loses_nothing() {
    struct Slow(Told);
    impl Actor for Slow {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            ctx.set_mailbox_capacity(1);
        }
    }
    impl Handler<TokenReady> for Slow {
        type Result = ();
        fn handle(&mut self, ready: TokenReady, ctx: &mut Self::Context) {
            self.0.note(ready);
            ctx.wait(tokio::time::sleep(millis(10)).into_actor(self));
        }
    }
    let rig = rig();
    let told = Told::default();
    let slow = Slow(told.clone()).start();
    for ticket in 0..200 {
        rig.handle.subscribe(Subscribe::new(slow.clone()).ticket(ticket));
    }
    tokio::time::sleep(secs(10)).await;
    told.assert_each_once(0..200);
}

#[actix::test]
async fn a_stopped_subscriber_is_counted_and_hurts_nobody() {
    let rig = rig();
    let (gone, _) = Collector::begin();
    let (collector, told) = Collector::begin();
    rig.handle.subscribe(subscription(&gone, 0));
    rig.handle.subscribe(subscription(&collector, 0));
    gone.send(Halt).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    told.assert_each_once(0..1);
    assert_eq!(rig.handle.status().await.unwrap().lost, 1);
    rig.handle.subscribe(subscription(&gone, 1));
    assert_eq!(rig.handle.status().await.unwrap().lost, 2, "also if the token is there at once");
}

#[actix::test]
async fn stopped_subscribers_that_make_room_are_counted() {
    let rig = rig_with(plain().max_waiters(2));
    rig.source.hold();
    let (gone, _) = Collector::begin();
    let (collector, told) = Collector::begin();
    rig.handle.subscribe(subscription(&gone, 0));
    rig.handle.subscribe(subscription(&gone, 1));
    rig.source.called(1).await;
    gone.send(Halt).await.unwrap();
    tokio::time::sleep(secs(2)).await;
    rig.handle.subscribe(subscription(&collector, 0));
    let status = rig.handle.status().await.unwrap();
    assert_eq!((status.waiters, status.lost), (1, 2));
    rig.source.release();
    told.wait_for(1).await;
    told.assert_each_once(0..1);
}

#[actix::test]
async fn who_waits_is_answered_though_the_last_handle_goes() {
    let rig = rig_with(plain().backoff(secs(1)));
    rig.source.then(transient()); // so that the flight pauses too, with nothing running
    let (collector, told) = Collector::begin();
    rig.handle.subscribe(subscription(&collector, 0));
    rig.source.called(1).await;
    let addr = rig.handle.addr().downgrade();
    drop(rig.handle);
    tokio::time::sleep(secs(10)).await;
    told.assert_each_once(0..1);
    assert_eq!(told.to(0)[0].as_ref().unwrap().secret(), "token-2");
    assert!(addr.upgrade().is_none_or(|addr| !addr.connected()), "and then the actor has ended");
}

#[actix::test]
async fn a_subscription_s_own_timeout_is_its_answer() {
    let rig = rig();
    rig.source.hold();
    let (collector, told) = Collector::begin();
    rig.handle.subscribe(subscription(&collector, 0));
    rig.handle.subscribe(subscription(&collector, 1).timeout(secs(1)));
    rig.handle.subscribe(subscription(&collector, 2));
    tokio::time::sleep(secs(2)).await;
    assert_eq!(told.total(), 1);
    assert!(told.to(1)[0].as_ref().unwrap_err().is_timeout());
    rig.source.release();
    settle().await;
    told.assert_each_once(0..3);
}
