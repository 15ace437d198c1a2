//! The operators' documentation: the page of log lines and metrics agrees with the source code.

use std::collections::{BTreeMap, BTreeSet};

use crate::floors::files;

#[cfg(all(feature = "metrics", feature = "oauth2", feature = "shared", feature = "actix-web"))]
mod prometheus;

const PAGE: &str = include_str!("../../docs/operations.md");
const ALERTS: &str = include_str!("../../docs/operations/alerts.yml");
const ALERT_TESTS: &str = include_str!("../../docs/operations/alerts_test.yml");
const DASHBOARD: &str = include_str!("../../docs/operations/dashboard.json");

/// The tables that list the crate's metrics, each with its metrics' first column.
const LISTS_OF_METRICS: &[(&str, &str)] =
    &[("docs/operations.md", PAGE), ("src/lib.rs", include_str!("../../src/lib.rs"))];

/// The cells of each row of the page's tables.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().map(|line| line.trim_start_matches("//!").trim());
    rows.filter_map(|row| {
        let cells = row.strip_prefix("| ")?.strip_suffix('|')?;
        Some(cells.split(" | ").map(str::trim).collect())
    })
}

/// What stands in a code span, whatever number of backticks it has.
fn code(cell: &str) -> Option<&str> {
    let fence = cell.len() - cell.trim_start_matches('`').len();
    if fence == 0 {
        return None;
    }
    let (inner, _) = cell[fence..].split_once(&cell[..fence])?;
    Some(inner.trim())
}

fn metrics_in(text: &str) -> BTreeSet<String> {
    let whole = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices("tokenflight_")
        .map(|(at, _)| text[at..].split(|c| !whole(c)).next().unwrap().to_owned())
        .collect()
}

/// The library's source code without its unit tests.
fn sources() -> impl Iterator<Item = String> {
    files().map(|(_, text)| text.split("\nmod tests {").next().unwrap_or_default().to_owned())
}

/// The metrics that a row of a table is about: each is in a code span of its first cell, and those that begin with `_` are of
/// a registry.
fn listed(cell: &str) -> Vec<String> {
    let spans = cell.split('`').skip(1).step_by(2);
    spans
        .filter_map(|span| match span.strip_prefix("tokenflight_") {
            Some(_) => Some(span.to_owned()),
            None => span.starts_with('_').then(|| format!("tokenflight_registry{span}")),
        })
        .collect()
}

/// The names that stand as whole literals in the source code, and a registry's form of what is counted for an actor too.
fn metrics_of_the_crate() -> BTreeSet<String> {
    let mut metrics = literal_metrics();
    let instruments = include_str!("../../src/actor/observe/instruments.rs");
    let (_, totals) = instruments.split_once("const TOTALS").expect("the totals of an actor");
    let totals = metrics_in(totals.split_once("];").expect("their end").0);
    metrics.extend(totals.iter().map(|name| name.replace("tokenflight_", "tokenflight_registry_")));
    metrics
}

fn literal_metrics() -> BTreeSet<String> {
    let literals = sources().flat_map(|code| {
        let parts: Vec<_> = code.split('"').map(str::to_owned).collect();
        parts.into_iter().filter(|part| part.starts_with("tokenflight_"))
    });
    let is_something_else = |part: &String| part == "tokenflight_vault" || part.ends_with('_');
    let literals = literals.filter(|part| !is_something_else(part));
    literals.filter(|part| part.chars().all(|c| c.is_ascii_lowercase() || c == '_')).collect()
}

#[test]
fn the_pages_name_each_metric_and_none_that_does_not_exist() {
    let metrics = metrics_of_the_crate();
    assert!(metrics.len() > 30, "{metrics:?}");
    for (page, text) in LISTS_OF_METRICS {
        let listed: BTreeSet<_> = rows(text)
            .filter(|row| row[0].starts_with("`tokenflight_"))
            .flat_map(|row| listed(row[0]))
            .collect();
        assert_eq!(listed, metrics, "left: {page}, right: the source code");
        let elsewhere: Vec<_> = metrics_in(text).into_iter().filter(|name| !metrics.contains(name)).collect();
        assert!(elsewhere.is_empty(), "{page} speaks of {elsewhere:?}");
    }
}

