//! The printed and written results.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{self, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokenflight::testing::hostile::{Count, Outcome, Rank, Scenario, Verdict};

/// Characters of a fault in a table.
const LONGEST: usize = 72;

/// What one client did.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) client: String,
    pub(crate) rows: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    name: String,
    rank: Rank,
    verdict: Word,
    pub(crate) faults: Vec<String>,
    seen: BTreeMap<Count, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Pass,
    Fail,
    NotSupported,
}

impl Row {
    pub(crate) fn new(scenario: &Scenario, outcome: &Outcome) -> Self {
        let (verdict, faults) = match &outcome.verdict {
            Verdict::Passed => (Word::Pass, Vec::new()),
            Verdict::NotSupported(_) => (Word::NotSupported, Vec::new()),
            Verdict::Failed(faults) => (Word::Fail, faults.clone()),
            other => (Word::Fail, vec![format!("{other:?}")]),
        };
        let (name, rank) = (scenario.name().to_owned(), scenario.rank());
        Self { name, rank, verdict, faults, seen: outcome.seen.clone() }
    }

    /// In a cell of a table.
    fn cell(&self) -> String {
        match self.verdict {
            Word::Pass => "pass".to_owned(),
            Word::NotSupported => "not supported".to_owned(),
            Word::Fail => {
                let first = self.faults.first().map_or("", String::as_str);
                let short: String = first.chars().take(LONGEST).collect();
                let dots = if short.len() < first.len() { "..." } else { "" };
                format!("FAIL: {}{dots}", short.replace('|', "\\|").replace(['\n', '\r'], " "))
            }
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Word::Pass => "pass",
            Word::Fail => "FAIL",
            Word::NotSupported => "n/s ",
        };
        write!(f, "{verdict}  {:<8}  {}", self.rank, self.name)?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n                  {fault}"))
    }
}

impl Report {
    /// How many passed, by rank.
    pub(crate) fn sum(&self) -> String {
        let ranks = [Rank::Must, Rank::Should, Rank::Practice];
        let parts = ranks.map(|rank| format!("{rank} {}", self.passed(|row| row.rank == rank)));
        format!("{}: {} ({})", self.client, self.passed(|_| true), parts.join(", "))
    }

    fn passed(&self, of: impl Fn(&Row) -> bool) -> String {
        let rows = || self.rows.iter().filter(|row| of(row) && row.verdict != Word::NotSupported);
        let passed = rows().filter(|row| row.verdict == Word::Pass).count();
        format!("{passed} of {}", rows().count())
    }
}

/// Reports beside each other.
pub(crate) fn table(scenarios: &[Scenario], files: &[PathBuf]) -> Result<String, Box<dyn Error>> {
    let read = |file: &PathBuf| Ok(serde_json::from_str(&std::fs::read_to_string(file)?)?);
    let reports = files.iter().map(read).collect::<Result<Vec<Report>, Box<dyn Error>>>()?;
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let columns = |cell: &dyn Fn(&Report) -> String| reports.iter().map(cell).collect::<Vec<_>>();
    let mut text =
        line([vec!["scenario".into(), "rank".into()], columns(&|report| report.client.clone())].concat());
    text.extend(["|", &"---|".repeat(reports.len() + 2), "\n"]);
    for scenario in scenarios {
        let cell = |report: &Report| {
            let row = report.rows.iter().find(|row| row.name == scenario.name());
            row.map_or("not tried".to_owned(), Row::cell)
        };
        text +=
            &line([vec![scenario.name().to_owned(), scenario.rank().to_string()], columns(&cell)].concat());
    }
    for rank in [Rank::Must, Rank::Should, Rank::Practice] {
        let sums = columns(&|report| report.passed(|row| row.rank == rank));
        text += &line([vec![format!("**passed: {rank}**"), String::new()], sums].concat());
    }
    Ok(text)
}

/// What each scenario tries.
pub(crate) fn list(scenarios: &[Scenario]) -> String {
    let mut text = "| scenario | what is tried | rank, by |\n|---|---|---|\n".to_owned();
    for scenario in scenarios {
        let (name, tried) = (scenario.name(), scenario.tried().replace('|', "\\|"));
        let by = match scenario.rank() {
            Rank::Practice if scenario.by() == "practice" => scenario.by().to_owned(),
            rank => format!("{rank}: {}", scenario.by()),
        };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "| {name} | {tried} | {by} |");
    }
    text
}
