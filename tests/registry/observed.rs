//! A registry for an operator: its lines in the log, and its figures at a recorder.

use std::cell::RefCell;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use log::kv::{self, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use tokenflight::registry::{TokenRegistry, TokenRegistryBuilder};
use tokenflight::source::{Group, KeyedSource};
use tokenflight::testing::ManualClock;
use tokenflight::{FetchContext, SourceError, Token};

use crate::support::{plain, secs, settle};

/// The lines that were written on this thread, with their levels and their fields.
struct Lines;

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "tokenflight"
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut line = Line(record.args().to_string());
            record.key_values().visit(&mut line).unwrap();
            let line = line.0;
            LINES.with_borrow_mut(|lines| lines.push((record.level(), line)));
        }
    }

    fn flush(&self) {}
}

/// A line with its fields.
struct Line(String);

impl<'kvs> VisitSource<'kvs> for Line {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        write!(self.0, " {key}={value}").map_err(kv::Error::from)
    }
}

fn listen() {
    let _ = log::set_logger(&Lines);
    log::set_max_level(LevelFilter::Trace);
    lines();
}

/// The lines since this was last asked.
fn lines() -> Vec<(Level, String)> {
    LINES.with_borrow_mut(std::mem::take)
}

fn at_info_or_above(lines: &[(Level, String)]) -> Vec<(Level, &str)> {
    let loud = lines.iter().filter(|(level, _)| *level <= Level::Info);
    loud.map(|(level, line)| (*level, line.as_str())).collect()
}

/// An auth server that names the tenant in its tokens and in its errors.
#[derive(Clone, Default)]
struct Server(Arc<State>);

#[derive(Default)]
struct State {
    is_down: AtomicBool,
    refuses: AtomicBool,
    calls: AtomicUsize,
}

impl KeyedSource<String> for Server {
    async fn fetch(&self, key: &String, _: FetchContext) -> Result<Token, SourceError> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        if self.0.is_down.load(Ordering::Relaxed) {
            return Err(SourceError::transient(format!("no connection to /{key}/token")));
        }
        #[cfg(feature = "oauth2")]
        if self.0.refuses.load(Ordering::Relaxed) {
            let status = http::StatusCode::UNAUTHORIZED;
            return Err(SourceError::terminal(tokenflight::oauth::OAuthError::new(status, "invalid_client")));
        }
        Ok(Token::new(format!("secret-of-{key}")))
    }

    fn client(&self, _: &String) -> Option<Group> {
        Some(Group::of("the one client"))
    }
}

fn registry(
    server: &Server,
    set: impl FnOnce(TokenRegistryBuilder<String>) -> TokenRegistryBuilder<String>,
) -> TokenRegistry<String> {
    tokio::time::pause();
    let policy = plain().attempts(1).cooldown(secs(1));
    let builder = TokenRegistry::builder(server.clone()).policy(policy).clock(ManualClock::new()).seed(7);
    set(builder.name("acme")).start().unwrap()
}

/// All of so many tenants ask at once. Returns how many got a token.
async fn all_ask(tokens: &TokenRegistry<String>, tenants: usize) -> usize {
    let asking: Vec<_> =
        (0..tenants).map(|tenant| actix_rt::spawn(tokens.get(&format!("tenant-{tenant}")))).collect();
    let mut served = 0;
    for caller in asking {
        served += usize::from(caller.await.unwrap().is_ok());
    }
    served
}

/// A minute in which 1,000 tenants ask each second, and the auth server is down.
async fn outage(server: &Server, tokens: &TokenRegistry<String>) {
    server.0.is_down.store(true, Ordering::Relaxed);
    for _ in 0..60 {
        assert_eq!(all_ask(tokens, 1_000).await, 0);
        tokio::time::sleep(secs(1)).await;
    }
    server.0.is_down.store(false, Ordering::Relaxed);
    tokio::time::sleep(secs(10)).await;
    assert_eq!(all_ask(tokens, 1_000).await, 1_000);
}

#[actix::test]
async fn an_outage_is_one_warning_when_it_begins_one_a_minute_and_one_when_it_is_over() {
    listen();
    let server = Server::default();
    let tokens = registry(&server, |builder| builder);
    outage(&server, &tokens).await;
    let all = lines();
    let loud = at_info_or_above(&all);
    assert_eq!(loud.len(), 3, "{loud:#?}");
    let (level, begin) = loud[0];
    assert_eq!(level, Level::Warn);
    for part in [
        "registry \"acme\"",
        "an outage of the auth server begins (unavailable)",
        "999 keys wait, 999 callers",
    ] {
        assert!(begin.contains(part), "{part:?} in {begin:?}");
    }
    let (level, reminder) = loud[1];
    assert_eq!(level, Level::Warn);
    assert!(reminder.contains("the outage of the auth server goes on for 6"), "{reminder:?}");
    let (level, end) = loud[2];
    assert_eq!(level, Level::Warn);
    assert!(end.contains("the outage of the auth server is over after 7"), "{end:?}");
    assert!(loud.iter().all(|(_, line)| !line.contains("tenant")), "no key is named: {loud:#?}");
    assert!(all.iter().all(|(_, line)| !line.contains("secret-of")), "no secret is named at any level");
}

