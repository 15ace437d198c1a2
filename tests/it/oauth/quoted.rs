//! A server that quotes the request, or its own answer: in any encoding, neither error nor log contains a secret.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use log::LevelFilter;
use serde_json::{Value, json};
use tokenflight::SourceError;
use tokenflight::oauth::{ClientAuth, OAuthError};
use tokenflight::source::{BoxSource, JsonEndpoint};
use tokenflight::testing::{FakeAuthServer, Reply};

use super::kinds::*;

const SECRET: &str = "p+w/q Zq8<&>'=;~@9kLmN";
const EXTRA: &str = "tenant+key/77 \"xYzWv\"";
const TOKEN: &str = "t0ken.abc-DEF_ghi~jkl+mno/pq==";
const HEADER: &str = "Bearer hdr+val/ue=93kdjfhg";
const DEFAULT: &str = "Bearer dflt+val/ue=73kdjcnqx";
const MADE: &str = "made+for/this=83hdkalqp";
/// The second half of a pair, as a server may repeat it alone.
const HALF: &str = "hlf+pass/w.66jdkqlw";
const BODY: &str = "body+str/ing \u{e4}\u{1f600} 5jdksl";

fn percent(text: &str, upper: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(byte.into());
        } else if upper {
            write!(out, "%{byte:02X}").unwrap();
        } else {
            write!(out, "%{byte:02x}").unwrap();
        }
    }
    out
}

fn each(text: &str, mut write: impl FnMut(char) -> String) -> String {
    text.chars()
        .map(|char| if char.is_ascii_alphanumeric() { char.to_string() } else { write(char) })
        .collect()
}

fn named(char: char) -> String {
    let name = match char {
        '+' => "plus",
        '/' => "sol",
        '=' => "equals",
        '<' => "lt",
        '>' => "gt",
        '&' => "amp",
        '"' => "quot",
        '\'' => "apos",
        ';' => "semi",
        '@' => "commat",
        '.' => "period",
        '-' => "hyphen",
        '_' => "lowbar",
        ' ' => "nbsp",
        other => return other.to_string(),
    };
    format!("&{name};")
}

