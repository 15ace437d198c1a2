//! `tests/scenarios/replay.json`, with the behaviour of other crates after a 401: one row per case, one column per
//! crate, as Markdown.
//!
//! `cargo run --features servers --bin replay`. A scripted API on loopback gives the answers of a row. A crate
//! passes a row if the API got the right tokens in the right order, the source got the claims that the API
//! required, and the caller got the right status. A rule that a crate leaves to its user is not tested, or done as
//! its documentation says:
//!
//! - `azure_core` calls a handler that decides whether a challenge is answered. The handler here reads the error
//!   code, and answers those challenges that a new token may satisfy. If it refuses, the caller gets its error in
//!   place of the 401. This is no fault.
//! - `huskarl` has a loop in its guide. A second column has the same loop with `invalidate` at each 401. The guide
//!   calls this a common policy for APIs without a challenge.
//! - `google-cloud-auth` has headers, and no function for a 401.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::http::headers::{AUTHORIZATION as AZURE_AUTHORIZATION, Headers, WWW_AUTHENTICATE};
use azure_core::http::policies::auth::{Authorizer, BearerTokenAuthorizationPolicy, OnChallenge};
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{AsyncRawResponse, Body, Context, Method as AzureMethod, Request, StatusCode, Url};
use azure_core::time::OffsetDateTime;
use google_cloud_auth::credentials::user_account::Builder as UserAccount;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use http::{Extensions, HeaderMap, Method};
use huskarl::authorizer::{HttpAuthorizer, parse_challenges};
use huskarl::cache::{InMemoryTokenCache, TokenError, TokenSource};
use huskarl::core::platform::MaybeSendBoxFuture;
use huskarl::core::{Error as HuskarlError, OAuthErrorCode, RetryAdvice};
use huskarl::grant::core::{RawTokenResponse, TokenResponse};
use serde_json::Value;
use tokenflight::middleware::SendError;
use tokenflight::middleware::reqwest::{BearerAuth, SendWith};
use tokenflight::{FetchContext, RefreshPolicy, Token, TokenActor, source_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HOUR: Duration = Duration::from_secs(3600);
const SETTLE: Duration = Duration::from_millis(250);
const NOT_ASKED: &str = "not asked";

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[actix_web::main]
async fn main() -> Result<(), Failure> {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../../../../tests/scenarios/replay.json"))?;
    println!(
        "| row | tokenflight | azure_core 1.1.0 | huskarl 0.11.10 | huskarl, with `invalidate` | google-cloud-auth 1.18.0 |"
    );
    println!("|---|---|---|---|---|---|");
    let mut passed = [0; 5];
    let mut asked = [0; 5];
    for row in rows.iter().map(Row) {
        let verdicts = [
            verdict(&row, Some(ours(&row).await?)),
            verdict(&row, azure(&row).await?),
            verdict(&row, huskarl(&row, false).await?),
            verdict(&row, huskarl(&row, true).await?),
            verdict(&row, google(&row).await?),
        ];
        for (at, verdict) in verdicts.iter().enumerate() {
            passed[at] += usize::from(verdict == "pass");
            asked[at] += usize::from(verdict != NOT_ASKED);
        }
        println!("| {} | {} |", row.text("name"), verdicts.join(" | "));
    }
    let sums: Vec<_> = (0..5).map(|at| format!("{} of {}", passed[at], asked[at])).collect();
    println!("| **passed, of those that were asked** | {} |", sums.join(" | "));
    Ok(())
}

/// One row of the table.
struct Row<'a>(&'a Value);

impl Row<'_> {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    fn is(&self, name: &str) -> bool {
        self.0[name] == true
    }

    fn method(&self) -> &str {
        self.0["method"].as_str().unwrap_or("GET")
    }

    fn answers(&self) -> Vec<Scripted> {
        let answers = self.0["answers"].as_array().map(Vec::as_slice).unwrap_or_default();
        answers.iter().map(Scripted::read).collect()
    }

    /// Which tokens are shown, and what the caller is told. `None`: an error of the crate's own.
    fn expected(&self) -> (Vec<String>, Option<u16>) {
        let mut number = 1;
        let own = self.0["authorization"].as_str().map(ToOwned::to_owned);
        let mut shown = vec![own.unwrap_or_else(|| "Bearer token-1".into())];
        let mut told = self.answers().last().map(|answer| answer.status);
        for decision in self.0["decisions"].as_array().into_iter().flatten() {
            match decision.as_str().unwrap_or_default() {
                "report and replay" | "claims and replay" => {
                    number += 1;
                    shown.push(format!("Bearer token-{number}"));
                }
                "same token" => shown.push(format!("Bearer token-{number}")),
                "step up" => told = None,
                _ => {}
            }
        }
        (shown, told)
    }

    /// Whether the second token has to be asked for with the API's claims.
    fn needs_claims(&self) -> bool {
        self.0["decisions"].as_array().is_some_and(|all| all.iter().any(|one| one == "claims and replay"))
    }
}

