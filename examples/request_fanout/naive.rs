//! The usual hand-written code: a token in a shared variable. A request that finds no token, or an expired one,
//! fetches another. This is right for one request at a time. Nine requests in parallel make nine calls.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use reqwest::{Client, Response};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::client::{Credentials, describe, without_secrets};
use crate::record::CallLog;

/// Calls to the auth server at once. The rest of ten thousand wait for their turn, and then call all the same.
const MAX_CALLS: usize = 32;

/// No token needs more.
const MAX_BODY: usize = 1 << 20;

/// If the auth server does not say how long a token lasts.
const USUAL_LIFETIME: Duration = Duration::from_secs(300);

pub(crate) struct Naive {
    http: Client,
    credentials: Rc<Credentials>,
    calls: Arc<CallLog>,
    turns: Semaphore,
    cached: RefCell<Option<Cached>>,
}

#[derive(Clone)]
struct Cached {
    authorization: HeaderValue,
    expires: Instant,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

impl Naive {
    pub(crate) fn new(http: Client, credentials: Rc<Credentials>, calls: Arc<CallLog>) -> Self {
        Self { http, credentials, calls, turns: Semaphore::new(MAX_CALLS), cached: RefCell::default() }
    }

    /// The original's fault is between these two lines: nobody knows that somebody else is fetching already.
    pub(crate) async fn get(&self) -> Result<HeaderValue, String> {
        let valid = self.cached.borrow().clone().filter(|cached| Instant::now() < cached.expires);
        match valid {
            Some(cached) => Ok(cached.authorization),
            None => self.fetch().await,
        }
    }

    /// The API answered 401 to this token.
    pub(crate) fn reject(&self, authorization: &HeaderValue) {
        self.cached.borrow_mut().take_if(|cached| cached.authorization == authorization);
    }

    async fn fetch(&self) -> Result<HeaderValue, String> {
        let Ok(_turn) = self.turns.acquire().await else {
            return Err("shutting down".into());
        };
        let asked = Instant::now();
        let (status, body) = {
            let _call = self.calls.begin();
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "client_credentials");
            if let Some(scope) = &self.credentials.scope {
                form.append_pair("scope", scope);
            }
            let request = self
                .credentials
                .token_request(&self.http)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.finish());
            let answer = request.send().await.map_err(|err| {
                format!("no answer from {}: {}", without_secrets(&self.credentials.token_url), describe(err))
            })?;
            (answer.status(), read(answer).await?)
        };
        let token = parse(status, &body)?;
        let lifetime = token.expires_in.map_or(USUAL_LIFETIME, Duration::from_secs);
        let authorization = bearer(token.access_token)?;
        // Nobody lives to see a lifetime that does not fit.
        let expires = asked.checked_add(lifetime).unwrap_or(asked + USUAL_LIFETIME);
        *self.cached.borrow_mut() = Some(Cached { authorization: authorization.clone(), expires });
        Ok(authorization)
    }
}

async fn read(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(describe)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(format!("the auth server's answer exceeds {MAX_BODY} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What the auth server says, never the body as such: there may be a token in it.
fn parse(status: StatusCode, body: &[u8]) -> Result<Answer, String> {
    if status.is_success() {
        return serde_json::from_slice(body).map_err(|err| {
            let (line, column) = (err.line(), err.column());
            format!(
                "the auth server answered {status}, but not with a token as JSON \
                 (line {line}, column {column})"
            )
        });
    }
    let said = match serde_json::from_slice(body) {
        Ok(Refusal { error, error_description: Some(why) }) => format!(": {error} ({why})"),
        Ok(Refusal { error, .. }) => format!(": {error}"),
        Err(_) => String::new(),
    };
    Err(format!("the auth server answered {status}{said}"))
}

fn bearer(token: Option<String>) -> Result<HeaderValue, String> {
    let token = token.ok_or("the auth server's answer has no `access_token`")?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "the auth server's `access_token` cannot stand in a header")?;
    value.set_sensitive(true);
    Ok(value)
}
