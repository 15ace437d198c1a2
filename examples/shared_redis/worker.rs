//! A worker process: an actor on each arbiter, and commands from the first process by stdin.

use std::io::{self, Write};
use std::time::Duration;

use actix::Arbiter;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokenflight::source::{ClientAuth, ClientCredentials, SealKey, SharedSource, SharedStats};
use tokenflight::store::RedisStore;
use tokenflight::{RefreshPolicy, TokenActor, TokenHandle};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::Instant;

use crate::options::Options;

/// Where the workers find the key that seals, so that no command line shows it.
pub(crate) const KEY_VARIABLE: &str = "SHARED_REDIS_KEY";
pub(crate) const URL_VARIABLE: &str = "SHARED_REDIS_URL";
/// What the auth server takes. It is good for an example.
pub(crate) const SECRET: &str = "new-secret";
/// Short, so that the example shows the store being used again.
pub(crate) const RETRY_STORE: Duration = Duration::from_secs(1);

/// What a worker has to say after each order.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Line {
    pub(crate) worker: u32,
    /// How long each actor that got a token took, in milliseconds.
    pub(crate) served: Vec<f64>,
    pub(crate) failed: usize,
    pub(crate) led: u64,
    pub(crate) adopted: u64,
    pub(crate) local: u64,
    pub(crate) pushes: u64,
    pub(crate) polls: u64,
}

pub(crate) async fn run(number: u32, options: &Options) -> io::Result<()> {
    let arbiters: Vec<Arbiter> = (0..options.arbiters).map(|_| Arbiter::new()).collect();
    let mut actors = Vec::new();
    for arbiter in &arbiters {
        actors.push(actor(number, options, arbiter).map_err(io::Error::other)?);
    }
    say(&Line { worker: number, ..Line::default() })?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut before = Line::default();
    while let Some(order) = orders.next_line().await? {
        let outcomes = join_all(actors.iter().map(|(handle, _)| ask(handle, &order))).await;
        let total = |what: fn(&SharedStats) -> u64| actors.iter().map(|(_, stats)| what(stats)).sum::<u64>();
        let now = Line {
            worker: number,
            failed: outcomes.iter().filter(|took| took.is_none()).count(),
            served: outcomes.into_iter().flatten().collect(),
            led: total(SharedStats::led),
            adopted: total(SharedStats::adopted),
            local: total(SharedStats::local),
            pushes: total(SharedStats::pushes),
            polls: total(SharedStats::polls),
        };
        say(&Line {
            led: now.led - before.led,
            adopted: now.adopted - before.adopted,
            local: now.local - before.local,
            pushes: now.pushes - before.pushes,
            polls: now.polls - before.polls,
            served: now.served.clone(),
            ..now
        })?;
        before = now;
    }
    Ok(())
}

fn actor(
    number: u32,
    options: &Options,
    arbiter: &Arbiter,
) -> Result<(TokenHandle, SharedStats), Box<dyn std::error::Error + Send + Sync>> {
    let secret = if options.old_secret { "old-secret" } else { SECRET };
    let fetches = ClientCredentials::builder(&options.auth_url, "shared-redis", secret)
        .auth_method(ClientAuth::Body)
        .http(move |http| http.user_agent(format!("worker/{number}")))
        .build()?;
    let source = SharedSource::builder("example")
        // Nobody can tell what a closure adds to a request. Therefore this has to be said.
        .part("client", "shared-redis")
        .key(SealKey::from_hex("example", &std::env::var(KEY_VARIABLE)?)?)
        .lease(options.lease)
        .retry_store(RETRY_STORE)
        .build(fetches, RedisStore::builder(std::env::var(URL_VARIABLE)?).build()?)?;
    let stats = source.stats();
    // The second round follows the first at once, and a refresh of a token that has not settled is no call.
    let policy = RefreshPolicy::default().settle(Duration::ZERO);
    Ok((TokenActor::builder(source).policy(policy).start_on(&arbiter.handle())?, stats))
}

/// How many milliseconds a token took; `None`: there is none.
async fn ask(handle: &TokenHandle, order: &str) -> Option<f64> {
    let began = Instant::now();
    let outcome = if order == "refresh" { handle.refresh().await } else { handle.get().await };
    outcome.ok().map(|_| began.elapsed().as_secs_f64() * 1_000.0)
}

fn say(line: &Line) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    out.write_all(b"\n")?;
    out.flush()
}
