//! The `request_fanout` example, run as a program: its figures, its errors, and that its output contains no secret.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use base64::Engine as _;
use serde_json::Value;

use crate::servers::Provider;

/// What each token and each client secret of the built-in auth server begins with.
const TOKEN_PREFIX: &str = "fanout-token-";
const SECRET_PREFIX: &str = "fanout-secret-";

/// The example, built by `cargo test` beside this binary.
fn fanout(args: &[&str]) -> Command {
    let mut folder = std::env::current_exe().unwrap();
    folder.pop(); // the test's own name
    folder.pop(); // deps
    let path = folder.join("examples").join(format!("request_fanout{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "the example is not built: `cargo test` without `--test` builds it, or `cargo build --examples`"
    );
    let mut command = Command::new(path);
    command.args(args).env_remove("RUST_LOG").env_remove("FANOUT_CLIENT_SECRET");
    command
}

#[track_caller]
fn run(args: &[&str]) -> Output {
    fanout(args).output().expect("the example starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON object on stdout, and nothing else")
}

/// Each run as strategy, mode, requests, ok, auth calls, `TokenReady`.
#[track_caller]
fn figures(output: &Output) -> Vec<String> {
    let fields = ["strategy", "mode", "requests", "ok", "auth_calls", "token_ready"];
    let runs = json(output)["runs"].as_array().expect("runs").clone();
    let line = |run: &Value| fields.map(|field| run[field].to_string().replace('"', "")).join(" ");
    runs.iter().map(line).collect()
}

#[track_caller]
fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
    assert_eq!(stderr(output), "", "nothing to say on stderr");
}

#[test]
fn nine_requests_cost_nine_calls_by_hand_and_one_with_us() {
    let output = run(&["--json"]);
    assert_success(&output);
    let expected = [
        "naive sequential 9 9 1 0",
        "naive parallel 9 9 9 0",
        "handle sequential 9 9 1 0",
        "handle parallel 9 9 1 0",
        "recipient sequential 9 9 1 9",
        "recipient parallel 9 9 1 9",
    ];
    assert_eq!(figures(&output), expected);
}

#[test]
fn a_token_that_expires_midway_costs_one_call_more() {
    let output = run(&["--json", "--expire-midway", "--mode", "parallel"]);
    assert_success(&output);
    let expected = ["naive parallel 9 9 9 0", "handle parallel 9 9 2 0", "recipient parallel 9 9 2 9"];
    assert_eq!(figures(&output), expected);
}

#[test]
fn ten_thousand_requests_cost_one_call() {
    for (strategy, token_ready) in [("handle", 0), ("recipient", 10_000)] {
        let output = run(&["--json", "--requests", "10000", "--mode", "parallel", "--strategy", strategy]);
        assert_success(&output);
        assert_eq!(figures(&output), [format!("{strategy} parallel 10000 10000 1 {token_ready}")]);
    }
}

#[test]
fn the_timeline_shows_naive_above_ours() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fanout.svg");
    let path = file.to_str().unwrap();
    assert!(run(&["--mode", "parallel", "--timeline", path]).status.success());
    let svg = std::fs::read_to_string(&file).unwrap();
    let places = ["naive: 9 calls to the", "handle: 1 call to the", "recipient: 1 call to the"]
        .map(|title| svg.find(title).unwrap_or_else(|| panic!("{title} is missing")));
    assert!(places.is_sorted());
    assert!(svg.len() < 60_000, "{} bytes", svg.len());
    assert!(!svg.contains(path) && !svg.contains(env!("CARGO_MANIFEST_DIR")));
}

/// Exactly one line on stderr, which names what is wrong, and an exit code that says so.
#[track_caller]
fn assert_one_error(output: &Output, code: i32, names: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: "), "{said}");
    for name in names {
        assert!(said.contains(name), "{said:?} does not name {name:?}");
    }
}

#[test]
fn a_fault_is_one_line_that_names_it_and_the_json_says_it_too() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--client-secret", "wrong"], &["401", "invalid_client", "client_secret"]),
        (&["--client-secret", "-wrong"], &["401", "invalid_client", "client_secret"]),
        (&["--fault", "html"], &["/oauth/token", "text/html", "instead of JSON"]),
        (&["--fault", "missing-token"], &["/oauth/token", "without an `access_token`"]),
        (&["--fault", "huge-body"], &["/oauth/token", "65536 bytes", "max_body"]),
        (&["--fault", "unavailable"], &["/oauth/token", "503"]),
        (&["--fault", "refuse"], &["400", "unauthorized_client"]),
        (&["--fault", "html", "--strategy", "naive"], &["not with a token as JSON"]),
        (&["--fault", "missing-token", "--strategy", "naive"], &["no `access_token`"]),
        (&["--fault", "huge-body", "--strategy", "naive"], &["exceeds 1048576 bytes"]),
    ];
    for (args, names) in cases {
        let output = run(&[&["--json", "--mode", "parallel"], *args].concat());
        assert_one_error(&output, 1, names);
        let runs = json(&output)["runs"].clone();
        assert_eq!(runs[0]["ok"], 0);
        let error = runs[0]["error"].as_str().expect("the JSON has the error");
        assert!(stderr(&output).contains(error), "{error}");
    }
}

