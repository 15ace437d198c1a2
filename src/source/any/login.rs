//! The refresh token grant. Its table has the place of the login too.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::SourceSettings;
use super::grants::Granted;
use super::kept::{Kept, chain};
use super::linked::{Linked, named};
use crate::duration;
use crate::error::BuildError;
use crate::oauth::{Client, GrantSettings};
use crate::secret::origin::SecretOrigin;
use crate::settings::settings;
use crate::settings::table::{Entries, unknown_kind};
use crate::source::{AfterCrash, BoxSource};
#[cfg(feature = "redis")]
use crate::source::{SealKey, shared::seal};
#[cfg(feature = "redis")]
use crate::store::RedisStoreBuilder;
#[cfg(feature = "redis")]
use crate::vault::RedisVault;
use crate::vault::{FileVault, RefreshTokenStore};

/// The settings of the grant beside those of client and grant, and its link.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Login {
    client_assertion: Option<Box<SourceSettings>>,
    vault: Place,
    #[serde(rename = "login")]
    first: Option<SecretOrigin>,
    #[serde(default, deserialize_with = "duration::some_duration")]
    grace: Option<Duration>,
    after_crash: Option<AfterCrash>,
}

/// The place where the rotating refresh token is kept.
#[derive(Clone, Debug)]
struct Place(Kind);

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one for a program
enum Kind {
    File(FilePlace),
    #[cfg(feature = "redis")]
    Redis(Linked<RedisStoreBuilder, RedisPlace>),
}

settings! {
    #[derive(Clone, Debug)]
    struct FilePlace {
        path: PathBuf,
        #[serde(default, deserialize_with = "duration::some_duration")]
        lock_timeout: Option<Duration>,
    }
}

#[cfg(feature = "redis")]
#[derive(Clone, Debug, Deserialize)]
struct RedisPlace {
    name: String,
    #[serde(deserialize_with = "seal::keys")]
    keys: Vec<SealKey>,
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Entries::deserialize(deserializer)?;
        let read = table.take_kind().and_then(|kind| Kind::read(&kind, table));
        read.map(Self).map_err(D::Error::custom)
    }
}

impl Kind {
    fn read(kind: &str, table: Entries) -> Result<Self, String> {
        const KINDS: &[&str] = &[
            "file",
            #[cfg(feature = "redis")]
            "redis",
        ];
        Ok(match kind {
            "file" => Self::File(table.read_kind(kind)?),
            #[cfg(feature = "redis")]
            "redis" => Self::Redis(table.read_kind(kind)?),
            _ => return Err(unknown_kind(kind, KINDS)),
        })
    }
}

named!(Login);
#[cfg(feature = "redis")]
named!(RedisPlace);

impl Linked<Granted, Login> {
    pub(super) fn build(self) -> Result<BoxSource, BuildError> {
        let mut links = Vec::new();
        let Login { client_assertion, vault: Place(place), first, grace, after_crash } = self.links;
        let rules = Rules { first, grace, after_crash };
        let (client, settings) = self.own.client(client_assertion, &mut links)?;
        match place {
            Kind::File(FilePlace { path, lock_timeout }) => {
                let mut vault = FileVault::new(path).map_err(|error| error.within("vault"))?;
                if let Some(limit) = lock_timeout {
                    vault = vault.lock_timeout(limit);
                }
                rules.source(&client, settings, vault, links)
            }
            #[cfg(feature = "redis")]
            Kind::Redis(Linked { own: store, links: RedisPlace { name, keys } }) => {
                let store = store.build().map_err(|error| error.within("vault"))?;
                let vault = RedisVault::new(&store, &name, keys).map_err(|error| error.within("vault"))?;
                rules.source(&client, settings, vault, links)
            }
        }
    }
}

/// The settings of the refresh token grant, beside its vault.
struct Rules {
    first: Option<SecretOrigin>,
    grace: Option<Duration>,
    after_crash: Option<AfterCrash>,
}

impl Rules {
    fn source<V: RefreshTokenStore>(
        self,
        client: &Client,
        settings: GrantSettings,
        vault: V,
        links: Vec<Kept>,
    ) -> Result<BoxSource, BuildError> {
        let mut grant = client.refresh_token(vault).with_settings(settings);
        if let Some(login) = self.first.map(|login| login.open("login")).transpose()?
            && let Some(secret) = login.last()
        {
            grant = grant.login(secret.expose());
        }
        if let Some(grace) = self.grace {
            grant = grant.grace(grace);
        }
        if let Some(rule) = self.after_crash {
            grant = grant.after_crash(rule);
        }
        Ok(chain(grant.build()?, links))
    }
}
