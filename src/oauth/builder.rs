//! The settings of a client, from code or from a file.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use crate::duration;
use crate::secret::Secret;
use crate::secret::origin::SecretOrigin;
use crate::secret::path::shown;
use crate::secret::place::SecretPlace;
use crate::settings::{settings, some_text_or_number, text_or_number};
use crate::source::{BoxSource, TokenSource};
use crate::transport::{Configure, http_setters};

use super::assertion::{Audience, Preset};
use super::certificate::{Certificate, CertificateSetting};
use super::client_auth::ClientAuth;
#[cfg(feature = "dpop")]
use super::dpop::DpopKey;
use super::dpop::DpopSetting;
use super::jws::{Algorithm, PrivateKey};
use super::key_source::KeyOrigin;

mod check;

settings! {
    /// The settings of a [`Client`](super::Client), from code or by serde from a file.
    ///
    /// In a file, the names are those of the setters, except `client_secret` (setter `secret`), `assertion_audience`
    /// (setter `audience`), and `certificate_key`, `certificate_file` and `certificate_key_file` (setter
    /// [`certificate`](Self::certificate)). Closures and sources can only be set in code; in a table of
    /// [`SourceSettings`](crate::source::SourceSettings) the setter `assertion` is `client_assertion`. `client_id` is required, and one of `token_url` and `issuer`. A secret or a
    /// key is written as a value, or as `{ file = "path" }`, or as `{ env = "NAME" }`. Durations are written like
    /// `"10s"`. Unknown keys are refused.
    ///
    /// ```
    /// use tokenflight::oauth::ClientBuilder;
    ///
    /// let settings = r#"{
    ///     "token_url": "https://auth.example.com/token",
    ///     "client_id": "my-app",
    ///     "client_secret": "s3cret",
    ///     "auth_method": "client_secret_post",
    ///     "timeout": "3s"
    /// }"#;
    /// let client = serde_json::from_str::<ClientBuilder>(settings)?.build()?;
    /// let source = client.client_credentials().scope("orders.read").build()?;
    /// assert!(!format!("{client:?} {source:?}").contains("s3cret"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The crate builds the HTTP client, and a closure changes it:
    ///
    /// ```
    /// use tokenflight::oauth::Client;
    ///
    /// let client = Client::builder("https://auth.example.com/token", "my-app")
    ///     .secret("s3cret")
    ///     .http(|http| http.http1_only().user_agent("orders/1.0"))
    ///     .build()?;
    /// # let _ = client;
    /// # Ok::<(), tokenflight::BuildError>(())
    /// ```
    ///
    /// `Debug` hides the secrets, and the URL until it has been checked.
    #[derive(Clone)]
    #[must_use = "it does nothing until it is built"]
    pub struct ClientBuilder {
        /// The URL's query may contain a key. Therefore the URL is hidden until it has been checked.
        #[serde(default)]
        token_url: Option<Secret>,
        #[serde(default)]
        issuer: Option<String>,
        #[serde(deserialize_with = "text_or_number")]
        client_id: String,
        #[serde(default)]
        client_secret: Option<SecretOrigin>,
        #[serde(default)]
        auth_method: Option<ClientAuth>,
        #[serde(default)]
        client_id_in_body: bool,
        #[serde(default)]
        private_key: Option<KeyOrigin>,
        #[serde(default)]
        private_key_file: Option<PathBuf>,
        #[serde(default, deserialize_with = "some_text_or_number")]
        key_id: Option<String>,
        #[serde(default)]
        algorithm: Option<Algorithm>,
        #[serde(default)]
        key_certificate_file: Option<PathBuf>,
        #[serde(default)]
        dpop: Option<DpopSetting>,
        #[serde(default)]
        preset: Option<Preset>,
        #[serde(default)]
        assertion_audience: Option<Audience>,
        #[serde(default)]
        assertion_file: Option<PathBuf>,
        #[serde(skip)]
        assertion: Option<BoxSource>,
        #[serde(default)]
        certificate: Option<CertificateSetting>,
        #[serde(default)]
        certificate_key: Option<SecretPlace>,
        #[serde(default)]
        certificate_file: Option<PathBuf>,
        #[serde(default)]
        certificate_key_file: Option<PathBuf>,
        #[serde(default)]
        allow_http: bool,
        #[serde(default)]
        proxy: Option<Secret>,
        #[serde(skip)]
        http: Option<Configure>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        timeout: Option<Duration>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        connect_timeout: Option<Duration>,
        #[serde(default)]
        max_body: Option<usize>,
    }
}

