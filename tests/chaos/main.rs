//! Chaos: everything at once, on real threads and sockets, for a while. At the end the records must balance.
//!
//! ```text
//! CHAOS_SECONDS=300 CHAOS_SEED=7 cargo test --all-features --test chaos
//! ```
//!
//! `cargo test` alone leaves it out; `./tests/run` runs it for 20 seconds. `CHAOS_SEED` fixes the random numbers,
//! not the threads: the same seed gives the same kind of trouble, not the same run.
//!
//! * `server`: an auth server on a socket that hangs, resets, drips, refuses, and gives invalid answers. Its tokens
//!   last from no time at all to five seconds. It repeats itself: it gives one of the last two tokens again.
//! * `stage`, `start`: actors on threads, arbiters, in separate Systems and under a `Supervisor`, each with a
//!   source that checks its own calls. They are shut down, abandoned, or lose arbiter or System, and are started
//!   again, with callers in flight.
//! * `callers`, `subscribers`: on plain tokio threads and on arbiters, they get, ask, force, subscribe (some twice, some
//!   with their own timeout), replace, invalidate, discard, time out, and stop. From time to time a crowd of 12,000
//!   subscribes at once.
//! * `tally`, `verdict`: the records. Every request and every ticket is answered, or was dropped by its sender, or
//!   its subscriber had stopped. No ticket is answered twice. No source is called twice at once. No expired token
//!   is handed out. No caller waits longer than agreed, except for the delay of the machine itself, which is
//!   measured. No discarded token is handed out to a later caller. A usable token that was not discarded is
//!   withheld for a second at most.
//!
//! It prints the records, and exits with 1 if one of these does not hold, with 2 if it hangs.

mod callers;
mod server;
mod stage;
mod start;
mod subscribers;
mod tally;
mod verdict;

use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use actix::prelude::{Arbiter, System};

use stage::Stage;
use subscribers::Subscribers;
use tally::Tally;

/// What an orderly end may take, after which it counts as a hang.
const LAST_ORDERS: Duration = Duration::from_secs(30);
const CALLERS: u64 = 48;
const CALLER_ARBITERS: usize = 2;

/// What everybody here needs.
struct World {
    tally: Tally,
    stage: Stage,
    subscribers: Subscribers,
    over: AtomicBool,
    /// When the next crowd may come, in milliseconds.
    next_crowd: AtomicU64,
    seed: u64,
}

impl World {
    /// A crowd every few seconds, whoever begins it.
    fn is_time_for_a_crowd(&self) -> bool {
        const INTERVAL: u64 = 3_000;
        let now = u64::try_from(tally::now().as_millis()).unwrap();
        let next = self.next_crowd.load(Ordering::SeqCst);
        let swap = |to| self.next_crowd.compare_exchange(next, to, Ordering::SeqCst, Ordering::SeqCst);
        now >= next && swap(now + INTERVAL).is_ok()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Dice for one of the players.
    fn dice(&self, player: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ player.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")))
}

fn main() {
    let seconds = setting("CHAOS_SECONDS").unwrap_or(20);
    let seed = setting("CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("chaos: {seconds} s, CHAOS_SEED={seed}");
    quiet_the_panics_of_the_source();
    let system = System::new();
    let held = system.block_on(run(Duration::from_secs(seconds), seed));
    exit(i32::from(!held));
}

async fn run(length: Duration, seed: u64) -> bool {
    let server = server::Server::start(seed);
    let world = Arc::new(World {
        tally: Tally::new(),
        stage: Stage::new(server.address()),
        subscribers: Subscribers::new(),
        over: AtomicBool::new(false),
        next_crowd: AtomicU64::new(0),
        seed,
    });
    watch_over(Arc::clone(&world), length + LAST_ORDERS);
    stage::read_all_the_time(&world);
    // Nobody calls anybody who is not there yet.
    subscribers::begin(&world);
    let arbiters: Vec<Arbiter> = (0..CALLER_ARBITERS).map(|_| Arbiter::new()).collect();
    let managers = stage::begin(&world, &arbiters[0].handle()).await;

    let plain = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut callers = Vec::new();
    for number in 0..CALLERS {
        let caller = callers::call_until_over(Arc::clone(&world), number);
        let (done, end) = tokio::sync::oneshot::channel::<()>();
        let caller = async move {
            caller.await;
            drop(done);
        };
        match usize::try_from(number).unwrap() % (CALLER_ARBITERS + 2) {
            at if at < CALLER_ARBITERS => assert!(arbiters[at].spawn(caller)),
            _ => drop(plain.spawn(caller)),
        }
        callers.push(end);
    }
    tokio::time::sleep(length).await;
    world.over.store(true, Ordering::SeqCst);
    for caller in callers {
        let _ = caller.await; // the going of its other half is the sign
    }
    for manager in managers {
        manager.await.unwrap();
    }
    world.tally.all_tickets_answered().await;
    plain.shutdown_background();
    verdict::print(&world.tally, &server.served(), &server.overlaps(&world.tally.received()))
}

/// A hang is a failure that says so. And it takes the machine's own pulse: a thread that sleeps 10 ms wakes
/// up late by as much as everybody here is late through no fault of the crate.
fn watch_over(world: Arc<World>, limit: Duration) {
    const BEAT: Duration = Duration::from_millis(10);
    thread::spawn(move || {
        let begin = tally::now();
        loop {
            let before = tally::now();
            thread::sleep(BEAT);
            world.tally.machine_was_late(tally::now().saturating_sub(before + BEAT));
            if tally::now().saturating_sub(begin) > limit {
                println!("chaos hangs: {limit:?} have passed and somebody has not come to an end");
                verdict::print(&world.tally, &[], &[]);
                exit(2);
            }
        }
    });
}

/// The ones that the source is told to make; every other one is shown.
fn quiet_the_panics_of_the_source() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<String>().is_none_or(|message| message != start::PANIC) {
            usual(panic);
        }
    }));
}
