//! Processes with one file: many at once, one that is killed, one without disc space, one without the right to
//! write.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokenflight::vault::{FileVault, Record, RefreshTokenStore, State, Stored, VaultError};

use super::world::*;
use crate::support::*;

/// Names the file for the child.
const FILE: &str = "TOKENFLIGHT_TEST_VAULT";

fn own_vault() -> FileVault {
    FileVault::new(std::env::var_os(FILE).expect("the parent names it")).unwrap()
}

/// What a program does that logs in if nobody has.
async fn there(vault: &FileVault) -> Stored {
    if vault.load().await.unwrap().is_none() {
        let _ = vault.swap(None, &login()).await.unwrap();
    }
    vault.load().await.unwrap().unwrap()
}

#[tokio::test]
async fn eight_processes_lose_no_generation() {
    let name = "vault::processes::eight_processes_lose_no_generation";
    let Some(mut child) = in_its_own_process(name) else {
        let won = rotate(&own_vault(), 20).await;
        println!("\nwon {}", won.iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
        return;
    };
    let folder = Folder::begin();
    let vault = FileVault::new(folder.file()).unwrap();
    done(vault.swap(None, &login()).await);
    child.env(FILE, folder.file()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let children: Vec<_> = (0..8).map(|_| child.spawn().unwrap()).collect();
    let mut won = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let line = text.lines().find_map(|line| line.strip_prefix("won ")).expect("it tells");
        won.extend(line.split(' ').map(|number| number.parse::<u64>().unwrap()));
    }
    won.sort_unstable();
    assert_eq!(won, (2..=1 + 8 * 20).collect::<Vec<_>>(), "each generation was won once");
    assert_eq!(vault.load().await.unwrap().unwrap().record().generation(), 1 + 8 * 20);
}

/// What a killed process has written is a record of this chain.
#[track_caller]
fn assert_of_chain(record: &Record) {
    let generation = record.generation();
    let token = if generation == 1 { "s3cret-r3fresh".to_owned() } else { format!("token {generation}") };
    assert_eq!(record.refresh_token(), token);
}

#[tokio::test]
async fn whenever_a_process_is_killed_the_file_holds_the_old_record_or_the_new_one() {
    let name = "vault::processes::whenever_a_process_is_killed_the_file_holds_the_old_record_or_the_new_one";
    let Some(mut child) = in_its_own_process(name) else {
        let vault = own_vault();
        loop {
            let there = there(&vault).await;
            let spending = there.record().spending(now()).unwrap();
            let stamp = done(vault.swap(Some(there.stamp()), &spending).await);
            // Records of different lengths.
            let token = format!("token {}", spending.generation() + 1);
            let next = spending.next(Some(&token), None).unwrap();
            let next = next.with_thumbprint("x".repeat(fastrand::usize(..20_000)));
            done(vault.swap(Some(&stamp), &next).await);
        }
    };
    let folder = Folder::begin();
    let vault = FileVault::new(folder.file()).unwrap();
    child.env(FILE, folder.file()).stdout(Stdio::null()).stderr(Stdio::null());
    let (mut last, mut found) = (there(&vault).await, [0, 0]);
    for _ in 0..100 {
        let mut killed = child.spawn().unwrap();
        // It writes now.
        tokio::time::timeout(secs(30), async {
            while vault.load().await.unwrap().as_ref() == Some(&last) {
                tokio::time::sleep(millis(1)).await;
            }
        })
        .await
        .expect("it writes");
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..25_000))).await;
        killed.kill().unwrap();
        killed.wait().unwrap();
        let there = vault.load().await.unwrap().expect("nothing is lost");
        assert_of_chain(there.record());
        assert!(there.record().generation() >= last.record().generation());
        found[usize::from(matches!(there.record().state(), State::Spending { .. }))] += 1;
        last = there;
    }
    println!("killed while idle and while spending: {found:?}");
    assert!(last.record().generation() > 10 && found.iter().all(|found| *found > 0), "{last:?}");
    // The lock went with the process, and what is left over harms nothing.
    let next = last.record().next(None, None).unwrap();
    done(vault.lock_timeout(millis(0)).swap(Some(last.stamp()), &next).await);
}

