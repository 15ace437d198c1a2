//! AWS: the metadata service of an instance, the agent of a container, and the token service of a region.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::{lock, target, unix_in};
use crate::clock::{Clock, SystemClock};
use crate::source::metadata::aws::sign::{ALGORITHM, Signed};
use crate::source::metadata::aws::xml::element;
use crate::testing::reply::{Asked, Reply};
use crate::testing::server::FakeAuthServer;

/// The secret that belongs to the keys `AKID1`, `AKID2` and so on.
const SECRET: &str = "aws-secret-key";
const ROLE: &str = "app-role";
const SESSION: &str = "imds-session";
const KEYS_LAST: Duration = Duration::from_secs(6 * 60 * 60);
const CREDENTIALS: &str = "/latest/meta-data/iam/security-credentials/";
/// The maximum difference between a request's date and the service's clock.
const SKEW: u64 = 5 * 60;

/// AWS on one address: the metadata service (version 2) of an instance in the region `eu-test-1` with the role `app-role`, the
/// agent of a container at [`container_url`](Self::container_url), and the token service of that region. Its tokens are
/// `aws-1`, `aws-2` and so on; keys last 6 h, or [as long as is set](Self::keys_last).
///
/// The metadata service refuses (401) a request without the token of a session, and a session without a lifetime
/// (400) or with `X-Forwarded-For` (403). The agent requires `agent-token` as `Authorization` (401). The token
/// service checks each signature (Signature Version 4), the session token, the date (within 5 min), the scope, and
/// the parameters, and answers in JSON if `Accept` names it, otherwise in XML: `AssumeRoleWithWebIdentity` for the role `arn:aws:iam::123456789012:role/app` with the token
/// `pod-token`, and `GetWebIdentityToken` with 1 to 10 audiences, `RS256` or `ES384`, and 60 to 3600 s. A token
/// that would last longer than its signing keys is refused (403, `SessionDurationEscalation`).
#[derive(Debug)]
pub struct Aws {
    pub(super) server: FakeAuthServer,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    keys: u32,
    /// How long new keys last.
    keys_last: Duration,
    /// The ends of the keys that were given out, in Unix seconds.
    ends: Vec<u64>,
    /// Keys up to this number are no longer accepted.
    ended: u32,
    tokens: u32,
    refusal: Option<(u16, &'static str)>,
}

impl Aws {
    /// Starts it on the tokio runtime in which this is called.
    ///
    /// # Errors
    /// No port is available.
    pub async fn start() -> io::Result<Self> {
        let state =
            State { keys: 0, keys_last: KEYS_LAST, ends: Vec::new(), ended: 0, tokens: 0, refusal: None };
        let state = Arc::new(Mutex::new(state));
        let server = FakeAuthServer::answering({
            let state = Arc::clone(&state);
            move |asked| lock(&state).answer(asked)
        });
        Ok(Self { server: server.await?, state })
    }

    /// Where a container's agent is.
    pub fn container_url(&self) -> String {
        format!("{}/v1/credentials", self.server.base_url())
    }

    /// Keys that are given out from now on last for this time. Default 6 h.
    pub fn keys_last(&self, time: Duration) -> &Self {
        lock(&self.state).keys_last = time;
        self
    }

    /// The keys that were given out so far are no longer accepted (`ExpiredToken`).
    pub fn end_keys(&self) -> &Self {
        let mut state = lock(&self.state);
        state.ended = state.keys;
        self
    }

    /// The token service refuses the next signed request with this status and this code, such as
    /// `OutboundWebIdentityFederationDisabled`.
    pub fn refuse(&self, status: u16, code: &'static str) -> &Self {
        lock(&self.state).refusal = Some((status, code));
        self
    }
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Reply {
        let (path, _) = target(asked);
        let method = asked.head.split_ascii_whitespace().next().unwrap_or_default();
        match (method, path) {
            ("PUT", "/latest/api/token") => session(asked),
            ("GET", path) if path.starts_with("/latest/") => self.instance(asked, path),
            ("GET", "/v1/credentials") if asked.header("authorization") == Some("agent-token") => {
                self.credentials()
            }
            ("GET", "/v1/credentials") => Reply::text(401, "text/plain", "no authorization"),
            ("POST", "/") => {
                let now = SystemClock.now().wall;
                as_asked(asked, self.service(asked)).with_header("Date", httpdate::fmt_http_date(now))
            }
            _ => Reply::text(404, "text/plain", "not found"),
        }
    }

