//! A service that calls an API for each of its own requests, under load: without a token, with a header that is set
//! by hand, and with the middleware. And the middleware alone, while tokens end after 30 s and all of them are
//! revoked each 10 s.
//!
//! ```sh
//! cargo bench --bench service_load              # needs wrk (Debian: apt-get install wrk)
//! ```
//!
//! Loopback only, 32 connections: nine times 2 s for each of the three, in turn; then 25 s.

#[path = "common/side_by_side.rs"]
mod side_by_side;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use rustix::time::{ClockId, clock_gettime};
use side_by_side::SideBySide;
use tokenflight::middleware::reqwest::{BearerAuth, SendWith};
use tokenflight::{Token, TokenActor, TokenHandle, source_fn};

const ROUNDS: usize = 9;
const CONNECTIONS: &str = "32";
const ROUND: Duration = Duration::from_secs(2);
const REVOKED_EVERY: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(25);
const LIFETIME: Duration = Duration::from_secs(30);

const WITHOUT: &str = "without a token";
const BY_HAND: &str = "the header set by hand";
const MIDDLEWARE: &str = "the middleware";

/// The tokens that the API takes.
#[derive(Clone, Default)]
struct Valid(Arc<RwLock<HashSet<String>>>);

impl Valid {
    fn contains(&self, token: &str) -> bool {
        self.0.read().expect("nobody panics").contains(token)
    }

    fn insert(&self, token: String) {
        self.0.write().expect("nobody panics").insert(token);
    }

    fn clear(&self) {
        self.0.write().expect("nobody panics").clear();
    }
}

async fn guarded(request: HttpRequest, valid: web::Data<Valid>) -> HttpResponse {
    let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match sent.and_then(|sent| sent.strip_prefix("Bearer ")) {
        Some(token) if valid.contains(token) => HttpResponse::Ok().body("an order"),
        _ => HttpResponse::Unauthorized()
            .insert_header((WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#))
            .finish(),
    }
}

async fn open() -> &'static str {
    "an order"
}

/// What the service has.
struct Service {
    client: reqwest::Client,
    api: String,
    tokens: TokenHandle,
    auth: BearerAuth,
}

async fn answer(response: Option<reqwest::Response>) -> HttpResponse {
    match response {
        Some(response) if response.status().is_success() => match response.bytes().await {
            Ok(body) => HttpResponse::Ok().body(body),
            Err(_) => HttpResponse::BadGateway().finish(),
        },
        _ => HttpResponse::BadGateway().finish(),
    }
}

async fn without(service: web::Data<Service>) -> HttpResponse {
    answer(service.client.get(format!("{}/open", service.api)).send().await.ok()).await
}

async fn by_hand(service: web::Data<Service>) -> HttpResponse {
    let Ok(token) = service.tokens.get().await else { return HttpResponse::ServiceUnavailable().finish() };
    let request = service.client.get(format!("{}/orders", service.api));
    answer(request.header(reqwest::header::AUTHORIZATION, token.authorization()).send().await.ok()).await
}

async fn by_middleware(service: web::Data<Service>) -> HttpResponse {
    answer(service.client.get(format!("{}/orders", service.api)).send_with(&service.auth).await.ok()).await
}

/// Requests a second, and how many failed.
fn load(url: &str, time: Duration) -> (f64, u64) {
    let seconds = format!("{}s", time.as_secs());
    let out = Command::new("wrk").args(["-t", "1", "-c", CONNECTIONS, "-d", &seconds, url]).output();
    let out = out.expect("wrk is there (Debian: apt-get install wrk)");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let number = |mark: &str| {
        let line = text.lines().find(|line| line.contains(mark))?;
        line.rsplit(' ').find_map(|word| word.trim_end_matches(',').parse::<f64>().ok())
    };
    let rate = number("Requests/sec:").expect("wrk says so");
    let errors = number("Non-2xx").unwrap_or_default();
    // "Socket errors: connect 0, read 0, write 0, timeout 0" stands there only if there are any.
    let sockets = text.lines().filter(|line| line.contains("Socket errors")).count();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
    (rate, errors as u64 + sockets as u64)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let valid = Valid::default();
    let calls = Arc::new(AtomicU64::new(0));
    let (issued, counted) = (valid.clone(), Arc::clone(&calls));
    let source = source_fn(move |_cx| {
        let token = format!("token-{}-{}", counted.fetch_add(1, Ordering::Relaxed), "x".repeat(800));
        issued.insert(token.clone());
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(Token::new(token).with_lifetime(LIFETIME))
        }
    });
    let accepted = valid.clone();
    actix_web::rt::System::new().block_on(async move {
        let api = HttpServer::new(move || {
            let data = web::Data::new(accepted.clone());
            App::new()
                .app_data(data)
                .route("/orders", web::get().to(guarded))
                .route("/open", web::get().to(open))
        });
        let api = api.workers(1).bind("127.0.0.1:0")?;
        let url = format!("http://{}", api.addrs()[0]);
        let api = api.run();
        let api_handle = api.handle();
        actix_web::rt::spawn(api);
        let tokens = TokenActor::builder(source).start()?;
        let auth = BearerAuth::builder(&tokens).allow(&url).build()?;
        let service = Service { client: reqwest::Client::new(), api: url, tokens: tokens.clone(), auth };
        let service = web::Data::new(service);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(service.clone())
                .route("/without", web::get().to(without))
                .route("/by_hand", web::get().to(by_hand))
                .route("/by_middleware", web::get().to(by_middleware))
        });
        let server = server.workers(1).bind("127.0.0.1:0")?;
        let url = format!("http://{}", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        web::block(move || measure(&url, &valid, &calls)).await?;
        handle.stop(true).await;
        api_handle.stop(true).await;
        tokens.shutdown().await;
        Ok(())
    })
}