/// Each swap fails for want of room, says so, and changes nothing.
async fn assert_full(vault: &FileVault, there: &Stored) {
    for record in [there.record().spending(now()), there.record().next(Some("new"), None)] {
        let error: VaultError = vault.swap(Some(there.stamp()), &record.unwrap()).await.unwrap_err();
        assert!(error.is_full() && !error.to_string().contains("r3fresh"), "{error}");
        println!("{error}");
        assert_eq!(&vault.load().await.unwrap().unwrap(), there);
    }
}

#[tokio::test]
async fn a_limit_of_the_size_of_files_loses_nothing() {
    let name = "vault::processes::a_limit_of_the_size_of_files_loses_nothing";
    let Some(mut child) = in_its_own_process(name) else {
        let vault = own_vault();
        let there = vault.load().await.unwrap().unwrap();
        assert_full(&vault, &there).await;
        return;
    };
    let folder = Folder::begin();
    let vault = FileVault::new(folder.file()).unwrap();
    let record = login().with_thumbprint("x".repeat(2_000));
    done(vault.swap(None, &record).await);
    child.env(FILE, folder.file());
    // None at all, and one that ends in the middle. (The signal would end the process first.)
    for blocks in [0, 1, 3] {
        child.env("LIMITS", format!("trap '' XFSZ; ulimit -f {blocks}"));
        all_that_is_written_by(&mut child);
        let there = vault.load().await.unwrap().unwrap();
        assert_eq!(there.record(), &record);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "the file and its lock: {left:?}");
    }
}

/// How a child may mount a disc of its own, if it may.
fn mounts() -> Option<&'static [&'static str]> {
    let folder = Folder::begin();
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let mounts = |way: &&&[&str]| {
        let mut child = Command::new("unshare");
        child.args(**way).args(["mount", "-t", "tmpfs", "tmpfs"]).arg(folder.path());
        child.output().is_ok_and(|output| output.status.success())
    };
    ways.iter().find(mounts).copied()
}

#[tokio::test]
async fn a_disc_that_is_full_loses_nothing_and_has_room_for_the_answer() {
    let name = "vault::processes::a_disc_that_is_full_loses_nothing_and_has_room_for_the_answer";
    let Some(child) = in_its_own_process(name) else {
        let vault = own_vault();
        let ballast = |name: &str| {
            let path = Path::new(&std::env::var_os(FILE).unwrap()).with_file_name(name);
            let written = fs::write(path, vec![1; 1024 * 1024]);
            assert!(written.is_err(), "the disc is full now");
        };
        let first = there(&vault).await;
        let spending = first.record().spending(now()).unwrap();
        let stamp = done(vault.swap(Some(first.stamp()), &spending).await);
        // The refresh token is sent, and the disc fills meanwhile. The answer is longer than what was there.
        ballast("one");
        let next = spending.next(Some(&"x".repeat(20_000)), None).unwrap();
        let stamp = done(vault.swap(Some(&stamp), &next).await);
        // What the room leaves over is taken as well.
        ballast("two");
        assert_full(&vault, &Stored::new(next, stamp)).await;
        return;
    };
    let Some(way) = mounts() else {
        println!("skipped: this process may mount nothing");
        return;
    };
    let folder = Folder::begin();
    let mut alone = Command::new("unshare");
    alone.args(way).arg(child.get_program()).args(child.get_args());
    alone.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    alone.env(FILE, folder.file());
    alone.env("LIMITS", format!("mount -t tmpfs -o size=512k,mode=700 tmpfs '{}'", folder.path().display()));
    all_that_is_written_by(&mut alone);
}

