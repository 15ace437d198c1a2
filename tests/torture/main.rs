//! A stress test of the refresh token grant: real authorization servers, a proxy that loses and delays, and
//! `kill -9`.
//!
//! ```text
//! ./tests/torture/run               # all of it: 100 kills a row, some twenty minutes
//! ./tests/torture/run brief         # a little of it: some fifteen seconds
//! ./tests/torture/run "16 processes"   # the rows that have this in their names
//! TORTURE_KILLS=20 TORTURE_SEED=7 ./tests/torture/run
//! ```
//!
//! * `servers`: `oidc-provider`, which rotates and ends a family at the first reuse, and `django-oauth-toolkit`
//!   with a grace period of 30 s, whose clock is moved by 60 s after each kill, when all processes are idle. And
//!   `redis-server`.
//! * `proxy`: in front of the server. It loses requests, loses answers, delays both (answers by up to 10 s), and
//!   counts each refresh token that it receives twice, inside the grace period and outside of it.
//! * `client`: the program that uses the crate. It rotates, with a pause of up to 200 ms after each token.
//! * `fleet`: one such process, or 16 with one vault; and programs of other libraries (`peers`).
//! * `scenario`: a row of the table: kills at random moments, and the state of the login after each of them.
//!
//! It prints a table, and exits with 1 if a law does not hold for this crate. The seed fixes the random numbers,
//! not the threads.

mod client;
mod fleet;
mod proxy;
mod scenario;
mod servers;

use std::process::exit;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scenario::{Program, Row, Scenario, Where};
use servers::Kind;
use tokenflight::clock::{Clock, SystemClock};
use tokenflight::source::AfterCrash;

/// Since the machine's start.
fn now() -> Duration {
    SystemClock.now().boot
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")))
}

fn all() -> Vec<Scenario> {
    use Kind::{Django, Oidc};
    use Where::{File, Redis};
    let row = |program, server, place, processes| Scenario {
        program,
        server,
        place,
        processes,
        rule: AfterCrash::NeedsLogin,
    };
    let own = |server, place, processes| row(Program::Tokenflight, server, place, processes);
    let mut rows = vec![
        own(Oidc, Redis, 16),
        own(Django, Redis, 16),
        own(Oidc, File, 1),
        own(Oidc, File, 16),
        own(Django, File, 1),
        own(Django, File, 16),
        Scenario { rule: AfterCrash::TryOnce, ..own(Oidc, File, 1) },
    ];
    for program in [Program::OpenidClient, Program::Huskarl] {
        rows.extend(
            [(Oidc, 1), (Oidc, 16), (Django, 1), (Django, 16)]
                .map(|(server, processes)| row(program, server, File, processes)),
        );
    }
    rows
}

/// For CI: one process and several, with a grace and without.
fn brief() -> Vec<Scenario> {
    let all = all().into_iter().filter(|row| row.program == Program::Tokenflight && row.place == Where::File);
    all.map(|row| Scenario { processes: row.processes.min(4), ..row }).collect()
}

fn main() {
    if client::is_told() {
        return client::obey();
    }
    let seed = setting("TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_brief = wanted == ["brief"];
    let kills = setting("TORTURE_KILLS").unwrap_or(if is_brief { 5 } else { 100 });
    let kills = usize::try_from(kills).unwrap();
    println!("torture: {kills} kills a row, TORTURE_SEED={seed}\n");
    let rows = if is_brief { brief() } else { all() };
    let rows = rows.into_iter().filter(|row| is_brief || wanted.iter().all(|part| row.name().contains(part)));
    let waiting: Arc<Mutex<Vec<(usize, Scenario)>>> = Arc::new(Mutex::new(rows.enumerate().collect()));
    waiting.lock().unwrap().reverse();
    // Most of the time they wait.
    let threads: Vec<_> = (0..setting("TORTURE_PARALLEL").unwrap_or(4))
        .map(|_| {
            let waiting = Arc::clone(&waiting);
            std::thread::spawn(move || {
                let mut done = Vec::new();
                loop {
                    let Some((at, scenario)) = waiting.lock().unwrap().pop() else { return done };
                    fastrand::seed(seed ^ (at as u64) << 32);
                    let row = scenario.run(kills);
                    eprintln!("{}", row.line());
                    done.push((at, row));
                }
            })
        })
        .collect();
    let mut rows: Vec<(usize, Row)> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    rows.sort_by_key(|(at, _)| *at);
    println!("{}", Row::HEAD);
    for (_, row) in &rows {
        println!("{}", row.line());
    }
    let broken: Vec<_> = rows.iter().flat_map(|(_, row)| row.broken_laws()).collect();
    for law in &broken {
        println!("\n{law}");
    }
    exit(i32::from(!broken.is_empty()));
}
