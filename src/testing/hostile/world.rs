//! The state of the servers of a scenario, and what they have seen.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::time::Instant;

use super::super::reply::{Asked, Reply};
use super::after;
use super::proof::{Flaw, Ids, Target};
use super::protocol::{Auth, Configure, Grant};
use super::scenario::{Revoked, Scenario, Step, Switch};
use super::seen::{Bound, Count};
use super::setting::{ApiSide, ClientSide, Nonce, Scripted, TokenSide};
use crate::oauth::PrivateKey;

pub(super) const CLIENT_ID: &str = "hostile-client";

/// The whole state, behind one lock.
pub(super) struct World {
    pub(super) client: ClientSide,
    pub(super) token: TokenSide,
    pub(super) api: ApiSide,
    bounds: BTreeMap<Count, Bound>,
    pub(super) origins: Origins,
    key: ClientKey,
    seen: BTreeMap<Count, u64>,
    /// Requests, and how many of them were carried out, by path.
    pub(super) by_call: HashMap<String, (u64, u64)>,
    pub(super) access: HashMap<String, Issued>,
    pub(super) refresh: HashMap<String, Spent>,
    pub(super) ids: Ids,
    pub(super) token_nonce: u64,
    pub(super) api_nonce: u64,
    pub(super) is_down: bool,
    /// When a `Retry-After` ends.
    pub(super) not_before: Option<Instant>,
    pub(super) dice: fastrand::Rng,
    /// Texts that must be sent to no other host.
    pub(super) secrets: Vec<String>,
}

/// The addresses of the servers, without a slash at the end.
#[derive(Default)]
pub(super) struct Origins {
    pub(super) auth: String,
    pub(super) api: String,
    pub(super) elsewhere: String,
}

/// The client's key: the private part for the client, the public one for the server.
struct ClientKey {
    pem: String,
    jwk: Value,
}

/// An access token.
pub(super) struct Issued {
    pub(super) until: Option<Instant>,
    /// The key to which it is bound.
    pub(super) bound_to: Option<String>,
    pub(super) is_revoked: bool,
}

/// A refresh token.
#[derive(Default)]
pub(super) struct Spent {
    pub(super) times: u64,
    pub(super) is_revoked: bool,
}

impl World {
    pub(super) fn new(scenario: &Scenario) -> io::Result<Self> {
        let seed = scenario.api.random.map_or(0, |random| random.seed);
        let mut world = Self {
            client: scenario.client.clone(),
            token: scenario.token.clone(),
            api: scenario.api.clone(),
            bounds: scenario.seen.clone(),
            origins: Origins::default(),
            key: ClientKey::new().ok_or_else(|| io::Error::other("the system has no random bytes"))?,
            seen: BTreeMap::new(),
            by_call: HashMap::new(),
            access: HashMap::new(),
            refresh: HashMap::new(),
            ids: Ids::default(),
            token_nonce: 1,
            api_nonce: 1,
            is_down: false,
            not_before: None,
            dice: fastrand::Rng::with_seed(seed),
            secrets: vec![scenario.client.secret.clone()],
        };
        world.secrets.extend(world.key.secret_lines());
        if world.client.grant == Grant::RefreshToken {
            world.new_refresh_token();
        }
        Ok(world)
    }

    /// The servers are reachable from now on.
    pub(super) fn open(&mut self, auth: String, api: String, elsewhere: String) {
        self.origins = Origins { auth, api, elsewhere };
    }

    pub(super) fn configure(&self) -> Configure {
        let is_basic = self.client.auth == Auth::ClientSecretBasic;
        let refresh_token = self.refresh.keys().next().cloned();
        Configure {
            issuer: self.origins.auth.clone(),
            token_endpoint: self.token_endpoint(),
            client_id: CLIENT_ID.to_owned(),
            auth: self.client.auth,
            client_secret: is_basic.then(|| self.client.secret.clone()),
            private_key: (!is_basic).then(|| self.key.pem.clone()),
            grant: self.client.grant,
            refresh_token,
            dpop: self.client.dpop,
            api: self.origins.api.clone(),
            timeout_ms: crate::duration::millis(self.client.timeout),
        }
    }

    pub(super) fn token_endpoint(&self) -> String {
        format!("{}/token", self.origins.auth)
    }

    pub(super) fn public_key(&self) -> &Value {
        &self.key.jwk
    }

    pub(super) fn bounds(&self) -> &BTreeMap<Count, Bound> {
        &self.bounds
    }

    pub(super) fn seen(&self) -> BTreeMap<Count, u64> {
        let mut seen = self.seen.clone();
        let most = |of: fn(&(u64, u64)) -> u64| self.by_call.values().map(of).max().unwrap_or_default();
        let uses = self.refresh.values().map(|spent| spent.times).max().unwrap_or_default();
        seen.insert(Count::RequestsOfOneCall, most(|(requests, _)| *requests));
        seen.insert(Count::AppliedOfOneCall, most(|(_, applied)| *applied));
        seen.insert(Count::UsesOfOneRefreshToken, uses);
        seen
    }

    pub(super) fn add(&mut self, count: Count) {
        *self.seen.entry(count).or_default() += 1;
    }

