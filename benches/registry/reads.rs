//! Reads of 100,000 keys, uniformly at random. The peers hold the same tokens: a clone is one reference count.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use quick_cache::sync::Cache;
use tokenflight::registry::TokenRegistry;
use tokenflight::{FetchContext, Token};

use crate::{on_a_system, text};

const KEYS: u64 = 100_000;
const READS: u64 = 1_000_000;
const ROUNDS: usize = 9;

pub(crate) fn run() {
    on_a_system(async {
        let source =
            |key: u64, _cx: FetchContext| async move { Ok(Token::new(text(key)).with_lifetime(HOUR)) };
        let registry = TokenRegistry::builder(source)
            .max_keys(2 * KEYS as usize)
            .max_calls(1_000)
            .spawn_thread()
            .expect("a thread");
        let quick = Arc::new(Cache::new(2 * KEYS as usize));
        let dash = Arc::new(DashMap::new());
        for key in 0..KEYS {
            let token = registry.get(&key).await.expect("a token");
            quick.insert(key, token.clone());
            dash.insert(key, token);
        }
        for threads in [1, 2] {
            println!(
                "\nReads of {KEYS} keys at random, ns each, {threads} threads: median of {ROUNDS} (least, most)"
            );
            let mut rows: [Vec<f64>; 3] = Default::default();
            for _ in 0..ROUNDS {
                let ours = registry.clone();
                rows[0].push(time(threads, move |key| drop(black_box(ours.current(&key)))));
                let peer = Arc::clone(&quick);
                rows[1].push(time(threads, move |key| drop(black_box(peer.get(&key)))));
                let peer = Arc::clone(&dash);
                rows[2].push(time(threads, move |key| {
                    drop(black_box(peer.get(&key).map(|found| found.value().clone())));
                }));
            }
            let names = ["registry.current(&key)", "quick_cache get", "dashmap get and clone"];
            let medians = rows.map(|mut row| {
                row.sort_by(f64::total_cmp);
                (row[ROUNDS / 2], row[0], row[ROUNDS - 1])
            });
            for (name, (median, least, most)) in names.iter().zip(medians) {
                println!("{name:<26}{median:>8.1} ({least:.1}, {most:.1})");
            }
            let ratio = medians[0].0 / medians[1].0.min(medians[2].0);
            println!("ours beside the faster peer: {ratio:.2} x (asked: at most 2)");
        }
        registry.shutdown().await;
    });
}

const HOUR: Duration = Duration::from_secs(3_600);

/// Nanoseconds a read, on each of so many threads.
fn time(threads: u64, read: impl Fn(u64) + Clone + Send + 'static) -> f64 {
    let running: Vec<_> = (0..threads)
        .map(|thread| {
            let read = read.clone();
            std::thread::spawn(move || {
                let mut dice = fastrand::Rng::with_seed(thread + 7);
                let begin = Instant::now();
                for _ in 0..READS {
                    read(dice.u64(..KEYS));
                }
                begin.elapsed().as_nanos() as f64 / READS as f64
            })
        })
        .collect();
    let times: Vec<f64> = running.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    times.iter().sum::<f64>() / times.len() as f64
}
