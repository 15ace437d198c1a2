//! The refusals of a token endpoint.

use tokenflight::oauth::OAuthError;
use tokenflight::testing::{FakeAuthServer, Reply};
use tokenflight::{RefreshPolicy, TokenActor};

use super::kinds::*;
use crate::http_sources::assert_says;
use crate::support::*;

#[actix::test]
async fn an_error_in_a_success_is_judged_like_a_400_and_asked_once() {
    for code in
        ["invalid_client", "invalid_scope", "unauthorized_client", "invalid_target", "bad_verification_code"]
    {
        for more in ["", r#","access_token":"s3cret""#, r#","access_token":null"#] {
            let server = FakeAuthServer::start().await.unwrap();
            server.then(Reply::json(200, format!(r#"{{"error":"{code}","error_description":"no"{more}}}"#)));
            let source = oauth(server.url()).build().unwrap();
            let policy = RefreshPolicy::default().attempts(3).backoff(secs(0));
            let handle = TokenActor::builder(source).policy(policy).start().unwrap();
            let error = handle.get().await.unwrap_err();
            assert!(error.is_rejected(), "{code}: {error}");
            assert_says(&error, &[code, "(no)", "200 OK"]);
            let cause = error.cause::<OAuthError>().unwrap();
            assert_eq!((cause.code.as_str(), cause.description.as_deref()), (code, Some("no")));
            assert_eq!(cause.status.as_u16(), 200);
            assert_eq!(server.asked().len(), 1, "{code}: one call");
        }
    }
    for code in ["temporarily_unavailable", "server_error", "slow_down"] {
        for status in [200, 400] {
            let reply = Reply::json(status, format!(r#"{{"error":"{code}"}}"#));
            let error = face_with(&reply, |url| oauth(url).build().unwrap()).await.unwrap_err();
            assert!(error.is_unavailable(), "{status} {code}: {error}");
        }
    }
}

#[actix::test]
async fn an_error_in_a_success_is_never_a_token_of_the_json_source() {
    for code in ["invalid_client", "no", "expired"] {
        let reply = Reply::json(200, format!(r#"{{"error":"{code}"}}"#));
        let error = face_with(&reply, |url| json(url).build().unwrap()).await.unwrap_err();
        assert_says(&error, &["200 OK", "access_token"]);
    }
}

#[actix::test]
async fn a_refusal_with_retry_after_passes() {
    let server = FakeAuthServer::start().await.unwrap();
    for status in [403, 400, 401, 404, 405, 409, 451] {
        let own_code = r#"{"error":"rate_limit_exceeded"}"#;
        for body in ["{}", "", "<html>", r#"{"message":"too many"}"#, own_code] {
            for (kind, source) in both(&server.url()) {
                server.then(Reply::json(status, body).with_header("Retry-After", "5"));
                let error = fetch(&source).await.unwrap_err();
                assert!(!error.is_terminal(), "{kind}: {status} {body}: {error}");
                assert_eq!(error.retry_after(), Some(secs(5)), "{kind}: {status} {body}");
                server.then(Reply::json(status, body));
                assert!(fetch(&source).await.unwrap_err().is_terminal(), "{kind}: {status} {body}");
            }
        }
    }
}

#[actix::test]
async fn a_refusal_by_the_standard_stays_one_with_retry_after() {
    let server = FakeAuthServer::start().await.unwrap();
    for code in
        ["invalid_client", "invalid_scope", "invalid_request", "unauthorized_client", "invalid_target"]
    {
        let (_, source) = both(&server.url()).into_iter().next().unwrap();
        let body = format!("{{\"error\":\"{code}\"}}");
        server.then(Reply::json(403, body).with_header("Retry-After", "5"));
        let error = fetch(&source).await.unwrap_err();
        assert!(error.is_terminal(), "{code}: {error}");
    }
}

#[actix::test]
async fn the_reason_is_found_in_the_usual_places() {
    for (body, said) in [
        (r#"{"error":{"code":403,"message":"the quota is used up"}}"#, "the quota is used up"),
        (r#"{"message":"no such app"}"#, "no such app"),
        (r#"{"detail":"no such app"}"#, "no such app"),
        (r#"{"error":"nope"}"#, "nope"),
        (r#"{"error":"nope","error_description":"no such app"}"#, "no such app"),
        (r#"{"error":"nope","message":"no such app"}"#, "no such app"),
        (r#"{"error":{"message":"no such app","status":"PERMISSION_DENIED"}}"#, "no such app"),
        (r#"{"error_description":"only this"}"#, "only this"),
        ("{\"message\":\"two\\nlines\\u001b[31m\"}", "two?lines?[31m"),
    ] {
        for status in [400, 403, 500] {
            for (kind, outcome) in face(&Reply::json(status, body)).await {
                let error = outcome.unwrap_err();
                assert!(error.to_string().contains(said), "{kind}: {status} {body}: {error}");
                assert_says(&error, &[&format!("answered {status}")]);
            }
        }
    }
}

#[actix::test]
async fn the_json_source_finds_the_reason_where_the_pointer_says() {
    for (pointer, body) in [
        ("/oops/0", r#"{"oops":["the vault is sealed"],"message":"other"}"#),
        ("", r#""the vault is sealed""#),
        ("/a~1b", r#"{"a/b":"the vault is sealed"}"#),
        ("/errors/0/text", r#"{"errors":[{"text":"the vault is sealed"}]}"#),
    ] {
        let reply = Reply::json(503, body);
        let source = |url| json(url).error_pointer(pointer).build().unwrap();
        let error = face_with(&reply, source).await.unwrap_err();
        assert_says(&error, &["the vault is sealed"]);
        assert!(!error.to_string().contains("other"), "{error}");
    }
    let nested = Reply::json(400, r#"{"oops":{"deep":"x"}}"#);
    for nowhere in ["/nowhere", "/oops"] {
        let source = |url| json(url).error_pointer(nowhere).build().unwrap();
        assert!(face_with(&nested, source).await.unwrap_err().is_rejected(), "{nowhere}");
    }
    let odd = json("https://a.example/").error_pointer("oops").build();
    assert_eq!(odd.unwrap_err().field(), "error_pointer");
}

#[actix::test]
async fn an_odd_code_is_one_printable_line() {
    for (written, said) in [
        (r#""invalid\nclient""#, "invalid?client"),
        (r#""\u001b[31mred""#, "?[31mred"),
        (r#""no\u0000pe""#, "no?pe"),
        (r#""\u202enope""#, "?nope"),
    ] {
        for (kind, outcome) in face(&Reply::json(400, format!(r#"{{"error":{written}}}"#))).await {
            let error = outcome.unwrap_err();
            assert!(error.is_rejected(), "{kind}: {written}");
            assert_says(&error, &[said]);
            assert!(
                error.to_string().chars().all(|char| char == ' ' || char.is_ascii_graphic()),
                "{error:?}"
            );
        }
    }
    for body in [
        r#"{"error":["no","way"]}"#,
        r#"{"error":7}"#,
        r#"{"error":true}"#,
        r#"{"error":{}}"#,
        r#"{"error":[{"message":"x"}]}"#,
        r#"["no"]"#,
        r#""no""#,
        "null",
    ] {
        for (kind, outcome) in face(&Reply::json(400, body)).await {
            let error = outcome.unwrap_err();
            assert!(error.is_rejected(), "{kind}: {body}: {error}");
            assert_says(&error, &["400 Bad Request"]);
        }
    }
    let long =
        format!(r#"{{"error":"{}","error_description":"{}"}}"#, "e".repeat(10_000), "d".repeat(30_000));
    for (kind, outcome) in face(&Reply::json(400, long)).await {
        let error = outcome.unwrap_err();
        assert!(error.to_string().len() < 800, "{kind}: {}", error.to_string().len());
    }
}
