//! A token endpoint that accepts only what its kind of server documents. It shares no code with the library: keys
//! come from `openssl`, and signatures are verified by aws-lc with the key as `openssl` writes it.

use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokenflight::clock::{Clock as _, SystemClock};

use super::loopback::{Loopback, Question, Reply};
use super::*;

/// A key pair with its certificate.
pub(super) struct Pair {
    /// The private key, and then the certificate.
    pub(super) pem: String,
    /// The public key, as `SubjectPublicKeyInfo`.
    public: Vec<u8>,
    /// The `x5t#S256` of the certificate.
    hash: String,
}

/// The DER of a section of a PEM text.
#[track_caller]
fn der(pem: &str, label: &str) -> Vec<u8> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let (_, rest) = pem.split_once(&begin).expect("such a section");
    let (body, _) = rest.split_once(&end).expect("the end of it");
    STANDARD.decode(body.split_whitespace().collect::<String>()).unwrap()
}

#[track_caller]
fn openssl(arguments: &[&str], input: &str) -> String {
    use std::io::Write as _;
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("openssl runs");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl Pair {
    #[track_caller]
    fn make(kind: &[&str]) -> Self {
        let common =
            ["req", "-x509", "-noenc", "-days", "2", "-subj", "/CN=strict", "-keyout", "-", "-newkey"];
        let pem = openssl(&[&common[..], kind].concat(), "");
        let public = der(&openssl(&["pkey", "-pubout"], &pem), "PUBLIC KEY");
        let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, &der(&pem, "CERTIFICATE")));
        Self { pem, public, hash }
    }

    pub(super) fn rsa() -> Self {
        Self::make(&["rsa:2048"])
    }

    pub(super) fn p256() -> Self {
        Self::make(&["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
    }

    pub(super) fn key(&self) -> PrivateKey {
        PrivateKey::from_pem(&self.pem).unwrap()
    }

    /// Whether it is the key of a JWT with ES256.
    pub(super) fn has_signed(&self, jwt: &str) -> bool {
        let Some((signed, signature)) = jwt.rsplit_once('.') else { return false };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.public);
        key.verify(signed.as_bytes(), &signature).is_ok()
    }
}

/// What the server asks of an assertion.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Below the server's origin.
    pub(super) audience: &'static str,
    /// In seconds.
    pub(super) longest: u64,
    pub(super) typ: &'static str,
    pub(super) alg: &'static str,
    pub(super) wants_certificate: bool,
    /// Below the server's origin.
    pub(super) issuer: &'static str,
    pub(super) grant: &'static str,
    /// In which field of the form the assertion stands.
    pub(super) field: &'static str,
    /// How far the server's clock is ahead of the true time, in seconds.
    pub(super) ahead: i64,
}

pub(super) const ID: &str = "strict-client";

/// What the server has seen.
#[derive(Default)]
pub(super) struct Seen {
    used: HashSet<String>,
    pub(super) requests: usize,
    /// The requests that were answered 503.
    pub(super) unavailable: usize,
    pub(super) tokens: usize,
    pub(super) refusals: Vec<String>,
    /// The last assertion that was good.
    pub(super) last: String,
}

pub(super) struct StrictServer {
    loopback: Loopback,
    seen: Arc<Mutex<Seen>>,
    rules: Rules,
}