#[actix::test]
async fn keys_are_named_where_the_user_says_so_and_at_debug_alone() {
    listen();
    let server = Server::default();
    let tokens = registry(&server, |builder| {
        builder.key_label(|key| (key != "tenant-1").then(|| key.replace("tenant", "customer")))
    });
    all_ask(&tokens, 3).await;
    let all = lines();
    assert_eq!(at_info_or_above(&all), []);
    let named = |name: &str| all.iter().filter(|(_, line)| line.contains(name)).count();
    assert_eq!([named("key \"customer-0\""), named("key \"customer-2\"")], [2, 2], "{all:#?}");
    assert_eq!([named("customer-1"), named("a key refreshed"), named("tenant")], [0, 1, 0], "{all:#?}");
}

#[actix::test]
async fn a_label_that_panics_costs_the_name_alone() {
    listen();
    let server = Server::default();
    let tokens = registry(&server, |builder| builder.key_label(|_| panic!("the test says so")));
    assert_eq!(all_ask(&tokens, 2).await, 2);
    assert_eq!(lines().iter().filter(|(_, line)| line.contains("a key refreshed")).count(), 2);
}

/// The levels and the lines at WARN and above.
fn at_warn_or_above(lines: &[(Level, String)]) -> Vec<(Level, &str)> {
    at_info_or_above(lines).into_iter().filter(|(level, _)| *level <= Level::Warn).collect()
}

#[track_caller]
fn assert_lines(loud: &[(Level, &str)], expected: &[(Level, &str)]) {
    assert_eq!(loud.len(), expected.len(), "{loud:#?}");
    for ((level, line), (expected, part)) in loud.iter().zip(expected) {
        assert!(level == expected && line.contains(part), "{part:?} in {loud:#?}");
    }
    assert!(loud.iter().all(|(_, line)| !line.contains("tenant")), "no key is named: {loud:#?}");
}

#[actix::test]
async fn an_outage_with_one_key_in_use_is_told_too() {
    listen();
    let server = Server::default();
    let tokens = registry(&server, |builder| builder);
    server.0.is_down.store(true, Ordering::Relaxed);
    for _ in 0..65 {
        assert_eq!(all_ask(&tokens, 1).await, 0);
        tokio::time::sleep(secs(1)).await;
    }
    server.0.is_down.store(false, Ordering::Relaxed);
    tokio::time::sleep(secs(10)).await;
    assert_eq!(all_ask(&tokens, 1).await, 1);
    let all = lines();
    let fails = "refreshes fail for 1 keys, the last one: unavailable";
    let over = "no refresh of a key fails any more, after 7";
    assert_lines(&at_warn_or_above(&all), &[(Level::Warn, fails), (Level::Warn, fails), (Level::Warn, over)]);
}

#[actix::test]
async fn refusals_of_any_source_are_errors_with_the_number_of_keys() {
    listen();
    tokio::time::pause();
    let source = |tenant: String, _: FetchContext| async move {
        match tenant.as_str() {
            "tenant-0" => Ok(Token::new("s3cret")),
            _ => Err(SourceError::terminal(format!("{tenant} may not"))),
        }
    };
    let policy = plain().attempts(1).cooldown(secs(1));
    let builder = TokenRegistry::builder(source).policy(policy).clock(ManualClock::new()).seed(7);
    let tokens = builder.name("acme").start().unwrap();
    for _ in 0..30 {
        assert_eq!(all_ask(&tokens, 100).await, 1);
        tokio::time::sleep(secs(1)).await;
    }
    let all = lines();
    assert_lines(
        &at_warn_or_above(&all),
        &[(Level::Error, "refreshes fail for 99 keys, the last one: rejected")],
    );
}

