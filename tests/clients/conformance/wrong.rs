//! Clients with one fault each, which a scenario must find.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokenflight::clock::{Clock, SystemClock};
use tokenflight::testing::hostile::protocol::{Auth, Configure, Done, FromClient, Grant, Request, ToClient};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Whoever has no token asks for one, whoever else does.
    NoSharing,
    /// A token for each call.
    NoCache,
    /// A token is good for ever.
    Keeps,
    /// The first refresh token is the only one.
    KeepsRefreshToken,
    /// A request with a refresh token is repeated if its answer was lost.
    RepeatsRefresh,
    /// Ten attempts without a pause, whatever the answer.
    Hammers,
    /// One attempt.
    NoRetry,
    /// Each 401 costs a refresh.
    ReplacesEach,
    NoReplay,
    /// Once more, whatever came of the first.
    ReplaysTwice,
    /// Until it succeeds, nearly.
    ReplaysForever,
    ReplaysRefusals,
    ResendsLost,
    /// Reads one challenge, as it is usually written.
    OneChallenge,
    /// Follows redirects with all that it has.
    Follows,
    /// A lifetime is an integer.
    IntegersOnly,
    /// No lifetime, or 0, is the end.
    NeedsLifetime,
    /// A token type is written as in the standard.
    CaseMatters,
    AnyType,
    NeedsCacheControl,
    NoLimit,
    NoTimeout,
    /// Its errors quote the server.
    Quotes,
    RawBasic,
    SameAssertion,
    NoNonce,
    /// A nonce is taken only from a refusal.
    NonceFromRefusals,
    NonceForever,
    SameJti,
    NoAth,
    QueryInHtu,
}

