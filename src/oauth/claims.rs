//! The requirement of an API on the next token, as a parameter of the token request.

use serde_json::Value;

use crate::source::Challenge;
use crate::transport::Form;

const NAME: &str = "claims";

/// Adds the parameter `claims` (`OpenID` Connect Core section 5.5), as Entra requires for continuous access
/// evaluation. The user's own `extra` claims stay: the two objects are merged.
pub(crate) fn ask(form: &mut Form, challenge: Option<&Challenge>) {
    let Some(challenge) = challenge else { return };
    let asked = challenge.claims();
    // A parameter without a value counts as left out (RFC 6749 section 3.2).
    if asked.trim().is_empty() {
        return;
    }
    let joined = form.value(NAME).and_then(|own| joined(own, asked));
    form.remove(NAME);
    form.secret(NAME, joined.as_deref().unwrap_or(asked));
}

/// `None` if one of the two is not an object.
fn joined(own: &str, asked: &str) -> Option<String> {
    let mut own: Value = serde_json::from_str(own).ok()?;
    let asked: Value = serde_json::from_str(asked).ok()?;
    (own.is_object() && asked.is_object()).then(|| {
        join(&mut own, asked);
        own.to_string()
    })
}

/// If both have a value that is not an object, the API's value is used.
fn join(own: &mut Value, asked: Value) {
    match (own, asked) {
        (Value::Object(own), Value::Object(asked)) => {
            for (name, value) in asked {
                join(own.entry(name).or_insert(Value::Null), value);
            }
        }
        (own, asked) => *own = asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(own: Option<&str>, asked: Option<&str>) -> Option<String> {
        let mut form = Form::default();
        if let Some(own) = own {
            form.secret(NAME, own);
        }
        ask(&mut form, asked.map(Challenge::new).as_ref());
        assert!(form.encode().windows(7).filter(|part| part == b"claims=").count() <= 1);
        form.value(NAME).map(str::to_owned)
    }

    #[test]
    fn what_the_api_asks_for_stands_beside_what_the_user_asks_for() {
        const CAPABLE: &str = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
        const ASKED: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
        assert_eq!(sent(None, None), None);
        assert_eq!(sent(Some(CAPABLE), None).as_deref(), Some(CAPABLE));
        assert_eq!(sent(None, Some(ASKED)).as_deref(), Some(ASKED));
        let both: Value = serde_json::from_str(&sent(Some(CAPABLE), Some(ASKED)).unwrap()).unwrap();
        assert_eq!(both["access_token"]["xms_cc"]["values"][0], "cp1");
        assert_eq!(both["access_token"]["nbf"]["value"], "1604106651");
    }

    #[test]
    fn what_cannot_be_joined_is_what_the_api_asks_for() {
        for (own, asked, sent_is) in [
            ("nonsense", r#"{"a":1}"#, r#"{"a":1}"#),
            ("[1]", r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1}"#, "nonsense", "nonsense"),
            (r#"{"a":1,"b":null}"#, r#"{"a":{"c":2}}"#, r#"{"a":{"c":2},"b":null}"#),
        ] {
            assert_eq!(sent(Some(own), Some(asked)).as_deref(), Some(sent_is));
        }
    }
}