#[actix::test]
async fn reports_beyond_the_budget_and_repeated_secrets_are_counted_once_a_minute() {
    listen();
    tokio::time::pause();
    let source = |_: String, _: FetchContext| async { Ok(Token::new("the-same-for-all")) };
    let policy = plain().attempts(1).reports(1);
    let builder = TokenRegistry::builder(source).policy(policy).clock(ManualClock::new()).seed(7);
    let tokens = builder.name("acme").start().unwrap();
    for tenant in ["tenant-1", "tenant-2", "tenant-3"] {
        let token = tokens.get(&tenant.to_owned()).await.unwrap();
        for _ in 0..3 {
            assert!(tokens.replace(&tenant.to_owned(), &token).await.unwrap().is_same(&token));
        }
    }
    settle().await;
    tokio::time::sleep(secs(180)).await;
    let all = lines();
    let loud = at_warn_or_above(&all);
    let count = |part: &str| loud.iter().filter(|(_, line)| line.contains(part)).count();
    assert_eq!(count("the source gave the same tokens again"), 2, "at once, and after a minute: {loud:#?}");
    assert_eq!(count("more often than the budget of reports allows (5 times)"), 1, "{loud:#?}");
    assert_eq!(count("no more reports beyond the budget, after"), 1, "{loud:#?}");
    assert!(loud.iter().all(|(_, line)| !line.contains("tenant")), "no key is named: {loud:#?}");
    assert!(all.iter().any(|(level, line)| *level == Level::Debug
        && line.contains("reported as rejected (replace): the budget is spent")));
}

#[cfg(feature = "oauth2")]
#[actix::test]
async fn a_client_that_is_refused_is_one_error_for_all_its_keys() {
    listen();
    let server = Server::default();
    let tokens = registry(&server, |builder| builder);
    server.0.refuses.store(true, Ordering::Relaxed);
    for _ in 0..30 {
        assert_eq!(all_ask(&tokens, 100).await, 0);
        tokio::time::sleep(secs(1)).await;
    }
    server.0.refuses.store(false, Ordering::Relaxed);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(all_ask(&tokens, 100).await, 100);
    let all = lines();
    let loud = at_info_or_above(&all);
    assert_eq!(
        loud.iter().map(|line| line.0).collect::<Vec<_>>(),
        [Level::Error, Level::Error, Level::Warn],
        "{loud:#?}"
    );
    assert!(
        loud[0].1.contains("invalid_client") && loud[2].1.contains("all clients are accepted"),
        "{loud:#?}"
    );
    assert!(loud[1].1.contains("still refuses a client"), "{loud:#?}");
    assert!(loud.iter().all(|(_, line)| !line.contains("tenant")));
}

#[cfg(feature = "metrics")]
mod metrics_of_a_registry {
    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

    use super::*;

    /// What a scrape shows of this metric, labels and all.
    #[track_caller]
    fn value(shown: &str, metric: &str) -> f64 {
        let line = shown.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {metric} in {shown}")).parse().unwrap()
    }

    /// Each total of the status, beside what a scrape shows of it.
    async fn assert_all_shown(tokens: &TokenRegistry<String>, recorder: &PrometheusHandle) {
        let status = tokens.totals().await.unwrap();
        settle().await;
        let shown = recorder.render();
        #[allow(clippy::cast_precision_loss)]
        let numbers = [
            ("requests_total", status.counters.requests as f64),
            ("attempts_total", status.counters.attempts as f64),
            ("keys", status.keys as f64),
            ("busy_keys", status.busy_keys as f64),
            ("waiters", status.waiters as f64),
            ("calls", status.calls as f64),
            ("max_calls", status.max_calls as f64),
            ("queued_keys", status.queued as f64),
            ("closed_clients", status.closed_clients as f64),
            ("gate_closed", if status.closed.is_some() { 1.0 } else { 0.0 }),
        ];
        for (name, expected) in numbers {
            let metric = format!("tokenflight_registry_{name}{{registry=\"acme\"}}");
            assert!((value(&shown, &metric) - expected).abs() < 0.5, "{metric}: {expected} in {shown}");
        }
        #[allow(clippy::cast_precision_loss)]
        let by_label = [
            ("closures_total", "of=\"endpoint\"", status.closures as f64),
            ("evictions_total", "reason=\"room\"", status.evicted as f64),
        ];
        for (name, label, expected) in by_label {
            let metric = format!("tokenflight_registry_{name}{{registry=\"acme\",{label}}}");
            assert!((value(&shown, &metric) - expected).abs() < 0.5, "{metric}: {expected} in {shown}");
        }
    }

    #[actix::test]
    async fn the_totals_of_a_thousand_keys_and_an_outage_are_seen_and_no_key() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let shown = recorder.handle();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let server = Server::default();
        let tokens = registry(&server, |builder| builder.max_keys(1_000));
        outage(&server, &tokens).await;
        for late in 0..10 {
            tokens.get(&format!("tenant-late-{late}")).await.unwrap();
        }
        assert_all_shown(&tokens, &shown).await;
        let status = tokens.totals().await.unwrap();
        assert!(status.evicted == 10 && status.closures >= 2, "{status:?}");