#[tokio::test]
async fn a_folder_that_may_not_be_written_to_is_told_and_loses_nothing() {
    const NOBODY: u32 = 65_534;
    let name = "vault::processes::a_folder_that_may_not_be_written_to_is_told_and_loses_nothing";
    let Some(child) = in_its_own_process(name) else {
        let vault = own_vault();
        let first = there(&vault).await;
        let path = std::env::var_os(FILE).unwrap();
        let folder = Path::new(&path).parent().unwrap();
        let chmod = |mode| fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        chmod(0o500);
        for record in [first.record().spending(now()), first.record().next(Some("new"), None)] {
            let error = vault.swap(Some(first.stamp()), &record.unwrap()).await.unwrap_err();
            assert!(error.to_string().contains("Permission denied"), "{error}");
            assert!(
                error.kind() == "unavailable" && error.to_string().contains("cannot be created"),
                "{error}"
            );
            assert_eq!(vault.load().await.unwrap().unwrap(), first);
        }
        chmod(0o000);
        assert!(vault.load().await.unwrap_err().to_string().contains("cannot be opened"));
        chmod(0o700);
        done(vault.swap(Some(first.stamp()), &first.record().spending(now()).unwrap()).await);
        return;
    };
    let folder = Folder::begin();
    let mut alone = child;
    // Nothing is forbidden to root, so the child is somebody else.
    if fs::metadata(folder.path()).unwrap().uid() == 0 {
        let mut other = Command::new("setpriv");
        other.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
        let may_run = Command::new("setpriv")
            .args(other.get_args())
            .args(["test", "-x"])
            .arg(std::env::current_exe().unwrap())
            .status();
        if !may_run.is_ok_and(|status| status.success()) {
            println!("skipped: another user cannot run the test");
            return;
        }
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        other.arg(alone.get_program()).args(alone.get_args());
        other.envs(alone.get_envs().filter_map(|(name, value)| Some((name, value?))));
        alone = other;
    }
    alone.env(FILE, folder.file());
    all_that_is_written_by(&mut alone);
}

#[tokio::test]
async fn a_record_is_on_the_disc_before_it_has_the_name_and_the_name_before_the_swap_returns() {
    let name = "vault::processes::\
                a_record_is_on_the_disc_before_it_has_the_name_and_the_name_before_the_swap_returns";
    let Some(child) = in_its_own_process(name) else {
        let vault = own_vault();
        let first = login();
        let stamp = done(vault.swap(None, &first).await);
        let spending = first.spending(now()).unwrap();
        let stamp = done(vault.swap(Some(&stamp), &spending).await);
        done(vault.swap(Some(&stamp), &spending.next(None, None).unwrap()).await);
        return;
    };
    let folder = Folder::begin();
    let trace = folder.path().join("trace");
    let mut traced = Command::new("strace");
    traced.args(["-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2", "-o"]).arg(&trace);
    traced.arg("--").arg(child.get_program()).args(child.get_args()).env(FILE, folder.file());
    traced.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success())
    {
        println!("skipped: strace is missing, or may trace nothing");
        return;
    }
    all_that_is_written_by(&mut traced);
    let path = folder.path().display();
    let steps = fs::read_to_string(trace).unwrap();
    let steps =
        steps.lines().filter(|line| line.contains("orders.vault") || line.contains(&format!("{path}>)")));
    let steps: Vec<&str> = steps
        .map(|line| match line {
            _ if !line.contains("= 0") => panic!("{line}"),
            _ if line.contains("rename") && line.contains(".room") => "room takes the name",
            _ if line.contains("rename") => "temporary takes the name",
            _ if line.contains(".room") => "room is on the disc",
            _ if line.contains(".tmp") => "temporary is on the disc",
            _ => "folder is on the disc",
        })
        .collect();
    let written = ["temporary is on the disc", "temporary takes the name", "folder is on the disc"];
    let answered = ["room is on the disc", "room takes the name", "folder is on the disc"];
    assert_eq!(steps, [&written[..], &["room is on the disc"], &written, &answered].concat());
}
