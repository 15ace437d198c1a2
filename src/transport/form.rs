//! `application/x-www-form-urlencoded`, into memory that is wiped.

use bytes::Bytes;
use form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

/// The media type of [`encode`]'s bytes.
pub(crate) const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// A body of these parameters, in this order.
pub(crate) fn encode(pairs: &[(&str, &str)]) -> Bytes {
    // No byte becomes more than three, so the buffer never moves and leaves no copy behind.
    let room = pairs.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let mut form = Serializer::new(String::with_capacity(room));
    form.extend_pairs(pairs);
    Bytes::from_owner(Zeroizing::new(form.finish().into_bytes()))
}

/// One value, as it would stand in a form.
pub(crate) fn encode_value(value: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(3 * value.len()));
    byte_serialize(value.as_bytes()).for_each(|part| encoded.push_str(part));
    encoded
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