        let rendered = shown.render();
        let of = |name: &str| value(&rendered, &format!("tokenflight_registry_{name}"));
        let calls = of("calls_total{registry=\"acme\",outcome=\"ok\"}")
            + of("calls_total{registry=\"acme\",outcome=\"unavailable\"}");
        #[allow(clippy::cast_precision_loss)]
        let made = server.0.calls.load(Ordering::Relaxed) as f64;
        assert!((calls - made).abs() < 0.5, "{calls} shown, {made} made");
        let closed = of("gate_closed_milliseconds_total{registry=\"acme\"}");
        assert!((70_000.0..75_000.0).contains(&closed), "{closed}");
        let refreshed = of("refreshes_total{registry=\"acme\",outcome=\"ok\",reason=\"first\"}");
        assert!((refreshed - 1_010.0).abs() < 0.5, "{refreshed}");
        assert!(!rendered.contains("tenant"), "no key is named");
        assert!(rendered.lines().count() < 400, "{} lines for 1,000 keys", rendered.lines().count());
        assert!(
            rendered.contains("# HELP tokenflight_registry_requests_total Requests"),
            "each is described"
        );
    }

    #[actix::test]
    async fn while_the_gate_is_closed_that_is_seen() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let shown = recorder.handle();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let server = Server::default();
        let tokens = registry(&server, |builder| builder.max_calls(4).max_waiters(100));
        server.0.is_down.store(true, Ordering::Relaxed);
        all_ask(&tokens, 3).await;
        assert!(tokens.totals().await.unwrap().closed.is_some());
        assert_all_shown(&tokens, &shown).await;

        // The probe is under way, 98 wait for its end, and 2 find no seat.
        tokio::time::sleep(secs(1)).await;
        let asking: Vec<_> =
            (0..102).map(|tenant| actix_rt::spawn(tokens.get(&format!("tenant-{tenant}")))).collect();
        settle().await;
        assert_all_shown(&tokens, &shown).await;
        let refused = value(&shown.render(), "tokenflight_registry_overloads_total{registry=\"acme\"}");
        assert!((refused - 2.0).abs() < 0.5, "{refused}");
        for caller in asking {
            assert!(caller.await.unwrap().is_err());
        }
    }

    /// One key calls, and nine wait for its end. Then all of them go.
    async fn keys_go_together(is_shutdown: bool) {
        let recorder = PrometheusBuilder::new().build_recorder();
        let shown = recorder.handle();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let server = Server::default();
        let tokens = registry(&server, |builder| builder.max_calls(1));
        let asking: Vec<_> =
            (0..10).map(|tenant| actix_rt::spawn(tokens.get(&format!("tenant-{tenant}")))).collect();
        settle().await;
        if is_shutdown {
            tokens.shutdown().await;
        } else {
            assert_eq!(tokens.retain(|_| false).await, 10);
            assert_eq!(tokens.totals().await.unwrap().counters.attempts, 1);
        }
        for caller in asking {
            assert!(caller.await.unwrap().unwrap_err().is_stopped());
        }
        settle().await;
        let metric = "tokenflight_registry_calls_total{registry=\"acme\",outcome=\"abandoned\"}";
        let abandoned = value(&shown.render(), metric);
        assert!((abandoned - 1.0).abs() < 0.5, "{abandoned}");
        assert_eq!(server.0.calls.load(Ordering::Relaxed), 1);
    }

    #[actix::test]
    async fn keys_that_are_removed_together_make_no_calls_for_each_other() {
        keys_go_together(false).await;
    }

    #[actix::test]
    async fn a_shutdown_begins_no_calls() {
        keys_go_together(true).await;
    }

    #[actix::test]
    async fn classes_of_keys_are_seen_where_the_user_names_them() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let shown = recorder.handle();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let server = Server::default();
        let tokens = registry(&server, |builder| {
            builder.key_label(|key| Some(if key == "tenant-0" { "gold" } else { "others" }.to_owned()))
        });
        all_ask(&tokens, 10).await;
        settle().await;
        let rendered = shown.render();
        for (class, times) in [("gold", 1.0), ("others", 9.0)] {
            for metric in [
                format!(
                    "tokenflight_registry_calls_total{{registry=\"acme\",outcome=\"ok\",key=\"{class}\"}}"
                ),
                format!(
                    "tokenflight_registry_refreshes_total{{registry=\"acme\",outcome=\"ok\",reason=\"first\",key=\"{class}\"}}"
                ),
            ] {
                assert!((value(&rendered, &metric) - times).abs() < 0.5, "{metric} in {rendered}");
            }
        }
    }
}
