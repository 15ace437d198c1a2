//! `examples/actix_web_service` under SIGTERM, and its readiness.
#![cfg(all(unix, feature = "metrics", feature = "actix-web"))]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use actix_web::{App, HttpResponse, HttpServer, web};
use futures_util::future::join_all;
use tokenflight::testing::{FakeAuthServer, Reply};
use tokio::sync::Semaphore;

use crate::client;

/// The service in a process of its own, and where it listens. `cargo test` builds it beside this binary.
fn serve(name: &str, settings: &str) -> (Child, String) {
    let mut folder = std::env::current_exe().unwrap();
    folder.pop(); // the test's own name
    folder.pop(); // deps
    let program = folder.join("examples/actix_web_service");
    assert!(program.exists(), "the example is not built: `cargo build --all-features --examples`");
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.toml"));
    std::fs::write(&file, settings).unwrap();
    let mut service = Command::new(program).arg(file).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(service.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").expect("the address").to_owned();
    (service, address)
}

fn settings(auth_server: &FakeAuthServer, api: &str) -> String {
    let token_url = auth_server.url();
    format!(
        "listen = \"127.0.0.1:0\"\napi = \"{api}\"\n[token.client_credentials]\ntoken_url = \"{token_url}\"\n\
         client_id = \"service\"\nclient_secret = \"s3cret\"\n[policy]\nattempts = 1\n"
    )
}

/// An API that answers when it may. What comes is counted by `came`.
fn api(came: &Arc<Semaphore>, may: &Arc<Semaphore>) -> String {
    let (came, may) = (Arc::clone(came), Arc::clone(may));
    let app = move || {
        let (came, may) = (Arc::clone(&came), Arc::clone(&may));
        let orders = move || {
            let (came, may) = (Arc::clone(&came), Arc::clone(&may));
            async move {
                came.add_permits(1);
                may.acquire().await.unwrap().forget();
                HttpResponse::Ok().body("[]")
            }
        };
        App::new().route("/orders", web::get().to(orders))
    };
    let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
    let origin = format!("http://{}", server.addrs()[0]);
    actix_web::rt::spawn(server.run());
    origin
}

#[actix_web::test]
async fn every_accepted_request_is_answered() {
    const REQUESTS: u32 = 32;
    let auth_server = FakeAuthServer::start().await.unwrap();
    let (came, may) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (mut service, address) = serve("sigterm", &settings(&auth_server, &api(&came, &may)));
    let requests = (0..REQUESTS).map(|_| client().get(format!("{address}orders")).send());
    let answers = actix_web::rt::spawn(join_all(requests));
    came.acquire_many(REQUESTS).await.unwrap().forget();
    let killed = Command::new("kill").args(["-TERM", &service.id().to_string()]).status().unwrap();
    assert!(killed.success());
    may.add_permits(REQUESTS as usize);
    let answers = answers.await.unwrap();
    let served =
        answers.iter().filter(|answer| answer.as_ref().is_ok_and(|answer| answer.status() == 200)).count();
    println!("SIGTERM with {REQUESTS} requests under way: {served} answered");
    assert_eq!(served, REQUESTS as usize);
    assert!(service.wait().unwrap().success());
    assert_eq!(auth_server.asked().len(), 1);
}

#[actix_web::test]
async fn it_is_ready_when_a_token_can_be_had_and_says_when_to_come_back() {
    let auth_server = FakeAuthServer::start().await.unwrap();
    auth_server.then(Reply::json(503, "").with_header("Retry-After", "7"));
    let (mut service, address) = serve("ready", &settings(&auth_server, "http://127.0.0.1:9"));
    for _ in 0..2 {
        let answer = client().get(format!("{address}ready")).send().await.unwrap();
        assert_eq!(answer.status(), 503);
        let seconds: u32 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=10).contains(&seconds), "{seconds}");
        let body = answer.text().await.unwrap();
        assert!(!body.contains("127.0.0.1"), "{body}");
    }
    assert_eq!(auth_server.asked().len(), 1, "the cooldown holds");
    assert_eq!(client().get(format!("{address}live")).send().await.unwrap().status(), 200);
    let figures = client().get(format!("{address}metrics")).send().await.unwrap().text().await.unwrap();
    assert!(figures.contains("tokenflight_refreshes_total"), "{figures}");
    service.kill().unwrap();
    service.wait().unwrap();
}