/// The scenario, the client that fails it, and how the sentence begins by which it fails.
pub(super) const FAULTS: &[(&str, Fault, &str)] = &[
    ("fifty calls at once ask for one token", Fault::NoSharing, "token_requests: 50"),
    ("a token is used until it ends", Fault::NoCache, "token_requests: 20"),
    ("an expired token is replaced once, and is not shown", Fault::Keeps, "expired_token_shown"),
    ("tokens that end in the middle of a series cost one request each", Fault::Keeps, "expired_token_shown"),
    ("a usable token is served while the auth server is down", Fault::NoCache, "calls_failed: 70"),
    ("fifty calls at once use a refresh token once", Fault::NoSharing, "uses_of_one_refresh_token"),
    ("each rotated refresh token is used once", Fault::KeepsRefreshToken, "uses_of_one_refresh_token"),
    ("a revoked family is an error, and no storm", Fault::Hammers, "token_requests"),
    (
        "a refresh token whose answer was lost is not used again",
        Fault::RepeatsRefresh,
        "uses_of_one_refresh_token",
    ),
    ("a rejected token under concurrency spends one refresh token", Fault::ReplacesEach, "token_requests"),
    ("invalid_token: a new token, once", Fault::NoReplay, "token_requests: 1"),
    ("a 401 with a bare challenge: a new token, once", Fault::NoReplay, "token_requests: 1"),
    ("a 401 without a challenge: a new token, once", Fault::NoReplay, "token_requests: 1"),
    ("fifty rejected calls at once cost one refresh", Fault::ReplacesEach, "token_requests"),
    ("a POST that met a 401 is applied once", Fault::ReplaysTwice, "applied_of_one_call: 2"),
    ("a POST whose answer was lost is not sent again", Fault::ResendsLost, "applied_of_one_call: 2"),
    ("insufficient_scope costs nothing", Fault::ReplaysRefusals, "token_requests"),
    ("a 403 without a challenge costs nothing", Fault::ReplaysRefusals, "token_requests"),
    (
        "insufficient_scope in the second challenge of a field costs nothing",
        Fault::ReplaysRefusals,
        "token_requests",
    ),
    (
        "an API that rejects everything costs a bounded number of tokens",
        Fault::ReplaysForever,
        "token_requests",
    ),
    ("401s at random are no failure of a call", Fault::NoReplay, "call "),
    ("two challenges in one field", Fault::OneChallenge, "token_requests: 1"),
    ("two challenges in two fields", Fault::OneChallenge, "token_requests: 1"),
    ("a challenge in odd case", Fault::OneChallenge, "token_requests: 1"),
    ("an API's redirect to another host takes no token there", Fault::Follows, "secrets_elsewhere: 2"),
    ("a token endpoint's redirect takes no secret to another host", Fault::Follows, "secrets_elsewhere"),
    (
        "a token endpoint's redirect takes no refresh token to another host",
        Fault::Follows,
        "secrets_elsewhere",
    ),
    ("expires_in as a string", Fault::IntegersOnly, "applied: 0"),
    ("expires_in with a fraction", Fault::IntegersOnly, "applied: 0"),
    ("expires_in left out", Fault::NeedsLifetime, "token_requests: 5"),
    ("expires_in of 0 is no storm", Fault::NeedsLifetime, "token_requests: 20"),
    ("a token type in lower case", Fault::CaseMatters, "applied: 0"),
    ("a token of an unknown type is not used", Fault::AnyType, "api_requests: 1"),
    ("a token answer without Cache-Control", Fault::NeedsCacheControl, "applied: 0"),
    ("HTML with status 200 is no token", Fault::Hammers, "token_requests"),
    ("a token answer of 4 MiB is not read to its end", Fault::NoLimit, "api_requests: 1"),
    (
        "a token answer that comes a byte at a time has a time limit",
        Fault::NoTimeout,
        "the time limit ended before call 1",
    ),
    ("a refusal is no storm, and all are told", Fault::Hammers, "token_requests"),
    ("a refusal that quotes the secret is not passed on", Fault::Quotes, "secrets_told: 1"),
    ("Retry-After of a 503 is honoured", Fault::Hammers, "early_token_requests"),
    ("Retry-After of a 429 is honoured", Fault::Hammers, "early_token_requests"),
    ("a lost token answer is asked for again", Fault::NoRetry, "token_requests: 1"),
    ("a connection that closes once does not fail a call", Fault::NoRetry, "token_requests: 1"),
    ("a secret with reserved characters", Fault::RawBasic, "wrong_credentials"),
    ("each assertion is a new one", Fault::SameAssertion, "repeated_jti"),
    ("an attempt after a lost answer has an assertion of its own", Fault::SameAssertion, "repeated_jti"),
    ("DPoP: a nonce at the token endpoint", Fault::NoNonce, "applied: 0"),
    ("DPoP: a nonce at the API", Fault::NoNonce, "api_requests"),
    ("DPoP: a nonce that changes with each answer of the API", Fault::NonceFromRefusals, "wrong_nonces"),
    ("DPoP: a nonce that changes with each token answer", Fault::NonceFromRefusals, "wrong_nonces"),
    (
        "DPoP: an API that never takes a nonce is not asked for ever",
        Fault::NonceForever,
        "requests_of_one_call",
    ),
    (
        "DPoP: a token endpoint that never takes a nonce is not asked for ever",
        Fault::NonceForever,
        "token_requests",
    ),
    ("DPoP: each request has a proof of its own", Fault::SameJti, "repeated_jti"),
    ("DPoP: a rejected token is replaced, and proved anew", Fault::NoReplay, "token_requests: 1"),
    ("DPoP: a proof names method, address and token", Fault::QueryInHtu, "flawed_proofs"),
    ("DPoP: an API's redirect to another host takes no token there", Fault::Follows, "secrets_elsewhere"),
];

/// Times that a client that does not stop tries.
const MANY: u32 = 10;

pub(super) async fn drive(fault: Fault, input: impl AsyncRead + Unpin, mut output: impl AsyncWrite + Unpin) {
    let (told, mut lines) = mpsc::unbounded_channel();
    let reading = async {
        let mut input = BufReader::new(input).lines();
        let mut client = None;
        while let Some(line) = input.next_line().await.unwrap() {
            match serde_json::from_str(&line).unwrap() {
                ToClient::Configure(configure) => {
                    client = Some(Arc::new(Wrong::new(fault, *configure)));
                    told.send(FromClient::Ready(true)).unwrap();
                }
                ToClient::Call(request) => {
                    let (client, told) = (client.clone().unwrap(), told.clone());
                    actix::spawn(async move {
                        let id = request.id;
                        let done = match client.call(request).await {
                            Ok(status) => Done { id, status: Some(status), error: None },
                            Err(error) => Done { id, status: None, error: Some(error) },
                        };
                        let _ = told.send(FromClient::Done(done));
                    });
                }
                _ => break,
            }
        }
    };
    let writing = async {
        while let Some(line) = lines.recv().await {
            let line = serde_json::to_string(&line).unwrap() + "\n";
            output.write_all(line.as_bytes()).await.unwrap();
        }
    };
    tokio::select! {
        () = reading => (),
        () = writing => (),
    }
}

