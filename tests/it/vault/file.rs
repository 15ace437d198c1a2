//! The file: its permissions, its contents, and the files that remain beside it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{FlockOperation, flock};
use tokenflight::vault::{FileVault, RefreshTokenStore, Stored, VaultError};

use super::world::*;
use crate::support::*;

const STRANGER: u32 = 65_533;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// Tells root from others: only root can give a file away.
fn gives_away(path: &Path) -> bool {
    let given = chown(path, Some(STRANGER), None).is_ok();
    if !given {
        println!("skipped: only root can give a file to another user");
    }
    given
}

/// A folder with a login in its file.
async fn with_login() -> (InFile, Stored) {
    let world = InFile::begin();
    done(world.vault().swap(None, &login()).await);
    let there = world.vault().load().await.unwrap().unwrap();
    (world, there)
}

fn names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Neither a load nor any swap touches the file. What the load says.
#[track_caller]
fn assert_one_line(error: &VaultError, says: &[&str]) {
    let text = error.to_string();
    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.len() < 700, "{text}");
    assert!(says.iter().all(|word| text.contains(word)) && !text.contains("s3cret"), "{text}");
}

async fn assert_untouched(vault: &FileVault, path: &Path, says: &[&str]) -> VaultError {
    let (bytes, inode) = (fs::read(path).unwrap(), fs::metadata(path).unwrap().ino());
    let error = vault.load().await.unwrap_err();
    assert_one_line(&error, says);
    assert_one_line(&vault.swap(None, &login()).await.unwrap_err(), says);
    let elsewhere = done(Memory::begin().vault().swap(None, &login()).await);
    assert_one_line(&vault.swap(Some(&elsewhere), &login()).await.unwrap_err(), says);
    assert!(fs::read(path).unwrap() == bytes && fs::metadata(path).unwrap().ino() == inode, "replaced");
    error
}

#[tokio::test]
async fn only_its_owner_can_read_it() {
    let (world, there) = with_login().await;
    let (vault, path) = (world.vault(), world.0.file());
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&world.0.path().join(".orders.vault.lock")), 0o600);
    for wrong in [0o644, 0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o666] {
        chmod(&path, wrong);
        let error = assert_untouched(&vault, &path, &[&format!("{wrong:04o}"), "chmod 600"]).await;
        assert!(error.is_insecure(), "{error:?}");
    }
    chmod(&path, 0o400);
    assert_eq!(vault.load().await.unwrap().unwrap(), there);
    let next = there.record().next(None, None).unwrap();
    done(vault.swap(Some(there.stamp()), &next).await);
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test]
async fn a_file_of_another_user_is_refused() {
    let (world, there) = with_login().await;
    let path = world.0.file();
    if gives_away(&path) {
        let error = assert_untouched(&world.vault(), &path, &["65533", "chown"]).await;
        assert!(error.is_insecure());
        chown(&path, Some(0), None).unwrap();
        assert_eq!(world.vault().load().await.unwrap().unwrap(), there);
    }
}

#[tokio::test]
async fn a_folder_in_which_others_can_replace_the_file_is_refused() {
    let (world, there) = with_login().await;
    let (vault, folder) = (world.vault(), world.0.path());
    for wrong in [0o777, 0o770, 0o720, 0o702] {
        chmod(folder, wrong);
        let error = assert_untouched(&vault, &world.0.file(), &[&format!("{wrong:04o}"), "chmod go-w"]).await;
        assert!(error.is_insecure());
    }
    for right in [0o1777, 0o755, 0o700] {
        chmod(folder, right);
        assert_eq!(vault.load().await.unwrap().unwrap(), there);
    }
    if gives_away(folder) {
        let error = assert_untouched(&vault, &world.0.file(), &["65533", "folder"]).await;
        assert!(error.is_insecure());
    }
}

#[tokio::test]
async fn a_link_in_the_place_of_the_file_is_refused_and_one_to_the_folder_is_followed() {
    let (world, there) = with_login().await;
    let link = world.0.path().join("link.vault");
    symlink(world.0.file(), &link).unwrap();
    let vault = FileVault::new(&link).unwrap();
    assert!(assert_untouched(&vault, &link, &["symbolic link"]).await.is_insecure());
    fs::remove_file(&link).unwrap();
    symlink("/nowhere", &link).unwrap();
    assert!(vault.load().await.unwrap_err().is_insecure(), "a link to nowhere is no empty vault");

    let other = Folder::begin();
    symlink(world.0.path(), other.path().join("linked")).unwrap();
    let vault = FileVault::new(other.path().join("linked/orders.vault")).unwrap();
    assert_eq!(vault.load().await.unwrap().unwrap(), there);
}

#[tokio::test]
async fn what_is_no_ordinary_file_is_refused_and_holds_up_nobody() {
    let folder = Folder::begin();
    let vault = FileVault::new(folder.file()).unwrap();
    assert!(Command::new("mkfifo").arg(folder.file()).status().unwrap().success());
    let error = tokio::time::timeout(secs(20), vault.load()).await.unwrap().unwrap_err();
    assert!(error.is_insecure() && error.to_string().contains("ordinary"), "{error}");
    fs::remove_file(folder.file()).unwrap();
    fs::create_dir(folder.file()).unwrap();
    assert!(vault.swap(None, &login()).await.unwrap_err().to_string().contains("ordinary"));
}