impl StrictServer {
    /// A server that knows the client by this key.
    pub(super) fn start(rules: Rules, pair: &Pair) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let checker = Checker { rules, public: pair.public.clone(), hash: pair.hash.clone() };
        let loopback = Loopback::start({
            let seen = Arc::clone(&seen);
            move |origin, question| checker.answer(origin, question, &mut lock(&seen))
        });
        Self { loopback, seen, rules }
    }

    pub(super) fn token_url(&self) -> String {
        self.loopback.token_url()
    }

    pub(super) fn issuer(&self) -> String {
        self.loopback.origin() + self.rules.issuer
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

struct Checker {
    rules: Rules,
    public: Vec<u8>,
    hash: String,
}

impl Checker {
    fn now(&self) -> SystemTime {
        let (now, by) = (SystemClock.now().wall, Duration::from_secs(self.rules.ahead.unsigned_abs()));
        if self.rules.ahead < 0 { now - by } else { now + by }
    }

    fn answer(&self, origin: &str, question: &Question, seen: &mut Seen) -> Reply {
        let reply = if question.path == "/token" {
            self.token(origin, question, seen)
        } else if question.path == format!("{}/.well-known/openid-configuration", self.rules.issuer) {
            let (issuer, endpoint) = (format!("{origin}{}", self.rules.issuer), format!("{origin}/token"));
            Reply::json(200, json!({ "issuer": issuer, "token_endpoint": endpoint }))
        } else {
            Reply::json(404, json!({}))
        };
        reply.with_header("date", httpdate::fmt_http_date(self.now()))
    }

    /// Each third request fails after the server has remembered the `jti`.
    fn token(&self, origin: &str, question: &Question, seen: &mut Seen) -> Reply {
        seen.requests += 1;
        if let Err(what) = self.check(origin, question, seen) {
            let code = if self.rules.field == "assertion" { "invalid_grant" } else { "invalid_client" };
            let reply = Reply::json(401, json!({ "error": code, "error_description": &what }));
            seen.refusals.push(what);
            return reply;
        }
        if seen.requests.is_multiple_of(3) {
            seen.unavailable += 1;
            return Reply::json(503, json!({}));
        }
        seen.tokens += 1;
        let token = format!("token-{}", seen.tokens);
        Reply::json(200, json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 }))
    }

    fn check(&self, origin: &str, question: &Question, seen: &mut Seen) -> Result<(), String> {
        let field = |name: &str| question.field(name).ok_or(format!("no {name}"));
        let is = |what: &str, found: &Value, wanted: &str| match found.as_str() {
            Some(found) if found == wanted => Ok(()),
            _ => Err(format!("{what} is {found}, not {wanted}")),
        };
        is("grant_type", &field("grant_type")?.into(), self.rules.grant)?;
        is("client_id", &field("client_id")?.into(), ID)?;
        if question.header("authorization").is_some() || question.field("client_secret").is_some() {
            return Err("there are two proofs".to_owned());
        }
        if self.rules.field == "client_assertion" {
            let bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            is("client_assertion_type", &field("client_assertion_type")?.into(), bearer)?;
        }
        let jwt = field(self.rules.field)?;
        let (header, claims) = self.verified(jwt)?;
        is("alg", &header["alg"], self.rules.alg)?;
        is("typ", &header["typ"], self.rules.typ)?;
        if self.rules.wants_certificate {
            is("x5t#S256", &header["x5t#S256"], &self.hash)?;
        }
        is("iss", &claims["iss"], ID)?;
        is("sub", &claims["sub"], ID)?;
        is("aud", &claims["aud"], &format!("{origin}{}", self.rules.audience))?;
        self.check_times(&claims)?;
        match claims["jti"].as_str() {
            Some(id) if (1..=64).contains(&id.len()) => {
                if !seen.used.insert(id.to_owned()) {
                    return Err(format!("the jti {id} comes again"));
                }
            }
            _ => return Err("there is no jti of 1 to 64 characters".to_owned()),
        }
        jwt.clone_into(&mut seen.last);
        Ok(())
    }

    /// A second is allowed for, since the claims are whole seconds.
    fn check_times(&self, claims: &Value) -> Result<(), String> {
        let now = self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let (Some(iat), Some(exp)) = (claims["iat"].as_u64(), claims["exp"].as_u64()) else {
            return Err("there is no iat or no exp".to_owned());
        };
        if iat > now + 1 || iat + 30 < now {
            return Err(format!("iat is {iat}, and now is {now}"));
        }
        if exp <= now || exp > iat + self.rules.longest {
            return Err(format!("exp is {exp}, iat is {iat}, and now is {now}"));
        }
        match claims.get("nbf") {
            Some(nbf) if nbf.as_u64().is_none_or(|nbf| nbf > now + 1) => Err(format!("nbf is {nbf}")),
            _ => Ok(()),
        }
    }

    fn verified(&self, jwt: &str) -> Result<(Value, Value), String> {
        let parts: Vec<&str> = jwt.split('.').collect();
        let [header, claims, signature] = parts[..] else { return Err("this is no JWT".to_owned()) };
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|error| error.to_string());
        let json = |part| serde_json::from_slice::<Value>(&bytes(part)?).map_err(|error| error.to_string());
        // By the rules, never by what the header says.
        let algorithm: &'static dyn VerificationAlgorithm = match self.rules.alg {
            "PS256" => &RSA_PSS_2048_8192_SHA256,
            "RS256" => &RSA_PKCS1_2048_8192_SHA256,
            _ => &ECDSA_P256_SHA256_FIXED,
        };
        let signed = format!("{header}.{claims}");
        UnparsedPublicKey::new(algorithm, &self.public)
            .verify(signed.as_bytes(), &bytes(signature)?)
            .map_err(|_| "the signature is not good".to_owned())?;
        Ok((json(header)?, json(claims)?))
    }
}
