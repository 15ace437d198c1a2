use http::header::WWW_AUTHENTICATE;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Row {
    name: String,
    #[serde(default)]
    body: String,
    #[serde(default)]
    no_replay: bool,
    #[serde(default)]
    noisy: bool,
    answers: Vec<Said>,
    decisions: Vec<String>,
}

#[derive(Deserialize)]
struct Said {
    status: u16,
    #[serde(default)]
    challenges: Vec<String>,
}

fn judge(said: &Said) -> Judgement {
    let lines = said.challenges.iter().map(|line| (WWW_AUTHENTICATE, line.parse().unwrap()));
    let mut headers = HeaderMap::new();
    for (name, line) in lines {
        headers.append(name, line);
    }
    let status = StatusCode::from_u16(said.status).unwrap();
    Judgement::of(&Answer { status, headers: &headers, grpc: Grpc::No, is_redirected: false }, "Bearer")
}

#[test]
fn each_row_of_the_table_is_decided_so() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/replay.json");
    let Ok(text) = std::fs::read_to_string(file) else { return }; // A published package.
    let rows: Vec<Row> = serde_json::from_str(&text).unwrap();
    for row in rows {
        let may_repeat = row.body != "once" && !row.no_replay;
        let mut so_far = SoFar { may_repeat, ..SoFar::default() };
        for (said, expected) in row.answers.iter().zip(&row.decisions) {
            let decision = decide(judge(said), so_far, row.noisy, false);
            let name = match decision {
                Decision::Pass => "pass",
                Decision::PassButReport(_) => "pass but report",
                Decision::ReportAndReplay(_) => {
                    so_far.was_replayed = true;
                    "report and replay"
                }
                Decision::SameTokenAgain => {
                    so_far.was_repeated = true;
                    "same token"
                }
                Decision::NewProof => "new proof",
                Decision::Claims { replay, .. } => {
                    so_far.was_replayed = true;
                    if replay { "claims and replay" } else { "claims" }
                }
                Decision::StepUp(_) => "step up",
            };
            assert_eq!(name, expected, "{}", row.name);
        }
    }
}

#[test]
fn a_nonce_is_worth_one_new_proof_if_it_is_new_and_the_body_can_be_sent_again() {
    let may = SoFar { may_repeat: true, ..SoFar::default() };
    assert_eq!(decide(Judgement::WantsNonce, may, false, true), Decision::NewProof);
    assert_eq!(decide(Judgement::WantsNonce, may, false, false), Decision::Pass);
    assert_eq!(decide(Judgement::WantsNonce, SoFar::default(), false, true), Decision::Pass);
    let proved = SoFar { was_proved: true, ..may };
    assert_eq!(decide(Judgement::WantsNonce, proved, false, true), Decision::Pass);
}

#[test]
fn what_grpc_says_counts_where_http_says_200() {
    let headers = HeaderMap::new();
    let judge = |status, grpc, is_redirected| {
        let status = StatusCode::from_u16(status).unwrap();
        Judgement::of(&Answer { status, headers: &headers, grpc, is_redirected }, "Bearer")
    };
    let rejected = Judgement::Rejected(Why::Unauthenticated);
    assert_eq!(judge(200, Grpc::Status(Code::parse(b"16")), false), rejected);
    assert_eq!(judge(200, Grpc::Status(Code::parse(b"7")), false), Judgement::Nothing, "PERMISSION_DENIED");
    assert_eq!(judge(200, Grpc::Status(Code::parse(b"0")), false), Judgement::Accepted);
    assert_eq!(judge(200, Grpc::Message, false), Judgement::Accepted);
    assert_eq!(judge(200, Grpc::Open, false), Judgement::Nothing);
    assert_eq!(judge(401, Grpc::Open, false), Judgement::Rejected(Why::Unsaid), "from a proxy");
    assert_eq!(judge(401, Grpc::No, true), Judgement::Nothing, "from behind a redirect");
    assert_eq!(judge(200, Grpc::No, true), Judgement::Nothing);
}

#[test]
fn only_the_same_young_token_waits_and_not_for_ever() {
    let secs = Duration::from_secs;
    assert_eq!(pause(true, secs(1), secs(5)), secs(4));
    assert_eq!(pause(true, secs(6), secs(5)), secs(0));
    assert_eq!(pause(false, secs(1), secs(5)), secs(0));
    assert_eq!(pause(true, secs(0), secs(60)), LONGEST_WAIT);
}
