//! One source's token is another's subject or header: a file, an exchange (STS), an impersonation.

use std::path::PathBuf;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokenflight::clock::{Clock, SystemClock};
use tokenflight::oauth::Client;
use tokenflight::source::{BoxSource, FileToken, JsonEndpoint, Vault};
use tokenflight::testing::{FakeAuthServer, ManualClock, Reply, fakes};
use tokenflight::{
    FetchContext, Reason, SourceError, Token, TokenActor, TokenHandle, TokenSource, TokenType, source_fn,
};

use crate::file_token::Folder;
use crate::http_sources::assert_field;
use crate::support::*;

/// A chain of three links. Each has an actor, and so a flight, of its own.
struct Chain {
    folder: Folder,
    file: TokenHandle,
    sts: TokenHandle,
    impersonated: TokenHandle,
    servers: [FakeAuthServer; 2],
    clock: ManualClock,
}

impl Chain {
    /// No link tries again by itself: three attempts of each of three links would be 27 calls of the first.
    async fn new() -> Self {
        let clock = ManualClock::new();
        let start = |source: BoxSource| {
            TokenActor::builder(source).policy(plain().attempts(1)).clock(clock.clone()).start().unwrap()
        };
        let folder = Folder::new();
        let path: PathBuf = folder.write("token", "from-a-file");
        let file = start(BoxSource::new(FileToken::builder(path).reread(secs(7_200)).build().unwrap()));
        let servers = [FakeAuthServer::start().await.unwrap(), FakeAuthServer::start().await.unwrap()];
        let client = Client::builder(servers[0].url(), "pool").public().build().unwrap();
        let sts = client.token_exchange(file.clone()).audience("pool").build().unwrap();
        let sts = start(BoxSource::new(sts));
        let impersonated = JsonEndpoint::post(servers[1].url())
            .authorization(sts.clone())
            .token_pointer("/accessToken")
            .lifetime(secs(3_600))
            .build()
            .unwrap();
        let impersonated = start(BoxSource::new(impersonated));
        let chain = Self { folder, file, sts, impersonated, servers, clock };
        for number in 1..=4 {
            chain.servers[0].then(Reply::json(200, format!(
                r#"{{"access_token":"sts-{number}","token_type":"Bearer","expires_in":600,"issued_token_type":"x"}}"#
            )));
            chain.servers[1].then(Reply::json(200, format!(r#"{{"accessToken":"imp-{number}"}}"#)));
        }
        chain
    }

    /// The calls of each link: of the file, at the STS, at the impersonation.
    async fn calls(&self) -> [u64; 3] {
        let mut calls = [0; 3];
        for (calls, link) in calls.iter_mut().zip([&self.file, &self.sts, &self.impersonated]) {
            *calls = link.status().await.unwrap().counters.attempts;
        }
        assert_eq!(calls[1], self.servers[0].asked().len() as u64);
        assert_eq!(calls[2], self.servers[1].asked().len() as u64);
        calls
    }
}

#[actix::test]
async fn of_three_links_only_the_stale_one_is_fetched_again() {
    let chain = Chain::new().await;
    assert_eq!(chain.impersonated.get().await.unwrap().secret(), "imp-1");
    assert_eq!(chain.calls().await, [1, 1, 1]);
    assert!(chain.servers[0].asked()[0].body.contains("subject_token=from-a-file"));
    assert_eq!(chain.servers[1].asked()[0].header("authorization"), Some("Bearer sts-1"));

    // The middle one has ended. Nobody needs it while the last one is good.
    chain.clock.suspend(secs(700));
    assert_eq!(chain.impersonated.get().await.unwrap().secret(), "imp-1");
    assert_eq!(chain.calls().await, [1, 1, 1]);
    // Whoever needs it costs one call, of that link.
    assert_eq!(chain.sts.get().await.unwrap().secret(), "sts-2");
    assert_eq!(chain.calls().await, [1, 2, 1]);

    // An API rejects the last one: the links before it are good.
    let rejected = chain.impersonated.get().await.unwrap();
    assert_eq!(chain.impersonated.replace(&rejected).await.unwrap().secret(), "imp-2");
    assert_eq!(chain.calls().await, [1, 2, 2]);
    assert_eq!(chain.servers[1].asked()[1].header("authorization"), Some("Bearer sts-2"));

    // The middle and the last one have ended, and the first one has not.
    chain.clock.suspend(secs(4_000));
    assert_eq!(chain.impersonated.get().await.unwrap().secret(), "imp-3");
    assert_eq!(chain.calls().await, [1, 3, 3]);
}

#[actix::test]
async fn a_rejected_token_says_nothing_of_a_link_that_has_no_actor() {
    let (folder, server) = (Folder::new(), FakeAuthServer::start().await.unwrap());
    let file = FileToken::builder(folder.write("token", "from-a-file")).build().unwrap();
    let source = JsonEndpoint::post(server.url()).authorization(file).lifetime(secs(60)).build().unwrap();
    source.fetch(FetchContext::new(Reason::First)).await.unwrap();
    std::fs::remove_file(folder.path().join("token")).unwrap();
    // The file is being replaced: what it held is still good.
    for reason in [Reason::Rejected, Reason::Forced] {
        source.fetch(FetchContext::new(reason)).await.unwrap();
    }
}

#[actix::test]
async fn a_crowd_at_the_end_of_a_chain_is_one_call_of_each_link() {
    let chain = Chain::new().await;
    let crowd = futures_util::future::join_all((0..50).map(|_| chain.impersonated.get())).await;
    assert!(crowd.into_iter().all(|token| token.unwrap().secret() == "imp-1"));
    assert_eq!(chain.calls().await, [1, 1, 1]);
}

#[actix::test]
async fn an_error_names_the_links_on_the_way_to_the_one_that_failed() {
    let chain = Chain::new().await;
    std::fs::remove_file(chain.folder.path().join("token")).unwrap();
    let error = chain.impersonated.get().await.unwrap_err();
    let (text, mut rest) = (error.to_string(), 0);
    for part in
        [r#"the token for the header "authorization""#, "the subject of the token exchange", "the token file"]
    {
        let at = text[rest..].find(part);
        rest += at.unwrap_or_else(|| panic!("{part} is not in its place: {text}"));
    }
    assert_eq!(chain.servers[0].asked().len() + chain.servers[1].asked().len(), 0, "nothing was sent");
    assert!(!error.is_rejected(), "the file may come");
}

#[actix::test]
async fn a_link_that_hangs_is_named_before_the_attempt_ends() {
    let inner = source_fn(|_cx| std::future::pending());
    let link = TokenActor::builder(inner).policy(plain()).start().unwrap();
    let source = JsonEndpoint::get("http://127.0.0.1:9/").authorization(link).build().unwrap();
    let policy = plain().attempts(1).attempt_timeout(millis(200));
    let handle = TokenActor::builder(source).policy(policy).start().unwrap();
    let error = handle.get().await.unwrap_err().to_string();
    assert!(
        error.contains(r#"the token for the header "authorization": its actor had no token within"#),
        "{error}"
    );
}

#[actix::test]
async fn a_refusal_of_a_link_is_one_for_those_behind_it_and_quotes_no_token() {
    let chain = Chain::new().await;
    chain.file.get().await.unwrap();
    let server = FakeAuthServer::start().await.unwrap();
    server.then(Reply::json(400, r#"{"error":"invalid_grant","error_description":"odd: from-a-file"}"#));
    let client = Client::builder(server.url(), "pool").public().build().unwrap();
    let sts = client.token_exchange(chain.file.clone()).build().unwrap();
    let source = JsonEndpoint::post(chain.servers[1].url()).authorization(sts).build().unwrap();
    let error = source.fetch(FetchContext::new(Reason::First)).await.unwrap_err();
    assert!(error.is_terminal() && error.to_string().contains("invalid_grant"), "{error}");
    assert!(!error.to_string().contains("from-a-file"), "{error}");
    assert_eq!(chain.servers[1].asked().len(), 0);
}

/// A JWT of the system clock that lasts 600 s.
fn jwt() -> String {
    jwt_until(SystemClock.now().wall + secs(600))
}

fn jwt_until(end: SystemTime) -> String {
    let exp = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let part = |json: String| URL_SAFE_NO_PAD.encode(json);
    format!("{}.{}.c2ln", part(r#"{"alg":"none"}"#.into()), part(format!(r#"{{"exp":{exp}}}"#)))
}

#[actix::test]
async fn an_exchanged_token_lasts_no_longer_than_that_of_its_subject() {
    let folder = Folder::new();
    let file =
        |text: &str| BoxSource::new(FileToken::builder(folder.write(&text[..1], text)).build().unwrap());
    let of = |token: Token| BoxSource::new(source_fn(move |_| std::future::ready(Ok(token.clone()))));
    let kept = |token: Token| BoxSource::new(TokenActor::builder(of(token)).start().unwrap());
    let plain = Token::new("subject");
    for (subject, stated, lasts) in [
        (of(plain.clone().with_lifetime(secs(600))), Some(3_600), 600),
        (of(plain.clone().with_lifetime(secs(600))), Some(60), 60),
        (of(plain.clone().with_expires_at(SystemClock.now().wall + secs(600))), Some(3_600), 600),
        (kept(plain.clone().with_lifetime(secs(600))), Some(3_600), 600),
        (of(Token::new(jwt())), Some(3_600), 600),
        (of(Token::new(jwt()).with_lifetime(secs(50))), Some(3_600), 50),
        // No end is stated: not by an assumed lifetime either, and not by the time until the file is read again.
        (of(plain.clone()), Some(3_600), 3_600),
        (kept(plain.clone()), Some(3_600), 3_600),
        (file("opaque"), Some(3_600), 3_600),
        (file(&jwt()), Some(3_600), 600),
        // Its server has judged it, by its own clock.
        (of(plain.clone().with_lifetime(secs(0))), Some(3_600), 3_600),
        // The answer has no lifetime: the policy's is assumed, within the subject's.
        (of(plain.clone().with_lifetime(secs(60))), None, 60),
        (of(plain.clone().with_lifetime(secs(6_000))), None, 300),
    ] {
        let server = FakeAuthServer::start().await.unwrap();
        let stated = stated.map(|secs| format!(r#","expires_in":{secs}"#)).unwrap_or_default();
        let answer =
            format!(r#"{{"access_token":"a","token_type":"Bearer","issued_token_type":"x"{stated}}}"#);
        server.then(Reply::json(200, answer));
        let client = Client::builder(server.url(), "pool").public().build().unwrap();
        let source = client.token_exchange(subject).build().unwrap();
        let token = TokenActor::builder(source).start().unwrap().get().await.unwrap();
        let left = token.remaining().unwrap();
        assert!(left <= secs(lasts) && left > secs(lasts) - secs(10), "{left:?} of {lasts} s{stated}");
    }
}

/// Our clock is two hours off, and the answer's `Date` says so only when the first request has been sent.
#[actix::test]
async fn the_first_exchange_is_limited_by_the_clock_of_the_server() {
    let now = SystemClock.now().wall;
    for (is_ahead, theirs) in [(true, now + secs(7_200)), (false, now - secs(7_200))] {
        let server = FakeAuthServer::start().await.unwrap();
        let answer =
            r#"{"access_token":"a","token_type":"Bearer","issued_token_type":"x","expires_in":86400}"#;
        server.then(Reply::json(200, answer).with_header("Date", httpdate::fmt_http_date(theirs)));
        let subject = Token::new(jwt_until(theirs + secs(600)));
        let subject = source_fn(move |_cx| std::future::ready(Ok(subject.clone())));
        let client = Client::builder(server.url(), "pool").public().build().unwrap();
        let source = client.token_exchange(subject).build().unwrap();
        let token = source.fetch(FetchContext::new(Reason::First)).await.unwrap();
        let left = token.remaining().unwrap();
        // A `Date` has whole seconds.
        assert!(left <= secs(601) && left > secs(590), "ahead {is_ahead}: {left:?}");
    }
}

#[actix::test]
async fn a_token_in_a_header_of_its_own_stands_there_without_its_scheme() {
    let vault = fakes::VaultServer::start().await.unwrap();
    let login = Vault::approle(vault.base_url(), "role-1").secret_id("secret-1");
    let api = FakeAuthServer::start().await.unwrap();
    api.then(Reply::json(403, r#"{"message":"not for hvs.1"}"#));
    let source = JsonEndpoint::get(api.url()).header_token("X-Vault-Token", login.build().unwrap());
    let source = source.header("authorization", "Basic abc").build().unwrap();
    let error = source.fetch(FetchContext::new(Reason::First)).await.unwrap_err();
    assert!(!error.to_string().contains("hvs"), "{error}");
    let asked = &api.asked()[0];
    assert_eq!(asked.header("x-vault-token"), Some("hvs.1"));
    assert_eq!(asked.header("authorization"), Some("Basic abc"));
    assert!(!format!("{source:?}").contains("hvs"));
}

#[actix::test]
async fn a_link_that_no_header_can_carry_sends_nothing_and_its_name_is_checked() {
    let api = FakeAuthServer::start().await.unwrap();
    let link = |token: Token| source_fn(move |_cx| std::future::ready(Ok(token.clone())));
    for token in [Token::new("a\nb"), Token::new("ab").with_type(TokenType::Other("o dd".into()))] {
        let source = JsonEndpoint::get(api.url()).authorization(link(token)).build().unwrap();
        let error = source.fetch(FetchContext::new(Reason::First)).await.unwrap_err();
        assert!(error.to_string().starts_with(r#"the token for the header "authorization": it "#), "{error}");
    }
    assert!(api.asked().is_empty());
    assert_field(
        JsonEndpoint::get(api.url()).header_token("a b", link(Token::new("c"))).build(),
        "header_token",
    );
    let (one, other) = (link(Token::new("a")), link(Token::new("b")));
    let source =
        JsonEndpoint::get(api.url()).authorization(one).header_token("x-other", other).build().unwrap();
    let mut parts = Vec::new();
    source.identify(&mut |name, value| parts.push(format!("{name}: {value}")));
    assert!(parts.iter().any(|part| part.starts_with("unnamed: authorization: ")), "{parts:?}");
    assert!(parts.iter().any(|part| part.starts_with("unnamed: header_token.x-other: ")), "{parts:?}");
    let failing = source_fn(|_cx| async { Err(SourceError::terminal("gone")) });
    let source = JsonEndpoint::get(api.url()).authorization(failing).build().unwrap();
    let error = source.fetch(FetchContext::new(Reason::First)).await.unwrap_err();
    assert!(error.is_terminal() && error.to_string().ends_with(": gone"), "{error}");
}
