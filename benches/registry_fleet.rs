//! A fleet of registries at one Redis: processes of their own, thousands of keys each.
//!
//! ```sh
//! cargo bench --features registry,redis --bench registry_fleet [processes] [keys]
//! ```
//!
//! Starts a `redis-server` and so many processes (8, with 5,000 keys). The auth server is a closure that takes 20 ms. All
//! processes ask for all keys at once: in the same order, then each in an order of its own, then once more in new processes,
//! which find everything in Redis. Not for CI.
#![allow(clippy::disallowed_methods, clippy::cast_precision_loss)] // it measures

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokenflight::registry::TokenRegistry;
use tokenflight::source::{SealKey, SharedSource};
use tokenflight::store::RedisStore;
use tokenflight::{FetchContext, RefreshPolicy, Token};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.as_slice() {
        [member, url, name, keys, seed] if member == "member" => {
            member_of_fleet(url, name, number(keys), number(seed));
        }
        _ => {
            let processes = args.first().map_or(8, |arg| number(arg));
            fleet(processes, args.get(1).map_or(5_000, |arg| number(arg)));
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

fn fleet(processes: u64, keys: u32) {
    let redis = Redis::begin();
    println!("{processes} processes with {keys} keys each, one Redis, an auth server of 20 ms\n");
    for (what, name, is_shuffled) in [
        ("all in the same order", "same", false),
        ("each in an order of its own", "own", true),
        ("new processes, the tokens are in Redis", "own", true),
    ] {
        redis.cli(&["CONFIG", "RESETSTAT"]);
        let mut members: Vec<Member> = (0..processes)
            .map(|process| Member::begin(&redis.url(), name, keys, if is_shuffled { process + 1 } else { 0 }))
            .collect();
        let connections =
            redis.cli(&["CLIENT", "LIST"]).lines().filter(|line| !line.contains("cmd=client")).count();
        let before = redis.commands();
        let began = Instant::now();
        members.iter_mut().for_each(Member::go);
        let said: Vec<Vec<u64>> = members.iter_mut().map(Member::result).collect();
        let took = began.elapsed();
        let sum = |place: usize| said.iter().map(|figures| figures[place]).sum::<u64>();
        let after = redis.commands();
        let lives = f64::from(keys) * processes as f64;
        println!("{what}: {took:.1?}");
        println!(
            "  calls: {} for {keys} key lives ({} for one process alone, {} store errors); tokens taken from others: {}",
            sum(0),
            sum(1),
            sum(2),
            sum(3)
        );
        println!("  connections: {connections} for {processes} processes");
        let each = |name: &str| {
            (after.get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0)) as f64 / lives
        };
        let all: f64 = ["evalsha", "eval", "subscribe", "unsubscribe"].map(each).iter().sum();
        println!(
            "  Redis, for a key's life in one process: {all:.2} commands (scripts {:.2}, subscribe {:.2}, unsubscribe {:.2})\n",
            each("evalsha") + each("eval"),
            each("subscribe"),
            each("unsubscribe"),
        );
    }
}

/// A process of the fleet, as its parent sees it.
struct Member {
    process: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl Member {
    fn begin(url: &str, name: &str, keys: u32, seed: u64) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("a path"))
            .args(["member", url, name, &keys.to_string(), &seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let says = BufReader::new(process.stdout.take().expect("piped"));
        let mut member = Self { process, says };
        assert_eq!(member.line(), "ready");
        member
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("it speaks");
        line.trim().to_owned()
    }

    fn go(&mut self) {
        self.process.stdin.as_mut().expect("piped").write_all(b"go\n").expect("it listens");
    }

    fn result(&mut self) -> Vec<u64> {
        self.line().split(' ').map(number).collect()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Says when it is ready, waits for its line, asks for all keys, and says its figures.
fn member_of_fleet(url: &str, name: &str, keys: u32, seed: u64) {
    env_logger::init();
    actix::System::new().block_on(async {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let source = move |key: u32, _cx: FetchContext| {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(Token::new(format!("{key:0>900}")).with_lifetime(Duration::from_secs(3_600)))
            }
        };
        let bytes = std::array::from_fn(|at| 31 ^ u8::try_from(at * at % 251).expect("below 251"));
        // The store's own limit too: one answer of Redis may take longer than the usual 900 ms there.
        let store = RedisStore::builder(url).timeout(Duration::from_secs(9)).build().expect("a URL");
        let shared = SharedSource::builder(name)
            .part("fleet", "bench")
            // Eight processes share this machine with the Redis that they wait for.
            .store_timeout(Duration::from_secs(10))
            .lease(Duration::from_secs(20))
            .key(SealKey::new("1", bytes).expect("a key"))
            .build_keyed(source, store, u32::to_string)
            .expect("the settings are sound");
        let stats = shared.stats();
        let policy = RefreshPolicy::default().wait_timeout(Duration::from_secs(600));
        let tokens = TokenRegistry::builder(shared).policy(policy).start().expect("an arbiter");
        // The connection is there before the clock runs.
        tokens.get(&u32::MAX).await.expect("a token");
        let (calls_before, adopted_before) = (calls.load(Ordering::Relaxed), stats.adopted());
        println!("ready");
        std::io::stdin().read_line(&mut String::new()).expect("a line");
        let mut order: Vec<u32> = (0..keys).collect();
        if seed > 0 {
            fastrand::Rng::with_seed(seed).shuffle(&mut order);
        }
        let asked: Vec<_> = order.iter().map(|key| actix_rt::spawn(tokens.get(key))).collect();
        for caller in asked {
            caller.await.expect("it ran").expect("a token");
        }
        println!(
            "{} {} {} {}",
            calls.load(Ordering::Relaxed) - calls_before,
            stats.local(),
            stats.store_errors(),
            stats.adopted() - adopted_before
        );
        let _ = std::io::stdin().read_line(&mut String::new());
    });
}

struct Redis {
    port: u16,
    server: Child,
}

impl Redis {
    fn begin() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let mut server = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a redis-server");
        let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept"))), "it starts");
        std::thread::spawn(move || lines.for_each(drop));
        Self { port, server }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn cli(&self, args: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(args).output();
        String::from_utf8_lossy(&output.expect("there is a redis-cli").stdout).into_owned()
    }

    /// How often Redis was asked for each command.
    fn commands(&self) -> BTreeMap<String, u64> {
        let stats = self.cli(&["INFO", "commandstats"]);
        let lines = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
        lines.map(|(name, rest)| (name.to_owned(), number(rest.split(',').next().unwrap_or("0")))).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
