//! Unusual addresses, headers, clocks, answers and settings for tokens that are bound to a key.

use std::collections::HashSet;
use std::sync::Mutex;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::{Value, json};
use tokenflight::oauth::{DpopKey, OAuthError};
use tokenflight::{FetchContext, Reason, TokenType};

use super::dpop_server::{DpopServer, State, unix_now, verified};
use super::loopback::{Loopback, Reply};
use super::*;

const P256: &str = include_str!("../../../src/oauth/jws/tests/keys/p256.pem");
/// What a text with the key in it would hold.
fn body_of_the_key() -> &'static str {
    P256.lines().nth(2).unwrap()
}

async fn fetch(source: &impl TokenSource) -> Result<Token, SourceError> {
    source.fetch(FetchContext::new(Reason::First)).await
}

async fn bound_token() -> Token {
    let server = DpopServer::start(State::default());
    let client = server.client().secret("s3cret").dpop(DpopKey::generate().unwrap()).build().unwrap();
    fetch(&client.client_credentials().build().unwrap()).await.unwrap()
}

#[track_caller]
fn claims(token: &Token, uri: &Uri) -> Value {
    let mut headers = HeaderMap::new();
    token.apply(&Method::GET, uri, &mut headers).unwrap();
    verified(headers["dpop"].to_str().unwrap()).expect("a good proof").1
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

#[actix::test]
async fn no_address_panics_and_each_has_one_name_or_none() {
    let token = bound_token().await;
    for (text, named) in [
        ("https://api.example:/", Some("https://api.example/")),
        ("https://api.example:+8443/", None),
        ("https://api.example:-1/", None),
        ("https://api.example:65536/", None),
        ("https://api.example:99999999999999999999/", None),
        ("https://api.example:00000443/", Some("https://api.example/")),
        ("https://u:p@API.example.:0443//a/%2e%2e//b%3a?x#y", Some("https://api.example.///b%3A")),
        ("/relative", None),
        ("*", None),
        ("api.example:443", None),
        ("api.example", None),
        ("https://[fe80::1%25eth0]/a", Some("https://[fe80::1%25eth0]/a")),
        ("https://[::FFFF:1.2.3.4]:443/", Some("https://[::ffff:1.2.3.4]/")),
        ("HTTPS://api.example/%7e%2f", Some("https://api.example/%7E%2F")),
        ("custom://api.example:80/", Some("custom://api.example:80/")),
        ("https://:443/", None),
        ("https://u@:443/", None),
    ] {
        let Ok(uri) = text.parse::<Uri>() else { continue };
        let mut headers = HeaderMap::new();
        let outcome = token.apply(&Method::GET, &uri, &mut headers);
        if let Some(named) = named {
            outcome.unwrap();
            assert_eq!(verified(headers["dpop"].to_str().unwrap()).unwrap().1["htu"], named, "{text}");
        } else {
            assert!(outcome.is_err() && headers.is_empty(), "{text}: {outcome:?}");
            assert!(!token.learn(&uri, &self::headers(&[("dpop-nonce", "n")])), "{text}");
        }
    }
}

#[actix::test]
async fn headers_that_are_there_before_are_replaced_as_a_whole() {
    let token = bound_token().await;
    let uri = Uri::from_static("https://api.example/");
    let mut before = headers(&[
        ("authorization", "Basic a"),
        ("authorization", "Bearer b"),
        ("dpop", "x"),
        ("dpop", "y"),
        ("x-other", "z"),
    ]);
    let mut seen = HashSet::new();
    for _ in 0..3 {
        token.apply(&Method::GET, &uri, &mut before).unwrap();
        assert_eq!(before.len(), 3);
        assert!(before["authorization"].is_sensitive() && before["dpop"].is_sensitive());
        assert!(seen.insert(before["dpop"].clone()), "each time another proof");
    }
    Token::new("abc").apply(&Method::GET, &uri, &mut before).unwrap();
    assert_eq!((before.len(), &before["authorization"]), (2, &HeaderValue::from_static("Bearer abc")));
}

#[actix::test]
async fn a_full_map_of_headers_is_an_error_and_no_panic() {
    let mut full = HeaderMap::new();
    for number in 0_u32.. {
        let name = HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap();
        if full.try_insert(name, HeaderValue::from_static("")).is_err() {
            break;
        }
    }
    let (before, uri) = (full.len(), Uri::from_static("https://api.example/"));
    for token in [bound_token().await, Token::new("abc")] {
        assert!(token.apply(&Method::GET, &uri, &mut full).is_err());
        assert_eq!(full.len(), before);
    }
}

#[actix::test]
async fn a_type_that_is_dpop_by_another_name_is_no_way_around_the_key() {
    for name in ["dpop", "DPoP", "DPOP", "dPoP"] {
        let kind = TokenType::Other(name.to_owned());
        let token = Token::new("abc").with_type(kind.clone());
        let mut headers = HeaderMap::new();
        assert!(token.is_bound(), "{name}");
        token.apply(&Method::GET, &Uri::from_static("https://api.example/"), &mut headers).unwrap_err();
        let client = Client::builder("https://auth.example/token", "a").secret("s").build().unwrap();
        assert_eq!(client.client_credentials().token_type(kind).build().unwrap_err().field(), "token_type");
    }
}

#[actix::test]
async fn odd_nonces_change_nothing_and_good_ones_are_kept_by_origin() {
    let token = bound_token().await;
    let uri = Uri::from_static("https://api.example/a");
    let long = "n".repeat(10_000);
    assert!(token.learn(&uri, &headers(&[("dpop-nonce", "first")])));
    for odd in ["", " ", "a b", "a\"b", "a\\b", "\u{e9}", "a,b c", &long, &"n".repeat(513)] {
        assert!(!token.learn(&uri, &headers(&[("dpop-nonce", odd)])), "{odd:.20}");
        assert!(!token.learn(&uri, &headers(&[("dpop-nonce", "other"), ("dpop-nonce", odd)])), "{odd:.20}");
        assert_eq!(claims(&token, &uri)["nonce"], "first", "{odd:.20}");
    }
    assert!(token.learn(&uri, &headers(&[("dpop-nonce", "same"), ("dpop-nonce", "same")])));
    // Of 150 origins in odd spelling the last 100 are known.
    let at = |number: usize, upper: bool| -> Uri {
        let host = if upper { "API" } else { "api" };
        format!("https://{host}-{}.example:{}/x", number / 2, 1_000 + number % 2).parse().unwrap()
    };
    for number in 0..150 {
        let nonce = format!("nonce-{number}");
        assert!(token.learn(&at(number, true), &headers(&[("dpop-nonce", &nonce)])));
    }
    for number in 50..150 {
        assert_eq!(claims(&token, &at(number, false))["nonce"], format!("nonce-{number}"));
    }
    for number in (0..50).rev() {
        assert!(claims(&token, &at(number, false))["nonce"].is_null());
    }
}

#[actix::test]
async fn a_lying_date_at_a_resource_moves_that_resource_s_clock_alone() {
    let token = bound_token().await;
    let (liar, honest) =
        (Uri::from_static("https://liar.example/"), Uri::from_static("https://api.example/"));
    let now = unix_now();
    for date in [
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "nonsense",
        "",
        "Fri, 31 Feb 2026 00:00:00 GMT",
    ] {
        for age in ["", "4294967295", "-1", "99999999999999999999"] {
            token.learn(&liar, &headers(&[("date", date), ("age", age)]));
            assert!(claims(&token, &liar)["iat"].is_number(), "{date} {age}");
            assert!(claims(&token, &honest)["iat"].as_u64().unwrap().abs_diff(now) < 60);
        }
    }
    let date = httpdate::fmt_http_date(std::time::SystemTime::UNIX_EPOCH + secs(now));
    token.learn(&liar, &headers(&[("date", &date)]));
    assert!(claims(&token, &liar)["iat"].as_u64().unwrap().abs_diff(now) < 60, "the truth heals");
}

#[actix::test]
async fn a_lying_date_at_the_token_endpoint_is_healed_by_the_next_answer() {
    for lie in ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "nonsense"] {
        let asked = Arc::new(AtomicUsize::new(0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (count, note) = (Arc::clone(&asked), Arc::clone(&seen));
        let server = Loopback::start(move |_, question| {
            let (_, claims) = verified(question.header("dpop").unwrap()).unwrap();
            note.lock().unwrap().push(claims["iat"].as_u64().unwrap());
            let number = count.fetch_add(1, Ordering::Relaxed);
            let truth = httpdate::fmt_http_date(std::time::SystemTime::UNIX_EPOCH + secs(unix_now()));
            let date = if number == 0 { lie.to_owned() } else { truth };
            Reply::json(200, json!({ "access_token": "a", "token_type": "dPoP", "expires_in": 600 }))
                .with_header("date", date)
        });
        let client =
            Client::builder(server.token_url(), "app").private_key(PrivateKey::from_pem(P256).unwrap());
        let client = client.dpop(DpopKey::generate().unwrap()).build().unwrap();
        let (one, other) =
            (client.client_credentials().build().unwrap(), client.client_credentials().build().unwrap());
        for source in [&one, &other, &one] {
            let token = fetch(source).await.unwrap();
            assert!(token.is_bound() && token.remaining() <= Some(secs(600)), "{lie}");
        }
        let seen = seen.lock().unwrap().clone();
        assert!(seen[0].abs_diff(unix_now()) < 60 && seen[2].abs_diff(unix_now()) < 60, "{lie}: {seen:?}");
    }
}

type Answer = Box<dyn Fn(usize) -> Reply + Send + Sync>;

/// What a server says, and how many requests one fetch may cost.
#[actix::test]
async fn a_server_that_wants_a_nonce_for_ever_costs_two_requests_a_fetch() {
    let wants = || json!({ "error": "use_dpop_nonce" });
    let cases: Vec<(&str, Answer, &[usize])> = vec![
        (
            "the same",
            Box::new(move |_| Reply::json(400, wants()).with_header("dpop-nonce", "n".into())),
            &[2, 1, 1],
        ),
        ("none", Box::new(move |_| Reply::json(400, wants())), &[1, 1]),
        (
            "another",
            Box::new(move |n| Reply::json(401, wants()).with_header("dpop-nonce", format!("n{n}"))),
            &[2, 2],
        ),
        (
            "in a 200",
            Box::new(move |n| Reply::json(200, wants()).with_header("dpop-nonce", format!("n{n}"))),
            &[1, 1],
        ),
        (
            "in a 503",
            Box::new(move |n| Reply::json(503, wants()).with_header("dpop-nonce", format!("n{n}"))),
            &[1, 1],
        ),
        (
            "an odd one",
            Box::new(move |_| Reply::json(400, wants()).with_header("dpop-nonce", "a b".into())),
            &[1, 1],
        ),
        (
            "too long",
            Box::new(move |_| Reply::json(400, wants()).with_header("dpop-nonce", "n".repeat(10_000))),
            &[1, 1],
        ),
        (
            "two",
            Box::new(move |_| {
                Reply::json(400, wants())
                    .with_header("dpop-nonce", "a".into())
                    .with_header("dpop-nonce", "b".into())
            }),
            &[1, 1],
        ),
        (
            "no JSON",
            Box::new(move |n| {
                Reply::json(401, json!("<html>use_dpop_nonce</html>"))
                    .with_header("dpop-nonce", format!("n{n}"))
            }),
            &[1, 1],
        ),
    ];
    for (what, answer, costs) in cases {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let server = Loopback::start(move |_, _| answer(count.fetch_add(1, Ordering::Relaxed)));
        let client =
            Client::builder(server.token_url(), "app").secret("s3cret").dpop(DpopKey::generate().unwrap());
        let source = client.build().unwrap().client_credentials().build().unwrap();
        for cost in costs {
            let before = asked.load(Ordering::Relaxed);
            let error = fetch(&source).await.unwrap_err();
            assert_eq!(asked.load(Ordering::Relaxed) - before, *cost, "{what}: {error}");
            if what != "no JSON" {
                assert!(!error.is_terminal(), "{what}: {error}");
                assert_eq!(error.cause::<OAuthError>().unwrap().code, "use_dpop_nonce");
            }
            assert!(!error.to_string().contains("eyJ"), "{error}");
        }
    }
}

#[actix::test]
async fn a_key_file_that_is_none_is_named_and_nothing_of_it_is_shown() {
    let folder = Folder::new();
    let openssl = |file: &str, arguments: &[&str]| {
        let path = folder.path(file);
        let output = std::process::Command::new("openssl").args(arguments).arg("-out").arg(&path).output();
        output.is_ok_and(|output| output.status.success()).then_some(path)
    };
    folder.write("good.pem", P256);
    let good = folder.path("good.pem");
    let good = good.to_str().unwrap();
    let mut files = vec![
        folder.write("empty.pem", ""),
        folder.write("cut.pem", &P256[..P256.len() / 2]),
        folder.write("binary.pem", "\0\u{1}\u{2}"),
        folder.write("large.pem", &format!("{P256}{}", "\n".repeat(2 * 1024 * 1024))),
        folder.path("none.pem"),
        folder.path(""),
    ];
    files.extend(openssl("public.pem", &["pkey", "-in", good, "-pubout"]));
    files.extend(openssl("encrypted.pem", &["pkcs8", "-topk8", "-in", good, "-passout", "pass:s3cret"]));
    files.extend(openssl(
        "rsa1024.pem",
        &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
    ));
    assert!(files.len() >= 6);
    for path in files {
        let from_settings = |path: &std::path::Path| {
            let settings = json!({ "token_url": "https://auth.example/token", "client_id": "a", "client_secret": "s",
                "dpop": { "key_file": path } });
            serde_json::from_value::<ClientBuilder>(settings).unwrap().build().map(drop)
        };
        for error in [DpopKey::from_pem_file(&path).map(drop).unwrap_err(), from_settings(&path).unwrap_err()]
        {
            assert_eq!(error.field(), "dpop", "{error}");
            let text = format!("{error} {error:?}");
            assert!(text.contains(path.file_name().unwrap().to_str().unwrap()), "{text}");
            assert!(!text.contains(body_of_the_key()), "{text}");
        }
    }
    std::os::unix::fs::symlink(good, folder.path("link.pem")).unwrap();
    assert_eq!(
        DpopKey::from_pem_file(folder.path("link.pem")).unwrap().thumbprint(),
        DpopKey::from_pem(P256).unwrap().thumbprint()
    );
}

#[actix::test]
async fn a_key_in_the_wrong_place_of_the_settings_is_not_quoted() {
    let hidden = |what: &str, text: String| assert!(!text.contains(body_of_the_key()), "{what}: {text}");
    let read = |text: &str| {
        let settings = format!(
            r#"{{ "token_url": "https://auth.example/token", "client_id": "a", "client_secret": "s", {text} }}"#
        );
        let read =
            serde_json::from_str::<ClientBuilder>(&settings).map_err(|error| format!("{error} {error:?}"))?;
        read.build().map(drop).map_err(|error| format!("{error} {error:?}"))
    };
    let pem = json!(P256).to_string();
    for (what, text) in [
        ("itself", format!(r#""dpop": {pem}"#)),
        ("in a list", format!(r#""dpop": [{pem}]"#)),
        ("as the path", format!(r#""dpop": {{ "key_file": {pem} }}"#)),
        ("as the path in a list", format!(r#""dpop": {{ "key_file": [{pem}] }}"#)),
        ("by another name", format!(r#""dpop": {{ "pem": {pem} }}"#)),
        ("as the client's key file", format!(r#""private_key_file": {pem}"#)),
        ("as the assertion's file", format!(r#""assertion_file": {pem}"#)),
    ] {
        hidden(what, read(&text).expect_err(what));
    }
    let error = DpopKey::from_pem_file(P256).unwrap_err();
    hidden("from_pem_file", format!("{error} {error:?}"));
    let settings =
        json!({ "token_url": "https://a.example/token", "client_id": "a", "private_key_file": P256 });
    hidden("Debug", format!("{:?}", serde_json::from_value::<ClientBuilder>(settings).unwrap()));
    // Other forms.
    for text in [
        r#""dpop": true"#,
        r#""dpop": 5"#,
        r#""dpop": {}"#,
        r#""dpop": "Generate""#,
        r#""dpop": """#,
        r#""dpop": { "key_file": "" }"#,
        r#""dpop": { "key_file": "a", "key_file": "b" }"#,
        r#""dpop": "generate", "dpop": "generate""#,
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains("dpop") || error.contains("key_file"), "{text}: {error}");
    }
    let error = read(r#""dpop": { "key_file": "a", "key_file": "b" }"#).unwrap_err();
    assert!(error.contains("duplicate"), "{error}");
}

#[test]
fn a_thousand_threads_of_work_on_one_key_have_a_thousand_proofs() {
    let token = actix_rt::System::new().block_on(bound_token());
    let proofs = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (token, proofs) = (&token, &proofs);
            scope.spawn(move || {
                for number in 0..125 {
                    let uri: Uri = format!("https://api-{}.example/", number % 7).parse().unwrap();
                    let mut sent = HeaderMap::new();
                    token.apply(&Method::GET, &uri, &mut sent).unwrap();
                    token.learn(&uri, &headers(&[("dpop-nonce", &format!("{thread}-{number}"))]));
                    assert!(proofs.lock().unwrap().insert(sent["dpop"].to_str().unwrap().to_owned()));
                }
            });
        }
    });
    let proofs = proofs.into_inner().unwrap();
    assert_eq!(proofs.len(), 1_000);
    let ids: HashSet<String> =
        proofs.iter().map(|proof| verified(proof).expect("a good proof").1["jti"].to_string()).collect();
    assert_eq!(ids.len(), 1_000);
}

#[test]
fn no_log_line_holds_a_key_or_a_proof() {
    let name = "oauth::odd_dpop::no_log_line_holds_a_key_or_a_proof";
    let Some(mut child) = in_its_own_process(name) else {
        env_logger::init();
        return actix_rt::System::new().block_on(async {
            let server = DpopServer::start(State { nonce: Some(1), ..State::default() });
            let client = server.client().secret("s3cret").dpop(DpopKey::from_pem(P256).unwrap());
            println!("{client:?}");
            let client = client.build().unwrap();
            let handle = started(client.client_credentials().build().unwrap());
            let token = handle.get().await.unwrap();
            let mut headers = HeaderMap::new();
            let uri: Uri = server.loopback.token_url().parse().unwrap();
            token.apply(&Method::GET, &uri, &mut headers).unwrap();
            println!("{token:?} {handle:?} {headers:?} {:?}", handle.status().await.unwrap());
            // A request of one's own, by a client that logs.
            let _ = reqwest::Client::new().get(uri.to_string()).headers(headers).send().await.unwrap();
            handle.shutdown().await;
        });
    };
    let text = all_that_is_logged_by(&mut child);
    assert!(text.contains("refreshed in"), "{text}");
    for hidden in [body_of_the_key(), "PRIVATE", "eyJ", "token-1"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
}
