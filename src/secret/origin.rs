//! The origin of a secret: a setting, a file, the environment, or a closure of the user's.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::files::FromFiles;
use super::path;
use super::{Secret, Text};
use crate::error::{BuildError, SourceError};

type BoxError = Box<dyn StdError + Send + Sync>;
type Answer = Pin<Box<dyn Future<Output = Result<String, BoxError>> + Send>>;
type Provider = Arc<dyn Fn() -> Answer + Send + Sync>;

/// The origin of a secret, as it is configured.
#[derive(Clone)]
pub(crate) enum SecretOrigin {
    Value(Secret),
    File(PathBuf),
    Env(String),
    Provider(Provider),
}

impl SecretOrigin {
    pub(crate) fn provider<F, E>(provider: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self::Provider(Arc::new(move || {
            let answer = provider();
            Box::pin(async move { answer.await.map_err(Into::into) })
        }))
    }

    /// Makes the checks that are possible before the first request. `field` is the setting's name.
    pub(crate) fn open(self, field: &'static str) -> Result<SecretSource, BuildError> {
        let refused = |message: String| BuildError::new(field, message);
        Ok(match self {
            Self::Value(secret) => {
                let cut = cut(field, secret.expose());
                SecretSource::Fixed(Secret::new(checked(cut).map_err(|what| refused(what.to_owned()))?))
            }
            Self::Env(name) => {
                let value = std::env::var(&name).map(Zeroizing::new);
                let value = value.map_err(|_| {
                    refused(format!(
                        "names the environment variable {name:?}, which is not set, or not UTF-8"
                    ))
                })?;
                let secret = checked(trim(&value));
                let secret = secret.map_err(|what| {
                    refused(format!("names the environment variable {name:?}, whose value {what}"))
                })?;
                SecretSource::Fixed(Secret::new(secret))
            }
            Self::File(path) => {
                let shown = path::shown(&path);
                let make = move |parts: &[Zeroizing<Vec<u8>>]| {
                    let bytes = parts.first().map(|part| part.as_slice()).unwrap_or_default();
                    let text = std::str::from_utf8(bytes).map_err(|_| "holds text that is not UTF-8");
                    let secret = text.and_then(|text| checked(trim(text)));
                    secret.map(Secret::new).map_err(|what| format!("the file {shown} {what}"))
                };
                let files = FromFiles::new(vec![path], make);
                SecretSource::File(files.map_err(|what| refused(format!("comes from a file: {what}")))?)
            }
            Self::Provider(provider) => SecretSource::Provider { provider, last: LastSecret::default() },
        })
    }
}

/// The origin of a secret, after the checks.
pub(crate) enum SecretSource {
    Fixed(Secret),
    File(Arc<FromFiles<Secret>>),
    Provider { provider: Provider, last: LastSecret },
}

/// The place of a provider's last secret. A clone is the same place.
#[derive(Clone)]
pub(crate) struct LastSecret(Arc<Place>);

struct Place {
    secret: Mutex<Option<Secret>>,
    /// Replaces the secret until the secret is known, so that it is not taken for another secret.
    unknown: [u8; 16],
}

impl Default for LastSecret {
    fn default() -> Self {
        let unknown = fastrand::u128(..).to_be_bytes();
        Self(Arc::new(Place { secret: Mutex::default(), unknown }))
    }
}

impl LastSecret {
    fn get(&self) -> Option<Secret> {
        self.0.secret.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, secret: Secret) {
        *self.0.secret.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret);
    }
}

/// Without the secret.
impl fmt::Debug for LastSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastSecret([redacted])")
    }
}

