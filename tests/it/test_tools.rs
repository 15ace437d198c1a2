//! The tools for users' tests: handles, paused time, the auth server with its API.

#[cfg(feature = "oauth2")]
use tokenflight::testing::{FakeAuthServer, Reply};
use tokenflight::testing::{ManualClock, ScriptedSource, errors, failing_handle, fixed_handle, paused};
use tokenflight::{RefreshPolicy, SourceError, TokenActor};

use crate::support::*;

#[test]
fn a_fixed_handle_needs_no_runtime_and_has_its_token_at_once() {
    let handle = fixed_handle("abc").unwrap();
    assert_eq!(handle.current().unwrap().secret(), "abc");
    assert!(!format!("{handle:?}").contains("abc"));
    let many: Vec<_> = (0..50).map(|n| fixed_handle(format!("t-{n}")).unwrap()).collect();
    assert!(
        many.iter().enumerate().all(|(n, handle)| handle.current().unwrap().secret() == format!("t-{n}"))
    );
}

#[actix::test]
async fn a_fixed_handle_keeps_its_token_through_reports_and_in_paused_time() {
    tokio::time::pause();
    let handle = fixed_handle("abc").unwrap();
    let token = handle.get().await.unwrap();
    assert!(handle.replace(&token).await.unwrap().is_same(&token));
    handle.invalidate(&token);
    assert!(handle.get().await.unwrap().is_same(&token));
    assert!(handle.refresh().await.unwrap().is_same(&token));
    tokio::time::sleep(400 * 24 * HOUR).await;
    assert!(handle.current().unwrap().is_same(&token));
    handle.discard(&token);
    assert!(handle.get().await.is_err(), "there is no other token");
    handle.shutdown().await;
    assert!(handle.get().await.unwrap_err().is_stopped());
}

#[test]
fn a_fixed_token_that_no_header_can_carry_is_refused_and_not_quoted() {
    for wrong in ["", "s3cret\n", "s3 cret"] {
        let error = fixed_handle(wrong).unwrap_err();
        assert_eq!(error.field(), "token");
        assert!(!error.to_string().contains("s3"), "{error}");
    }
}

#[actix::test]
async fn a_failing_handle_gives_each_caller_the_same_failure() {
    let handle = failing_handle(SourceError::terminal("invalid_client")).unwrap();
    for _ in 0..3 {
        let error = handle.get().await.unwrap_err();
        assert!(error.is_rejected() && handle.current().is_none(), "{error}");
        assert_eq!(error.to_string(), errors::rejected("invalid_client").to_string());
    }
}

#[actix::test]
async fn a_failing_handle_and_the_errors_of_the_test_tools_have_the_same_pause() {
    let asking = |seconds| SourceError::transient("busy").with_retry_after(secs(seconds));
    for (cause, pause) in [
        (SourceError::transient("down"), secs(1)),
        (SourceError::ambiguous("lost"), secs(1)),
        (SourceError::terminal("invalid_client"), secs(5)),
        (SourceError::terminal("busy").with_retry_after(secs(2)), secs(5)),
        (SourceError::terminal("busy").with_retry_after(secs(60)), secs(60)),
        (asking(0), secs(1)),
        (asking(7), secs(7)),
        (asking(400), secs(300)),
    ] {
        assert_eq!(errors::failed(cause.clone()).retry_after(), Some(pause), "{cause}");
        let handle = failing_handle(cause.clone()).unwrap();
        let of_handle = handle.get().await.unwrap_err().retry_after().unwrap();
        // The handle's pause has jitter.
        assert!(of_handle.abs_diff(pause) <= pause / 2, "{cause}: {of_handle:?}");
    }
    assert_eq!(errors::panicked().retry_after(), Some(secs(0)), "the next request tries again");
}

#[cfg(feature = "oauth2")]
#[actix::test]
async fn a_fault_of_the_fake_server_may_last_for_ever() {
    let server = FakeAuthServer::start().await.unwrap();
    server.during(std::time::Duration::MAX, Reply::json(503, "{}"));
    for times in 1..3 {
        assert_eq!(reqwest::Client::new().post(server.url()).send().await.unwrap().status(), 503);
        server.wait_for(times).await;
    }
    server.during(millis(0), Reply::json(503, "{}"));
    assert_eq!(reqwest::Client::new().post(server.url()).send().await.unwrap().status(), 200);
}