#[test]
fn an_unreachable_server_is_named() {
    // The system hands this port to nobody else so soon.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/token");
    let output = run(&["--token-url", &url, "--client-id", "a", "--client-secret", "b", "--json"]);
    assert_one_error(&output, 1, &[&url, "cannot connect", "refused"]);
}

#[test]
fn a_wrong_option_is_one_line_that_names_it() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--lifetme", "3s"], &["'--lifetme'", "'--lifetime'"]),
        (&["--requests", "0"], &["--requests", "0 is not in 1..=1000000"]),
        (&["--requests", "-1"], &["--requests", "-1 is not in"]),
        (&["--latency", "-5s"], &["--latency", "from 0s to 1h"]),
        (&["--latency", "5"], &["--latency", "write it like 250ms"]),
        (&["--lifetime", "1500ms"], &["--lifetime", "whole seconds"]),
        (&["--strategy", "nave"], &["--strategy", "'nave'", "'naive'"]),
        (&["--expire-midway", "--requests", "1"], &["--expire-midway", "at least 2"]),
        (&["--token-url", "http://localhost/"], &["--client-id"]),
        (
            &["--token-url", "http://localhost/", "--client-id", "a"],
            &["--client-secret", "FANOUT_CLIENT_SECRET"],
        ),
        (&["--client-id", ""], &["--client-id"]),
        (&["--timeline", "a.svg", "--mode", "sequential"], &["--timeline", "--mode"]),
    ];
    for (args, names) in cases {
        let output = run(args);
        assert_one_error(&output, 2, names);
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

/// What an HTTP Basic header would show, as far as the secret's beginning determines it.
fn basic(id: &str, secret: &str) -> String {
    let known = format!("{id}:{secret}");
    let whole = known.len() / 3 * 3;
    base64::prelude::BASE64_STANDARD.encode(&known[..whole])
}

#[track_caller]
fn assert_silent(output: &Output, secrets: &[String]) {
    let all = [output.stdout.as_slice(), &output.stderr].concat();
    let all = String::from_utf8_lossy(&all);
    // The servers and the HTTP clients did talk.
    for voice in ["TRACE actix_http", "TRACE hyper_util", "DEBUG reqwest", "DEBUG tokenflight"] {
        assert!(all.contains(voice), "{voice} says nothing");
    }
    for (number, secret) in secrets.iter().enumerate() {
        // Not quoted, or the test would do what it forbids.
        assert!(!all.contains(secret.as_str()), "secret {number} of {} got out", secrets.len());
    }
}

#[test]
fn at_trace_level_neither_tokens_nor_the_client_secret_get_out() {
    let secrets =
        [TOKEN_PREFIX, SECRET_PREFIX, &basic("fanout", SECRET_PREFIX), "wr0ng-s3cret"].map(String::from);
    let cases: &[&[&str]] = &[
        &[],
        &["--expire-midway", "--mode", "parallel", "--json"],
        &["--fault", "revoke", "--json"],
        &["--fault", "huge-body", "--mode", "parallel"],
        &["--client-secret", "wr0ng-s3cret"],
    ];
    for args in cases {
        let output = fanout(args).env("RUST_LOG", "trace").output().unwrap();
        assert_silent(&output, &secrets);
    }
}

/// An API that notes the tokens that it is shown.
fn noting_api(seen: Arc<Mutex<Vec<String>>>) -> String {
    async fn note(request: HttpRequest, seen: web::Data<Mutex<Vec<String>>>) -> HttpResponse {
        let shown = request.headers().get("authorization").unwrap().to_str().unwrap();
        seen.lock().unwrap().push(shown.strip_prefix("Bearer ").unwrap().to_owned());
        HttpResponse::Ok().finish()
    }
    let seen = web::Data::from(seen);
    let app = move || App::new().app_data(seen.clone()).route("/", web::get().to(note));
    let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/", server.addrs()[0]);
    actix_web::rt::spawn(server.run());
    url
}

#[actix_web::test]
async fn a_real_authorization_server_s_tokens_do_not_get_out_either() {
    let provider = Provider::start();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (token_url, api_url) = (provider.address("token_endpoint").to_owned(), noting_api(seen.clone()));
    let asked = ["--client-id", "plain", "--scope", "api:read", "--json"];
    let mut command = fanout(&[&["--token-url", &token_url, "--api-url", &api_url], &asked[..]].concat());
    command.env("FANOUT_CLIENT_SECRET", "plain-secret").env("RUST_LOG", "trace");
    let output = web::block(move || command.output()).await.unwrap().unwrap();

    assert!(output.status.success(), "the example failed");
    let calls: Vec<_> =
        figures(&output).iter().map(|run| run.split(' ').nth(4).unwrap().to_owned()).collect();
    assert_eq!(calls, ["1", "9", "1", "1", "1", "1"]);
    let mut secrets = seen.lock().unwrap().clone();
    assert_eq!(secrets.len(), 54, "six runs of nine requests");
    secrets.extend(["plain-secret".to_owned(), basic("plain", "plain-secret")]);
    // No server of the example's own here, so the one that speaks at trace is the client.
    let all = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    assert!(all.contains("TRACE hyper_util"));
    assert!(!secrets.iter().any(|secret| all.contains(secret)), "a secret got out");
}
