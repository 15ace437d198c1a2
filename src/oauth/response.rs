//! The token endpoint's answer (RFC 6749 sections 5.1 and 5.2), and the tolerated deviations.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use crate::error::{Reach, SourceError};
use crate::jwt::Claims;
use crate::panics::contain;
use crate::secret::Secret;
use crate::token::{Token, TokenType, means_bearer};
use crate::transport::{Answer, Document, is_garbled, lifetime};

use super::dpop::DpopKey;
use super::error::{OAuthError, Refusal};
use super::params::Expected;

/// The answer of a token endpoint.
pub(crate) struct TokenResponse {
    pub(crate) token: Token,
    /// RFC 8693 section 2.2.1.
    pub(crate) issued_token_type: Option<String>,
}

/// What an answer says about the refresh token that comes after the one that was sent.
pub(crate) enum NextRefreshToken {
    /// The server has replaced it.
    New(Secret),
    /// The answer has an access token and no refresh token: the server keeps the old one (RFC 6749 section 6).
    Kept,
    /// The answer gives no token, or cannot be read.
    Unknown,
}

/// The places of tokens that must not be quoted.
const TOKENS: &[&str] = &["/access_token", "/refresh_token", "/id_token"];

/// A token, or an error. It is never a success without a token. `key`: the key to which the token must be bound.
pub(super) fn read(
    answer: Answer,
    expected: &Expected,
    key: Option<&DpopKey>,
) -> Result<TokenResponse, SourceError> {
    read_all(answer, expected, key).1
}

/// The same, and the next refresh token, even if the access token beside it is unusable.
pub(super) fn read_all(
    mut answer: Answer,
    expected: &Expected,
    key: Option<&DpopKey>,
) -> (NextRefreshToken, Result<TokenResponse, SourceError>) {
    let document = answer.json();
    // This comes before any quoting, because some servers send a token along with an error.
    for place in TOKENS {
        if let Some(secret) = document.as_ref().ok().and_then(|document| document.text(place)) {
            answer.hide(secret);
        }
    }
    if !answer.is_success() {
        let error = refused(&answer, answer.status(), document.ok().as_ref(), key.is_some());
        return (NextRefreshToken::Unknown, Err(error));
    }
    let document = match document {
        Ok(document) => document,
        Err(error) => return (NextRefreshToken::Unknown, Err(error)),
    };
    if matches!(document.get("/refresh_token"), Some(value) if !value.is_string() && !value.is_null()) {
        // Keeping the old token would mean using it twice.
        let error = answer.nonsense("with a `refresh_token` that is not a string");
        return (NextRefreshToken::Unknown, Err(error));
    }
    if filled(&document, "/refresh_token").is_some_and(is_garbled) {
        let error = answer.nonsense("with a `refresh_token` that is not UTF-8");
        return (NextRefreshToken::Unknown, Err(error));
    }
    let next = match filled(&document, "/refresh_token") {
        Some(text) => NextRefreshToken::New(Secret::new(text)),
        None if access_token(&answer, &document).is_ok() => NextRefreshToken::Kept,
        None => NextRefreshToken::Unknown,
    };
    (next, success(&answer, &document, expected, key))
}

fn success(
    answer: &Answer,
    document: &Document,
    expected: &Expected,
    key: Option<&DpopKey>,
) -> Result<TokenResponse, SourceError> {
    if has_error(document) {
        let error = refused(answer, StatusCode::BAD_REQUEST, Some(document), key.is_some());
        // A new refresh token says that the server has used the old one.
        let is_used = filled(document, "/refresh_token").is_some();
        return Err(if is_used { error.that(Reach::Used) } else { error });
    }
    let token = token(answer, document, expected, key)?;
    let issued_token_type = filled(document, "/issued_token_type").map(Into::into);
    Ok(TokenResponse { token, issued_token_type })
}

/// A text that is not empty.
fn filled<'a>(document: &'a Document, place: &str) -> Option<&'a str> {
    document.text(place).filter(|text| !text.is_empty())
}

fn access_token<'a>(answer: &Answer, document: &'a Document) -> Result<&'a str, SourceError> {
    match document.get("/access_token") {
        Some(Value::String(text)) => match bare(text) {
            "" => Err(answer.nonsense("with an empty `access_token`")),
            secret if is_garbled(secret) => Err(answer.nonsense("with an `access_token` that is not UTF-8")),
            secret => Ok(secret),
        },
        Some(_) => Err(answer.nonsense("with an `access_token` that is not a string")),
        None => Err(answer.nonsense("without an `access_token`")),
    }
}

