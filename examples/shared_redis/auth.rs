//! The auth server: it counts its calls, and knows which worker made them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::web::{Data, Form};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde::Deserialize;
use tokio::sync::watch;

use crate::worker::SECRET;

pub(crate) struct AuthServer {
    address: SocketAddr,
    callers: Data<Callers>,
}

struct Callers {
    latency: Duration,
    workers: watch::Sender<Vec<u32>>,
}

impl AuthServer {
    pub(crate) fn start(latency: Duration) -> io::Result<Self> {
        let callers = Data::new(Callers { latency, workers: watch::Sender::default() });
        let state = callers.clone();
        let app = move || App::new().app_data(state.clone()).route("/token", web::post().to(token));
        let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0))?;
        let address = server.addrs()[0];
        actix_web::rt::spawn(server.run());
        Ok(Self { address, callers })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    pub(crate) fn calls(&self) -> usize {
        self.callers.workers.borrow().len()
    }

    /// The worker that made the first call, as soon as it has.
    pub(crate) async fn first_caller(&self) -> u32 {
        let mut workers = self.callers.workers.subscribe();
        // The sender lives as long as `self`.
        workers.wait_for(|workers| !workers.is_empty()).await.map_or(0, |workers| workers[0])
    }
}

/// What a client proves its identity by.
#[derive(Deserialize)]
struct Client {
    client_secret: String,
}

async fn token(callers: Data<Callers>, request: HttpRequest, client: Form<Client>) -> HttpResponse {
    let agent = request.headers().get("user-agent").and_then(|agent| agent.to_str().ok());
    let worker = agent.and_then(|agent| agent.strip_prefix("worker/")?.parse().ok()).unwrap_or_default();
    callers.workers.send_modify(|workers| workers.push(worker));
    let number = callers.workers.borrow().len();
    tokio::time::sleep(callers.latency).await;
    if client.client_secret != SECRET {
        return HttpResponse::Unauthorized().json(serde_json::json!({ "error": "invalid_client" }));
    }
    let body = serde_json::json!({
        "access_token": format!("shared-token-{number}"),
        "token_type": "Bearer",
        "expires_in": 3600,
    });
    HttpResponse::Ok().json(body)
}
