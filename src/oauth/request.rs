//! The client credentials grant (RFC 6749 section 4.4.2) as a form, checked before it is ever sent.

use std::collections::BTreeMap;

use bytes::Bytes;
use reqwest::Url;

use crate::error::BuildError;
use crate::secret::Secret;
use crate::transport::form;

use super::ClientIdentity;

/// What the user may ask for beside the token itself.
#[derive(Default)]
pub(crate) struct GrantSettings<'a> {
    pub(crate) scope: Option<&'a str>,
    pub(crate) audience: Option<&'a str>,
    pub(crate) resource: &'a [String],
    pub(crate) extra: Option<&'a BTreeMap<String, Secret>>,
}

/// The request's body, which is the same each time, and the scopes in it.
pub(crate) struct ClientCredentialsGrant {
    pub(crate) form: Bytes,
    /// The same without the client: what is asked for.
    pub(crate) requested: Bytes,
    pub(crate) scopes: Vec<String>,
}

impl ClientCredentialsGrant {
    pub(crate) fn new(client: &ClientIdentity, settings: &GrantSettings<'_>) -> Result<Self, BuildError> {
        let scopes = settings.scope.map(scopes).transpose()?.unwrap_or_default();
        let scope = scopes.join(" ");
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        if !scopes.is_empty() {
            pairs.push(("scope", &scope));
        }
        if let Some(audience) = settings.audience {
            if audience.is_empty() {
                return Err(BuildError::new("audience", "is empty: leave it out instead"));
            }
            pairs.push(("audience", audience));
        }
        for resource in settings.resource {
            check_resource(resource)?;
            pairs.push(("resource", resource));
        }
        for (name, value) in settings.extra.into_iter().flatten() {
            check_extra(name)?;
            pairs.push((name, value.expose()));
        }
        let requested = form::encode(&pairs);
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(client.parameters());
        form.append(&mut pairs);
        Ok(Self { form: form::encode(&form), requested, scopes })
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

/// RFC 8707 section 2.
fn check_resource(text: &str) -> Result<(), BuildError> {
    let reason = match Url::parse(text) {
        Ok(url) if url.fragment().is_none() => return Ok(()),
        Ok(_) => "must not have a fragment (#...)".to_owned(),
        Err(error) => format!("has to be an absolute URI ({error})"),
    };
    Err(BuildError::new("resource", format!("{reason} (RFC 8707 section 2)")))
}

/// A parameter must not be sent twice (RFC 6749 section 3.2).
fn check_extra(name: &str) -> Result<(), BuildError> {
    let reason = match name {
        "" => "has a parameter without a name".to_owned(),
        "grant_type" => "cannot set `grant_type`: it is always \"client_credentials\" here".to_owned(),
        "client_id" | "client_secret" | "scope" | "audience" | "resource" => {
            format!("cannot set `{name}`: there is a setting of that name")
        }
        _ => return Ok(()),
    };
    Err(BuildError::new("extra", reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::ClientAuth;

    fn grant(auth: ClientAuth, settings: &GrantSettings<'_>) -> Result<ClientCredentialsGrant, BuildError> {
        let client = ClientIdentity::new("id".into(), Secret::new("s&t"), auth)?;
        ClientCredentialsGrant::new(&client, settings)
    }

    #[test]
    fn the_form_holds_what_was_asked_for_and_no_more() {
        let least = grant(ClientAuth::Basic, &GrantSettings::default()).unwrap();
        assert_eq!(least.form, "grant_type=client_credentials");
        let resource = ["https://a.example/".to_owned(), "urn:b".to_owned()];
        let extra = BTreeMap::from([("tenant".to_owned(), Secret::new("x y"))]);
        let settings = GrantSettings {
            scope: Some(" read  write "),
            audience: Some("api"),
            resource: &resource,
            extra: Some(&extra),
        };
        let most = grant(ClientAuth::Body, &settings).unwrap();
        let expected = "grant_type=client_credentials&client_id=id&client_secret=s%26t&scope=read+write\
                        &audience=api&resource=https%3A%2F%2Fa.example%2F&resource=urn%3Ab&tenant=x+y";
        assert_eq!(most.form, expected);
        assert_eq!(most.scopes, ["read", "write"]);
    }

    #[track_caller]
    fn refused(settings: &GrantSettings<'_>, field: &str) {
        let error = grant(ClientAuth::Basic, settings).map(|_| ()).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_by_name() {
        for scope in ["", "  ", "a\"b", "a\\b", "a\nb", "ä", "a\tb"] {
            refused(&GrantSettings { scope: Some(scope), ..GrantSettings::default() }, "scope");
        }
        refused(&GrantSettings { audience: Some(""), ..GrantSettings::default() }, "audience");
        for resource in ["", "api", "/api", "https://a.example/#x"] {
            let resource = [resource.to_owned()];
            refused(&GrantSettings { resource: &resource, ..GrantSettings::default() }, "resource");
        }
        for name in ["", "grant_type", "client_id", "client_secret", "scope", "audience", "resource"] {
            let extra = BTreeMap::from([(name.to_owned(), Secret::new("x"))]);
            refused(&GrantSettings { extra: Some(&extra), ..GrantSettings::default() }, "extra");
        }
    }
}
