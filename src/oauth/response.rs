//! The token endpoint's answer (RFC 6749 sections 5.1 and 5.2), and the many ways in which servers miss it.

use http::StatusCode;
use serde_json::Value;

use crate::error::SourceError;
use crate::token::{Token, TokenType};
use crate::transport::{Answer, Document, Redactor, lifetime};

/// A token, or an error; never a success without a token in it.
pub(super) fn read(answer: &Answer, requested: &[String], redactor: &Redactor) -> Result<Token, SourceError> {
    if !answer.is_success() {
        return Err(refused(answer, redactor));
    }
    let document = answer.json()?;
    let token = token(&document, requested, redactor);
    token.map_err(|what| answer.nonsense(what))
}

/// Section 5.1. The error continues the sentence "… answered 200 OK …".
fn token(document: &Document, requested: &[String], redactor: &Redactor) -> Result<Token, String> {
    if let Some(error) = described(document, redactor) {
        return Err(format!("with an error in it: {error}"));
    }
    let secret = match document.get("/access_token") {
        Some(Value::String(secret)) if !secret.is_empty() => secret.as_str(),
        Some(Value::String(_)) => return Err("with an empty `access_token`".to_owned()),
        Some(_) => return Err("with an `access_token` that is not a string".to_owned()),
        None => return Err("without an `access_token`".to_owned()),
    };
    let mut token =
        Token::new(secret).with_type(token_type(document)?).with_scopes(scopes(document, requested));
    // Without it, the policy's `missing_lifetime` is assumed.
    if let Some(value) = document.get("/expires_in") {
        let lifetime = lifetime(value).ok_or("with an `expires_in` that is not a number of seconds")?;
        token = token.with_lifetime(lifetime);
    }
    Ok(token)
}

/// Required, but some servers leave it out, and what they mean then is `Bearer`.
fn token_type(document: &Document) -> Result<TokenType, String> {
    match document.get("/token_type") {
        None => Ok(TokenType::Bearer),
        Some(Value::String(name)) if name.is_empty() => Ok(TokenType::Bearer),
        Some(Value::String(name)) if TokenType::parse(name).is_scheme() => Ok(TokenType::parse(name)),
        Some(_) => Err("with a `token_type` that is not the name of one".to_owned()),
    }
}

/// Left out where it is what was asked for.
fn scopes(document: &Document, requested: &[String]) -> Vec<String> {
    match document.text("/scope") {
        Some(granted) => granted.split_ascii_whitespace().map(Into::into).collect(),
        None => requested.to_vec(),
    }
}

/// Section 5.2.
fn refused(answer: &Answer, redactor: &Redactor) -> SourceError {
    let document = answer.json().ok();
    let code = document.as_ref().and_then(|document| document.text("/error")).unwrap_or_default();
    let passing = matches!(code, "temporarily_unavailable" | "server_error" | "slow_down");
    let described = document.as_ref().and_then(|document| described(document, redactor));
    let described = described.map(|error| format!(": {error}")).unwrap_or_default();
    let way_out = match code {
        "invalid_client" => "; check `client_id`, `client_secret` and `auth_method`",
        "" if answer.status() == StatusCode::UNAUTHORIZED => {
            "; check `client_id`, `client_secret` and `auth_method`"
        }
        "" if answer.status() == StatusCode::NOT_FOUND => "; check `token_url`",
        "invalid_scope" => "; check `scope`",
        "invalid_target" => "; check `resource` and `audience`",
        _ => "",
    };
    answer.refusal(passing || answer.may_pass(), &format!("{described}{way_out}"))
}

/// `error`, `error_description` and `error_uri`, fit to be read by people.
fn described(document: &Document, redactor: &Redactor) -> Option<String> {
    let code = match document.get("/error")? {
        Value::String(code) if code.is_empty() => return None,
        Value::String(code) => redactor.clean(code, 80),
        // Not the standard's; it may be anything, so it is not quoted.
        _ => "an `error` that is not a string".to_owned(),
    };
    let part = |pointer| document.text(pointer).map(|text| redactor.clean(text, 200));
    let description = part("/error_description").map(|text| format!(" ({text})")).unwrap_or_default();
    let uri = part("/error_uri").map(|text| format!(", see {text}")).unwrap_or_default();
    Some(format!("{code}{description}{uri}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use zeroize::Zeroizing;

    use super::*;

    fn read(value: Value) -> Result<Token, String> {
        token(&Document::new(value), &["asked".to_owned()], &Redactor::default())
    }

    #[test]
    fn the_answer_of_the_standard_is_understood() {
        let token = read(json!({
            "access_token": "abc", "token_type": "bEaReR", "expires_in": 3600, "scope": "a b", "more": [1]
        }))
        .unwrap();
        assert_eq!(token.secret(), "abc");
        assert_eq!(*token.token_type(), TokenType::Bearer);
        assert_eq!(token.scopes(), ["a", "b"]);
        assert!(token.remaining().unwrap() > Duration::from_secs(3590));
    }

    #[test]
    fn what_is_missing_has_a_meaning() {
        for rest in [json!({}), json!({"token_type": null, "expires_in": null, "scope": null, "error": null})]
        {
            let mut answer = rest;
            answer["access_token"] = "abc".into();
            let token = read(answer).unwrap();
            assert_eq!(*token.token_type(), TokenType::Bearer);
            assert_eq!(token.scopes(), ["asked"]);
            assert_eq!(token.remaining(), None);
        }
    }

    #[test]
    fn a_lifetime_of_nothing_is_an_expired_token() {
        for value in [json!(0), json!(-1), json!("0")] {
            let token = read(json!({"access_token": "abc", "expires_in": value})).unwrap();
            assert_eq!(token.remaining(), Some(Duration::ZERO));
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (answer, name) in [
            (json!({}), "without an `access_token`"),
            (json!([]), "without an `access_token`"),
            (json!("abc"), "without an `access_token`"),
            (json!({"access_token": null}), "without an `access_token`"),
            (json!({"access_token": ""}), "empty `access_token`"),
            (json!({"access_token": 7}), "`access_token` that is not a string"),
            (json!({"access_token": "s3cret", "expires_in": "s3cret"}), "`expires_in`"),
            (json!({"access_token": "s3cret", "expires_in": {}}), "`expires_in`"),
            (json!({"access_token": "s3cret", "token_type": 1}), "`token_type`"),
            (json!({"access_token": "s3cret", "token_type": "a b"}), "`token_type`"),
            (json!({"access_token": "s3cret", "error": "slow_down"}), "slow_down"),
            (json!({"access_token": "s3cret", "error": {"code": 1}}), "not a string"),
        ] {
            let what = read(answer.clone()).map(|_| ()).expect_err(&answer.to_string());
            assert!(what.contains(name), "{answer}: {what}");
            assert!(!what.contains("s3cret"), "{what}");
        }
    }

    #[test]
    fn a_description_is_one_printable_line_without_the_secret() {
        let mut redactor = Redactor::default();
        redactor.hide(Zeroizing::new("hunter2".to_owned()));
        let document = Document::new(json!({
            "error": "invalid_client",
            "error_description": format!("secret hunter2\r\nis wrong {}", "x".repeat(300)),
            "error_uri": "https://auth.example.com/e",
        }));
        let text = described(&document, &redactor).unwrap();
        assert!(text.starts_with("invalid_client (secret [redacted]??is wrong xxx"), "{text}");
        assert!(text.ends_with("...), see https://auth.example.com/e"), "{text}");
        assert!(text.len() < 300);
    }
}
