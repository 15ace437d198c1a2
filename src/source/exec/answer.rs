//! The output of the program: a token and its end.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::error::SourceError;
use crate::json::{Document, lifetime, moment};
use crate::redactor::Redactor;
use crate::token::{Token, means_bearer};

/// The lifetime of a token without an end. The policy's `max_lifetime` cuts it.
const NO_END: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The form of a helper program's output. In a settings file: `"kubernetes"` or `"plain"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExecFormat {
    /// An object `ExecCredential` of `client.authentication.k8s.io/v1`.
    #[default]
    Kubernetes,
    /// A table with `access_token`, `accessToken` or `token`, and optionally `expires_in` in seconds, or a moment
    /// in `expires_at`, `expires_on`, `expiration` or `expiry` (RFC 3339, or Unix seconds).
    Plain,
}

impl ExecFormat {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Plain => "plain",
        }
    }
}

/// The fault in the output. It continues "the program wrote …".
#[derive(Debug)]
pub(super) enum Flaw {
    /// Only another program, or another setting, can correct it.
    Lasting(String),
    Passing(String),
}

impl Flaw {
    pub(super) fn into_error(self, start: &str, end: &str) -> SourceError {
        match self {
            Self::Lasting(what) => SourceError::terminal(format!("{start} {what}{end}")),
            Self::Passing(what) => SourceError::transient(format!("{start} {what}{end}")),
        }
    }
}

/// Hides the whole output: each text of a document, or the whole text.
pub(super) fn hide(redactor: &mut Redactor, stdout: &[u8]) {
    const MOST: usize = 64;
    let mut texts = vec![Zeroizing::new(String::from_utf8_lossy(stdout).trim().to_owned())];
    if let Ok(document) = Document::parse(stdout) {
        document.strings(&mut |text| {
            if !text.is_empty() && !is_of_protocol(text) {
                texts.push(Zeroizing::new(text.to_owned()));
            }
        });
    }
    if texts.len() > MOST {
        return redactor.hide_all();
    }
    for text in texts {
        redactor.hide(text);
    }
}

/// The protocol's own words are not secret.
fn is_of_protocol(text: &str) -> bool {
    text.starts_with("client.authentication.k8s.io/")
        || ["ExecCredential", "Bearer", "bearer"].contains(&text)
}

fn document(stdout: &[u8]) -> Result<Document, Flaw> {
    if stdout.trim_ascii().is_empty() {
        return Err(Flaw::Passing("nothing to its standard output".to_owned()));
    }
    // The parser's error has a line and a column, and no part of the text.
    Document::parse(stdout).map_err(|error| Flaw::Passing(format!("something that is no JSON ({error})")))
}

/// One line of the text at a place, if neither an input of the program nor another text of its output is in it.
fn quoted(document: &Document, place: &str, limit: usize, inputs: &Redactor) -> String {
    /// In bytes. A shorter text may be a part of any word.
    const SHORTEST: usize = 4;
    let text = document.text(place).unwrap_or_default();
    let (mut redactor, mut is_found) = (inputs.clone(), false);
    document.strings(&mut |other| {
        if other == text && !is_found {
            is_found = true;
        } else if other.len() >= SHORTEST && !is_of_protocol(other) {
            redactor.hide(Zeroizing::new(other.to_owned()));
        }
    });
    redactor.quoted(text, limit).unwrap_or_else(|| "[not shown]".to_owned())
}

