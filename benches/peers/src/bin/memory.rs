//! What 100,000 idle keys with a token take, beside the text of the keys and of the tokens.
//!
//! `cargo run --release --bin memory` prints one table, as Markdown. Each row is measured in a process of its own, so that
//! no row finds memory that another one has freed. In each row every key is asked for twice: the first time its token is
//! fetched, the second time it has to be there.

#![allow(clippy::disallowed_methods)] // it measures

use std::alloc::System as Heap;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, Request, StatusCode, Transport};
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};
use moka::Expiry;
use moka::future::Cache;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokenflight::registry::{Key, TokenRegistry};
use tokenflight::{FetchContext, Token, TokenActor, source_fn};

#[global_allocator]
static HEAP: &StatsAlloc<Heap> = &INSTRUMENTED_SYSTEM;

const KEYS: u64 = 100_000;
const HOUR: Duration = Duration::from_secs(3_600);
const ROWS: [&str; 5] = [
    "tokenflight, one `TokenRegistry<String>`",
    "tokenflight, one `TokenRegistry<Arc<str>>`",
    "tokenflight, a `TokenActor` for each key, in a `HashMap`",
    "moka 0.12.16, `Cache<String, Arc<_>>` with `try_get_with`",
    "azure_identity 1.0.0, one `ClientSecretCredential`, a scope for each key",
];

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let row = std::env::args().nth(1);
    let outcome = row.map_or_else(table, |row| actix_rt::System::new().block_on(measure(&row)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Each row by a process of its own.
fn table() -> Outcome<()> {
    let beside = key(0).len() + text(0).len();
    println!("Bytes a key, of {KEYS} keys, beside the {beside} bytes of its text and its token's\n");
    println!("| | by a counting allocator | by RSS |\n|---|---|---|");
    for (number, row) in ROWS.iter().enumerate() {
        let process = Command::new(std::env::current_exe()?).arg(number.to_string()).output()?;
        if !process.status.success() {
            return Err(format!("{row}: {}", String::from_utf8_lossy(&process.stderr)).into());
        }
        println!("| {row} | {} |", String::from_utf8_lossy(&process.stdout).trim());
    }
    Ok(())
}

async fn measure(row: &str) -> Outcome<()> {
    match row {
        "0" => registry::<String>().await,
        "1" => registry::<Arc<str>>().await,
        "2" => actors().await,
        "3" => moka().await,
        "4" => azure().await,
        _ => Err(format!("there is no row {row}: without an argument all are measured").into()),
    }
}

/// As long as a usual scope.
fn key(number: u64) -> String {
    format!("api://tenant-{number:0>8}.example/.default")
}

/// A token's text as long as a usual JWT.
fn text(number: u64) -> String {
    format!("{number:0>900}")
}

/// What is measured against.
struct Before {
    heap: Region<'static, Heap>,
    resident: usize,
}

impl Before {
    fn now() -> Outcome<Self> {
        Ok(Self { resident: resident()?, heap: Region::new(HEAP) })
    }

    /// Prints the row's cells, if each key was fetched once.
    fn print(&self, calls: u64) -> Outcome<()> {
        if calls != KEYS {
            return Err(format!("{calls} calls for {KEYS} keys: not all tokens are kept").into());
        }
        let change = self.heap.change();
        let live = change.bytes_allocated - change.bytes_deallocated;
        let beside = key(0).len() + text(0).len();
        let each = |bytes: usize| (bytes as f64 / KEYS as f64 - beside as f64).round();
        println!("{} | {}", each(live), each(resident()? - self.resident));
        Ok(())
    }
}

/// Resident memory, in bytes.
fn resident() -> Outcome<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1_024)
}

fn number_of(key: &str) -> u64 {
    key.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

static CALLS: AtomicU64 = AtomicU64::new(0);

async fn registry<K: Key + From<String> + AsRef<str>>() -> Outcome<()> {
    let before = Before::now()?;
    let source = |key: K, _cx: FetchContext| async move {
        CALLS.fetch_add(1, Relaxed);
        Ok(Token::new(text(number_of(key.as_ref()))).with_lifetime(HOUR))
    };
    let tokens = TokenRegistry::builder(source).max_keys(KEYS as usize).start()?;
    for number in (0..KEYS).chain(0..KEYS) {
        check(number, tokens.get(&K::from(key(number))).await?.secret())?;
    }
    before.print(CALLS.load(Relaxed))
}

async fn actors() -> Outcome<()> {
    let before = Before::now()?;
    let mut actors = HashMap::new();
    for number in (0..KEYS).chain(0..KEYS) {
        let handle = match actors.entry(key(number)) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let source = source_fn(move |_cx| async move {
                    CALLS.fetch_add(1, Relaxed);
                    Ok(Token::new(text(number)).with_lifetime(HOUR))
                });
                entry.insert(TokenActor::builder(source).start()?)
            }
        };
        check(number, handle.get().await?.secret())?;
    }
    before.print(CALLS.load(Relaxed))
}

/// What an application would put into moka.
struct AccessToken {
    secret: String,
    expires: Instant,
}

struct Lifetime;

impl Expiry<String, Arc<AccessToken>> for Lifetime {
    fn expire_after_create(&self, _: &String, token: &Arc<AccessToken>, now: Instant) -> Option<Duration> {
        Some(token.expires.saturating_duration_since(now))
    }
}

async fn moka() -> Outcome<()> {
    let before = Before::now()?;
    let cache = Cache::builder().max_capacity(KEYS).expire_after(Lifetime).build();
    for number in (0..KEYS).chain(0..KEYS) {
        let fetch = async {
            CALLS.fetch_add(1, Relaxed);
            let token = AccessToken { secret: text(number), expires: Instant::now() + HOUR };
            Ok::<_, std::convert::Infallible>(Arc::new(token))
        };
        check(number, &cache.try_get_with(key(number), fetch).await?.secret)?;
    }
    // What it has put off is done, and what that needs no more is freed.
    cache.run_pending_tasks().await;
    before.print(CALLS.load(Relaxed))
}

/// Entra: it answers each request at once, the first one with token 0, the next one with token 1.
struct Entra;

impl fmt::Debug for Entra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entra")
    }
}

#[async_trait]
impl HttpClient for Entra {
    async fn execute_request(&self, _: &Request) -> azure_core::Result<AsyncRawResponse> {
        let token = text(CALLS.fetch_add(1, Relaxed));
        let body = serde_json::json!({ "token_type": "Bearer", "expires_in": 3_600, "access_token": token });
        Ok(AsyncRawResponse::from_bytes(StatusCode::Ok, Headers::new(), body.to_string()))
    }
}

async fn azure() -> Outcome<()> {
    let before = Before::now()?;
    let client_options =
        ClientOptions { transport: Some(Transport::new(Arc::new(Entra))), ..ClientOptions::default() };
    let options = ClientSecretCredentialOptions { client_options };
    let credential =
        ClientSecretCredential::new("tenant", "client".to_owned(), Secret::new("secret"), Some(options))?;
    for number in (0..KEYS).chain(0..KEYS) {
        check(number, credential.get_token(&[&key(number)], None).await?.token.secret())?;
    }
    before.print(CALLS.load(Relaxed))
}

fn check(number: u64, secret: &str) -> Outcome<()> {
    if number_of(secret) != number {
        return Err(format!("the token of key {number} is another key's").into());
    }
    Ok(())
}