    pub(super) fn act(&mut self, step: &Step) {
        match step {
            Step::Call(_) | Step::Pause(_) => {}
            Step::Revoke(what) => {
                self.access.values_mut().for_each(|issued| issued.is_revoked = true);
                if *what == Revoked::Family {
                    self.revoke_family();
                }
            }
            Step::AuthServer(switch) => self.is_down = *switch == Switch::Down,
        }
    }

    pub(super) fn revoke_family(&mut self) {
        self.refresh.values_mut().for_each(|spent| spent.is_revoked = true);
        self.access.values_mut().for_each(|issued| issued.is_revoked = true);
    }

    pub(super) fn new_refresh_token(&mut self) -> String {
        let token = self.new_secret("refresh");
        self.refresh.insert(token.clone(), Spent::default());
        token
    }

    /// A name that cannot be guessed, and that is part of no other text.
    pub(super) fn new_secret(&mut self, kind: &str) -> String {
        let letters: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
        let secret = format!("{kind}-{}-{letters}", self.secrets.len());
        self.secrets.push(secret.clone());
        secret
    }

    /// Whether a secret is in the text: in clear, form-encoded, in Basic credentials, or in a string of JSON.
    pub(super) fn shows_a_secret(&self, text: &str) -> bool {
        let credentials = text.split_ascii_whitespace().filter_map(|word| STANDARD.decode(word).ok());
        let credentials = credentials.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let mut readings: Vec<_> = std::iter::once(text.to_owned()).chain(credentials).collect();
        if let Ok(document) = serde_json::from_str(text) {
            add_strings(&document, &mut readings);
        }
        readings.into_iter().flat_map(|text| [decoded(&text), text]).any(|text| {
            // An empty secret would be in each text.
            self.secrets.iter().any(|secret| !secret.is_empty() && shows(&text, secret))
        })
    }

    /// Checks a proof, and counts its fault.
    pub(super) fn proof(&mut self, asked: &Asked, target: &Target<'_>) -> Result<super::proof::Proof, ()> {
        super::proof::proof(asked.header("dpop"), target, &mut self.ids).map_err(|flaw| {
            self.add(if flaw == Flaw::Repeated { Count::RepeatedJti } else { Count::FlawedProofs });
        })
    }

    /// A scripted HTTP answer.
    pub(super) fn scripted(&mut self, answer: &Scripted, status: u16) -> Reply {
        let filled = |text: &str| {
            let text = text.replace("{elsewhere}", &self.origins.elsewhere);
            text.replace("{secret}", &self.client.secret)
        };
        let kind = if answer.body.starts_with('<') { "text/html" } else { "application/json" };
        let mut reply = Reply::text(status, kind, filled(&answer.body));
        for (name, value) in &answer.headers {
            reply = reply.with_header(name, filled(value));
        }
        reply
    }

    /// Records the time in a `Retry-After` in seconds. A tenth of a second less is no fault.
    pub(super) fn note_retry_after(&mut self, answer: &Scripted) {
        let value = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
        let seconds: Option<u64> = value.and_then(|(_, value)| value.parse().ok());
        let wait =
            seconds.map(|seconds| Duration::from_secs(seconds).saturating_sub(Duration::from_millis(100)));
        self.not_before = wait.map(|wait| after(Instant::now(), wait)).or(self.not_before);
    }
}

/// Whether the nonce is the required one.
pub(super) fn is_nonce(kind: Nonce, number: u64, nonce: Option<&str>) -> bool {
    kind == Nonce::Never || nonce == Some(&*nonce_text(number))
}

pub(super) fn nonce_text(number: u64) -> String {
    format!("nonce-{number}")
}

/// A form's value, decoded.
pub(super) fn decoded(text: &str) -> String {
    // The separators of a form's fields are left as they are.
    let parts = text.split('&').map(|part| {
        let whole = format!("={part}");
        form_urlencoded::parse(whole.as_bytes()).map(|(_, value)| value.into_owned()).collect::<String>()
    });
    parts.collect::<Vec<_>>().join("&")
}

/// Whether the secret is in the text, as it is or as in a quoted string of JSON.
fn shows(text: &str, secret: &str) -> bool {
    let quoted = Value::from(secret).to_string();
    let inside = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    text.contains(secret) || inside.is_some_and(|inside| text.contains(inside))
}

/// The strings in a document, and the names of its fields.
fn add_strings(document: &Value, strings: &mut Vec<String>) {
    match document {
        Value::String(text) => strings.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| add_strings(value, strings)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            strings.push(name.clone());
            add_strings(value, strings);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl ClientKey {
    /// The lines of the PEM that contain the private key. The last line has only a part of the public key.
    fn secret_lines(&self) -> Vec<String> {
        self.pem.lines().filter(|line| !line.starts_with("-----")).take(2).map(str::to_owned).collect()
    }

    fn new() -> Option<Self> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).ok()?;
        let text = STANDARD.encode(document.as_ref());
        // RFC 7468 section 2: 64 characters a line. Some clients require this.
        let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
        for (at, character) in text.char_indices() {
            if at > 0 && at % 64 == 0 {
                pem.push('\n');
            }
            pem.push(character);
        }
        pem.push_str("\n-----END PRIVATE KEY-----\n");
        let jwk = PrivateKey::from_pem(&pem).ok()?.public_jwk();
        Some(Self { pem, jwk })
    }
}
