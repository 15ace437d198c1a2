//! Makes a client from the settings, after all checks that are possible before the first request.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::super::assertion::{Preset, Rules};
use super::super::certificate::{Certificate, CertificateOrigin};
use super::super::client::{Client, ServerOrigin};
use super::super::client_auth::{ClientAuth, ClientIdentity, Proof};
use super::super::discovery::{Discovery, Server};
use super::super::dpop::{ClientProofs, DpopSetting};
use super::super::jws::{HmacKey, PrivateKey};
use super::super::key_source::KeySource;
use super::ClientBuilder;
use crate::error::BuildError;
use crate::secret::Secret;
use crate::secret::files::FromFiles;
use crate::secret::place::cut;
use crate::transport::{Endpoint, HttpClient, Transport};

impl ClientBuilder {
    /// Checks the settings, and reads the files that they name.
    ///
    /// # Errors
    /// A setting that cannot work, or two that exclude each other. The error names the setting.
    pub fn build(mut self) -> Result<Client, BuildError> {
        self.client_id.truncate(cut("client_id", &self.client_id).len());
        if self.client_id.is_empty() {
            return Err(BuildError::new("client_id", "is empty"));
        }
        if self.auth_method == Some(ClientAuth::BasicRaw) && self.client_id.contains(':') {
            let message = "has a colon in it, by which HTTP Basic separates it from the secret (RFC 7617 section 2); \
                           `Basic` encodes it";
            return Err(BuildError::new("client_id", message));
        }
        self.check_preset()?;
        let has_certificate = self.certificate.is_some() || self.certificate_file.is_some();
        let server = self.server(has_certificate)?;
        let transport = self.transport()?;
        match &server {
            ServerOrigin::Fixed(server) => transport.check(&server.token_endpoint)?,
            ServerOrigin::Discovered(discovery) => transport.check(discovery.issuer())?,
        }
        let proof = self.proof(has_certificate)?;
        self.check_effects(&proof)?;
        let proofs = self.dpop.take().map(DpopSetting::open).transpose()?.map(ClientProofs::new);
        let rules = Rules { audience: self.assertion_audience, preset: self.preset };
        let identity = ClientIdentity {
            id: self.client_id,
            proof,
            id_in_body: self.client_id_in_body,
            rules,
            was_timed: Arc::default(),
        };
        Ok(Client::new(identity, server, transport, proofs))
    }

