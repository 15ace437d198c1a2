//! A private key that may change while the program runs.

use std::path::PathBuf;
use std::sync::Arc;

use crate::secret::files::FromFiles;

use super::jws::PrivateKey;

/// A private key that may change.
pub(crate) enum KeySource {
    Fixed(PrivateKey),
    Files(Arc<FromFiles<PrivateKey>>),
}

impl KeySource {
    /// A key in a PEM file, which is read now, and again for each use. An error names the setting of the file.
    pub(crate) fn file(
        path: PathBuf,
        check: impl Fn(&PrivateKey) -> Result<(), String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let files = FromFiles::new(vec![path], move |parts| {
            let key = PrivateKey::from_pem(&parts[0]).map_err(|error| error.to_string())?;
            check(&key).map(|()| key)
        });
        files.map(Self::Files)
    }

    pub(crate) async fn read(&self) -> PrivateKey {
        match self {
            Self::Fixed(key) => key.clone(),
            Self::Files(files) => (*files.read().await).clone(),
        }
    }

    /// The key of the last read.
    pub(crate) fn last(&self) -> PrivateKey {
        match self {
            Self::Fixed(key) => key.clone(),
            Self::Files(files) => (*files.last()).clone(),
        }
    }
}