/// What a crate did with a row: what the API was shown, what the caller was told (`None`: an error of the crate's own), and
/// whether the source was told of claims.
struct Played {
    shown: Vec<String>,
    told: Option<u16>,
    has_claims: bool,
}

fn verdict(row: &Row<'_>, played: Option<Played>) -> String {
    let Some(played) = played else { return NOT_ASKED.into() };
    let (shown, told) = row.expected();
    if played.shown != shown {
        return format!("FAIL: shown {}", played.shown.join(", ").replace("Bearer token-", "token "));
    }
    if row.needs_claims() != played.has_claims {
        return "FAIL: a new token, but not for the claims".into();
    }
    // A 401 and an error that stands for it say the same.
    let is_401 = |told: Option<u16>| told.is_none() || told == Some(401);
    let is_told = played.told == told || (is_401(played.told) && is_401(told));
    if is_told { "pass".into() } else { format!("FAIL: told {:?}", played.told) }
}

/// An answer of the API.
#[derive(Clone)]
struct Scripted {
    status: u16,
    challenges: Vec<String>,
}

impl Scripted {
    fn bare(status: u16) -> Self {
        Self { status, challenges: Vec::new() }
    }

    fn read(value: &Value) -> Self {
        let status = value["status"].as_u64().and_then(|status| status.try_into().ok()).unwrap_or(500);
        let challenges = value["challenges"].as_array().into_iter().flatten();
        let challenges = challenges.filter_map(Value::as_str).map(ToOwned::to_owned).collect();
        Self { status, challenges }
    }
}

/// The API: it answers by its script, and then 200. At `/token` it is the auth server.
#[derive(Clone)]
struct Api {
    origin: String,
    script: Arc<Mutex<VecDeque<Scripted>>>,
    shown: Arc<Mutex<Vec<String>>>,
    tokens: Arc<AtomicU64>,
    has_claims: Arc<AtomicBool>,
}

