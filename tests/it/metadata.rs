//! The identities of machines from clouds: each server's rules and faults.

use std::sync::Arc;
use std::time::Duration;

use tokenflight::source::{
    AzureArc, AzureArcBuilder, AzureImds, AzureImdsBuilder, GcpMetadata, GcpMetadataBuilder, Metadata,
};
use tokenflight::testing::{ManualClock, Reply, fakes};
use tokenflight::{FetchContext, Reason, SourceError, Token, TokenActor, TokenSource};

use crate::file_token::Folder;
use crate::http_sources::{assert_field, assert_says, started};
use crate::support::*;

async fn fetch(source: &impl TokenSource) -> Result<Token, SourceError> {
    source.fetch(FetchContext::new(Reason::First)).await
}

fn lasts(token: &Token, expected: Duration) {
    let remaining = token.remaining().unwrap();
    assert!(remaining <= expected && remaining + secs(5) >= expected, "{remaining:?}, not {expected:?}");
}

async fn gcp() -> (fakes::GcpMetadata, GcpMetadata) {
    let server = fakes::GcpMetadata::start().await.unwrap();
    let source = Metadata::gcp().base_url(server.base_url()).build().unwrap();
    (server, source)
}

const VAULT: &str = "https://vault.azure.net";

async fn imds() -> (fakes::AzureImds, AzureImds) {
    let server = fakes::AzureImds::start().await.unwrap();
    let source = Metadata::azure_imds(VAULT).base_url(server.base_url()).build().unwrap();
    (server, source)
}

async fn arc() -> (Folder, fakes::AzureArc, AzureArc) {
    let folder = Folder::new();
    let server = fakes::AzureArc::start(folder.path()).await.unwrap();
    let source = Metadata::azure_arc(VAULT).base_url(server.base_url()).folder(folder.path());
    (folder, server, source.build().unwrap())
}

#[actix::test]
async fn google_is_asked_with_its_header_for_the_account_and_scopes() {
    let (server, source) = gcp().await;
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.authorization(), "Bearer gcp-1");
    lasts(&token, secs(3600));
    let source = Metadata::gcp().base_url(server.base_url()).account("worker@project.example");
    fetch(&source.scope("https://a.example/x https://a.example/y").build().unwrap()).await.unwrap();
    let asked = server.asked();
    let path = "GET /computeMetadata/v1/instance/service-accounts/";
    assert!(asked[0].head.starts_with(&format!("{path}default/token HTTP")), "{}", asked[0].head);
    let scopes = "scopes=https%3A%2F%2Fa.example%2Fx%2Chttps%3A%2F%2Fa.example%2Fy";
    let second = format!("{path}worker@project.example/token?{scopes} HTTP");
    assert!(asked[1].head.starts_with(&second), "{}", asked[1].head);
    assert!(asked.iter().all(|asked| asked.header("metadata-flavor") == Some("Google")));
}

