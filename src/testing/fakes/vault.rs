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
/// It refuses (400) a wrong role or secret id. It refuses (403) a wrong JWT, and a token that is unknown or revoked, or
/// whose lease has ended. A renewal lasts as long as the token's first lease, but never beyond its longest life.
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

/// A token. Its ends are moments of this server's time.
#[derive(Debug)]
struct Issued {
    until: Duration,
    at_most_until: Duration,
    /// The first lease.
    lease: Duration,
    is_renewable: bool,
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

    /// The lease of new tokens from now on, and their longest life, each in whole seconds: it is rounded up, and at
    /// least 1 s. (A real lease of 0 never ends.) Default: 1 h and 3 h.
    pub fn leases(&self, lease: Duration, longest: Duration) -> &Self {
        let mut state = lock(&self.state);
        (state.lease, state.longest) = (whole_seconds(lease), whole_seconds(longest));
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
        let mut state = lock(&self.state);
        state.moved = state.moved.saturating_add(time);
        drop(state);
        self
    }
}

/// Rounded up, and at least 1 s.
fn whole_seconds(time: Duration) -> Duration {
    let rest = u64::from(time.subsec_nanos() > 0);
    Duration::from_secs(time.as_secs().saturating_add(rest).max(1))
}

fn refusal(status: u16, message: &str) -> Reply {
    Reply::json(status, json!({ "errors": [message] }).to_string())
}

impl State {
    fn now(&self) -> Duration {
        self.began.elapsed().saturating_add(self.moved)
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
        let lease = self.lease.min(self.longest);
        let issued = Issued {
            until: now.saturating_add(lease),
            at_most_until: now.saturating_add(self.longest),
            lease,
            is_renewable: self.is_renewable,
        };
        let reply = granted(&token, lease, issued.is_renewable);
        self.tokens.insert(token, issued);
        reply
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
        let now = self.now();
        let Some(issued) = self.tokens.get_mut(&token) else { return refusal(403, "permission denied") };
        if !issued.is_renewable {
            return refusal(400, "lease is not renewable");
        }
        issued.until = now.saturating_add(issued.lease).min(issued.at_most_until);
        granted(&token, issued.until.saturating_sub(now), true)
    }
}

fn granted(token: &str, lasts: Duration, is_renewable: bool) -> Reply {
    let auth = json!({
        "client_token": token, "lease_duration": lasts.as_secs(), "renewable": is_renewable,
        "token_type": "service",
    });
    Reply::json(200, json!({ "lease_id": "", "auth": auth }).to_string())
}