impl Api {
    async fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let api = Self {
            origin,
            script: Arc::default(),
            shown: Arc::default(),
            tokens: Arc::default(),
            has_claims: Arc::default(),
        };
        let serving = api.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = serving.serve(stream).await;
            }
        });
        Ok(api)
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let length: usize = header("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
        while bytes.len() < head_end + length && stream.read_buf(&mut bytes).await? > 0 {}
        let answer = if head.starts_with("POST /token ") {
            let token = self.next_token();
            let body = format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600}}"#);
            format!("200 _\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        } else {
            lock(&self.shown).push(header("authorization:").unwrap_or_else(|| "nothing".into()));
            let scripted = lock(&self.script).pop_front().unwrap_or(Scripted::bare(200));
            let lines = scripted.challenges.iter().map(|line| format!("www-authenticate: {line}\r\n"));
            format!("{} _\r\n{}content-length: 0\r\n\r\n", scripted.status, lines.collect::<String>())
        };
        stream
            .write_all(
                format!("HTTP/1.1 {}", answer.replacen("\r\n", "\r\nconnection: close\r\n", 1)).as_bytes(),
            )
            .await?;
        stream.shutdown().await
    }

    fn next_token(&self) -> String {
        format!("token-{}", self.tokens.fetch_add(1, Relaxed) + 1)
    }

    /// The row begins: what was shown before does not count.
    fn begin(&self, row: &Row<'_>) {
        lock(&self.shown).clear();
        *lock(&self.script) = row.answers().into();
    }

    /// An API that has rejected a token and then accepted it.
    fn is_noisy(&self) {
        *lock(&self.script) = [Scripted::bare(401), Scripted::bare(200)].into();
    }

    fn played(&self, told: Option<u16>) -> Played {
        Played {
            shown: std::mem::take(&mut lock(&self.shown)),
            told,
            has_claims: self.has_claims.load(Relaxed),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request as it is sent by hand.
fn by_hand(api: &Api, row: &Row<'_>, headers: HeaderMap) -> Result<reqwest::RequestBuilder, Failure> {
    let method: reqwest::Method = row.method().parse()?;
    let request = reqwest::Client::new().request(method, format!("{}/orders", api.origin)).headers(headers);
    Ok(match row.text("body") {
        "" => request,
        "once" => request.body(reqwest::Body::wrap(http_body_util::Full::new(&[b'x'; 100 * 1024][..]))),
        text => request.body(text.to_owned()),
    })
}

/// By `send_with`, as the documentation shows it.
async fn ours(row: &Row<'_>) -> Result<Played, Failure> {
    let api = Api::start().await?;
    let numbers = api.clone();
    let source = source_fn(move |cx: FetchContext| {
        numbers.has_claims.fetch_or(cx.challenge().is_some(), Relaxed);
        let token = Token::new(numbers.next_token()).with_lifetime(HOUR);
        std::future::ready(Ok(token))
    });
    let policy = RefreshPolicy::default().settle(SETTLE);
    let tokens = TokenActor::builder(source).policy(policy).start()?;
    let auth = BearerAuth::builder(&tokens).allow(&api.origin).build()?;
    if row.is("noisy") {
        api.is_noisy();
        by_hand(&api, row, HeaderMap::new())?.send_with(&auth).await?;
    }
    tokens.get().await?;
    tokio::time::sleep(SETTLE * 2).await;
    api.begin(row);
    let auth = if row.is("no_replay") { auth.without_replay() } else { auth };
    let own = row.0["authorization"].as_str();
    let mut headers = HeaderMap::new();
    if let Some(own) = own {
        headers.insert(http::header::AUTHORIZATION, own.parse()?);
    }
    let told = match by_hand(&api, row, headers)?.send_with(&auth).await {
        Ok(answer) => Some(answer.status().as_u16()),
        Err(SendError::StepUp(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let played = api.played(told);
    tokens.shutdown().await;
    Ok(played)
}

/// Tokens by their numbers.
struct Numbered(Api);

impl fmt::Debug for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbered")
    }
}

#[async_trait]
impl TokenCredential for Numbered {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new(self.0.next_token(), OffsetDateTime::now_utc() + HOUR))
    }
}

/// A handler of challenges: a new token where one may help. (It could not hand on claims: nothing takes them.)
#[derive(Debug)]
struct Careful;

#[async_trait]
impl OnChallenge for Careful {
    async fn on_challenge(
        &self,
        _: &Context,
        request: &mut Request,
        authorizer: &dyn Authorizer,
        headers: &Headers,
    ) -> azure_core::Result<()> {
        const OF_NO_USE: [&str; 3] =
            ["insufficient_scope", "insufficient_user_authentication", "insufficient_claims"];
        let challenge = headers.get_optional_str(&WWW_AUTHENTICATE).unwrap_or_default().to_ascii_lowercase();
        if !challenge.starts_with("bearer") || OF_NO_USE.iter().any(|code| challenge.contains(code)) {
            return Err(azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, challenge));
        }
        authorizer.authorize(request, &["api"], TokenRequestOptions::default()).await
    }
}

/// Sends by reqwest. The policy wants an https address; here TLS ends before the API.
#[derive(Debug)]
struct Transport;

#[async_trait]
impl Policy for Transport {
    async fn send(&self, _: &Context, request: &mut Request, _: &[Arc<dyn Policy>]) -> PolicyResult {
        let failed = |error: reqwest::Error| azure_core::Error::new(azure_core::error::ErrorKind::Io, error);
        let url = request.url().as_str().replacen("https://", "http://", 1);
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes()).unwrap_or_default();
        let mut sent = reqwest::Client::new().request(method, url);
        for (name, value) in request.headers().iter() {
            sent = sent.header(name.as_str(), value.as_str());
        }
        if let Body::Bytes(bytes) = request.body() {
            sent = sent.body(bytes.clone());
        }
        let answer = sent.send().await.map_err(failed)?;
        let mut headers = Headers::new();
        for (name, value) in answer.headers() {
            headers.insert(name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned());
        }
        Ok(AsyncRawResponse::from_bytes(StatusCode::from(answer.status().as_u16()), headers, ""))
    }
}