/// `inputs` hides the inputs of the program.
pub(super) fn kubernetes(stdout: &[u8], api_version: &str, inputs: &Redactor) -> Result<Token, Flaw> {
    let document = document(stdout)?;
    for (place, expected) in [("/apiVersion", api_version), ("/kind", "ExecCredential")] {
        let name = &place[1..];
        match document.text(place) {
            Some(found) if found == expected => {}
            Some(_) => {
                let found = quoted(&document, place, 80, inputs);
                let message =
                    format!("an object with the `{name}` {found:?}, but {expected:?} was asked for");
                return Err(Flaw::Lasting(message));
            }
            None => return Err(Flaw::Lasting(format!("an object without the `{name}` {expected:?}"))),
        }
    }
    let token = match document.get("/status/token") {
        Some(Value::String(text)) => secret(text, "status.token")?,
        Some(_) => return Err(Flaw::Passing("a `status.token` that is not a string".to_owned())),
        None if document.get("/status/clientCertificateData").is_some() => {
            let message = "a client certificate without a `status.token`: only tokens can be used here";
            return Err(Flaw::Lasting(message.to_owned()));
        }
        None => return Err(Flaw::Passing("an object without a `status.token`".to_owned())),
    };
    Ok(match document.get("/status/expirationTimestamp") {
        Some(end) => ending(token, moment(end).filter(|_| end.is_string()), "status.expirationTimestamp"),
        None => token.with_lifetime(NO_END),
    })
}

/// `inputs` hides the inputs of the program.
pub(super) fn plain(stdout: &[u8], inputs: &Redactor) -> Result<Token, Flaw> {
    const TOKENS: &[&str] = &["access_token", "accessToken", "token"];
    const MOMENTS: &[&str] = &["expires_at", "expires_on", "expiration", "expiry"];
    let document = document(stdout)?;
    let find = |names: &[&'static str]| {
        names.iter().find_map(|name| Some((*name, document.get(&format!("/{name}"))?)))
    };
    let token = match find(TOKENS) {
        Some((name, Value::String(text))) => secret(text, name)?,
        Some((name, _)) => return Err(Flaw::Passing(format!("a `{name}` that is not a string"))),
        None => {
            return Err(Flaw::Passing("JSON without an `access_token`, `accessToken` or `token`".to_owned()));
        }
    };
    match document.text("/token_type").map(str::trim) {
        Some(kind) if !means_bearer(kind) => {
            let kind = quoted(&document, "/token_type", 40, inputs);
            return Err(Flaw::Lasting(format!(
                "the `token_type` {kind:?}: only bearer tokens can be used here"
            )));
        }
        _ => {}
    }
    if let Some(value) = document.get("/expires_in") {
        return Ok(match lifetime(value) {
            Some(lifetime) => token.with_lifetime(lifetime),
            None => odd(token, "expires_in"),
        });
    }
    Ok(match find(MOMENTS) {
        Some((name, value)) => ending(token, moment(value), name),
        None => token.with_lifetime(NO_END),
    })
}

fn secret(text: &str, place: &str) -> Result<Token, Flaw> {
    match text.trim() {
        "" => Err(Flaw::Passing(format!("an empty `{place}`"))),
        text => Ok(Token::new(text)),
    }
}

fn ending(token: Token, end: Option<std::time::SystemTime>, place: &str) -> Token {
    match end {
        Some(end) => token.with_expires_at(end),
        None => odd(token, place),
    }
}

