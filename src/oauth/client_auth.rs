//! How a client proves to the token endpoint who it is (RFC 6749 section 2.3.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::BuildError;
use crate::secret::Secret;
use crate::transport::Redactor;
use crate::transport::form::encode_value;

/// Where the client's id and secret stand in the request (RFC 6749 section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClientAuth {
    /// In the `Authorization` header by HTTP Basic, each form-encoded first as the section asks for. Every
    /// server has to support it; some forget to decode, and reject an id or secret with odd characters:
    /// for those there is [`Body`](Self::Body). Also known as `client_secret_basic`.
    #[default]
    Basic,
    /// In the body, as `client_id` and `client_secret`. Also known as `client_secret_post`.
    Body,
}

/// A client, as it is known at the authorization server.
pub(crate) struct ClientIdentity {
    id: String,
    secret: Secret,
    auth: ClientAuth,
}

impl ClientIdentity {
    pub(crate) fn new(id: String, secret: Secret, auth: ClientAuth) -> Result<Self, BuildError> {
        if id.is_empty() {
            return Err(BuildError::new("client_id", "is empty"));
        }
        if secret.expose().is_empty() {
            return Err(BuildError::new(
                "client_secret",
                "is empty: only a client with a secret may use this grant (RFC 6749 section 4.4)",
            ));
        }
        Ok(Self { id, secret, auth })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn auth(&self) -> ClientAuth {
        self.auth
    }

    /// The value of the `Authorization` header, in one wiped buffer.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        (self.auth == ClientAuth::Basic).then(|| {
            let credentials = self.credentials();
            let mut text = Zeroizing::new(String::with_capacity("Basic ".len() + credentials.len()));
            text.push_str("Basic ");
            text.push_str(&credentials);
            let bytes = Bytes::from_owner(Zeroizing::new(std::mem::take(&mut *text).into_bytes()));
            // Base64 is visible ASCII, which every header may hold.
            let mut value =
                HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| HeaderValue::from_static("Basic"));
            value.set_sensitive(true);
            value
        })
    }

    /// What the body has to hold.
    pub(super) fn parameters(&self) -> Vec<(&str, &str)> {
        match self.auth {
            ClientAuth::Basic => Vec::new(),
            ClientAuth::Body => vec![("client_id", &self.id), ("client_secret", self.secret.expose())],
        }
    }

    /// What the client proves its identity by.
    pub(crate) fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        part(self.secret.expose().as_bytes());
    }

    /// Hides the secret, in each form in which it is sent.
    pub(super) fn redactor(&self) -> Redactor {
        let mut redactor = Redactor::default();
        redactor.hide(Zeroizing::new(self.secret.expose().to_owned()));
        redactor.hide(encode_value(self.secret.expose()));
        redactor.hide(self.credentials());
        redactor
    }

    /// `base64(form(id) ":" form(secret))`.
    fn credentials(&self) -> Zeroizing<String> {
        let (id, secret) = (encode_value(&self.id), encode_value(self.secret.expose()));
        let mut plain = Zeroizing::new(String::with_capacity(id.len() + 1 + secret.len()));
        plain.push_str(&id);
        plain.push(':');
        plain.push_str(&secret);
        // Four characters for three bytes, rounded up: the buffer never moves.
        let mut encoded = Zeroizing::new(String::with_capacity(plain.len().div_ceil(3) * 4));
        STANDARD.encode_string(plain.as_bytes(), &mut encoded);
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: &str, secret: &str, auth: ClientAuth) -> ClientIdentity {
        ClientIdentity::new(id.into(), Secret::new(secret), auth).unwrap()
    }

    #[test]
    fn basic_encodes_id_and_secret_as_a_form_first() {
        for (id, secret, plain) in [
            ("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw", "s6BhdRkqt3:7Fjfp0ZBr1KtDRbnfVdmIw"),
            ("a:b", "c d", "a%3Ab:c+d"),
            ("ö", "+%&=/~*", "%C3%B6:%2B%25%26%3D%2F%7E*"),
        ] {
            let value = identity(id, secret, ClientAuth::Basic).authorization().unwrap();
            assert!(value.is_sensitive());
            let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
            assert_eq!(String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap(), plain);
        }
    }

    #[test]
    fn the_secret_stands_in_one_place_only() {
        assert!(identity("id", "secret", ClientAuth::Basic).parameters().is_empty());
        let body = identity("id", "secret", ClientAuth::Body);
        assert_eq!(body.parameters(), [("client_id", "id"), ("client_secret", "secret")]);
        assert!(body.authorization().is_none());
    }

    #[test]
    fn an_empty_id_or_secret_is_refused_by_name() {
        for (id, secret, field) in [("", "secret", "client_id"), ("id", "", "client_secret")] {
            let result = ClientIdentity::new(id.into(), Secret::new(secret), ClientAuth::Basic);
            assert_eq!(result.err().unwrap().field(), field);
        }
    }
}