#[test]
fn alerts_and_dashboard_use_metrics_that_exist() {
    let metrics = metrics_of_the_crate();
    for (file, text) in [("alerts", ALERTS), ("their tests", ALERT_TESTS), ("dashboard", DASHBOARD)] {
        for name in metrics_in(text) {
            let name = ["_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
            assert!(metrics.contains(name), "{file}: {name} is no metric of the crate");
        }
    }
}

/// The file's levels and lines, with `…` where a value is put in.
fn log_lines_of(code: &str) -> Vec<(&'static str, String)> {
    let calls = code.match_indices("log::").filter_map(|(at, _)| {
        let after = &code[at + "log::".len()..];
        let (level, arguments) = after.split_once("!(")?;
        let level = match level {
            "error" => "ERROR",
            "warn" => "WARN",
            "info" => "INFO",
            "debug" => "DEBUG",
            "trace" => "TRACE",
            "log" => ["ERROR", "WARN", "INFO"]
                .into_iter()
                .zip(["ERROR or DEBUG", "WARN or DEBUG", "INFO or DEBUG"])
                .find(|(level, _)| arguments_name(arguments, level))
                .map_or("WARN or ERROR", |(_, both)| both),
            _ => return None,
        };
        Some((level, pattern(&format_of(arguments))))
    });
    calls.collect()
}

/// Whether `log!` is called with this level, at least at times.
fn arguments_name(arguments: &str, level: &str) -> bool {
    let head = arguments.split(';').next().unwrap_or_default();
    head.to_uppercase().contains(&format!("LOG::LEVEL::{level}"))
}

/// The format string: the first literal that is neither the target nor in a key-value pair.
fn format_of(arguments: &str) -> String {
    let mut literals = Vec::new();
    let (mut depth, mut pairs_end, mut chars) = (1, None, arguments.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => break,
            ')' => depth -= 1,
            ';' if pairs_end.is_none() => pairs_end = Some(at),
            '"' => {
                let mut text = String::new();
                while let Some((_, c)) = chars.next().filter(|(_, c)| *c != '"') {
                    text.push(if c == '\\' { chars.next().unwrap().1 } else { c });
                }
                let is_target = arguments[..at].trim_end().ends_with("target:");
                literals.extend((!is_target).then_some((at, text)));
            }
            _ => {}
        }
    }
    let format = literals.into_iter().find(|(at, _)| Some(*at) > pairs_end);
    format.unwrap_or_else(|| panic!("a log line without a literal: {arguments:.200}")).1
}

fn pattern(format: &str) -> String {
    let mut pattern = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('{') {
        pattern.push_str(before);
        pattern.push('…');
        rest = after.split_once('}').expect("a placeholder ends").1;
    }
    pattern + rest
}

#[test]
fn the_page_has_each_log_line_with_its_level_and_none_that_does_not_exist() {
    let written: BTreeSet<_> = sources()
        .flat_map(|code| log_lines_of(&code))
        .map(|(level, line)| (level.to_owned(), line))
        .collect();
    let listed: BTreeSet<_> = rows(PAGE)
        .filter(|row| {
            ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].iter().any(|level| row[0].starts_with(level))
        })
        .map(|row| (row[0].to_owned(), code(row[1]).expect("a line in a code span").to_owned()))
        .collect();
    let missing: Vec<_> = written.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&written).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not on the page: {missing:#?}\nnot in src: {gone:#?}");
    assert!(written.len() > 30, "{written:#?}");
}

/// What follows `key:` in each line that has it.
fn values<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("- "));
    lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).collect()
}

#[test]
fn each_alert_has_its_chapter_and_fires_in_one_test_and_is_quiet_in_another_or_at_another_time() {
    let alerts = values(ALERTS, "alert");
    let chapters: Vec<_> = PAGE.lines().filter_map(|line| line.strip_prefix("### Tokenflight")).collect();
    assert_eq!(alerts, chapters.iter().map(|name| format!("Tokenflight{name}")).collect::<Vec<_>>());
    let runbooks = values(ALERTS, "runbook");
    let expected = alerts.iter().map(|name| format!("docs/operations.md#{}", name.to_lowercase()));
    assert_eq!(runbooks, expected.collect::<Vec<_>>());

    let mut cases: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for case in ALERT_TESTS.split("alertname: ").skip(1) {
        let (name, expected) = case.split_once('\n').unwrap();
        let is_quiet = expected.trim_start().starts_with("exp_alerts: []");
        cases.entry(name).or_default()[usize::from(is_quiet)] += 1;
    }
    for alert in alerts {
        let [fires, quiet] = cases.get(alert).copied().unwrap_or_default();
        assert!(fires > 0 && quiet > 0, "{alert} fires in {fires} cases, and is quiet in {quiet}");
    }
}
