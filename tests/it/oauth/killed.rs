//! Promise 14 with `kill -9`: a process dies at any moment, and another one continues with its file.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokenflight::source::{AfterCrash, NeedsLogin, RefreshToken};
use tokenflight::vault::FileVault;

use super::rotation::{Shared, lock, next, slow_family};
use super::*;

const NAME: &str = "oauth::killed::whoever_is_killed_at_any_moment_leaves_what_another_can_go_on_with";

fn source(url: &str, path: PathBuf, grace: u64) -> RefreshToken<FileVault> {
    let client = Client::builder(url, "app").secret("s3cret").build().unwrap();
    let vault = FileVault::new(path).unwrap();
    client
        .refresh_token(vault)
        .login("refresh-1")
        .grace(secs(grace))
        .after_crash(AfterCrash::NeedsLogin)
        .build()
        .unwrap()
}

/// Rotates without end, and says so each time, until it is killed.
async fn rotate() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let grace = variable("TOKENFLIGHT_GRACE").parse().unwrap();
    let source = source(&variable("TOKENFLIGHT_URL"), variable("TOKENFLIGHT_FILE").into(), grace);
    let mut last: Option<Token> = None;
    loop {
        match next(&source, last.as_ref()).await {
            Ok(token) => {
                println!("rotated {}", token.secret());
                last = Some(token);
            }
            Err(error) => {
                println!("failed {error}");
                return;
            }
        }
    }
}

/// Kills a rotating process after its `lines`-th line and `pause`.
fn killed(url: &str, path: &std::path::Path, grace: u64, lines: usize, pause: Duration) {
    let mut child = in_its_own_process(NAME).expect("this is the parent");
    child
        .env("TOKENFLIGHT_URL", url)
        .env("TOKENFLIGHT_FILE", path)
        .env("TOKENFLIGHT_GRACE", grace.to_string());
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let told = output
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.contains("rotated") || line.contains("failed"));
    told.take(lines).for_each(drop);
    // Somewhere in the next rotation: no event tells where.
    std::thread::sleep(pause);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// How often a refresh token came twice.
fn repeated(family: &Shared) -> usize {
    let family = lock(family);
    assert!(!family.is_revoked, "a family was revoked by us");
    assert!(family.arrived.values().all(|times| *times <= 2), "a third use");
    family.arrived.values().filter(|times| **times == 2).count()
}

#[actix::test]
async fn whoever_is_killed_at_any_moment_leaves_what_another_can_go_on_with() {
    const KILLS: usize = 25;
    if in_its_own_process(NAME).is_none() {
        return rotate().await;
    }
    // With a grace nobody has to log in.
    let (shared, server) = slow_family(30, millis(3));
    let folder = Folder::new();
    let path = folder.path("login");
    for kill in 0..KILLS {
        let pause = Duration::from_micros(fastrand::u64(..25_000));
        killed(&server.token_url(), &path, 30, 1 + kill % 3, pause);
        let token = next(&source(&server.token_url(), path.clone(), 30), None).await;
        token.unwrap_or_else(|error| panic!("kill {kill}: {error}"));
    }
    let with_grace = repeated(&shared);
    let rotations = lock(&shared).arrived.len();

    // Without one, whoever cannot go on says so, and nothing is sent twice.
    let (mut needed, mut served) = (0, 0);
    for kill in 0..KILLS {
        let (shared, server) = slow_family(0, millis(3));
        let folder = Folder::new();
        let path = folder.path("login");
        killed(&server.token_url(), &path, 0, 1 + kill % 3, Duration::from_micros(fastrand::u64(..25_000)));
        match next(&source(&server.token_url(), path, 0), None).await {
            Ok(_) => served += 1,
            Err(error) => {
                assert!(error.cause::<NeedsLogin>().is_some(), "{error}");
                needed += 1;
            }
        }
        assert_eq!(repeated(&shared), 0);
    }
    println!(
        "grace 30 s: {KILLS} kills, {rotations} rotations, {with_grace} repeated inside the grace, 0 logins needed; \
         without: {served} went on, {needed} need a login, 0 repeated"
    );
}
