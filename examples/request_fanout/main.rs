//! Many requests, one token: how often is the auth server called?
//!
//! ```text
//! cargo run --example request_fanout
//! ```
//!
//! starts an auth server and a protected API in this process, on real sockets. Then it sends nine requests through
//! a service that needs a token: one after another, then all at once, by three strategies.
//!
//! ```text
//! auth server: built-in, answers after 100ms, tokens last 1h
//! api:         built-in, asks the auth server about each token, answers after 20ms
//!
//! strategy   mode        requests  ok  auth calls  TokenReady       p50       p99       max
//! naive      sequential         9   9           1           -   22.7 ms  127.0 ms  127.0 ms
//! naive      parallel           9   9           9           -  126.7 ms  127.9 ms  127.9 ms
//! handle     sequential         9   9           1           -   22.6 ms  126.5 ms  126.5 ms
//! handle     parallel           9   9           1           -  127.3 ms  127.6 ms  127.6 ms
//! recipient  sequential         9   9           1           9   22.6 ms  125.7 ms  125.7 ms
//! recipient  parallel           9   9           1           9  127.5 ms  127.9 ms  127.9 ms
//! ```
//!
//! * `naive`: each request that finds no valid token fetches one (32 at a time, if there are many more).
//! * `handle`: each request awaits `TokenHandle::get`.
//! * `recipient`: each request is a ticket that waits for its `TokenReady`.
//!
//! The same as a picture, and as JSON; ten thousand requests; a token that expires during the run:
//!
//! ```text
//! cargo run --example request_fanout -- --timeline fanout.svg
//! cargo run --example request_fanout -- --json
//! cargo run --example request_fanout -- --requests 10000 --strategy handle,recipient
//! cargo run --example request_fanout -- --expire-midway
//! ```
//!
//! A real authorization server (`--api-url` for a real API too):
//!
//! ```text
//! FANOUT_CLIENT_SECRET=… cargo run --example request_fanout -- \
//!     --token-url https://auth.example/oauth/token --client-id orders --scope read
//! ```
//!
//! A failure ends in one line on stderr and an exit code: 1 for `--client-secret wrong`, `--fault html`, and the
//! other faults in `--help`; 2 for an invalid option. `RUST_LOG=tokenflight=debug` shows the flight in the log, on
//! stderr too.

mod client;
mod ink;
mod naive;
mod options;
mod record;
mod report;
mod servers;
mod strategies;
mod timeline;
mod world;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use options::{Mode, Options, Strategy};
use record::Run;
use world::World;

/// From so many requests on, somebody at a terminal wants to see that something moves.
const MANY: u32 = 1000;

/// The exit code for what the command line asks in vain; whatever else goes wrong is a 1.
const WRONG_USAGE: u8 = 2;

#[actix_web::main]
async fn main() -> ExitCode {
    let options = match Options::from_args() {
        Ok(options) => options,
        Err(message) => return fail(&message, ExitCode::from(WRONG_USAGE)),
    };
    // Silent unless asked: what fails is said once, at the end.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off")).init();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message, ExitCode::FAILURE),
    }
}

/// One line, whatever a server put into its message.
fn fail(message: &str, code: ExitCode) -> ExitCode {
    eprintln!("error: {}", message.replace(char::is_control, " "));
    code
}

/// # Errors
/// What went wrong, in a sentence.
async fn run(options: &Options) -> Result<(), String> {
    let mut world = World::start(options)?;
    let outcome = all_runs(&world, options).await;
    world.stop().await;
    let runs = outcome?;

    // The figures of a failed run too: the JSON says in each what was wrong with it.
    print(&if options.json {
        format!("{}\n", report::json(&world.servers, &runs))
    } else {
        report::table(&world.servers, &runs)
    })?;
    if let Some((run, failure)) = runs.iter().find_map(|run| Some((run, run.failure()?))) {
        return Err(format!("{}, {}: {failure}", run.strategy.name(), run.mode.name()));
    }
    if let Some(path) = &options.timeline {
        let parallel: Vec<_> = runs.iter().filter(|run| run.mode == Mode::Parallel).collect();
        timeline::write(path, &parallel)
            .map_err(|err| format!("no timeline in {}: {err}", path.display()))?;
    }
    Ok(())
}

/// The runs, naive first; up to the first that fails, because the others would fail in the same way. Ours go
/// first, so that it fails in the crate's words.
async fn all_runs(world: &World, options: &Options) -> Result<Vec<Run>, String> {
    let mut order = options.strategies();
    order.sort_by_key(|strategy| *strategy == Strategy::Naive);
    let mut runs = Vec::new();
    'all: for strategy in order {
        for mode in options.modes() {
            let progress = progress(options.requests, strategy, mode);
            let run = world.run(strategy, mode, &progress).await?;
            progress.finish_and_clear();
            let failed = run.failure().is_some();
            runs.push(run);
            if failed {
                break 'all;
            }
        }
    }
    runs.sort_by_key(|run| (run.strategy, run.mode));
    Ok(runs)
}

fn progress(requests: u32, strategy: Strategy, mode: Mode) -> ProgressBar {
    if requests < MANY || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix:24} {bar:40} {human_pos}/{human_len} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(requests.into()).with_style(style).with_prefix(format!(
        "{}, {}",
        strategy.name(),
        mode.name()
    ))
}

/// To stdout. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(err) if err.kind() != ErrorKind::BrokenPipe => Err(format!("cannot write to stdout: {err}")),
        _ => Ok(()),
    }
}
