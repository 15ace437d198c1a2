//! The successful answers of a token endpoint: types, scopes, markers, encodings.

use log::LevelFilter;
use tokenflight::testing::{FakeAuthServer, Reply};
use tokenflight::{TokenError, TokenType};

use super::kinds::*;
use crate::http_sources::{assert_says, started};
use crate::support::*;

fn with(more: &str) -> Reply {
    Reply::json(200, format!(r#"{{"access_token":"abc","expires_in":3600{more}}}"#))
}

#[actix::test]
async fn other_names_of_bearer_mean_bearer_and_the_setting_overrides() {
    for name in [
        "BearerToken",
        "Application Access Token",
        "bearertoken",
        "BEARER",
        " bearer ",
        "jwt",
        "Bearer Token",
        "access_token",
    ] {
        let reply = with(&format!(r#","token_type":"{name}""#));
        for (kind, outcome) in face(&reply).await {
            assert_eq!(outcome.unwrap().authorization(), "Bearer abc", "{kind}: {name}");
        }
        let mine = TokenType::Other("Mine".into());
        let token = face_with(&reply, |url| oauth(url).token_type(mine.clone()).build().unwrap()).await;
        assert_eq!(token.unwrap().authorization(), "Mine abc", "{name}");
        let token = face_with(&reply, |url| json(url).token_type(mine).build().unwrap()).await;
        assert_eq!(token.unwrap().authorization(), "Mine abc", "{name}");
    }
}

#[actix::test]
async fn a_type_that_is_not_known_is_an_error_that_names_it_and_the_setting() {
    for name in ["mac", "N_A", "pop", "DPoP", "dpop", "n_a", "hok", "MAC", "Negotiate"] {
        let reply = with(&format!(r#","token_type":"{name}""#));
        let error = face_with(&reply, |url| oauth(url).build().unwrap()).await.unwrap_err();
        assert!(error.is_rejected(), "{name}: {error}");
        assert_says(&error, &[&format!("{name:?}"), "`token_type`"]);
        let bearer = face_with(&reply, |url| oauth(url).token_type(TokenType::Bearer).build().unwrap()).await;
        assert_eq!(bearer.unwrap().authorization(), "Bearer abc", "{name}");
    }
}

#[actix::test]
async fn only_the_scopes_of_the_answer_are_claimed() {
    for (written, granted) in [
        (r#"["chat:read"]"#, &["chat:read"][..]),
        (r#""chat:read""#, &["chat:read"]),
        (r#""chat:read other""#, &["chat:read", "other"]),
        (r#""chat:read,other""#, &["chat:read", "other"]),
        (r#""chat:read, other""#, &["chat:read", "other"]),
        (r#"["chat:read,other"]"#, &["chat:read", "other"]),
        (r#""""#, &[]),
        ("[]", &[]),
        ("null", &["chat:read", "chat:edit"]),
        (r#""chat:edit,chat:read""#, &["chat:edit", "chat:read"]),
        (r#"["chat:edit","chat:read"]"#, &["chat:edit", "chat:read"]),
    ] {
        let reply = with(&format!(r#","scope":{written}"#));
        let asked = |url| oauth(url).scope("chat:read chat:edit");
        let token = face_with(&reply, |url| asked(url).build().unwrap()).await.unwrap();
        assert_eq!(token.scopes(), granted, "{written}");
        let strict = |url| asked(url).require_scopes(true).build().unwrap();
        let outcome = face_with(&reply, strict).await;
        let is_whole = granted.contains(&"chat:edit");
        assert_eq!(outcome.is_ok(), is_whole, "{written}: {outcome:?}");
        if let Err(error) = outcome {
            assert!(error.is_rejected(), "{written}: {error}");
            assert_says(&error, &["chat:edit", "`require_scopes`"]);
            let has_read = granted.contains(&"chat:read");
            assert_eq!(error.to_string().contains("chat:read"), !has_read, "{written}: {error}");
        }
    }
}

#[test]
fn a_narrower_grant_is_a_warn() {
    let name = "oauth::answers::a_narrower_grant_is_a_warn";
    let told = logged(name, LevelFilter::Warn, async || {
        for scope in
            [r#"["chat:read"]"#, r#""chat:read""#, r#""chat:read,other""#, r#""chat:edit chat:read""#]
        {
            heading(scope);
            let reply = with(&format!(r#","scope":{scope}"#));
            let asked = |url| oauth(url).scope("chat:read chat:edit").build().unwrap();
            face_with(&reply, asked).await.unwrap();
        }
    });
    for (scope, text) in told.unwrap_or_default() {
        let lines = text.matches("WARN").count();
        let is_narrower = !scope.contains("chat:edit");
        assert_eq!(lines, usize::from(is_narrower), "{scope}: {text}");
        assert_eq!(text.contains("without the scope \"chat:edit\""), is_narrower, "{scope}: {text}");
    }
}

#[actix::test]
async fn an_error_that_says_nothing_beside_a_token_is_a_token() {
    for nothing in ["false", "0", "[]", "{}", "null", r#""""#, "0.0", r#"" ""#] {
        for (kind, outcome) in face(&with(&format!(r#","error":{nothing}"#))).await {
            assert_eq!(outcome.unwrap().secret(), "abc", "{kind}: {nothing}");
        }
    }
    for something in [r#""invalid_client""#, "true", "1", r#"["no"]"#, r#"{"code":1}"#] {
        let reply = with(&format!(r#","error":{something}"#));
        let outcome = face_with(&reply, |url| oauth(url).build().unwrap()).await;
        assert!(outcome.is_err(), "{something}");
    }
}

#[actix::test]
async fn a_byte_order_mark_is_skipped() {
    for space in ["", "\n", "  "] {
        let body = format!("\u{feff}{space}{{\"access_token\":\"abc\",\"expires_in\":3600}}");
        for (kind, outcome) in face(&Reply::json(200, body)).await {
            let token = outcome.unwrap();
            assert_eq!(token.secret(), "abc", "{kind}");
            assert_lasts(&token, 3600, kind);
        }
        let body =
            format!("\u{feff}{space}{{\"error\":\"invalid_scope\",\"error_description\":\"no such\"}}");
        for (kind, outcome) in face(&Reply::json(400, body)).await {
            let error = outcome.unwrap_err();
            assert!(error.is_rejected(), "{kind}: {error}");
            assert_says(&error, &["no such"]);
            if kind == OAUTH {
                assert_says(&error, &["invalid_scope"]);
            }
        }
    }
}

#[actix::test]
async fn the_plain_encoding_is_asked_for_and_another_one_is_named() {
    // `{"access_token":"abc"}` as gzip writes it, and two bodies that nobody need unpack.
    let gzip: &[u8] = &[
        0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0x03, 0xab, 0x56, 0x4a, 0x4c, 0x4e, 0x4e, 0x2d, 0x2e, 0x8e, 0x2f,
        0xc9, 0xcf, 0x4e, 0xcd, 0x53, 0xb2, 0x52, 0x4a, 0x4c, 0x4a, 0x56, 0xaa, 0x05, 0,
    ];
    for (encoding, body) in
        [("gzip", gzip), ("GZip", gzip), ("br", b"\x0b\x02\x80"), ("zstd", b"\x28\xb5\x2f\xfd")]
    {
        for status in ["200", "400", "503"] {
            let headers = vec![("Content-Encoding".to_owned(), encoding.to_owned())];
            let reply = Reply::Http { status: status.into(), headers, body: body.to_vec() };
            for (kind, outcome) in face(&reply).await {
                let error = outcome.unwrap_err();
                assert_says(&error, &[&format!("answered {status}")]);
                if status == "200" {
                    assert!(error.is_unavailable(), "{kind}: {error}");
                    assert_says(&error, &["Content-Encoding", encoding]);
                }
            }
        }
    }
    for identity in ["identity", "IDENTITY", ""] {
        for (kind, outcome) in face(&with("").with_header("Content-Encoding", identity)).await {
            assert!(outcome.is_ok(), "{kind}: {identity}: {outcome:?}");
        }
    }
    let server = FakeAuthServer::start().await.unwrap();
    for (kind, source) in both(&server.url()) {
        fetch(&source).await.unwrap();
        assert_eq!(server.asked().pop().unwrap().header("accept-encoding"), Some("identity"), "{kind}");
    }
}

#[actix::test]
async fn white_space_around_a_token_is_cut_and_any_other_odd_character_is_named() {
    for written in [r"abc\n", r" abc", r"abc\r\n", r"\t abc \n\n"] {
        let reply = Reply::json(200, format!(r#"{{"access_token":"{written}","expires_in":3600}}"#));
        for (kind, outcome) in face(&reply).await {
            assert_eq!(outcome.unwrap().authorization(), "Bearer abc", "{kind}: {written}");
        }
    }
    for written in ["Bearer abc", "bearer abc", r" BEARER  abc\n"] {
        let reply = Reply::json(200, format!(r#"{{"access_token":"{written}","expires_in":3600}}"#));
        for (kind, outcome) in face(&reply).await {
            match outcome {
                Ok(token) => assert_eq!(token.authorization(), "Bearer abc", "{kind}: {written}"),
                Err(error) => assert_says(&error, &["a space at position 7"]),
            }
        }
    }
    for (written, said) in [
        ("s3cret abc", "a space at position 7"),
        (r"s3cret\nabc", "a line break at position 7"),
        (r"s3cret\u0000", "position 7"),
        (r"s3cret\u007f", "position 7"),
        ("s3cretä", "position 7"),
    ] {
        let reply = Reply::json(200, format!(r#"{{"access_token":"{written}","expires_in":3600}}"#));
        for (kind, outcome) in face(&reply).await {
            let error: TokenError = outcome.expect_err(kind);
            assert!(error.is_unavailable(), "{kind}: {written}: {error}");
            assert_says(&error, &[said]);
        }
    }
}

#[actix::test]
async fn a_length_beyond_all_bounds_is_refused_before_anything_is_kept() {
    const MOST: usize = 16 * 1024 * 1024;
    for length in ["1099511627776", "18446744073709551615", "16777217"] {
        let reply = Reply::Raw(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{{\"access_token\":\"s3cret\"")
                .into(),
        );
        let built = face_with(&reply, |url| oauth(url).max_body(MOST).build().unwrap()).await;
        let other = face_with(&reply, |url| json(url).max_body(MOST).build().unwrap()).await;
        for error in [built.unwrap_err(), other.unwrap_err()] {
            assert!(error.is_unavailable(), "{length}: {error}");
            assert_says(&error, &[]);
        }
    }
    for over in [MOST + 1, usize::MAX, 1 << 40] {
        assert_eq!(oauth("https://a.example/").max_body(over).build().unwrap_err().field(), "max_body");
        assert_eq!(json("https://a.example/").max_body(over).build().unwrap_err().field(), "max_body");
    }
    let server = FakeAuthServer::start().await.unwrap();
    let (one, other) = (oauth(server.url()).max_body(MOST), json(server.url()).max_body(MOST));
    started(one.build().unwrap()).get().await.unwrap();
    started(other.build().unwrap()).get().await.unwrap();
    // Also where nothing is said of the length.
    let body = format!("{}{{\"access_token\":\"abc\"}}", " ".repeat(MOST - 22));
    for (body, fits) in [(body.clone(), true), (body + " ", false)] {
        let reply = Reply::Raw(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}").into());
        let outcome =
            face_with(&reply, |url| oauth(url).max_body(MOST).timeout(secs(300)).build().unwrap()).await;
        assert_eq!(outcome.is_ok(), fits, "{outcome:?}");
    }
}