/// Section 5.1.
fn token(
    answer: &Answer,
    document: &Document,
    expected: &Expected,
    key: Option<&DpopKey>,
) -> Result<Token, SourceError> {
    let secret = access_token(answer, document)?;
    let kind = match key {
        Some(_) => bound_type(answer, document)?,
        None => token_type(answer, document, expected)?,
    };
    let scopes = scopes(answer, document, expected)?;
    let token = Token::new(secret).with_type(kind).with_scopes(scopes);
    let token = match key {
        Some(key) => key.bind(token),
        None => token,
    };
    Ok(match lifetime_of(answer, document, secret) {
        Some(lifetime) => token.with_lifetime(lifetime),
        // The policy's `missing_lifetime` is assumed.
        None => token,
    })
}

/// Without white space and a scheme around it.
fn bare(text: &str) -> &str {
    const SCHEME: &str = "bearer ";
    let text = text.trim();
    match text.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest.trim_start(),
        _ => text,
    }
}

/// RFC 9449 section 5: if a bound token was requested, a token of another type is discarded.
fn bound_type(answer: &Answer, document: &Document) -> Result<TokenType, SourceError> {
    let name = document.text("/token_type").map(str::trim);
    if name.map(TokenType::parse) == Some(TokenType::DPoP) {
        return Ok(TokenType::DPoP);
    }
    let shown = match name {
        Some(name) => answer.quoted(name, 40).unwrap_or_else(|| "[not shown]".to_owned()),
        None => "(none)".to_owned(),
    };
    Err(SourceError::terminal(answer.sentence(format_args!(
        "with the `token_type` {shown:?}, though a token that is bound to a key was asked for (`dpop`): the token is \
         discarded (RFC 9449 section 5); have the server bind the tokens of this client, or leave out `dpop`"
    )))
    .that(Reach::Used))
}

/// Section 7.1: a token of an unknown type must not be used.
fn token_type(answer: &Answer, document: &Document, expected: &Expected) -> Result<TokenType, SourceError> {
    if let Some(kind) = &expected.token_type {
        return Ok(kind.clone());
    }
    let name = match document.get("/token_type") {
        None => return Ok(TokenType::Bearer),
        Some(Value::String(name)) => name.trim(),
        Some(_) => return Err(answer.nonsense("with a `token_type` that is not a string")),
    };
    if means_bearer(name) {
        return Ok(TokenType::Bearer);
    }
    let shown = answer.quoted(name, 40).unwrap_or_else(|| "[not shown]".to_owned());
    let why = if TokenType::parse(name).is_dpop() {
        "a token that is bound to a key, and no key was used to ask for it; set `dpop` (tokenflight's feature `dpop`)"
    } else {
        "a type that this client does not know, so that the token must not be used (RFC 6749 section 7.1); if it is to \
         be sent as a bearer token, set `token_type`"
    };
    let error =
        SourceError::terminal(answer.sentence(format_args!("with the `token_type` {shown:?}, {why}")));
    Err(error.that(Reach::Used))
}

/// Section 3.3. The server may leave the scopes out if they are the requested ones.
fn scopes(answer: &Answer, document: &Document, expected: &Expected) -> Result<Vec<String>, SourceError> {
    let requested = &expected.scopes;
    let mut granted: Vec<String> = match document.get("/scope") {
        None => return Ok(requested.clone()),
        Some(Value::String(text)) => text.split_ascii_whitespace().map(Into::into).collect(),
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(Value::as_str)
            .flat_map(str::split_ascii_whitespace)
            .map(Into::into)
            .collect(),
        Some(_) => Vec::new(),
    };
    let is_missing = |granted: &[String], scope: &&String| !granted.contains(scope);
    if requested.iter().any(|scope| is_missing(&granted, &scope)) {
        // A scope may contain a comma. If no requested scope is missing, the commas are kept.
        let parts = granted.iter().flat_map(|scope| scope.split(','));
        let parts: Vec<String> = parts.filter(|part| !part.is_empty()).map(Into::into).collect();
        if requested.iter().any(|scope| is_missing(&granted, &scope) && parts.contains(scope)) {
            granted = parts;
        }
    }
    let missing: Vec<&str> =
        requested.iter().filter(|scope| is_missing(&granted, scope)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(granted);
    }
    let token = answer.sentence("with a token");
    let missing = missing.join(" ");
    if expected.require_scopes {
        let what = format!("{token} without the scope {missing:?}, which was asked for (`require_scopes`)");
        return Err(SourceError::terminal(what).that(Reach::Used));
    }
    // A panic of the logger must not lose a token.
    let _ = contain(|| log::warn!("{token} without the scope {missing:?}, which was asked for"));
    Ok(granted)
}

/// The shortest of the lifetimes that the server and the token itself state.
fn lifetime_of(answer: &Answer, document: &Document, secret: &str) -> Option<Duration> {
    let said = document.get("/expires_in").and_then(|value| {
        let lifetime = lifetime(value);
        if lifetime.is_none() {
            let what = answer.sentence("with an `expires_in`");
            let _ = contain(|| log::warn!("{what} that is not a number of seconds"));
        }
        // A cache has kept the answer for a part of the lifetime.
        lifetime.map(|lifetime| lifetime.saturating_sub(answer.age()))
    });
    let own = jwt_lifetime(secret, answer);
    said.into_iter().chain(own).min()
}

