//! A million subscribers wait, and are answered. How long does another task on the same arbiter wait?
//!
//! ```sh
//! cargo bench --bench responsiveness
//! ```
//!
//! The other task only yields, and records the longest time between two of its turns: while the subscriptions come
//! in (from another thread), while they are answered, while a million of them time out, and while the actor has
//! 300,000 status requests in its mailbox.
//! It measures by the wall clock, and by the thread's own processor time, which does not depend on the machine's
//! load.
#![allow(clippy::disallowed_methods)] // it measures

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use actix::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use tokenflight::testing::ScriptedSource;
use tokenflight::{GetStatus, RefreshPolicy, Subscribe, TokenActor, TokenHandle, TokenReady};

const SUBSCRIBERS: u64 = 1_000_000;
const RUNS: usize = 5;

const QUESTIONS: u64 = 300_000;

const PHASES: [&str; 4] = ["coming in", "answered", "timed out", "status"];

fn main() {
    println!("{SUBSCRIBERS} subscriptions; the longest that another task on the arbiter was kept waiting,");
    println!("in ms by the wall clock (and of processor time)");
    println!("run {:>18} {:>18} {:>18} {:>18}   once each", PHASES[0], PHASES[1], PHASES[2], PHASES[3]);
    let runs: Vec<[Longest; 4]> = (1..=RUNS).map(one_run).collect();
    for (phase, name) in PHASES.iter().enumerate() {
        let median = |clock: fn(&Longest) -> Duration| {
            let mut all: Vec<_> = runs.iter().map(|run| clock(&run[phase])).collect();
            all.sort();
            all[RUNS / 2]
        };
        println!("median, {name}: {}", Longest { wall: median(|it| it.wall), cpu: median(|it| it.cpu) });
    }
}

fn one_run(number: usize) -> [Longest; 4] {
    System::new().block_on(async {
        let source = ScriptedSource::new();
        let policy = RefreshPolicy::default()
            .max_waiters(2 * usize::try_from(SUBSCRIBERS).expect("a small number"))
            .wait_timeout(Duration::from_secs(600))
            .attempt_timeout(Duration::from_secs(600))
            .flight_timeout(Duration::from_secs(600));
        let handle = TokenActor::builder(source.clone()).policy(policy).start().expect("a sound policy");
        let (listener, answers) = Listener::begin();
        let probe = Probe::start();

        source.hold();
        let coming_in = subscribe(&handle, &listener, None, &probe).await;
        probe.restart();
        source.release();
        answers.reached(SUBSCRIBERS).await;
        let answered = probe.longest();
        let once_each = answers.all_once();

        // Again, with a source that does not answer, and a patience that ends for all within a moment.
        source.hold();
        handle.discard(&handle.current().expect("the token that all of them got"));
        subscribe(&handle, &listener, Some(Duration::from_secs(5)), &probe).await;
        probe.restart();
        answers.reached(2 * SUBSCRIBERS).await;
        let timed_out = probe.longest();

        probe.restart();
        for _ in 0..QUESTIONS {
            handle.addr().do_send(GetStatus);
        }
        // The mailbox is filled in one go, which is not what is measured.
        probe.restart();
        handle.status().await.expect("it runs");
        let asked = probe.longest();
        probe.stop();
        handle.shutdown().await;

        println!("{number:>3} {coming_in:>18} {answered:>18} {timed_out:>18} {asked:>18}   {once_each}");
        [coming_in, answered, timed_out, asked]
    })
}

