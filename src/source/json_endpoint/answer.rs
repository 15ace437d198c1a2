//! Where in the answer the token stands, and its end.

use std::time::Duration;

use serde_json::Value;

use crate::error::SourceError;
use crate::token::{Token, TokenType};
use crate::transport::{Answer, Document, Pointer, lifetime, moment};

/// What the answer looks like.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) token: Pointer,
    pub(super) ends: Ends,
    pub(super) kind: TokenType,
}

/// How the token's end is known.
#[derive(Debug)]
pub(super) enum Ends {
    /// It is not: the policy's `missing_lifetime`.
    Unknown,
    Fixed(Duration),
    Lifetime(Pointer),
    At(Pointer),
}

impl Shape {
    pub(super) fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("token_pointer", self.token.as_str());
        part("token_type", self.kind.as_str());
        match &self.ends {
            Ends::Unknown => {}
            Ends::Fixed(lifetime) => part("lifetime", &format!("{} ns", lifetime.as_nanos())),
            Ends::Lifetime(pointer) => part("lifetime_pointer", pointer.as_str()),
            Ends::At(pointer) => part("expires_at_pointer", pointer.as_str()),
        }
    }

    pub(super) fn read(&self, answer: &Answer) -> Result<Token, SourceError> {
        if !answer.is_success() {
            return Err(answer.refusal(answer.may_pass(), ""));
        }
        self.token(&answer.json()?).map_err(|what| answer.nonsense(what))
    }

    /// The error continues the sentence "… answered 200 OK …".
    fn token(&self, document: &Document) -> Result<Token, String> {
        let place = format!("at {:?} (`token_pointer`)", self.token.as_str());
        let secret = match document.get(self.token.as_str()) {
            Some(Value::String(secret)) if !secret.is_empty() => secret.as_str(),
            Some(Value::String(_)) => return Err(format!("with an empty token {place}")),
            Some(_) => return Err(format!("with something {place} that is not a string")),
            None => return Err(format!("with nothing {place}")),
        };
        self.ending(Token::new(secret).with_type(self.kind.clone()), document)
    }

    /// A place that holds nothing says nothing: then it is as if no place had been configured.
    fn ending(&self, token: Token, document: &Document) -> Result<Token, String> {
        Ok(match &self.ends {
            Ends::Unknown => token,
            Ends::Fixed(lifetime) => token.with_lifetime(*lifetime),
            Ends::Lifetime(pointer) => match document.get(pointer.as_str()).map(lifetime) {
                None => token,
                Some(Some(lifetime)) => token.with_lifetime(lifetime),
                Some(None) => return Err(odd(pointer, "lifetime_pointer", "a number of seconds")),
            },
            Ends::At(pointer) => match document.get(pointer.as_str()).map(moment) {
                None => token,
                Some(Some(moment)) => token.with_expires_at(moment),
                Some(None) => {
                    return Err(odd(pointer, "expires_at_pointer", "an RFC 3339 date or Unix seconds"));
                }
            },
        })
    }
}

fn odd(pointer: &Pointer, setting: &str, expected: &str) -> String {
    format!("with something at {:?} (`{setting}`) that is not {expected}", pointer.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(ends: Ends, value: Value) -> Result<Token, String> {
        let token = Pointer::parse("token_pointer", "/data/0/token").unwrap();
        Shape { token, ends, kind: TokenType::Bearer }.token(&Document::new(value))
    }

    fn pointer() -> Pointer {
        Pointer::parse("x", "/end").unwrap()
    }

    #[test]
    fn the_token_is_found_where_the_pointer_says() {
        let token = read(Ends::Unknown, json!({"data": [{"token": "abc"}]})).unwrap();
        assert_eq!((token.secret(), token.remaining()), ("abc", None));
        for (answer, expected) in [
            (json!({"token": "s3cret"}), "nothing at \"/data/0/token\""),
            (json!({"data": [{"token": null}]}), "nothing"),
            (json!({"data": [{"token": ""}]}), "empty token"),
            (json!({"data": [{"token": ["s3cret"]}]}), "not a string"),
        ] {
            let what = read(Ends::Unknown, answer).map(|_| ()).unwrap_err();
            assert!(what.contains(expected) && what.contains("token_pointer"), "{what}");
            assert!(!what.contains("s3cret"), "{what}");
        }
    }

    #[test]
    fn the_end_is_a_lifetime_or_a_moment_or_unknown() {
        let answer = |end: Value| json!({"data": [{"token": "abc"}], "end": end});
        let remaining = |ends, end| read(ends, answer(end)).unwrap().remaining();
        assert_eq!(remaining(Ends::Fixed(Duration::ZERO), json!(60)), Some(Duration::ZERO));
        assert_eq!(remaining(Ends::Lifetime(pointer()), json!("0")), Some(Duration::ZERO));
        assert_eq!(remaining(Ends::Lifetime(pointer()), json!(null)), None);
        assert_eq!(remaining(Ends::At(pointer()), json!(null)), None);
        assert_eq!(remaining(Ends::At(pointer()), json!("2016-07-11T22:14:10Z")), Some(Duration::ZERO));
        assert_eq!(remaining(Ends::At(pointer()), json!("1468275250")), Some(Duration::ZERO));
        assert!(remaining(Ends::At(pointer()), json!(9_999_999_999_u64)) > Some(Duration::from_secs(3600)));
        for (ends, name) in
            [(Ends::Lifetime(pointer()), "lifetime_pointer"), (Ends::At(pointer()), "expires_at_pointer")]
        {
            let what = read(ends, answer(json!("soon"))).map(|_| ()).unwrap_err();
            assert!(what.contains(name), "{what}");
        }
    }
}
