//! The conformance suite: every scenario below `tests/scenarios`, run on the real actor in virtual time.
//!
//! The format is described in `tests/scenarios/README.md`. Each scenario runs twice: with callers on the
//! handle, and with callers that send messages.

mod format;
mod outcome;
mod source;
mod stage;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use format::Scenario;
use stage::{Stage, Way};

#[actix::test]
async fn every_scenario_ends_as_it_says() {
    tokio::time::pause();
    let suite = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")).unwrap();
    let faults = run(&suite).await;
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    println!("{} scenarios hold", suite.len());
}

/// A scenario and the name of its file.
type Suite = Vec<(String, Scenario)>;

/// What went wrong: where, and what.
async fn run(suite: &Suite) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, scenario) in suite {
        for way in [Way::Handle, Way::Messages] {
            if let Err(fault) = Stage::play(scenario, way).await {
                faults.push(format!("{file}: \"{}\", callers by {way:?}: {fault}", scenario.name));
            }
        }
    }
    faults
}

/// Reads every file of the folder.
fn read(folder: &Path) -> Result<Suite, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    // Tables of other forms: `tests/clients` and `src/middleware/replay/tests.rs` play them.
    files.retain(|file| !file.ends_with("replay.json") && !file.ends_with("conformance.json"));
    files.sort();
    let mut suite = Suite::new();
    for path in files {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let scenarios = parse(&text).map_err(|error| format!("{file}: {error}"))?;
        suite.extend(scenarios.into_iter().map(|scenario| (file.clone(), scenario)));
    }
    if suite.is_empty() {
        return Err(format!("{} holds no scenario", folder.display()));
    }
    Ok(suite)
}

/// Reads a file's text.
fn parse(text: &str) -> Result<Vec<Scenario>, String> {
    let scenarios: Vec<Scenario> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if scenarios.is_empty() {
        return Err("it holds no scenario".into());
    }
    let mut names = BTreeSet::new();
    for scenario in &scenarios {
        scenario.check().map_err(|fault| format!("\"{}\": {fault}", scenario.name))?;
        if !names.insert(&scenario.name) {
            return Err(format!("\"{}\" is there twice", scenario.name));
        }
    }
    Ok(scenarios)
}

/// A suite that cannot fail proves nothing.
mod runner {
    use super::*;

    #[track_caller]
    fn refused(text: &str, because: &str) {
        let error = parse(text).map(|_| ()).unwrap_err();
        assert!(error.contains(because), "{error}");
    }

    /// What the only scenario in `text` fails of, in paused time.
    async fn fault(text: &str) -> String {
        let suite = parse(text).unwrap().into_iter().map(|scenario| ("here.json".into(), scenario)).collect();
        run(&suite).await.first().expect("it fails").clone()
    }

