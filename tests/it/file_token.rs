//! Tokens from files: the rules for projected tokens of Kubernetes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use tokenflight::clock::Clock;
use tokenflight::source::{FileToken, FileTokenBuilder};
use tokenflight::testing::ManualClock;
use tokenflight::{FetchContext, Reason, Token, TokenActor, TokenSource, TokenType};

use crate::support::*;

/// A folder that is gone after the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tokenflight-it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it, replaced as a whole.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let (path, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
        fs::write(&new, text).unwrap();
        fs::rename(new, &path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn jwt(name: &str, end: SystemTime) -> String {
    let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let claims = part(format!(r#"{{"sub":"{name}","exp":{end}}}"#));
    format!("{}.{claims}.c2lnbmF0dXJl", part(r#"{"alg":"RS256"}"#.into()))
}

fn source(path: &Path) -> FileToken {
    FileToken::builder(path).build().unwrap()
}

fn at(clock: &ManualClock, reason: Reason) -> FetchContext {
    FetchContext::new(reason).with_clock(Arc::new(clock.clone()))
}

async fn fetched(source: &FileToken) -> Result<Token, String> {
    source.fetch(FetchContext::new(Reason::First)).await.map_err(|error| error.to_string())
}

#[actix::test]
async fn the_file_is_read_again_every_50_s_and_exp_is_never_waited_for() {
    tokio::time::pause();
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let end = clock.now().wall + HOUR;
    let path = folder.write("token", jwt("one", end));
    let actor = TokenActor::builder(source(&path)).policy(plain()).clock(clock);
    let handle = actor.start().unwrap();
    let one = handle.get().await.unwrap();
    assert_eq!((one.secret(), one.remaining()), (jwt("one", end).as_str(), Some(secs(50))));
    folder.write("token", jwt("two", end));
    tokio::time::sleep(secs(30)).await;
    assert!(handle.get().await.unwrap().is_same(&one), "not read again before its time");
    tokio::time::sleep(secs(20)).await;
    assert_eq!(handle.get().await.unwrap().secret(), jwt("two", end));
    assert_eq!(handle.status().await.unwrap().counters.attempts, 2);
}

#[actix::test]
async fn a_symbolic_link_that_is_swapped_is_followed() {
    let folder = Folder::new();
    for (version, secret) in [("..v1", "one"), ("..v2", "two")] {
        fs::create_dir(folder.path().join(version)).unwrap();
        fs::write(folder.path().join(version).join("token"), secret).unwrap();
    }
    let (data, next) = (folder.path().join("..data"), folder.path().join("..data_tmp"));
    symlink("..v1", &data).unwrap();
    symlink("..data/token", folder.path().join("token")).unwrap();
    let source = source(&folder.path().join("token"));
    assert_eq!(fetched(&source).await.unwrap().secret(), "one");
    symlink("..v2", &next).unwrap();
    fs::rename(next, data).unwrap();
    assert_eq!(fetched(&source).await.unwrap().secret(), "two");
}

#[actix::test]
async fn white_space_is_cut_and_what_no_header_can_carry_is_named() {
    let folder = Folder::new();
    let path = folder.write("token", " \t\r\nabc.def\n\n");
    assert_eq!(fetched(&source(&path)).await.unwrap().secret(), "abc.def");
    for (text, wanted) in [
        (&b""[..], "is empty"),
        (b" \r\n\t ", "is empty"),
        (b"s3cret s3cret\n", "a space at position 7"),
        (b"s3cret\ns3cret", "a line break at position 7"),
        (b"s3cret\0", "byte 0x00 at position 7"),
        (b"\xef\xbb\xbfs3cret", "byte 0xef at position 1"),
        (b"s3\xff", "byte 0xff at position 3"),
    ] {
        folder.write("token", text);
        let said = fetched(&source(&path)).await.unwrap_err();
        assert!(said.contains(wanted) && said.contains("token"), "{said}");
        assert!(!said.contains("s3"), "{said}");
    }
}

#[actix::test]
async fn a_read_error_keeps_the_old_token_while_it_lasts() {
    tokio::time::pause();
    let (folder, clock) = (Folder::new(), ManualClock::new());
    let end = clock.now().wall + secs(100);
    let path = folder.write("token", jwt("one", end));
    let source = source(&path);
    source.fetch(at(&clock, Reason::First)).await.unwrap();
    for broken in [None, Some(""), Some("two words"), Some("ended")] {
        match broken {
            None => fs::remove_file(&path).unwrap(),
            Some("ended") => drop(folder.write("token", jwt("two", clock.now().wall))),
            Some(text) => drop(folder.write("token", text)),
        }
        let kept = source.fetch(at(&clock, Reason::Expired)).await.unwrap();
        assert_eq!(kept.secret(), jwt("one", end), "{broken:?}");
    }
    let error = source.fetch(at(&clock, Reason::Rejected)).await.unwrap_err();
    assert!(!error.is_terminal() && error.to_string().contains("ended"), "an API rejected it: {error}");
    clock.suspend(secs(70));
    let kept = source.fetch(at(&clock, Reason::Expired)).await.unwrap();
    assert!(kept.remaining() <= Some(secs(30)), "{:?}", kept.remaining());
    clock.suspend(secs(31));
    assert!(source.fetch(at(&clock, Reason::Expired)).await.is_err(), "it has ended");
}

#[actix::test]
async fn the_exp_of_a_jwt_is_only_an_upper_limit() {
    tokio::time::pause();
    let (folder, clock) = (Folder::new(), ManualClock::new());
    for (left, expected) in [(secs(20), secs(20)), (secs(50), secs(50)), (HOUR * 24, secs(50))] {
        let path = folder.write("token", jwt("one", clock.now().wall + left));
        let token = source(&path).fetch(at(&clock, Reason::First)).await.unwrap();
        let error = token.remaining().unwrap().abs_diff(expected);
        assert!(error < secs(1), "{left:?}: {:?}", token.remaining());
    }
    let path = folder.write("token", jwt("one", clock.now().wall - secs(1)));
    let error = source(&path).fetch(at(&clock, Reason::First)).await.unwrap_err();
    assert!(error.to_string().contains("has ended (`exp`)"), "{error}");
}

#[actix::test]
async fn only_a_regular_file_of_a_sensible_size_is_read() {
    let folder = Folder::new();
    let path = folder.write("token", vec![b'a'; 64 * 1024]);
    assert!(fetched(&source(&path)).await.unwrap_err().contains("65536 bytes"));
    assert!(fetched(&source(folder.path())).await.unwrap_err().contains("no regular file"));
    assert!(fetched(&source(Path::new("/dev/zero"))).await.unwrap_err().contains("no regular file"));
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(fetched(&source(&pipe)).await.unwrap_err().contains("no regular file"));
    let said = fetched(&source(&folder.path().join("nothing"))).await.unwrap_err();
    assert!(said.contains("nothing") && said.contains("cannot be read"), "{said}");
}

#[actix::test]
async fn the_file_is_read_off_the_arbiter() {
    let folder = Folder::new();
    let source = source(&folder.write("token", "abc"));
    let fetch = source.fetch(FetchContext::new(Reason::First));
    assert!(fetch.now_or_never().is_none(), "the first poll reads nothing itself");
}

#[actix::test]
async fn a_look_finds_what_has_been_written_since() {
    let folder = Folder::new();
    let path = folder.write("token", "one");
    let source = source(&path);
    let one = fetched(&source).await.unwrap();
    let rejected = || FetchContext::new(Reason::Rejected).with_previous(one.clone());
    assert!(source.can_look() && source.look(rejected()).await.is_none());
    folder.write("token", "two");
    assert_eq!(source.look(rejected()).await.unwrap().secret(), "two");
}

#[test]
fn settings_are_checked_and_read_from_a_file() {
    let refused = |builder: FileTokenBuilder| builder.build().unwrap_err().field().to_owned();
    assert_eq!(refused(FileToken::builder("")), "path");
    assert_eq!(refused(FileToken::builder("a").reread(Duration::ZERO)), "reread");
    assert_eq!(refused(FileToken::builder("a").reread(HOUR * 25)), "reread");
    let odd = TokenType::Other("two words".into());
    assert_eq!(refused(FileToken::builder("a").token_type(&odd)), "token_type");
    for dpop in [TokenType::DPoP, TokenType::Other("dpop".into())] {
        let error = FileToken::builder("a").token_type(&dpop).build().unwrap_err();
        assert!(error.field() == "token_type" && error.to_string().contains("DPoP"), "{error}");
    }
    let read = |text: &str| serde_json::from_str::<FileTokenBuilder>(text);
    read(r#"{"path":"/run/token","reread":"30s","token_type":"Bearer"}"#).unwrap().build().unwrap();
    let error = read(r#"{"path":"/run/token","reraed":"30s"}"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `reraed`"), "{error}");
    let key = FileToken::builder("-----BEGIN PRIVATE KEY-----");
    assert!(!format!("{key:?} {:?}", key.clone().build().unwrap()).contains("BEGIN"));
}