#[cfg(feature = "oauth2")]
#[actix::test]
async fn a_scenario_s_times_may_be_as_long_as_a_duration_goes() {
    use tokenflight::testing::hostile::{Scenario, Verdict, play};
    const LONGEST: &str = "9223372036854775807s";
    let verdict = async |step: &str, said: &str| {
        let scenario = format!(
            r#"[{{"name":"a","tried":"a","by":"practice","rank":"practice","limit":"{LONGEST}",
                 "steps":[{step},{{"call":{{}}}}],"seen":{{"token_requests":{{"most":9}}}}}}]"#
        );
        let scenarios = Scenario::read(&scenario).unwrap();
        play(&scenarios[0], said.as_bytes(), tokio::io::sink()).await.unwrap().verdict
    };
    let unsupported = verdict(r#"{"call":{}}"#, "{\"unsupported\":\"all\"}\n").await;
    assert_eq!(unsupported, Verdict::NotSupported("all".to_owned()));
    for step in
        [format!(r#"{{"pause":"{LONGEST}"}}"#), format!(r#"{{"call":{{"times":9,"every":"{LONGEST}"}}}}"#)]
    {
        let too_long = verdict(&step, "{\"ready\":true}\n").await;
        let expected = vec!["the scenario's limit is shorter than its pauses".to_owned()];
        assert_eq!(too_long, Verdict::Failed(expected), "{step}");
    }
}

#[actix::test]
async fn paused_time_with_a_clock_that_goes_on_fails_at_the_start() {
    tokio::time::pause();
    let error = TokenActor::builder(ScriptedSource::new()).start().unwrap_err();
    assert_eq!(error.field(), "clock");
    assert!(error.to_string().contains("testing::paused()"), "{error}");
    let clock = paused(); // it is paused already
    let handle = TokenActor::builder(ScriptedSource::new()).clock(clock).start().unwrap();
    handle.get().await.unwrap();
}

#[actix::test]
async fn time_that_is_paused_after_the_start_fails_the_next_flight() {
    let source = ScriptedSource::new();
    let handle = TokenActor::builder(source.clone()).start().unwrap();
    let built = TokenActor::builder(source.clone()).build().unwrap();
    tokio::time::pause();
    let error = handle.get().await.unwrap_err();
    assert!(error.is_rejected() && error.to_string().contains("testing::paused()"), "{error}");
    // Started the plain actix way, where nothing can be refused.
    let addr = actix::Actor::start(built);
    let error = addr.send(tokenflight::GetToken).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("testing::paused()"), "{error}");
    assert_eq!(source.calls(), 0);
}

#[actix::test]
async fn unpaused_time_takes_any_clock() {
    let own = TokenActor::builder(ScriptedSource::new()).start().unwrap();
    let manual = TokenActor::builder(ScriptedSource::new()).clock(ManualClock::new()).start().unwrap();
    own.get().await.unwrap();
    manual.get().await.unwrap();
}

#[actix::test]
async fn one_sleep_moves_the_timers_and_the_tokens_of_a_background_actor() {
    let clock = paused();
    let source = ScriptedSource::new();
    let policy = RefreshPolicy::default().background(true).jitter(0.0);
    let handle = TokenActor::builder(source.clone()).policy(policy).clock(clock).start().unwrap();
    handle.get().await.unwrap();
    tokio::time::sleep(24 * HOUR).await; // nobody asks
    // It is replaced 5 min before each end.
    assert_eq!(source.calls(), 1 + 24 * 60 / 55);
    assert!(handle.current().is_some());
}

#[cfg(feature = "registry")]
#[actix::test]
async fn a_registry_in_paused_time_with_the_machine_s_clock_does_not_start() {
    use tokenflight::registry::TokenRegistry;
    use tokenflight::{FetchContext, Token};

    let source = |key: u32, _cx: FetchContext| async move { Ok(Token::new(format!("for-{key}"))) };
    let started = TokenRegistry::builder(source).start().unwrap();
    let clock = paused();
    assert_eq!(TokenRegistry::builder(source).start().map(drop).unwrap_err().field(), "clock");
    let error = started.get(&1).await.unwrap_err();
    assert!(error.to_string().contains("testing::paused()"), "{error}");
    let moved = TokenRegistry::builder(source).clock(clock).start().unwrap();
    assert_eq!(moved.get(&1).await.unwrap().secret(), "for-1");
}

/// The status of a request to the API.
#[cfg(feature = "oauth2")]
async fn ask(server: &FakeAuthServer, authorization: Option<&str>) -> (u16, Option<String>) {
    let mut request = reqwest::Client::new().get(format!("{}/orders?x=1", server.api_url()));
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let answer = request.send().await.unwrap();
    let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), challenge)
}

