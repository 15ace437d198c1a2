//! Actors that wait for `TokenReady`. Half of them stop from time to time, and are replaced.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use tokenflight::TokenReady;

use crate::World;
use crate::tally::named;

const PLACES: usize = 8;

pub(crate) struct Subscribers(Vec<Mutex<Option<Subscriber>>>);

/// One of them, as callers know it.
#[derive(Clone)]
pub(crate) struct Subscriber {
    pub(crate) addr: Addr<Listener>,
    tickets: Arc<Open>,
}

/// The tickets that one of them has out, so that they can be written off when it stops.
#[derive(Default)]
struct Open {
    numbers: Mutex<Vec<u64>>,
    stopping: AtomicBool,
}

impl Subscribers {
    pub(crate) fn new() -> Self {
        Self((0..PLACES).map(|_| Mutex::new(None)).collect())
    }

    pub(crate) fn anyone(&self, dice: &mut fastrand::Rng) -> Subscriber {
        let place = &self.0[dice.usize(..PLACES)];
        place.lock().unwrap().clone().expect("the callers come after the subscribers")
    }
}

impl Subscriber {
    /// Takes note that a ticket is out; to be called before it is sent.
    pub(crate) fn expects(&self, world: &World, ticket: u64) {
        let mut numbers = self.tickets.numbers.lock().unwrap();
        numbers.push(ticket);
        if self.tickets.stopping.load(Ordering::SeqCst) {
            world.tally.may_be_lost(ticket);
        }
    }
}

/// Starts them all, and those that replace who stops.
pub(crate) fn begin(world: &Arc<World>) {
    let arbiter = Arbiter::new();
    for place in 0..PLACES {
        let first = listen(world, &arbiter.handle());
        *world.subscribers.0[place].lock().unwrap() = Some(first.clone());
        if place % 2 == 0 {
            let (world, arbiter) = (Arc::clone(world), arbiter.handle());
            actix_rt::spawn(come_and_go(world, place, arbiter, first));
        }
    }
}

fn listen(world: &Arc<World>, arbiter: &ArbiterHandle) -> Subscriber {
    let world = Arc::clone(world);
    let addr = Listener::start_in_arbiter(arbiter, |_| Listener { world });
    Subscriber { addr, tickets: Arc::default() }
}

async fn come_and_go(world: Arc<World>, place: usize, arbiter: ArbiterHandle, mut current: Subscriber) {
    let mut dice = world.dice(1_000_000_000 + place as u64);
    loop {
        tokio::time::sleep(Duration::from_millis(dice.u64(100..1_500))).await;
        if world.is_over() {
            return;
        }
        let next = listen(&world, &arbiter);
        let last = std::mem::replace(&mut current, next.clone());
        {
            let numbers = last.tickets.numbers.lock().unwrap();
            last.tickets.stopping.store(true, Ordering::SeqCst);
            numbers.iter().for_each(|ticket| world.tally.may_be_lost(*ticket));
        }
        world.tally.count("subscribers stopped");
        last.addr.do_send(Halt);
        // Some caller may still find the one that has stopped.
        tokio::time::sleep(Duration::from_millis(dice.u64(..100))).await;
        *world.subscribers.0[place].lock().unwrap() = Some(next);
    }
}

/// Keeps the books of what it is told.
pub(crate) struct Listener {
    world: Arc<World>,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<TokenReady> for Listener {
    type Result = ();

    fn handle(&mut self, ready: TokenReady, _: &mut Context<Self>) {
        self.world.tally.ready(ready.ticket, &named(ready.result));
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Halt;

impl Handler<Halt> for Listener {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
