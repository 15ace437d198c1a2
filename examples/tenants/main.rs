//! A service for 1,000 tenants, each with its own client at one auth server: one registry for all of them.
//!
//! ```text
//! cargo run --example tenants --features registry,actix-web
//! cargo run --example tenants --features registry,actix-web -- --picture tenants.svg
//! ```
//!
//! starts an auth server, an API and the service in this process, on loopback. It sends requests to the service for
//! seven seconds: first for all tenants at once, then for one after another. One tenant has a wrong secret, and the
//! API rejects each token of another tenant. In the middle the auth server answers 503 for 1.4 seconds.
//!
//! ```text
//! 1000 tenants, one registry. The auth server answers after 10 ms, and 503 from 3 s to 4.4 s.
//!
//!                            requests     ok        p50        p99  auth calls
//! healthy tenants                1908   1243  1510.5 ms  3013.8 ms         865
//!   after the first of each       910    643    18.2 ms  2682.3 ms
//! one with a wrong secret          56      0     5.3 ms  1068.5 ms           1
//! one whom the API rejects         61      0    16.5 ms  3027.7 ms           9
//!
//! auth server: 875 calls, at most 16 at once (allowed: 16), 33 of them in the outage
//! gate: closed 2 times (the outage, and probes that failed), open now
//! memory: 1134 bytes for a tenant that rests, with a token of 100 bytes
//! ```
//!
//! The table shows the results of each kind of tenant, the calls at the auth server, and the state of the gate. The
//! command ends with 1 if more calls were made at once than allowed, if the outage cost more than a few calls, or
//! if a tenant without a fault was refused while the auth server was available.

#[path = "../request_fanout/ink.rs"]
mod ink;
mod memory;
mod picture;
mod record;
mod servers;
mod service;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use record::Record;
use servers::AuthServer;
use service::Service;

pub(crate) const TENANTS: u32 = 1_000;
/// Its secret is not the one that the auth server knows.
pub(crate) const WRONG_SECRET: u32 = 7;
/// The API takes none of its tokens.
pub(crate) const REJECTED: u32 = 13;
/// When the auth server is down, since the beginning.
pub(crate) const OUTAGE: std::ops::Range<Duration> = Duration::from_secs(3)..Duration::from_millis(4_400);
const END: Duration = Duration::from_secs(7);
/// Requests a second, after the first thousand.
const RATE: u32 = 150;
/// So many calls in the outage: what is under way when it begins, and probes.
const FEW: usize = 60;

#[actix_web::main]
async fn main() -> ExitCode {
    env_logger::init();
    let outcome = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => run(None).await,
        [flag, path] if flag == "--picture" => run(Some(path)).await,
        _ => Err("give nothing, or --picture and the name of a file".into()),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn run(picture: Option<&str>) -> Result<(), Box<dyn Error>> {
    let bytes = memory::of_an_idle_key().await?;
    let auth = AuthServer::start()?;
    let service = Service::start(&auth)?;
    let record = ask(&service, &auth).await;
    let totals = service.tokens.totals().await?;
    print!("{}", record.table(&totals, bytes));
    service.stop().await;
    if let Some(path) = picture {
        picture::write(path, &record).map_err(|error| format!("no picture in {path}: {error}"))?;
    }
    record.verdict(FEW)
}

/// All tenants at once, then a random one each few milliseconds.
async fn ask(service: &Service, auth: &AuthServer) -> Record {
    let mut asked: Vec<_> = (0..TENANTS).map(|tenant| service.asks(tenant)).collect();
    let mut dice = fastrand::Rng::with_seed(1);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    while auth.since_begin() < END {
        ticks.tick().await;
        // The two that are in trouble are asked for more often than the others.
        let tenant = match dice.u32(..20) {
            0 => WRONG_SECRET,
            1 => REJECTED,
            _ => dice.u32(..TENANTS),
        };
        asked.push(service.asks(tenant));
    }
    let requests = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
    Record { requests, calls: auth.calls() }
}
