//! The alerts and the dashboard on a real Prometheus. It scrapes the example service, and a small one in this
//! process that has the missing parts: a fleet, a login, an API that rejects.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tokenflight::middleware::reqwest::{BearerAuth, SendWith};
use tokenflight::oauth::Client;
use tokenflight::source::{RefreshToken, SharedSource};
use tokenflight::store::MemoryStore;
use tokenflight::vault::MemoryVault;
use tokenflight::{FetchContext, Reason, TokenActor, TokenHandle, TokenSource};

use super::*;
use crate::support::*;

/// A process that ends with the test.
struct Process(Child);

impl Process {
    /// Starts it, and waits for the address that it writes after `before`.
    #[track_caller]
    fn start(command: &mut Command, before: &str) -> (Self, String) {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut process = Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}; run ./tests/run")));
        let mut lines = BufReader::new(process.0.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line =
            lines.find(|line| line.contains(before)).unwrap_or_else(|| panic!("{command:?} has ended"));
        // It goes on writing, and somebody has to read.
        std::thread::spawn(move || lines.for_each(drop));
        let address = line.split(before).nth(1).unwrap();
        let address = address.split(|c: char| c.is_whitespace() || c == '/').next().unwrap().to_owned();
        (process, address)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prometheus");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The example, as it is deployed.
fn example(folder: &Path, auth: &str) -> (Process, String) {
    let settings = format!(
        "listen = '127.0.0.1:0'\napi = 'http://{auth}'\n[token.client_credentials]\n\
         token_url = 'http://{auth}/token'\nclient_id = 'service'\nclient_secret = 's3cret'\n"
    );
    let file = folder.join("service.toml");
    std::fs::write(&file, settings).unwrap();
    let mut program = std::env::current_exe().unwrap();
    program.pop(); // the test's own name
    program.pop(); // deps
    program.extend(["examples", &format!("actix_web_service{}", std::env::consts::EXE_SUFFIX)]);
    Process::start(Command::new(program).arg(file), "listening on http://")
}

fn prometheus(folder: &Path, example: &str, service: &str) -> (Process, String) {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations/alerts.yml");
    let config = format!(
        "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms }}\n\
         rule_files: ['{rules}']\nscrape_configs:\n\
         - {{ job_name: example, static_configs: [{{ targets: ['{example}'] }}] }}\n\
         - {{ job_name: service, static_configs: [{{ targets: ['{service}'] }}] }}\n",
        rules = rules.display(),
    );
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
    command.arg("--web.listen-address=127.0.0.1:0");
    Process::start(&mut command, "msg=\"Listening on\" address=")
}

/// An auth server whose tokens rotate, and an API that rejects them all.
async fn answer(request: HttpRequest, figures: web::Data<PrometheusHandle>) -> HttpResponse {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    match request.path() {
        "/metrics" => HttpResponse::Ok().body(figures.render()),
        "/token" => {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let (access, refresh) = (format!("access-{number}"), format!("refresh-{number}"));
            HttpResponse::Ok().json(json!({
                "access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600,
            }))
        }
        _ => HttpResponse::Unauthorized().finish(),
    }
}

fn service(figures: PrometheusHandle) -> String {
    let app = move || App::new().app_data(web::Data::new(figures.clone())).default_service(web::to(answer));
    let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
    let address = server.addrs()[0].to_string();
    actix_rt::spawn(server.run());
    address
}

/// A fleet of one, whose API rejects every token, and a login. Whoever is here next, something has happened to each metric.
struct World {
    tokens: TokenHandle,
    api: BearerAuth,
    url: String,
    login: RefreshToken<MemoryVault>,
}

impl World {
    fn begin(service: &str) -> Self {
        let url = format!("http://{service}");
        let client = Client::builder(format!("{url}/token"), "service").secret("s3cret").build().unwrap();
        let fetches = client.client_credentials().build().unwrap();
        let shared = SharedSource::builder("fleet").in_clear().build(fetches, MemoryStore::new()).unwrap();
        let tokens = TokenActor::builder(shared).policy(plain()).name("fleet").start().unwrap();
        let api = BearerAuth::builder(&tokens).allow(&url).build().unwrap();
        let login = client.refresh_token(MemoryVault::new()).login("refresh-0").build().unwrap();
        Self { tokens, api, url, login }
    }

    async fn step(&self) {
        let _ = reqwest::Client::new().get(&self.url).send_with(&self.api).await;
        let _ = self.tokens.refresh().await;
        let _ = self.login.fetch(FetchContext::new(Reason::First)).await;
    }
}

/// What Prometheus answers to a query, or to the question for its rules.
async fn asked(prometheus: &str, path: &str, query: &[(&str, &str)]) -> Value {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let url = format!("http://{prometheus}/api/v1/{path}?{body}");
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Each panel's title and query, as Grafana would send them.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$__rate_interval", "5s").replace("$job", ".*").replace("$token", ".*");
            assert!(!query.contains('$'), "{query}");
            queries.push((panel["title"].as_str().unwrap().to_owned(), query));
        }
    }
    queries
}

