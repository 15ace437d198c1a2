//! A token that a real authorization server has revoked, and an API that introspects each token at that server (RFC
//! 7662): over HTTP, and over gRPC by tonic.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::future::join_all;
use http_body::Frame;
use http_body_util::BodyExt;
use prost::Message;
use serde_json::Value;
use tokenflight::middleware::BearerAuth;
use tokenflight::source::ClientCredentials;
use tokenflight::{TokenActor, TokenHandle};
use tonic::Request;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;

use crate::grpc::{Client, Text, answer, codec, framed, status, text};
use crate::{ADAPTORS, Call, Payload, Told, client, plain};

/// `oidc-provider`: `tests/oidc/README.md`. It ends with its standard input.
struct Provider {
    child: Child,
    addresses: Value,
}

impl Provider {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc");
        let mut command = Command::new("node");
        command.arg("server.mjs").current_dir(folder);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = started.expect("node: ./tests/run installs it");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addresses = serde_json::from_str(&line).expect("./tests/run installs what the server needs");
        Self { child, addresses }
    }

    fn address(&self, name: &str) -> String {
        self.addresses[name].as_str().unwrap().to_owned()
    }

    fn tokens(&self) -> TokenHandle {
        let source = ClientCredentials::builder(self.address("token_endpoint"), "plain", "plain-secret");
        TokenActor::builder(source.build().unwrap()).policy(plain()).start().unwrap()
    }

    async fn revoke(&self, token: &str) {
        let request =
            client().post(self.address("revocation_endpoint")).basic_auth("plain", Some("plain-secret"));
        let form = "application/x-www-form-urlencoded";
        let answer =
            request.header("content-type", form).body(format!("token={token}")).send().await.unwrap();
        assert!(answer.status().is_success());
    }

    async fn calls(&self) -> u64 {
        let answer =
            client().get(self.address("stats_endpoint")).send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice::<Value>(&answer).unwrap()["token_calls"].as_u64().unwrap()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// How often each request has come, by its body.
type Seen = Arc<Mutex<BTreeMap<String, u32>>>;

async fn is_active(introspection: &str, token: &str) -> bool {
    let question = client()
        .post(introspection)
        .basic_auth("plain", Some("plain-secret"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("token={token}"));
    let answer = question.send().await.unwrap().bytes().await.unwrap();
    serde_json::from_slice::<Value>(&answer).unwrap()["active"] == true
}

/// An API that asks about each token.
fn api(introspection: String, seen: Seen) -> String {
    async fn ask(
        request: HttpRequest,
        order: String,
        introspection: web::Data<String>,
        seen: web::Data<Mutex<BTreeMap<String, u32>>>,
    ) -> HttpResponse {
        *seen.lock().unwrap().entry(order).or_default() += 1;
        let shown = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let token = shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if is_active(&introspection, token).await {
            return HttpResponse::Ok().finish();
        }
        HttpResponse::Unauthorized()
            .insert_header(("www-authenticate", r#"Bearer error="invalid_token""#))
            .finish()
    }
    let (introspection, seen) = (web::Data::new(introspection), web::Data::from(seen));
    let app = move || {
        App::new().app_data(introspection.clone()).app_data(seen.clone()).route("/", web::post().to(ask))
    };
    let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
    let origin = format!("http://{}", server.addrs()[0]);
    actix_web::rt::spawn(server.run());
    origin
}

#[actix_web::test]
async fn of_50_concurrent_requests_with_a_revoked_token_all_succeed_after_one_refresh() {
    let provider = Provider::start();
    for adaptor in ADAPTORS {
        let seen = Seen::default();
        let origin = api(provider.address("introspection_endpoint"), Arc::clone(&seen));
        let tokens = provider.tokens();
        let auth = BearerAuth::builder(&tokens).allow(&origin).build().unwrap();
        let token = tokens.get().await.unwrap();
        provider.revoke(token.secret()).await;
        let before = provider.calls().await;

        let orders = (0..50).map(|number| Payload::Text(format!("order {number}")));
        let requests = orders.map(|order| adaptor.send(&auth, Call::post(&format!("{origin}/"), order)));
        let answers = join_all(requests).await;
        let served = answers.iter().filter(|told| **told == Told::Status(200)).count();
        let calls = provider.calls().await - before;
        let most = seen.lock().unwrap().values().copied().max().unwrap();
        println!("{adaptor:?}: {served} of 50 served, {calls} refresh, each sent at most {most} times");
        assert_eq!((served, calls, most), (50, 1, 2), "{adaptor:?}: {answers:?}");
        tokens.shutdown().await;
    }
}

/// A call of gRPC whose token is asked about. The path says where a rejection stands.
async fn serve(
    request: http::Request<Body>,
    introspection: String,
    seen: Seen,
) -> Result<http::Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let message = body.collect().await.unwrap().to_bytes();
    // Before a message stand a flag and its length.
    let order = Text::decode(message.slice(5..)).unwrap().text;
    *seen.lock().unwrap().entry(order).or_default() += 1;
    let token = parts.headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    if is_active(&introspection, token).await {
        return Ok(answer(vec![Frame::data(framed(&text("served"))), Frame::trailers(status(0))]));
    }
    if parts.uri.path() == "/test/trailers" {
        return Ok(answer(vec![Frame::trailers(status(16))]));
    }
    let mut rejected = answer(Vec::new());
    rejected.headers_mut().extend(status(16));
    Ok(rejected)
}

async fn grpc_api(introspection: String, seen: Seen) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let service = tower::service_fn(move |request| serve(request, introspection.clone(), Arc::clone(&seen)));
    tokio::spawn(Server::builder().serve_with_incoming(service, TcpIncoming::from(listener)));
    origin
}

#[actix_web::test]
async fn of_50_concurrent_calls_of_grpc_with_a_revoked_token_all_succeed_after_one_refresh() {
    let provider = Provider::start();
    for path in ["/test/headers", "/test/trailers"] {
        let seen = Seen::default();
        let origin = grpc_api(provider.address("introspection_endpoint"), Arc::clone(&seen)).await;
        let tokens = provider.tokens();
        let auth = BearerAuth::builder(&tokens).relative_to(&origin).build().unwrap();
        let channel = Channel::from_shared(origin).unwrap().connect().await.unwrap();
        let service = ServiceBuilder::new()
            .layer(auth)
            .map_request(|request: http::Request<_>| request.map(Body::new))
            .service(channel);
        let client: Grpc<Client> = Grpc::new(BoxCloneSyncService::new(service));
        let token = tokens.get().await.unwrap();
        provider.revoke(token.secret()).await;
        let before = provider.calls().await;

        let calls = (0..50).map(|number| {
            let mut client = client.clone();
            async move {
                client.ready().await.unwrap();
                let order = Request::new(text(&format!("order {number}")));
                client.unary(order, path.parse().unwrap(), codec()).await.map(tonic::Response::into_inner)
            }
        });
        let answers = join_all(calls).await;
        let served =
            answers.iter().filter(|answer| matches!(answer, Ok(said) if *said == text("served"))).count();
        let refreshes = provider.calls().await - before;
        let (orders, most) = {
            let seen = seen.lock().unwrap();
            (seen.len(), seen.values().copied().max().unwrap())
        };
        println!("tonic, {path}: {served} of 50 served, {refreshes} refresh, each sent at most {most} times");
        assert_eq!((served, orders, refreshes, most), (50, 50, 1, 2), "{path}: {answers:?}");
        tokens.shutdown().await;
    }
}
