//! The cost of a token life for Redis.

use std::io;
use std::time::Duration;

use tokenflight::store::{Ask, Lease, Look, RedisStore, SharedKey, SharedStore, Take};
use tokio::time::Instant;

use crate::report::quantile;
use crate::server::Redis;

/// Redis's own counters.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// What clients sent; not what the scripts did.
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Usage {
    pub(crate) async fn read(redis: &Redis) -> io::Result<Self> {
        let stats = redis.command("INFO stats").await?;
        let number = |name: &str| {
            let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
        };
        let by_clients = ["evalsha", "script|load", "subscribe", "unsubscribe", "hello", "client|setinfo"];
        let commands = redis.command("INFO commandstats").await?;
        let calls = |line: &str| -> Option<u64> {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            by_clients.contains(&name).then(|| rest.split(',').next()?.parse().ok())?
        };
        Ok(Self {
            commands: commands.lines().filter_map(calls).sum(),
            bytes_in: number("total_net_input_bytes"),
            bytes_out: number("total_net_output_bytes"),
        })
    }

    pub(crate) fn since(self, before: &Self) -> Self {
        Self {
            commands: self.commands - before.commands,
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
        }
    }
}

pub(crate) fn print(title: &str, usage: Usage, actors: u32) {
    let each = |count: u64| count.to_string().parse::<f64>().unwrap_or_default() / f64::from(actors);
    let Usage { commands, bytes_in, bytes_out } = usage;
    println!(
        "{title}: {commands} commands ({:.2} an actor), {:.0} bytes in and {:.0} bytes out an actor",
        each(commands),
        each(bytes_in),
        each(bytes_out),
    );
}

/// How long it takes to look and take the lease, and to find a token.
pub(crate) async fn acquire(url: &str) -> io::Result<()> {
    const TIMES: usize = 2_000;
    let store = RedisStore::builder(url).build().map_err(io::Error::other)?;
    let mut leasing = Vec::with_capacity(TIMES);
    let mut finding = Vec::with_capacity(TIMES);
    for number in 0..TIMES {
        let key =
            SharedKey::new("measure", [("number", number.to_string().as_str())]).map_err(io::Error::other)?;
        let began = Instant::now();
        let look = store.look_or_lease(&key, &Ask::default()).await.map_err(io::Error::other)?;
        let Look::Free(free) = look else { return Err(io::Error::other("another process uses this Redis")) };
        let fence = u64::try_from(free.clock.as_millis()).map_err(io::Error::other)?.max(free.fence + 1);
        // As long as a sealed one.
        let (owner, value) = (number.to_string(), vec![0; 70]);
        let lease = Lease { owner, fence, mark: "0".repeat(32), value };
        let take = Some(Take { lease: lease.clone(), time: Duration::from_secs(5) });
        let ask = Ask { take, ..Ask::default() };
        store.look_or_lease(&key, &ask).await.map_err(io::Error::other)?;
        leasing.push(began.elapsed().as_secs_f64() * 1e6);
        let value = [0; 1_100];
        store.commit(&key, &lease, &value, Duration::from_secs(5)).await.map_err(io::Error::other)?;
        let began = Instant::now();
        store.look_or_lease(&key, &ask).await.map_err(io::Error::other)?;
        finding.push(began.elapsed().as_secs_f64() * 1e6);
    }
    println!(
        "to look and take the lease, twice there and back: {:.0} us (median); to find a token of 1,100 bytes, once: {:.0} us",
        quantile(&leasing, 0.5),
        quantile(&finding, 0.5),
    );
    Ok(())
}