#[actix::test]
async fn an_answer_without_googles_header_gives_no_token() {
    let (server, source) = gcp().await;
    server.without_flavor();
    let error = fetch(&source).await.unwrap_err();
    assert!(!error.is_terminal() && error.to_string().contains("`Metadata-Flavor: Google`"), "{error}");
    assert!(!format!("{error:?}").contains("gcp-1"));
    for reply in [
        Reply::json(200, r#"{"access_token":"s3cret","expires_in":3600}"#)
            .with_header("Metadata-Flavor", "x"),
        Reply::text(404, "text/html", "not here"),
    ] {
        server.then(reply);
        let error = fetch(&source).await.unwrap_err();
        assert!(!error.is_terminal() && error.to_string().contains("that server is not Google's"), "{error}");
    }
}

#[actix::test]
async fn googles_token_is_refreshed_at_most_225_s_ahead_where_the_server_has_a_new_one() {
    let (server, source) = gcp().await;
    let clock = ManualClock::new();
    let actor = TokenActor::builder(source).policy(plain()).clock(clock.clone());
    let handle = actor.start().unwrap();
    assert_eq!(handle.get().await.unwrap().secret(), "gcp-1");
    let go_on = async |time| {
        clock.suspend(time);
        server.advance(time);
        let token = handle.get().await.unwrap();
        // A refresh ahead goes on behind the caller's back.
        while handle.status().await.unwrap().state != tokenflight::FlightState::Idle {
            tokio::task::yield_now().await;
        }
        (token.secret().to_owned(), server.asked().len())
    };
    assert_eq!(
        go_on(secs(3600 - 300)).await,
        ("gcp-1".into(), 1),
        "a fifth of its life, or 5 min, is too early"
    );
    assert_eq!(go_on(secs(70)).await, ("gcp-1".into(), 1));
    assert_eq!(go_on(secs(10)).await, ("gcp-1".into(), 2));
    assert_eq!(go_on(secs(0)).await, ("gcp-2".into(), 2));
}

#[actix::test]
async fn google_gives_an_identity_token_for_an_audience() {
    let server = fakes::GcpMetadata::start().await.unwrap();
    let source = Metadata::gcp().base_url(server.base_url()).audience("https://run.example").build().unwrap();
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.secret().split('.').count(), 3);
    lasts(&token, secs(3600));
    let target = "/identity?audience=https%3A%2F%2Frun.example&format=full ";
    assert!(server.asked()[0].head.contains(target), "{}", server.asked()[0].head);
    server.then(Reply::text(200, "text/html", "s3cret").with_header("Metadata-Flavor", "Google"));
    let error = fetch(&source).await.unwrap_err();
    assert!(error.to_string().contains("no JWT") && !error.to_string().contains("s3cret"), "{error}");
    let packed = Reply::text(200, "text/html", "s3cret").with_header("Metadata-Flavor", "Google");
    server.then(packed.with_header("Content-Encoding", "gzip"));
    let error = fetch(&source).await.unwrap_err();
    assert!(!error.is_terminal() && error.to_string().contains("Content-Encoding \"gzip\""), "{error}");
}

#[actix::test]
async fn google_is_given_3_s_a_try() {
    let (server, source) = gcp().await;
    server.then(Reply::Hang);
    let error = fetch(&source).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 3s (`timeout`)"), "{error}");
    // Less, where the attempt has less time.
    server.then(Reply::After(secs(60), Box::new(Reply::json(200, "{}"))));
    let clock: Arc<dyn tokenflight::clock::Clock> = Arc::new(tokenflight::clock::SystemClock);
    let deadline = clock.now().boot + millis(50);
    let cx = FetchContext::new(Reason::First).with_clock(clock).with_deadline(deadline);
    let error = source.fetch(cx).await.unwrap_err();
    assert!(error.to_string().contains("the time left for the attempt"), "{error}");
}

#[actix::test]
async fn what_passes_at_google_is_transient_and_what_does_not_is_terminal() {
    let (server, source) = gcp().await;
    for (status, is_terminal) in
        [(404, false), (408, false), (429, false), (500, false), (503, false), (400, true), (403, true)]
    {
        server.then(Reply::json(status, "{}").with_header("Metadata-Flavor", "Google"));
        let error = fetch(&source).await.unwrap_err();
        assert_eq!(error.is_terminal(), is_terminal, "{status}: {error}");
    }
    for body in ["", "<html>", "{}", r#"{"access_token":5}"#] {
        server.then(Reply::json(200, body).with_header("Metadata-Flavor", "Google"));
        assert!(!fetch(&source).await.unwrap_err().is_terminal(), "{body}");
    }
    let elsewhere = Reply::text(302, "text/html", "").with_header("Location", "http://evil.example/");
    server.then(elsewhere.with_header("Metadata-Flavor", "Google"));
    assert!(fetch(&source).await.unwrap_err().to_string().contains("redirects are not followed"));
}

#[actix::test]
async fn azure_is_asked_with_its_header_for_one_resource() {
    let (server, source) = imds().await;
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.authorization(), "Bearer imds-1");
    lasts(&token, HOUR * 24);
    let target = "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net HTTP";
    let asked = server.asked();
    assert!(asked[0].head.starts_with(target), "{}", asked[0].head);
    assert_eq!(asked[0].header("metadata"), Some("true"));
    let by_scope = Metadata::azure_imds(format!("{VAULT}/.default")).base_url(server.base_url());
    fetch(&by_scope.build().unwrap()).await.unwrap();
    assert!(server.asked()[1].head.starts_with(target), "a scope of the newer libraries");
}

