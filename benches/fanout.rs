//! The cost of waking all waiters, from the source's answer to the last one, beside the simplest ways to do it.
//!
//! ```sh
//! cargo bench --bench fanout
//! ```
//!
//! All on one arbiter. Tasks that wait on a handle are compared with tasks that wait on a `Shared` future or on a
//! oneshot each. Subscriptions are compared with a loop of `do_send` over the same number of recipients.
#![allow(clippy::disallowed_methods, clippy::cast_precision_loss)] // it measures

#[path = "common/asked.rs"]
mod asked;
#[path = "common/crowd.rs"]
mod crowd;
#[path = "common/side_by_side.rs"]
mod side_by_side;

use std::future::Future;
use std::time::{Duration, Instant};

use actix::prelude::*;
use asked::asked;
use futures_util::FutureExt;
use side_by_side::SideBySide;
use tokenflight::{Token, TokenActor, TokenReady};
use tokio::sync::oneshot;

const MANY: usize = 100_000;
const MORE: usize = 1_000_000;

fn main() {
    asked("messages a flight, 1,000 callers of another arbiter", in_system(messages_a_flight(1_000)), 1.0);
    let tasks = SideBySide::new(format!("{MANY} tasks that wait for a token"), "ms")
        .row("futures::Shared", || in_system(shared(MANY)))
        .row("oneshot each", || in_system(oneshots(MANY)))
        .row("handle.get().await", || in_system(handles(MANY)))
        .measure(15);
    tasks.print("futures::Shared");
    let recipients = SideBySide::new(format!("{MANY} subscriptions of one actor"), "ms")
        .row("do_send in a loop", || in_system(sends(MANY, usize::MAX)))
        .row("the same, a pause after each 1,024", || in_system(sends(MANY, 1_024)))
        .row("do_send in a loop, in an actor that keeps them", || in_system(keeper(MANY)))
        .row("Subscribe", || in_system(subscriptions(MANY)))
        .measure(15);
    recipients.print("do_send in a loop");
    let million = SideBySide::new("From 100,000 to 1,000,000", "ms")
        .row("100k handles", || in_system(handles(MANY)))
        .row("1M handles", || in_system(handles(MORE)))
        .row("1M of futures::Shared", || in_system(shared(MORE)))
        .row("100k subscriptions", || in_system(subscriptions(MANY)))
        .row("1M subscriptions", || in_system(subscriptions(MORE)))
        .row("1M of do_send in a loop", || in_system(sends(MORE, usize::MAX)))
        .measure(5);
    million.print("100k handles");
    println!();
    asked(
        "handles to futures::Shared",
        tasks.median("handle.get().await") / tasks.median("futures::Shared"),
        1.3,
    );
    asked(
        "subscriptions to do_send",
        recipients.median("Subscribe") / recipients.median("do_send in a loop"),
        1.3,
    );
    asked("1M to 100k handles", million.median("1M handles") / million.median("100k handles"), 12.0);
    asked(
        "1M to 100k subscriptions",
        million.median("1M subscriptions") / million.median("100k subscriptions"),
        12.0,
    );
}

fn token() -> Token {
    Token::new("x".repeat(900)).with_lifetime(Duration::from_secs(3600))
}

fn in_system(run: impl Future<Output = f64>) -> f64 {
    System::new().block_on(run)
}

/// How long it takes from `release` until all have been told.
async fn until_told(release: impl FnOnce(), all_told: oneshot::Receiver<()>) -> f64 {
    let begin = Instant::now();
    release();
    all_told.await.expect("everybody is told");
    begin.elapsed().as_secs_f64() * 1e3
}

async fn shared(n: usize) -> f64 {
    let (sender, receiver) = oneshot::channel();
    let outcome = receiver.shared();
    let all_told = crowd::tasks(n, |seat| {
        let outcome = outcome.clone();
        async move {
            seat.here.one();
            outcome.await.expect("a token");
            seat.told.one();
        }
    })
    .await;
    until_told(|| drop(sender.send(token())), all_told).await
}