/// `/metrics` against the page: the type, and no label that the page does not name.
fn assert_as_on_the_page(exposition: &str) {
    let page: BTreeMap<_, _> = rows(PAGE)
        .filter(|row| row.len() == 5)
        .filter_map(|row| Some((code(row[0])?, (row[1], row[3]))))
        .collect();
    let of = |name: &str| *page.get(name).unwrap_or_else(|| panic!("{name} is not on the page"));
    for line in exposition.lines() {
        if let Some(line) = line.strip_prefix("# TYPE ") {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(of(name).0, kind.replace("summary", "histogram"), "{name}");
        } else if let Some((name, labels)) = line.split_once('{') {
            let name = ["_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let labels = labels.split_once('}').unwrap().0.split("\",");
            for label in
                labels.filter_map(|label| label.split('=').next()).filter(|label| *label != "quantile")
            {
                assert!(of(name).1.contains(&format!("`{label}`")), "{name} has the label {label}");
            }
        }
    }
}

#[actix::test]
async fn each_panel_has_data_and_each_alert_is_evaluated() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let figures = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let folder = folder();
    let service = service(figures.clone());
    let (_example, example) = example(&folder, &service);
    let (_prometheus, prometheus) = prometheus(&folder, &example, &service);
    let world = World::begin(&service);

    let mut open = queries();
    assert!(open.len() > 30, "{}", open.len());
    let begin = tokio::time::Instant::now();
    while !open.is_empty() {
        assert!(begin.elapsed() < secs(60), "these panels have no data: {open:#?}");
        world.step().await;
        let _ = reqwest::get(format!("http://{example}/orders")).await.unwrap();
        let mut still = Vec::new();
        for (title, query) in open {
            let answer = asked(&prometheus, "query", &[("query", &query)]).await;
            assert_eq!(answer["status"], "success", "{title}: {query}: {answer}");
            let rows = answer["data"]["result"].as_array().unwrap();
            if rows.iter().all(|row| row["value"][1] == "NaN") {
                still.push((title, query));
            }
        }
        open = still;
    }
    // The example is seen as well.
    let query = r#"rate(tokenflight_origin_reports_total{job="example", token="orders"}[5s])"#;
    let answer = asked(&prometheus, "query", &[("query", query)]).await;
    assert_ne!(answer["data"]["result"], json!([]), "{answer}");

    let rules = asked(&prometheus, "rules", &[]).await;
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), values(ALERTS, "alert").len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    assert_as_on_the_page(&figures.render());
}

#[test]
fn the_tests_of_the_alerts_pass() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations/alerts_test.yml");
    let output = Command::new("promtool").args(["test", "rules"]).arg(file).output();
    let output = output.unwrap_or_else(|error| panic!("promtool: {error}; run ./tests/run"));
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("SUCCESS"), "{said}");
}