impl SecretSource {
    /// The present secret.
    pub(crate) async fn read(&self, field: &'static str) -> Result<Secret, SourceError> {
        match self {
            Self::Fixed(secret) => Ok(secret.clone()),
            Self::File(files) => Ok((*files.read().await).clone()),
            Self::Provider { provider, last } => {
                let failed = |what: &dyn fmt::Display| {
                    SourceError::transient(format!("the provider of `{field}` failed: {what}"))
                };
                let text = Zeroizing::new(provider().await.map_err(|error| failed(&error))?);
                let secret = Secret::new(checked(trim(&text)).map_err(|what| failed(&what))?);
                last.set(secret.clone());
                Ok(secret)
            }
        }
    }

    /// The secret of the last read, if there is one.
    pub(crate) fn last(&self) -> Option<Secret> {
        match self {
            Self::Fixed(secret) => Some(secret.clone()),
            Self::File(files) => Some((*files.last()).clone()),
            Self::Provider { last, .. } => last.get(),
        }
    }

    /// Names the secret for callers that must distinguish two secrets. A secret that is not known yet is equal to
    /// no other.
    pub(crate) fn identify(&self, part: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Provider { last, .. } if last.get().is_none() => part(&last.0.unknown),
            _ => {
                if let Some(secret) = self.last() {
                    part(secret.expose().as_bytes());
                }
            }
        }
    }

    /// Keeps the provider's secret in this place, which lives longer than the source.
    #[cfg(feature = "registry")]
    pub(crate) fn remember_in(&mut self, place: &LastSecret) {
        if let Self::Provider { last, .. } = self {
            *last = place.clone();
        }
    }
}

/// The text without a line break at its end. `field` names it in a WARN.
pub(crate) fn cut<'a>(field: &str, text: &'a str) -> &'a str {
    let cut = trim(text);
    if cut.len() < text.len() {
        log::warn!("`{field}` ends with a line break, which is cut off");
    }
    cut
}

/// Texts in files and in the environment often end with a line break that is not part of the secret.
fn trim(text: &str) -> &str {
    text.trim_end_matches(['\n', '\r'])
}

fn checked(text: &str) -> Result<&str, &'static str> {
    match text {
        "" => Err("is empty"),
        _ => Ok(text),
    }
}

impl fmt::Debug for SecretOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(secret) => secret.fmt(f),
            Self::File(path) => f.debug_tuple("File").field(&path::shown(path)).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Self::Provider(_) => f.write_str("[a provider]"),
        }
    }
}

/// In a file of settings: the secret itself, `{ file = "path" }`, or `{ env = "NAME" }`.
impl<'de> Deserialize<'de> for SecretOrigin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InFile)
    }
}

struct InFile;