/// An actor's clock starts at a fixed date. The fakes follow the machine's clock, and send it as `Date`.
#[actix::test]
async fn azures_token_of_a_day_lasts_a_day_by_any_clock_of_an_actor() {
    const DAY: Duration = secs(24 * 3_600);
    async fn ends_after_a_day(source: impl TokenSource) {
        let clock = ManualClock::new();
        let handle = TokenActor::builder(source).policy(plain()).clock(clock.clone()).start().unwrap();
        handle.get().await.unwrap();
        clock.suspend(DAY - secs(60));
        assert!(handle.current().is_some());
        clock.suspend(secs(60));
        assert!(handle.current().is_none());
    }
    let (_server, source) = imds().await;
    ends_after_a_day(source).await;
    let (_folder, _server, source) = arc().await;
    ends_after_a_day(source).await;
}

/// The status of a request to one of Azure's servers, with this query besides the version and the resource.
async fn ask_azure(method: reqwest::Method, base: &str, version: &str, query: &str) -> u16 {
    let url = format!("{base}/metadata/identity/oauth2/token?api-version={version}&resource=a{query}");
    let request = reqwest::Client::new().request(method, url).header("metadata", "true");
    request.send().await.unwrap().status().as_u16()
}

#[actix::test]
async fn azures_servers_refuse_another_method_and_arc_refuses_each_id() {
    let (_folder, arc, _) = arc().await;
    let (imds, _) = imds().await;
    let get = reqwest::Method::GET;
    for method in [reqwest::Method::POST, reqwest::Method::PUT] {
        assert_eq!(ask_azure(method.clone(), &imds.base_url(), "2018-02-01", "").await, 405);
        assert_eq!(ask_azure(method, &arc.base_url(), "2020-06-01", "").await, 405);
    }
    assert_eq!(ask_azure(get.clone(), &arc.base_url(), "2020-06-01", "").await, 401, "its challenge");
    let known = "00000000-aaaa-bbbb-cccc-000000000000";
    for id in ["client_id", "object_id", "msi_res_id", "mi_res_id"] {
        let query = format!("&{id}={known}");
        assert_eq!(ask_azure(get.clone(), &arc.base_url(), "2020-06-01", &query).await, 400, "{id}");
    }
}

#[actix::test]
async fn each_resource_account_and_scope_has_a_token_of_its_own() {
    let (server, source) = imds().await;
    let other = Metadata::azure_imds("https://other.example").base_url(server.base_url()).build().unwrap();
    let named = Metadata::azure_imds(VAULT).client_id("00000000-aaaa-bbbb-cccc-000000000000");
    let named = named.base_url(server.base_url()).build().unwrap();
    for _ in 0..2 {
        assert_eq!(fetch(&source).await.unwrap().secret(), "imds-1");
        assert_eq!(fetch(&other).await.unwrap().secret(), "imds-2");
        assert_eq!(fetch(&named).await.unwrap().secret(), "imds-3");
    }
    server.advance(HOUR * 13);
    assert_eq!(fetch(&other).await.unwrap().secret(), "imds-4");

    let (folder, server, source) = arc().await;
    let other = Metadata::azure_arc("https://other.example").base_url(server.base_url());
    let other = other.folder(folder.path()).build().unwrap();
    assert_eq!(fetch(&source).await.unwrap().secret(), "arc-1");
    assert_eq!(fetch(&other).await.unwrap().secret(), "arc-2");
    assert_eq!(fetch(&source).await.unwrap().secret(), "arc-1");

    let (server, source) = gcp().await;
    let with = |change: fn(GcpMetadataBuilder) -> GcpMetadataBuilder| {
        change(Metadata::gcp().base_url(server.base_url())).build().unwrap()
    };
    let named = with(|gcp| gcp.account("worker@project.example"));
    let scoped = with(|gcp| gcp.scope("a b"));
    for _ in 0..2 {
        assert_eq!(fetch(&source).await.unwrap().secret(), "gcp-1");
        assert_eq!(fetch(&named).await.unwrap().secret(), "gcp-2");
        assert_eq!(fetch(&scoped).await.unwrap().secret(), "gcp-3");
    }
    let posted = reqwest::Client::new()
        .post(format!("{}/computeMetadata/v1/instance/service-accounts/default/token", server.base_url()));
    assert_eq!(posted.header("metadata-flavor", "Google").send().await.unwrap().status(), 405);
}