/// From another thread, so that the sender is not what the arbiter is busy with.
async fn subscribe(
    handle: &TokenHandle,
    listener: &Addr<Listener>,
    timeout: Option<Duration>,
    probe: &Probe,
) -> Longest {
    let before = handle.status().await.expect("it runs").counters.requests;
    probe.restart();
    let (to, recipient) = (handle.clone(), listener.clone().recipient());
    thread::spawn(move || {
        for ticket in 0..SUBSCRIBERS {
            let subscription = Subscribe::new(recipient.clone()).ticket(ticket);
            to.subscribe(match timeout {
                Some(limit) => subscription.timeout(limit),
                None => subscription,
            });
        }
    });
    loop {
        let requests = handle.status().await.expect("it runs").counters.requests;
        if requests >= before + SUBSCRIBERS {
            return probe.longest();
        }
        tokio::task::yield_now().await;
    }
}

/// Counts the answers by ticket.
struct Listener(Arc<Answers>);

struct Answers {
    by_ticket: Vec<AtomicU64>,
    total: tokio::sync::watch::Sender<u64>,
}

impl Listener {
    fn begin() -> (Addr<Self>, Arc<Answers>) {
        let by_ticket = (0..SUBSCRIBERS).map(|_| AtomicU64::new(0)).collect();
        let answers = Arc::new(Answers { by_ticket, total: tokio::sync::watch::Sender::new(0) });
        (Self(answers.clone()).start(), answers)
    }
}

impl Answers {
    async fn reached(&self, total: u64) {
        let _ = self.total.subscribe().wait_for(|count| *count >= total).await;
    }

    fn all_once(&self) -> bool {
        self.by_ticket.iter().all(|count| count.load(Ordering::Relaxed) == 1)
    }
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<TokenReady> for Listener {
    type Result = ();

    fn handle(&mut self, ready: TokenReady, _: &mut Context<Self>) {
        let index = usize::try_from(ready.ticket).expect("a small number");
        self.0.by_ticket[index].fetch_add(1, Ordering::Relaxed);
        self.0.total.send_modify(|count| *count += 1);
    }
}

/// The longest time between two turns, on two clocks.
#[derive(Clone, Copy)]
struct Longest {
    wall: Duration,
    cpu: Duration,
}

impl std::fmt::Display for Longest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [wall, cpu] = [self.wall, self.cpu].map(|time| time.as_secs_f64() * 1e3);
        f.pad(&format!("{wall:.1} ({cpu:.1})"))
    }
}

/// The other task.
#[derive(Clone)]
struct Probe(Arc<Seen>);

struct Seen {
    wall: Gap,
    cpu: Gap,
    stop: AtomicBool,
}

/// By one clock, in nanoseconds.
struct Gap {
    clock: ClockId,
    last: AtomicU64,
    longest: AtomicU64,
}

impl Probe {
    fn start() -> Self {
        let seen = Seen {
            wall: Gap::by(ClockId::Monotonic),
            cpu: Gap::by(ClockId::ThreadCPUTime),
            stop: false.into(),
        };
        let probe = Self(Arc::new(seen));
        let mine = probe.clone();
        actix_rt::spawn(async move {
            while !mine.0.stop.load(Ordering::Relaxed) {
                mine.turn();
                tokio::task::yield_now().await;
            }
        });
        probe
    }

    fn turn(&self) {
        self.0.wall.turn();
        self.0.cpu.turn();
    }

    fn restart(&self) {
        self.turn();
        for gap in [&self.0.wall, &self.0.cpu] {
            gap.longest.store(0, Ordering::Relaxed);
        }
    }

    fn longest(&self) -> Longest {
        self.turn();
        let [wall, cpu] =
            [&self.0.wall, &self.0.cpu].map(|gap| Duration::from_nanos(gap.longest.load(Ordering::Relaxed)));
        Longest { wall, cpu }
    }

    fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Gap {
    fn by(clock: ClockId) -> Self {
        Self { clock, last: nanos(clock).into(), longest: 0.into() }
    }

    fn turn(&self) {
        let now = nanos(self.clock);
        let last = self.last.swap(now, Ordering::Relaxed);
        self.longest.fetch_max(now.saturating_sub(last), Ordering::Relaxed);
    }
}

fn nanos(clock: ClockId) -> u64 {
    let time = Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
