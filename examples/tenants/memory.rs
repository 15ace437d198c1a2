//! The memory of a resting tenant, by the allocator's count.

use std::alloc::System;
use std::error::Error;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokenflight::registry::TokenRegistry;
use tokenflight::{FetchContext, Token};

use crate::TENANTS;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes a key, with its token of 100 bytes.
pub(crate) async fn of_an_idle_key() -> Result<usize, Box<dyn Error>> {
    let source = |tenant: u32, _cx: FetchContext| async move { Ok(Token::new(format!("{tenant:0100}"))) };
    let tokens = TokenRegistry::builder(source).start()?;
    let region = Region::new(HEAP);
    for tenant in 0..TENANTS {
        tokens.get(&tenant).await?;
    }
    let change = region.change();
    tokens.shutdown().await;
    Ok(change.bytes_allocated.saturating_sub(change.bytes_deallocated) / TENANTS as usize)
}
