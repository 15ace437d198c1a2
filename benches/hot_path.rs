//! The cost of reading a fresh token, beside the simplest ways to keep one.
//!
//! ```sh
//! cargo bench --bench hot_path
//! ```
//!
//! The token has 900 bytes. Each of the simple ways keeps it in an `Arc` beside the `Instant` at which it ends.
#![allow(clippy::disallowed_methods, clippy::cast_precision_loss)] // it measures

#[path = "common/asked.rs"]
mod asked;
#[path = "common/side_by_side.rs"]
mod side_by_side;

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use asked::asked;
use rustix::time::{ClockId, clock_gettime};
use side_by_side::{Figures, SideBySide};
use tokenflight::{Token, TokenActor, TokenHandle, source_fn};
use tokio::sync::watch;

const ROUNDS: usize = 25;
const READS: u32 = 100_000;

const BASE: &str = "Instant::now() + ArcSwap load";
const CURRENT: &str = "handle.current()";
const GET: &str = "handle.get().await";
const HEADER: &str = "token.authorization()";

struct Kept {
    secret: String,
    until: Instant,
}

impl Kept {
    fn is_good(&self) -> bool {
        !self.secret.is_empty() && Instant::now() < self.until
    }
}

fn main() {
    let secret = "x".repeat(900);
    let kept = Arc::new(Kept { secret: secret.clone(), until: Instant::now() + Duration::from_secs(3600) });
    let handle = handle_with(secret);
    let one = measure(1, &kept, &handle);
    one.print(BASE);
    let two = measure(2, &kept, &handle);
    two.print(BASE);
    println!();
    asked("current(), 1 thread, to the bare ArcSwap", one.median(CURRENT) / one.median(BASE), 0.5);
    asked("current(), 2 threads to 1", two.median(CURRENT) / one.median(CURRENT), 1.3);
    asked("get() to current(), 1 thread", one.median(GET) / one.median(CURRENT), 1.3);
    asked("get() to current(), 2 threads", two.median(GET) / two.median(CURRENT), 1.3);
    asked("authorization(), 2 threads to 1", two.median(HEADER) / one.median(HEADER), 1.3);
    futures_executor::block_on(handle.shutdown());
}

fn handle_with(secret: String) -> TokenHandle {
    let token = Token::new(secret).with_lifetime(Duration::from_secs(3600));
    let source = source_fn(move |_| std::future::ready(Ok(token.clone())));
    let handle = TokenActor::builder(source).spawn_thread().expect("a thread");
    futures_executor::block_on(handle.get()).expect("a token");
    handle
}

fn measure(threads: usize, kept: &Arc<Kept>, handle: &TokenHandle) -> Figures {
    let swap = ArcSwap::new(kept.clone());
    let lock = RwLock::new(kept.clone());
    let (_sender, receiver) = watch::channel(kept.clone());
    let title = format!("A fresh token of 900 bytes, {threads} thread(s)");
    let owned_if_good = |kept: &Arc<Kept>| kept.is_good().then(|| kept.clone());
    SideBySide::new(title, "ns")
        .row("Instant::now()", || nanos(threads, || repeat(Instant::now)))
        .row(BASE, || nanos(threads, || repeat(|| swap.load().is_good())))
        .row("the same, and an owned Arc of it", || nanos(threads, || repeat(|| owned_if_good(&swap.load()))))
        .row("RwLock<Arc<_>>, Instant::now(), owned", || {
            nanos(threads, || repeat(|| owned_if_good(&lock.read().expect("nobody panics"))))
        })
        .row("watch::borrow(), Instant::now(), owned", || {
            nanos(threads, || {
                let receiver = receiver.clone();
                repeat(|| owned_if_good(&receiver.borrow()));
            })
        })
        .row(CURRENT, || nanos(threads, || repeat(|| handle.current())))
        .row(GET, || {
            nanos(threads, || {
                futures_executor::block_on(async {
                    for _ in 0..READS {
                        let _ = black_box(handle.get().await);
                    }
                });
            })
        })
        .row(HEADER, || {
            nanos(threads, || {
                let token = handle.current().expect("a fresh token");
                repeat(|| token.authorization());
            })
        })
        .row("handle.current(), then authorization()", || {
            nanos(threads, || repeat(|| handle.current().map(|token| token.authorization())))
        })
        .measure(ROUNDS)
}

fn repeat<R>(mut read: impl FnMut() -> R) {
    for _ in 0..READS {
        black_box(read());
    }
}

/// What one of the reads costs where so many threads read at the same time: really so, on a processor each. A run
/// in which another program had one of them meanwhile is made again.
fn nanos(threads: usize, reads: impl Fn() + Sync) -> f64 {
    const TRIES: usize = 20;
    let runs = || at_once(threads, &reads);
    let undisturbed = (1..TRIES).map(|_| runs()).find(|all| all.iter().all(|run| run.is_undisturbed(all)));
    let all = undisturbed.unwrap_or_else(runs);
    let mean = all.iter().map(|run| run.took().as_secs_f64()).sum::<f64>() / threads as f64;
    mean * 1e9 / f64::from(READS)
}

fn at_once(threads: usize, reads: &(impl Fn() + Sync)) -> Vec<Run> {
    let started = AtomicUsize::new(0);
    let one = || {
        started.fetch_add(1, Ordering::Relaxed);
        while started.load(Ordering::Relaxed) < threads {
            spin_loop();
        }
        let (begin, processor) = (Instant::now(), processor_time());
        reads();
        Run { begin, end: Instant::now(), processor: processor_time().saturating_sub(processor) }
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        readers.into_iter().map(|reader| reader.join().expect("no panic")).collect()
    })
}

/// One thread's.
struct Run {
    begin: Instant,
    end: Instant,
    processor: Duration,
}

impl Run {
    fn took(&self) -> Duration {
        self.end - self.begin
    }

    /// It had its processor all the time, and so had the others beside it.
    fn is_undisturbed(&self, all: &[Run]) -> bool {
        let slack = self.took() / 10;
        let beside = all.iter().all(|other| other.begin < self.begin + slack && other.end + slack > self.end);
        beside && self.processor + slack >= self.took()
    }
}

fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
