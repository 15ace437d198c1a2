//! A private key that may change while the program runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::error::BuildError;
use crate::secret::files::FromFiles;
use crate::secret::path::shown;
use crate::secret::place::SecretPlace;

use super::jws::PrivateKey;

/// The setting `private_key`. In a file: the text in PEM, or `{ file = "path" }`, or `{ env = "NAME" }`.
#[derive(Clone)]
pub(crate) enum KeyOrigin {
    Key(PrivateKey),
    Text(SecretPlace),
}

impl KeyOrigin {
    /// The key, which does not change. The key of a file is that of its first read.
    pub(crate) fn read(self) -> Result<PrivateKey, BuildError> {
        const FIELD: &str = "private_key";
        match self {
            Self::Key(key) => Ok(key),
            Self::Text(place) => PrivateKey::from_pem(place.pem(FIELD)?.expose()),
        }
    }
}

impl<'de> Deserialize<'de> for KeyOrigin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SecretPlace::deserialize(deserializer).map(Self::Text)
    }
}

/// Without the key.
impl fmt::Debug for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Text(place) => place.fmt(f),
        }
    }
}

/// The setting with the certificate of the key.
const CERTIFICATE: &str = "key_certificate_file";

fn with_certificate(key: PrivateKey, pem: &[u8]) -> Result<PrivateKey, BuildError> {
    key.with_certificate(pem).map_err(|error| error.about(CERTIFICATE))
}

/// A private key that may change.
pub(crate) enum KeySource {
    Fixed(PrivateKey),
    Files(Arc<FromFiles<PrivateKey>>),
}

impl KeySource {
    /// The key of `private_key` or of `private_key_file`: `None` if neither is set. It gets the certificate of this
    /// file (the setting `key_certificate_file`), if there is one. `finish` checks the key and completes it. An error
    /// names the setting.
    pub(crate) fn open(
        key: Option<KeyOrigin>,
        file: Option<PathBuf>,
        certificate: Option<PathBuf>,
        finish: impl Fn(PrivateKey) -> Result<PrivateKey, BuildError> + Send + Sync + 'static,
    ) -> Result<Option<Self>, BuildError> {
        match (key, file) {
            (Some(_), Some(_)) => Err(BuildError::new(
                "private_key_file",
                "cannot be combined with `private_key`: use one of them",
            )),
            (Some(KeyOrigin::Text(SecretPlace::File(path))), None) => {
                Self::files("private_key", path, certificate, finish).map(Some)
            }
            (Some(key), None) => Self::fixed(key.read()?, certificate, finish).map(Some),
            (None, Some(path)) => Self::files("private_key_file", path, certificate, finish).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn fixed(
        key: PrivateKey,
        certificate: Option<PathBuf>,
        finish: impl Fn(PrivateKey) -> Result<PrivateKey, BuildError>,
    ) -> Result<Self, BuildError> {
        let Some(path) = certificate else { return finish(key).map(Self::Fixed) };
        let pem = std::fs::read(&path).map_err(|error| {
            let message = format!("needs the file {}, which cannot be read: {error}", shown(&path));
            BuildError::new(CERTIFICATE, message)
        })?;
        finish(with_certificate(key, &pem)?).map(Self::Fixed)
    }

    /// A key in a PEM file, and perhaps its certificate in another one. They are read now, and again for each use.
    fn files(
        field: &'static str,
        path: PathBuf,
        certificate: Option<PathBuf>,
        finish: impl Fn(PrivateKey) -> Result<PrivateKey, BuildError> + Send + Sync + 'static,
    ) -> Result<Self, BuildError> {
        let certificate = certificate.map(|path| (CERTIFICATE, path));
        let paths = std::iter::once((field, path)).chain(certificate).collect();
        let make = move |parts: &[Zeroizing<Vec<u8>>]| {
            let mut key = PrivateKey::from_pem(parts.first().map(|part| part.as_slice()).unwrap_or_default())
                .map_err(|error| error.about(field))?;
            if let Some(certificate) = parts.get(1) {
                key = with_certificate(key, certificate)?;
            }
            finish(key)
        };
        FromFiles::new(paths, make).map(Self::Files)
    }

    pub(crate) async fn read(&self) -> PrivateKey {
        match self {
            Self::Fixed(key) => key.clone(),
            Self::Files(files) => (*files.read().await).clone(),
        }
    }

    /// What decides a JWT that the key signs. A file is named by its path: the key in it may be replaced while other
    /// processes still have the one before.
    pub(crate) fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        let key = self.last();
        match self {
            Self::Fixed(_) => part("key", &key.thumbprint()),
            Self::Files(files) => {
                files.paths().for_each(|path| part("key_file", &path.to_string_lossy()));
            }
        }
        part("alg", key.algorithm().as_str());
        part("kid", key.kid().unwrap_or_default());
        part("x5t#S256", key.certificate_hash().unwrap_or_default());
    }

    /// The key of the last read.
    pub(crate) fn last(&self) -> PrivateKey {
        match self {
            Self::Fixed(key) => key.clone(),
            Self::Files(files) => (*files.last()).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_neither_in_debug_nor_in_errors() {
        let pem = include_str!("jws/tests/keys/p256.pem");
        for (text, shown) in [
            (serde_json::json!(pem), "[redacted]".to_owned()),
            (serde_json::json!({ "env": "KEY" }), r#"Env("KEY")"#.to_owned()),
        ] {
            let origin: KeyOrigin = serde_json::from_value(text).unwrap();
            assert_eq!(format!("{origin:?}"), shown);
        }
        let key = KeyOrigin::Key(PrivateKey::from_pem(pem).unwrap());
        assert!(!format!("{key:?}").contains("MI"), "{key:?}");
        for wrong in [serde_json::json!("s3cret"), serde_json::json!(4711)] {
            let origin: KeyOrigin = serde_json::from_value(wrong).unwrap();
            let error = origin.read().unwrap_err();
            assert_eq!(error.field(), "private_key", "{error}");
            assert!(!error.to_string().contains("s3cret") && !error.to_string().contains("4711"), "{error}");
        }
    }
}
