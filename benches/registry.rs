//! A registry of many keys: reads beside two concurrent maps, memory beside an actor for each key, and its manners at the
//! auth server.
//!
//! ```sh
//! cargo bench --features registry --bench registry [reads] [memory] [expiry] [outage] [neighbours] [crowd] [churn]
//! ```
//!
//! The auth server is a closure. A figure of a peer stands in the same run, in turns with ours.
#![allow(clippy::disallowed_methods, clippy::cast_precision_loss, clippy::cast_possible_truncation)] // it measures

#[path = "registry/load.rs"]
mod load;
#[path = "registry/memory.rs"]
mod memory;
#[path = "registry/reads.rs"]
mod reads;

use std::alloc::System as Heap;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<Heap> = &INSTRUMENTED_SYSTEM;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|want| want == name);
    for (name, run) in PARTS {
        if is_wanted(name) {
            run();
        }
    }
}

const PARTS: [(&str, fn()); 7] = [
    ("reads", reads::run),
    ("memory", memory::run),
    ("expiry", load::expiry),
    ("outage", load::outage),
    ("neighbours", load::neighbours),
    ("crowd", load::crowd),
    ("churn", load::churn),
];

/// Runs on an actix System of its own.
fn on_a_system(run: impl Future<Output = ()>) {
    actix::System::new().block_on(run);
}

/// A token's text as long as a usual JWT.
fn text(key: u64) -> String {
    format!("{key:0>900}")
}
