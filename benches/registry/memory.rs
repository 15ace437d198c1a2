//! What an idle key with a token takes, beside its key and its token's text.

use std::time::Duration;

use stats_alloc::Region;
use tokenflight::registry::TokenRegistry;
use tokenflight::{FetchContext, Token, TokenActor, source_fn};

use crate::{HEAP, on_a_system, text};

const KEYS: u64 = 100_000;
const ACTORS: u64 = 10_000;
const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn run() {
    on_a_system(async {
        println!("\nBytes an idle key with a token of {} bytes, beside key and text", text(0).len());
        let beside = text(0).len() + "Bearer ".len() + size_of::<u64>();
        let (region, before) = (Region::new(HEAP), resident());
        let source =
            |key: u64, _cx: FetchContext| async move { Ok(Token::new(text(key)).with_lifetime(HOUR)) };
        let registry = TokenRegistry::builder(source).max_keys(KEYS as usize).start().expect("an arbiter");
        for key in 0..KEYS {
            registry.get(&key).await.expect("a token");
        }
        print_row("registry", KEYS, &region, before, beside);
        registry.shutdown().await;
        drop(registry);

        let (region, before) = (Region::new(HEAP), resident());
        let mut actors = Vec::new();
        for key in 0..ACTORS {
            let source = source_fn(move |_cx| async move { Ok(Token::new(text(key)).with_lifetime(HOUR)) });
            let actor = TokenActor::builder(source).start().expect("an arbiter");
            actor.get().await.expect("a token");
            actors.push(actor);
        }
        print_row("TokenActor", ACTORS, &region, before, beside);
    });
}

fn print_row(name: &str, keys: u64, region: &Region<'_, std::alloc::System>, before: usize, beside: usize) {
    let change = region.change();
    let live = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
    let each = |bytes: f64| bytes / keys as f64 - beside as f64;
    let rss = resident() as f64 - before as f64;
    println!("{name:<12}{keys:>8} keys: {:>7.0} by the allocator, {:>7.0} by RSS", each(live), each(rss));
}

/// Resident memory, in bytes.
pub(crate) fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok()).unwrap_or(0) * 1_024
}