/// Of this process, which is the service and the API. It says more than the requests/s where others use the machine.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}

fn measure(url: &str, valid: &Valid, calls: &AtomicU64) {
    let failed = Cell::new(0);
    let cpu = RefCell::new(BTreeMap::<_, Vec<f64>>::new());
    let way = |path: &'static str| {
        let before = cpu_time();
        let (rate, errors) = load(&format!("{url}/{path}"), ROUND);
        let took = cpu_time().saturating_sub(before).as_secs_f64();
        cpu.borrow_mut().entry(path).or_default().push(took / (rate * ROUND.as_secs_f64()));
        failed.set(failed.get() + errors);
        rate
    };
    let figures = SideBySide::new("A service that asks an API, 32 connections", "requests/s")
        .row(WITHOUT, || way("without"))
        .row(BY_HAND, || way("by_hand"))
        .row(MIDDLEWARE, || way("by_middleware"))
        .measure(ROUNDS);
    figures.print(BY_HAND);
    let middleware = figures.median(MIDDLEWARE);
    println!("failed: {}", failed.get());
    println!("middleware to by hand: {:.3} (at least 0.97)", middleware / figures.median(BY_HAND));
    println!("middleware to without a token: {:.3} (at least 0.95)", middleware / figures.median(WITHOUT));
    let cpu = |path| median(cpu.borrow_mut().remove(path).unwrap_or_default()) * 1e6;
    let [without, by_hand, middleware] = ["without", "by_hand", "by_middleware"].map(cpu);
    println!(
        "CPU time of the service and the API for a request: {without:.2} us, {by_hand:.2} us, {middleware:.2} us: by hand to \
         the middleware {:.3}, without a token to it {:.3}",
        by_hand / middleware,
        without / middleware
    );
    let before = calls.load(Ordering::Relaxed);
    let (rate, failed) = std::thread::scope(|scope| {
        let loaded = scope.spawn(|| load(&format!("{url}/by_middleware"), LONG));
        while !loaded.is_finished() {
            std::thread::park_timeout(REVOKED_EVERY);
            valid.clear();
        }
        loaded.join().expect("it does not panic")
    });
    let calls = calls.load(Ordering::Relaxed) - before;
    println!(
        "all tokens revoked each {REVOKED_EVERY:?} for {LONG:?}: {rate:.0} requests/s, {failed} failed, {calls} auth calls"
    );
}
