//! The service. Each handler calls the API with the token of its tenant.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};
use tokenflight::RefreshPolicy;
use tokenflight::middleware::SendError;
use tokenflight::middleware::reqwest::{BearerAuth, SendWith};
use tokenflight::oauth::{Client, ClientAuth};
use tokenflight::registry::TokenRegistry;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::WRONG_SECRET;
use crate::record::Request;
use crate::servers::AuthServer;

pub(crate) struct Service {
    pub(crate) tokens: TokenRegistry<u32>,
    address: SocketAddr,
    began: Instant,
    server: ServerHandle,
    client: reqwest::Client,
}

#[derive(Clone)]
struct Shared {
    tokens: TokenRegistry<u32>,
    client: reqwest::Client,
    api: String,
}

/// Passes on what the API answers. Without a token it is 503 with `Retry-After`, or 502 where the settings are wrong.
async fn orders(
    tenant: web::Path<u32>,
    shared: web::Data<Shared>,
) -> Result<HttpResponse, SendError<reqwest::Error>> {
    let handle = shared.tokens.handle(*tenant);
    let auth = BearerAuth::builder(handle).allow(&shared.api).build();
    let Ok(auth) = auth else { return Ok(HttpResponse::InternalServerError().finish()) };
    let answer = shared.client.get(format!("{}/orders", shared.api)).send_with(&auth).await?;
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    Ok(HttpResponse::build(status).body(answer.bytes().await.map_err(SendError::Client)?))
}

impl Service {
    pub(crate) fn start(auth: &AuthServer) -> Result<Self, Box<dyn Error>> {
        let url = format!("{}/token", auth.url);
        // Nothing is kept for a tenant but its token: its client is made for each call.
        let common = Client::with_token_url(&url, "unused").secret("unused").build()?;
        let source = common.client_credentials().for_key(move |tenant: &u32, request| {
            let id = format!("tenant-{tenant}");
            let secret = if *tenant == WRONG_SECRET { "wrong".into() } else { format!("secret-of-{id}") };
            let client = Client::with_token_url(&url, id).secret(secret).auth_method(ClientAuth::Body);
            request.by_client(client)
        })?;
        // The API knows each token at once, so a new one need not settle before it can be replaced.
        let policy = RefreshPolicy::default().settle(Duration::ZERO).attempts(1);
        let tokens = TokenRegistry::builder(source).policy(policy).name("tenants").start()?;
        let client = reqwest::Client::new();
        let shared = Shared { tokens: tokens.clone(), client: client.clone(), api: auth.url.clone() };
        let app = move || {
            let app = App::new().app_data(web::Data::new(shared.clone()));
            app.route("/{tenant}/orders", web::get().to(orders))
        };
        let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0))?;
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Ok(Self { tokens, address, began: auth.began(), server: handle, client })
    }

    /// One request to the service for this tenant.
    pub(crate) fn asks(&self, tenant: u32) -> JoinHandle<Request> {
        let request = self.client.get(format!("http://{}/{tenant}/orders", self.address));
        let at = self.began.elapsed();
        let began = self.began;
        actix_web::rt::spawn(async move {
            let answer = request.send().await;
            let status = answer.map_or(0, |answer| answer.status().as_u16());
            Request { tenant, at, took: began.elapsed().saturating_sub(at), status }
        })
    }

    pub(crate) async fn stop(self) {
        self.server.stop(true).await;
        self.tokens.shutdown().await;
    }
}
