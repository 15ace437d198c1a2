//! Azure: the metadata service, and the agent of Arc.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::{Cached, lock, target, unix_in};
use crate::clock::{Clock, SystemClock};
use crate::testing::reply::{Asked, Reply};
use crate::testing::server::FakeAuthServer;

const PATH: &str = "/metadata/identity/oauth2/token";
/// The names of an identity's id in a query.
const IDS: [&str; 4] = ["client_id", "object_id", "msi_res_id", "mi_res_id"];
const RESOURCE_ID: &str =
    "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/app";
/// The ids of the metadata service's user-assigned identity.
const KNOWN: &[(&str, &str)] = &[
    ("client_id", "00000000-aaaa-bbbb-cccc-000000000000"),
    ("object_id", "00000000-dddd-eeee-ffff-000000000000"),
    ("msi_res_id", RESOURCE_ID),
    ("mi_res_id", RESOURCE_ID),
];

/// Azure's Instance Metadata Service: tokens `imds-1`, `imds-2` that last a day, each given again for half of it. Each
/// resource and identity has a token of its own.
///
/// It refuses (400) a request without `Metadata: true`, with `X-Forwarded-For`, without an `api-version`, and without
/// exactly one `resource`. It refuses (405) another method than `GET`. It knows one user-assigned identity, and
/// refuses (400) each other:
///
/// | id | value |
/// |---|---|
/// | `client_id` | `00000000-aaaa-bbbb-cccc-000000000000` |
/// | `object_id` | `00000000-dddd-eeee-ffff-000000000000` |
/// | `msi_res_id` | `/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/app` |
#[derive(Debug)]
pub struct AzureImds {
    pub(super) server: FakeAuthServer,
    cached: Arc<Mutex<Cached>>,
}

impl AzureImds {
    /// Starts it on the tokio runtime in which this is called.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start() -> io::Result<Self> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let cached = Arc::new(Mutex::new(Cached::new("imds", DAY, DAY / 2)));
        let server = FakeAuthServer::answering({
            let cached = Arc::clone(&cached);
            move |asked| {
                let refused = refusal(asked, "2018-02-01", KNOWN);
                refused.unwrap_or_else(|| granted(&mut lock(&cached), asked))
            }
        });
        Ok(Self { server: server.await?, cached })
    }

    /// Moves this server's time forward.
    pub fn advance(&self, time: Duration) -> &Self {
        lock(&self.cached).advance(time);
        self
    }
}

/// The agent of Azure Arc: tokens `arc-1`, `arc-2` that last a day, each given again for half of it. Each resource has a
/// token of its own.
///
/// A request without a key is answered with 401 and the path of a key file, which is written then. A key is good
/// for one request. It refuses everything that [`AzureImds`] refuses, and each user-assigned identity (400).
#[derive(Debug)]
pub struct AzureArc {
    pub(super) server: FakeAuthServer,
    agent: Arc<Mutex<Agent>>,
}

#[derive(Debug)]
struct Agent {
    folder: PathBuf,
    cached: Cached,
    /// The key that the agent expects.
    key: Option<String>,
    keys: u32,
    /// The text in place of the key file's path.
    realm: Option<String>,
}

impl AzureArc {
    /// Starts it on the tokio runtime in which this is called. Its key files go into this folder.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start(folder: impl Into<PathBuf>) -> io::Result<Self> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let cached = Cached::new("arc", DAY, DAY / 2);
        let agent = Agent { folder: folder.into(), cached, key: None, keys: 0, realm: None };
        let agent = Arc::new(Mutex::new(agent));
        let server = FakeAuthServer::answering({
            let agent = Arc::clone(&agent);
            move |asked| refusal(asked, "2020-06-01", &[]).unwrap_or_else(|| lock(&agent).answer(asked))
        });
        Ok(Self { server: server.await?, agent })
    }

    /// Names this file in its challenge, as an attacker's program might. Default: the key file.
    pub fn naming(&self, path: impl Into<String>) -> &Self {
        lock(&self.agent).realm = Some(path.into());
        self
    }
}

impl Agent {
    fn answer(&mut self, asked: &Asked) -> Reply {
        let given = asked.header("authorization").and_then(|value| value.strip_prefix("Basic "));
        match given {
            Some(key) if self.key.as_deref() == Some(key) => {
                self.key = None;
                granted(&mut self.cached, asked)
            }
            Some(_) => error(401, "unauthorized_client", "the key is wrong"),
            None => self.challenge(),
        }
    }

    fn challenge(&mut self) -> Reply {
        self.keys += 1;
        let path = self.folder.join(format!("{:08}.key", self.keys));
        let key = format!("arc-key-{:08}", self.keys);
        if let Err(failure) = fs::write(&path, &key) {
            return error(500, "internal_error", &failure.to_string());
        }
        self.key = Some(key);
        let realm = self.realm.clone().unwrap_or_else(|| path.display().to_string());
        error(401, "unauthorized", "prove it").with_header("WWW-Authenticate", format!("Basic realm={realm}"))
    }
}

fn error(status: u16, code: &str, description: &str) -> Reply {
    Reply::json(status, json!({ "error": code, "error_description": description }).to_string())
}

/// `known`: the ids of the identities that this server has, besides the machine's own.
fn refusal(asked: &Asked, api_version: &str, known: &[(&str, &str)]) -> Option<Reply> {
    let (path, query) = target(asked);
    let values = |name: &str| -> Vec<&str> {
        query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    };
    let bad = |what: &str| Some(error(400, "invalid_request", what));
    if path != PATH {
        return Some(error(404, "not_found", "no such path"));
    }
    if !asked.head.starts_with("GET ") {
        return Some(error(405, "method_not_allowed", "only GET is allowed"));
    }
    if asked.header("metadata") != Some("true") || asked.header("x-forwarded-for").is_some() {
        return bad("required metadata header not specified");
    }
    if values("api-version") != [api_version] {
        return bad("another api-version is needed");
    }
    match values("resource")[..] {
        [resource] if !resource.is_empty() && !resource.contains([' ', ',']) => {}
        _ => return bad("exactly one resource is needed"),
    }
    let is_unknown = |(name, id): &(String, String)| {
        IDS.contains(&name.as_str()) && !known.contains(&(name.as_str(), id.as_str()))
    };
    if query.iter().any(is_unknown) { bad("Identity not found") } else { None }
}

fn granted(cached: &mut Cached, asked: &Asked) -> Reply {
    let (_, query) = target(asked);
    let resource = query.iter().find(|(name, _)| name == "resource").map(|(_, value)| value.clone());
    let ids: Vec<_> = query.iter().filter(|(name, _)| IDS.contains(&name.as_str())).collect();
    let (token, left) = cached.token(format!("{resource:?} {ids:?}"));
    let body = json!({
        "access_token": token,
        "expires_in": left.as_secs().to_string(),
        "expires_on": unix_in(left).to_string(),
        "resource": resource,
        "token_type": "Bearer",
    });
    // The clock by which `expires_on` is meant.
    Reply::json(200, body.to_string()).with_header("Date", httpdate::fmt_http_date(SystemClock.now().wall))
}
