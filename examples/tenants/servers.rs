//! An auth server that knows 1,000 clients, and an API. Both on loopback, on a port that the system chooses.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use actix_web::web::Data;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde::Deserialize;
use tokio::time::Instant;

use crate::record::Call;
use crate::{OUTAGE, REJECTED};

/// How long a call takes.
const LATENCY: Duration = Duration::from_millis(10);
/// Short, so that tokens end in the outage.
const LIFETIME: Duration = Duration::from_secs(3);

pub(crate) struct AuthServer {
    pub(crate) url: String,
    state: Data<State>,
}

struct State {
    began: Instant,
    running: AtomicUsize,
    calls: Mutex<Vec<Call>>,
}

#[derive(Deserialize)]
struct Asked {
    client_id: String,
    client_secret: String,
}

impl AuthServer {
    pub(crate) fn start() -> io::Result<Self> {
        let state = Data::from(Arc::new(State {
            began: Instant::now(),
            running: AtomicUsize::new(0),
            calls: Mutex::default(),
        }));
        let shared = state.clone();
        let app = move || {
            let app = App::new().app_data(shared.clone());
            app.route("/token", web::post().to(token)).route("/orders", web::get().to(orders))
        };
        let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0))?;
        let url = format!("http://{}", server.addrs()[0]);
        actix_web::rt::spawn(server.run());
        Ok(Self { url, state })
    }

    pub(crate) fn began(&self) -> Instant {
        self.state.began
    }

    pub(crate) fn since_begin(&self) -> Duration {
        self.state.began.elapsed()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn token(asked: web::Form<Asked>, state: Data<State>) -> HttpResponse {
    let at = state.began.elapsed();
    let at_once = state.running.fetch_add(1, Ordering::Relaxed) + 1;
    tokio::time::sleep(LATENCY).await;
    state.running.fetch_sub(1, Ordering::Relaxed);
    let Asked { client_id, client_secret } = asked.into_inner();
    let answer = if OUTAGE.contains(&at) {
        HttpResponse::ServiceUnavailable().finish()
    } else if client_secret == format!("secret-of-{client_id}") {
        let token = format!("{client_id}.{:016x}", fastrand::u64(..));
        let seconds = LIFETIME.as_secs();
        HttpResponse::Ok()
            .json(serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": seconds }))
    } else {
        HttpResponse::Unauthorized().json(serde_json::json!({ "error": "invalid_client" }))
    };
    let call = Call { at, at_once, status: answer.status().as_u16(), client: client_id };
    state.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    answer
}

/// The API. It takes the tokens of all tenants but one.
async fn orders(request: HttpRequest) -> HttpResponse {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match shown.and_then(|shown| shown.strip_prefix("Bearer tenant-")?.split_once('.')) {
        Some((tenant, _)) if tenant != REJECTED.to_string() => HttpResponse::Ok().body("[]"),
        _ => HttpResponse::Unauthorized()
            .insert_header((WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#))
            .finish(),
    }
}
