//! How a client proves its identity to the token endpoint: one function on the form and the headers of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::SourceError;
use crate::secret::Secret;
use crate::secret::files::FromFiles;
#[cfg(feature = "registry")]
use crate::secret::origin::LastSecret;
use crate::secret::origin::SecretSource;
use crate::source::{BoxSource, FetchContext, TokenSource};
use crate::transport::form::encode_value;
use crate::transport::{Form, Request};

use super::assertion::{Rules, unix};
use super::discovery::Server;
use super::jws::{Header, HmacKey, SigningKey};
use super::key_source::KeySource;

/// How a client proves its identity (RFC 6749 section 2.3, RFC 7523, RFC 8705).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClientAuth {
    /// `client_secret_basic`: id and secret in the `Authorization` header by HTTP Basic, each form-encoded first
    /// (RFC 6749 section 2.3.1). Every server must support it. Some servers do not decode, and reject an id or
    /// secret with special characters. For these there are [`BasicRaw`](Self::BasicRaw) and [`Body`](Self::Body).
    #[default]
    #[serde(alias = "client_secret_basic")]
    Basic,
    /// The same without the form encoding.
    BasicRaw,
    /// `client_secret_post`: in the body, as `client_id` and `client_secret`.
    #[serde(alias = "client_secret_post")]
    Body,
    /// A JWT that is signed with the secret, by HS256 (RFC 7523 section 2.2).
    ClientSecretJwt,
    /// A JWT that is signed with a private key (RFC 7523 section 2.2).
    PrivateKeyJwt,
    /// A JWT that another system has signed: from a file, or from another source (workload identity federation).
    Assertion,
    /// The certificate of the TLS connection, issued by an authority that the server trusts (RFC 8705 section 2.1).
    TlsClientAuth,
    /// The certificate of the TLS connection, registered at the server (RFC 8705 section 2.2).
    SelfSignedTlsClientAuth,
    /// No proof: a public client, which sends only its id.
    None,
}

impl ClientAuth {
    /// Whether its proof contains a time.
    pub(super) fn is_timed(self) -> bool {
        matches!(self, Self::PrivateKeyJwt | Self::ClientSecretJwt)
    }

    /// The name in the registry of RFC 8414 section 2, if there is one.
    pub(super) fn registered_name(self) -> Option<&'static str> {
        Some(match self {
            Self::Basic => "client_secret_basic",
            Self::Body => "client_secret_post",
            Self::ClientSecretJwt => "client_secret_jwt",
            Self::PrivateKeyJwt | Self::Assertion => "private_key_jwt",
            Self::TlsClientAuth => "tls_client_auth",
            Self::SelfSignedTlsClientAuth => "self_signed_tls_client_auth",
            Self::BasicRaw | Self::None => return None,
        })
    }
}

/// The proof of the client's identity.
pub(super) enum Proof {
    /// By Basic, body, or a JWT. `None`: the server's document decides.
    Secret(Option<ClientAuth>, SecretSource),
    Key(KeySource),
    AssertionFile(Arc<FromFiles<Secret>>),
    AssertionSource(BoxSource),
    /// The connection itself.
    Certificate(ClientAuth),
    Nothing,
}

/// A client, as the authorization server knows it.
pub(super) struct ClientIdentity {
    pub(super) id: String,
    pub(super) proof: Proof,
    pub(super) id_in_body: bool,
    pub(super) rules: Rules,
    /// Whether the last proof that was sent contained a time. The server's document may choose such a proof.
    pub(super) was_timed: Arc<AtomicBool>,
}

/// A record of the proof that was sent, to find out later whether it has changed.
#[derive(PartialEq, Eq)]
pub(super) struct Sent {
    auth: ClientAuth,
    proof: Option<Secret>,
}

impl ClientIdentity {
    /// The method of its proof at this server.
    pub(super) fn auth(&self, server: Option<&Server>) -> ClientAuth {
        match &self.proof {
            Proof::Secret(Some(auth), _) | Proof::Certificate(auth) => *auth,
            Proof::Secret(None, _) => server.map_or(ClientAuth::Basic, Server::auth_with_secret),
            Proof::Key(_) => ClientAuth::PrivateKeyJwt,
            Proof::AssertionFile(_) | Proof::AssertionSource(_) => ClientAuth::Assertion,
            Proof::Nothing => ClientAuth::None,
        }
    }

