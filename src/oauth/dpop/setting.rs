//! The key in a settings file: `dpop = "generate"`, `dpop = { key_file = "dpop.pem" }`, or `dpop = { key = { env = "NAME" } }`.

use std::fmt;
use std::path::PathBuf;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::super::jws::Algorithm;
use super::super::key_source::KeyOrigin;
use super::DpopKey;
use crate::error::BuildError;
use crate::secret::Secret;
#[cfg(feature = "registry")]
use crate::secret::place::SecretPlace;

/// The origin of the key.
#[derive(Clone, Debug)]
pub(crate) enum DpopSetting {
    Key(DpopKey),
    Generate,
    File { key_file: PathBuf, algorithm: Option<Algorithm> },
    Text { key: KeyOrigin, algorithm: Option<Algorithm> },
}

impl DpopSetting {
    /// The error names the setting `dpop`.
    pub(crate) fn open(self) -> Result<DpopKey, BuildError> {
        match self {
            Self::Key(key) => Ok(key),
            Self::Generate => DpopKey::generate(),
            Self::File { key_file, algorithm } => DpopKey::from_file(&key_file, algorithm),
            Self::Text { key, algorithm } => {
                let key = key.read().and_then(|key| match algorithm {
                    Some(algorithm) => key.with_algorithm(algorithm),
                    None => Ok(key),
                });
                DpopKey::from_key(key.map_err(|error| error.about("dpop"))?)
            }
        }
    }

    /// Whether it has to be read.
    #[cfg(feature = "registry")]
    pub(crate) fn is_file(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Text { key: KeyOrigin::Text(SecretPlace::File(_)), .. })
    }
}

impl<'de> Deserialize<'de> for DpopSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Form)
    }
}

/// A wrong value in the place of the setting may be a key. Therefore it is not quoted.
struct Form;

impl<'de> Visitor<'de> for Form {
    type Value = DpopSetting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"for `dpop` "generate", or a table with `key` or `key_file`"#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<DpopSetting, E> {
        match text {
            "generate" => Ok(DpopSetting::Generate),
            _ => Err(E::custom(r#"`dpop` is neither "generate" nor a table with `key` or `key_file`"#)),
        }
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<DpopSetting, E> {
        Err(a_number())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<DpopSetting, E> {
        Err(a_number())
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<DpopSetting, E> {
        Err(a_number())
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<DpopSetting, E> {
        Err(a_number())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<DpopSetting, E> {
        Err(a_number())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DpopSetting, A::Error> {
        const NAMES: &[&str] = &["key", "key_file", "algorithm"];
        let (mut key, mut key_file, mut algorithm) = (None, None, None);
        while let Some(name) = map.next_key::<Secret>()? {
            match name.expose() {
                "key" if key.is_some() => return Err(de::Error::duplicate_field("key")),
                "key" => key = Some(map.next_value()?),
                "key_file" if key_file.is_some() => return Err(de::Error::duplicate_field("key_file")),
                "algorithm" if algorithm.is_some() => return Err(de::Error::duplicate_field("algorithm")),
                "key_file" => key_file = Some(map.next_value()?),
                "algorithm" => algorithm = Some(map.next_value()?),
                name => return Err(de::Error::unknown_field(name, NAMES)),
            }
        }
        match (key, key_file) {
            (Some(key), None) => Ok(DpopSetting::Text { key, algorithm }),
            (None, Some(key_file)) => Ok(DpopSetting::File { key_file, algorithm }),
            (Some(_), Some(_)) => Err(de::Error::custom("`key_file` excludes `key`: use one of them")),
            (None, None) => Err(de::Error::missing_field("key_file")),
        }
    }
}

fn a_number<E: de::Error>() -> E {
    E::custom(r#"found a number, expected for `dpop` "generate", or a table with `key` or `key_file`"#)
}
