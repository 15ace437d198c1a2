//! The figures of all rows: each is the median of interleaved runs, so that load of the machine affects all rows.

use std::time::Duration;

use crate::hot::median;
use crate::peer::Failure;
use crate::row::Row;
use crate::trouble::{CASES, Cost};

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    pub hot_runs: usize,
    pub hot_time: Duration,
    pub trouble_runs: usize,
}

/// A case that took longer is not run again.
const TOO_LONG_MS: f64 = 3_000.0;

pub type Outcome = Result<Option<Cost>, Failure>;

pub struct Measured {
    pub row: Row,
    /// Nanoseconds a read, on one thread and on two.
    pub hot: [Option<f64>; 2],
    /// By case; nothing for what is only read.
    pub costs: Vec<Outcome>,
}

pub async fn all(rows: Vec<Row>, effort: Effort) -> Vec<Measured> {
    let hot = hot(&rows, effort);
    let costs = costs(&rows, effort.trouble_runs).await;
    let figures = hot.into_iter().zip(costs);
    rows.into_iter().zip(figures).map(|(row, (hot, costs))| Measured { row, hot, costs }).collect()
}

fn hot(rows: &[Row], effort: Effort) -> Vec<[Option<f64>; 2]> {
    let mut runs = vec![[Vec::new(), Vec::new()]; rows.len()];
    for run in 0..effort.hot_runs {
        eprintln!("reads, run {} of {}", run + 1, effort.hot_runs);
        for (row, [one, two]) in rows.iter().zip(&mut runs) {
            one.extend(row.hot(1, effort.hot_time));
            two.extend(row.hot(2, effort.hot_time));
        }
    }
    let some = |runs: Vec<f64>| (!runs.is_empty()).then(|| median(runs));
    runs.into_iter().map(|run| run.map(some)).collect()
}

async fn costs(rows: &[Row], runs: usize) -> Vec<Vec<Outcome>> {
    let mut outcomes: Vec<Vec<Vec<Outcome>>> =
        rows.iter().map(|row| vec![Vec::new(); if row.has_trouble() { CASES.len() } else { 0 }]).collect();
    for run in 0..runs {
        for (row, cases) in rows.iter().zip(&mut outcomes) {
            if !cases.is_empty() {
                eprintln!("trouble, run {} of {runs}: {}", run + 1, row.name);
            }
            for (case, so_far) in cases.iter_mut().enumerate() {
                if so_far.iter().all(worth_repeating) {
                    so_far.extend(row.trouble(case).await);
                }
            }
        }
    }
    outcomes.into_iter().map(|cases| cases.into_iter().map(middle).collect()).collect()
}

fn worth_repeating(outcome: &Outcome) -> bool {
    matches!(outcome, Ok(Some(cost)) if cost.ms < TOO_LONG_MS)
}

/// The run with the median time.
fn middle(mut runs: Vec<Outcome>) -> Outcome {
    let time = |outcome: &Outcome| {
        outcome.as_ref().ok().and_then(|cost| Some(cost.as_ref()?.ms)).unwrap_or(f64::MAX)
    };
    runs.sort_by(|one, other| time(one).total_cmp(&time(other)));
    if runs.is_empty() { Ok(None) } else { runs.swap_remove(runs.len() / 2) }
}