    /// The algorithm of an assertion that this client signs.
    pub(super) fn algorithm(&self, auth: ClientAuth) -> Option<&'static str> {
        match &self.proof {
            Proof::Key(key) => Some(key.last().algorithm().as_str()),
            Proof::Secret(..) if auth == ClientAuth::ClientSecretJwt => Some("HS256"),
            _ => None,
        }
    }

    /// Whether the proof that was sent contains a time, by the server's clock.
    pub(super) fn is_timed(&self, sent: &Sent) -> bool {
        // The source may sign its token itself.
        matches!(self.proof, Proof::AssertionSource(_)) || sent.auth.is_timed()
    }

    /// Puts the proof into a request. `cx` has the server's clock, as far as it is known.
    pub(super) async fn prove(
        &self,
        request: &mut Request,
        form: &mut Form,
        server: &Server,
        cx: &FetchContext,
    ) -> Result<Sent, SourceError> {
        let now = cx.clock().now().wall;
        let auth = self.auth(Some(server));
        self.was_timed.store(auth.is_timed(), Ordering::Relaxed);
        let proof = match &self.proof {
            Proof::Secret(_, secret) => {
                let secret = secret.read("client_secret").await?;
                hide(request, secret.expose());
                match auth {
                    ClientAuth::Body => {
                        form.plain("client_id", &self.id);
                        form.secret("client_secret", secret.expose());
                    }
                    ClientAuth::ClientSecretJwt => {
                        let key = HmacKey::new(secret.clone());
                        let key = key.map_err(|error| SourceError::terminal(error.to_string()))?;
                        self.sign(form, &SigningKey::Secret(key), server, now)?;
                    }
                    _ => self.basic(request, form, &secret, auth == ClientAuth::BasicRaw)?,
                }
                Some(secret)
            }
            Proof::Key(key) => {
                let key = key.read().await;
                let sent = Secret::new(key.thumbprint());
                self.sign(form, &SigningKey::Private(key), server, now)?;
                Some(sent)
            }
            Proof::AssertionFile(file) => {
                let assertion = (*file.read().await).clone();
                self.assert(form, assertion.expose());
                Some(assertion)
            }
            Proof::AssertionSource(source) => {
                let token = source.token_for("the client assertion", cx).await?;
                self.assert(form, token.secret());
                Some(Secret::new(token.secret()))
            }
            Proof::Certificate(_) | Proof::Nothing => {
                form.plain("client_id", &self.id);
                None
            }
        };
        Ok(Sent { auth, proof })
    }

    /// Keeps the provider's secret in this place, and whether the last proof contained a time in the other one.
    #[cfg(feature = "registry")]
    pub(super) fn remember_in(&mut self, place: &LastSecret, was_timed: Arc<AtomicBool>) {
        self.was_timed = was_timed;
        if let Proof::Secret(_, secret) = &mut self.proof {
            secret.remember_in(place);
        }
    }

    /// The source that makes its assertions.
    pub(super) fn link(&self) -> Option<&BoxSource> {
        match &self.proof {
            Proof::AssertionSource(source) => Some(source),
            _ => None,
        }
    }

    /// Whether the proof differs from the sent one, because its file or its provider gives another one now.
    pub(super) async fn has_changed(&self, sent: &Sent) -> bool {
        let now = match &self.proof {
            Proof::Secret(_, SecretSource::Fixed(_)) => return false,
            Proof::Secret(_, secret) => match secret.read("client_secret").await {
                Ok(secret) => Some(secret),
                Err(_) => return false,
            },
            Proof::Key(key @ KeySource::Files(_)) => Some(Secret::new(key.read().await.thumbprint())),
            Proof::AssertionFile(file) => Some((*file.read().await).clone()),
            _ => return false,
        };
        now != sent.proof
    }

    /// The credential of its proof, for callers that must distinguish two proofs.
    pub(super) fn credential(&self, now: SystemTime, part: &mut dyn FnMut(&[u8])) {
        match &self.proof {
            Proof::Secret(_, secret) => secret.identify(part),
            Proof::Key(key) => part(key.last().thumbprint().as_bytes()),
            Proof::AssertionFile(file) => part(file.last().expose().as_bytes()),
            Proof::AssertionSource(source) => source.credential(part),
            Proof::Certificate(_) | Proof::Nothing => part(self.id.as_bytes()),
        }
        // A process with a wrong clock is refused because of its clock.
        if self.auth(None).is_timed() || self.was_timed.load(Ordering::Relaxed) {
            part(&(unix(now) / 60).to_be_bytes());
        }
    }

    /// A new assertion each time.
    fn sign(
        &self,
        form: &mut Form,
        key: &SigningKey,
        server: &Server,
        now: SystemTime,
    ) -> Result<(), SourceError> {
        let issuer = server.issuer.as_deref();
        let claims = self.rules.claims(&self.id, issuer, server.token_endpoint.url(), now)?;
        let header = Header { typ: Some(self.rules.typ()), ..Header::default() };
        self.assert(form, &key.sign(header, &claims)?);
        Ok(())
    }

    /// RFC 7521 section 4.2.
    fn assert(&self, form: &mut Form, jwt: &str) {
        form.plain("client_id", &self.id);
        form.plain("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        form.secret("client_assertion", jwt);
    }

    fn basic(
        &self,
        request: &mut Request,
        form: &mut Form,
        secret: &Secret,
        is_raw: bool,
    ) -> Result<(), SourceError> {
        let credentials = credentials(&self.id, secret.expose(), is_raw);
        hide(request, &credentials);
        request.headers.insert(AUTHORIZATION, basic_value(&credentials));
        if is_raw && self.id.contains(':') {
            let message =
                "`client_id` has a colon in it, which HTTP Basic cannot carry without form encoding";
            return Err(SourceError::terminal(message));
        }
        if self.id_in_body {
            form.plain("client_id", &self.id);
        }
        Ok(())
    }
}

