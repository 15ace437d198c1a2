//! Tokens of Vault: logins, renewals, and new logins, at a server with Vault's rules.

use std::sync::Arc;
use std::time::Duration;

use tokenflight::clock::Clock;
use tokenflight::source::{Vault, VaultBuilder};
use tokenflight::testing::{ManualClock, Reply, fakes};
use tokenflight::{FetchContext, Reason, SourceError, Token, TokenActor, TokenSource, source_fn};

use crate::file_token::Folder;
use crate::http_sources::assert_field;
use crate::support::*;

const HOUR: Duration = secs(3600);

/// The token and the seconds that are left of it. Vault counts in whole seconds, and the test takes its time.
fn told(token: &Token) -> (&str, u64) {
    let left = token.remaining().unwrap().as_secs();
    (token.secret(), left.div_ceil(10) * 10)
}

/// A source whose fetches are made one after the other, in a time that the test moves.
struct Bench {
    server: fakes::VaultServer,
    source: Vault,
    clock: ManualClock,
}

fn approle(server: &fakes::VaultServer) -> VaultBuilder {
    Vault::approle(server.base_url(), "role-1").secret_id("secret-1")
}

impl Bench {
    async fn new() -> Self {
        let server = fakes::VaultServer::start().await.unwrap();
        let source = approle(&server).build().unwrap();
        Self { server, source, clock: ManualClock::new() }
    }

    fn pass(&self, time: Duration) {
        self.clock.suspend(time);
        self.server.advance(time);
    }

    async fn fetch(&self, reason: Reason) -> Result<Token, SourceError> {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        self.source.fetch(FetchContext::new(reason).with_clock(clock)).await
    }

    /// The paths that were asked since the last look, without what they have in common.
    fn paths(&self, from: usize) -> Vec<String> {
        let path = |head: &str| head.split(' ').nth(1).unwrap().replace("/v1/auth/", "");
        self.server.asked()[from..].iter().map(|asked| path(&asked.head)).collect()
    }
}

