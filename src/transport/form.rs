//! `application/x-www-form-urlencoded`, into memory that is wiped.

use bytes::Bytes;
use form_urlencoded::Serializer;
use zeroize::Zeroizing;

#[cfg(feature = "oauth2")]
use super::Redactor;
#[cfg(feature = "oauth2")]
use crate::secret::Secret;

/// The media type of [`encode`]'s bytes.
pub(crate) const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// A body of these parameters, in this order.
pub(crate) fn encode(pairs: &[(&str, &str)]) -> Bytes {
    // No byte becomes more than three. Therefore the buffer never moves and leaves no copy behind.
    let room = pairs.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let mut form = Serializer::new(String::with_capacity(room));
    form.extend_pairs(pairs);
    Bytes::from_owner(Zeroizing::new(form.finish().into_bytes()))
}

/// One value, as it is encoded in a form.
#[cfg(any(test, feature = "oauth2"))]
pub(crate) fn encode_value(value: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(3 * value.len()));
    form_urlencoded::byte_serialize(value.as_bytes()).for_each(|part| encoded.push_str(part));
    encoded
}

/// The parameters of a form, in the order in which they are sent.
#[cfg(feature = "oauth2")]
#[derive(Clone, Default)]
pub(crate) struct Form(Vec<(String, Value)>);

#[cfg(feature = "oauth2")]
#[derive(Clone)]
struct Value {
    text: Secret,
    is_secret: bool,
}

#[cfg(feature = "oauth2")]
impl Form {
    /// A parameter that an error may show.
    pub(crate) fn plain(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), Value { text: Secret::new(value), is_secret: false }));
    }

    /// A parameter that is never shown.
    pub(crate) fn secret(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), Value { text: Secret::new(value), is_secret: true }));
    }

    /// Appends the parameters of another form.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    /// The value of the first parameter of this name.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.text.expose())
    }

    /// Removes the parameters of this name.
    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// Hides the parameters that are never shown.
    pub(super) fn hide_secrets(&self, redactor: &mut Redactor) {
        for (_, value) in self.0.iter().filter(|(_, value)| value.is_secret) {
            redactor.hide_json(value.text.expose());
        }
    }

    /// The body.
    pub(crate) fn encode(&self) -> Bytes {
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| (name.as_str(), value.text.expose())).collect();
        encode(&pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_characters_are_encoded() {
        let form = encode(&[("grant_type", "client_credentials"), ("a b", "ö&=+%/~")]);
        assert_eq!(form, "grant_type=client_credentials&a+b=%C3%B6%26%3D%2B%25%2F%7E");
        assert_eq!(*encode_value("a b:c"), "a+b%3Ac");
    }
}
