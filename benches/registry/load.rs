//! A registry's manners: at the auth server, and among its keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokenflight::registry::TokenRegistry;
use tokenflight::source::KeyedSource;
use tokenflight::{FetchContext, RefreshPolicy, SourceError, Token};

use crate::on_a_system;

const HOUR: Duration = Duration::from_secs(3_600);

/// Calls so far, under way, and at once at most.
#[derive(Default)]
struct Calls {
    all: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Calls {
    fn begin(&self) {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(self.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the auth server does with the call for a key.
type Server = fn(u64, usize) -> (Duration, Option<&'static str>);

fn server(calls: &Arc<Calls>, answers: Server) -> impl KeyedSource<u64> + use<> {
    let calls = Arc::clone(calls);
    move |key: u64, _cx: FetchContext| {
        let calls = Arc::clone(&calls);
        async move {
            calls.begin();
            let (takes, error) = answers(key, calls.all.load(Ordering::Relaxed));
            tokio::time::sleep(takes).await;
            calls.end();
            match error {
                Some(error) => Err(SourceError::transient(error)),
                None => Ok(Token::new(format!("token-of-{key}")).with_lifetime(HOUR)),
            }
        }
    }
}

/// 100,000 keys, each with one caller, and none has a token.
pub(crate) fn expiry() {
    const KEYS: u64 = 100_000;
    on_a_system(async {
        let calls = Arc::default();
        let tokens = TokenRegistry::builder(server(&calls, |_, _| (Duration::from_millis(20), None)))
            .policy(RefreshPolicy::default().wait_timeout(Duration::from_secs(60)))
            .max_keys(200_000)
            .max_calls(64)
            .start()
            .expect("an arbiter");
        let begin = Instant::now();
        let callers: Vec<_> = (0..KEYS)
            .map(|key| {
                let get = tokens.get(&key);
                actix::spawn(async move { (get.await.is_ok(), begin.elapsed()) })
            })
            .collect();
        let (mut served, mut last) = (0, Duration::ZERO);
        for caller in callers {
            let (ok, at) = caller.await.expect("no panic");
            served += usize::from(ok);
            last = last.max(at);
        }
        let ideal = Duration::from_millis(20).as_secs_f64() * KEYS as f64 / 64.0;
        println!(
            "\n{KEYS} keys without a token, a caller each, 20 ms a call, 64 at once: {served} served, the last after {:.1} s = {:.2} x of {ideal:.1} s (asked: 1.2), at most {} calls at once, {} calls",
            last.as_secs_f64(),
            last.as_secs_f64() / ideal,
            calls.most.load(Ordering::Relaxed),
            calls.all.load(Ordering::Relaxed),
        );
        tokens.shutdown().await;
    });
}

/// 60 s of 503, while 10,000 keys are asked for all the time; then it is back.
pub(crate) fn outage() {
    const KEYS: u64 = 10_000;
    static DOWN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(true);
    on_a_system(async {
        let calls = Arc::default();
        let answers: Server = |_, _| {
            let down = DOWN.load(Ordering::Relaxed);
            (Duration::from_millis(20), down.then_some("503 Service Unavailable"))
        };
        let tokens = TokenRegistry::builder(server(&calls, answers)).start().expect("an arbiter");
        let begin = Instant::now();
        let mut asked = 0_u64;
        while begin.elapsed() < Duration::from_secs(60) {
            let gets = (0..100).map(|_| tokens.get(&fastrand::u64(..KEYS)));
            futures_util::future::join_all(gets).await;
            asked += 100;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!(
            "\n60 s of 503, {KEYS} keys, {asked} requests: {} calls (asked: at most 50)",
            calls.all.load(Ordering::Relaxed)
        );
        DOWN.store(false, Ordering::Relaxed);
        let (back, before) = (Instant::now(), calls.all.load(Ordering::Relaxed));
        let mut missing: Vec<u64> = (0..KEYS).collect();
        while !missing.is_empty() && back.elapsed() < Duration::from_secs(60) {
            let gets = missing.iter().map(|key| tokens.get(key));
            let outcomes = futures_util::future::join_all(gets).await;
            missing = missing
                .into_iter()
                .zip(outcomes)
                .filter(|(_, outcome)| outcome.is_err())
                .map(|it| it.0)
                .collect();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!(
            "it is back: all {KEYS} keys served after {:.1} s, {} calls, at most {} at once (asked: 16)",
            back.elapsed().as_secs_f64(),
            calls.all.load(Ordering::Relaxed) - before,
            calls.most.load(Ordering::Relaxed),
        );
        tokens.shutdown().await;
    });
}

/// A tenant whose calls fail, and one whose calls take 10 s, among 1,000 healthy ones, of which two a second have no token
/// any more.
pub(crate) fn neighbours() {
    const SECONDS: u64 = 40;
    const HEALTHY: u64 = 1_000;
    on_a_system(async {
        let mut p99 = [Duration::ZERO; 2];
        for (round, bad) in [false, true].into_iter().enumerate() {
            let tokens = TokenRegistry::builder(tenants()).start().expect("an arbiter");
            let all = futures_util::future::join_all((0..HEALTHY).map(|key| tokens.get(&key))).await;
            assert!(all.iter().all(Result::is_ok));
            let begin = Instant::now();
            let (mut waits, mut failed, mut reads) = (Vec::new(), 0, 0);
            for key in 0..SECONDS * 2 {
                if bad {
                    actix::spawn(tokens.get(&FAILS));
                    actix::spawn(tokens.get(&SLOW));
                }
                let sent = Instant::now();
                failed += usize::from(tokens.get(&key).await.is_err());
                waits.push(sent.elapsed());
                for _ in 0..100 {
                    let other = fastrand::u64(HEALTHY / 2..HEALTHY);
                    failed += usize::from(tokens.get(&other).await.is_err());
                    reads += 1;
                }
                let next = Duration::from_millis(500 * (key + 1));
                tokio::time::sleep(next.saturating_sub(begin.elapsed())).await;
            }
            waits.sort();
            p99[round] = waits[waits.len() * 99 / 100];
            let totals = tokens.totals().await.expect("it runs");
            println!(
                "\n{HEALTHY} healthy keys, {} calls, 2 a second, {reads} reads, {}: {failed} failed or timed out, p99 {:.1} ms, the gate was closed {} times",
                waits.len(),
                if bad { "beside one that fails and one that takes 10 s" } else { "alone" },
                p99[round].as_secs_f64() * 1e3,
                totals.closures,
            );
            tokens.shutdown().await;
        }
        println!(
            "p99 beside the bad ones: {:.2} x (asked: 1.5)",
            p99[1].as_secs_f64() / p99[0].as_secs_f64()
        );
    });
}

const FAILS: u64 = 2_000;
const SLOW: u64 = 2_001;

/// The first tokens of those keys that are asked for again end at once.
fn tenants() -> impl KeyedSource<u64> {
    let first: Arc<std::sync::Mutex<std::collections::HashSet<u64>>> = Arc::default();
    move |key: u64, _cx: FetchContext| {
        let is_first = first.lock().expect("nobody panics").insert(key);
        async move {
            tokio::time::sleep(Duration::from_millis(if key == SLOW { 10_000 } else { 20 })).await;
            if key == FAILS {
                return Err(SourceError::transient("503 Service Unavailable"));
            }
            let life = if is_first && key < 500 { Duration::from_millis(50) } else { HOUR };
            Ok(Token::new(format!("token-of-{key}")).with_lifetime(life))
        }
    }
}

/// One tenant with 50,000 callers, on a thread of their own; the others are asked for from another, while the crowd arrives,
/// waits and is told.
pub(crate) fn crowd() {
    on_a_system(async {
        let mut p99 = [Duration::ZERO; 2];
        for (round, crowd) in [0, 50_000].into_iter().enumerate() {
            let mut waits = Vec::new();
            for turn in 0..20_u64 {
                waits.append(&mut waits_beside(crowd, turn).await);
            }
            waits.sort();
            p99[round] = waits[waits.len() * 99 / 100];
            println!(
                "\nA tenant with {crowd} callers: the others' median {:.1} ms, p99 {:.1} ms of {}",
                waits[waits.len() / 2].as_secs_f64() * 1e3,
                p99[round].as_secs_f64() * 1e3,
                waits.len(),
            );
        }
        println!("beside the crowd: {:.2} x (asked: 1.2)", p99[1].as_secs_f64() / p99[0].as_secs_f64());
    });
}

/// How long each of the others waited.
async fn waits_beside(crowd: usize, turn: u64) -> Vec<Duration> {
    let answers: Server = |key, _| (Duration::from_millis(if key == 0 { 300 } else { 20 }), None);
    let tokens = TokenRegistry::builder(server(&Arc::default(), answers)).spawn_thread().expect("a thread");
    let crowded = tokens.clone();
    let crowd = std::thread::spawn(move || {
        let all = futures_util::future::join_all((0..crowd).map(|_| crowded.get(&0)));
        assert!(futures_executor::block_on(all).iter().all(Result::is_ok));
    });
    let mut waits = Vec::new();
    for key in 1..=20 {
        let sent = Instant::now();
        tokens.get(&(turn * 100 + key)).await.expect("a token");
        waits.push(sent.elapsed());
    }
    crowd.join().expect("no panic");
    tokens.shutdown().await;
    waits
}

/// 1,000,000 keys through a registry of 10,000, from four threads, with reports in between.
pub(crate) fn churn() {
    const SECONDS: u64 = 60;
    static RUNNING: [AtomicUsize; 1_000] = [const { AtomicUsize::new(0) }; 1_000];
    static OVERLAPS: AtomicUsize = AtomicUsize::new(0);
    let source = |key: u64, _cx: FetchContext| async move {
        // A thousand places for a million keys: two keys of one place are seldom under way at once.
        let place = &RUNNING[(key % 1_000) as usize];
        let before = place.swap(key as usize + 1, Ordering::Relaxed);
        OVERLAPS.fetch_add(usize::from(before == key as usize + 1), Ordering::Relaxed);
        tokio::task::yield_now().await;
        let _ = place.compare_exchange(key as usize + 1, 0, Ordering::Relaxed, Ordering::Relaxed);
        Ok(Token::new(key.to_string()).with_lifetime(HOUR))
    };
    let tokens = TokenRegistry::builder(source).max_calls(256).spawn_thread().expect("a thread");
    let (asked, answered, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    println!("\n1,000,000 keys through a registry of 10,000, four threads, {SECONDS} s");
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (tokens, asked, answered, failed) = (tokens.clone(), &asked, &answered, &failed);
            scope.spawn(move || {
                let mut dice = fastrand::Rng::with_seed(thread);
                while begin.elapsed() < Duration::from_secs(SECONDS) {
                    let keys: Vec<u64> = (0..64).map(|_| dice.u64(..1_000_000)).collect();
                    asked.fetch_add(keys.len(), Ordering::Relaxed);
                    let gets = keys.iter().map(|key| tokens.get(key));
                    for (key, outcome) in
                        keys.iter().zip(futures_executor::block_on(futures_util::future::join_all(gets)))
                    {
                        answered.fetch_add(1, Ordering::Relaxed);
                        match outcome {
                            Ok(token) if dice.u8(..) == 0 => tokens.invalidate(key, &token),
                            Ok(_) => {}
                            Err(_) => drop(failed.fetch_add(1, Ordering::Relaxed)),
                        }
                    }
                }
            });
        }
        scope.spawn(|| {
            for ten in 1..=SECONDS / 10 {
                std::thread::sleep(Duration::from_secs(10 * ten).saturating_sub(begin.elapsed()));
                let rss = super::memory::resident() >> 20;
                println!(
                    "{:>3} s: {} answered, {} keys, {rss} MiB",
                    ten * 10,
                    answered.load(Ordering::Relaxed),
                    tokens.len()
                );
            }
        });
    });
    println!(
        "asked {}, answered {}, of these {} with an error; {} flights of one key at once",
        asked.load(Ordering::Relaxed),
        answered.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed),
        OVERLAPS.load(Ordering::Relaxed),
    );
    futures_executor::block_on(tokens.shutdown());
}