/// By the SDK's policy, with a handler of challenges. Without one it sends nothing again.
async fn azure(row: &Row<'_>) -> Result<Option<Played>, Failure> {
    // Its streams can be sent again by their type, a request cannot opt out, and no API has a reputation.
    if row.text("body") == "once" || row.is("no_replay") || row.is("noisy") {
        return Ok(None);
    }
    let api = Api::start().await?;
    let policy = BearerTokenAuthorizationPolicy::new(Arc::new(Numbered(api.clone())), ["api"]);
    let policy = policy.with_on_challenge(Arc::new(Careful));
    let transport: [Arc<dyn Policy>; 1] = [Arc::new(Transport)];
    let url: Url = format!("{}/orders", api.origin.replacen("http://", "https://", 1)).parse()?;
    api.begin(row);
    let mut request = Request::new(url, row.method().parse().unwrap_or(AzureMethod::Get));
    request.set_body(row.text("body").to_owned());
    if let Some(own) = row.0["authorization"].as_str() {
        request.insert_header(AZURE_AUTHORIZATION, own.to_owned());
    }
    let told = policy.send(&Context::new(), &mut request, &transport).await.ok();
    Ok(Some(api.played(told.map(|answer| u16::from(answer.status())))))
}

impl TokenSource for Numbered {
    fn token(&self) -> MaybeSendBoxFuture<'_, Result<Arc<TokenResponse>, TokenError>> {
        Box::pin(async {
            let response = RawTokenResponse::builder()
                .access_token(self.0.next_token())
                .token_type("Bearer")
                .expires_in(HOUR.as_secs())
                .build()
                .into_token_response(None, SystemTime::now())
                .map_err(|error| HuskarlError::new(RetryAdvice::No, error))?;
            Ok(Arc::new(response))
        })
    }
}

/// By the loop of its guide ("Making authenticated requests"): a 401 is sent again once, unless it is about the scope.
async fn huskarl(row: &Row<'_>, invalidates: bool) -> Result<Option<Played>, Failure> {
    // What can be sent again, and what the caller has set, is the user's own code there.
    if row.text("body") == "once"
        || row.is("no_replay")
        || row.is("noisy")
        || row.0["authorization"].is_string()
    {
        return Ok(None);
    }
    let api = Api::start().await?;
    let cache = InMemoryTokenCache::builder().source(Numbered(api.clone())).build();
    let authorizer = HttpAuthorizer::builder().cache(cache).build();
    let (method, uri): (Method, http::Uri) =
        (row.method().parse()?, format!("{}/orders", api.origin).parse()?);
    api.begin(row);
    let headers = authorizer.get_headers(&method, &uri).await?;
    let mut answer = by_hand(&api, row, headers)?.send().await?;
    authorizer.process_response(&uri, answer.headers());
    let is_about_scope = parse_challenges(answer.headers())
        .iter()
        .any(|challenge| challenge.error() == Some(OAuthErrorCode::InsufficientScope));
    if answer.status() == 401 && !is_about_scope {
        if invalidates {
            authorizer.invalidate();
        }
        let headers = authorizer.get_headers(&method, &uri).await?;
        answer = by_hand(&api, row, headers)?.send().await?;
        authorizer.process_response(&uri, answer.headers());
    }
    Ok(Some(api.played(Some(answer.status().as_u16()))))
}

/// By its headers, put on a request. It offers no way to say that an API has rejected them.
async fn google(row: &Row<'_>) -> Result<Option<Played>, Failure> {
    if row.text("body") == "once"
        || row.is("no_replay")
        || row.is("noisy")
        || row.0["authorization"].is_string()
    {
        return Ok(None);
    }
    let api = Api::start().await?;
    let account = serde_json::json!({
        "type": "authorized_user", "client_id": "peer", "client_secret": "s3cret", "refresh_token": "refresh",
    });
    let credentials: Credentials =
        UserAccount::new(account).with_token_uri(format!("{}/token", api.origin)).build()?;
    let CacheableResource::New { data: headers, .. } = credentials.headers(Extensions::new()).await? else {
        return Err("not modified".into());
    };
    api.begin(row);
    let answer = by_hand(&api, row, headers)?.send().await?;
    Ok(Some(api.played(Some(answer.status().as_u16()))))
}
