//! A Vault server.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{lock, target};
use crate::testing::reply::{Asked, Reply};
use crate::testing::server::FakeAuthServer;

/// A Vault server with the logins `approle` (role id `role-1`, secret id `secret-1`) and `kubernetes` (role `orders`, the JWT
/// `jwt-1`). Tokens `hvs.1`, `hvs.2` have a lease of an hour, can be renewed, and live for 3 h at most.
///
/// It refuses (400) a wrong role, secret id or JWT. It refuses (403) a token that is unknown or revoked, or whose
/// lease has ended. A renewal lasts as long as the first lease, but never beyond the longest life.
/// `GET /v1/secret/data/app` is an API that accepts its tokens, as `X-Vault-Token` or as a bearer token.
#[derive(Debug)]
pub struct VaultServer {
    pub(super) server: FakeAuthServer,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    lease: Duration,
    longest: Duration,
    is_renewable: bool,
    secret_id: String,
    jwt: String,
    logins: u32,
    /// The issued tokens, by their secret.
    tokens: BTreeMap<String, Issued>,
    began: Instant,
    /// How far this server's time was moved.
    moved: Duration,
}

/// A moment of this server's time.
#[derive(Debug)]
struct Issued {
    until: Duration,
    at_most_until: Duration,
}

impl VaultServer {
    /// Starts it on the tokio runtime in which this is called.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start() -> io::Result<Self> {
        const HOUR: Duration = Duration::from_secs(3600);
        let state = Arc::new(Mutex::new(State {
            lease: HOUR,
            longest: HOUR * 3,
            is_renewable: true,
            secret_id: "secret-1".to_owned(),
            jwt: "jwt-1".to_owned(),
            logins: 0,
            tokens: BTreeMap::new(),
            began: Instant::now(),
            moved: Duration::ZERO,
        }));
        let server = FakeAuthServer::answering({
            let state = Arc::clone(&state);
            move |asked| lock(&state).answer(asked)
        });
        Ok(Self { server: server.await?, state })
    }

    /// The lease of new tokens from now on, and their longest life. Default: 1 h and 3 h.
    pub fn leases(&self, lease: Duration, longest: Duration) -> &Self {
        let mut state = lock(&self.state);
        (state.lease, state.longest) = (lease, longest);
        drop(state);
        self
    }

    /// New tokens from now on cannot be renewed. Default: they can.
    pub fn not_renewable(&self) -> &Self {
        lock(&self.state).is_renewable = false;
        self
    }

    /// The role has only this secret id from now on.
    pub fn secret_id(&self, secret: impl Into<String>) -> &Self {
        lock(&self.state).secret_id = secret.into();
        self
    }

    /// The login by Kubernetes accepts only this JWT from now on.
    pub fn jwt(&self, jwt: impl Into<String>) -> &Self {
        lock(&self.state).jwt = jwt.into();
        self
    }

    /// Revokes all tokens.
    pub fn revoke_all(&self) -> &Self {
        lock(&self.state).tokens.clear();
        self
    }

    /// Moves this server's time forward.
    pub fn advance(&self, time: Duration) -> &Self {
        lock(&self.state).moved += time;
        self
    }
}

fn refusal(status: u16, message: &str) -> Reply {
    Reply::json(status, json!({ "errors": [message] }).to_string())
}

impl State {
    fn now(&self) -> Duration {
        self.began.elapsed() + self.moved
    }

    fn answer(&mut self, asked: &Asked) -> Reply {
        let (path, _) = target(asked);
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        let is = |name: &str, value: &str| body[name] == value;
        let is_post = asked.head.starts_with("POST ");
        match path {
            "/v1/auth/approle/login" if is_post => {
                if is("role_id", "role-1") && is("secret_id", &self.secret_id) {
                    self.log_in()
                } else {
                    refusal(400, "invalid role or secret ID")
                }
            }
            "/v1/auth/kubernetes/login" if is_post => match () {
                () if !is("role", "orders") => refusal(400, "invalid role name"),
                () if !is("jwt", &self.jwt) => refusal(403, "permission denied"),
                () => self.log_in(),
            },
            "/v1/auth/token/renew-self" if is_post => self.renew(asked),
            "/v1/secret/data/app" if self.token(asked).is_some() => {
                Reply::json(200, json!({ "data": {} }).to_string())
            }
            "/v1/secret/data/app" => refusal(403, "permission denied"),
            _ => refusal(404, "no handler for route"),
        }
    }

    fn log_in(&mut self) -> Reply {
        self.logins += 1;
        let (token, now) = (format!("hvs.{}", self.logins), self.now());
        let lasts = self.lease.min(self.longest);
        let issued = Issued { until: now + lasts, at_most_until: now + self.longest };
        self.tokens.insert(token.clone(), issued);
        self.granted(&token, lasts)
    }

    /// The token of a request, if the server accepts it.
    fn token(&self, asked: &Asked) -> Option<String> {
        let bearer = || asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let token = asked.header("x-vault-token").or_else(bearer)?;
        let issued = self.tokens.get(token)?;
        (self.now() < issued.until).then(|| token.to_owned())
    }

    fn renew(&mut self, asked: &Asked) -> Reply {
        let Some(token) = self.token(asked) else { return refusal(403, "permission denied") };
        if !self.is_renewable {
            return refusal(400, "lease is not renewable");
        }
        let (now, lease) = (self.now(), self.lease);
        let Some(issued) = self.tokens.get_mut(&token) else { return refusal(403, "permission denied") };
        issued.until = (now + lease).min(issued.at_most_until);
        let lasts = issued.until.saturating_sub(now);
        self.granted(&token, lasts)
    }

    fn granted(&self, token: &str, lasts: Duration) -> Reply {
        let auth = json!({
            "client_token": token, "lease_duration": lasts.as_secs(), "renewable": self.is_renewable,
            "token_type": "service",
        });
        Reply::json(200, json!({ "lease_id": "", "auth": auth }).to_string())
    }
}
