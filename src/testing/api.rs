//! The API beside a fake auth server. It knows the issued tokens and the revoked ones.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::reply::{Asked, Reply};

/// The state of the API, and the requests that it received.
#[derive(Debug, Default)]
pub(super) struct Api {
    /// Whether the test has asked for an API. Without one, its path is a path like any other.
    is_open: bool,
    /// Secrets, with their ends.
    issued: HashMap<String, Option<Instant>>,
    replies: VecDeque<Reply>,
    accepted: usize,
    rejected: usize,
    /// Requests so far.
    pub(super) asked: watch::Sender<usize>,
}

impl Api {
    /// The test asks for an API.
    pub(super) fn open(&mut self) -> &mut Self {
        self.is_open = true;
        self
    }

    /// Whether a request is for the API.
    pub(super) fn is_asked(&self, asked: &Asked) -> bool {
        let path = asked.target().split(['?', '#']).next().unwrap_or_default();
        self.is_open && (path == "/api" || path.starts_with("/api/"))
    }

    /// Records the token in an answer of the token endpoint.
    pub(super) fn note(&mut self, reply: &Reply) {
        match reply {
            Reply::After(_, then) => self.note(then),
            Reply::Http { status, body, .. } if status.starts_with('2') => {
                let Ok(answer) = serde_json::from_slice::<serde_json::Value>(body) else { return };
                let life = answer["expires_in"].as_u64().map(Duration::from_secs);
                if let Some(secret) = answer["access_token"].as_str() {
                    self.issue(secret, life);
                }
            }
            _ => {}
        }
    }

    pub(super) fn issue(&mut self, secret: &str, life: Option<Duration>) {
        let end = life.and_then(|life| Instant::now().checked_add(life));
        self.issued.insert(secret.to_owned(), end);
    }

    pub(super) fn revoke(&mut self, secret: &str) {
        self.issued.remove(secret);
    }

    pub(super) fn revoke_all(&mut self) {
        self.issued.clear();
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted
    }

    pub(super) fn rejected(&self) -> usize {
        self.rejected
    }

    pub(super) fn then(&mut self, reply: Reply) {
        self.replies.push_back(reply);
    }

    pub(super) fn answer(&mut self, asked: &Asked) -> Reply {
        self.asked.send_modify(|asked| *asked += 1);
        if let Some(reply) = self.replies.pop_front() {
            return reply;
        }
        // RFC 6750 section 3.1: no error code for a request without a token.
        let Some(secret) = asked.header("authorization").and_then(bearer) else {
            self.rejected += 1;
            return Reply::json(401, "{}").with_header("WWW-Authenticate", "Bearer");
        };
        let is_good = self.issued.get(secret).is_some_and(|end| end.is_none_or(|end| Instant::now() < end));
        if is_good {
            self.accepted += 1;
            return Reply::json(200, r#"{"ok":true}"#);
        }
        self.rejected += 1;
        Reply::json(401, "{}").with_header("WWW-Authenticate", r#"Bearer error="invalid_token""#)
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}