#[actix::test]
async fn a_role_logs_in_and_its_token_is_taken() {
    let bench = Bench::new().await;
    let token = bench.fetch(Reason::First).await.unwrap();
    assert_eq!(token.authorization(), "Bearer hvs.1");
    assert_eq!(told(&token), ("hvs.1", 3_600));
    let asked = &bench.server.asked()[0];
    assert!(asked.head.starts_with("POST /v1/auth/approle/login HTTP"), "{}", asked.head);
    assert_eq!(asked.body, r#"{"role_id":"role-1","secret_id":"secret-1"}"#);
    assert_eq!((asked.header("x-vault-request"), asked.header("x-vault-namespace")), (Some("true"), None));
    let url = format!("{}/v1/secret/data/app", bench.server.base_url());
    let request = reqwest::Client::new().get(url);
    let answer =
        request.header("authorization", token.authorization().to_str().unwrap()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let source = approle(&bench.server).namespace("team-a").mount("/team/approle/").build().unwrap();
    assert!(source.fetch(FetchContext::new(Reason::First)).await.unwrap_err().is_terminal(), "404");
    let asked = &bench.server.asked()[2];
    assert!(asked.head.starts_with("POST /v1/auth/team/approle/login HTTP"), "{}", asked.head);
    assert_eq!(asked.header("x-vault-namespace"), Some("team-a"));
}

#[actix::test]
async fn a_token_is_renewed_and_logged_in_for_again_near_the_end_of_its_longest_life() {
    let bench = Bench::new().await;
    bench.fetch(Reason::First).await.unwrap();
    for left in [3_600, 3_600, 3_600] {
        bench.pass(secs(2_400));
        let token = bench.fetch(Reason::Ahead).await.unwrap();
        assert_eq!(told(&token), ("hvs.1", left));
    }
    // 7,200 s of 10,800 s are over.
    bench.pass(secs(1_200));
    let token = bench.fetch(Reason::Ahead).await.unwrap();
    assert_eq!(told(&token), ("hvs.1", 2_400), "a shorter lease");
    bench.pass(secs(1_000));
    let asked = bench.server.asked().len();
    let token = bench.fetch(Reason::Ahead).await.unwrap();
    assert_eq!(told(&token), ("hvs.2", 3_600));
    assert_eq!(bench.paths(asked), ["token/renew-self", "approle/login"]);
    assert_eq!(bench.server.asked()[1].header("x-vault-token"), Some("hvs.1"));
}

#[actix::test]
async fn what_is_left_of_the_longest_life_is_used_where_the_login_fails() {
    let bench = Bench::new().await;
    bench.fetch(Reason::First).await.unwrap();
    for _ in 0..2 {
        bench.pass(secs(3_000));
        bench.fetch(Reason::Ahead).await.unwrap();
    }
    bench.pass(secs(3_000));
    bench.server.secret_id("another");
    let token = bench.fetch(Reason::Ahead).await.unwrap();
    assert_eq!(told(&token), ("hvs.1", 1_800));
    bench.pass(secs(1_800));
    assert!(bench.fetch(Reason::Expired).await.unwrap_err().is_terminal());
}

#[actix::test]
async fn a_renewal_that_gives_no_time_any_more_is_no_token_without_an_end() {
    let bench = Bench::new().await;
    bench.fetch(Reason::First).await.unwrap();
    for left in ["0", "-1", "null"] {
        let auth = format!(r#""client_token":"hvs.1","lease_duration":{left},"renewable":true"#);
        bench.server.then(Reply::json(200, format!(r#"{{"auth":{{{auth}}}}}"#)));
        bench.server.then(Reply::json(503, "{}"));
        bench.fetch(Reason::Ahead).await.unwrap_err();
    }
}

#[test]
fn a_lease_that_is_no_number_is_a_warn_and_the_missing_lifetime() {
    let name = "hashicorp_vault::a_lease_that_is_no_number_is_a_warn_and_the_missing_lifetime";
    let odd = [r#""3600s""#, r#""""#, "true", "{}"];
    if let Some(mut child) = in_its_own_process(name) {
        let written = all_that_is_written_by(&mut child);
        let told = "with a `lease_duration` that is not a number of seconds";
        let warned = written.lines().filter(|line| line.contains("WARN") && line.contains(told)).count();
        assert_eq!(warned, odd.len(), "{written}");
        assert!(!written.contains("3600s"), "not quoted: {written}");
        return;
    }
    env_logger::builder().filter_level(log::LevelFilter::Warn).init();
    actix_rt::System::new().block_on(async {
        for lease in odd.into_iter().chain(["null", "0"]) {
            let bench = Bench::new().await;
            let auth = format!(r#""client_token":"hvs.1","lease_duration":{lease},"renewable":false"#);
            bench.server.then(Reply::json(200, format!(r#"{{"auth":{{{auth}}}}}"#)));
            assert_eq!(bench.fetch(Reason::First).await.unwrap().remaining(), None, "the policy's is used");
        }
    });
}

#[actix::test]
async fn a_token_that_another_one_has_replaced_is_not_renewed() {
    let bench = Bench::new().await;
    assert_eq!(bench.fetch(Reason::First).await.unwrap().secret(), "hvs.1");
    let clock: Arc<dyn Clock> = Arc::new(bench.clock.clone());
    let cx = |secret: &str| {
        FetchContext::new(Reason::Ahead).with_clock(clock.clone()).with_previous(Token::new(secret))
    };
    assert_eq!(bench.source.fetch(cx("hvs.1")).await.unwrap().secret(), "hvs.1", "its own");
    // Another process has discarded that one, and the fleet has a new one.
    assert_eq!(bench.source.fetch(cx("hvs.other")).await.unwrap().secret(), "hvs.2");
    assert_eq!(bench.paths(1), ["token/renew-self", "approle/login"]);
    // A login that failed after a report leaves nothing to be renewed.
    bench.server.then(Reply::json(503, "{}"));
    bench.fetch(Reason::Rejected).await.unwrap_err();
    assert_eq!(bench.fetch(Reason::Ahead).await.unwrap().secret(), "hvs.3");
}

/// The `secret_id` may be used up, so that the token lives on its renewals.
#[actix::test]
async fn a_token_whose_replacement_failed_is_renewed_where_no_login_is_accepted() {
    for reason in [Reason::Rejected, Reason::Forced] {
        let bench = Bench::new().await;
        let token = bench.fetch(Reason::First).await.unwrap();
        assert_eq!(told(&token), ("hvs.1", 3_600));
        bench.server.secret_id("used-up");
        let clock: Arc<dyn Clock> = Arc::new(bench.clock.clone());
        let cx = |reason| FetchContext::new(reason).with_clock(clock.clone()).with_previous(token.clone());
        assert!(bench.source.fetch(cx(reason)).await.unwrap_err().is_terminal());
        bench.pass(secs(2_400));
        for _ in 0..2 {
            let from = bench.server.asked().len();
            assert_eq!(told(&bench.source.fetch(cx(Reason::Ahead)).await.unwrap()), ("hvs.1", 3_600));
            assert_eq!(bench.paths(from), ["approle/login", "token/renew-self"], "the login goes first");
        }
        bench.server.secret_id("secret-1");
        assert_eq!(told(&bench.source.fetch(cx(Reason::Ahead)).await.unwrap()), ("hvs.2", 3_600));
        let from = bench.server.asked().len();
        let cx = cx(Reason::Ahead).with_previous(Token::new("hvs.2"));
        bench.source.fetch(cx).await.unwrap();
        assert_eq!(bench.paths(from), ["token/renew-self"], "the new token is like any other");
    }
}

#[actix::test]
async fn a_refused_renewal_or_a_lease_that_cannot_be_renewed_means_a_login() {
    let bench = Bench::new().await;
    bench.fetch(Reason::First).await.unwrap();
    bench.server.revoke_all();
    let token = bench.fetch(Reason::Ahead).await.unwrap();
    assert_eq!(token.secret(), "hvs.2");
    assert_eq!(bench.paths(1), ["token/renew-self", "approle/login"]);
    // Reported, and asked for by force: a renewal would bring the same token.
    assert_eq!(bench.fetch(Reason::Rejected).await.unwrap().secret(), "hvs.3");
    assert_eq!(bench.fetch(Reason::Forced).await.unwrap().secret(), "hvs.4");
    // After its end nothing is there to renew.
    bench.pass(HOUR);
    assert_eq!(bench.fetch(Reason::Expired).await.unwrap().secret(), "hvs.5");
    bench.server.not_renewable();
    assert_eq!(bench.fetch(Reason::Forced).await.unwrap().secret(), "hvs.6");
    let asked = bench.server.asked().len();
    assert_eq!(bench.fetch(Reason::Ahead).await.unwrap().secret(), "hvs.7");
    assert_eq!(bench.paths(asked), ["approle/login"], "no renewal is tried");
}

#[actix::test]
async fn settings_for_new_tokens_do_not_change_the_tokens_that_were_issued() {
    let bench = Bench::new().await;
    bench.fetch(Reason::First).await.unwrap();
    bench.server.not_renewable().leases(secs(600), secs(900));
    let server: &fakes::VaultServer = &bench.server;
    bench.pass(secs(2_400));
    assert_eq!(told(&bench.fetch(Reason::Ahead).await.unwrap()), ("hvs.1", 3_600), "its first lease again");
    assert_eq!(bench.paths(1), ["token/renew-self"]);
    assert_eq!(told(&bench.fetch(Reason::Forced).await.unwrap()), ("hvs.2", 600));
    assert_eq!(server.asked().len(), 3);
}

#[actix::test]
async fn a_lease_is_at_least_a_second_and_may_be_as_long_as_a_duration_goes() {
    let bench = Bench::new().await;
    for (lease, longest) in [(Duration::ZERO, HOUR), (millis(300), HOUR), (HOUR, Duration::ZERO)] {
        bench.server.leases(lease, longest);
        let token = bench.fetch(Reason::Forced).await.unwrap();
        assert!(token.remaining().is_some_and(|left| left <= secs(1)), "{lease:?}");
    }
    bench.server.leases(millis(1_300), HOUR);
    let left = bench.fetch(Reason::Forced).await.unwrap().remaining().unwrap();
    assert!(left > secs(1) && left <= secs(2), "{left:?}");
    bench.server.leases(Duration::MAX, Duration::MAX);
    let token = bench.fetch(Reason::Forced).await.unwrap();
    let ask = async || {
        let request = reqwest::Client::new().get(format!("{}/v1/secret/data/app", bench.server.base_url()));
        request.header("x-vault-token", token.secret()).send().await.unwrap().status()
    };
    assert_eq!(ask().await, 200);
    bench.fetch(Reason::Ahead).await.unwrap();
    assert_eq!(ask().await, 200);
    bench.server.advance(Duration::MAX).advance(Duration::MAX);
    assert_eq!(ask().await, 403);
}

#[actix::test]
async fn the_actor_renews_from_two_thirds_of_the_lease_on() {
    let server = fakes::VaultServer::start().await.unwrap();
    let source = approle(&server).build().unwrap();
    let clock = ManualClock::new();
    let policy = plain().jitter(0.0);
    let handle = TokenActor::builder(source).policy(policy).clock(clock.clone()).start().unwrap();
    let go_on = async |time| {
        clock.suspend(time);
        server.advance(time);
        let token = handle.get().await.unwrap();
        while handle.status().await.unwrap().state != tokenflight::FlightState::Idle {
            tokio::task::yield_now().await;
        }
        (token.secret().to_owned(), server.asked().len())
    };
    assert_eq!(go_on(secs(0)).await, ("hvs.1".into(), 1));
    assert_eq!(go_on(secs(2_390)).await, ("hvs.1".into(), 1));
    assert_eq!(go_on(secs(20)).await, ("hvs.1".into(), 2), "renewed behind the caller's back");
    assert_eq!(go_on(secs(2_390)).await, ("hvs.1".into(), 2), "the lease began anew");
    server.revoke_all();
    assert_eq!(go_on(secs(20)).await, ("hvs.1".into(), 4));
    assert_eq!(go_on(secs(0)).await, ("hvs.2".into(), 4));
}

#[actix::test]
async fn a_pod_logs_in_by_the_token_of_its_service_account_as_it_is_now() {
    let server = fakes::VaultServer::start().await.unwrap();
    let folder = Folder::new();
    let path = folder.write("token", "jwt-1\n");
    let source = Vault::kubernetes(server.base_url(), "orders").jwt_file(&path).build().unwrap();
    let fetch = async |reason| source.fetch(FetchContext::new(reason)).await;
    assert_eq!(fetch(Reason::First).await.unwrap().secret(), "hvs.1");
    assert_eq!(server.asked()[0].body, r#"{"jwt":"jwt-1","role":"orders"}"#);
    folder.write("token", "jwt-2\n");
    server.jwt("jwt-2");
    assert_eq!(fetch(Reason::Forced).await.unwrap().secret(), "hvs.2", "read again for each login");
    folder.write("token", "jwt-3\n");
    let error = fetch(Reason::Forced).await.unwrap_err();
    assert!(error.is_terminal() && error.to_string().contains("permission denied"), "{error}");
    let other = Vault::kubernetes(server.base_url(), "other").jwt_file(&path).build().unwrap();
    assert!(other.fetch(FetchContext::new(Reason::First)).await.unwrap_err().is_terminal());
    let failing = source_fn(|_cx| async { Err(SourceError::transient("no file")) });
    let source = Vault::kubernetes(server.base_url(), "orders").jwt(failing).build().unwrap();
    let error = source.fetch(FetchContext::new(Reason::First)).await.unwrap_err();
    assert_eq!(error.to_string(), "the JWT of Vault's login: no file");
    assert!(!error.is_terminal());
}

#[actix::test]
async fn a_secret_id_that_was_replaced_in_its_file_is_tried_once_more() {
    let server = fakes::VaultServer::start().await.unwrap();
    let folder = Folder::new();
    let path = folder.write("secret", "secret-1\n");
    let source = Vault::approle(server.base_url(), "role-1").secret_id_file(&path).build().unwrap();
    let fetch = async || source.fetch(FetchContext::new(Reason::Forced)).await;
    fetch().await.unwrap();
    server.secret_id("secret-2");
    assert!(fetch().await.unwrap_err().is_terminal());
    folder.write("secret", "secret-2");
    fetch().await.unwrap();
    // Replaced while the request was on its way.
    let late = Reply::json(400, r#"{"errors":["invalid role or secret ID"]}"#);
    server.then(Reply::After(millis(50), Box::new(late)));
    let (outcome, ()) = tokio::join!(fetch(), async {
        while server.asked().len() < 4 {
            tokio::task::yield_now().await;
        }
        folder.write("secret", "secret-3");
    });
    assert!(!outcome.unwrap_err().is_terminal());
}

#[actix::test]
async fn what_passes_at_vault_is_transient_and_what_does_not_is_terminal() {
    let bench = Bench::new().await;
    for (status, is_terminal) in
        [(400, true), (403, true), (404, true), (412, false), (429, false), (500, false), (503, false)]
    {
        bench.server.then(Reply::json(status, r#"{"errors":["Vault is sealed"]}"#));
        let error = bench.fetch(Reason::Forced).await.unwrap_err();
        assert_eq!(error.is_terminal(), is_terminal, "{status}: {error}");
        assert!(error.to_string().contains("Vault is sealed"), "{error}");
    }
    for body in ["", "{}", r#"{"auth":null}"#, r#"{"auth":{"client_token":""}}"#, "<html>"] {
        bench.server.then(Reply::json(200, body));
        assert!(!bench.fetch(Reason::Forced).await.unwrap_err().is_terminal(), "{body}");
    }
    bench.server.then(Reply::json(307, "").with_header("Location", "https://active.example/"));
    assert!(
        bench.fetch(Reason::Forced).await.unwrap_err().to_string().contains("redirects are not followed")
    );
    // A renewal that may pass is tried again, and no login is made.
    bench.fetch(Reason::First).await.unwrap();
    let asked = bench.server.asked().len();
    bench.server.then(Reply::json(503, "{}"));
    assert!(!bench.fetch(Reason::Ahead).await.unwrap_err().is_terminal());
    assert_eq!(bench.fetch(Reason::Ahead).await.unwrap().secret(), "hvs.1");
    assert_eq!(bench.paths(asked), ["token/renew-self", "token/renew-self"]);
}

#[actix::test]
async fn nothing_shows_a_secret_of_vault() {
    let bench = Bench::new().await;
    bench.server.then(Reply::json(400, r#"{"errors":["no secret-1 here"]}"#));
    let error = bench.fetch(Reason::First).await.unwrap_err();
    assert!(!error.to_string().contains("secret-1"), "{error}");
    let quoted = r#"{"auth":{"client_token":"hvs.s3cret-token"},"errors":["hvs.s3cret-token"]}"#;
    bench.server.then(Reply::json(400, quoted));
    assert!(!bench.fetch(Reason::First).await.unwrap_err().to_string().contains("s3cret"));
    bench.fetch(Reason::First).await.unwrap();
    bench.server.then(Reply::json(500, r#"{"errors":["token hvs.1 is odd"]}"#));
    assert!(!bench.fetch(Reason::Ahead).await.unwrap_err().to_string().contains("hvs.1"));
    let shown = format!("{:?} {:?}", bench.source, approle(&bench.server));
    assert!(!shown.contains("secret-1") && !shown.contains("hvs.1"), "{shown}");
}

#[test]
fn settings_of_vault_are_checked_and_read_from_a_file() {
    const URL: &str = "https://vault.example.com:8200";
    assert_field(Vault::approle("vault.example.com", "a").build(), "url");
    assert_field(Vault::approle("http://vault.example.com", "a").build(), "url");
    assert_field(Vault::approle(format!("{URL}/?a"), "a").build(), "url");
    assert_field(Vault::approle(URL, "").build(), "role_id");
    assert_field(Vault::kubernetes(URL, " ").build(), "role");
    assert_field(Vault::approle(URL, "a").secret_id("").build(), "secret_id");
    assert_field(Vault::approle(URL, "a").jwt_file("b").build(), "jwt_file");
    assert_field(Vault::kubernetes(URL, "a").secret_id("b").build(), "secret_id");
    assert_field(Vault::kubernetes(URL, "a").jwt_file("").build(), "jwt_file");
    let source = source_fn(|_cx| async { Ok(Token::new("a")) });
    assert_field(Vault::approle(URL, "a").jwt(source).build(), "jwt");
    assert_field(
        Vault::kubernetes(URL, "a").jwt(source_fn(|_cx| async { Ok(Token::new("a")) })).jwt_file("b").build(),
        "jwt_file",
    );
    for mount in ["", "/", "a//b", "a/../b", "a?b"] {
        assert_field(Vault::approle(URL, "a").mount(mount).build(), "mount");
    }
    assert_field(Vault::approle(URL, "a").namespace("a\nb").build(), "namespace");
    let read = |text: &str| serde_json::from_str::<VaultBuilder>(text).map_err(|error| error.to_string());
    read(&format!(r#"{{"url":"{URL}","role_id":"a","secret_id":"s3cret","timeout":"2s"}}"#))
        .unwrap()
        .build()
        .unwrap();
    read(&format!(r#"{{"url":"{URL}","role":"a","jwt_file":"/x","mount":"k8s"}}"#)).unwrap().build().unwrap();
    assert_field(read(&format!(r#"{{"url":"{URL}"}}"#)).unwrap().build(), "role");
    assert_field(read(&format!(r#"{{"url":"{URL}","role":"a","role_id":"b"}}"#)).unwrap().build(), "role");
    let error = read(r#"{"url":"a","roleid":"s3cret"}"#).unwrap_err();
    assert!(error.contains("unknown field `roleid`") && !error.contains("s3cret"), "{error}");
}