#[actix::test]
async fn the_fakes_time_can_be_moved_as_far_as_a_duration_goes() {
    let (gcp, source) = gcp().await;
    assert_eq!(fetch(&source).await.unwrap().secret(), "gcp-1");
    gcp.advance(Duration::MAX).advance(Duration::MAX);
    assert_eq!(fetch(&source).await.unwrap().secret(), "gcp-2");
    let (imds, source) = imds().await;
    assert_eq!(fetch(&source).await.unwrap().secret(), "imds-1");
    imds.advance(Duration::MAX).advance(Duration::MAX);
    assert_eq!(fetch(&source).await.unwrap().secret(), "imds-2");
}

#[actix::test]
async fn azures_identity_is_named_by_one_of_three_ids() {
    const RESOURCE: &str = "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/\
                            userAssignedIdentities/app";
    let server = fakes::AzureImds::start().await.unwrap();
    let source = |change: fn(AzureImdsBuilder) -> AzureImdsBuilder| {
        change(Metadata::azure_imds(VAULT).base_url(server.base_url())).build().unwrap()
    };
    fetch(&source(|azure| azure.client_id("00000000-aaaa-bbbb-cccc-000000000000"))).await.unwrap();
    fetch(&source(|azure| azure.object_id("00000000-dddd-eeee-ffff-000000000000"))).await.unwrap();
    fetch(&source(|azure| azure.resource_id(RESOURCE))).await.unwrap();
    let asked = server.asked();
    for (asked, wanted) in asked.iter().zip([
        "&client_id=00000000-aaaa-bbbb-cccc-000000000000 ",
        "&object_id=00000000-dddd-eeee-ffff-000000000000 ",
        "&msi_res_id=%2Fsubscriptions%2Fs%2Fresourcegroups%2Fg%2Fproviders%2FMicrosoft.ManagedIdentity%2F",
    ]) {
        assert!(asked.head.contains(wanted), "{}", asked.head);
    }
    for unknown in [
        source(|azure| azure.client_id("somebody")),
        source(|azure| azure.object_id("anything")),
        source(|azure| azure.resource_id("/wrong")),
    ] {
        let error = fetch(&unknown).await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains("Identity not found"), "{error}");
    }
}

