//! The example `shared_redis` from outside: real processes, a real kill.

use std::process::Command;

struct Round {
    served: usize,
    failed: usize,
    calls: usize,
    polls: usize,
    /// The slowest, in milliseconds.
    most: f64,
}

#[track_caller]
fn run(args: &[&str]) -> Vec<Round> {
    let mut folder = std::env::current_exe().unwrap();
    folder.pop(); // the test's own name
    folder.pop(); // deps
    let path = folder.join("examples").join("shared_redis");
    assert!(path.exists(), "the example is not built: `cargo test` without `--test` builds it");
    let output = Command::new(path).args(args).env_remove("RUST_LOG").output().expect("it starts");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("shared-token-"), "no token is shown");
    let numbers = |line: &str| -> Vec<f64> {
        line.split(|c: char| !(c.is_ascii_digit() || c == '.'))
            .filter_map(|number| number.parse().ok())
            .collect()
    };
    let round = |line: &str| match numbers(line)[..] {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        [served, failed, calls, _pushes, polls, .., most] => Round {
            served: served as usize,
            failed: failed as usize,
            calls: calls as usize,
            polls: polls as usize,
            most,
        },
        _ => panic!("{line}"),
    };
    said.lines().filter_map(|line| line.strip_prefix("in all: ")).map(round).collect()
}

#[test]
fn eight_processes_make_one_call_a_token() {
    for args in
        [&["--workers", "8", "--arbiters", "2"][..], &["--workers", "8", "--arbiters", "2", "--flush"]]
    {
        let rounds = run(args);
        assert_eq!(rounds.len(), 2);
        for round in rounds {
            assert_eq!((round.served, round.failed, round.calls, round.polls), (16, 0, 1, 0));
        }
    }
}

#[test]
fn an_owner_that_is_killed_costs_one_more_call_and_the_rest_of_its_lease() {
    let rounds = run(&["--workers", "6", "--arbiters", "1", "--kill-owner"]);
    assert_eq!((rounds[0].served, rounds[0].failed, rounds[0].calls), (5, 0, 2));
    // A lease of 2 s and a source of 200 ms; the rest is for a machine that has other things to do.
    assert!(rounds[0].most < 4_000.0, "{} ms", rounds[0].most);
    assert_eq!((rounds[1].served, rounds[1].calls, rounds[1].polls), (5, 1, 0), "and nothing after that");
}

#[test]
fn a_frozen_redis_costs_each_process_a_call_and_nobody_a_token() {
    let rounds = run(&["--workers", "4", "--arbiters", "1", "--freeze-redis"]);
    assert_eq!((rounds[0].served, rounds[0].failed), (4, 0));
    assert!(rounds[0].calls <= 4, "{} calls", rounds[0].calls);
    // A lease of 2 s, a time limit of 1 s, and a source of 200 ms.
    assert!(rounds[0].most < 6_000.0, "{} ms", rounds[0].most);
    assert_eq!((rounds[1].served, rounds[1].failed), (4, 0));
}

#[test]
fn without_a_redis_server_it_says_in_one_line_how_to_get_one() {
    let mut folder = std::env::current_exe().unwrap();
    folder.pop();
    folder.pop();
    let output = Command::new(folder.join("examples").join("shared_redis")).env("PATH", "").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("redis-server") && said.contains("install") && said.contains("--redis-url"),
        "{said}"
    );
}
