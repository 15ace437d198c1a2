//! A private key that may change while the program runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use crate::error::BuildError;
use crate::secret::files::FromFiles;
use crate::secret::origin::SecretOrigin;

use super::jws::PrivateKey;

/// The setting `private_key`. In a file: the text in PEM, or `{ file = "path" }`, or `{ env = "NAME" }`.
#[derive(Clone)]
pub(crate) enum KeyOrigin {
    Key(PrivateKey),
    Text(SecretOrigin),
}

impl KeyOrigin {
    /// The key, which does not change. The key of a file is that of its first read.
    pub(crate) fn read(self) -> Result<PrivateKey, BuildError> {
        const FIELD: &str = "private_key";
        match self {
            Self::Key(key) => Ok(key),
            // A PEM text ends with a line break.
            Self::Text(SecretOrigin::Value(text)) => PrivateKey::from_pem(text.expose()),
            Self::Text(origin) => {
                let text = origin.open(FIELD)?.last();
                let text = text.ok_or_else(|| BuildError::new(FIELD, "is not known yet"))?;
                PrivateKey::from_pem(text.expose())
            }
        }
    }
}

impl<'de> Deserialize<'de> for KeyOrigin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SecretOrigin::deserialize(deserializer).map(Self::Text)
    }
}

/// Without the key.
impl fmt::Debug for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Text(origin) => origin.fmt(f),
        }
    }
}

/// A private key that may change.
pub(crate) enum KeySource {
    Fixed(PrivateKey),
    Files(Arc<FromFiles<PrivateKey>>),
}

impl KeySource {
    /// The key of `private_key` or of `private_key_file`: `None` if neither is set. `finish` checks the key and
    /// completes it. An error names the setting.
    pub(crate) fn open(
        key: Option<KeyOrigin>,
        file: Option<PathBuf>,
        finish: impl Fn(PrivateKey) -> Result<PrivateKey, BuildError> + Send + Sync + 'static,
    ) -> Result<Option<Self>, BuildError> {
        match (key, file) {
            (Some(_), Some(_)) => Err(BuildError::new(
                "private_key_file",
                "cannot be combined with `private_key`: use one of them",
            )),
            (Some(KeyOrigin::Text(SecretOrigin::File(path))), None) => {
                Self::file("private_key", path, finish).map(Some)
            }
            (Some(key), None) => finish(key.read()?).map(Self::Fixed).map(Some),
            (None, Some(path)) => Self::file("private_key_file", path, finish).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// A key in a PEM file, which is read now, and again for each use.
    fn file(
        field: &'static str,
        path: PathBuf,
        finish: impl Fn(PrivateKey) -> Result<PrivateKey, BuildError> + Send + Sync + 'static,
    ) -> Result<Self, BuildError> {
        let files = FromFiles::new(vec![path], move |parts| {
            let pem = parts.first().map(|part| part.as_slice()).unwrap_or_default();
            PrivateKey::from_pem(pem).and_then(&finish).map_err(|error| error.to_string())
        });
        files.map(Self::Files).map_err(|what| BuildError::new(field, what))
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
                files.paths().iter().for_each(|path| part("key_file", &path.to_string_lossy()));
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
