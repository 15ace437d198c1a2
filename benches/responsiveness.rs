//! A million subscribers wait, and are answered. How long is another task on the same arbiter kept waiting?
//!
//! ```sh
//! cargo bench --bench responsiveness
//! ```
//!
//! The other task does nothing but yield, and notes the longest time between two of its turns: while the
//! subscriptions come in (from another thread), while they are answered, and while a million of them time out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokenflight::testing::ScriptedSource;
use tokenflight::{RefreshPolicy, Subscribe, TokenActor, TokenHandle, TokenReady};

const SUBSCRIBERS: u64 = 1_000_000;
const RUNS: usize = 5;

fn main() {
    println!(
        "{SUBSCRIBERS} subscriptions; the longest that another task on the arbiter was kept waiting, in ms"
    );
    println!(
        "{:>4} {:>12} {:>12} {:>12} {:>10} {:>8}",
        "run", "coming in", "answered", "timed out", "once each", "took"
    );
    let mut runs: Vec<Waits> = (1..=RUNS).map(one_run).collect();
    for (name, of) in [
        ("coming in", Waits::coming_in as fn(&Waits) -> Duration),
        ("answered", Waits::answered),
        ("timed out", Waits::timed_out),
    ] {
        runs.sort_by_key(of);
        println!("median, {name}: {:.1} ms", millis(of(&runs[RUNS / 2])));
    }
}

struct Waits([Duration; 3]);

impl Waits {
    fn coming_in(&self) -> Duration {
        self.0[0]
    }
    fn answered(&self) -> Duration {
        self.0[1]
    }
    fn timed_out(&self) -> Duration {
        self.0[2]
    }
}

fn one_run(number: usize) -> Waits {
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
        let began = Instant::now();
        probe.restart();
        source.release();
        answers.reached(SUBSCRIBERS).await;
        let (answered, took) = (probe.longest(), began.elapsed());
        let once_each = answers.all_once();

        // Again, to a source that never answers and with a patience that ends for all within a moment.
        source.hold();
        handle.invalidate(&handle.current().expect("the token that all of them got"));
        subscribe(&handle, &listener, Some(Duration::from_secs(5)), &probe).await;
        probe.restart();
        answers.reached(2 * SUBSCRIBERS).await;
        let timed_out = probe.longest();
        probe.stop();
        handle.shutdown().await;

        println!(
            "{number:>4} {:>12.1} {:>12.1} {:>12.1} {once_each:>10} {:>6.0}ms",
            millis(coming_in),
            millis(answered),
            millis(timed_out),
            millis(took)
        );
        Waits([coming_in, answered, timed_out])
    })
}

/// From another thread, so that the sender is not what the arbiter is busy with.
async fn subscribe(
    handle: &TokenHandle,
    listener: &Addr<Listener>,
    timeout: Option<Duration>,
    probe: &Probe,
) -> Duration {
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

/// The other task.
#[derive(Clone)]
struct Probe(Arc<Seen>);

struct Seen {
    start: Duration,
    last: AtomicU64,
    longest: AtomicU64,
    stop: AtomicBool,
}

impl Probe {
    fn start() -> Self {
        let seen = Seen { start: cpu(), last: 0.into(), longest: 0.into(), stop: false.into() };
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
        let now = u64::try_from(cpu().saturating_sub(self.0.start).as_nanos()).unwrap_or(u64::MAX);
        let last = self.0.last.swap(now, Ordering::Relaxed);
        self.0.longest.fetch_max(now - last, Ordering::Relaxed);
    }

    fn restart(&self) {
        self.turn();
        self.0.longest.store(0, Ordering::Relaxed);
    }

    fn longest(&self) -> Duration {
        self.turn();
        Duration::from_nanos(self.0.longest.load(Ordering::Relaxed))
    }

    fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn cpu() -> Duration {
    Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime)).unwrap_or_default()
}