#[actix::test]
async fn azures_404_408_410_429_and_5xx_pass() {
    let (server, source) = imds().await;
    for status in [404, 408, 410, 425, 429, 500, 502, 503, 504] {
        server.then(Reply::json(status, r#"{"error":"not_now"}"#));
        let error = fetch(&source).await.unwrap_err();
        assert!(!error.is_terminal(), "{status}: {error}");
    }
    for status in [400, 403] {
        server.then(Reply::json(status, r#"{"error":"no"}"#));
        assert!(fetch(&source).await.unwrap_err().is_terminal(), "{status}");
    }
    fetch(&source).await.unwrap();
}

/// 70 s, in hundredths.
#[actix::test]
async fn azures_update_of_70_s_is_waited_out() {
    let (server, source) = imds().await;
    server.during(millis(700), Reply::json(410, ""));
    let policy = plain().backoff(millis(5)).max_backoff(millis(50)).flight_timeout(millis(300));
    let policy = policy.cooldown(millis(10)).max_cooldown(millis(100));
    let handle = TokenActor::builder(source).policy(policy).start().unwrap();
    let mut failures = 0;
    let token = loop {
        match handle.get().await {
            Ok(token) => break token,
            Err(error) => {
                assert!(error.is_unavailable(), "never given up for good: {error}");
                failures += 1;
                let pause = error.retry_after().unwrap_or_default().max(millis(1));
                tokio::time::sleep(pause).await;
            }
        }
    };
    assert_eq!(token.secret(), "imds-1");
    assert!(failures > 0 && server.asked().len() > 3, "{failures} of {}", server.asked().len());
}

#[actix::test]
async fn azures_expires_on_is_a_string_or_a_number_by_the_servers_clock() {
    let (server, source) = imds().await;
    for end in [r#""1767225600""#, "1767225600"] {
        let body = format!(r#"{{"access_token":"abc","expires_on":{end}}}"#);
        server.then(Reply::json(200, body).with_header("Date", "Wed, 31 Dec 2025 23:00:00 GMT"));
        lasts(&fetch(&source).await.unwrap(), HOUR);
    }
}

#[actix::test]
async fn arc_is_answered_with_the_key_file_that_it_names() {
    let (folder, server, source) = arc().await;
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.authorization(), "Bearer arc-1");
    lasts(&token, HOUR * 24);
    let asked = server.asked();
    assert_eq!((asked.len(), asked[0].header("authorization")), (2, None));
    assert_eq!(asked[1].header("authorization"), Some("Basic arc-key-00000001"));
    assert!(asked.iter().all(|asked| asked.header("metadata") == Some("true")));
    assert!(asked[0].head.contains("?api-version=2020-06-01&resource=https%3A%2F%2Fvault.azure.net "));
    assert!(folder.path().join("00000001.key").exists());
}

#[actix::test]
async fn arcs_key_is_a_small_key_file_directly_in_the_agents_folder_and_nothing_else() {
    let (folder, server, source) = arc().await;
    let other = Folder::new();
    let outside = other.write("a.key", "s3cret-outside");
    std::fs::create_dir(folder.path().join("deeper")).unwrap();
    std::fs::write(folder.path().join("deeper/a.key"), "s3cret-deeper").unwrap();
    folder.write("a.txt", "s3cret-text");
    std::os::unix::fs::symlink(&outside, folder.path().join("link.key")).unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for named in [
        outside.display().to_string(),
        "/etc/passwd".to_owned(),
        path("deeper/a.key"),
        path("a.txt"),
        path("link.key"),
        path(&format!("../{}/a.key", other.path().file_name().unwrap().to_str().unwrap())),
        "a.key".to_owned(),
        String::new(),
    ] {
        server.naming(&named);
        let asked = server.asked().len();
        let error = fetch(&source).await.unwrap_err();
        assert!(error.is_terminal(), "{named}: {error}");
        assert_eq!(server.asked().len(), asked + 1, "{named}: nothing was sent");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    for (name, contents, wanted) in [
        ("large.key", vec![b'k'; 4097], "4097 bytes"),
        ("empty.key", b" \n".to_vec(), "it is empty"),
        ("odd.key", b"s3cret\x01".to_vec(), "byte 0x01 at position 7"),
        ("none.key", Vec::new(), "cannot be read"),
    ] {
        if name != "none.key" {
            folder.write(name, contents);
        }
        server.naming(path(name));
        let error = fetch(&source).await.unwrap_err();
        assert!(!error.is_terminal() && error.to_string().contains(wanted), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    folder.write("most.key", vec![b'k'; 4096]);
    server.naming(path("most.key"));
    let error = fetch(&source).await.unwrap_err();
    assert!(error.to_string().contains("401") && !error.to_string().contains("kkkk"), "it was sent: {error}");
}

#[actix::test]
async fn arcs_answers_without_a_challenge_are_refused() {
    let (_folder, server, source) = arc().await;
    for (reply, wanted, is_terminal) in [
        (Reply::json(401, "{}"), "without a challenge `Basic realm=", true),
        (
            Reply::json(401, "{}").with_header("WWW-Authenticate", "Bearer realm=x"),
            "without a challenge",
            true,
        ),
        (Reply::json(200, r#"{"access_token":"s3cret"}"#), "that server is not the agent", true),
        (Reply::json(403, "{}"), "403", true),
        (Reply::json(404, "{}"), "404", false),
        (Reply::json(503, "{}"), "503", false),
    ] {
        server.then(reply);
        let error = fetch(&source).await.unwrap_err();
        assert_eq!(error.is_terminal(), is_terminal, "{error}");
        assert!(error.to_string().contains(wanted) && !error.to_string().contains("s3cret"), "{error}");
    }
}

#[actix::test]
async fn no_metadata_server_is_asked_through_a_proxy() {
    const NAME: &str = "metadata::no_metadata_server_is_asked_through_a_proxy";
    if let Some(mut child) = in_its_own_process(NAME) {
        let nowhere = "http://127.0.0.1:9";
        child.envs([("HTTP_PROXY", nowhere), ("http_proxy", nowhere), ("ALL_PROXY", nowhere)]);
        all_that_is_written_by(&mut child);
        return;
    }
    let (_server, source) = gcp().await;
    fetch(&source).await.unwrap();
    // By name, so that this is no loopback address to whoever chooses the proxy.
    let server = fakes::AzureImds::start().await.unwrap();
    let url = server.base_url().replace("127.0.0.1", "localhost");
    fetch(&Metadata::azure_imds(VAULT).base_url(url).build().unwrap()).await.unwrap();
}

#[actix::test]
async fn an_error_of_a_metadata_server_says_what_it_was_asked_and_no_token() {
    let (server, source) = imds().await;
    server.then(Reply::json(400, r#"{"error":"x","error_description":"s3cret","access_token":"s3cret"}"#));
    assert_says(
        &started(source).get().await.unwrap_err(),
        &["400 Bad Request", "/metadata/identity/oauth2/token"],
    );
}

#[test]
fn settings_are_checked_and_read_from_a_file() {
    assert_field(Metadata::gcp().account("a/b").build(), "account");
    assert_field(Metadata::gcp().account("..").build(), "account");
    assert_field(Metadata::gcp().account(".").build(), "account");
    assert_field(Metadata::gcp().audience(" ").build(), "audience");
    assert_field(Metadata::gcp().scope(" ").build(), "scope");
    assert_field(Metadata::gcp().audience("").build(), "audience");
    assert_field(Metadata::gcp().audience("a").scope("b").build(), "scope");
    assert_field(Metadata::gcp().base_url("https://metadata.example").build(), "base_url");
    assert_field(Metadata::gcp().base_url("metadata.example").build(), "base_url");
    for elsewhere in ["http://metadata.example", "http://10.0.0.1", "http://169.254.169.254.example"] {
        assert_field(Metadata::gcp().base_url(elsewhere).build(), "base_url");
        assert_field(Metadata::azure_imds(VAULT).base_url(elsewhere).build(), "base_url");
    }
    assert_field(Metadata::gcp().timeout(Duration::ZERO).build(), "timeout");
    for resource in ["", "https://a.example https://b.example", "https://a.example,https://b.example", "a\nb"]
    {
        assert_field(Metadata::azure_imds(resource).build(), "resource");
        assert_field(Metadata::azure_arc(resource).build(), "resource");
    }
    assert_field(Metadata::azure_imds("a").client_id("").build(), "client_id");
    assert_field(Metadata::azure_imds("a").client_id("b").object_id("c").build(), "object_id");
    assert_field(Metadata::azure_arc("a").folder("tokens").build(), "folder");
    assert_field(Metadata::azure_arc("a").base_url("http://10.0.0.1").build(), "base_url");

    let secret = "http://user:s3cret@127.0.0.1:1";
    let aws = Metadata::aws_web_identity("a").imds_url(secret).sts_url(secret).container_url(secret);
    for shown in [
        format!("{:?}", Metadata::gcp().base_url(secret)),
        format!("{:?}", Metadata::azure_imds("a").base_url(secret)),
        format!("{:?}", Metadata::azure_arc("a").base_url(secret)),
        format!("{aws:?}"),
    ] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    let gcp = r#"{"account":"a@b.example","scope":"c","base_url":"http://127.0.0.1:1","timeout":"1s"}"#;
    serde_json::from_str::<GcpMetadataBuilder>(gcp).unwrap().build().unwrap();
    let imds = r#"{"resource":"https://vault.azure.net","client_id":"x","timeout":"1s"}"#;
    serde_json::from_str::<AzureImdsBuilder>(imds).unwrap().build().unwrap();
    let arc = r#"{"resource":"https://vault.azure.net","folder":"/tmp"}"#;
    serde_json::from_str::<AzureArcBuilder>(arc).unwrap().build().unwrap();
    for error in [
        serde_json::from_str::<GcpMetadataBuilder>(r#"{"acount":"a"}"#).unwrap_err(),
        serde_json::from_str::<AzureImdsBuilder>(r#"{"resource":"a","acount":"a"}"#).unwrap_err(),
        serde_json::from_str::<AzureArcBuilder>(r#"{"resource":"a","acount":"a"}"#).unwrap_err(),
    ] {
        assert!(error.to_string().contains("unknown field `acount`"), "{error}");
    }
}
