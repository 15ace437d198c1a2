//! The allocations of a read, and the heap memory of waiters.
//!
//! ```sh
//! cargo bench --bench heap
//! ```
//!
//! A separate program, so that counting slows down no other measurement.
#![allow(clippy::disallowed_methods, clippy::cast_precision_loss)] // it measures

#[path = "common/asked.rs"]
mod asked;
#[path = "common/crowd.rs"]
mod crowd;

use std::alloc::System as Heap;
use std::hint::black_box;

use actix::prelude::*;
use asked::asked;
use futures_util::FutureExt;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<Heap> = &INSTRUMENTED_SYSTEM;

const READS: usize = 100_000;
const WAITERS: usize = 100_000;

fn main() {
    System::new().block_on(async {
        reading().await;
        waiting().await;
    });
}

async fn reading() {
    let (handle, source) = crowd::handle();
    source.release();
    let token = handle.get().await.expect("a token");
    println!("Allocations of {READS} reads");
    asked("handle.current()", allocations(|| handle.current()), 0.0);
    asked("handle.get().await", allocations(|| handle.get().now_or_never()), 0.0);
    asked("token.authorization()", allocations(|| token.authorization()), 0.0);
    handle.shutdown().await;
}

fn allocations<R>(read: impl Fn() -> R) -> f64 {
    black_box(read());
    let region = Region::new(HEAP);
    for _ in 0..READS {
        black_box(read());
    }
    region.change().allocations as f64
}

async fn waiting() {
    println!("\nBytes a waiter, of {WAITERS}");
    let region = Region::new(HEAP);
    let waiting = crowd::tasks(WAITERS, |seat| async move {
        seat.here.one();
        std::future::pending::<()>().await;
        seat.told.one();
    })
    .await;
    let bare = bytes_each(&region);
    println!("  a task that waits for nothing: {bare:.0}");
    drop(waiting);

    let (handle, source) = crowd::handle();
    println!("  the future of a get(): {}", size_of_val(&handle.get()));
    let region = Region::new(HEAP);
    let all_told = crowd::askers(&handle, &source, WAITERS).await;
    let with_task = bytes_each(&region);
    println!("  a task that waits on a handle: {with_task:.0}");
    asked("beside its task, the task's own growth included", with_task - bare, 400.0);
    source.release();
    all_told.await.expect("all are told");
    handle.shutdown().await;

    let (handle, source) = crowd::handle();
    let region = Region::new(HEAP);
    let all_told = crowd::subscriptions(&handle, WAITERS).await;
    asked("a subscription", bytes_each(&region), 160.0);
    source.release();
    all_told.await.expect("all are told");
    handle.shutdown().await;
}

fn bytes_each(region: &Region<'_, Heap>) -> f64 {
    let change = region.change();
    // `bytes_reallocated` is what reallocations added; those that shrink take away.
    let now = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
    now / WAITERS as f64
}
