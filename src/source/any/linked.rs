//! Sources whose credential is the token of another source, from one table of settings.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

use super::SourceSettings;
use super::kept::{Kept, chain};
use crate::error::BuildError;
use crate::settings::table::{Entries, Named};
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
    Entries::deserialize(deserializer)?.read().map_err(D::Error::custom)
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
            let link = Kept::link(&format!("header_token.{name}"), settings)?;
            endpoint = endpoint.header_token(name, link.clone());
            links.push(link);
        }
        Ok(chain(endpoint.build()?, links))
    }
}

impl<B: Named, L: Named> Named for Linked<B, L> {
    fn names() -> Vec<&'static str> {
        [L::names(), B::names()].concat()
    }
}

impl<'de, B: DeserializeOwned, L: Named + DeserializeOwned> Deserialize<'de> for Linked<B, L> {
    /// The links take their keys out of the table first. Then only keys of the source itself are left.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Entries::deserialize(deserializer)?;
        let links = table.take(&L::names()).read().map_err(D::Error::custom)?;
        Ok(Self { own: table.read().map_err(D::Error::custom)?, links })
    }
}

/// The names of links are those of the fields.
macro_rules! named {
    ($($links:ident),*) => {
        $(
            impl crate::settings::table::Named for $links {
                fn names() -> Vec<&'static str> {
                    crate::settings::table::names_in(<Self as serde::Deserialize>::deserialize)
                }
            }
        )*
    };
}
#[cfg(feature = "oauth2")]
pub(super) use named;
named!(Headers);
