//! The cost of a thousand sources: of one `oauth::Client`, and each with its own client.
//!
//! ```sh
//! cargo bench --bench oauth_sources
//! ```
//!
//! A separate process measures each row, so that no row uses memory that another row has freed. Before a row is
//! measured, a first source of the same kind is built: it makes the parts that exist once per process (TLS, the
//! shared HTTP client).
#![allow(clippy::disallowed_methods, clippy::cast_precision_loss)] // it measures

use std::process::Command;
use std::time::Instant;

use tokenflight::oauth::Client;
use tokenflight::source::ClientCredentials;

const SOURCES: usize = 1_000;
const URL: &str = "https://auth.example.com/token";

/// Makes the source of this number.
type Make = Box<dyn FnMut(usize) -> ClientCredentials>;

/// A name, and what begins a row.
type Row = (&'static str, fn() -> Make);

const ROWS: [Row; 4] = [
    ("one oauth::Client, with TLS settings", || {
        let client = Client::builder(URL, "app").secret("s3cret").http(reqwest::ClientBuilder::http1_only);
        let client = client.build().expect("sound settings");
        Box::new(move |n| of(&client, n))
    }),
    ("ClientCredentials::builder, with TLS settings", || {
        Box::new(|n| {
            let source = ClientCredentials::builder(URL, "app", "s3cret").scope(scope(n));
            source.http(reqwest::ClientBuilder::http1_only).build().expect("sound settings")
        })
    }),
    ("one oauth::Client", || {
        let client = Client::builder(URL, "app").secret("s3cret").build().expect("sound settings");
        Box::new(move |n| of(&client, n))
    }),
    ("ClientCredentials::builder", || {
        Box::new(|n| {
            let source = ClientCredentials::builder(URL, "app", "s3cret").scope(scope(n));
            source.build().expect("sound settings")
        })
    }),
];

fn of(client: &Client, n: usize) -> ClientCredentials {
    client.client_credentials().scope(scope(n)).build().expect("sound settings")
}

fn scope(n: usize) -> String {
    format!("orders.read.{n}")
}

fn main() {
    const ROW: &str = "TOKENFLIGHT_BENCH_ROW";
    if let Ok(row) = std::env::var(ROW) {
        measure(row.parse().expect("a number"));
        return;
    }
    println!("{SOURCES} sources{:>43}{:>20}", "build, us a source", "RSS, bytes a source");
    for (row, (name, _)) in ROWS.iter().enumerate() {
        let this = std::env::current_exe().expect("a path");
        let output = Command::new(this).env(ROW, row.to_string()).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        print!("  {name:46}{}", String::from_utf8_lossy(&output.stdout));
    }
}

fn measure(row: usize) {
    let mut make = ROWS[row].1();
    let first = make(0);
    let (before, begin) = (resident(), Instant::now());
    let sources: Vec<_> = (1..=SOURCES).map(&mut make).collect();
    let time = begin.elapsed();
    let bytes = resident().zip(before).map(|(after, before)| after.saturating_sub(before));
    let bytes = bytes.map_or_else(|| "not known".to_owned(), |bytes| (bytes / SOURCES).to_string());
    println!("{:>8.1}{bytes:>20}", time.as_secs_f64() * 1e6 / SOURCES as f64);
    drop((first, sources));
}

/// In bytes. Only Linux says it in this form.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok().map(|kib| kib * 1024)
}
