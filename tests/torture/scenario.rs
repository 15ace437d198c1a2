//! One row: a server, a program, its vault, kills, and the state of the login.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tokenflight::source::AfterCrash;
use tokenflight::vault::State;

use crate::client::{self, Vault};
use crate::fleet::{Fleet, Said};
use crate::proxy::{Fault, Proxy};
use crate::servers::{Kind, Redis, Server};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Tokenflight,
    OpenidClient,
    Huskarl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    File,
    Redis,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) program: Program,
    pub(crate) server: Kind,
    pub(crate) place: Where,
    pub(crate) processes: usize,
    pub(crate) rule: AfterCrash,
}

/// What has happened.
#[derive(Debug, Default)]
pub(crate) struct Row {
    name: String,
    is_own: bool,
    has_grace: bool,
    may_try_once: bool,
    kills: usize,
    harmed: usize,
    tokens: usize,
    /// All processes were dead, and the vault said *spending*.
    spending: usize,
    inside: usize,
    outside: usize,
    third: usize,
    /// Logins that were needed: the server may have seen the token, or the repetition that the grace allows was harmed too, or
    /// nobody has ever seen it.
    needed_seen: usize,
    needed_twice: usize,
    needed_unseen: usize,
    revoked: u64,
}

/// What one round has at hand.
struct Stage {
    scenario: Scenario,
    runtime: tokio::runtime::Runtime,
    server: Server,
    proxy: Proxy,
    place: String,
    fleet: Fleet,
}

impl Scenario {
    pub(crate) fn name(&self) -> String {
        let program = match self.program {
            Program::Tokenflight => "tokenflight",
            Program::OpenidClient => "openid-client 6.9.0",
            Program::Huskarl => "huskarl 0.11.10",
        };
        let processes =
            if self.processes == 1 { "1 process" } else { &format!("{} processes", self.processes) };
        let place = if self.place == Where::File { "a file" } else { "Redis" };
        let rule = if self.rule == AfterCrash::TryOnce { ", TryOnce" } else { "" };
        format!("{program}, {processes}, {place}, {}{rule}", self.server.name())
    }

    fn command(&self, url: &str, place: &str) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = match self.program {
            Program::Tokenflight => Command::new(std::env::current_exe().unwrap()),
            Program::OpenidClient => {
                let mut node = Command::new("node");
                node.arg(root.join("tests/torture/peers/openid_client.mjs"));
                node
            }
            Program::Huskarl => Command::new(root.join("target/torture-peers/release/huskarl-peer")),
        };
        let rule = if self.rule == AfterCrash::TryOnce { "try_once" } else { "needs_login" };
        command.env(client::URL, url).env(client::VAULT, place).env(client::RULE, rule);
        command.env(client::GRACE, self.server.grace().as_secs().to_string());
        command
    }

    pub(crate) fn run(self, kills: usize) -> Row {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(async { Server::start(self.server) });
        let proxy = Proxy::start(server.host(), self.server.grace());
        let folder = Folder::new();
        let redis = (self.place == Where::Redis).then(Redis::start);
        let place = redis.as_ref().map_or_else(|| folder.file(), Redis::url);
        let url = proxy.origin() + server.token_path();
        let fleet = Fleet::new(self.processes, self.command(&url, &place));
        let mut stage = Stage { scenario: self, runtime, server, proxy, place, fleet };
        let mut row = Row {
            name: self.name(),
            is_own: self.program == Program::Tokenflight,
            has_grace: !self.server.grace().is_zero(),
            may_try_once: self.rule == AfterCrash::TryOnce,
            kills,
            ..Row::default()
        };
        stage.log_in();
        for _ in 0..kills {
            stage.round(&mut row);
        }
        let book = stage.proxy.book();
        (row.harmed, row.tokens) = (book.faults, book.tokens());
        (row.inside, row.outside, row.third) = (book.inside, book.outside, book.third);
        drop(book);
        row.revoked = stage.runtime.block_on(stage.server.revoked());
        row
    }
}

impl Stage {
    fn is_own(&self) -> bool {
        self.scenario.program == Program::Tokenflight
    }

    fn log_in(&self) {
        let Scenario { server, rule, .. } = self.scenario;
        let url = self.proxy.origin() + self.server.token_path();
        self.runtime.block_on(async {
            let refresh_token = self.server.log_in().await;
            if self.is_own() {
                client::source(&url, &self.place, server.grace(), rule).log_in(refresh_token).await.unwrap();
            } else {
                let text = json!({ "access_token": "", "refresh_token": refresh_token }).to_string();
                std::fs::write(&self.place, text).unwrap();
            }
        });
    }

    fn record(&self) -> tokenflight::vault::Record {
        self.runtime.block_on(async { Vault::open(&self.place).record().await }).expect("a login")
    }

