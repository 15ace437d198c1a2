//! The certificate of a client.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::error::BuildError;
use crate::secret::path::shown;
use crate::secret::place::SecretPlace;

const CERTIFICATE: &str = "certificate";
const KEY: &str = "certificate_key";

/// A certificate and its private key, which prove a client's identity in the TLS handshake (RFC 8705).
///
/// `Debug` shows the origin, and nothing of the key.
#[derive(Clone)]
pub struct Certificate(pub(super) CertificateOrigin);

#[derive(Clone)]
pub(super) enum CertificateOrigin {
    Pem(Arc<Zeroizing<Vec<u8>>>),
    Files(Vec<PathBuf>),
}

impl Certificate {
    /// From PEM that holds the certificate, the rest of its chain, and the private key without a password.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Self {
        Self(CertificateOrigin::Pem(Arc::new(Zeroizing::new(pem.as_ref().to_vec()))))
    }

    /// From two files in PEM: the certificate with its chain, and the private key. They are read again for each
    /// request. New contents need a new TLS client. If only one of them has been replaced, certificate and key do
    /// not belong together. Then the old pair stays in use.
    pub fn from_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self(CertificateOrigin::Files(vec![certificate.into(), key.into()]))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            CertificateOrigin::Pem(_) => f.write_str("Certificate([redacted])"),
            CertificateOrigin::Files(paths) => {
                let paths: Vec<_> = paths.iter().map(|path| shown(path)).collect();
                f.debug_tuple("Certificate").field(&paths).finish()
            }
        }
    }
}

/// The settings `certificate` and `certificate_key`, from code or from a file.
#[derive(Clone)]
pub(super) enum CertificateSetting {
    Given(Certificate),
    Text(SecretPlace),
}

impl CertificateSetting {
    /// Whether it comes from code.
    pub(super) fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }

    /// The certificate with this key. The key may also stand beside the certificate. If nothing but files is named, the
    /// files are read again for each request. Otherwise all is read once.
    pub(super) fn open(self, key: Option<SecretPlace>) -> Result<Certificate, BuildError> {
        match (self, key) {
            (Self::Given(certificate), None) => Ok(certificate),
            (Self::Given(_), Some(_)) => {
                let message = "is for a `certificate` in the settings, and this one has its key";
                Err(BuildError::new(KEY, message))
            }
            (Self::Text(SecretPlace::File(path)), None) => Ok(Certificate::from_files(&path, &path)),
            (Self::Text(SecretPlace::File(path)), Some(SecretPlace::File(key))) => {
                Ok(Certificate::from_files(path, key))
            }
            (Self::Text(place), key) => {
                let mut pem = Zeroizing::new(place.pem(CERTIFICATE)?.expose().to_owned());
                if let Some(key) = key {
                    pem.push('\n');
                    pem.push_str(key.pem(KEY)?.expose());
                }
                Ok(Certificate::from_pem(pem.as_str()))
            }
        }
    }
}

impl<'de> Deserialize<'de> for CertificateSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SecretPlace::deserialize(deserializer).map(Self::Text)
    }
}

impl fmt::Debug for CertificateSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(certificate) => certificate.fmt(f),
            Self::Text(place) => place.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_shows_nothing_of_its_key() {
        assert_eq!(format!("{:?}", Certificate::from_pem("s3cret")), "Certificate([redacted])");
        assert_eq!(format!("{:?}", Certificate::from_files("a", "b")), r#"Certificate(["a", "b"])"#);
    }
}
