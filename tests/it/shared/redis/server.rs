//! A redis-server that the test starts, on a free port.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokenflight::clock::SystemClock;
use tokenflight::store::RedisStore;

use crate::shared::world::World;

/// It ends with the test, whatever way that ends.
pub(crate) struct Redis {
    port: u16,
    server: Child,
}

impl Redis {
    pub(crate) fn begin() -> Self {
        Self::begin_with(|_| Vec::new())
    }

    /// `options`: by the port, and made anew for each try.
    fn begin_with(options: impl Fn(u16) -> Vec<String>) -> Self {
        // Between finding a free port and taking it somebody else may take it.
        for _ in 0..10 {
            let port = free_port();
            if let Some(server) = start(port, &options(port)) {
                return Self { port, server };
            }
        }
        panic!("no redis-server starts")
    }

    /// With TLS and nothing else, by this certificate.
    #[cfg(feature = "rustls")]
    pub(crate) fn with_tls(certificate: &str, key: &str) -> Self {
        Self::begin_with(|port| tls_options(port, certificate, key))
    }

    /// A node of a cluster, with these slots.
    pub(crate) fn in_cluster(slots: (u16, u16)) -> Self {
        let redis = Self::begin_with(|_| cluster_options());
        redis.cli(&["CLUSTER", "ADDSLOTSRANGE", &slots.0.to_string(), &slots.1.to_string()]);
        redis
    }

    /// A node of a cluster that talks TLS and nothing else.
    #[cfg(feature = "rustls")]
    pub(crate) fn in_cluster_with_tls(certificate: &str, key: &str) -> Self {
        Self::begin_with(|port| {
            let on = ["--tls-cluster", "yes"].map(str::to_owned).into();
            [tls_options(port, certificate, key), cluster_options(), on].concat()
        })
    }

    /// A server with a password, and a copy of another's data if there is one.
    pub(crate) fn guarded(password: &str, master: Option<&Self>) -> Self {
        Self::begin_with(|_| {
            let guard = ["--requirepass", password, "--masterauth", password].map(str::to_owned);
            let copy = master.map(|master| ["--replicaof".to_owned(), format!("127.0.0.1 {}", master.port)]);
            guard.into_iter().chain(copy.into_iter().flatten()).collect()
        })
    }

    /// A sentinel with these settings, in which `PORT` stands for its port.
    pub(crate) fn sentinel(settings: &str) -> Self {
        for _ in 0..10 {
            let port = free_port();
            let file = folder().join(format!("sentinel-{port}.conf"));
            let settings = settings.replace("PORT", &port.to_string());
            std::fs::write(&file, format!("bind 127.0.0.1\n{settings}")).unwrap();
            let mut sentinel = Command::new("redis-server");
            if let Some(server) = until("Sentinel ID is", sentinel.arg(&file).arg("--sentinel")) {
                return Self { port, server };
            }
        }
        panic!("no sentinel starts")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// With nothing in it.
    pub(crate) fn start_again(&mut self) {
        self.server = start(self.port, &[]).expect("the port is free again");
    }

    /// The kernel goes on accepting connections; nobody answers.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").args([signal, &self.server.id().to_string()]).status().unwrap().success()
        );
    }

    pub(crate) fn cli(&self, args: &[&str]) -> String {
        String::from_utf8_lossy(&self.raw(args)).into_owned()
    }

    /// One value, whatever bytes it has.
    pub(crate) fn read(&self, args: &[&str]) -> Vec<u8> {
        let mut said = self.raw(args);
        // redis-cli ends it with a line break.
        said.pop();
        said
    }

    /// A command that ends with these bytes.
    pub(crate) fn write(&self, args: &[&str], last: &[u8]) {
        let mut cli = self.command().arg("-x").args(args).stdin(Stdio::piped()).spawn().unwrap();
        cli.stdin.take().expect("piped").write_all(last).unwrap();
        assert!(cli.wait().unwrap().success());
    }

    fn raw(&self, args: &[&str]) -> Vec<u8> {
        let output = self.command().args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    fn command(&self) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).stdout(Stdio::piped());
        command
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

#[cfg(feature = "rustls")]
fn tls_options(port: u16, certificate: &str, key: &str) -> Vec<String> {
    let tls = ["--tls-port", &port.to_string(), "--port", "0", "--tls-auth-clients", "no"].map(str::to_owned);
    let files = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate];
    tls.into_iter().chain(files.map(str::to_owned)).collect()
}

fn cluster_options() -> Vec<String> {
    // The bus takes another port: the default one is often too high.
    let bus = free_port().to_string();
    let nodes = format!("nodes-{bus}.conf");
    let _ = std::fs::remove_file(folder().join(&nodes));
    ["--cluster-enabled", "yes", "--cluster-config-file", &nodes, "--cluster-port", &bus]
        .map(str::to_owned)
        .into()
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Returns when it takes connections; `None` if it does not.
fn start(port: u16, further: &[String]) -> Option<Child> {
    let mut server = Command::new("redis-server");
    server
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir", env!("CARGO_TARGET_TMPDIR")])
        .args(["--dbfilename", &format!("dump-{port}.rdb")])
        .args(["--user", "fleet", "on", ">pw"])
        .args(super::RIGHTS.split_whitespace())
        .args(further);
    until("Ready to accept connections", &mut server)
}

/// Starts it, and returns when it says this; `None` if it ends instead.
fn until(ready: &str, server: &mut Command) -> Option<Child> {
    let mut server = server
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is missing: ./tests/run installs it");
    let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines().map_while(Result::ok);
    if lines.any(|line| line.contains(ready)) {
        // What else it says goes nowhere, and must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        return Some(server);
    }
    let _ = server.wait();
    None
}

impl World for Redis {
    type Store = RedisStore;
    type Clock = SystemClock;

    fn store(&self) -> RedisStore {
        // Under the documented rights, so that each test shows that they are enough.
        let url = self.url().replace("://", "://fleet:pw@");
        RedisStore::builder(url).timeout(Duration::from_secs(9)).build().unwrap()
    }

    fn clock(&self) -> SystemClock {
        SystemClock
    }
}
