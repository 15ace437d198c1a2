//! The origin of a secret: a setting, a file, the environment, or a closure of the user's.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::Secret;
use super::files::FromFiles;
use super::place::{self, SecretPlace, checked, trim};
use crate::error::{BuildError, SourceError};

pub(crate) use super::place::cut;

type BoxError = Box<dyn StdError + Send + Sync>;
type Answer = Pin<Box<dyn Future<Output = Result<String, BoxError>> + Send>>;
type Provider = Arc<dyn Fn() -> Answer + Send + Sync>;

/// The origin of a secret, as it is configured.
#[derive(Clone)]
pub(crate) enum SecretOrigin {
    Place(SecretPlace),
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
        let refused = move |what: String| BuildError::new(field, what);
        Ok(match self {
            Self::Place(SecretPlace::File(path)) => {
                SecretSource::File(FromFiles::new(vec![(field, path.clone())], move |parts| {
                    let bytes = parts.first().map(|part| part.as_slice()).unwrap_or_default();
                    place::of_file(&path, bytes).map_err(|what| refused(format!("comes from a file: {what}")))
                })?)
            }
            Self::Place(place) => SecretSource::Fixed(place.secret(field).map_err(refused)?),
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

impl fmt::Debug for SecretOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => place.fmt(f),
            Self::Provider(_) => f.write_str("[a provider]"),
        }
    }
}

impl<'de> Deserialize<'de> for SecretOrigin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SecretPlace::deserialize(deserializer).map(Self::Place)
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
        for origin in [
            SecretOrigin::Place(SecretPlace::Value(Secret::new("s3cret\n"))),
            SecretOrigin::Place(SecretPlace::File(path.clone())),
            provider,
        ] {
            let source = origin.open("client_secret").unwrap();
            assert_eq!(source.read("client_secret").await.unwrap().expose(), "s3cret");
            assert_eq!(source.last().unwrap().expose(), "s3cret");
        }
        std::fs::write(&path, "\n").unwrap();
        for (origin, what) in [
            (SecretOrigin::Place(SecretPlace::Value(Secret::new("\n"))), "is empty"),
            (SecretOrigin::Place(SecretPlace::File(path.clone())), "is empty"),
            (SecretOrigin::Place(SecretPlace::File("/nowhere/at/all".into())), "cannot be read"),
            (SecretOrigin::Place(SecretPlace::Env("TOKENFLIGHT_NOT_SET".into())), "TOKENFLIGHT_NOT_SET"),
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
