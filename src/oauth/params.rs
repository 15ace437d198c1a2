//! The request parameters that are common to all grants.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::BuildError;
use crate::secret::Secret;
use crate::settings::table::{Entries, Named, names_in};
use crate::settings::{secret_table_cut, some_text_or_number, texts_or_numbers};
use crate::token::TokenType;
use crate::transport::Form;

/// The settings common to all grants, as they are in a file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GrantSettings {
    #[serde(deserialize_with = "some_text_or_number")]
    pub(super) scope: Option<String>,
    #[serde(deserialize_with = "texts_or_numbers")]
    pub(super) audience: Vec<String>,
    #[serde(deserialize_with = "texts_or_numbers")]
    pub(super) resource: Vec<String>,
    #[serde(deserialize_with = "secret_table_cut")]
    pub(super) extra: BTreeMap<String, Secret>,
    pub(super) require_scopes: bool,
    #[serde(deserialize_with = "token_type")]
    pub(super) token_type: Option<TokenType>,
}

/// The expectations on an answer.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// The requested scopes.
    pub(crate) scopes: Vec<String>,
    pub(crate) require_scopes: bool,
    /// The user's type, for any type in the server's answer.
    pub(crate) token_type: Option<TokenType>,
}

impl GrantSettings {
    /// Checks the settings. Returns the parameters, and the expectations on the answer. `taken` are the grant's own
    /// parameters, which `extra` must not name. `is_bound`: the client's tokens are bound to a key.
    pub(crate) fn checked(&self, taken: &[&str], is_bound: bool) -> Result<(Form, Expected), BuildError> {
        let scopes = self.scope.as_deref().map(scopes).transpose()?.unwrap_or_default();
        let mut form = Form::default();
        if !scopes.is_empty() {
            form.plain("scope", &scopes.join(" "));
        }
        for audience in &self.audience {
            if audience.is_empty() {
                return Err(BuildError::new("audience", "is empty: leave it out instead"));
            }
            form.plain("audience", audience);
        }
        for resource in &self.resource {
            check_resource(resource)?;
            form.plain("resource", resource);
        }
        for (name, value) in &self.extra {
            self.check_extra(name, taken)?;
            form.secret(name, value.expose());
        }
        if self.require_scopes && scopes.is_empty() {
            return Err(BuildError::new("require_scopes", "needs a `scope` to compare with"));
        }
        if let Some(kind) = &self.token_type
            && !kind.is_scheme()
        {
            let message = format!("is {:?}, which is not a token (RFC 9110 section 5.6.2)", kind.as_str());
            return Err(BuildError::new("token_type", message));
        }
        match &self.token_type {
            Some(kind) if is_bound && !kind.is_dpop() => {
                let message = "excludes the client's `dpop`, by which each token has the type DPoP";
                return Err(BuildError::new("token_type", message));
            }
            Some(kind) if !is_bound && kind.is_dpop() => {
                let message =
                    "is DPoP, which no API takes without proofs: set the client's `dpop` (feature `dpop`)";
                return Err(BuildError::new("token_type", message));
            }
            _ => {}
        }
        let token_type = self.token_type.clone();
        Ok((form, Expected { scopes, require_scopes: self.require_scopes, token_type }))
    }

    /// A parameter must not be sent twice (RFC 6749 section 3.2). A server may want a text as `audience` or
    /// `resource` that the setting of this name does not accept.
    fn check_extra(&self, name: &str, taken: &[&str]) -> Result<(), BuildError> {
        const CLIENT: &[&str] = &["client_id", "client_secret", "client_assertion", "client_assertion_type"];
        let reason = match name {
            "" => "has a parameter without a name".to_owned(),
            "grant_type" => "cannot set `grant_type`: it is the grant's own".to_owned(),
            "scope" => "cannot set `scope`: there is a setting of that name".to_owned(),
            "audience" if !self.audience.is_empty() => {
                "cannot set `audience`: `audience` is set too".to_owned()
            }
            "resource" if !self.resource.is_empty() => {
                "cannot set `resource`: `resource` is set too".to_owned()
            }
            _ if CLIENT.contains(&name) => {
                format!("cannot set `{name}`: the client's own settings decide it")
            }
            _ if taken.contains(&name) => format!("cannot set `{name}`: it is the grant's own"),
            _ => return Ok(()),
        };
        Err(BuildError::new("extra", reason))
    }

    /// Names the requested parts, for any order of the scopes.
    pub(crate) fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        let mut form = Form::default();
        let mut scopes: Vec<&str> =
            self.scope.iter().flat_map(|scope| scope.split_ascii_whitespace()).collect();
        scopes.sort_unstable();
        scopes.dedup();
        if !scopes.is_empty() {
            form.plain("scope", &scopes.join(" "));
        }
        self.audience.iter().for_each(|audience| form.plain("audience", audience));
        self.resource.iter().for_each(|resource| form.plain("resource", resource));
        self.extra.iter().for_each(|(name, value)| form.secret(name, value.expose()));
        part("asked_for", &String::from_utf8_lossy(&form.encode()));
        if let Some(kind) = &self.token_type {
            part("token_type", kind.as_str());
        }
        if self.require_scopes {
            part("require_scopes", "true");
        }
    }
}

