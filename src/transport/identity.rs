//! The certificate that an HTTP client presents in the TLS handshake.

use reqwest::ClientBuilder;

/// A certificate with its private key, for the TLS library that is built in. Of two libraries rustls is taken, if it has
/// a provider of cryptography of its own.
#[cfg(any(feature = "native-tls", feature = "rustls", feature = "rustls-no-provider"))]
#[derive(Clone)]
pub(super) struct Identity(reqwest::Identity);

#[cfg(any(feature = "native-tls", feature = "rustls", feature = "rustls-no-provider"))]
impl Identity {
    /// From PEM with the certificate, its chain and the key.
    #[cfg(feature = "oauth2")]
    pub(super) fn parse(pem: &[u8]) -> Result<Self, String> {
        #[cfg(any(feature = "rustls", not(feature = "native-tls")))]
        let identity = reqwest::Identity::from_pem(pem);
        #[cfg(all(feature = "native-tls", not(feature = "rustls")))]
        let identity = reqwest::Identity::from_pkcs8_pem(pem, pem);
        identity.map(Self).map_err(|_| {
            "is not a certificate with its private key: both are needed, in PEM, the key without a password".to_owned()
        })
    }

    /// An identity belongs to one TLS library.
    pub(super) fn add_to(&self, builder: ClientBuilder) -> ClientBuilder {
        #[cfg(any(feature = "rustls", not(feature = "native-tls")))]
        let builder = builder.tls_backend_rustls();
        #[cfg(all(feature = "native-tls", not(feature = "rustls")))]
        let builder = builder.tls_backend_native();
        builder.identity(self.0.clone())
    }
}

/// Without TLS there is no certificate.
#[cfg(not(any(feature = "native-tls", feature = "rustls", feature = "rustls-no-provider")))]
#[derive(Clone)]
pub(super) enum Identity {}

#[cfg(not(any(feature = "native-tls", feature = "rustls", feature = "rustls-no-provider")))]
impl Identity {
    #[cfg(feature = "oauth2")]
    pub(super) fn parse(_pem: &[u8]) -> Result<Self, String> {
        Err("needs TLS: turn on tokenflight's feature `rustls` or `native-tls`".to_owned())
    }

    pub(super) fn add_to(&self, _builder: ClientBuilder) -> ClientBuilder {
        match *self {}
    }
}
