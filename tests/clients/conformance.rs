//! The conformance kit: this crate passes each scenario, and a client with the fault of a scenario fails it.
#![cfg(feature = "dpop")]

#[path = "../../examples/conformance/client.rs"]
mod client;
mod wrong;

use std::future::Future;

use futures_util::StreamExt;
use futures_util::stream;
use tokenflight::testing::hostile::{Outcome, Scenario, Verdict, play};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// They wait most of their time. More at once would wait for each other.
const AT_ONCE: usize = 14;

fn scenarios() -> Vec<Scenario> {
    Scenario::read(include_str!("../scenarios/conformance.json")).unwrap()
}

/// Plays a scenario with a client that is a future.
async fn played<F: Future>(
    scenario: &Scenario,
    client: impl FnOnce(DuplexStream, DuplexStream) -> F,
) -> Outcome {
    let ((ours, input), (output, theirs)) = (tokio::io::duplex(1 << 16), tokio::io::duplex(1 << 16));
    let playing = play(scenario, theirs, ours);
    let client = client(input, output);
    tokio::pin!(playing, client);
    tokio::select! {
        outcome = &mut playing => outcome.unwrap(),
        _ = client => playing.await.unwrap(),
    }
}

#[actix::test]
async fn this_crate_passes_each_scenario() {
    let scenarios = scenarios();
    let playing = scenarios.iter().map(async |scenario| {
        let outcome = played(scenario, client::drive).await;
        (scenario.name(), outcome)
    });
    let outcomes: Vec<_> = stream::iter(playing).buffer_unordered(AT_ONCE).collect().await;
    let faults: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.verdict != Verdict::Passed).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(outcomes.len() >= 50, "{} scenarios", outcomes.len());
}

#[actix::test]
async fn a_client_with_the_fault_that_a_scenario_is_about_fails_it() {
    let scenarios = scenarios();
    let playing = scenarios.iter().map(async |scenario| {
        let Some((_, fault, sign)) = wrong::FAULTS.iter().find(|(name, ..)| *name == scenario.name()) else {
            return Some(format!("{}: no client that fails it", scenario.name()));
        };
        let outcome = played(scenario, |input, output| wrong::drive(*fault, input, output)).await;
        let Verdict::Failed(faults) = &outcome.verdict else {
            return Some(format!("{}: {fault:?} gets {:?}", scenario.name(), outcome.verdict));
        };
        let is_found = faults.iter().any(|fault| fault.starts_with(sign));
        (!is_found).then(|| format!("{}: {fault:?} fails by {faults:?}, not by {sign}", scenario.name()))
    });
    let missed: Vec<_> = stream::iter(playing).buffer_unordered(AT_ONCE).collect().await;
    let missed: Vec<_> = missed.into_iter().flatten().collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    for (name, ..) in wrong::FAULTS {
        assert!(scenarios.iter().any(|scenario| scenario.name() == *name), "{name:?} is gone");
    }
}

#[test]
fn the_page_has_a_row_for_each_scenario_and_none_that_is_gone() {
    let page = include_str!("../../docs/conformance.md");
    let table = page.split("| scenario | rank |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows = rows.filter(|line| !line.starts_with("| **"));
    let names: Vec<_> = rows.map(|line| line.split(" | ").next().unwrap().trim_start_matches("| ")).collect();
    let scenarios = scenarios();
    assert_eq!(names, scenarios.iter().map(Scenario::name).collect::<Vec<_>>());
}

/// One scenario with a call that must succeed.
fn simple() -> Scenario {
    let text = r#"[{ "name": "one", "tried": "", "by": "", "rank": "must", "limit": "1s",
                     "steps": [{ "call": {} }], "seen": { "api_requests": { "most": 9 } } }]"#;
    Scenario::read(text).unwrap().remove(0)
}

/// What the kit says of a client that writes this and then waits.
async fn told(lines: &'static str) -> String {
    let scenario = simple();
    let outcome = played(&scenario, async |mut input: DuplexStream, mut output: DuplexStream| {
        output.write_all(lines.as_bytes()).await.unwrap();
        input.read_to_end(&mut Vec::new()).await.unwrap();
        drop(output);
    });
    match outcome.await.verdict {
        Verdict::Failed(faults) => faults.join("; "),
        other => format!("{other:?}"),
    }
}