/// The lifetime that a JWT states itself (RFC 7519 section 4.1.4). Other tokens state none.
///
/// It is counted by the server's clock: from its `Date`, or otherwise from the time at which the token was issued.
fn jwt_lifetime(secret: &str, answer: &Answer) -> Option<Duration> {
    let claims = Claims::of(secret)?;
    let end = claims.moment("exp")?;
    let begin = if answer.date().is_some() { None } else { claims.moment("iat") };
    Some(end.duration_since(begin.unwrap_or_else(|| answer.server_time())).unwrap_or_default())
}

/// Whether there is an `error` that says that something has failed.
fn has_error(document: &Document) -> bool {
    /// The words by which some servers say that nothing has failed.
    const NO_ERROR: &[&str] = &["", "0", "false", "no_error", "none", "null", "ok", "success"];
    match document.get("/error") {
        None | Some(Value::Bool(false)) => false,
        Some(Value::String(text)) => !NO_ERROR.contains(&text.trim().to_ascii_lowercase().as_str()),
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(_) => true,
    }
}

/// Section 5.2. `status` is the status by which the answer is judged.
fn refused(answer: &Answer, status: StatusCode, document: Option<&Document>, has_key: bool) -> SourceError {
    let told = document.and_then(|document| told(answer, document));
    let code = told.as_ref().map(|error| error.code.as_str()).unwrap_or_default();
    let described = match (&told, document) {
        (Some(error), _) => format!(": {error}"),
        (None, Some(document)) => answer.because(document, None),
        (None, None) => answer.unread(),
    };
    let way_out = match code {
        "invalid_client" => "; check `client_id`, `client_secret` or the key, and `auth_method`",
        "" if status == StatusCode::UNAUTHORIZED => {
            "; check `client_id`, `client_secret` or the key, and `auth_method`"
        }
        "" if status == StatusCode::NOT_FOUND => "; check `token_url`",
        "unauthorized_client" | "unsupported_grant_type" => "; this client may not use this grant there",
        "invalid_scope" => "; check `scope`",
        "invalid_target" => "; check `resource` and `audience`",
        "use_dpop_nonce" | "invalid_dpop_proof" if !has_key => {
            "; this server binds tokens to a key: set `dpop` (tokenflight's feature `dpop`)"
        }
        "invalid_dpop_proof" => "; check the key of `dpop`, and the clock",
        _ => "",
    };
    let is_passing = matches!(code, "temporarily_unavailable" | "server_error" | "slow_down")
        // The nonce has changed once more.
        || (has_key && code == "use_dpop_nonce")
        || crate::transport::may_pass(status)
        // A code of the server's own may be the name of its limit.
        || (!STANDARD.contains(&code) && answer.retry_after().is_some());
    let sentence = answer.sentence("").trim_end().to_owned() + &described + way_out;
    // A code inside a 408, a 429 or a 5xx is ignored, because a proxy may have written it. A proxy writes a 408 or a 504
    // while the server may still be at work.
    let reach = match status.as_u16() {
        425 | 429 | 503 => Reach::Unused,
        408 => Reach::Lost,
        400..500 if document.and_then(code_in).is_some_and(is_code) => Reach::Refused,
        _ => Reach::Lost,
    };
    let error = match told {
        Some(error) if is_passing => SourceError::transient(Refusal { sentence, error }),
        Some(error) => SourceError::terminal(Refusal { sentence, error }),
        None if is_passing => SourceError::transient(sentence),
        None => SourceError::terminal(sentence),
    };
    answer.with_retry_after(error.that(reach).answered(answer.status()))
}

/// The codes that decide how a flight continues (RFC 6749 section 5.2, RFC 8707 section 2, RFC 9449 sections 5 and
/// 8).
const STANDARD: &[&str] = &[
    "invalid_client",
    "invalid_dpop_proof",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
    "use_dpop_nonce",
];

fn code_in(document: &Document) -> Option<&str> {
    document.text("/error").map(str::trim).filter(|code| !code.is_empty())
}

/// Whether the text has the form of a code. A proxy writes the name of the status instead: `Conflict`, `Not Found`.
fn is_code(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte))
}

/// The server's error in the form of the standard.
fn told(answer: &Answer, document: &Document) -> Option<OAuthError> {
    let code = code_in(document)?;
    // A word of the standards is not a secret, even if it was sent as one.
    let code = if STANDARD.contains(&code) { code.to_owned() } else { answer.quoted(code, 80)? };
    let part = |place| document.text(place).and_then(|text| answer.quoted(text, 200));
    Some(OAuthError {
        code,
        description: part("/error_description").or_else(|| part("/message")),
        uri: part("/error_uri"),
        status: answer.status(),
    })
}
