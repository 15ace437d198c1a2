//! A redis-server of the test's own, on a free port.

use std::io::{BufRead, BufReader};
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
        // Between finding a free port and taking it somebody else may take it.
        for _ in 0..10 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            if let Some(server) = start(port, &[]) {
                return Self { port, server };
            }
        }
        panic!("no redis-server starts")
    }

    /// With TLS and nothing else, by this certificate.
    #[cfg(feature = "rustls")]
    pub(crate) fn with_tls(certificate: &str, key: &str) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let tls = ["--tls-port", &port.to_string(), "--port", "0", "--tls-auth-clients", "no"];
        let files = ["--tls-cert-file", certificate, "--tls-key-file", key];
        Self {
            port,
            server: start(port, &[&tls[..], &files[..]].concat()).expect("it takes the certificate"),
        }
    }

    /// A cluster of one node, which has all slots.
    pub(crate) fn cluster() -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        // The bus takes another port: the default one is often too high.
        let bus = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let nodes = format!("nodes-{port}.conf");
        let _ = std::fs::remove_file(Path::new(env!("CARGO_TARGET_TMPDIR")).join(&nodes));
        let cluster = ["--cluster-enabled", "yes", "--cluster-config-file", &nodes];
        let bus = ["--cluster-port", &bus.to_string()];
        let redis =
            Self { port, server: start(port, &[&cluster[..], &bus].concat()).expect("both ports are free") };
        redis.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        redis
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
        let output =
            Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Returns when it takes connections; `None` if it does not.
fn start(port: u16, further: &[&str]) -> Option<Child> {
    let mut server = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir", env!("CARGO_TARGET_TMPDIR")])
        .args(further)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is missing: ./tests/run installs it");
    let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines().map_while(Result::ok);
    if lines.any(|line| line.contains("Ready to accept connections")) {
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
        RedisStore::builder(self.url()).timeout(Duration::from_secs(9)).build().unwrap()
    }

    fn clock(&self) -> SystemClock {
        SystemClock
    }
}