#[actix::test]
async fn a_client_that_breaks_the_protocol_is_told_how() {
    const READY: &str = "{\"ready\":true}\n";
    let lines = |rest: &str| -> &'static str { format!("{READY}{rest}\n").leak() };
    for (lines, expected) in [
        ("hello\n", "the client wrote a line that is not understood: hello: "),
        ("{\"redy\":true}\n", "the client wrote a line that is not understood: "),
        ("", "the time limit ended before the client was ready"),
        (lines(""), "the client wrote a line that is not understood: "),
        (lines(r#"{"done":{"id":7,"status":200}}"#), "the client told of call 7, which it was not asked for"),
        (lines(r#"{"ready":true}"#), "the client said `ready` twice"),
        (lines(r#"{"done":{"id":1}}"#), "call 1 ended with neither status nor error, expected success"),
        (READY, "the time limit ended before call 1 had ended (1 in all)"),
        (lines(&"x".repeat(70_000)), "the client wrote a line without an end"),
        (lines(r#"{"unsupported":"calls"}"#), "NotSupported(\"calls\")"),
    ] {
        let said = told(lines).await;
        assert!(said.starts_with(expected), "{said}");
    }
    let scenario = simple();
    let gone = played(&scenario, async |input, output| drop((input, output))).await;
    let Verdict::Failed(faults) = gone.verdict else { panic!("{gone:?}") };
    assert!(faults[0].starts_with("the client has closed its "), "{faults:?}");
}

#[actix::test]
async fn a_fault_remains_one_when_the_client_says_afterwards_that_it_cannot_do_more() {
    let text = r#"[{ "name": "two", "tried": "", "by": "", "rank": "must", "limit": "1s",
                     "steps": [{ "call": {} }, { "call": {} }], "seen": { "secrets_told": 0 } }]"#;
    let scenario = Scenario::read(text).unwrap().remove(0);
    let unsupported = r#"{"unsupported":"more"}"#;
    let failed = format!("{{\"ready\":true}}\n{{\"done\":{{\"id\":1,\"error\":\"no\"}}}}\n{unsupported}\n");
    let outcome = played(&scenario, async |mut input: DuplexStream, mut output: DuplexStream| {
        output.write_all(failed.as_bytes()).await.unwrap();
        input.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let verdict = outcome.await.verdict;
    assert_eq!(verdict, Verdict::Failed(vec!["call 1 ended with no, expected success".to_owned()]));

    // It tells its secret.
    let outcome = played(&scenario, async |input: DuplexStream, mut output: DuplexStream| {
        let mut input = BufReader::new(input);
        let mut configure = String::new();
        input.read_line(&mut configure).await.unwrap();
        let configure: serde_json::Value = serde_json::from_str(&configure).unwrap();
        let secret = configure["configure"]["client_secret"].as_str().unwrap();
        let line = format!("{{\"unsupported\":\"{secret}\"}}\n");
        output.write_all(line.as_bytes()).await.unwrap();
        input.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let verdict = outcome.await.verdict;
    assert_eq!(verdict, Verdict::Failed(vec!["secrets_told: 1, expected 0".to_owned()]));
}

#[actix::test]
async fn a_secret_is_seen_in_a_key_and_however_json_writes_it() {
    let servers = async |client: &str| {
        let text = format!(
            r#"[{{ "name": "one", "tried": "", "by": "", "rank": "must", "client": {client},
                  "steps": [{{ "call": {{}} }}], "seen": {{ "secrets_told": 0 }} }}]"#
        );
        let scenario = Scenario::read(&text).unwrap().remove(0);
        tokenflight::testing::hostile::Hostile::start(&scenario).await.unwrap()
    };
    let keyed = servers(r#"{ "auth": "private_key_jwt" }"#).await;
    let key = keyed.configure().private_key.unwrap();
    assert!(keyed.is_told(&key) && keyed.is_told(&format!("{key:?}")));
    let base64: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(keyed.is_told(&base64) && !keyed.is_told("-----BEGIN PRIVATE KEY-----"));

    let quoted = servers(r#"{ "secret": "a\"b\\c" }"#).await;
    for text in [
        r#"a"b\c"#,
        r#"{"done":{"id":1,"error":"not a\"b\\c"}}"#,
        r#"{"done":{"id":1,"error":"not a\u0022b\u005cc"}}"#,
        r#"{"done":{"id":1,"error":"answered {\"error\":\"a\\\"b\\\\c\"}"}}"#,
        r#"{"a\"b\\c":[1]}"#,
    ] {
        assert!(quoted.is_told(text), "{text}");
    }
    assert!(!quoted.is_told(r#"{"done":{"id":1,"error":"a b c"}}"#));
}

#[test]
fn a_file_of_scenarios_that_says_nothing_is_refused_by_name() {
    let refused = |fields: &str| {
        let text = format!(r#"[{{ "name": "one", "tried": "", "by": "", "rank": "must", {fields} }}]"#);
        Scenario::read(&text).unwrap_err().to_string()
    };
    let call = r#""steps": [{ "call": {} }]"#;
    for (fields, expected) in [
        (r#""steps": [], "seen": { "applied": 1 }"#.to_owned(), "\"one\" asks the client for no call"),
        (format!(r#"{call}, "seen": {{}}"#), "\"one\" expects nothing to be seen"),
        (format!(r#"{call}, "seen": {{ "aplied": 1 }}"#), "unknown variant `aplied`"),
        (format!(r#"{call}, "seen": {{ "applied": {{ "least": 2, "most": 1 }} }}"#), "`least` is more than"),
        (
            format!(r#"{call}, "seen": {{ "applied": 1 }}, "token": {{ "answers": [{{}}] }}"#),
            "exactly one of `status` and `does`",
        ),
        (
            format!(
                r#"{call}, "seen": {{ "applied": 1 }}, "api": {{ "random": {{ "one_in": 0, "seed": 1 }} }}"#
            ),
            "`one_in: 0`",
        ),
        (format!(r#"{call}, "seen": {{ "applied": 1 }}, "limit": 20"#), "20 has no unit"),
    ] {
        let said = refused(&fields);
        assert!(said.contains(expected), "{said}");
    }
    let one = r#"{ "name": "one", "tried": "", "by": "", "rank": "must", "steps": [{ "call": {} }], "seen": { "applied": 1 } }"#;
    assert_eq!(Scenario::read(&format!("[{one}, {one}]")).unwrap_err().to_string(), "\"one\" occurs twice");
}

#[actix::test]
async fn debug_of_the_servers_shows_no_secret() {
    let servers = tokenflight::testing::hostile::Hostile::start(&simple()).await.unwrap();
    let configure = servers.configure();
    let shown = format!("{servers:?} {configure:?} {:?}", simple());
    assert!(!servers.is_told(&shown), "{shown}");
    assert!(servers.is_told(&serde_json::to_string(&configure).unwrap()));
}
