//! The grants of an OAuth client and the logins to Vault, with the links in their tables.

use serde::{Deserialize, Deserializer};

use super::SourceSettings;
use super::kept::{Kept, chain};
use super::linked::{Linked, named};
use crate::error::BuildError;
use crate::oauth::{Client, ClientBuilder, GrantSettings, client_and_grant};
use crate::settings::table::Named;
use crate::source::{BoxSource, VaultBuilder};

/// The settings of client and grant, in one table.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    client: ClientBuilder,
    settings: GrantSettings,
}

impl<'de> Deserialize<'de> for Granted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        client_and_grant(deserializer).map(|(client, settings)| Self { client, settings })
    }
}

impl Granted {
    /// The client. Its proof of identity may be a link.
    pub(super) fn client(
        self,
        assertion: Option<Box<SourceSettings>>,
        links: &mut Vec<Kept>,
    ) -> Result<(Client, GrantSettings), BuildError> {
        let Some(settings) = assertion else { return Ok((self.client.build()?, self.settings)) };
        let client = self.client.assertion(added("client_assertion", *settings, links)?);
        // In code the setting has another name.
        let client = client.build().map_err(|error| match error.field() {
            "assertion" => {
                BuildError::new("client_assertion", "is not the client's only proof: keep only one")
            }
            _ => error,
        })?;
        Ok((client, self.settings))
    }
}

fn added(name: &str, settings: SourceSettings, links: &mut Vec<Kept>) -> Result<Kept, BuildError> {
    let link = Kept::link(name, settings)?;
    links.push(link.clone());
    Ok(link)
}

/// The settings of the client credentials grant.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Plain {
    client_assertion: Option<Box<SourceSettings>>,
}

/// The settings of a token exchange.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Exchange {
    client_assertion: Option<Box<SourceSettings>>,
    subject: Box<SourceSettings>,
    subject_token_type: Option<String>,
    actor: Option<Box<SourceSettings>>,
    actor_token_type: Option<String>,
    requested_token_type: Option<String>,
}

/// The settings of the JWT bearer grant.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Assertion {
    client_assertion: Option<Box<SourceSettings>>,
    assertion: Box<SourceSettings>,
}

/// The settings of a login to Vault.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Jwt {
    jwt: Option<Box<SourceSettings>>,
}

named!(Plain, Exchange, Assertion, Jwt);

impl Named for Granted {
    fn names() -> Vec<&'static str> {
        [GrantSettings::names(), ClientBuilder::names()].concat()
    }
}

impl Linked<Granted, Plain> {
    pub(super) fn build(self) -> Result<BoxSource, BuildError> {
        let mut links = Vec::new();
        let (client, settings) = self.own.client(self.links.client_assertion, &mut links)?;
        Ok(chain(client.client_credentials().with_settings(settings).build()?, links))
    }
}

impl Linked<Granted, Exchange> {
    pub(super) fn build(self) -> Result<BoxSource, BuildError> {
        let Exchange { client_assertion, subject, subject_token_type, actor, .. } = self.links;
        if actor.is_none() && self.links.actor_token_type.is_some() {
            return Err(BuildError::new("actor_token_type", "needs an `actor` beside it"));
        }
        let mut links = Vec::new();
        let (client, settings) = self.own.client(client_assertion, &mut links)?;
        let subject = added("subject", *subject, &mut links)?;
        let mut grant = client.token_exchange(subject).with_settings(settings);
        if let Some(uri) = subject_token_type {
            grant = grant.subject_token_type(uri);
        }
        if let Some(actor) = actor {
            grant = grant.actor(added("actor", *actor, &mut links)?);
        }
        if let Some(uri) = self.links.actor_token_type {
            grant = grant.actor_token_type(uri);
        }
        if let Some(uri) = self.links.requested_token_type {
            grant = grant.requested_token_type(uri);
        }
        Ok(chain(grant.build()?, links))
    }
}

impl Linked<Granted, Assertion> {
    pub(super) fn build(self) -> Result<BoxSource, BuildError> {
        let mut links = Vec::new();
        let (client, settings) = self.own.client(self.links.client_assertion, &mut links)?;
        let assertion = added("assertion", *self.links.assertion, &mut links)?;
        Ok(chain(client.jwt_bearer(assertion).with_settings(settings).build()?, links))
    }
}

impl Linked<VaultBuilder, Jwt> {
    pub(super) fn build(self) -> Result<BoxSource, BuildError> {
        let mut links = Vec::new();
        let login = match self.links.jwt {
            Some(settings) => self.own.jwt(added("jwt", *settings, &mut links)?),
            None => self.own,
        };
        Ok(chain(login.build()?, links))
    }
}
