//! The real authorization servers, each in a separate process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `oidc-provider` on node: no grace.
    Oidc,
    /// `django-oauth-toolkit`, with a grace.
    Django,
}

/// How long the grace is of a server that has one.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

impl Kind {
    pub(crate) fn grace(self) -> Duration {
        match self {
            Self::Oidc => Duration::ZERO,
            Self::Django => GRACE,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oidc => "oidc-provider",
            Self::Django => "django-oauth-toolkit",
        }
    }

    fn command(self) -> Command {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        match self {
            Self::Oidc => {
                let mut node = Command::new("node");
                node.arg("server.mjs").current_dir(tests.join("oidc"));
                node
            }
            Self::Django => {
                let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pyservers/bin/python3");
                let mut python = Command::new(python);
                python.arg("django_server.py").current_dir(tests.join("pyservers"));
                python.env("PYTHONDONTWRITEBYTECODE", "1").env("GRACE", GRACE.as_secs().to_string());
                python
            }
        }
    }
}

/// It ends when it is dropped, and with this program.
pub(crate) struct Server {
    kind: Kind,
    child: Child,
    addresses: Value,
    http: reqwest::Client,
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Self {
        let mut command = kind.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addresses = serde_json::from_str(&line).expect("./tests/torture/run installs what it needs");
        Self { kind, child, addresses, http: reqwest::Client::new() }
    }

    fn address(&self, name: &str) -> &str {
        self.addresses[name].as_str().unwrap()
    }

    pub(crate) fn host(&self) -> &str {
        self.address("issuer").strip_prefix("http://").unwrap()
    }

    pub(crate) fn token_path(&self) -> &str {
        self.address("token_endpoint").strip_prefix(self.address("issuer")).unwrap()
    }

    /// The first refresh token of a new login.
    pub(crate) async fn log_in(&self) -> String {
        let body = match self.kind {
            Kind::Oidc => "grant_type=urn:test:seed-refresh-token",
            Kind::Django => "grant_type=password&username=alice&password=wonderland",
        };
        let request = self.http.post(self.address("token_endpoint")).body(body);
        let request = request.basic_auth("rotating", Some("rotating-secret"));
        let answer = json(request.header("content-type", "application/x-www-form-urlencoded")).await;
        answer["refresh_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// How many families have ended because a token came that was used.
    pub(crate) async fn revoked(&self) -> u64 {
        json(self.http.get(self.address("stats_endpoint"))).await["revoked"].as_u64().unwrap()
    }

    /// Moves its clock.
    pub(crate) async fn forward(&self, by: Duration) {
        let url = format!("{}/clock?forward={}", self.address("issuer"), by.as_secs());
        self.http.post(url).send().await.unwrap().error_for_status().unwrap();
    }
}

async fn json(request: reqwest::RequestBuilder) -> Value {
    serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A `redis-server` of one scenario.
pub(crate) struct Redis {
    port: u16,
    child: Child,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(
            output.any(|line| line.contains("Ready to accept connections")),
            "redis-server does not start"
        );
        // Or it would be told that its output has no reader.
        std::thread::spawn(move || output.for_each(drop));
        Self { port, child }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
