//! The parts of the demo beside the service: an auth server and an API on loopback, and a client. The API rejects
//! the first token after half of the requests, as if it had been revoked.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use super::Settings;

static AUTH_CALLS: AtomicUsize = AtomicUsize::new(0);
static API_CALLS: AtomicUsize = AtomicUsize::new(0);
static REVOKED_AFTER: AtomicUsize = AtomicUsize::new(usize::MAX);
static FAILED: AtomicUsize = AtomicUsize::new(0);

pub(crate) async fn run(requests: &str) -> Result<(), Box<dyn Error>> {
    let requests: usize = requests.parse().map_err(|_| "--demo wants a number of requests")?;
    REVOKED_AFTER.store(requests / 2, Ordering::Relaxed);
    let third_party = third_party()?;
    // A token that is younger than `settle` is not replaced. Here that must not take longer than the demo.
    let settings = format!(
        r#"
        listen = "127.0.0.1:0"
        api = "{third_party}"
        token.client_credentials = {{ token_url = "{third_party}/token", client_id = "demo", client_secret = "s3cret" }}
        policy.settle = "0s"
        "#
    );
    super::run(Settings::read(&settings)?, Some(requests)).await?;
    match FAILED.load(Ordering::Relaxed) {
        0 => Ok(()),
        failed => Err(format!("{failed} requests failed").into()),
    }
}

/// Asks the service so often, 20 at a time, prints what that cost, and stops it.
pub(crate) async fn ask(service: SocketAddr, requests: usize, stop: ServerHandle) {
    let client = reqwest::Client::new();
    let mut ok = 0;
    for from in (0..requests).step_by(20) {
        let asked =
            (from..requests.min(from + 20)).map(|_| client.get(format!("http://{service}/orders")).send());
        let answers = futures_util::future::join_all(asked).await;
        ok += answers.iter().flatten().filter(|answer| answer.status().is_success()).count();
    }
    for path in ["ready", "live", "metrics"] {
        let answer = client.get(format!("http://{service}/{path}")).send().await;
        ok -= usize::from(!answer.is_ok_and(|answer| answer.status().is_success()));
    }
    println!("{requests} requests, {ok} ok, {} auth calls", AUTH_CALLS.load(Ordering::Relaxed));
    FAILED.store(requests - ok, Ordering::Relaxed);
    stop.stop(true).await;
}

fn third_party() -> std::io::Result<String> {
    async fn token() -> HttpResponse {
        let number = AUTH_CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let token = format!("token-{number}");
        HttpResponse::Ok()
            .json(serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 }))
    }
    async fn orders(request: HttpRequest) -> HttpResponse {
        let number = API_CALLS.fetch_add(1, Ordering::Relaxed);
        let shown = request.headers().get("authorization").map(|value| value.as_bytes().to_vec());
        match shown.as_deref() {
            Some(b"Bearer token-1") if number < REVOKED_AFTER.load(Ordering::Relaxed) => {
                HttpResponse::Ok().body("[]\n")
            }
            Some(b"Bearer token-2") => HttpResponse::Ok().body("[]\n"),
            _ => HttpResponse::Unauthorized()
                .insert_header(("www-authenticate", r#"Bearer error="invalid_token""#))
                .finish(),
        }
    }
    let app = || App::new().route("/token", web::post().to(token)).route("/orders", web::get().to(orders));
    let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0))?;
    let address = server.addrs()[0];
    actix_web::rt::spawn(server.run());
    Ok(format!("http://{address}"))
}
