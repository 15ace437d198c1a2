//! The built-in servers: an auth server, and an API that asks it about each token. Both listen on a port of
//! the loopback interface that the system chooses.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::web::{Data, Form, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::options::{Fault, Options};
use crate::record::{CallLog, Span};

const TOKEN_PATH: &str = "/oauth/token";
const API_PATH: &str = "/orders";

/// The auth server: it counts its calls and knows its tokens.
pub(crate) struct Issuer {
    latency: Duration,
    lifetime: Duration,
    /// For the tokens of the calls that came before the first one was answered: `--expire-midway`.
    first_lifetime: Option<Duration>,
    fault: Option<Fault>,
    /// The one `Authorization` header that it accepts.
    credentials: String,
    calls: CallLog,
    run: Mutex<Issued>,
}

/// What the auth server remembers of one run.
#[derive(Default)]
struct Issued {
    /// When each token ends.
    tokens: HashMap<String, Instant>,
    first_answer: Option<Instant>,
}

impl Issuer {
    /// The built-in auth server as the options want it. `credentials` is the header of its only client.
    pub(crate) fn new(options: &Options, credentials: String) -> Self {
        Self {
            latency: options.latency,
            lifetime: options.lifetime,
            first_lifetime: options.first_lifetime(),
            fault: options.fault,
            credentials,
            calls: CallLog::default(),
            run: Mutex::default(),
        }
    }

    /// The calls since this was last asked. All tokens are forgotten.
    pub(crate) fn end_run(&self) -> Vec<Span> {
        *self.lock() = Issued::default();
        self.calls.take()
    }

    /// A new token, and how long it lasts. `asked` is when the call for it came in.
    fn issue(&self, asked: Instant) -> (String, Duration) {
        // The prefix lets `grep` tell whether a token got into the output.
        let token = format!("fanout-token-{:032x}", fastrand::u128(..));
        let now = Instant::now();
        let mut run = self.lock();
        let first = run.first_answer.is_none();
        let early = *run.first_answer.get_or_insert(now) >= asked;
        let lifetime = self.first_lifetime.filter(|_| early).unwrap_or(self.lifetime);
        let revoked = first && self.fault == Some(Fault::Revoke);
        run.tokens.insert(token.clone(), if revoked { now } else { now + lifetime });
        (token, lifetime)
    }

    fn accepts(&self, token: &str) -> bool {
        self.lock().tokens.get(token).is_some_and(|end| Instant::now() < *end)
    }

    fn lock(&self) -> MutexGuard<'_, Issued> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that runs until it is stopped.
pub(crate) struct Running {
    pub(crate) url: reqwest::Url,
    handle: ServerHandle,
}

impl Running {
    /// Ends it at once: what the client's connection pool keeps open is of no use to anybody.
    pub(crate) async fn stop(self) {
        self.handle.stop(false).await;
    }
}

/// Starts the auth server.
pub(crate) fn start_auth(issuer: Data<Issuer>) -> io::Result<Running> {
    start(TOKEN_PATH, move |config| {
        config.app_data(issuer.clone()).route(TOKEN_PATH, web::post().to(token));
    })
}

/// Starts the API. Without an issuer to ask it accepts any bearer token.
pub(crate) fn start_api(issuer: Option<Data<Issuer>>, latency: Duration) -> io::Result<Running> {
    let api = Data::new(Api { issuer, latency });
    start(API_PATH, move |config| {
        config.app_data(api.clone()).route(API_PATH, web::get().to(orders));
    })
}

fn start<F>(path: &str, configure: F) -> io::Result<Running>
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let server = HttpServer::new(move || App::new().configure(configure.clone()))
        .workers(1)
        .disable_signals()
        .bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    let address: SocketAddr = server.addrs()[0];
    let url = format!("http://{address}{path}").parse().map_err(io::Error::other)?;
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Ok(Running { url, handle })
}

#[derive(Deserialize)]
struct TokenRequest {
    grant_type: String,
    scope: Option<String>,
}

/// The token endpoint: RFC 6749 sections 4.4, 5.1 and 5.2.
async fn token(request: HttpRequest, form: Form<TokenRequest>, issuer: Data<Issuer>) -> HttpResponse {
    let asked = Instant::now();
    let _call = issuer.calls.begin();
    sleep(issuer.latency).await;
    if header(&request, &AUTHORIZATION) != Some(&issuer.credentials) {
        return HttpResponse::Unauthorized()
            .insert_header((WWW_AUTHENTICATE, "Basic realm=\"fanout\""))
            .json(json!({ "error": "invalid_client", "error_description": "client authentication failed" }));
    }
    if form.grant_type != "client_credentials" {
        return HttpResponse::BadRequest().json(json!({ "error": "unsupported_grant_type" }));
    }
    match issuer.fault {
        None | Some(Fault::Revoke) => {}
        Some(fault) => return faulty(fault),
    }
    let (token, lifetime) = issuer.issue(asked);
    let mut answer =
        json!({ "access_token": token, "token_type": "Bearer", "expires_in": lifetime.as_secs() });
    if let Some(scope) = &form.scope {
        answer["scope"] = scope.as_str().into();
    }
    HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(answer)
}

fn faulty(fault: Fault) -> HttpResponse {
    let mut ok = HttpResponse::Ok();
    match fault {
        Fault::Html => ok
            .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
            .body("<!doctype html><title>Maintenance</title><p>We will be back soon."),
        Fault::MissingToken => ok.json(json!({ "token_type": "Bearer", "expires_in": 3600 })),
        Fault::HugeBody => ok.json(json!({ "access_token": "x".repeat(10_000_000), "token_type": "Bearer" })),
        Fault::Refuse => HttpResponse::BadRequest().json(
            json!({ "error": "unauthorized_client", "error_description": "no client credentials for this client" }),
        ),
        Fault::Unavailable | Fault::Revoke => {
            HttpResponse::ServiceUnavailable().insert_header((RETRY_AFTER, "1")).body("out of order")
        }
    }
}

struct Api {
    issuer: Option<Data<Issuer>>,
    latency: Duration,
}

/// The protected resource: RFC 6750 sections 2.1 and 3.
async fn orders(request: HttpRequest, api: Data<Api>) -> HttpResponse {
    let token = header(&request, &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let accepted = match (&api.issuer, token) {
        (_, None) => false,
        (None, Some(token)) => !token.is_empty(),
        (Some(issuer), Some(token)) => issuer.accepts(token),
    };
    // A timer takes a millisecond at least, even for nothing.
    if !api.latency.is_zero() {
        sleep(api.latency).await;
    }
    if accepted {
        HttpResponse::Ok().json(json!({ "orders": [] }))
    } else {
        HttpResponse::Unauthorized()
            .insert_header((WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""))
            .finish()
    }
}

fn header<'a>(request: &'a HttpRequest, name: &actix_web::http::header::HeaderName) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}
