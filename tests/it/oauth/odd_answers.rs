//! Other answers of servers: each ends in an error or a token, never in a panic, and never in an invalid token.

use tokenflight::testing::Reply;

use super::kinds::*;
use crate::http_sources::assert_says;

fn raw(head: &[u8], body: &str) -> Reply {
    let mut bytes = b"HTTP/1.1 ".to_vec();
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    Reply::Raw(bytes)
}

#[actix::test]
async fn a_success_of_any_kind_is_read_and_nothing_else_is() {
    let body = r#"{"access_token":"abc","expires_in":3600}"#;
    for status in [200, 201, 202, 203, 206, 299] {
        for (kind, outcome) in face(&Reply::json(status, body)).await {
            assert_eq!(outcome.unwrap().secret(), "abc", "{kind}: {status}");
        }
    }
    for status in [204, 205] {
        let reply = Reply::Raw(format!("HTTP/1.1 {status} Empty\r\nConnection: close\r\n\r\n").into());
        for (kind, outcome) in face(&reply).await {
            let error = outcome.unwrap_err();
            assert!(error.is_unavailable(), "{kind}: {status}: {error}");
            assert_says(&error, &["empty body"]);
        }
    }
    for status in [300, 304, 402, 410, 418, 499, 599, 700, 999] {
        for (kind, outcome) in face(&Reply::json(status, body)).await {
            assert!(outcome.is_err(), "{kind}: {status}");
        }
    }
}

#[actix::test]
async fn a_login_page_is_no_token() {
    let page = "<!DOCTYPE html><html><form action=\"/login?token=s3cret\"></form></html>";
    for content_type in ["text/html", "text/html; charset=utf-8", "application/json", ""] {
        for (kind, outcome) in face(&Reply::text(200, content_type, page)).await {
            let error = outcome.unwrap_err();
            assert!(error.is_unavailable(), "{kind}: {error}");
            assert_says(&error, &["instead of JSON"]);
        }
    }
}

#[actix::test]
async fn one_of_two_fields_of_a_name_is_read() {
    for body in [
        r#"{"access_token":"one","access_token":"two","expires_in":3600}"#,
        r#"{"expires_in":1,"access_token":"one","expires_in":3600,"access_token":"two"}"#,
    ] {
        for (kind, outcome) in face(&Reply::json(200, body)).await {
            match outcome {
                Ok(token) => {
                    assert!(["one", "two"].contains(&token.secret()), "{kind}");
                    assert_lasts(&token, 3600, kind);
                }
                Err(error) => assert!(error.is_unavailable(), "{kind}: {error}"),
            }
        }
    }
}