impl ClientBuilder {
    pub(super) fn at(token_url: Option<String>, issuer: Option<String>, client_id: String) -> Self {
        Self {
            token_url: token_url.map(Secret::new),
            issuer,
            client_id,
            client_secret: None,
            auth_method: None,
            client_id_in_body: false,
            private_key: None,
            private_key_file: None,
            key_id: None,
            algorithm: None,
            key_certificate_file: None,
            dpop: None,
            preset: None,
            assertion_audience: None,
            assertion_file: None,
            assertion: None,
            certificate: None,
            certificate_key: None,
            certificate_file: None,
            certificate_key_file: None,
            allow_http: false,
            proxy: None,
            http: None,
            timeout: None,
            connect_timeout: None,
            max_body: None,
        }
    }

    #[cfg(feature = "registry")]
    pub(super) fn id_and_server(&self) -> (String, String) {
        let url = self.token_url.as_ref().map(|url| url.expose().to_owned());
        (self.client_id.clone(), url.or_else(|| self.issuer.clone()).unwrap_or_default())
    }

    /// Whether it takes long to [build](Self::build): it reads files, or makes its own HTTP client, which reads the
    /// certificates of the system.
    #[cfg(feature = "registry")]
    pub(super) fn blocks(&self) -> bool {
        let files = [
            &self.private_key_file,
            &self.key_certificate_file,
            &self.assertion_file,
            &self.certificate_file,
            &self.certificate_key_file,
        ];
        files.into_iter().any(Option::is_some)
            || self.certificate.is_some()
            || matches!(self.client_secret, Some(SecretOrigin::Place(SecretPlace::File(_))))
            || matches!(self.private_key, Some(KeyOrigin::Text(SecretPlace::File(_))))
            || self.dpop.as_ref().is_some_and(DpopSetting::is_file)
            || self.http.is_some()
            || self.proxy.is_some()
            || self.connect_timeout.is_some()
    }