/// The policy's `missing_lifetime` is assumed.
fn odd(token: Token, place: &str) -> Token {
    log::warn!("a helper program wrote something in `{place}` that cannot be read as an end of the token");
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "client.authentication.k8s.io/v1";

    fn kubernetes(stdout: &[u8], api_version: &str) -> Result<Token, Flaw> {
        super::kubernetes(stdout, api_version, &Redactor::default())
    }

    fn plain(stdout: &[u8]) -> Result<Token, Flaw> {
        super::plain(stdout, &Redactor::default())
    }

    fn object(status: &str) -> String {
        format!(r#"{{"apiVersion":"{V1}","kind":"ExecCredential","status":{status}}}"#)
    }

    fn flaw(read: Result<Token, Flaw>) -> String {
        read.unwrap_err().into_error("it wrote", "").to_string()
    }

    #[test]
    fn a_token_lasts_to_its_timestamp_else_until_it_is_rejected() {
        let remaining = |status: &str| kubernetes(object(status).as_bytes(), V1).unwrap().remaining();
        assert_eq!(
            remaining(r#"{"token":"a","expirationTimestamp":"2016-07-11T22:14:10Z"}"#),
            Some(Duration::ZERO)
        );
        assert!(remaining(r#"{"token":"a"}"#) > Some(Duration::from_secs(365 * 24 * 3_600)));
        assert_eq!(remaining(r#"{"token":"a","expirationTimestamp":"soon"}"#), None);
        assert_eq!(remaining(r#"{"token":"a","expirationTimestamp":5}"#), None);
    }

    #[test]
    fn another_version_or_kind_is_refused_by_name() {
        let wrong = object(r#"{"token":"s3cret"}"#).replace("/v1", "/v1beta1");
        let said = flaw(kubernetes(wrong.as_bytes(), V1));
        assert!(said.contains("v1beta1") && said.contains(r#"/v1" was asked for"#), "{said}");
        let wrong = object(r#"{"token":"s3cret"}"#).replace("ExecCredential", "Secret");
        assert!(flaw(kubernetes(wrong.as_bytes(), V1)).contains(r#"`kind` "Secret""#));
        assert!(flaw(kubernetes(b"{}", V1)).contains("without the `apiVersion`"));
    }

    #[test]
    fn what_holds_no_token_says_what_is_missing() {
        for (status, wanted) in [
            ("{}", "without a `status.token`"),
            (r#"{"token":""}"#, "empty `status.token`"),
            (r#"{"token":5}"#, "not a string"),
            (r#"{"clientCertificateData":"s3cret","clientKeyData":"s3cret"}"#, "client certificate"),
        ] {
            let said = flaw(kubernetes(object(status).as_bytes(), V1));
            assert!(said.contains(wanted) && !said.contains("s3cret"), "{said}");
        }
        assert!(flaw(kubernetes(b" \n", V1)).contains("nothing"));
        assert!(flaw(kubernetes(b"s3cret", V1)).contains("no JSON"));
    }

    #[test]
    fn the_plain_form_knows_the_usual_names() {
        let remaining = |text: &str| plain(text.as_bytes()).unwrap().remaining();
        for name in ["access_token", "accessToken", "token"] {
            let left = remaining(&format!(r#"{{"{name}":"a","expires_in":"600"}}"#)).unwrap();
            assert!(left <= Duration::from_secs(600) && left > Duration::from_secs(590));
        }
        for name in ["expires_at", "expires_on", "expiration", "expiry"] {
            assert_eq!(remaining(&format!(r#"{{"token":"a","{name}":1468275250}}"#)), Some(Duration::ZERO));
        }
        assert!(remaining(r#"{"token":"a"}"#) > Some(Duration::from_secs(365 * 24 * 3_600)));
        assert_eq!(remaining(r#"{"token":"a","expires_in":"soon"}"#), None);
        for name in ["bearer", "BearerToken", "Application Access Token", "", " ", "JWT"] {
            let token = plain(format!(r#"{{"token":"a","token_type":"{name}"}}"#).as_bytes()).unwrap();
            assert_eq!(token.authorization(), "Bearer a", "{name}");
        }
        for name in ["mac", "DPoP", "N_A", "pop"] {
            let said = flaw(plain(format!(r#"{{"token":"a","token_type":"{name}"}}"#).as_bytes()));
            assert!(said.contains(&format!("{name:?}")), "{said}");
        }
        assert!(flaw(plain(b"{}")).contains("without an `access_token`"));
    }

    #[test]
    fn of_an_output_with_many_texts_nothing_is_quoted() {
        let texts: Vec<String> = (0..70).map(|number| format!("s3cret-{number}")).collect();
        let mut redactor = Redactor::default();
        hide(&mut redactor, serde_json::to_string(&texts).unwrap().as_bytes());
        for text in ["s3cret-1", "s3cret-69", "a harmless line"] {
            assert_eq!(redactor.quoted(text, 80), None, "{text}");
        }
        let mut redactor = Redactor::default();
        hide(&mut redactor, br#"["s3cret-1"]"#);
        assert_eq!(redactor.quoted("a harmless line", 80).as_deref(), Some("a harmless line"));
    }
}
