//! The table, as Markdown.

use std::fmt::Write as _;

use crate::measured::{Measured, Outcome};
use crate::trouble::{CASES, Cost};

pub fn markdown(all: &[Measured]) -> String {
    let mut text = String::from("| | read, 1 thread | read, 2 threads |");
    for case in CASES {
        let _ = write!(text, " {case} |");
    }
    text.push_str("\n|---|---:|---:|---|---|---|---|---|\n");
    for one in all {
        let _ = write!(text, "| {} |", one.row.name);
        for hot in one.hot {
            let _ = match hot {
                Some(hot) => write!(text, " {} ns |", significant(hot)),
                None => write!(text, " – |"),
            };
        }
        for case in 0..CASES.len() {
            let _ = write!(text, " {} |", one.costs.get(case).map_or("–".into(), cell));
        }
        text.push('\n');
    }
    text.push('\n');
    for one in all.iter().filter(|one| !one.row.note.is_empty()) {
        let _ = writeln!(text, "- {}: {}.", one.row.name, one.row.note);
    }
    for (one, case, failure) in failures(all) {
        let _ = writeln!(text, "- {}, {case}: {failure}.", one.row.name);
    }
    text
}

fn failures(all: &[Measured]) -> impl Iterator<Item = (&Measured, &str, &str)> {
    all.iter().flat_map(|one| {
        let cases = one.costs.iter().zip(CASES);
        cases.filter_map(move |(outcome, case)| Some((one, case, outcome.as_ref().err()?.as_str())))
    })
}

fn cell(outcome: &Outcome) -> String {
    match outcome {
        Ok(Some(cost)) => costs(cost),
        Ok(None) => "–".into(),
        Err(_) => "could not be run".into(),
    }
}

fn costs(cost: &Cost) -> String {
    let calls = if cost.calls == 1 { "call" } else { "calls" };
    let time = if cost.unanswered > 0 { "over 20,000".into() } else { significant(cost.ms) };
    let mut text = format!("{time} ms, {} {calls}", cost.calls);
    for (count, what) in [(cost.stale, "expired"), (cost.failed, "errors"), (cost.unanswered, "unanswered")] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text
}

/// Three digits that mean something; a thousands separator beyond.
fn significant(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.1}"),
        value if value < 1_000.0 => format!("{value:.0}"),
        value => {
            let digits = format!("{value:.0}");
            let (head, tail) = digits.split_at(digits.len() - 3);
            format!("{head},{tail}")
        }
    }
}
