//! Grants whose credential is the token of another source, from one table of settings.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::SourceSettings;
use crate::error::BuildError;
use crate::oauth::{ClientBuilder, GrantSettings, client_and_grant};
use crate::source::BoxSource;

/// The settings of client, grant and links, in one table.
#[derive(Clone, Debug)]
pub(super) struct Linked<L> {
    client: ClientBuilder,
    settings: GrantSettings,
    links: L,
}

/// Of a token exchange.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Exchange {
    subject: Box<SourceSettings>,
    subject_token_type: Option<String>,
    actor: Option<Box<SourceSettings>>,
    actor_token_type: Option<String>,
    requested_token_type: Option<String>,
}

/// Of the JWT bearer grant.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Assertion {
    assertion: Box<SourceSettings>,
}

impl Linked<Exchange> {
    pub(super) fn build(self) -> Result<BoxSource, BuildError> {
        let Exchange { subject, subject_token_type, actor, actor_token_type, requested_token_type } =
            self.links;
        if actor.is_none() && actor_token_type.is_some() {
            return Err(BuildError::new("actor_token_type", "needs an `actor` beside it"));
        }
        let client = self.client.build()?;
        let mut grant = client.token_exchange(link("subject", *subject)?).with_settings(self.settings);
        if let Some(uri) = subject_token_type {
            grant = grant.subject_token_type(uri);
        }
        if let Some(actor) = actor {
            grant = grant.actor(link("actor", *actor)?);
        }
        if let Some(uri) = actor_token_type {
            grant = grant.actor_token_type(uri);
        }
        if let Some(uri) = requested_token_type {
            grant = grant.requested_token_type(uri);
        }
        grant.build().map(BoxSource::new)
    }
}

impl Linked<Assertion> {
    pub(super) fn build(self) -> Result<BoxSource, BuildError> {
        let assertion = link("assertion", *self.links.assertion)?;
        self.client.build()?.jwt_bearer(assertion).with_settings(self.settings).build().map(BoxSource::new)
    }
}

/// The source of a link, whose error names the link.
fn link(name: &'static str, settings: SourceSettings) -> Result<BoxSource, BuildError> {
    settings.build().map_err(|error| BuildError::new(name, format!("is a source with a fault: {error}")))
}

impl<'de, L: DeserializeOwned> Deserialize<'de> for Linked<L> {
    /// The links take their keys out of the table first. Then only keys of client and grant are left.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(bound = "L: DeserializeOwned")]
        struct Both<L> {
            #[serde(flatten)]
            links: L,
            #[serde(flatten)]
            rest: Rest,
        }

        let Both { links, rest: Rest(client, settings) } = Both::<L>::deserialize(deserializer)?;
        Ok(Self { client, settings, links })
    }
}

struct Rest(ClientBuilder, GrantSettings);

impl<'de> Deserialize<'de> for Rest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rest = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let rest = Value::Object(rest.into_iter().collect());
        client_and_grant(rest).map(|(client, settings)| Self(client, settings)).map_err(D::Error::custom)
    }
}
