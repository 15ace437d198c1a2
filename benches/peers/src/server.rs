//! A token server on loopback, for the peers that accept no source of the user: one server, one path per source.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};

use actix_web::{App, HttpResponse, HttpServer, web};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::peer::Failure;
use crate::source::Source;

type Sources = Mutex<HashMap<u64, Source>>;

fn sources() -> &'static Sources {
    static SOURCES: OnceLock<Sources> = OnceLock::new();
    SOURCES.get_or_init(Sources::default)
}

/// A token endpoint's URL that answers with this source's tokens.
pub fn token_url(source: Source) -> Result<String, Failure> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let id = LAST.fetch_add(1, Relaxed);
    sources().lock().unwrap_or_else(PoisonError::into_inner).insert(id, source);
    Ok(format!("{}/{id}/token", address()?))
}

/// On a thread of its own, as an authorization server has.
fn address() -> Result<String, Failure> {
    static ADDRESS: OnceLock<Result<String, Failure>> = OnceLock::new();
    let start = || {
        let app = || App::new().route("/{id}/token", web::post().to(token));
        let server = HttpServer::new(app)
            .workers(1)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .map_err(|error| error.to_string())?;
        let address = format!("http://{}", server.addrs()[0]);
        actix_rt::spawn(server.run());
        Ok(address)
    };
    ADDRESS.get_or_init(start).clone()
}

async fn token(id: web::Path<u64>) -> HttpResponse {
    let source = sources().lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
    let Some(source) = source else { return HttpResponse::NotFound().finish() };
    match source.fetch().await {
        Ok(answer) => HttpResponse::Ok().json(serde_json::json!({
            "access_token": answer.secret,
            "token_type": "Bearer",
            "expires_in": answer.lifetime.as_secs(),
        })),
        Err(_) => {
            HttpResponse::ServiceUnavailable().json(serde_json::json!({ "error": "temporarily_unavailable" }))
        }
    }
}

/// A service account's key file, for whoever signs its requests.
pub fn service_account(token_url: &str) -> Result<serde_json::Value, Failure> {
    Ok(serde_json::json!({
        "type": "service_account",
        "client_email": "peer@example.com",
        "private_key": private_key()?,
        "token_uri": token_url,
    }))
}

fn private_key() -> Result<String, Failure> {
    static KEY: OnceLock<Result<String, Failure>> = OnceLock::new();
    let make = || {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|error| error.to_string())?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|error| error.to_string())?;
        Ok(format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            BASE64_STANDARD.encode(&*der)
        ))
    };
    KEY.get_or_init(make).clone()
}
