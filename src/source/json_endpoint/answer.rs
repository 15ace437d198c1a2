//! The places of the token and of its end in the answer.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use crate::error::SourceError;
use crate::token::{Token, TokenType};
use crate::transport::{Answer, Document, Pointer, is_garbled, lifetime, moment};

/// The form of the answer.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) token: Pointer,
    pub(crate) ends: Ends,
    pub(crate) kind: TokenType,
    /// The statuses after which a later attempt may succeed.
    pub(crate) transient: Vec<StatusCode>,
    /// The place of the explanation in a refusal. `None`: the usual places.
    pub(crate) reason: Option<Pointer>,
}

/// How the token's end is known.
#[derive(Debug)]
pub(crate) enum Ends {
    /// It is not known: the policy's `missing_lifetime` applies.
    Unknown,
    Fixed(Duration),
    Lifetime(Pointer),
    At(Pointer),
}

impl Shape {
    pub(crate) fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("token_pointer", self.token.as_str());
        part("token_type", self.kind.as_str());
        match &self.ends {
            Ends::Unknown => {}
            Ends::Fixed(lifetime) => part("lifetime", &format!("{} ns", lifetime.as_nanos())),
            Ends::Lifetime(pointer) => part("lifetime_pointer", pointer.as_str()),
            Ends::At(pointer) => part("expires_at_pointer", pointer.as_str()),
        }
    }

    pub(crate) fn read(&self, mut answer: Answer) -> Result<Token, SourceError> {
        let document = answer.json();
        // This comes before any quoting, because some servers send a token along with an error.
        if let Some(secret) = document.as_ref().ok().and_then(|document| document.text(self.token.as_str())) {
            answer.hide(secret);
        }
        if !answer.is_success() {
            return Err(self.refused(&answer, document.ok().as_ref()));
        }
        let document = document?;
        let token = self.token(&answer, &document);
        // Some servers refuse with a 200, and say why in the body. Others send the token in another place.
        let place = self.reason.as_ref().map(Pointer::as_str);
        token.map_err(|what| answer.nonsense(what + &answer.because(&document, place)))
    }

    pub(crate) fn refused(&self, answer: &Answer, document: Option<&Document>) -> SourceError {
        let may_pass =
            answer.may_pass() || self.transient.contains(&answer.status()) || answer.retry_after().is_some();
        answer.refusal_of(may_pass, document, self.reason.as_ref().map(Pointer::as_str))
    }

    /// The error continues the sentence "… answered 200 OK …".
    fn token(&self, answer: &Answer, document: &Document) -> Result<Token, String> {
        let place = format!("at {:?} (`token_pointer`)", self.token.as_str());
        let secret = match document.get(self.token.as_str()) {
            Some(Value::String(secret)) if is_garbled(secret) => {
                return Err(format!("with a token that is not UTF-8 {place}"));
            }
            Some(Value::String(secret)) if !secret.trim().is_empty() => secret.trim(),
            Some(Value::String(_)) => return Err(format!("with an empty token {place}")),
            Some(_) => return Err(format!("with something {place} that is not a string")),
            None => return Err(format!("with nothing {place}")),
        };
        Ok(self.ending(Token::new(secret).with_type(self.kind.clone()), answer, document))
    }

    /// If the configured place is empty, the result is the same as without a configured place.
    fn ending(&self, token: Token, answer: &Answer, document: &Document) -> Token {
        let found = |pointer: &Pointer| document.get(pointer.as_str()).cloned();
        match &self.ends {
            Ends::Unknown => token,
            Ends::Fixed(lifetime) => token.with_lifetime(*lifetime),
            Ends::Lifetime(pointer) => match found(pointer).map(|value| lifetime(&value)) {
                None => token,
                Some(Some(lifetime)) => token.with_lifetime(lifetime.saturating_sub(answer.age())),
                Some(None) => odd(token, answer, pointer, "lifetime_pointer", "a number of seconds"),
            },
            Ends::At(pointer) => match found(pointer).map(|value| moment(&value)) {
                None => token,
                // Compared with the clock of the server that wrote it, if the server gives its time.
                Some(Some(moment)) if answer.date().is_some() => {
                    token.with_lifetime(moment.duration_since(answer.server_time()).unwrap_or_default())
                }
                Some(Some(moment)) => token.with_expires_at(moment),
                Some(None) => {
                    odd(token, answer, pointer, "expires_at_pointer", "an RFC 3339 date or Unix seconds")
                }
            },
        }
    }
}

fn odd(token: Token, answer: &Answer, pointer: &Pointer, setting: &str, expected: &str) -> Token {
    let what = answer.sentence(format_args!("with something at {:?}", pointer.as_str()));
    log::warn!("{what} (`{setting}`) that is not {expected}");
    token
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use serde_json::json;

    use super::*;
    use crate::source::{JsonEndpoint, JsonEndpointBuilder};

    fn read(builder: JsonEndpointBuilder, answer: &Value) -> Result<Token, SourceError> {
        let source = builder.token_pointer("/data/0/token").build().unwrap();
        let response = http::Response::new(answer.to_string().into_bytes());
        source.parse_response(response).now_or_never().unwrap()
    }

    fn endpoint() -> JsonEndpointBuilder {
        JsonEndpoint::get("https://auth.example.com/")
    }

    #[test]
    fn the_token_is_found_where_the_pointer_says() {
        let token = read(endpoint(), &json!({"data": [{"token": "abc\n"}]})).unwrap();
        assert_eq!((token.secret(), token.remaining()), ("abc", None));
        for (answer, expected) in [
            (json!({"token": "s3cret"}), "nothing at \"/data/0/token\""),
            (json!({"data": [{"token": null}]}), "nothing"),
            (json!({"data": [{"token": ""}]}), "empty token"),
            (json!({"data": [{"token": ["s3cret"]}]}), "not a string"),
        ] {
            let what = read(endpoint(), &answer).map(|_| ()).unwrap_err().to_string();
            assert!(what.contains(expected) && what.contains("token_pointer"), "{what}");
            assert!(!what.contains("s3cret"), "{what}");
        }
    }

    #[test]
    fn the_end_is_a_lifetime_or_a_moment_or_unknown() {
        let remaining = |builder, end| {
            read(builder, &json!({"data": [{"token": "abc"}], "end": end})).unwrap().remaining()
        };
        let (lifetime, moment) =
            (|| endpoint().lifetime_pointer("/end"), || endpoint().expires_at_pointer("/end"));
        assert_eq!(remaining(lifetime(), json!("0")), Some(Duration::ZERO));
        assert_eq!(remaining(lifetime(), json!(null)), None);
        assert_eq!(remaining(lifetime(), json!("soon")), None);
        assert_eq!(remaining(moment(), json!(null)), None);
        assert_eq!(remaining(moment(), json!("soon")), None);
        assert_eq!(remaining(moment(), json!("2016-07-11T22:14:10Z")), Some(Duration::ZERO));
        assert_eq!(remaining(moment(), json!("1468275250")), Some(Duration::ZERO));
        assert!(remaining(moment(), json!(9_999_999_999_u64)) > Some(Duration::from_secs(3600)));
    }
}