    #[test]
    fn an_empty_suite_is_an_error() {
        let empty = std::env::temp_dir().join(format!("tokenflight-no-scenarios-{}", std::process::id()));
        std::fs::create_dir_all(&empty).unwrap();
        let error = read(&empty).unwrap_err();
        std::fs::remove_dir(&empty).unwrap();
        assert!(error.ends_with("holds no scenario"), "{error}");
        refused("[]", "holds no scenario");
        refused(r#"[{"name": "idle", "steps": []}]"#, "has no steps");
    }

    #[test]
    fn a_misspelt_key_is_refused_wherever_it_stands() {
        refused(r#"[{"name": "n", "steps": [], "giveen": {}}]"#, "unknown field `giveen`");
        refused(r#"[{"name": "n", "steps": [{"gett": "a"}]}]"#, "unknown field `gett`");
        refused(r#"[{"name": "n", "steps": [{"get": "a", "expect": {"call": 1}}]}]"#, "unknown field `call`");
        refused(
            r#"[{"name": "n", "answers": [{"tokn": "A"}], "steps": [{"get": "a"}]}]"#,
            "unknown field `tokn`",
        );
        refused(
            r#"[{"name": "n", "policy": {"colldown": "1s"}, "steps": [{"get": "a"}]}]"#,
            "unknown field `colldown`",
        );
        refused(
            r#"[{"name": "n", "steps": [{"get": "a", "expect": {"fails": {"a": {"kind": "odd"}}}}]}]"#,
            "unknown variant `odd`",
        );
    }

    #[test]
    fn a_step_that_makes_no_sense_is_refused() {
        refused(r#"[{"name": "n", "steps": [{}]}]"#, "step 1: does nothing and expects nothing");
        refused(r#"[{"name": "n", "steps": [{"get": "a", "advance": "1s"}]}]"#, "step 1: does two things");
        refused(r#"[{"name": "n", "steps": [{"advance": "1s", "times": 2}]}]"#, "`times` does not go with");
        refused(r#"[{"name": "n", "steps": [{"get": "a", "ticket": 2}]}]"#, "`ticket` does not go with");
        refused(r#"[{"name": "n", "steps": [{"get": "a", "token": "A"}]}]"#, "`token` does not go with");
        refused(r#"[{"name": "n", "steps": [{"replace": "a"}]}]"#, "`replace` needs a `token`");
        refused(r#"[{"name": "n", "answers": [{"lifetime": "1s"}], "steps": [{"get": "a"}]}]"#, "answer 1");
        refused(
            r#"[{"name": "n", "answers": [{"error": "transient", "retry_after": "soon"}], "steps": [{"get": "a"}]}]"#,
            "neither seconds nor an HTTP date",
        );
        let twice =
            r#"[{"name": "n", "steps": [{"shutdown": true}]}, {"name": "n", "steps": [{"shutdown": true}]}]"#;
        refused(twice, "is there twice");
    }

    #[actix::test]
    async fn a_failure_names_file_scenario_and_step() {
        tokio::time::pause();
        let fault = fault(
            r#"[{"name": "wrong", "given": {"token": "A", "lifetime": "1h"}, "steps": [
                {"get": "a", "expect": {"gets": {"a": "A"}}},
                {"get": "a", "expect": {"gets": {"a": "B"}}}
            ]}]"#,
        )
        .await;
        assert!(
            fault.starts_with(r#"here.json: "wrong", callers by Handle: step 2 ({"get": "a"}): "#),
            "{fault}"
        );
        assert!(fault.ends_with("`a` got A, expected B"), "{fault}");
    }

    #[actix::test]
    async fn what_was_not_expected_is_a_failure() {
        tokio::time::pause();
        let cases = [
            // An answer, a call, a state, a reason that the step does not say.
            (r#"[{"get": "a", "expect": {"calls": 1}}]"#, "`a` got B unexpectedly"),
            (r#"[{"get": "a", "expect": {"gets": {"a": "B"}}}]"#, "calls to the source: 1, expected 0"),
            (
                r#"[{"get": "a", "expect": {"gets": {"a": "B"}, "calls": 1, "state": "cooldown"}}]"#,
                "state: idle",
            ),
            (
                r#"[{"get": "a", "expect": {"gets": {"a": "B"}, "calls": 1, "reason": "ahead"}}]"#,
                "reason: first",
            ),
            (r#"[{"get": "a", "expect": {"gets": {"a": "B"}, "calls": 1, "waiters": 3}}]"#, "waiters: 0"),
            (
                r#"[{"get": "a", "expect": {"gets": {"a": "B"}, "calls": 1, "suspect": true}}]"#,
                "suspect: false",
            ),
            // An answer that does not come, or is of another kind.
            (
                r#"[{"get": "a", "expect": {"gets": {"a": "B", "b": "B"}, "calls": 1}}]"#,
                "`b` was told nothing",
            ),
            (
                r#"[{"get": "a", "expect": {"fails": {"a": {"kind": "timeout"}}, "calls": 1}}]"#,
                "`a` got B, expected timeout",
            ),
            // The script and the calls have to match to the end.
            (r#"[{"read": "r", "expect": {"gets": {"r": null}}}]"#, "1 answers were not asked for"),
            (
                r#"[{"get": "a", "expect": {"gets": {"a": "B"}, "calls": 1}},
                    {"refresh": "b", "expect": {"fails": {"b": {"kind": "unavailable"}}, "calls": 3}}]"#,
                "called once more than it has answers",
            ),
        ];
        for (steps, expected) in cases {
            let text = format!(
                r#"[{{"name": "n", "answers": [{{"token": "B", "lifetime": "1h"}}], "steps": {steps}}}]"#
            );
            let fault = fault(&text).await;
            assert!(fault.contains(expected), "expected {expected:?} in: {fault}");
        }
    }
}