    fn instance(&mut self, asked: &Asked, path: &str) -> Reply {
        if asked.header("x-aws-ec2-metadata-token") != Some(SESSION) {
            return Reply::text(401, "text/html", "Unauthorized");
        }
        match path {
            "/latest/meta-data/placement/region" => Reply::text(200, "text/plain", "eu-test-1"),
            CREDENTIALS => Reply::text(200, "text/plain", ROLE),
            path if path.strip_prefix(CREDENTIALS) == Some(ROLE) => self.credentials(),
            _ => Reply::text(404, "text/html", "Not Found"),
        }
    }

    /// The end of new keys.
    fn new_keys(&mut self) -> String {
        self.keys += 1;
        self.ends.push(unix_in(self.keys_last));
        end(self.keys_last)
    }

    fn credentials(&mut self) -> Reply {
        let end = self.new_keys();
        let keys = json!({
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": format!("AKID{}", self.keys),
            "SecretAccessKey": SECRET,
            "Token": format!("session-{}", self.keys),
            "Expiration": end,
        });
        Reply::json(200, keys.to_string())
    }

    fn service(&mut self, asked: &Asked) -> Reply {
        let form: Vec<(String, String)> =
            form_urlencoded::parse(asked.body.as_bytes()).into_owned().collect();
        let value = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
        if value("Version") != "2011-06-15" {
            return error(400, "InvalidAction", "no such version");
        }
        match value("Action") {
            "AssumeRoleWithWebIdentity" => match (value("RoleArn"), value("WebIdentityToken")) {
                _ if value("RoleSessionName").len() < 2 => error(400, "ValidationError", "RoleSessionName"),
                ("arn:aws:iam::123456789012:role/app", "pod-token") => self.assumed(),
                (_, "pod-token") => {
                    error(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
                }
                (_, token) => error(400, "InvalidIdentityToken", &format!("{token} is not valid")),
            },
            "GetWebIdentityToken" => match self.signed(asked) {
                Ok(end) => self.token(&form, end),
                Err(refusal) => refusal,
            },
            _ => error(400, "InvalidAction", "no such action"),
        }
    }

    fn assumed(&mut self) -> Reply {
        let end = self.new_keys();
        let number = self.keys;
        let body = format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n\
             <AssumeRoleWithWebIdentityResult><Credentials><SessionToken>session-{number}</SessionToken>\
             <SecretAccessKey>{SECRET}</SecretAccessKey><Expiration>{end}</Expiration>\
             <AccessKeyId>AKID{number}</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>\n\
             </AssumeRoleWithWebIdentityResponse>"
        );
        Reply::text(200, "text/xml", body)
    }

    /// A token, requested with keys that end at `keys_end`.
    fn token(&mut self, form: &[(String, String)], keys_end: u64) -> Reply {
        let value = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
        let is_audience = |(name, value): &&(String, String)| {
            name.starts_with("Audience.member.") && (1..=1000).contains(&value.len())
        };
        let life = value("DurationSeconds").parse::<u64>().unwrap_or(300);
        if !(1..=10).contains(&form.iter().filter(is_audience).count())
            || !matches!(value("SigningAlgorithm"), "RS256" | "ES384")
            || !(60..=3600).contains(&life)
        {
            return error(400, "ValidationError", "1 validation error detected");
        }
        if unix_in(Duration::from_secs(life)) > keys_end {
            return error(403, "SessionDurationEscalation", "the token would outlive the session");
        }
        self.tokens += 1;
        let (number, end) = (self.tokens, end(Duration::from_secs(life)));
        let body = format!(
            "<GetWebIdentityTokenResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n\
             <GetWebIdentityTokenResult><WebIdentityToken>aws-{number}</WebIdentityToken>\
             <Expiration>{end}</Expiration></GetWebIdentityTokenResult>\n</GetWebIdentityTokenResponse>"
        );
        Reply::text(200, "text/xml", body)
    }

