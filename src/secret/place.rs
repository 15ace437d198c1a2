//! A secret in a file of settings: the secret itself, or the place where it is.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::path::{LONGEST, read_regular, shown};
use super::{Secret, Text};
#[cfg(feature = "shared")]
use crate::error::BuildError;

/// The secret itself, `{ file = "path" }`, or `{ env = "NAME" }`.
#[derive(Clone)]
pub(crate) enum SecretPlace {
    Value(Secret),
    File(PathBuf),
    Env(String),
}

impl SecretPlace {
    /// The secret, which is read once. `field` is the setting's name.
    #[cfg(feature = "shared")]
    pub(crate) fn read(&self, field: &'static str) -> Result<Secret, BuildError> {
        self.secret(field).map_err(|what| BuildError::new(field, what))
    }

    /// The same. The error continues the name of the setting.
    pub(crate) fn secret(&self, field: &str) -> Result<Secret, String> {
        match self {
            Self::Value(secret) => of_value(field, secret),
            Self::Env(name) => of_variable(name),
            Self::File(path) => {
                let refused = |what: String| format!("comes from a file: {what}");
                let bytes = read_regular(path, LONGEST)
                    .map_err(|error| refused(format!("the file {} cannot be read: {error}", shown(path))))?;
                of_file(path, &bytes).map_err(refused)
            }
        }
    }
}

/// Texts in PEM.
#[cfg(feature = "oauth2")]
impl SecretPlace {
    /// The text, which is read once. A text in PEM ends with a line break, so a value stays as it is.
    pub(crate) fn pem(self, field: &'static str) -> Result<Secret, crate::error::BuildError> {
        match self {
            Self::Value(text) => Ok(text),
            place => place.secret(field).map_err(|what| crate::error::BuildError::new(field, what)),
        }
    }
}

/// A line break at the end is cut off with a WARN.
pub(crate) fn of_value(field: &str, secret: &Secret) -> Result<Secret, String> {
    checked(cut(field, secret.expose())).map(Secret::new).map_err(ToOwned::to_owned)
}

pub(crate) fn of_variable(name: &str) -> Result<Secret, String> {
    let refused = |what: &str| format!("names the environment variable {name:?}, {what}");
    let value = std::env::var(name).map(Zeroizing::new);
    let value = value.map_err(|_| refused("which is not set, or not UTF-8"))?;
    checked(trim(&value)).map(Secret::new).map_err(|what| refused(&format!("whose value {what}")))
}

/// The secret in the contents of a file.
pub(crate) fn of_file(path: &Path, bytes: &[u8]) -> Result<Secret, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "holds text that is not UTF-8");
    let secret = text.and_then(|text| checked(trim(text)));
    secret.map(Secret::new).map_err(|what| format!("the file {} {what}", shown(path)))
}

/// The text without a line break at its end. `field` names it in a WARN.
pub(crate) fn cut<'a>(field: &str, text: &'a str) -> &'a str {
    let cut = trim(text);
    if cut.len() < text.len() {
        let field = field.escape_debug();
        log::warn!("`{field}` ends with a line break, which is cut off");
    }
    cut
}

/// The same for a secret.
#[cfg(feature = "http")]
pub(crate) fn cut_secret(field: &str, text: &str) -> Secret {
    Secret::new(cut(field, text))
}

/// Texts in files and in the environment often end with a line break that is not part of the secret.
pub(super) fn trim(text: &str) -> &str {
    text.trim_end_matches(['\n', '\r'])
}

pub(super) fn checked(text: &str) -> Result<&str, &'static str> {
    match text {
        "" => Err("is empty"),
        _ => Ok(text),
    }
}

impl fmt::Debug for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(secret) => secret.fmt(f),
            Self::File(path) => f.debug_tuple("File").field(&shown(path)).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
        }
    }
}

impl<'de> Deserialize<'de> for SecretPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InFile)
    }
}

struct InFile;

impl<'de> Visitor<'de> for InFile {
    type Value = SecretPlace;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a string, or a table like { file = "path" } or { env = "NAME" }"#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretPlace, E> {
        Text.visit_str(text).map(SecretPlace::Value)
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<SecretPlace, E> {
        Text.visit_string(text).map(SecretPlace::Value)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<SecretPlace, E> {
        Text.visit_u64(number).map(SecretPlace::Value)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<SecretPlace, E> {
        Text.visit_i64(number).map(SecretPlace::Value)
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<SecretPlace, E> {
        Text.visit_u128(number).map(SecretPlace::Value)
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<SecretPlace, E> {
        Text.visit_i128(number).map(SecretPlace::Value)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<SecretPlace, E> {
        Text.visit_f64(number).map(SecretPlace::Value)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<SecretPlace, E> {
        Text.visit_bool(value).map(SecretPlace::Value)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretPlace, A::Error> {
        const WAYS: &str = r#"expected { file = "path" } or { env = "NAME" }"#;
        let Some(key) = map.next_key::<Secret>()? else {
            return Err(de::Error::custom(format_args!("an empty table, {WAYS}")));
        };
        let origin = match key.expose() {
            "file" => SecretPlace::File(map.next_value::<Secret>()?.expose().into()),
            "env" => SecretPlace::Env(map.next_value::<Secret>()?.expose().into()),
            // Not quoted: it may be the secret itself, in the wrong place.
            _ => return Err(de::Error::custom(format_args!("a table with an unknown key, {WAYS}"))),
        };
        match map.next_key::<de::IgnoredAny>()? {
            None => Ok(origin),
            Some(_) => Err(de::Error::custom(format_args!("a table with two keys, {WAYS}"))),
        }
    }
}
