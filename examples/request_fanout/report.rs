//! The results of the runs: as a table, or as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::options::Strategy;
use crate::record::Run;

/// Which servers the runs went to, in words.
pub(crate) struct Servers {
    pub(crate) auth: String,
    pub(crate) api: String,
}

const HEAD: [&str; 9] =
    ["strategy", "mode", "requests", "ok", "auth calls", "TokenReady", "p50", "p99", "max"];

/// The first two columns hold words, the others numbers.
const WORDS: usize = 2;

pub(crate) fn table(servers: &Servers, runs: &[Run]) -> String {
    let rows: Vec<_> = runs.iter().map(row).collect();
    let widths: [usize; HEAD.len()] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.chain([HEAD[column].len()]).max().unwrap_or_default()
    });
    let mut text = format!("auth server: {}\napi:         {}\n\n", servers.auth, servers.api);
    for row in std::iter::once(HEAD.map(String::from)).chain(rows) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Writing to a String cannot fail.
            let _ = if column < WORDS {
                write!(line, "{cell:<width$}  ")
            } else {
                write!(line, "{cell:>width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(run: &Run) -> [String; HEAD.len()] {
    let token_ready = match run.strategy {
        Strategy::Recipient => run.token_ready.to_string(),
        Strategy::Naive | Strategy::Handle => "-".into(),
    };
    let [p50, p99, max] = run.percentiles([50, 99, 100]).map(|latency| match run.ok() {
        0 => "-".into(),
        _ => format!("{:.1} ms", millis(latency)),
    });
    [
        run.strategy.name().into(),
        run.mode.name().into(),
        run.requests.len().to_string(),
        run.ok().to_string(),
        run.auth_calls.len().to_string(),
        token_ready,
        p50,
        p99,
        max,
    ]
}

pub(crate) fn json(servers: &Servers, runs: &[Run]) -> Value {
    let runs: Vec<_> = runs.iter().map(json_run).collect();
    json!({ "auth_server": servers.auth, "api": servers.api, "runs": runs })
}

fn json_run(run: &Run) -> Value {
    let [p50, p99, max] = run.percentiles([50, 99, 100]).map(|latency| match run.ok() {
        0 => Value::Null,
        // Microseconds are all that is meant.
        _ => ((millis(latency) * 1000.0).round() / 1000.0).into(),
    });
    json!({
        "strategy": run.strategy.name(),
        "mode": run.mode.name(),
        "requests": run.requests.len(),
        "ok": run.ok(),
        "auth_calls": run.auth_calls.len(),
        "token_ready": run.token_ready,
        "p50_ms": p50,
        "p99_ms": p99,
        "max_ms": max,
        "error": run.failure(),
    })
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