impl<'de> Visitor<'de> for InFile {
    type Value = SecretOrigin;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a string, or a table like { file = "path" } or { env = "NAME" }"#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretOrigin, E> {
        Text.visit_str(text).map(SecretOrigin::Value)
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<SecretOrigin, E> {
        Text.visit_string(text).map(SecretOrigin::Value)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<SecretOrigin, E> {
        Text.visit_u64(number).map(SecretOrigin::Value)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<SecretOrigin, E> {
        Text.visit_i64(number).map(SecretOrigin::Value)
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<SecretOrigin, E> {
        Text.visit_u128(number).map(SecretOrigin::Value)
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<SecretOrigin, E> {
        Text.visit_i128(number).map(SecretOrigin::Value)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<SecretOrigin, E> {
        Text.visit_f64(number).map(SecretOrigin::Value)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<SecretOrigin, E> {
        Text.visit_bool(value).map(SecretOrigin::Value)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretOrigin, A::Error> {
        const WAYS: &str = r#"expected { file = "path" } or { env = "NAME" }"#;
        let Some(key) = map.next_key::<String>()? else {
            return Err(de::Error::custom(format_args!("an empty table, {WAYS}")));
        };
        let origin = match key.as_str() {
            "file" => SecretOrigin::File(map.next_value::<Secret>()?.expose().into()),
            "env" => SecretOrigin::Env(map.next_value::<Secret>()?.expose().into()),
            // Not quoted: it may be the secret itself, in the wrong place.
            _ => return Err(de::Error::custom(format_args!("a table with an unknown key, {WAYS}"))),
        };
        match map.next_key::<de::IgnoredAny>()? {
            None => Ok(origin),
            Some(_) => Err(de::Error::custom(format_args!("a table with two keys, {WAYS}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_settings_names_a_value_a_file_or_a_variable() {
        for (text, shown) in [
            (r#""s3cret""#, "[redacted]"),
            ("4711", "[redacted]"),
            (r#"{"file": "/run/x"}"#, r#"File("/run/x")"#),
            (r#"{"env": "X"}"#, r#"Env("X")"#),
        ] {
            let origin: SecretOrigin = serde_json::from_str(text).unwrap();
            assert_eq!(format!("{origin:?}"), shown);
        }
        for wrong in [
            "[\"s3cret\"]",
            "{}",
            r#"{"s3cret": 1}"#,
            r#"{"file": "a", "s3cret": "b"}"#,
            "true",
            "1.5",
            "null",
        ] {
            let error = serde_json::from_str::<SecretOrigin>(wrong).unwrap_err().to_string();
            assert!(!error.contains("s3cret") && !error.contains("1.5"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_secret_that_is_not_known_yet_is_like_no_other_and_is_not_shown() {
        let open = || SecretOrigin::provider(|| async { Ok::<_, std::io::Error>("s3cret".to_owned()) });
        let (one, other) = (open().open("client_secret").unwrap(), open().open("client_secret").unwrap());
        let mark = |source: &SecretSource| {
            let mut parts = Vec::new();
            source.identify(&mut |part| parts.push(part.to_vec()));
            parts
        };
        assert_eq!(mark(&one), mark(&one));
        assert_ne!(mark(&one), mark(&other));
        one.read("client_secret").await.unwrap();
        other.read("client_secret").await.unwrap();
        assert_eq!(mark(&one), mark(&other));
        assert_eq!(mark(&one), [b"s3cret"]);
        let SecretSource::Provider { last, .. } = &one else { unreachable!() };
        assert_eq!(format!("{last:?}"), "LastSecret([redacted])");
    }

    #[tokio::test]
    async fn each_origin_gives_the_secret_without_its_last_line_break() {
        let path = std::env::temp_dir().join(format!("tokenflight-origin-{}", std::process::id()));
        std::fs::write(&path, "s3cret\r\n").unwrap();
        let provider = SecretOrigin::provider(|| async { Ok::<_, std::io::Error>("s3cret\n".to_owned()) });
        for origin in
            [SecretOrigin::Value(Secret::new("s3cret\n")), SecretOrigin::File(path.clone()), provider]
        {
            let source = origin.open("client_secret").unwrap();
            assert_eq!(source.read("client_secret").await.unwrap().expose(), "s3cret");
            assert_eq!(source.last().unwrap().expose(), "s3cret");
        }
        std::fs::write(&path, "\n").unwrap();
        for (origin, what) in [
            (SecretOrigin::Value(Secret::new("\n")), "is empty"),
            (SecretOrigin::File(path.clone()), "is empty"),
            (SecretOrigin::File("/nowhere/at/all".into()), "cannot be read"),
            (SecretOrigin::Env("TOKENFLIGHT_NOT_SET".into()), "TOKENFLIGHT_NOT_SET"),
        ] {
            let error = origin.open("client_secret").err().unwrap();
            assert_eq!(error.field(), "client_secret");
            assert!(error.to_string().contains(what), "{error}");
        }
        std::fs::remove_file(path).unwrap();
        let failing = SecretOrigin::provider(|| async { Err(std::io::Error::other("sealed")) });
        let error = failing.open("client_secret").unwrap().read("client_secret").await.unwrap_err();
        assert!(error.to_string().contains("the provider of `client_secret` failed: sealed"), "{error}");
    }
}