    /// The client's secret. A line break at its end is cut off with a WARN.
    ///
    /// [`auth_method`](Self::auth_method) decides how it is sent.
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.client_secret = Some(SecretOrigin::Place(SecretPlace::Value(Secret::new(secret))));
        self
    }

    /// The secret in a file, without the line break at its end. The file is read again for each request. While it cannot
    /// be read, the last secret stays in use.
    pub fn secret_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.client_secret = Some(SecretOrigin::Place(SecretPlace::File(path.into())));
        self
    }

    /// The secret in an environment variable, which is read when the client is built.
    pub fn secret_env(mut self, name: impl Into<String>) -> Self {
        self.client_secret = Some(SecretOrigin::Place(SecretPlace::Env(name.into())));
        self
    }

    /// The secret from a provider, which is called for each request. Its error is a transient failure of the fetch,
    /// and is quoted.
    pub fn secret_fn<F, E>(mut self, provider: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.client_secret = Some(SecretOrigin::provider(provider));
        self
    }

    /// How the client proves its identity. Default: by the credential that was set. A client with a secret uses
    /// Basic, or a method that the server's document offers.
    pub fn auth_method(mut self, method: ClientAuth) -> Self {
        self.auth_method = Some(method);
        self
    }

    /// A public client, which has no proof of its identity.
    pub fn public(self) -> Self {
        self.auth_method(ClientAuth::None)
    }

    /// With HTTP Basic: also sends `client_id` in the body, as some servers require. Default: no.
    pub fn client_id_in_body(mut self, wanted: bool) -> Self {
        self.client_id_in_body = wanted;
        self
    }

    /// Signs an assertion for each request with this key: `private_key_jwt` (RFC 7523 section 2.2).
    pub fn private_key(mut self, key: PrivateKey) -> Self {
        self.private_key = Some(KeyOrigin::Key(key));
        self
    }

    /// The same with a key in a PEM file, which is read again for each request. While it cannot be read, the last key stays
    /// in use. See [`key_id`](Self::key_id), [`algorithm`](Self::algorithm) and
    /// [`key_certificate_file`](Self::key_certificate_file).
    pub fn private_key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.private_key_file = Some(path.into());
        self
    }

    /// The `kid` of the key. Default: the one from [`PrivateKey::with_kid`], if there is one.
    pub fn key_id(mut self, kid: impl Into<String>) -> Self {
        self.key_id = Some(kid.into());
        self
    }

    /// The algorithm of the key. Default: the preset's, or the key's own.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// The certificate of the key, in PEM, from which `x5t#S256` is made (RFC 7515 section 4.1.8). Default: none.
    pub fn key_certificate_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_certificate_file = Some(path.into());
        self
    }

    /// Requests tokens that are bound to this key (`DPoP`, RFC 9449). [`Token::apply`](crate::Token::apply) makes
    /// the proof that each request with such a token needs. Default: bearer tokens.
    ///
    /// In a file: `"dpop": "generate"`, `"dpop": { "key_file": "dpop.pem" }`, or `"dpop": { "key": .. }` with the text in
    /// PEM, `{ file = "path" }` or `{ env = "NAME" }`. Add `"algorithm"` there if an RSA key is to sign `PS256`. The key is
    /// read once.
    #[cfg(feature = "dpop")]
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.dpop = Some(DpopSetting::Key(key));
        self
    }

    /// The requirements of a well-known server on assertions. Default: those of the draft rfc7523bis.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.preset = Some(preset);
        self
    }

    /// The recipient of assertions. Default: the preset's, else the issuer if it is known, else the token URL.
    pub fn audience(mut self, audience: impl Into<Audience>) -> Self {
        self.assertion_audience = Some(audience.into());
        self
    }

    /// An assertion that another system has signed, in a file that is read again for each request (a projected service
    /// account token).
    pub fn assertion_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.assertion_file = Some(path.into());
        self
    }

    /// An assertion that another system has signed: the token of another source. The source may be the handle of
    /// another actor. Then the assertion is fetched only when it has expired.
    pub fn assertion(mut self, source: impl TokenSource) -> Self {
        self.assertion = Some(BoxSource::new(source));
        self
    }

    /// Proves the identity by this certificate in the TLS handshake (RFC 8705 section 2): `tls_client_auth`, or
    /// `self_signed_tls_client_auth` if [`auth_method`](Self::auth_method) says so. If another proof is set, the
    /// certificate is only presented.
    ///
    /// In a file: `certificate` and `certificate_key`, each as the text in PEM, `{ file = "path" }` or `{ env = "NAME" }`.
    /// `certificate_key` may be left out if the key is beside the certificate. Or two paths: `certificate_file` and
    /// `certificate_key_file`. If only files are named, they are read again for each request.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(CertificateSetting::Given(certificate));
        self
    }
}

http_setters!(ClientBuilder);

/// Without the HTTP client, because its closure has no `Debug`.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("token_url", &self.token_url)
            .field("issuer", &self.issuer.as_ref().map(|_| "[not checked yet]"))
            .field("client_id", &self.client_id)
            .field("client_secret", &self.client_secret)
            .field("auth_method", &self.auth_method)
            .field("private_key", &self.private_key)
            .field("private_key_file", &self.private_key_file.as_deref().map(shown))
            .field("preset", &self.preset)
            .field("assertion_audience", &self.assertion_audience)
            .field("certificate", &self.certificate)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_body", &self.max_body)
            .finish_non_exhaustive()
    }
}