    fn check_preset(&self) -> Result<(), BuildError> {
        let length = self.client_id.chars().count();
        match self.preset.and_then(Preset::longest_id) {
            Some(longest) if length > longest => Err(BuildError::new(
                "client_id",
                format!("has {length} characters: this server takes at most {longest} in an assertion"),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses settings that have no effect with this proof. The settings of a key are gone if there is a key.
    fn check_effects(&self, proof: &Proof) -> Result<(), BuildError> {
        let of_a_key = [
            ("key_id", self.key_id.is_some()),
            ("algorithm", self.algorithm.is_some()),
            ("key_certificate_file", self.key_certificate_file.is_some()),
        ];
        if let Some((name, _)) = of_a_key.into_iter().find(|(_, is_set)| *is_set) {
            let message = "is for a key, and this client has none: give `private_key` or `private_key_file`, or leave \
                           this setting out";
            return Err(BuildError::new(name, message));
        }
        let signs = match proof {
            Proof::Key(_) => true,
            Proof::Secret(Some(auth), _) => *auth == ClientAuth::ClientSecretJwt,
            // The issuer's document may ask for a JWT.
            Proof::Secret(None, _) => self.issuer.is_some(),
            _ => false,
        };
        let of_a_jwt =
            [("preset", self.preset.is_some()), ("assertion_audience", self.assertion_audience.is_some())];
        match of_a_jwt.into_iter().find(|(_, is_set)| *is_set && !signs) {
            Some((name, _)) => Err(BuildError::new(
                name,
                "is for a JWT that the client signs, and this client signs none: give `private_key` or \
                 `private_key_file`, or set `auth_method` to `client_secret_jwt`, or leave this setting out",
            )),
            None => Ok(()),
        }
    }

    fn server(&mut self, has_certificate: bool) -> Result<ServerOrigin, BuildError> {
        match (self.token_url.take(), &self.issuer) {
            (Some(url), None) => {
                let endpoint = Endpoint::parse("token_url", url.expose())?;
                endpoint.check_plaintext(self.allow_http)?;
                if has_certificate && endpoint.url().scheme() != "https" {
                    let message = "is shown in the TLS handshake only: the address has to be https";
                    return Err(BuildError::new("certificate", message));
                }
                Ok(ServerOrigin::Fixed(Box::new(Server::at(endpoint))))
            }
            (None, Some(issuer)) => {
                let discovery = Discovery::new(issuer, self.allow_http, has_certificate)?;
                Ok(ServerOrigin::Discovered(Box::new(discovery)))
            }
            (Some(_), Some(_)) => Err(BuildError::new(
                "issuer",
                "excludes `token_url`: the issuer's document names the endpoint",
            )),
            (None, None) => Err(BuildError::new("token_url", "is missing: give it, or `issuer`")),
        }
    }

    fn transport(&mut self) -> Result<Transport, BuildError> {
        let (settings, limits) = self.http_settings();
        let (certificate, fields) = self.take_certificate()?;
        let http = match certificate.map(|certificate| certificate.0) {
            None => HttpClient::new(settings)?,
            Some(CertificateOrigin::Pem(pem)) => HttpClient::with_certificate(settings, &pem)?,
            Some(CertificateOrigin::Files(paths)) => {
                let mut files: Vec<_> = fields.into_iter().zip(paths).collect();
                files.dedup_by(|(_, key), (_, certificate)| key == certificate);
                HttpClient::with_certificate_files(settings, files)?
            }
        };
        Transport::new(http, limits)
    }

    /// The certificate, and the settings with its files.
    fn take_certificate(&mut self) -> Result<(Option<Certificate>, [&'static str; 2]), BuildError> {
        const FILES: [&str; 2] = ["certificate_file", "certificate_key_file"];
        let (given, key) = (self.certificate.take(), self.certificate_key.take());
        let (file, key_file) = (self.certificate_file.take(), self.certificate_key_file.take());
        let refused = |field, message| Err(BuildError::new(field, message));
        match (given, file) {
            (Some(_), Some(_)) => {
                refused(FILES[0], "excludes `certificate`: a client presents one certificate")
            }
            (None, _) if key.is_some() => refused("certificate_key", "needs a `certificate` beside it"),
            (_, None) if key_file.is_some() => refused(FILES[1], "needs a `certificate_file` beside it"),
            (Some(certificate), None) => {
                let fields = if certificate.is_given() { FILES } else { ["certificate", "certificate_key"] };
                Ok((Some(certificate.open(key)?), fields))
            }
            (None, Some(path)) => {
                let key_file = key_file.unwrap_or_else(|| path.clone());
                Ok((Some(Certificate::from_files(path, key_file)), FILES))
            }
            (None, None) => Ok((None, FILES)),
        }
    }

    /// The one proof that was set.
    fn proof(&mut self, has_certificate: bool) -> Result<Proof, BuildError> {
        use ClientAuth as Auth;
        let wanted = self.auth_method;
        let given = [
            ("client_secret", self.client_secret.is_some()),
            ("private_key", self.private_key.is_some()),
            ("private_key_file", self.private_key_file.is_some()),
            ("assertion", self.assertion.is_some()),
            ("assertion_file", self.assertion_file.is_some()),
        ];
        let mut given = given.into_iter().filter_map(|(name, is_given)| is_given.then_some(name));
        let first = given.next();
        if let (Some(first), Some(second)) = (first, given.next()) {
            let message = format!("cannot be combined with `{first}`: choose one proof of identity");
            return Err(BuildError::new(second, message));
        }
        let misfit = |needed: &str| {
            let given = first.map_or_else(|| "nothing was".to_owned(), |first| format!("`{first}` was"));
            Err(BuildError::new("auth_method", format!("needs {needed}, and {given} given")))
        };
        if let Some(secret) = self.client_secret.take() {
            let is_fitting = matches!(
                wanted,
                None | Some(Auth::Basic | Auth::BasicRaw | Auth::Body | Auth::ClientSecretJwt)
            );
            return if is_fitting {
                let secret = secret.open("client_secret")?;
                if let (Some(Auth::ClientSecretJwt), Some(secret)) = (wanted, secret.last()) {
                    HmacKey::new(secret)?;
                }
                Ok(Proof::Secret(wanted, secret))
            } else {
                misfit("another proof than a secret")
            };
        }
        if first == Some("private_key") || first == Some("private_key_file") {
            return match wanted {
                None | Some(Auth::PrivateKeyJwt) => self.key_proof().map(Proof::Key),
                Some(_) => misfit("another proof than a key"),
            };
        }
        if first.is_some() && !matches!(wanted, None | Some(Auth::Assertion | Auth::PrivateKeyJwt)) {
            return misfit("another proof than an assertion");
        }
        if let Some(source) = self.assertion.take() {
            return Ok(Proof::AssertionSource(source));
        }
        if let Some(path) = self.assertion_file.take() {
            const FIELD: &str = "assertion_file";
            let shown = crate::secret::path::shown(&path);
            let make = move |parts: &[Zeroizing<Vec<u8>>]| {
                let bytes = parts.first().map(|part| part.as_slice()).unwrap_or_default();
                let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
                if text.is_empty() {
                    let message = format!("needs an assertion, but the file {shown} is empty, or not UTF-8");
                    return Err(BuildError::new(FIELD, message));
                }
                Ok(Secret::new(text))
            };
            return FromFiles::new(vec![(FIELD, path)], make).map(Proof::AssertionFile);
        }
        match wanted {
            None | Some(Auth::TlsClientAuth) if has_certificate => {
                Ok(Proof::Certificate(Auth::TlsClientAuth))
            }
            Some(Auth::SelfSignedTlsClientAuth) if has_certificate => {
                Ok(Proof::Certificate(Auth::SelfSignedTlsClientAuth))
            }
            Some(Auth::None) => Ok(Proof::Nothing),
            None => Err(BuildError::new(
                "client_secret",
                "is missing: give a secret, a private key, an assertion or a certificate, or say that the client is \
                 `public`",
            )),
            Some(Auth::Basic | Auth::BasicRaw | Auth::Body | Auth::ClientSecretJwt) => {
                misfit("a `client_secret`")
            }
            Some(Auth::PrivateKeyJwt) => misfit("a `private_key`"),
            Some(Auth::Assertion) => misfit("an `assertion`"),
            Some(Auth::TlsClientAuth | Auth::SelfSignedTlsClientAuth) => misfit("a `certificate`"),
        }
    }

    fn key_proof(&mut self) -> Result<KeySource, BuildError> {
        let (kid, preset) = (self.key_id.take(), self.preset);
        let algorithm = self.algorithm.take();
        let finish = move |mut key: PrivateKey| {
            if let Some(kid) = &kid {
                key = key.with_kid(kid.clone());
            }
            let by_preset = || preset.filter(|_| key.algorithm().is_rsa()).map(Preset::rsa);
            if let Some(algorithm) = algorithm.or_else(by_preset) {
                key = key.with_algorithm(algorithm)?;
            }
            if preset.is_some_and(Preset::needs_certificate) && key.certificate_hash().is_none() {
                let message =
                    "is missing: this server finds the key by `x5t#S256`, which is made of its certificate";
                return Err(BuildError::new("key_certificate_file", message));
            }
            Ok(key)
        };
        let (key, file) = (self.private_key.take(), self.private_key_file.take());
        let key = KeySource::open(key, file, self.key_certificate_file.take(), finish)?;
        key.ok_or_else(|| BuildError::new("private_key", "is missing"))
    }
}
