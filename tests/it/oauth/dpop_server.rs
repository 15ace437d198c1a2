//! A token endpoint that accepts only valid proofs (RFC 9449 section 4.3), each once, with a nonce that changes on
//! demand. It shares no code with the library: signatures are verified by aws-lc.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokenflight::clock::{Clock as _, SystemClock};

use super::loopback::{Loopback, Question, Reply};
use super::*;

#[derive(Clone, Debug)]
pub(super) struct State {
    /// `None`: no nonce is wanted.
    pub(super) nonce: Option<u32>,
    /// Whether each answer brings a nonce that is not good any more.
    pub(super) moves_on: bool,
    /// The status of an answer that wants a nonce.
    pub(super) status: u16,
    pub(super) token_type: Option<&'static str>,
    /// By how many seconds its clock is ahead.
    pub(super) ahead: i64,
    pub(super) requests: usize,
    pub(super) tokens: usize,
    pub(super) refusals: Vec<String>,
    pub(super) used: HashSet<String>,
    /// The refresh tokens that came.
    pub(super) spent: Vec<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            nonce: None,
            moves_on: false,
            status: 400,
            token_type: Some("DPoP"),
            ahead: 0,
            requests: 0,
            tokens: 0,
            refusals: Vec::new(),
            used: HashSet::new(),
            spent: Vec::new(),
        }
    }
}

pub(super) struct DpopServer {
    pub(super) loopback: Loopback,
    state: Arc<Mutex<State>>,
}

impl DpopServer {
    pub(super) fn start(state: State) -> Self {
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let loopback = Loopback::start(move |origin, question| {
            shared.lock().unwrap().answer(&format!("{origin}/token"), question)
        });
        Self { loopback, state }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn client(&self) -> ClientBuilder {
        Client::builder(self.loopback.token_url(), "app")
    }
}

impl State {
    fn answer(&mut self, url: &str, question: &Question) -> Reply {
        self.requests += 1;
        let now = unix_now().saturating_add_signed(self.ahead);
        let date = std::time::SystemTime::UNIX_EPOCH + secs(now);
        let reply = match self.judge(url, question, now) {
            Ok(()) => self.token(question),
            Err((code, text)) => {
                self.refusals.push(format!("{code}: {text}"));
                let status = if code == "use_dpop_nonce" { self.status } else { 400 };
                Reply::json(status, json!({ "error": code, "error_description": text }))
            }
        };
        let reply = reply.with_header("date", httpdate::fmt_http_date(date));
        let Some(nonce) = self.nonce else { return reply };
        if self.moves_on {
            self.nonce = Some(nonce + 1);
        }
        reply.with_header("dpop-nonce", format!("nonce-{nonce}"))
    }

    fn judge(&mut self, url: &str, question: &Question, now: u64) -> Result<(), (&'static str, String)> {
        let bad = |text: &str| Err(("invalid_dpop_proof", text.to_owned()));
        let Some((header, claims)) = question.header("dpop").and_then(verified) else {
            return bad("no proof with a good signature");
        };
        if header["typ"] != "dpop+jwt" || claims["htm"] != "POST" || claims["htu"] != url {
            return bad("typ, htm or htu");
        }
        if !claims["ath"].is_null() {
            return bad("ath at the token endpoint");
        }
        if claims["iat"].as_u64().is_none_or(|iat| iat.abs_diff(now) > 5) {
            return bad("iat");
        }
        if !self.used.insert(claims["jti"].to_string()) {
            return bad("the jti was used before");
        }
        if let Some(assertion) = question.field("client_assertion")
            && !self.used.insert(assertion.to_owned())
        {
            return Err(("invalid_client", "the assertion was used before".to_owned()));
        }
        if let Some(nonce) = self.nonce
            && claims["nonce"] != format!("nonce-{nonce}")
        {
            return Err(("use_dpop_nonce", format!("the nonce is {}", claims["nonce"])));
        }
        Ok(())
    }

    fn token(&mut self, question: &Question) -> Reply {
        self.spent.extend(question.field("refresh_token").map(Into::into));
        self.tokens += 1;
        let mut body = json!({ "access_token": format!("token-{}", self.tokens), "expires_in": 600 });
        if let Some(kind) = self.token_type {
            body["token_type"] = kind.into();
        }
        if !self.spent.is_empty() {
            body["refresh_token"] = format!("refresh-{}", self.spent.len() + 1).into();
        }
        Reply::json(200, body)
    }
}

pub(super) fn unix_now() -> u64 {
    SystemClock.now().wall.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Header and claims of a proof by ES256.
pub(super) fn verified(proof: &str) -> Option<(Value, Value)> {
    let (signed, signature) = proof.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    let (header, claims) = (read(header)?, read(claims)?);
    let number = |name: &str| URL_SAFE_NO_PAD.decode(header["jwk"][name].as_str()?).ok();
    let point = [vec![4], number("x")?, number("y")?].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    (header["jwk"]["d"].is_null() && header["alg"] == "ES256").then_some((header, claims))
}

/// The thumbprint of the key of a proof (RFC 7638).
pub(super) fn thumbprint(header: &Value) -> String {
    let part = |name: &str| header["jwk"][name].as_str().unwrap_or_default().to_owned();
    let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, part("x"), part("y"));
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}
