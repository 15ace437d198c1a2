//! Helper programs: the exec credential protocol of Kubernetes, and the faults of a program.

use std::time::Duration;

use tokenflight::clock::{Clock, SystemClock};
use tokenflight::source::{ExecCredential, ExecCredentialBuilder, ExecFormat};
use tokenflight::{FetchContext, Reason, SourceError, Token, TokenActor, TokenSource};

use crate::file_token::Folder;
use crate::support::*;

fn shell(script: &str) -> ExecCredentialBuilder {
    ExecCredential::builder("sh").arg("-c").arg(script)
}

fn plain_shell(script: &str) -> ExecCredentialBuilder {
    shell(script).format(ExecFormat::Plain)
}

async fn run(builder: ExecCredentialBuilder) -> Result<Token, SourceError> {
    builder.build().unwrap().fetch(FetchContext::new(Reason::First)).await
}

/// What the protocol asks for, with this `status`.
fn credential(status: &str) -> String {
    format!(r#"{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{status}}}"#)
}

#[actix::test]
async fn the_program_is_told_what_is_wanted_and_its_timestamp_is_the_token_s_end() {
    let folder = Folder::new();
    let told = folder.path().join("told");
    let end = SystemClock.now().wall + secs(600);
    let end = jiff::Timestamp::try_from(end).unwrap();
    let answer = credential(&format!(r#"{{"token":"abc","expirationTimestamp":"{end}"}}"#));
    let script = r#"printf %s "$KUBERNETES_EXEC_INFO" > "$0"; printf %s "$ANSWER""#;
    let cluster = serde_json::json!({ "server": "https://k8s.example" });
    let program = shell(script).arg(told.to_str().unwrap()).env("ANSWER", answer).cluster(cluster);
    let token = run(program).await.unwrap();
    assert_eq!(token.authorization(), "Bearer abc");
    assert!((secs(590)..=secs(600)).contains(&token.remaining().unwrap()), "{token:?}");
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(told).unwrap()).unwrap();
    assert_eq!(
        told,
        serde_json::json!({
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
            "spec": { "interactive": false, "cluster": { "server": "https://k8s.example" } },
        })
    );
}

#[actix::test]
async fn a_token_without_an_end_is_kept_until_an_api_rejects_it() {
    let folder = Folder::new();
    let count = folder.path().join("count");
    let script = r#"echo x >> "$0"; printf '{"token":"t%s"}' "$(wc -l < "$0" | tr -d ' ')""#;
    let program = plain_shell(script).arg(count.to_str().unwrap()).build().unwrap();
    let handle = TokenActor::builder(program).policy(plain()).start().unwrap();
    let first = handle.get().await.unwrap();
    assert_eq!((first.secret(), first.remaining() > Some(HOUR * 24 * 29)), ("t1", true));
    assert_eq!(handle.replace(&first).await.unwrap().secret(), "t2");
    assert_eq!(handle.get().await.unwrap().secret(), "t2");
    assert_eq!(std::fs::read_to_string(count).unwrap().lines().count(), 2);
}

#[actix::test]
async fn another_version_or_a_certificate_is_a_lasting_error() {
    for (output, wanted) in [
        (credential(r#"{"token":"s3cret"}"#).replace("/v1", "/v1alpha1"), "v1alpha1"),
        (credential(r#"{"token":"s3cret"}"#).replace("ExecCredential", "Pod"), "\"Pod\""),
        (credential(r#"{"clientCertificateData":"s3cret"}"#), "client certificate"),
    ] {
        let error = run(shell("printf %s \"$OUTPUT\"").env("OUTPUT", output)).await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains(wanted), "{error}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
    let older = credential(r#"{"token":"abc"}"#).replace("/v1", "/v1beta1");
    let program = shell("printf %s \"$OUTPUT\"").env("OUTPUT", older);
    let program = program.api_version("client.authentication.k8s.io/v1beta1");
    assert_eq!(run(program).await.unwrap().secret(), "abc");
}

#[actix::test]
async fn a_program_that_is_not_there_is_a_lasting_error_that_names_it() {
    let error = run(ExecCredential::builder("/nowhere/helper")).await.unwrap_err();
    assert!(error.is_terminal(), "{error}");
    assert!(error.to_string().contains("/nowhere/helper") && error.to_string().contains("`command`"));
}

#[actix::test]
async fn what_it_wrote_to_stderr_is_quoted_on_one_bounded_line() {
    let error = run(plain_shell("echo 'no cluster of this name' >&2; echo again >&2; exit 3")).await;
    let error = error.unwrap_err();
    assert!(!error.is_terminal());
    let said = error.to_string();
    assert!(said.contains("exit status: 3: no cluster of this name?again"), "{said}");
    let long = "i=0; while [ $i -lt 3000 ]; do echo 'a line of the same text' >&2; i=$((i+1)); done; exit 1";
    let said = run(plain_shell(long)).await.unwrap_err().to_string();
    assert!(said.len() < 500 && !said.contains('\n'), "{} bytes", said.len());
}

#[actix::test]
async fn no_secret_that_it_repeats_is_shown() {
    for script in [
        "echo \"bad password $PASSWORD\" >&2; exit 1",
        "printf %s \"$PASSWORD\" | base64 >&2; exit 1",
        "echo \"$1 was wrong\" >&2; exit 1",
        "echo '{\"token\":\"the-token-s3cret\"}'; echo the-token-s3cret >&2; exit 1",
        "echo the-token-s3cret; echo the-token-s3cret >&2; exit 1",
        "echo 's3cret, and no JSON'",
        "echo '{\"token\":[\"s3cret\"]}'",
        "echo \"{\\\"token\\\":\\\"abcdef\\\",\\\"token_type\\\":\\\"$PASSWORD\\\"}\"",
        "echo '{\"token\":\"the-token-s3cret\",\"token_type\":\"the-token-s3cret\"}'",
        "echo '{\"token\":\"the-token-s3cret\",\"token_type\":\"dGhlLXRva2VuLXMzY3JldA==\"}'",
    ] {
        let program = plain_shell(script).arg("sh").arg("argument-s3cret").env("PASSWORD", "p4ss-s3cret");
        let shown = format!("{program:?} {:?}", program.clone().build().unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        let error = run(program).await.unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(!said.contains("s3cret") && !said.contains("czNjcmV0"), "{script}: {said}");
    }
}

#[actix::test]
async fn no_secret_that_stands_in_a_field_of_the_protocol_is_shown() {
    for field in ["apiVersion", "kind"] {
        for (text, is_shown) in [("the-token-s3cret", false), ("p4ss-s3cret", false), ("Pod", true)] {
            let mut output: serde_json::Value =
                serde_json::from_str(&credential(r#"{"token":"the-token-s3cret"}"#)).unwrap();
            output[field] = text.into();
            let folder = crate::file_token::Folder::new();
            let file = folder.write("output", output.to_string());
            let program = shell("cat \"$OUTPUT\"").env("OUTPUT", file.display().to_string());
            let error = run(program.env("PASSWORD", "p4ss-s3cret")).await.unwrap_err();
            let said = error.to_string();
            assert!(error.is_terminal() && said.contains(field), "{said}");
            assert_eq!(said.contains(text), is_shown, "{said}");
            assert_eq!(said.contains("[not shown]"), !is_shown, "{said}");
        }
    }
}

#[actix::test]
async fn an_argument_that_begins_like_an_option_may_be_a_secret() {
    for (args, shown) in [
        (["--token", "-Ab9xQ7zLm3"], "bad token Ab9xQ7zLm3"),
        (["--token", "-Ab9xQ7zLm3"], "bad token -Ab9xQ7zLm3"),
        (["--token", "--9fKq83Lmz"], "bad token 9fKq83Lmz"),
        (["-v", "-psesame-open"], "no user with sesame-open"),
        (["-v", "-p=sesame-open"], "no user with sesame-open"),
        (["-v", "--apiKey=sesame-open"], "no user with sesame-open"),
        (["-v", "--api-key=sesame-open"], "no user with sesame-open"),
        (["-v", "api_key=sesame-open"], "no user with sesame-open"),
        (["-Ab9xQ7zLm3==", "-v"], "bad token Ab9xQ7zLm3=="),
    ] {
        let script = format!("echo '{shown}' >&2; exit 1");
        let said = run(plain_shell(&script).arg("sh").args(args)).await.unwrap_err().to_string();
        assert!(said.contains("is not shown") && !said.contains("sesame") && !said.contains("Lm"), "{said}");
    }
    let script = "echo 'no such option: --api-key or -v' >&2; exit 1";
    let said = run(plain_shell(script).arg("sh").args(["--api-key", "-v", "--", "-"])).await.unwrap_err();
    assert!(said.to_string().contains("no such option: --api-key or -v"), "{said}");
}

#[actix::test]
async fn too_much_output_ends_the_program_at_once() {
    let endless = plain_shell("while :; do echo 0123456789012345678901234567890123456789; done");
    let error = run(endless.timeout(secs(60))).await.unwrap_err();
    assert!(error.to_string().contains("more than 65536 bytes"), "{error}");
}

/// A helper may leave a process behind, such as a cache, which holds its standard error open.
#[actix::test]
async fn a_process_that_a_program_leaves_behind_does_not_delay_its_token() {
    let folder = Folder::new();
    let pid = folder.path().join("pid");
    let script = "sleep 600 >/dev/null & echo $! > \"$0\"; echo odd >&2; printf '{\"token\":\"abc\"}'";
    let program = plain_shell(script).arg(pid.to_str().unwrap()).timeout(secs(60));
    assert_eq!(run(program.clone()).await.unwrap().secret(), "abc");
    let failing = plain_shell(&format!("{script}; exit 3")).arg(pid.to_str().unwrap()).timeout(secs(60));
    let error = run(failing).await.unwrap_err().to_string();
    assert!(error.contains("exit status: 3") && error.contains("odd"), "{error}");
}

#[actix::test]
async fn an_error_names_the_limit_that_ran_out_and_the_folder_that_is_not_there() {
    let slow = plain_shell("exec sleep 600").build().unwrap();
    let cx = FetchContext::new(Reason::First);
    let deadline = cx.clock().now().boot + Duration::from_millis(200);
    let error = slow.fetch(cx.with_deadline(deadline)).await.unwrap_err().to_string();
    assert!(
        error.contains("(the time that was left for the attempt)") && !error.contains("`timeout`"),
        "{error}"
    );
    let error = run(plain_shell("true").folder("/not/there")).await.unwrap_err();
    assert!(error.is_terminal() && error.to_string().contains("`folder`"), "{error}");
}

/// Whether a process of this number runs. A zombie does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

#[cfg(target_os = "linux")]
#[actix::test]
async fn when_the_time_is_up_the_program_is_killed_with_all_that_it_started() {
    let folder = Folder::new();
    let pids = folder.path().join("pids");
    let script = "sleep 600 & echo $! > \"$0\"; echo $$ >> \"$0\"; sleep 600";
    let program = || plain_shell(script).arg(pids.to_str().unwrap());
    let until_gone = async || {
        let text = std::fs::read_to_string(&pids).unwrap();
        assert_eq!(text.lines().count(), 2);
        while text.lines().any(runs) {
            tokio::task::yield_now().await;
        }
    };
    let error = run(program().timeout(Duration::from_millis(300))).await.unwrap_err();
    assert!(error.to_string().contains("took longer than 300ms (`timeout`), and was killed"), "{error}");
    tokio::time::timeout(secs(10), until_gone()).await.expect("both are gone");

    // A flight that is given up drops the call.
    std::fs::remove_file(&pids).unwrap();
    let source = program().build().unwrap();
    let fetch = source.fetch(FetchContext::new(Reason::First));
    let begun = async {
        while std::fs::read_to_string(&pids).is_ok_and(|text| text.lines().count() < 2) || !pids.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { _ = fetch => panic!("it does not end"), () = begun => {} }
    tokio::time::timeout(secs(10), until_gone()).await.expect("both are gone");
}

#[actix::test]
async fn it_has_no_input_and_only_the_variables_that_were_asked_for() {
    let script =
        "read line; printf '{\"token\":\"%s-%s-%s\"}' \"$?\" \"$MINE\" \"${CARGO_MANIFEST_DIR:-none}\"";
    let program = plain_shell(script).env("MINE", "yes").clear_env(true);
    assert_eq!(run(program).await.unwrap().secret(), "1-yes-none");
}

#[test]
fn settings_are_checked_and_read_from_a_file() {
    let field = |builder: ExecCredentialBuilder| builder.build().unwrap_err().field().to_owned();
    assert_eq!(field(ExecCredential::builder(" ")), "command");
    assert_eq!(field(shell("a\0b")), "args");
    assert_eq!(field(ExecCredential::builder("a\0b")), "command");
    assert_eq!(field(shell("a").env("A=B", "x")), "env");
    assert_eq!(field(shell("a").env("KUBERNETES_EXEC_INFO", "x")), "env");
    assert_eq!(field(shell("a").timeout(Duration::ZERO)), "timeout");
    assert_eq!(field(shell("a").api_version("v1")), "api_version");
    assert_eq!(field(shell("a").cluster(serde_json::json!("x"))), "cluster");
    assert_eq!(field(plain_shell("a").cluster(serde_json::json!({}))), "cluster");
    assert_eq!(field(plain_shell("a").api_version("client.authentication.k8s.io/v1")), "api_version");
    assert_eq!(field(shell("a").folder("")), "folder");
    let read = |text: &str| serde_json::from_str::<ExecCredentialBuilder>(text);
    let settings = r#"{"command":"helper","args":["--quiet"],"env":{"PASSWORD":"s3cret"},"format":"plain","timeout":"3s"}"#;
    let builder = read(settings).unwrap();
    assert!(!format!("{builder:?} {:?}", builder.clone().build().unwrap()).contains("s3cret"));
    for (wrong, wanted) in [
        (settings.replace("timeout", "timeuot"), "unknown field `timeuot`"),
        (settings.replace(r#"{"PASSWORD":"s3cret"}"#, r#""s3cret""#), "expected a table"),
        (settings.replace("\"plain\"", "\"yaml\""), "unknown variant `yaml`"),
    ] {
        let error = read(&wrong).unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains("s3cret"), "{error}");
    }
}
