//! One answer of an API in a thousand is a 401, at random. The others are correct. Eight workers call it without a
//! pause, as the README's program does: get, call, and after a 401 replace and call once more. Which calls fail,
//! and what is the cost?
//!
//! ```sh
//! cargo bench --bench stray_401                      # 10 s
//! SECONDS=60 cargo bench --bench stray_401
//! cargo run --profile dev --bench stray_401          # the same, not optimised
//! ```
#![allow(clippy::disallowed_methods)] // it measures

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokenflight::{Token, TokenActor, TokenHandle, source_fn};

const WORKERS: usize = 8;
const ONE_IN: u64 = 1_000;

#[derive(Default)]
struct Tally {
    served: AtomicU64,
    /// Requests whose first answer was a 401.
    repeated: AtomicU64,
    /// Requests whose repetition was answered 401 too: nothing can help those.
    twice: AtomicU64,
    /// Requests without a token.
    failed: AtomicU64,
    /// The longest wait for a token, in microseconds.
    longest: AtomicU64,
}

fn main() {
    let seconds = std::env::var("SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let calls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&calls);
    let source = source_fn(move |_cx| {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(Token::new(format!("token-{number}")).with_lifetime(Duration::from_secs(3600)))
        }
    });
    let tokens = TokenActor::builder(source).spawn_thread().expect("a thread");
    let tally = Arc::new(Tally::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let end = Instant::now() + Duration::from_secs(seconds);
    let workers: Vec<_> =
        (0..WORKERS).map(|_| runtime.spawn(work(tokens.clone(), Arc::clone(&tally), end))).collect();
    for worker in workers {
        runtime.block_on(worker).unwrap();
    }
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "{WORKERS} workers, {seconds} s: {} served, {} repeated after a 401, {} answered 401 twice, {} without a token; longest wait for a token {:?}; {} auth calls",
        read(&tally.served),
        read(&tally.repeated),
        read(&tally.twice),
        read(&tally.failed),
        Duration::from_micros(read(&tally.longest)),
        read(&calls),
    );
    assert_eq!(read(&tally.failed), 0, "somebody was without a token");
    assert!(read(&calls) <= 9 + seconds / 60, "{} auth calls", read(&calls));
}

async fn work(tokens: TokenHandle, tally: Arc<Tally>, end: Instant) {
    let add = |count: &AtomicU64| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    while Instant::now() < end {
        let asked = Instant::now();
        let Ok(token) = tokens.get().await else {
            add(&tally.failed);
            continue;
        };
        tally
            .longest
            .fetch_max(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if call().await {
            add(&tally.served);
            continue;
        }
        add(&tally.repeated);
        match tokens.replace(&token).await {
            Ok(_) if call().await => add(&tally.served),
            Ok(_) => add(&tally.twice),
            Err(_) => add(&tally.failed),
        }
    }
}

/// The API. Returns whether the token was accepted.
async fn call() -> bool {
    tokio::task::yield_now().await;
    fastrand::u64(..ONE_IN) != 0
}