/// RFC 6749 section 3.3.
fn scopes(text: &str) -> Result<Vec<String>, BuildError> {
    if let Some(char) = text.chars().find(|&char| !matches!(char, ' '..='~') || matches!(char, '"' | '\\')) {
        let message = format!("has a {char:?} in it: scopes are printable ASCII, with spaces in between");
        return Err(BuildError::new("scope", message));
    }
    let scopes: Vec<String> = text.split(' ').filter(|scope| !scope.is_empty()).map(Into::into).collect();
    if scopes.is_empty() {
        return Err(BuildError::new("scope", "is empty: leave it out to get the server's default"));
    }
    Ok(scopes)
}

/// RFC 8707 section 2 requires an absolute URI without a fragment. Older servers require a GUID, or a bare name.
fn check_resource(text: &str) -> Result<(), BuildError> {
    let reason = match text {
        "" => "is empty: leave it out instead",
        _ if text.contains('#') => "must not have a fragment (#...) (RFC 8707 section 2)",
        _ if text.chars().any(|char| char.is_control() || char.is_whitespace()) => {
            "has a space or a control character in it, which no URI has (RFC 8707 section 2)"
        }
        _ => return Ok(()),
    };
    Err(BuildError::new("resource", reason))
}

fn token_type<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<TokenType>, D::Error> {
    Ok(Some(TokenType::parse(&String::deserialize(deserializer)?)))
}

impl Named for GrantSettings {
    fn names() -> Vec<&'static str> {
        names_in(Self::deserialize)
    }
}

/// Reads the settings of a client and of a grant from one table. Unknown keys are refused.
pub(crate) fn client_and_grant<'de, C, D>(deserializer: D) -> Result<(C, GrantSettings), D::Error>
where
    C: Named + serde::de::DeserializeOwned,
    D: serde::Deserializer<'de>,
{
    let read = |mut table: Entries| {
        let names = GrantSettings::names();
        table.check(&[names.clone(), C::names()].concat(), "")?;
        let grant = table.take(&names).read()?;
        Ok::<_, String>((table.read()?, grant))
    };
    read(Entries::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: serde_json::Value) -> GrantSettings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_form_holds_what_was_asked_for_and_no_more() {
        let (form, expected) = GrantSettings::default().checked(&[], false).unwrap();
        assert!(form.encode().is_empty() && expected.scopes.is_empty());
        let (form, expected) = settings(serde_json::json!({
            "scope": " read  write ", "audience": "api", "extra": {"tenant": "x y"},
            "resource": ["https://a.example/", "00000003-0000-0000-c000-000000000000"],
        }))
        .checked(&[], false)
        .unwrap();
        let all = "scope=read+write&audience=api&resource=https%3A%2F%2Fa.example%2F\
                   &resource=00000003-0000-0000-c000-000000000000&tenant=x+y";
        assert_eq!(form.encode(), all);
        assert_eq!(expected.scopes, ["read", "write"]);
    }

    #[track_caller]
    fn refused(json: serde_json::Value, field: &str) {
        let error = settings(json).checked(&["assertion"], false).map(|_| ()).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_by_name() {
        for scope in ["", "  ", "a\"b", "a\\b", "a\nb", "ä", "a\tb"] {
            refused(serde_json::json!({ "scope": scope }), "scope");
        }
        refused(serde_json::json!({ "audience": "" }), "audience");
        for resource in ["", "https://a.example/#x", "a b"] {
            refused(serde_json::json!({ "resource": resource }), "resource");
        }
        for name in ["", "grant_type", "client_id", "client_secret", "scope", "assertion"] {
            refused(serde_json::json!({ "extra": { name: "x" } }), "extra");
        }
        refused(serde_json::json!({ "require_scopes": true }), "require_scopes");
        refused(serde_json::json!({ "token_type": "a b" }), "token_type");
    }

    #[test]
    fn an_extra_audience_or_resource_is_sent_unless_the_setting_is_used_too() {
        for name in ["audience", "resource"] {
            let form = |json| settings(json).checked(&[], false).unwrap().0.encode();
            let odd = "urn:x y#z";
            let sent = form(serde_json::json!({ "extra": { name: odd } }));
            assert_eq!(sent, format!("{name}=urn%3Ax+y%23z"));
            refused(serde_json::json!({ name: "https://a.example/", "extra": { name: odd } }), "extra");
        }
    }

    #[test]
    fn the_order_of_scopes_makes_no_other_request() {
        let parts = |scope: &str| {
            let mut parts = Vec::new();
            settings(serde_json::json!({ "scope": scope }))
                .identify(&mut |name, value| parts.push(format!("{name}={value}")));
            parts
        };
        assert_eq!(parts("b a b"), parts("a b"));
        assert_ne!(parts("a"), parts("a b"));
    }
}