#[cfg(feature = "oauth2")]
#[actix::test]
async fn the_api_of_the_fake_server_accepts_what_was_issued_and_not_revoked() {
    use tokenflight::oauth::Client;
    let server = FakeAuthServer::start().await.unwrap();
    let client = Client::builder(server.url(), "app").secret("s3cret").build().unwrap();
    let source = client.client_credentials().build().unwrap();
    let clock = ManualClock::new();
    let handle = TokenActor::builder(source).clock(clock.clone()).policy(plain()).start().unwrap();
    server.lifetime(secs(120));
    let token = handle.get().await.unwrap();
    assert!(token.remaining().is_some_and(|left| left > secs(110) && left <= secs(120)));
    clock.suspend(secs(130));
    assert!(handle.current().is_none());

    let invalid = Some(r#"Bearer error="invalid_token""#.to_owned());
    assert_eq!(ask(&server, Some("bearer token-1")).await, (200, None));
    assert_eq!(ask(&server, None).await, (401, Some("Bearer".to_owned())));
    assert_eq!(ask(&server, Some("Basic token-1")).await, (401, Some("Bearer".to_owned())));
    assert_eq!(ask(&server, Some("Bearer token-2")).await, (401, invalid.clone()));
    server.revoke("token-1");
    assert_eq!(ask(&server, Some("Bearer token-1")).await, (401, invalid.clone()));
    server.issue("token-1").issue("own");
    assert_eq!(ask(&server, Some("Bearer own")).await.0, 200);
    server.revoke_all();
    assert_eq!(ask(&server, Some("Bearer own")).await, (401, invalid));
    server.api_then(Reply::json(503, "{}"));
    assert_eq!(ask(&server, Some("Bearer own")).await.0, 503);
    assert_eq!((server.accepted(), server.rejected()), (2, 5));
    assert_eq!(server.asked().len(), 1, "requests to the API are none to the token endpoint");
}

#[cfg(feature = "oauth2")]
#[actix::test]
async fn a_server_that_nobody_asked_for_an_api_answers_from_its_script_at_any_path() {
    let server = FakeAuthServer::start().await.unwrap();
    let status = async |path: &str| {
        reqwest::Client::new().post(format!("{}{path}", server.base_url())).send().await.unwrap().status()
    };
    let paths = ["/api", "/api/orders?x=1", "/api/token"];
    for path in paths {
        server.then(Reply::json(418, "{}"));
        assert_eq!(status(path).await, 418, "{path}");
    }
    let asked = server.asked();
    let are_asked = asked.iter().map(|asked| asked.head.split(' ').nth(1).unwrap());
    assert_eq!(are_asked.collect::<Vec<_>>(), paths);
    server.wait_for(3).await;
    assert_eq!((server.accepted(), server.rejected()), (0, 0));
    // From now on there is an API.
    server.issue("own").then(Reply::json(418, "{}"));
    assert_eq!(status("/api").await, 401);
    assert_eq!((status("/token").await, server.rejected()), (reqwest::StatusCode::IM_A_TEAPOT, 1));
}

#[cfg(feature = "oauth2")]
#[actix::test]
async fn a_token_of_a_scripted_answer_is_accepted_until_its_end() {
    let server = FakeAuthServer::start().await.unwrap();
    let body = |life| format!(r#"{{"access_token":"s-{life}","token_type":"Bearer","expires_in":{life}}}"#);
    server.then(Reply::json(200, body(0)));
    server.then(Reply::After(millis(1), Box::new(Reply::json(200, body(60)))));
    server.then(Reply::json(400, r#"{"access_token":"refused"}"#));
    for _ in 0..3 {
        reqwest::Client::new().post(server.url()).send().await.unwrap();
    }
    assert_eq!(ask(&server, Some("Bearer s-0")).await.0, 401);
    assert_eq!(ask(&server, Some("Bearer s-60")).await.0, 200);
    assert_eq!(ask(&server, Some("Bearer refused")).await.0, 401);
}

#[cfg(feature = "oauth2")]
#[actix::test]
async fn a_token_that_is_revoked_during_the_flight_for_it_is_replaced_by_the_next_report() {
    use tokenflight::oauth::Client;
    let server = FakeAuthServer::start().await.unwrap();
    let client = Client::builder(server.url(), "app").secret("s3cret").build().unwrap();
    let source = client.client_credentials().build().unwrap();
    let handle = TokenActor::builder(source).policy(plain()).start().unwrap();
    let slow = Reply::json(200, r#"{"access_token":"slow","token_type":"Bearer","expires_in":60}"#);
    server.then(Reply::After(millis(50), Box::new(slow)));
    let waiting = actix_rt::spawn(handle.get());
    server.wait_for(1).await;
    server.revoke_all(); // issued, and not yet delivered
    let token = waiting.await.unwrap().unwrap();
    assert_eq!(ask(&server, Some(token.authorization().to_str().unwrap())).await.0, 401);
    let next = handle.replace(&token).await.unwrap();
    assert_eq!(ask(&server, Some(next.authorization().to_str().unwrap())).await.0, 200);
}

#[cfg(feature = "oauth2")]
#[actix::test]
async fn who_waits_for_requests_is_told_by_the_request() {
    let server = FakeAuthServer::start().await.unwrap();
    server.wait_for(0).await;
    let early = tokio::time::timeout(millis(20), server.wait_for(1)).await;
    assert!(early.is_err());
    let send = async {
        reqwest::Client::new().post(server.url()).send().await.unwrap();
        reqwest::Client::new().get(server.api_url()).send().await.unwrap();
    };
    tokio::join!(server.wait_for(1), server.wait_for_api(1), send);
}