    fn round(&mut self, row: &mut Row) {
        let mut said = Said::default();
        row.harmed = self.proxy.book().faults;
        self.fleet.fill();
        self.proxy.harm(fastrand::usize(..8), harm());
        let time = Duration::from_micros(fastrand::u64(50_000..1_000_000));
        self.fleet.go(time);
        self.fleet.first_word(&mut said);
        // No event tells where: at any moment.
        std::thread::sleep(time.mul_f64(fastrand::f64()));
        let all = self.scenario.processes;
        self.fleet.kill([1, 1, all / 2 + 1, all][fastrand::usize(..4)]);
        // No token is harmed twice.
        self.proxy.harm(0, None);
        if self.fleet.is_empty() {
            row.spending += usize::from(self.is_own() && is_spending(&self.record()));
            self.fleet.fill();
            self.fleet.go(Duration::ZERO);
        }
        self.fleet.rest(&mut said);
        // Those who live may have rested before the kill, and one who is new may have taken the access token that is there.
        for _ in 0..3 {
            if self.is_own() && is_spending(&self.record()) {
                self.fleet.go(Duration::ZERO);
                self.fleet.rest(&mut said);
            }
        }
        if self.is_own() {
            self.judge(row, &said);
        } else {
            self.judge_peer(row, &said);
        }
        if row.has_grace {
            let by = Duration::from_secs(60);
            self.runtime.block_on(self.server.forward(by));
            self.proxy.forward(by);
        }
    }

    fn judge(&self, row: &mut Row, said: &Said) {
        let record = self.record();
        let State::Dead { reason, .. } = record.state() else {
            assert!(said.needs_login == 0, "a login is needed, and the vault says {record:?}");
            assert!(!is_spending(&record), "all rest, and the vault says {record:?}: {said:?}");
            return;
        };
        let book = self.proxy.book();
        let (times, is_harmed) = (book.times(record.refresh_token()), book.faults > row.harmed);
        drop(book);
        match times {
            _ if row.has_grace && (times > 1 || is_harmed) => row.needed_twice += 1,
            0 => row.needed_unseen += 1,
            1 => row.needed_seen += 1,
            _ => row.needed_twice += 1,
        }
        if row.has_grace || times == 0 {
            eprintln!(
                "{}: a login is needed, the proxy has seen the token {times} times: {reason}",
                row.name
            );
        }
        self.log_in();
    }

    /// Whoever is told `invalid_grant` has lost the login.
    fn judge_peer(&self, row: &mut Row, said: &Said) {
        if said.needs_login > 0 {
            row.needed_seen += 1;
            self.log_in();
        }
    }
}

fn is_spending(record: &tokenflight::vault::Record) -> bool {
    matches!(record.state(), State::Spending { .. })
}

/// What the proxy does to one request of a round, in one of three rounds.
fn harm() -> Option<Fault> {
    let up_to = |longest: u64| Duration::from_millis(fastrand::u64(50..longest));
    match fastrand::u32(..18) {
        0 => Some(Fault::RequestLost),
        1 | 2 => Some(Fault::AnswerLost),
        3 | 4 => Some(Fault::AnswerLate(up_to(10_000))),
        5 => Some(Fault::RequestLate(up_to(1_000))),
        _ => None,
    }
}

impl Row {
    pub(crate) const HEAD: &str = "| | kills | requests harmed | refresh tokens used | found *spending* | sent twice inside the grace \
        | sent twice outside | a third time | login needed: token was sent | its repetition was harmed too | never sent | families revoked |\n\
        |---|---|---|---|---|---|---|---|---|---|---|---|";

    pub(crate) fn line(&self) -> String {
        let Self { name, kills, harmed, tokens, spending, inside, outside, third, .. } = self;
        let Self { needed_seen, needed_twice, needed_unseen, revoked, .. } = self;
        format!(
            "| {name} | {kills} | {harmed} | {tokens} | {spending} | {inside} | {outside} | {third} | {needed_seen} | {needed_twice} \
             | {needed_unseen} | {revoked} |"
        )
    }

    /// Of the laws for this crate. The peers are bound by none.
    pub(crate) fn broken_laws(&self) -> Vec<String> {
        let may_be_unseen = (self.kills / 50).max(2);
        let laws = [
            (self.outside == 0 || self.may_try_once, "a refresh token was sent twice outside the grace"),
            (self.third == 0, "a refresh token was sent a third time"),
            (self.revoked == 0 || self.may_try_once, "a family was revoked by us"),
            (self.needed_unseen <= may_be_unseen, "a login was needed though the token was never sent"),
            (self.needed_seen == 0 || !self.has_grace, "a login was needed though there was a grace"),
        ];
        let broken = laws.into_iter().filter(|(holds, _)| self.is_own && !holds);
        broken.map(|(_, law)| format!("{}: {law}", self.name)).collect()
    }
}

/// A folder of the row's own, which ends with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("tokenflight-torture-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Self(folder)
    }

    fn file(&self) -> String {
        self.0.join("login").to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