struct Wrong {
    fault: Fault,
    configure: Configure,
    http: Client,
    key: EcdsaKeyPair,
    /// Who asks for a token holds it.
    gate: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<(String, Instant)>,
    refresh_token: Option<String>,
    assertion: Option<String>,
    token_nonce: Option<String>,
    api_nonce: Option<String>,
    ids: u64,
}

enum At<'a> {
    Token,
    Api(&'a str),
}

impl Wrong {
    fn new(fault: Fault, configure: Configure) -> Self {
        // One for all, since to make one takes 100 ms.
        static HTTP: OnceLock<Client> = OnceLock::new();
        let none = reqwest::redirect::Policy::none;
        let http = HTTP.get_or_init(|| Client::builder().redirect(none()).build().unwrap()).clone();
        let state = State { refresh_token: configure.refresh_token.clone(), ..State::default() };
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (gate, state) = (tokio::sync::Mutex::default(), Mutex::new(state));
        Self { fault, configure, http, key, gate, state }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// The token in hand, if it is good.
    fn held(&self) -> Option<String> {
        let state = self.state.lock().unwrap();
        let (token, end) = state.token.as_ref()?;
        let is_good = Instant::now() < *end || self.is(Fault::Keeps);
        (is_good && !self.is(Fault::NoCache)).then(|| token.clone())
    }

    async fn token(&self) -> Result<String, String> {
        if let Some(token) = self.held() {
            return Ok(token);
        }
        if self.is(Fault::NoSharing) {
            return self.fetch().await;
        }
        let _gate = self.gate.lock().await;
        match self.held() {
            Some(token) => Ok(token),
            None => self.fetch().await,
        }
    }

    async fn replace(&self, rejected: &str) -> Result<String, String> {
        let _gate = self.gate.lock().await;
        match self.held() {
            Some(token) if token != rejected && !self.is(Fault::ReplacesEach) => Ok(token),
            _ => self.fetch().await,
        }
    }

    async fn fetch(&self) -> Result<String, String> {
        let is_refresh = self.configure.grant == Grant::RefreshToken;
        let tries = match self.fault {
            Fault::Hammers => MANY,
            Fault::NoRetry => 1,
            Fault::RepeatsRefresh => 2,
            _ => 2 - u32::from(is_refresh),
        };
        let mut last = String::new();
        let mut nonces = 0;
        for _ in 0..tries {
            loop {
                match self.ask().await {
                    Ok(answer) if answer.error == "use_dpop_nonce" && self.goes_on(&mut nonces) => {}
                    Ok(answer) if answer.token.is_some() => return Ok(answer.token.unwrap()),
                    Ok(answer) if self.is(Fault::Hammers) => {
                        last = answer.error;
                        break;
                    }
                    Ok(answer) => return Err(answer.error),
                    Err(error) => {
                        last = error;
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    /// Whether a nonce is worth another request.
    fn goes_on(&self, before: &mut u32) -> bool {
        *before += 1;
        let most = if self.is(Fault::NonceForever) { MANY } else { 1 };
        *before <= most && !self.is(Fault::NoNonce)
    }

    async fn ask(&self) -> Result<Answer, String> {
        let refresh_token = self.state.lock().unwrap().refresh_token.clone();
        let mut form = match &refresh_token {
            Some(token) => vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", token.clone())],
            None => vec![("grant_type", "client_credentials".to_owned())],
        };
        let mut headers = Vec::new();
        if self.configure.auth == Auth::PrivateKeyJwt {
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned();
            form.push(("client_assertion_type", kind));
            form.push(("client_assertion", self.assertion()));
        } else {
            headers.push(("authorization", self.basic()));
        }
        if self.configure.dpop {
            let proof = self.proof("POST", &self.configure.token_endpoint, &At::Token);
            headers.push(("dpop", proof));
        }
        headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
        let body: Vec<_> = form.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let sending = async {
            let url = self.configure.token_endpoint.clone();
            let answer = self.send("POST", url, headers, Some(body.join("&"))).await?;
            self.read(answer).await
        };
        if self.is(Fault::NoTimeout) {
            return sending.await;
        }
        let patience = Duration::from_millis(self.configure.timeout_ms);
        tokio::time::timeout(patience, sending).await.unwrap_or_else(|_| Err("time-out".to_owned()))
    }

    async fn read(&self, answer: Response) -> Result<Answer, String> {
        let nonce = answer.headers().get("dpop-nonce").map(|value| value.to_str().unwrap().to_owned());
        let is_ok = answer.status().is_success();
        if nonce.is_some() && !(is_ok && self.is(Fault::NonceFromRefusals)) {
            self.state.lock().unwrap().token_nonce = nonce;
        }
        if answer.content_length() > Some(1 << 20) && !self.is(Fault::NoLimit) {
            return Err("too long".to_owned());
        }
        let has_cache_control = answer.headers().contains_key("cache-control");
        let text = answer.text().await.map_err(|error| error.to_string())?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let code = body["error"].as_str().unwrap_or("odd").to_owned();
        let error = if self.is(Fault::Quotes) { text } else { code };
        let kind = body["token_type"].as_str().unwrap_or_default();
        let is_known = self.is(Fault::AnyType)
            || ["Bearer", "DPoP"].iter().any(|known| match self.fault {
                Fault::CaseMatters => *known == kind,
                _ => known.eq_ignore_ascii_case(kind),
            });
        let lifetime = self.lifetime(&body["expires_in"]);
        let is_good = is_ok && is_known && (has_cache_control || !self.is(Fault::NeedsCacheControl));
        let (Some(token), Some(lifetime)) = (body["access_token"].as_str().filter(|_| is_good), lifetime)
        else {
            return Ok(Answer { token: None, error });
        };
        let mut state = self.state.lock().unwrap();
        state.token = Some((token.to_owned(), Instant::now() + lifetime));
        if let Some(next) = body["refresh_token"].as_str().filter(|_| !self.is(Fault::KeepsRefreshToken)) {
            state.refresh_token = Some(next.to_owned());
        }
        Ok(Answer { token: Some(token.to_owned()), error })
    }

    fn lifetime(&self, expires_in: &Value) -> Option<Duration> {
        if self.is(Fault::IntegersOnly) && !expires_in.is_u64() {
            return None;
        }
        let seconds = expires_in.as_f64().or_else(|| expires_in.as_str()?.parse().ok()).unwrap_or(0.0);
        let unknown = if self.is(Fault::NeedsLifetime) { 0.0 } else { 3600.0 };
        Some(Duration::from_secs_f64(if seconds > 0.0 { seconds } else { unknown }))
    }

    fn basic(&self) -> String {
        let secret = self.configure.client_secret.clone().unwrap();
        let secret = if self.is(Fault::RawBasic) { secret } else { encoded(&secret) };
        format!("Basic {}", STANDARD.encode(format!("{}:{secret}", self.configure.client_id)))
    }

    fn assertion(&self) -> String {
        let before = self.state.lock().unwrap().assertion.clone();
        if let Some(assertion) = before.filter(|_| self.is(Fault::SameAssertion)) {
            return assertion;
        }
        let (id, issuer) = (&self.configure.client_id, &self.configure.issuer);
        let claims =
            json!({ "iss": id, "sub": id, "aud": issuer, "jti": self.id(), "iat": now(), "exp": now() + 60 });
        let pem = self.configure.private_key.clone().unwrap();
        let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let document = STANDARD.decode(text).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document).unwrap();
        let assertion = signed(&key, &json!({ "alg": "ES256", "typ": "JWT" }), &claims);
        self.state.lock().unwrap().assertion = Some(assertion.clone());
        assertion
    }

    fn id(&self) -> String {
        let mut state = self.state.lock().unwrap();
        state.ids += u64::from(!self.is(Fault::SameJti) || state.ids == 0);
        format!("id-{}", state.ids)
    }

    fn proof(&self, method: &str, url: &str, at: &At<'_>) -> String {
        let htu = if self.is(Fault::QueryInHtu) { url } else { url.split('?').next().unwrap() };
        let mut claims = json!({ "htm": method, "htu": htu, "iat": now(), "jti": self.id() });
        let state = self.state.lock().unwrap();
        let nonce = match at {
            At::Token => state.token_nonce.clone(),
            At::Api(_) => state.api_nonce.clone(),
        };
        drop(state);
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        if let At::Api(token) = at
            && !self.is(Fault::NoAth)
        {
            claims["ath"] = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())).into();
        }
        let point = self.key.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
        signed(&self.key, &json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": jwk }), &claims)
    }

    async fn send(
        &self,
        method: &str,
        url: String,
        headers: Vec<(&str, String)>,
        body: Option<String>,
    ) -> Result<Response, String> {
        let mut to = url;
        loop {
            let mut request = self.http.request(method.parse().unwrap(), &to);
            for (name, value) in &headers {
                request = request.header(*name, value);
            }
            let request = body.clone().into_iter().fold(request, reqwest::RequestBuilder::body);
            let answer = request.send().await.map_err(|error| error.to_string())?;
            let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
            match location {
                Some(location) if self.is(Fault::Follows) => to = location,
                _ => return Ok(answer),
            }
        }
    }

    async fn at_api(&self, request: &Request, token: &str) -> Result<Response, String> {
        let scheme = if self.configure.dpop { "DPoP" } else { "Bearer" };
        let mut headers = vec![("authorization", format!("{scheme} {token}"))];
        if self.configure.dpop {
            headers.push(("dpop", self.proof(&request.method, &request.url, &At::Api(token))));
        }
        let answer = self.send(&request.method, request.url.clone(), headers, request.body.clone()).await?;
        let nonce = answer.headers().get("dpop-nonce").map(|value| value.to_str().unwrap().to_owned());
        let is_refusal = answer.status() == 401;
        if nonce.is_some() && (is_refusal || !self.is(Fault::NonceFromRefusals)) {
            self.state.lock().unwrap().api_nonce = nonce;
        }
        Ok(answer)
    }

    async fn call(&self, request: Request) -> Result<u16, String> {
        let mut token = self.token().await?;
        let mut answer = match self.at_api(&request, &token).await {
            Err(_) if self.is(Fault::ResendsLost) => self.at_api(&request, &token).await?,
            answer => answer?,
        };
        let (mut nonces, mut replays) = (0, 0);
        while challenge(&answer).contains("use_dpop_nonce") && self.goes_on(&mut nonces) {
            answer = self.at_api(&request, &token).await?;
        }
        let most = if self.is(Fault::ReplaysForever) { MANY } else { 1 };
        while self.is_rejection(&answer) && replays < most {
            replays += 1;
            token = self.replace(&token).await?;
            answer = self.at_api(&request, &token).await?;
            if self.is(Fault::ReplaysTwice) {
                answer = self.at_api(&request, &token).await?;
            }
        }
        Ok(answer.status().as_u16())
    }

    fn is_rejection(&self, answer: &Response) -> bool {
        let (status, challenge) = (answer.status().as_u16(), challenge(answer));
        match self.fault {
            Fault::NoReplay => false,
            Fault::ReplaysRefusals => status == 401 || status == 403,
            Fault::OneChallenge => {
                let usual = "Bearer error=\"invalid_token\"";
                let first = answer.headers().get("www-authenticate");
                status == 401 && first.is_some_and(|first| first.to_str().unwrap().starts_with(usual))
            }
            _ => {
                let is_other = ["insufficient_scope", "use_dpop_nonce", "invalid_dpop_proof"];
                status == 401 && !is_other.iter().any(|code| challenge.contains(code))
            }
        }
    }
}

struct Answer {
    token: Option<String>,
    error: String,
}

fn challenge(answer: &Response) -> String {
    let all = answer.headers().get_all("www-authenticate");
    all.iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(", ")
}

fn signed(key: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!("{}.{}", part(header), part(claims));
    let signature = key.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") }
            },
        )
        .collect()
}

fn now() -> u64 {
    SystemClock.now().wall.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