#[actix::test]
async fn deep_nesting_and_wide_documents_are_survived() {
    for deep in [100, 127, 200, 10_000] {
        let nest = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        let body = format!(r#"{{"access_token":"abc","more":{nest}}}"#);
        for status in [200, 400] {
            for (kind, outcome) in face(&Reply::json(status, body.clone())).await {
                assert_eq!(outcome.is_ok(), status == 200 && deep < 127, "{kind}: {deep}: {outcome:?}");
            }
        }
    }
    let wide = format!(r#"{{"access_token":"abc","more":[{}0]}}"#, "0,".repeat(30_000));
    for (kind, outcome) in face(&Reply::json(200, wide)).await {
        assert!(outcome.is_ok(), "{kind}: {outcome:?}");
    }
}

#[actix::test]
async fn a_token_may_be_as_long_as_a_body() {
    for length in [8 * 1024, 60 * 1024, 65_000] {
        let token = "t".repeat(length);
        for (kind, outcome) in face(&Reply::json(200, format!(r#"{{"access_token":"{token}"}}"#))).await {
            assert_eq!(outcome.unwrap().secret(), token, "{kind}");
        }
    }
    let token = "t".repeat(70_000);
    for (kind, outcome) in face(&Reply::json(200, format!(r#"{{"access_token":"{token}"}}"#))).await {
        assert!(outcome.unwrap_err().to_string().contains("`max_body`"), "{kind}");
    }
}

#[actix::test]
async fn an_odd_scope_grants_no_more_than_it_says() {
    for (scope, granted) in [
        ("null", &["read", "write"][..]),
        ("7", &[]),
        ("true", &[]),
        ("{}", &[]),
        (r#"{"read":true}"#, &[]),
        ("[7,null]", &[]),
        (r#"["read",7]"#, &["read"]),
        (r#"[["write"],"read"]"#, &["read"]),
        (r#"" read  write ""#, &["read", "write"]),
        (r#""READ WRITE""#, &["READ", "WRITE"]),
    ] {
        let body = format!(r#"{{"access_token":"abc","scope":{scope}}}"#);
        let source = |url| oauth(url).scope("read write").build().unwrap();
        let token = face_with(&Reply::json(200, body), source).await.unwrap();
        assert_eq!(token.scopes(), granted, "{scope}");
    }
}

#[actix::test]
async fn a_huge_or_odd_token_type_is_cut_and_printable() {
    let long = "m".repeat(10_000);
    for kind in [&long, r"m\u0000c", r"m\nc", r"\u001b[31m", "mäc", r"\u202emac"] {
        let body = format!(r#"{{"access_token":"s3cret","token_type":"{kind}"}}"#);
        let error = face_with(&Reply::json(200, body), |url| oauth(url).build().unwrap()).await.unwrap_err();
        assert!(error.is_rejected(), "{error}");
        assert_says(&error, &["`token_type`"]);
        assert!(error.to_string().chars().all(|char| char == ' ' || char.is_ascii_graphic()), "{error:?}");
    }
}

#[actix::test]
async fn headers_that_are_no_text_are_survived() {
    let body = r#"{"access_token":"abc","expires_in":3600}"#;
    for header in [
        &b"Date: \xff\xfe\r\n"[..],
        b"Content-Type: application/json\xe4\r\n",
        b"Retry-After: \xb2\r\n",
        b"X-Odd: \x80\x81\r\n",
        b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nDate: nonsense\r\n",
        b"Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
        b"Date: Sat, 01 Jan 0000 00:00:00 GMT\r\n",
        b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
        b"Retry-After: 7\r\nRetry-After: 9\r\n",
    ] {
        let good = [b"200 OK\r\n", header].concat();
        for (kind, outcome) in face(&raw(&good, body)).await {
            assert_lasts(&outcome.unwrap(), 3600, kind);
        }
        for status in [&b"503 Down\r\n"[..], b"400 No\r\n"] {
            for (kind, outcome) in face(&raw(&[status, header].concat(), "{}")).await {
                let error = outcome.unwrap_err();
                assert!(error.retry_after().is_some_and(|wait| wait <= crate::support::secs(300)), "{kind}");
            }
        }
    }
    for header in [&b"Location: /\xff\xfe\r\n"[..], b"Location: \r\n", b""] {
        let reply = raw(&[b"302 Found\r\n", header].concat(), "");
        for (kind, outcome) in face(&reply).await {
            assert!(outcome.unwrap_err().is_rejected(), "{kind}");
        }
    }
    for header in
        [&b"Content-Encoding: \xff\r\n"[..], b"Content-Encoding: gzip\r\nContent-Encoding: identity\r\n"]
    {
        for (kind, outcome) in face(&raw(&[b"200 OK\r\n", header].concat(), "\u{1f}\u{8b}")).await {
            assert!(outcome.unwrap_err().is_unavailable(), "{kind}");
        }
    }
}

#[actix::test]
async fn text_that_is_no_utf_8_or_no_object_is_no_token() {
    let bodies: [&[u8]; 7] = [
        b"{\"access_token\":\"s3cret\xff\"}",
        b"\xff\xfe{\0}\0",
        b"access_token=s3cret&token_type=bearer",
        b"\"s3cret\"",
        b"{\"access_token\":\"s3cret\"} trailing",
        b"{\"access_token\":\"s3cret\",}",
        b"callback({\"access_token\":\"s3cret\"})",
    ];
    for body in bodies {
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        let reply = Reply::Http { status: "200 OK".to_owned(), headers, body: body.to_vec() };
        for (kind, outcome) in face(&reply).await {
            let error = outcome.unwrap_err();
            assert!(error.is_unavailable(), "{kind}: {error}");
            assert_says(&error, &["200 OK"]);
        }
    }
}

#[actix::test]
async fn thousands_of_headers_are_an_error_and_an_early_hint_is_not() {
    let many = "X-Many: 1\r\n".repeat(5_000);
    for (kind, outcome) in face(&raw(format!("200 OK\r\n{many}").as_bytes(), "{}")).await {
        assert!(outcome.unwrap_err().is_unavailable(), "{kind}");
    }
    let long = format!("200 OK\r\nX-Long: {}\r\n", "x".repeat(1024 * 1024));
    for (kind, outcome) in face(&raw(long.as_bytes(), "{}")).await {
        assert!(outcome.unwrap_err().is_unavailable(), "{kind}");
    }
    let body = r#"{"access_token":"abc","expires_in":3600}"#;
    let hinted = "103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n";
    for (kind, outcome) in face(&raw(hinted.as_bytes(), body)).await {
        assert_eq!(outcome.unwrap().secret(), "abc", "{kind}");
    }
}