fn hide(request: &mut Request, text: &str) {
    request.redactor.hide(Zeroizing::new(text.to_owned()));
    request.redactor.hide(encode_value(text));
}

/// `base64(form(id) ":" form(secret))`, or without the forms.
///
/// A space becomes `%20`, not `+`: every form decoder reads it, and some servers decode the rest of the form but
/// not a `+`.
fn credentials(id: &str, secret: &str, is_raw: bool) -> Zeroizing<String> {
    let form = |text: &str| {
        let text = Zeroizing::new(if is_raw { text.to_owned() } else { encode_value(text).to_string() });
        if is_raw { text } else { Zeroizing::new(text.replace('+', "%20")) }
    };
    let (id, secret) = (form(id), form(secret));
    let mut plain = Zeroizing::new(String::with_capacity(id.len() + 1 + secret.len()));
    plain.push_str(&id);
    plain.push(':');
    plain.push_str(&secret);
    // Four characters for three bytes, rounded up: the buffer never moves.
    let mut encoded = Zeroizing::new(String::with_capacity(plain.len().div_ceil(3) * 4));
    STANDARD.encode_string(plain.as_bytes(), &mut encoded);
    encoded
}

/// In one wiped buffer.
fn basic_value(credentials: &str) -> HeaderValue {
    let mut text = Zeroizing::new(String::with_capacity("Basic ".len() + credentials.len()));
    text.push_str("Basic ");
    text.push_str(credentials);
    let bytes = Bytes::from_owner(Zeroizing::new(std::mem::take(&mut *text).into_bytes()));
    // Base64 is visible ASCII, which every header can carry.
    let mut value =
        HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_encodes_id_and_secret_as_a_form_first() {
        for (id, secret, is_raw, plain) in [
            ("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw", false, "s6BhdRkqt3:7Fjfp0ZBr1KtDRbnfVdmIw"),
            ("a:b", "c d+", false, "a%3Ab:c%20d%2B"),
            ("ö", "+%&=/~*", false, "%C3%B6:%2B%25%26%3D%2F%7E*"),
            ("ö", "+%&=/~*", true, "ö:+%&=/~*"),
        ] {
            let value = basic_value(&credentials(id, secret, is_raw));
            assert!(value.is_sensitive());
            let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
            assert_eq!(String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap(), plain);
        }
    }

    #[test]
    fn each_method_has_the_name_of_the_standard_in_a_file_too() {
        for name in [
            "basic",
            "client_secret_basic",
            "basic_raw",
            "body",
            "client_secret_post",
            "client_secret_jwt",
            "private_key_jwt",
            "assertion",
            "tls_client_auth",
            "self_signed_tls_client_auth",
            "none",
        ] {
            let auth: ClientAuth = serde_json::from_value(name.into()).unwrap();
            if name.contains('_') && name != "basic_raw" {
                assert_eq!(auth.registered_name(), Some(name));
            }
        }
    }
}
