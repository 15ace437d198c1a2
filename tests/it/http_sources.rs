//! The requests of the client credentials source, and the answers that it understands; and helpers for the tests of
//! both HTTP sources.

use std::error::Error;

use tokenflight::source::{ClientAuth, ClientCredentials, ClientCredentialsBuilder};
use tokenflight::testing::{FakeAuthServer, Reply};
use tokenflight::{
    BuildError, RefreshPolicy, Token, TokenActor, TokenError, TokenHandle, TokenSource, TokenType,
};

use crate::support::*;

/// What no error may repeat: the client's own secret.
pub(crate) const SECRET: &str = "hunter2 & Co";

/// One attempt a flight, no cooldown and no settling: each `get` without a token, and each `refresh`, is one request.
pub(crate) fn started(source: impl TokenSource) -> TokenHandle {
    let policy = RefreshPolicy::default().settle(secs(0));
    let policy = policy.attempts(1).cooldown(secs(0)).terminal_cooldown(secs(0));
    TokenActor::builder(source).policy(policy).start().unwrap()
}

pub(crate) fn client(url: impl Into<String>) -> ClientCredentialsBuilder {
    ClientCredentials::builder(url, "app", SECRET)
}

/// What a server that answers like this makes of it.
async fn answered(reply: Reply) -> Result<Token, TokenError> {
    let server = FakeAuthServer::start().await.unwrap();
    server.then(reply);
    started(client(server.url()).build().unwrap()).get().await
}

/// Fit for a log: one line with everything that is wanted in it, and no secret in any part of the error.
#[track_caller]
pub(crate) fn assert_says(error: &TokenError, wanted: &[&str]) {
    let text = error.to_string();
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted:?} in {text:?}");
    }
    assert!(text.starts_with(|first: char| first.is_ascii_lowercase()), "{text}");
    assert!(text.len() < 1_000 && !text.contains(['\n', '\r']), "{text:?}");
    assert_no_secret(&format!("{error:?} {text}"));
    let mut cause: Option<&dyn Error> = error.source();
    while let Some(error) = cause {
        assert_no_secret(&format!("{error:?} {error}"));
        cause = error.source();
    }
}

/// Neither the client's, in any of the forms in which it is sent, nor the server's.
#[track_caller]
pub(crate) fn assert_no_secret(said: &str) {
    for secret in [SECRET, "hunter2", "YXBwOmh1bnRlcjIrJTI2K0Nv", "s3cret"] {
        assert!(!said.contains(secret), "{secret:?} in {said}");
    }
}

#[track_caller]
pub(crate) fn assert_field<T>(built: Result<T, BuildError>, field: &str) {
    let error = built.map(|_| ()).expect_err(field);
    assert_eq!(error.field(), field, "{error}");
    assert!(error.to_string().starts_with(&format!("`{field}` ")), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
    assert_no_secret(&format!("{error} {error:?}"));
}

#[actix::test]
async fn the_secret_goes_by_basic_with_id_and_secret_form_encoded_first() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = ClientCredentials::builder(server.url(), "basic client:1", "s3cr%t+ /:?&=");
    started(source.build().unwrap()).get().await.unwrap();
    let asked = &server.asked()[0];
    assert!(asked.head.starts_with("POST /token HTTP/1.1"), "{}", asked.head);
    // "basic%20client%3A1:s3cr%25t%2B%20%2F%3A%3F%26%3D" in base64 (RFC 6749 section 2.3.1).
    let basic = "Basic YmFzaWMlMjBjbGllbnQlM0ExOnMzY3IlMjV0JTJCJTIwJTJGJTNBJTNGJTI2JTNE";
    assert_eq!(asked.header("authorization"), Some(basic));
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked.header("accept"), Some("application/json"));
    assert_eq!(asked.body, "grant_type=client_credentials");
}

#[actix::test]
async fn the_secret_goes_in_the_body_where_that_is_asked_for_and_nowhere_else() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = client(format!("{}?tenant=blue", server.url())).auth_method(ClientAuth::Body);
    started(source.build().unwrap()).get().await.unwrap();
    let asked = &server.asked()[0];
    assert!(asked.head.starts_with("POST /token?tenant=blue HTTP/1.1"), "{}", asked.head);
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(asked.body, "grant_type=client_credentials&client_id=app&client_secret=hunter2+%26+Co");
}

#[actix::test]
async fn scope_audience_each_resource_and_extras_are_in_the_form() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = client(server.url())
        .scope("read  write")
        .audience("the api")
        .resource("https://a.example/")
        .resource("urn:b")
        .extra("tenant", "x&y")
        .build()
        .unwrap();
    let token = started(source).get().await.unwrap();
    assert_eq!(
        server.asked()[0].body,
        "grant_type=client_credentials&scope=read+write&audience=the+api&resource=https%3A%2F%2Fa.example%2F\
         &resource=urn%3Ab&tenant=x%26y"
    );
    assert_eq!(token.scopes(), ["read", "write"], "an answer without a scope grants what was asked for");
}