#[tokio::test]
async fn a_file_that_is_half_written_or_foreign_is_told_and_never_replaced() {
    let (world, _) = with_login().await;
    let (vault, path) = (world.vault(), world.0.file());
    let whole = fs::read(&path).unwrap();
    let half = &whole[..whole.len() / 2];
    let changed = String::from_utf8(whole.clone()).unwrap().replace("orders", "0rders");
    let newer = String::from_utf8(whole.clone()).unwrap().replace("vault\":1", "vault\":2");
    for (contents, why) in [
        (&b""[..], "empty"),
        (half, "changed"),
        (changed.as_bytes(), "changed"),
        (newer.as_bytes(), "version 2"),
        (b"{\"access_token\":\"s3cret\"}", "no record"),
        (&vec![b'x'; 2 * 1024 * 1024], "no record"),
        (&[0; 600], "no record"),
    ] {
        fs::write(&path, contents).unwrap();
        let error = assert_untouched(&vault, &path, &[why, "orders.vault"]).await;
        assert!(error.is_damaged(), "{error:?}");
    }
    fs::write(&path, whole).unwrap();
    vault.load().await.unwrap().unwrap();
}

#[tokio::test]
async fn nothing_is_left_over() {
    let (world, there) = with_login().await;
    let vault = world.vault();
    let all = |names: Vec<String>| names.join(" ");
    assert_eq!(all(names(&world.0)), ".orders.vault.lock orders.vault");
    let spending = there.record().spending(now()).unwrap();
    let stamp = done(vault.swap(Some(there.stamp()), &spending).await);
    assert_eq!(all(names(&world.0)), ".orders.vault.lock .orders.vault.room orders.vault");
    let room = fs::metadata(world.0.path().join(".orders.vault.room")).unwrap();
    assert!(room.blocks() * 512 >= 64 * 1024 && room.mode() & 0o777 == 0o600);
    done(vault.swap(Some(&stamp), &spending.next(None, None).unwrap()).await);
    assert_eq!(all(names(&world.0)), ".orders.vault.lock orders.vault");
    assert_eq!(fs::metadata(world.0.file()).unwrap().ino(), room.ino(), "the room was used");
}

#[tokio::test]
async fn what_a_killed_process_has_left_over_goes_and_harms_nothing() {
    let (world, mut there) = with_login().await;
    let vault = world.vault();
    let (temporary, room) =
        (world.0.path().join(".orders.vault.tmp"), world.0.path().join(".orders.vault.room"));
    let victim = world.0.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    for link in [false, true] {
        for spends in [false, true] {
            for place in [&temporary, &room] {
                if link {
                    symlink(&victim, place).unwrap();
                } else {
                    let mut options = OpenOptions::new();
                    options.write(true).create_new(true).mode(0o600);
                    std::io::Write::write_all(&mut options.open(place).unwrap(), &vec![b'x'; 100_000])
                        .unwrap();
                }
            }
            let record = there.record();
            let next = if spends { record.spending(now()) } else { record.next(None, None) }.unwrap();
            done(vault.swap(Some(there.stamp()), &next).await);
            there = vault.load().await.unwrap().unwrap();
            assert_eq!(there.record(), &next);
            assert!(
                !temporary.exists() && room.exists() == spends && fs::symlink_metadata(&temporary).is_err()
            );
            let _ = fs::remove_file(&room);
        }
    }
    assert_eq!(fs::read_to_string(victim).unwrap(), "untouched");
}

#[tokio::test]
async fn who_waits_too_long_for_the_lock_is_told_who_may_hold_it() {
    let (world, there) = with_login().await;
    let path = world.0.path().join(".orders.vault.lock");
    let holder = File::options().read(true).write(true).open(&path).unwrap();
    flock(&holder, FlockOperation::LockExclusive).unwrap();
    fs::write(&path, "4711\n").unwrap();
    let vault = world.vault().lock_timeout(millis(50));
    let next = there.record().next(None, None).unwrap();
    let error = vault.swap(Some(there.stamp()), &next).await.unwrap_err();
    assert!(error.is_busy(), "{error:?}");
    assert_one_line(&error, &["probably 4711", "50ms", ".orders.vault.lock", "second copy"]);
    assert_eq!(vault.load().await.unwrap().unwrap(), there, "who reads needs no lock");

    let waits = tokio::spawn({
        let (vault, stamp) = (world.vault(), there.stamp().clone());
        async move { vault.swap(Some(&stamp), &next).await }
    });
    tokio::time::sleep(millis(20)).await;
    drop(holder);
    done(waits.await.unwrap());
}

#[tokio::test]
async fn a_lock_that_was_removed_is_no_lock() {
    let (world, there) = with_login().await;
    let path = world.0.path().join(".orders.vault.lock");
    let holder = File::open(&path).unwrap();
    flock(&holder, FlockOperation::LockExclusive).unwrap();
    let waits = tokio::spawn({
        let (vault, stamp) = (world.vault(), there.stamp().clone());
        let next = there.record().next(None, None).unwrap();
        async move { vault.swap(Some(&stamp), &next).await }
    });
    tokio::time::sleep(millis(20)).await;
    fs::remove_file(&path).unwrap();
    done(waits.await.unwrap());
    assert!(path.exists());
}

#[test]
fn a_path_that_names_no_file_is_refused() {
    for path in ["", "/", "folder/", "..", "/tmp/.."] {
        let error = FileVault::new(path).unwrap_err();
        assert_eq!(error.field(), "path", "{path:?}");
    }
    assert!(FileVault::new("relative.vault").is_ok());
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_told() {
    let vault = FileVault::new("/nowhere/at/all/orders.vault").unwrap();
    for error in [vault.load().await.unwrap_err(), vault.swap(None, &login()).await.unwrap_err()] {
        assert_eq!(error.kind(), "unavailable");
        assert_one_line(&error, &["/nowhere/at/all", "No such file"]);
    }
}

#[test]
fn without_a_runtime_it_is_an_error() {
    let folder = Folder::begin();
    let vault = FileVault::new(folder.file()).unwrap();
    let error = futures_executor::block_on(vault.load()).unwrap_err();
    assert_one_line(&error, &["tokio runtime"]);
}
