//! Real authorization servers in separate processes: `oidc-provider` on node, and two on Python.

use std::io::{BufRead, BufReader, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

mod checks;
#[cfg(any(feature = "rustls", feature = "native-tls"))]
pub(crate) mod tls;

/// A process that writes one line of addresses. The process ends when its standard input does. Therefore a test that is
/// killed leaves no server behind.
pub(crate) struct Server {
    child: Child,
    addresses: Value,
    client: reqwest::Client,
}

impl Server {
    #[track_caller]
    fn start(command: &mut Command) -> Self {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{command:?}: {error}; run ./tests/run"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(addresses) = serde_json::from_str(&line) else {
            panic!("{command:?} wrote no addresses: ./tests/run installs what it needs");
        };
        Self { child, addresses, client: reqwest::Client::new() }
    }

    pub(crate) fn address(&self, name: &str) -> &str {
        self.addresses[name].as_str().expect("an address of this name")
    }

    async fn get(&self, url: &str) -> Value {
        read(self.client.get(url)).await
    }

    pub(crate) async fn stats(&self) -> Value {
        self.get(self.address("stats_endpoint")).await
    }

    /// What the server itself thinks of a token (RFC 7662).
    pub(crate) async fn introspect(&self, token: &str) -> Value {
        let request = self
            .client
            .post(self.address("introspection_endpoint"))
            .basic_auth("plain", Some("plain-secret"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={token}"));
        read(request).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

async fn read(request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    let (status, url) = (answer.status(), answer.url().clone());
    let body = answer.bytes().await.unwrap();
    assert!(status.is_success(), "{url}: {status} {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

fn form(client: &reqwest::Client, url: &str, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    client.post(url).header("content-type", "application/x-www-form-urlencoded").body(body)
}

fn tests_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// `oidc-provider`. Its clients and endpoints stand in `tests/oidc/README.md`.
pub(crate) struct Provider(Server);

/// What every server can be asked.
impl Deref for Provider {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

/// The private key of a client, and the public one for whoever verifies what the client signs.
pub(crate) struct ClientKey {
    pub(crate) kid: String,
    pub(crate) pem: String,
    pub(crate) public_jwk: Value,
}

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

impl Provider {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let folder = tests_folder("oidc");
        assert!(
            folder.join("node_modules").exists(),
            "run ./tests/run: it installs the authorization server"
        );
        Self(Server::start(Command::new("node").arg("server.mjs").current_dir(folder)))
    }

    /// The document at `/.well-known/openid-configuration`.
    pub(crate) async fn discovery(&self) -> Value {
        self.at("/.well-known/openid-configuration").await
    }

    /// The key of the client `jwt-es256`, and so on, for `ES256`, `ES384`, `PS256`, `RS256`, `EdDSA`. The format is
    /// `pkcs8`, for RSA also `pkcs1`, for ES256 and ES384 also `sec1`.
    pub(crate) async fn key_pem(&self, alg: &str, format: &str) -> ClientKey {
        let key = self.at(&format!("/jwt-key?alg={alg}&format={format}")).await;
        ClientKey {
            kid: text(&key["kid"]),
            pem: text(&key["private_key_pem"]),
            public_jwk: key["public_jwk"].clone(),
        }
    }

    /// A JWT of the identity provider that the server trusts, good for five minutes: an assertion or a subject token.
    /// The second value is the provider's public key.
    pub(crate) async fn idp_jwt(&self, subject: &str) -> (String, Value) {
        let answer = self.at(&format!("/idp-jwt?sub={subject}")).await;
        (text(&answer["jwt"]), answer["public_jwk"].clone())
    }

    async fn at(&self, path: &str) -> Value {
        self.0.get(&format!("{}{path}", self.address("issuer"))).await
    }
}

/// A server of `tests/pyservers`. Both have the same clients: `serving.py` names them.
pub(crate) struct PythonServer(Server);

impl Deref for PythonServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl PythonServer {
    /// Authlib on Flask.
    #[track_caller]
    pub(crate) fn authlib() -> Self {
        Self::start("authlib_server.py")
    }

    /// `django-oauth-toolkit`.
    #[track_caller]
    pub(crate) fn django() -> Self {
        Self::start("django_server.py")
    }

    #[track_caller]
    fn start(script: &str) -> Self {
        Self(Server::start(&mut python(script)))
    }
}

#[track_caller]
fn python(script: &str) -> Command {
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pyservers");
    assert!(
        environment.join("installed").exists(),
        "run ./tests/run: it installs the authorization servers on Python"
    );
    let mut command = Command::new(environment.join("bin/python3"));
    command.arg(script).current_dir(tests_folder("pyservers")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Header and claims of a JWT, read and verified by `jwcrypto`. `None` if the signature is not good.
#[track_caller]
pub(crate) fn verified_by_jwcrypto(jwt: &str, public_jwk: &Value) -> Option<(Value, Value)> {
    let mut command = python("verify_jwt.py");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let given = json!({ "jwt": jwt, "jwk": public_jwk }).to_string();
    child.stdin.take().unwrap().write_all(given.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let verified: Value = serde_json::from_slice(&output.stdout).expect("the verifier has run");
    verified["claims"].is_object().then(|| (verified["header"].clone(), verified["claims"].clone()))
}