/// Each form in which a server may quote a text.
pub(crate) fn forms(text: &str) -> Vec<(&'static str, String)> {
    let hex = |upper: bool| {
        text.bytes().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    let units = |text: &str| text.chars().map(|char| units_of(char).to_lowercase()).collect();
    let form: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let (length, cut) = (text.chars().count(), text.chars().count() * 3 / 4);
    let pair = format!("app:{text}");
    vec![
        ("as it is", text.to_owned()),
        ("percent, upper", percent(text, true)),
        ("percent, lower", percent(text, false)),
        ("percent, twice", percent(&percent(text, true), true)),
        ("form", form.clone()),
        ("form, lower", form.to_lowercase()),
        ("named entities", each(text, named)),
        ("numeric entities", each(text, |char| format!("&#{};", u32::from(char)))),
        ("hexadecimal entities", each(text, |char| format!("&#x{:X};", u32::from(char)))),
        ("long entities", each(text, |char| format!("&#x{:08x};", u32::from(char)))),
        ("entities twice", each(&each(text, named), named)),
        ("JSON escapes", each(text, units_of)),
        ("JSON escapes for all", units(text)),
        ("JSON in JSON", serde_json::to_string(text).unwrap()),
        ("base64", STANDARD.encode(text)),
        ("base64 without padding", STANDARD_NO_PAD.encode(text)),
        ("base64 for URLs", URL_SAFE.encode(text)),
        ("base64 for URLs without padding", URL_SAFE_NO_PAD.encode(text)),
        ("base64 twice", STANDARD.encode(STANDARD.encode(text))),
        ("base64 of the pair", STANDARD.encode(&pair)),
        ("base64 of the pair, form", STANDARD.encode(format!("app:{form}"))),
        ("base64 of the pair, percent", percent(&STANDARD.encode(&pair), true)),
        ("hexadecimal", hex(false)),
        ("hexadecimal, upper", hex(true)),
        ("upper case", text.to_uppercase()),
        ("lower case", text.to_lowercase()),
        ("its beginning", text.chars().take(cut).collect()),
        ("its end", text.chars().skip(length - cut).collect()),
    ]
}

fn units_of(char: char) -> String {
    let mut out = String::new();
    for unit in char.encode_utf16(&mut [0; 2]) {
        write!(out, "\\u{unit:04X}").unwrap();
    }
    out
}

/// The sources, each with what it sends.
fn sources(url: &str) -> Vec<(&'static str, BoxSource, Vec<&'static str>)> {
    let basic = oauth_with(url, ClientAuth::Basic);
    let body = oauth_with(url, ClientAuth::Body);
    let raw = oauth_with(url, ClientAuth::BasicRaw);
    let sent = json!({ "user": { "password": [BODY] } });
    let endpoint = JsonEndpoint::post(url)
        .header("x-api-key", HEADER)
        .header_fn("x-made", || Ok::<_, std::io::Error>(MADE.to_owned()))
        .body_json(sent);
    let builder = tokenflight::source::ClientCredentials::builder(url, "app", SECRET);
    let by_client = builder.http(|http| http.default_headers(default_headers(false)));
    let sensitive = JsonEndpoint::get(url).http(|http| http.default_headers(default_headers(true)));
    let form = JsonEndpoint::post(url).form([("password", SECRET), ("user", EXTRA)]);
    let pair = format!("orders:{HALF}");
    let header_pair = JsonEndpoint::get(url).header("x-auth", &pair);
    let form_pair = JsonEndpoint::post(url).form([("login", &pair)]);
    vec![
        ("a pair in a header", BoxSource::new(header_pair.build().unwrap()), vec![HALF]),
        ("a pair in a form", BoxSource::new(form_pair.build().unwrap()), vec![HALF]),
        ("Basic", basic, vec![SECRET, EXTRA]),
        ("Body", body, vec![SECRET, EXTRA]),
        ("BasicRaw", raw, vec![SECRET, EXTRA]),
        ("body_json", BoxSource::new(endpoint.build().unwrap()), vec![HEADER, &HEADER[7..], MADE, BODY]),
        ("default header", BoxSource::new(by_client.build().unwrap()), vec![DEFAULT, &DEFAULT[7..], SECRET]),
        ("sensitive header", BoxSource::new(sensitive.build().unwrap()), vec![DEFAULT, &DEFAULT[7..]]),
        ("form", BoxSource::new(form.build().unwrap()), vec![SECRET, EXTRA]),
    ]
}

/// Headers of the HTTP client itself.
fn default_headers(is_sensitive: bool) -> reqwest::header::HeaderMap {
    let mut value: reqwest::header::HeaderValue = DEFAULT.parse().unwrap();
    value.set_sensitive(is_sensitive);
    reqwest::header::HeaderMap::from_iter([(reqwest::header::HeaderName::from_static("x-gateway"), value)])
}

fn oauth_with(url: &str, method: ClientAuth) -> BoxSource {
    let builder = tokenflight::source::ClientCredentials::builder(url, "app", SECRET);
    BoxSource::new(builder.auth_method(method).extra("tenant", EXTRA).build().unwrap())
}

/// Answers that explain something with these words.
fn explanations(words: &str) -> [Value; 6] {
    [
        json!({ "error": "invalid_client", "error_description": words }),
        json!({ "error": "invalid_client", "error_uri": words }),
        json!({ "error": words }),
        json!({ "error": { "code": 403, "message": words } }),
        json!({ "message": words }),
        json!({ "detail": words }),
    ]
}

#[track_caller]
fn assert_hidden(error: &SourceError, form: &str, what: &str) {
    for said in [format!("{error}"), format!("{error:?}"), format!("{:?}", error.cause::<OAuthError>())] {
        assert!(!said.contains(form), "{what}: {said}");
        assert!(!said.contains("kaput"), "nothing of it is shown, {what}: {said}");
    }
}

async fn quote_everything() {
    let server = FakeAuthServer::start().await.unwrap();
    for (name, source, sent) in sources(&server.url()) {
        for text in sent {
            for (number, (form, quoted)) in forms(text).into_iter().enumerate() {
                let words = format!("kaput {quoted} kaput");
                let what = format!("{name}: {form}: {quoted}");
                let answer = &explanations(&words)[number % 6];
                for status in [401, 503] {
                    server.then(Reply::json(status, answer.to_string()));
                    assert_hidden(&fetch(&source).await.unwrap_err(), &quoted, &what);
                }
                let answer = &explanations(&words)[0];
                server.then(Reply::json(400, answer.to_string()));
                assert_hidden(&fetch(&source).await.unwrap_err(), &quoted, &what);
            }
        }
    }
}

/// The token is quoted by the answer in which it stands, whatever the status of that is.
async fn quote_the_token() {
    let server = FakeAuthServer::start().await.unwrap();
    for (name, source, _) in sources(&server.url()) {
        for (form, quoted) in forms(TOKEN) {
            for status in [200, 400, 503] {
                let words = format!("kaput {quoted} kaput");
                let answer = json!({
                    "access_token": TOKEN, "error": "slow_down", "error_description": words, "token_type": quoted,
                });
                server.then(Reply::json(status, answer.to_string()));
                let what = format!("{name}: {status}: {form}");
                match fetch(&source).await {
                    Ok(token) => assert_eq!((token.secret(), status), (TOKEN, 200), "{what}"),
                    Err(error) => assert_hidden(&error, &quoted, &what),
                }
                let answer = json!({ "access_token": TOKEN, "token_type": format!("kaput {quoted}") });
                server.then(Reply::json(200, answer.to_string()));
                if let Err(error) = fetch(&source).await {
                    assert_hidden(&error, &quoted, &what);
                }
            }
        }
    }
}

/// In what a server writes besides a body.
async fn quote_in_headers() {
    let server = FakeAuthServer::start().await.unwrap();
    for (name, source, sent) in sources(&server.url()) {
        for (form, quoted) in sent.into_iter().flat_map(forms) {
            if !quoted.chars().all(|char| char == ' ' || char.is_ascii_graphic()) {
                continue;
            }
            let what = format!("{name}: {form}: {quoted}");
            // Characters that no URL has are encoded where the URL is read.
            for reply in [
                Reply::text(302, "text/html", "").with_header("Location", format!("/x/{quoted}/x")),
                Reply::text(200, &format!("kaput/{quoted}"), "<html>"),
                Reply::json(200, "{}").with_header("Content-Encoding", format!("kaput {quoted}")),
                Reply::Raw(format!("HTTP/1.1 401 kaput {quoted}\r\nContent-Length: 0\r\n\r\n").into()),
            ] {
                server.then(reply);
                assert_hidden(&fetch(&source).await.unwrap_err(), &quoted, &what);
            }
        }
    }
}

#[test]
fn nothing_of_what_was_sent_or_received_is_shown_in_any_encoding() {
    let name = "oauth::quoted::nothing_of_what_was_sent_or_received_is_shown_in_any_encoding";
    let told = logged(name, LevelFilter::Trace, async || {
        heading("all");
        quote_everything().await;
        quote_the_token().await;
        quote_in_headers().await;
    });
    let Some(told) = told else { return };
    assert!(told[0].1.contains("TRACE"), "it does log: {}", told[0].1);
    for text in [SECRET, EXTRA, TOKEN, &HEADER[7..], &DEFAULT[7..], MADE, HALF, BODY] {
        for (form, quoted) in forms(text) {
            let line = told[0].1.lines().find(|line| line.contains(&quoted));
            assert_eq!(line, None, "{form} of {text} is logged");
        }
    }
    assert!(!told[0].1.contains("kaput"), "no body is logged");
}

#[actix::test]
async fn what_is_harmless_is_shown() {
    let server = FakeAuthServer::start().await.unwrap();
    for (name, source, _) in sources(&server.url()) {
        for words in ["the client is disabled", "unknown tenant 12", "see https://auth.example/help"] {
            server.then(Reply::json(401, explanations(words)[0].to_string()));
            let error = fetch(&source).await.unwrap_err().to_string();
            // It is not known what a header says that is marked sensitive.
            assert_eq!(error.contains(words), name != "sensitive header", "{name}: {error}");
        }
    }
}
