//! The options of the command line.

use std::time::Duration;

use clap::Parser;
use jiff::SignedDuration;

/// Many processes, one refresh: how often is the auth server called?
// A flag each.
#[allow(clippy::struct_excessive_bools)]
#[derive(Parser)]
#[command(name = "shared_redis", after_help = "The flight's life: RUST_LOG=tokenflight=debug.")]
pub(crate) struct Options {
    /// How many processes
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) workers: u32,

    /// How many arbiters in each, with an actor and a connection to Redis each
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) arbiters: u32,

    /// How long the auth server takes to answer
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = duration)]
    pub(crate) latency: Duration,

    /// How long a process that dies in the middle of a refresh holds up the others
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub(crate) lease: Duration,

    /// A Redis that is there already [default: starts one]
    #[arg(long, value_name = "URL")]
    pub(crate) redis_url: Option<String>,

    /// Kill the process that has the lease (-9), while it calls the auth server
    #[arg(long, conflicts_with = "freeze_redis")]
    pub(crate) kill_owner: bool,

    /// Stop the redis-server (SIGSTOP) while the auth server is being called
    #[arg(long, conflicts_with = "redis_url")]
    pub(crate) freeze_redis: bool,

    /// Delete everything in Redis before the second token
    #[arg(long, conflicts_with = "redis_url")]
    pub(crate) flush: bool,

    /// So many processes have an old client secret, which the auth server refuses
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) wrong_secrets: u32,

    /// Somebody without the key writes rubbish in the place of everything, while the second token is fetched
    #[arg(long, conflicts_with = "redis_url")]
    pub(crate) rubbish: bool,

    /// Somebody deletes each token as soon as it is there
    #[arg(long, conflicts_with = "redis_url")]
    pub(crate) delete_tokens: bool,

    /// Count commands and bytes, and time the script that takes the lease
    #[arg(long, conflicts_with = "redis_url")]
    pub(crate) measure: bool,

    /// Publish a million pieces of news while an actor waits, and time the other tasks of its arbiter
    #[arg(long, conflicts_with = "redis_url")]
    pub(crate) flood_news: bool,

    /// This process is a worker
    #[arg(long, hide = true)]
    pub(crate) as_worker: Option<u32>,

    /// A worker with an old client secret
    #[arg(long, hide = true)]
    pub(crate) old_secret: bool,

    /// Where a worker's auth server is
    #[arg(long, hide = true, default_value = "")]
    pub(crate) auth_url: String,
}

impl Options {
    pub(crate) fn from_args() -> Self {
        Self::parse()
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text.parse().map_err(|_| "is not a duration like \"200ms\"".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "must not be negative".to_owned())
}