async fn oneshots(n: usize) -> f64 {
    let mut senders = Vec::with_capacity(n);
    let all_told = crowd::tasks(n, |seat| {
        let (sender, receiver) = oneshot::channel();
        senders.push(sender);
        async move {
            seat.here.one();
            drop(receiver.await.expect("a token"));
            seat.told.one();
        }
    })
    .await;
    let token = token();
    until_told(|| senders.into_iter().for_each(|sender| drop(sender.send(token.clone()))), all_told).await
}

async fn handles(n: usize) -> f64 {
    let (handle, source) = crowd::handle();
    let all_told = crowd::askers(&handle, &source, n).await;
    let took = until_told(|| source.release(), all_told).await;
    handle.shutdown().await;
    took
}

async fn sends(n: usize, chunk: usize) -> f64 {
    let (recipient, all_told) = crowd::listener(n);
    let recipients = vec![recipient; n];
    let token = token();
    let begin = Instant::now();
    let mut sent = 0;
    for (ticket, recipient) in recipients.into_iter().enumerate() {
        recipient.do_send(TokenReady::new(ticket as u64, Ok(token.clone())));
        sent += 1;
        if sent % chunk == 0 {
            tokio::task::yield_now().await;
        }
    }
    all_told.await.expect("everybody is told");
    begin.elapsed().as_secs_f64() * 1e3
}

async fn subscriptions(n: usize) -> f64 {
    let (handle, source) = crowd::handle();
    let all_told = crowd::subscriptions(&handle, n).await;
    let took = until_told(|| source.release(), all_told).await;
    handle.shutdown().await;
    took
}

/// Callers of another arbiter than the actor's, at once, twice: how many messages does the actor see?
async fn messages_a_flight(callers: usize) -> f64 {
    const FLIGHTS: u32 = 2;
    let arbiter = Arbiter::new();
    let source = tokenflight::testing::ScriptedSource::new();
    let handle =
        TokenActor::builder(source.clone()).start_on(&arbiter.handle()).expect("an arbiter that runs");
    for flight in 1..=FLIGHTS {
        source.hold();
        let callers = futures_util::future::join_all((0..callers).map(|_| handle.get()));
        let release = async {
            source.called(flight as usize).await;
            source.release();
        };
        let (tokens, ()) = tokio::join!(callers, release);
        handle.discard(tokens[0].as_ref().expect("a token"));
    }
    let counters = handle.status().await.expect("it runs").counters;
    assert_eq!(counters.attempts, u64::from(FLIGHTS));
    handle.shutdown().await;
    arbiter.stop();
    counters.requests as f64 / f64::from(FLIGHTS)
}

/// The least that an actor can do for its observers: it keeps them as they come, and sends when it is told to.
async fn keeper(n: usize) -> f64 {
    let (recipient, all_told) = crowd::listener(n);
    let keeper = Keeper(Vec::new()).start();
    for ticket in 0..n {
        keeper.do_send(Keep(recipient.clone(), ticket as u64));
    }
    let release = Release(token());
    keeper.send(Look).await.expect("it runs");
    until_told(|| keeper.do_send(release), all_told).await
}

struct Keeper(Vec<(Recipient<TokenReady>, u64)>);

#[derive(Message)]
#[rtype(result = "()")]
struct Keep(Recipient<TokenReady>, u64);

#[derive(Message)]
#[rtype(result = "()")]
struct Look;

#[derive(Message)]
#[rtype(result = "()")]
struct Release(Token);

impl Actor for Keeper {
    type Context = Context<Self>;
}

impl Handler<Keep> for Keeper {
    type Result = ();

    fn handle(&mut self, keep: Keep, _: &mut Context<Self>) {
        self.0.push((keep.0, keep.1));
    }
}

impl Handler<Look> for Keeper {
    type Result = ();

    fn handle(&mut self, _: Look, _: &mut Context<Self>) {}
}

impl Handler<Release> for Keeper {
    type Result = ();

    fn handle(&mut self, release: Release, _: &mut Context<Self>) {
        for (recipient, ticket) in self.0.drain(..) {
            recipient.do_send(TokenReady::new(ticket, Ok(release.0.clone())));
        }
    }
}
