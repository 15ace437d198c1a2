//! A hostile authorization server and API, for any client in any language.
//!
//! `cargo run --example conformance --features dpop -- run` runs all scenarios with this crate and prints a table.
//! `... -- run -- node driver.mjs` runs them with another client, which uses the line protocol of
//! `docs/conformance.md`. `... -- serve "fifty calls"` starts the servers of one scenario for a client that is used
//! by hand.
//!
//! All servers are on loopback, on free ports, and end with the program. Each scenario has a time limit.

mod client;
mod report;
mod run;
mod serve;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokenflight::testing::hostile::Scenario;

/// A hostile authorization server and API: who passes what?
#[derive(Parser)]
#[command(name = "conformance")]
struct Options {
    /// Another file of scenarios
    #[arg(long, value_name = "FILE", global = true)]
    scenarios: Option<PathBuf>,

    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Plays the scenarios with a client
    Run(run::Options),
    /// Starts the servers of one scenario, prints what a client has to know, and the verdict at the end
    Serve {
        /// Its name, or a part of it that no other has
        scenario: String,
    },
    /// Puts reports of several clients beside each other, as Markdown
    Table {
        /// What `run --json` has written
        #[arg(required = true)]
        reports: Vec<PathBuf>,
    },
    /// Names the scenarios, and what each tries, as Markdown
    List,
    /// Is the client: this crate, driven by lines on standard input
    Client,
}

#[actix::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    env_logger::init();
    let options = Options::parse();
    let scenarios = match &options.scenarios {
        Some(file) => Scenario::read(&std::fs::read_to_string(file)?)?,
        None => Scenario::read(include_str!("../../tests/scenarios/conformance.json"))?,
    };
    match options.command {
        Task::Run(options) => return run::run(scenarios, &options).await,
        Task::Serve { scenario } => serve::serve(one(&scenarios, &scenario)?).await?,
        Task::Table { reports } => print!("{}", report::table(&scenarios, &reports)?),
        Task::List => print!("{}", report::list(&scenarios)),
        Task::Client => client::drive(tokio::io::stdin(), tokio::io::stdout()).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The one scenario that is meant.
fn one<'a>(scenarios: &'a [Scenario], name: &str) -> Result<&'a Scenario, String> {
    if let Some(scenario) = scenarios.iter().find(|scenario| scenario.name() == name) {
        return Ok(scenario);
    }
    let mut found = scenarios.iter().filter(|scenario| scenario.name().contains(name));
    match (found.next(), found.next()) {
        (Some(scenario), None) => Ok(scenario),
        (None, _) => Err(format!("no scenario has {name:?} in its name: `list` names them all")),
        (Some(one), Some(other)) => {
            Err(format!("{name:?} stands in several names: {:?}, {:?}", one.name(), other.name()))
        }
    }
}
