//! Google's metadata server.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::{Cached, lock, target, unix_in};
use crate::testing::reply::{Asked, Reply};
use crate::testing::server::FakeAuthServer;

/// Google's metadata server: tokens `gcp-1`, `gcp-2` that last an hour, each given again until 270 s before its end; for the
/// accounts `default` and `worker@project.example`. Also identity tokens. Each account, and each list of scopes or
/// audience, has a token of its own.
///
/// It refuses a request without `Metadata-Flavor: Google` (403), with `X-Forwarded-For` (403), for another account (404), and
/// with another method than `GET` (405).
#[derive(Debug)]
pub struct GcpMetadata {
    pub(super) server: FakeAuthServer,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    cached: Cached,
    has_flavor: bool,
}

impl GcpMetadata {
    /// Starts it on the tokio runtime in which this is called.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start() -> io::Result<Self> {
        let cached = Cached::new("gcp", Duration::from_secs(3600), Duration::from_secs(270));
        let state = Arc::new(Mutex::new(State { cached, has_flavor: true }));
        let server = FakeAuthServer::answering({
            let state = Arc::clone(&state);
            move |asked| {
                let mut state = lock(&state);
                let reply = state.answer(asked);
                if state.has_flavor { reply.with_header("Metadata-Flavor", "Google") } else { reply }
            }
        });
        Ok(Self { server: server.await?, state })
    }

    /// Answers without the header `Metadata-Flavor`, as another server would. Default: with it.
    pub fn without_flavor(&self) -> &Self {
        lock(&self.state).has_flavor = false;
        self
    }

    /// Moves this server's time forward.
    pub fn advance(&self, time: Duration) -> &Self {
        lock(&self.state).cached.advance(time);
        self
    }
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Reply {
        const ACCOUNTS: &str = "/computeMetadata/v1/instance/service-accounts/";
        if asked.header("metadata-flavor") != Some("Google") || asked.header("x-forwarded-for").is_some() {
            return Reply::text(403, "text/html", "Missing Metadata-Flavor:Google header.");
        }
        if !asked.head.starts_with("GET ") {
            return Reply::text(405, "text/html", "only GET is allowed");
        }
        let (path, query) = target(asked);
        let place = path.strip_prefix(ACCOUNTS).and_then(|rest| rest.split_once('/'));
        let Some((account @ ("default" | "worker@project.example"), what)) = place else {
            return Reply::text(404, "text/html", "no such service account");
        };
        let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (what, value("audience")) {
            ("token", _) => {
                let (token, left) = self.cached.token(format!("{account} {:?}", value("scopes")));
                let body =
                    json!({ "access_token": token, "expires_in": left.as_secs(), "token_type": "Bearer" });
                Reply::json(200, body.to_string())
            }
            ("identity", Some(audience)) => {
                let (token, left) = self.cached.token(format!("{account} for {audience}"));
                let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
                let head = part(json!({ "alg": "RS256", "typ": "JWT" }));
                let claims = part(json!({ "aud": audience, "sub": token, "exp": unix_in(left) }));
                Reply::text(200, "text/html", format!("{head}.{claims}.c2lnbmF0dXJl"))
            }
            ("identity", None) => Reply::text(400, "text/html", "non-empty audience parameter required"),
            _ => Reply::text(404, "text/html", "not found"),
        }
    }
}
