//! Nanoseconds per read of a token that is valid for an hour.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use crate::peer::Read;

/// Long beside the clock's own cost, short beside a time slice.
const BATCH: Duration = Duration::from_micros(50);
/// Fewer than this say nothing.
const ENOUGH: usize = 50;
/// On a machine that is so busy that two threads hardly run at once, it is tried for so much longer.
const AT_MOST: u32 = 20;

/// The median over batches of `threads` threads that all read for `time`; nothing, if hardly a batch counts.
///
/// On a busy machine threads wait for a core. A batch counts only if its own thread hardly did, and if the others
/// made progress meanwhile: a thread that stands still disturbs nobody.
pub fn measure<R: Read>(what: &Arc<R>, threads: usize, time: Duration) -> Option<f64> {
    let together = Arc::new(Together {
        start: Barrier::new(threads),
        done: (0..threads).map(|_| Done::default()).collect(),
    });
    let readers: Vec<_> = (0..threads)
        .map(|own| {
            let (what, together) = (Arc::clone(what), Arc::clone(&together));
            std::thread::spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                together.start.wait();
                // Without tokio's budget, which a request does not use up by reading one token.
                runtime.block_on(tokio::task::unconstrained(batches(&*what, time, &together, own)))
            })
        })
        .collect();
    let all: Vec<f64> =
        readers.into_iter().flat_map(|reader| reader.join().expect("a reader does not panic")).collect();
    (all.len() >= ENOUGH).then(|| median(all))
}

/// What the readers of one measurement share.
struct Together {
    start: Barrier,
    done: Vec<Done>,
}

/// Batches that a thread has done. On a cache line of its own, so that it costs the others nothing.
#[derive(Default)]
#[repr(align(128))]
struct Done(AtomicU64);

impl Together {
    /// How far each of the others is.
    fn others(&self, own: usize) -> Vec<u64> {
        let others = self.done.iter().enumerate().filter(|(index, _)| *index != own);
        others.map(|(_, done)| done.0.load(Relaxed)).collect()
    }
}

/// What the scheduler did to a thread, where it tells (Linux).
struct Core(Option<File>);

impl Core {
    fn of_this_thread() -> Self {
        Self(File::open("/proc/thread-self/schedstat").ok())
    }

    /// How long the thread has been ready to run, and did not.
    fn waited_for(&self) -> Duration {
        let mut text = [0; 64];
        let read = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let text = std::str::from_utf8(&text[..read]).unwrap_or_default();
        // Time on a core, time in the queue for one, slices.
        let waited = text.split(' ').nth(1).and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(waited.unwrap_or(0))
    }
}

async fn batches(what: &impl Read, time: Duration, together: &Together, own: usize) -> Vec<f64> {
    let mut reads = 16;
    let core = Core::of_this_thread();
    let (begin, mut samples) = (Instant::now(), Vec::new());
    while begin.elapsed() < time || (samples.len() < ENOUGH && begin.elapsed() < time * AT_MOST) {
        let (before, waited) = (together.others(own), core.waited_for());
        let took = batch(what, reads).await;
        let nanos = took.as_secs_f64() * 1e9 / f64::from(reads);
        together.done[own].0.fetch_add(1, Relaxed);
        let all_ran = before.iter().zip(together.others(own)).all(|(before, after)| *before < after);
        // As long as it should be, also when the others come in and a lock begins to hurt.
        if took < BATCH / 2 {
            reads *= 2;
        } else if took > BATCH * 2 {
            reads = (reads / 2).max(1);
        }
        // To be woken takes a moment too, so some waiting is the reader's own.
        if all_ran && core.waited_for() - waited < took / 2 {
            samples.push(nanos);
        }
    }
    samples
}

async fn batch(what: &impl Read, reads: u32) -> Duration {
    let begin = Instant::now();
    for _ in 0..reads {
        what.read().await;
    }
    begin.elapsed()
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