    /// The end of the signing keys, in Unix seconds; or the reason why the signature is not accepted.
    fn signed(&mut self, asked: &Asked) -> Result<u64, Reply> {
        if let Some((status, code)) = self.refusal.take() {
            return Err(error(status, code, "the test says so"));
        }
        let incomplete = || Err(error(400, "IncompleteSignature", "a part of the signature is missing"));
        let Some(parts) = asked.header("authorization").and_then(|value| value.strip_prefix(ALGORITHM))
        else {
            return Err(error(403, "MissingAuthenticationToken", "Request is missing Authentication Token"));
        };
        let part = |name: &str| parts.split(',').find_map(|part| part.trim().strip_prefix(name));
        let (Some(credential), Some(names), Some(signature)) =
            (part("Credential="), part("SignedHeaders="), part("Signature="))
        else {
            return incomplete();
        };
        let (Some((id, scope)), Some(date)) = (credential.split_once('/'), asked.header("x-amz-date")) else {
            return incomplete();
        };
        let Some(number) = id.strip_prefix("AKID").and_then(|number| number.parse::<u32>().ok()) else {
            return Err(error(
                403,
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            ));
        };
        let at = number.checked_sub(1).and_then(|at| usize::try_from(at).ok());
        let is_session = asked.header("x-amz-security-token") == Some(&*format!("session-{number}"));
        let Some(end) = at.and_then(|at| self.ends.get(at).copied()).filter(|_| is_session) else {
            return Err(error(
                403,
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            ));
        };
        if number <= self.ended || end <= unix_in(Duration::ZERO) {
            return Err(error(403, "ExpiredToken", "The security token included in the request is expired"));
        }
        let sent = seconds(date);
        if sent.is_none_or(|sent| sent.abs_diff(unix_in(Duration::ZERO)) > SKEW) {
            return Err(error(403, "SignatureDoesNotMatch", "Signature expired"));
        }
        let headers: Option<Vec<_>> =
            names.split(';').map(|name| asked.header(name).map(|value| (name, value))).collect();
        let required = ["host", "x-amz-date", "x-amz-security-token"];
        let is_signed = |name: &&str| names.split(';').any(|signed| signed == *name);
        let Some(headers) = headers.filter(|_| required.iter().all(is_signed)) else { return incomplete() };
        let (path, _) = target(asked);
        let body = asked.body.as_bytes();
        let signed = Signed { path, headers: &headers, body, date, region: "eu-test-1", service: "sts" };
        if scope != signed.scope() || signature != signed.signature(SECRET) {
            let what = "The request signature we calculated does not match the signature you provided.";
            return Err(error(403, "SignatureDoesNotMatch", what));
        }
        Ok(end)
    }
}

fn session(asked: &Asked) -> Reply {
    let lifetime =
        asked.header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|text| text.parse::<u32>().ok());
    match lifetime {
        _ if asked.header("x-forwarded-for").is_some() => Reply::text(403, "text/html", "Forbidden"),
        Some(1..=21_600) => Reply::text(200, "text/plain", SESSION),
        _ => Reply::text(400, "text/html", "Bad Request"),
    }
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    let kind = if status >= 500 { "Receiver" } else { "Sender" };
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>{kind}</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    );
    Reply::text(status, "text/xml", body)
}

/// The token service speaks JSON to whoever accepts it.
fn as_asked(asked: &Asked, reply: Reply) -> Reply {
    let Reply::Http { status, headers, body } = reply else { return reply };
    if !asked.header("accept").is_some_and(|accept| accept.contains("json")) {
        return Reply::Http { status, headers, body };
    }
    let text = String::from_utf8_lossy(&body);
    let names = ["Code", "Message", "AccessKeyId", "SecretAccessKey", "SessionToken", "WebIdentityToken"];
    let values = names.iter().filter_map(|name| Some(((*name).to_owned(), element(&text, name)?.into())));
    let values: serde_json::Map<String, serde_json::Value> = values.collect();
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    Reply::Http { status, headers, body: json!({ "Response": values }).to_string().into_bytes() }
}

/// In AWS' format.
fn end(time: Duration) -> String {
    let end = jiff::Timestamp::from_second(i64::try_from(unix_in(time)).unwrap_or(i64::MAX));
    end.unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A date without separators, in Unix seconds.
fn seconds(date: &str) -> Option<u64> {
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(time.timestamp().as_second()).ok()
}
