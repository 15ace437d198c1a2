//! The certificate of a client.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::secret::path::shown;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_shows_nothing_of_its_key() {
        assert_eq!(format!("{:?}", Certificate::from_pem("s3cret")), "Certificate([redacted])");
        assert_eq!(format!("{:?}", Certificate::from_files("a", "b")), r#"Certificate(["a", "b"])"#);
    }
}
