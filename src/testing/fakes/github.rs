//! GitHub, from an app's point of view.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{lock, target};
use crate::clock::{Clock, SystemClock, moved};
use crate::oauth::jws::verify::verify;
use crate::testing::reply::{Asked, Reply};
use crate::testing::server::FakeAuthServer;

const HOUR: Duration = Duration::from_secs(3600);

/// GitHub's API for an app of the id `12345`, which is installed as `42` with the permissions `contents: write`, `issues:
/// read` and `metadata: read` in the repositories `orders` (id 7) and `stock` (id 8). Tokens `ghs_1`, `ghs_2` last an hour.
///
/// It refuses (401) a JWT that is not signed by `RS256` with the app's key, has ended, ends more than 10 min from
/// now, or has an `iat` in the future; a request without a `User-Agent` (403); another installation (404); a body
/// that is no JSON object (400); a permission or a repository that the installation does not have (422). `GET
/// /installation/repositories` is an API that accepts its tokens.
#[derive(Debug)]
pub struct GithubApi {
    pub(super) server: FakeAuthServer,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    key: Value,
    issued: Vec<Instant>,
    /// The delay until its API knows a new token.
    late: Duration,
    /// In seconds.
    clock_ahead: i64,
    is_suspended: bool,
}

impl GithubApi {
    /// Starts it on the tokio runtime in which this is called. It knows the app's key by its public part
    /// ([`PrivateKey::public_jwk`](crate::oauth::PrivateKey::public_jwk)).
    ///
    /// # Errors
    /// No port is available.
    pub async fn start(public_jwk: Value) -> io::Result<Self> {
        let (late, issued) = (Duration::ZERO, Vec::new());
        let state = State { key: public_jwk, issued, late, clock_ahead: 0, is_suspended: false };
        let state = Arc::new(Mutex::new(state));
        let server = FakeAuthServer::answering({
            let state = Arc::clone(&state);
            move |asked| {
                let mut state = lock(&state);
                let date = httpdate::fmt_http_date(state.now());
                state.answer(asked).with_header("Date", date)
            }
        });
        Ok(Self { server: server.await?, state })
    }

    /// The app has this key from now on. The old key is refused.
    pub fn rotate(&self, public_jwk: Value) -> &Self {
        lock(&self.state).key = public_jwk;
        self
    }

    /// Its API knows each token only after this delay. Until then it refuses the token. Default: no delay.
    pub fn late(&self, by: Duration) -> &Self {
        lock(&self.state).late = by;
        self
    }

    /// Its clock is this many seconds ahead of this machine's. Default: 0.
    pub fn clock_ahead(&self, seconds: i64) -> &Self {
        lock(&self.state).clock_ahead = seconds;
        self
    }

    /// The installation is suspended: each request with valid credentials is refused (403).
    pub fn suspend(&self) -> &Self {
        lock(&self.state).is_suspended = true;
        self
    }
}

fn suspended() -> Reply {
    refusal(403, "This installation has been suspended")
}

fn refusal(status: u16, message: &str) -> Reply {
    Reply::json(
        status,
        json!({ "message": message, "documentation_url": "https://docs.github.com/rest" }).to_string(),
    )
}

impl State {
    fn now(&self) -> SystemTime {
        // `Date` and the tokens' ends have years from 1970 to 9999.
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799) - HOUR;
        moved(SystemClock.now().wall, self.clock_ahead).clamp(SystemTime::UNIX_EPOCH, last)
    }

    fn answer(&mut self, asked: &Asked) -> Reply {
        let (path, _) = target(asked);
        if asked.header("user-agent").is_none() {
            return Reply::text(403, "text/html", "Request forbidden by administrative rules.");
        }
        let credentials = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let credentials = credentials.unwrap_or_default();
        match path {
            "/installation/repositories" => self.repositories(credentials),
            "/app/installations/42/access_tokens" => self.grant(asked, credentials),
            _ => refusal(404, "Not Found"),
        }
    }

    fn repositories(&self, token: &str) -> Reply {
        let number: Option<usize> = token.strip_prefix("ghs_").and_then(|number| number.parse().ok());
        let issued = number.and_then(|number| self.issued.get(number.checked_sub(1)?));
        match issued.map(|issued| Instant::now().duration_since(*issued)) {
            Some(age) if age >= self.late && age < HOUR && self.is_suspended => suspended(),
            Some(age) if age >= self.late && age < HOUR => {
                Reply::json(200, json!({ "total_count": 0, "repositories": [] }).to_string())
            }
            _ => refusal(401, "Bad credentials"),
        }
    }

    fn grant(&mut self, asked: &Asked, jwt: &str) -> Reply {
        if let Some(what) = self.flaw(jwt) {
            return refusal(401, what);
        }
        if self.is_suspended {
            return suspended();
        }
        if !asked.head.starts_with("POST ") {
            return refusal(404, "Not Found");
        }
        let text = if asked.body.is_empty() { "{}" } else { asked.body.as_str() };
        let Ok(body) = serde_json::from_str::<Value>(text) else {
            return refusal(400, "Problems parsing JSON");
        };
        if !body.is_object() {
            return refusal(400, "Body should be a JSON object");
        }
        if !has_permissions(&body["permissions"]) {
            return refusal(422, "The permissions requested are not granted to this installation.");
        }
        if !has_all(&body["repositories"], &["orders".into(), "stock".into()])
            || !has_all(&body["repository_ids"], &[7.into(), 8.into()])
        {
            let message = "There is at least one repository that does not exist or is not accessible to the parent \
                           installation.";
            return refusal(422, message);
        }
        self.issued.push(Instant::now());
        let end = jiff::Timestamp::try_from(self.now() + HOUR).map(jiff::Timestamp::as_second);
        let end = end.and_then(jiff::Timestamp::from_second).unwrap_or_default();
        let token = format!("ghs_{}", self.issued.len());
        let answer = json!({ "token": token, "expires_at": end.to_string(), "repository_selection": "all" });
        Reply::json(201, answer.to_string())
    }

    /// The fault that GitHub finds in a JWT.
    fn flaw(&self, jwt: &str) -> Option<&'static str> {
        const ODD: &str = "A JSON web token could not be decoded";
        let Some((header, claims)) = verify(&self.key, jwt) else { return Some(ODD) };
        let (Some(issued), Some(end)) = (claims["iat"].as_u64(), claims["exp"].as_u64()) else {
            return Some("Missing 'exp' or 'iat' claim");
        };
        let now = self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        match () {
            () if header["alg"] != "RS256" => Some(ODD),
            () if claims["iss"] != "12345" => Some("Integration must generate a public key"),
            () if issued > now => Some(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            ),
            () if end <= now => {
                Some("'Expiration time' claim ('exp') must be a numeric value representing the future time")
            }
            () if end > now + 600 => Some("'Expiration time' claim ('exp') is too far in the future"),
            () => None,
        }
    }
}

fn has_permissions(wanted: &Value) -> bool {
    let granted = |name: &str, access: &Value| match name {
        "contents" => access == "read" || access == "write",
        "issues" | "metadata" => access == "read",
        _ => false,
    };
    let are_granted =
        |wanted: &serde_json::Map<_, _>| wanted.iter().all(|(name, access)| granted(name, access));
    wanted.is_null() || wanted.as_object().is_some_and(are_granted)
}

/// Whether each value of the wanted list is in `known`. Nothing may be wanted.
fn has_all(wanted: &Value, known: &[Value]) -> bool {
    let are_known = |wanted: &Vec<Value>| wanted.iter().all(|wanted| known.contains(wanted));
    wanted.is_null() || wanted.as_array().is_some_and(are_known)
}
