//! tokenflight, other crates that keep a token, and bare primitives, in one run.
//!
//! `cargo run --release` prints one table, as Markdown; with `--features servers`, also the peers that need a token
//! server. `-- --quick` measures less, `-- --only TEXT` only rows with that in their names, and
//! `-- --chart FILE` draws the reads and the calls to a failing source.

mod chart;
mod hot;
mod measured;
mod peer;
mod peers;
mod primitives;
mod row;
#[cfg(feature = "servers")]
mod server;
mod source;
mod table;
mod trouble;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use measured::Effort;

struct Options {
    effort: Effort,
    chart: Option<PathBuf>,
    only: Option<String>,
}

fn main() -> ExitCode {
    let outcome = options().and_then(|options| actix_rt::System::new().block_on(run(options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let full = Effort { hot_runs: 5, hot_time: Duration::from_millis(100), trouble_runs: 3 };
    let mut options = Options { effort: full, chart: None, only: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--quick" => {
                options.effort = Effort { hot_runs: 3, hot_time: Duration::from_millis(30), trouble_runs: 1 };
            }
            "--chart" => options.chart = Some(value()?.into()),
            "--only" => options.only = Some(value()?),
            _ => return Err(format!("{argument} is unknown: there are --quick, --chart FILE, --only TEXT")),
        }
    }
    Ok(options)
}

async fn run(options: Options) -> Result<(), String> {
    let mut rows = peers::rows().await?;
    if let Some(text) = &options.only {
        rows.retain(|row| row.name.contains(text.as_str()));
    }
    let all = measured::all(rows, options.effort).await;
    print!("{}", table::markdown(&all));
    if let Some(file) = &options.chart {
        chart::draw(&all, file).map_err(|error| format!("the chart: {error}"))?;
    }
    Ok(())
}
