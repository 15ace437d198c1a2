//! Runs the scenarios with a client that is a separate program.

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;

use clap::Args;
use tokenflight::testing::hostile::{Outcome, Scenario, Verdict, play};
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::report::{Report, Row};

#[derive(Args)]
pub(crate) struct Options {
    /// Only scenarios with this in their name
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,

    /// How many run at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,

    /// What the client is called in the report
    #[arg(long, default_value = concat!("tokenflight ", env!("CARGO_PKG_VERSION")))]
    name: String,

    /// Writes the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Says how a failed scenario went, and does not end with a failure
    #[arg(long)]
    lenient: bool,

    /// The client's program with its arguments. Default: this crate
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub(crate) async fn run(scenarios: Vec<Scenario>, options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let command = if options.command.is_empty() {
        vec![std::env::current_exe()?.into_os_string(), "client".into()]
    } else {
        options.command.clone()
    };
    let places = Arc::new(Semaphore::new(options.jobs.try_into()?));
    let chosen = scenarios.into_iter().filter(|scenario| scenario.name().contains(&options.only));
    let running: Vec<_> = chosen
        .map(|scenario| {
            let (places, command) = (Arc::clone(&places), command.clone());
            let played = async move {
                let _place = places.acquire_owned().await.map_err(io::Error::other)?;
                let outcome = one(&scenario, &command).await?;
                Ok::<_, io::Error>(Row::new(&scenario, &outcome))
            };
            actix::spawn(played)
        })
        .collect();
    if running.is_empty() {
        return Err(format!("no scenario has {:?} in its name", options.only).into());
    }
    let mut report = Report { client: options.name.clone(), rows: Vec::new() };
    for row in running {
        let row = row.await??;
        println!("{row}");
        report.rows.push(row);
    }
    println!("{}", report.sum());
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    let is_good = options.lenient || report.rows.iter().all(|row| row.faults.is_empty());
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A process of its own for each scenario. It is killed where it does not end.
async fn one(scenario: &Scenario, command: &[OsString]) -> io::Result<Outcome> {
    let [program, arguments @ ..] = command else { return Err(io::Error::other("no program is named")) };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            io::Error::new(error.kind(), format!("{} cannot be started: {error}", program.display()))
        })?;
    let (Some(output), Some(input)) = (child.stdout.take(), child.stdin.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let outcome = play(scenario, output, input).await?;
    if let Verdict::Failed(faults) = &outcome.verdict
        && let Some(status) = child.try_wait()?
        && !status.success()
    {
        eprintln!("{}: the client ended with {status}: {}", scenario.name(), faults.join("; "));
    }
    Ok(outcome)
}
