//! Sources whose credential is the token of another source, from one table of settings.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::SourceSettings;
use super::kept::{Kept, chain};
use crate::error::BuildError;
use crate::settings::OnlyTable;
use crate::source::{BoxSource, JsonEndpointBuilder};

/// The settings of a source, and those of its links, in one table.
#[derive(Clone, Debug)]
pub(super) struct Linked<B, L> {
    pub(super) own: B,
    pub(super) links: L,
}

/// The headers of a JSON endpoint that hold a token.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Headers {
    authorization: Option<Box<SourceSettings>>,
    #[serde(default, deserialize_with = "by_name")]
    header_token: BTreeMap<String, SourceSettings>,
}

/// A table of links. A wrong value in its place is not quoted.
fn by_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, SourceSettings>, D::Error> {
    Deserialize::deserialize(OnlyTable(deserializer))
}

impl Linked<JsonEndpointBuilder, Headers> {
    pub(super) fn build(self) -> Result<BoxSource, BuildError> {
        let (mut endpoint, mut links) = (self.own, Vec::new());
        if let Some(settings) = self.links.authorization {
            let link = Kept::link("authorization", *settings)?;
            endpoint = endpoint.authorization(link.clone());
            links.push(link);
        }
        for (name, settings) in self.links.header_token {
            let link = Kept::link("header_token", settings)?;
            endpoint = endpoint.header_token(name, link.clone());
            links.push(link);
        }
        Ok(chain(endpoint.build()?, links))
    }
}

impl<'de, B: DeserializeOwned, L: DeserializeOwned> Deserialize<'de> for Linked<B, L> {
    /// The links take their keys out of the table first. Then only keys of the source itself are left.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(bound = "B: DeserializeOwned, L: DeserializeOwned")]
        struct Both<B, L> {
            #[serde(flatten)]
            links: L,
            #[serde(flatten)]
            own: Rest<B>,
        }

        let Both { links, own: Rest(own) } = Both::<B, L>::deserialize(deserializer)?;
        Ok(Self { own, links })
    }
}

struct Rest<B>(B);

impl<'de, B: DeserializeOwned> Deserialize<'de> for Rest<B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rest = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let rest = Value::Object(rest.into_iter().collect());
        B::deserialize(rest).map(Self).map_err(D::Error::custom)
    }
}