#[actix::test]
async fn a_lifetime_is_understood_in_every_form_or_is_the_missing_one() {
    let lifetime = async |expires_in: &str| {
        let body = format!(r#"{{"access_token":"s3cret","token_type":"Bearer"{expires_in}}}"#);
        answered(Reply::json(200, body)).await.map(|token| token.remaining().unwrap())
    };
    for (written, seconds) in [
        ("", 300),
        (r#","expires_in":null"#, 300),
        (r#","expires_in":3600"#, 3600),
        (r#","expires_in":"3600""#, 3600),
        (r#","expires_in":3600.9"#, 3600),
    ] {
        let remaining = lifetime(written).await.unwrap();
        assert!((secs(seconds - 5)..=secs(seconds)).contains(&remaining), "{written}: {remaining:?}");
    }
    for huge in ["18446744073709551615", "1e300", r#""99999999999999999999999""#] {
        let remaining = lifetime(&format!(r#","expires_in":{huge}"#)).await.unwrap();
        assert!(remaining <= HOUR * 24 * 30 && remaining > HOUR * 24 * 29, "{huge}: {remaining:?}");
    }
    for expired in ["0", "-5", r#""0""#] {
        let error = lifetime(&format!(r#","expires_in":{expired}"#)).await.unwrap_err();
        assert!(error.is_unavailable());
        assert_says(&error, &["the new token had expired when it arrived"]);
    }
    for odd in [r#""soon""#, r#""3600s""#, r#""""#, "true", r#""two minutes""#, "[3600]", r#"{"s":1}"#] {
        let remaining = lifetime(&format!(r#","expires_in":{odd}"#)).await.unwrap();
        assert!((secs(295)..=secs(300)).contains(&remaining), "{odd}: {remaining:?}");
    }
}

#[actix::test]
async fn a_type_is_bearer_in_any_form_or_an_error_unless_the_user_says_it() {
    for written in [
        "",
        r#","token_type":null"#,
        r#","token_type":"""#,
        r#","token_type":"bEARER""#,
        r#","token_type":"BearerToken""#,
        r#","token_type":"Application Access Token""#,
        r#","token_type":"bearer_token ""#,
    ] {
        let token =
            answered(Reply::json(200, format!(r#"{{"access_token":"abc"{written}}}"#))).await.unwrap();
        assert_eq!(*token.token_type(), TokenType::Bearer);
        assert_eq!(token.authorization(), "Bearer abc");
    }
    for odd in
        [r#""mac""#, r#""N_A""#, r#""pop""#, r#""DPoP""#, r#""Mystery""#, r#""a b""#, r#""x\r\ny""#, "7"]
    {
        let body = format!(r#"{{"access_token":"s3cret","token_type":{odd}}}"#);
        let error = answered(Reply::json(200, body.clone())).await.unwrap_err();
        assert_says(&error, &["`token_type`"]);
        if odd.starts_with('"') && !odd.contains('\\') {
            let way_out = if odd == r#""DPoP""# { "set `dpop`" } else { "set `token_type`" };
            assert_says(&error, &[odd, way_out]);
        }
        let server = FakeAuthServer::start().await.unwrap();
        server.then(Reply::json(200, body));
        let source = client(server.url()).token_type(TokenType::Other("Mystery".into())).build().unwrap();
        let token = started(source).get().await.unwrap();
        assert_eq!(token.authorization(), "Mystery s3cret");
    }
}

#[actix::test]
async fn a_success_without_a_token_is_an_error_that_names_what_is_missing() {
    for (body, wanted) in [
        ("{}", "without an `access_token`"),
        ("[]", "without an `access_token`"),
        (r#"{"token":"s3cret","expires_in":3600}"#, "without an `access_token`"),
        (r#"{"access_token":null}"#, "without an `access_token`"),
        (r#"{"access_token":""}"#, "empty `access_token`"),
        (r#"{"access_token":["s3cret"]}"#, "`access_token` that is not a string"),
        (r#"{"access_token":4711}"#, "`access_token` that is not a string"),
        (
            r#"{"access_token":"s3 cret\n"}"#,
            "the new token has a space at position 3 that no header can carry",
        ),
        (r#"{"access_token":"s3cret","error":"slow_down"}"#, "200 OK: slow_down"),
    ] {
        let error = answered(Reply::json(200, body)).await.unwrap_err();
        assert!(error.is_unavailable(), "{body}: {error}");
        assert_says(&error, &[wanted]);
    }
}

#[actix::test]
async fn what_the_server_refuses_says_which_setting_to_check() {
    for (status, body, wanted) in [
        (401, r#"{"error":"invalid_client"}"#, "invalid_client; check `client_id`, `client_secret`"),
        (200, r#"{"error":"invalid_request","error_description":"no\nway"}"#, "invalid_request (no?way)"),
        (401, "", "401 Unauthorized; check `client_id`"),
        (400, r#"{"error":"invalid_scope"}"#, "invalid_scope; check `scope`"),
        (400, r#"{"error":"invalid_target"}"#, "check `resource` and `audience`"),
        (404, "not here", "404 Not Found; check `token_url`"),
        (403, r#"{"error":{"code":1}}"#, "403 Forbidden"),
    ] {
        let error = answered(Reply::json(status, body)).await.unwrap_err();
        assert!(error.is_rejected(), "{status}: {error}");
        assert_says(&error, &[wanted, "http://127.0.0.1"]);
    }
    let error = answered(Reply::json(400, r#"{"error":"temporarily_unavailable"}"#)).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}

#[actix::test]
async fn a_secret_that_the_server_repeats_is_in_neither_error_nor_log() {
    const NAME: &str = "http_sources::a_secret_that_the_server_repeats_is_in_neither_error_nor_log";
    if let Some(mut child) = in_its_own_process(NAME) {
        let said = all_that_is_logged_by(&mut child);
        for wanted in ["an outage begins", "invalid_client", "TRACE"] {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
        return assert_no_secret(&said);
    }
    env_logger::builder().filter_level(log::LevelFilter::Trace).init();
    for said in ["no client app with hunter2 & Co", "got hunter2+%26+Co", "YXBwOmh1bnRlcjIrJTI2K0Nv is wrong"]
    {
        let body = format!(r#"{{"error":"invalid_client","error_description":"{said}"}}"#);
        let error = answered(Reply::json(401, body)).await.unwrap_err();
        assert!(error.is_rejected());
        assert_says(&error, &["401 Unauthorized: invalid_client; check `client_id`"]);
    }
}

#[test]
fn a_setting_that_cannot_work_is_refused_by_name() {
    let sound = || client("https://auth.example/token");
    assert_field(client("auth.example/s3cret").build(), "token_url");
    assert_field(client("ftp://auth.example/s3cret").build(), "token_url");
    assert_field(client("https://u:s3cret@auth.example/").build(), "token_url");
    assert_field(ClientCredentials::builder("https://auth.example/", "", SECRET).build(), "client_id");
    assert_field(ClientCredentials::builder("https://auth.example/", "app", "").build(), "client_secret");
    assert_field(sound().scope("a\"b").build(), "scope");
    assert_field(sound().scope(" ").build(), "scope");
    assert_field(sound().audience("").build(), "audience");
    assert_field(sound().resource("/api#x").build(), "resource");
    assert_field(sound().extra("client_secret", "s3cret").build(), "extra");
    assert_field(sound().timeout(secs(0)).build(), "timeout");
    assert_field(sound().connect_timeout(secs(0)).build(), "connect_timeout");
    assert_field(sound().max_body(0).build(), "max_body");
    assert_field(sound().max_body(usize::MAX).build(), "max_body");
    assert_field(sound().client(|client| client.proxy("s3cret proxy")).build(), "proxy");
    assert!(sound().build().is_ok());
}

#[test]
fn a_misspelt_or_missing_setting_is_refused_by_name() {
    let read = |text: &str| serde_json::from_str::<ClientCredentialsBuilder>(text);
    let required =
        r#""token_url":"https://auth.example/?key=s3cret","client_id":"app","client_secret":"s3cret""#;
    assert!(read(&format!("{{{required}}}")).unwrap().build().is_ok());
    for (more, wanted) in [
        (r#""timeuot":"3s""#, "unknown field `timeuot`"),
        (r#""auth_method":"basci""#, "unknown variant `basci`"),
        (r#""timeout":"soon""#, r#""soon" is not a duration"#),
        (r#""scope":["a"]"#, "expected a string"),
        (r#""proxy":["s3cret"]"#, "expected a string"),
        (r#""extra":{"tenant":47.11}"#, "expected a string"),
        (r#""extra":"s3cret""#, "expected a table"),
    ] {
        let error = read(&format!("{{{required},{more}}}")).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        assert!(!error.contains("47"), "{error}");
        assert_no_secret(&error);
    }
    let error = read(r#"{"token_url":"https://auth.example/"}"#).unwrap_err();
    assert!(error.to_string().contains("missing field `client_id`"), "{error}");
    let without_secret = read(r#"{"token_url":"https://auth.example/","client_id":"app"}"#).unwrap();
    assert_field(without_secret.build(), "client_secret");
}

#[test]
fn debug_of_builder_and_source_shows_no_secret() {
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("x-api-key", "s3cret".parse().unwrap());
    let proxy = reqwest::Proxy::all("http://u:s3cret@proxy.example").unwrap();
    let builder = client("https://auth.example/token?key=s3cret")
        .extra("tenant", "s3cret")
        .http(move |http| http.default_headers(headers.clone()).proxy(proxy.clone()));
    let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
    assert!(shown.contains("app") && shown.contains("https://auth.example/token"), "{shown}");
    assert_no_secret(&shown);
}
