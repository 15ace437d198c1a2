//! The headers that the user's function has given to the HTTP client (`default_headers`).
//!
//! The client adds them to each request after this crate has handed the request over, and no function of reqwest
//! returns them. Its `Debug` shows them. Therefore they are read from there. If that text cannot be read, nothing
//! that a server says is shown.

use std::fmt::Write;

use zeroize::Zeroizing;

use crate::redactor::Redactor;

/// These say nothing secret, and occur in the explanations of servers.
const PUBLIC: [&str; 4] = ["accept", "accept-encoding", "accept-language", "user-agent"];

#[derive(Clone)]
pub(super) enum DefaultHeaders {
    Known(Vec<Zeroizing<String>>),
    /// There may be any. For example headers that are marked sensitive, which `Debug` does not show.
    Unknown,
}

impl DefaultHeaders {
    pub(super) fn none() -> Self {
        Self::Known(Vec::new())
    }

    pub(super) fn of(client: &reqwest::Client) -> Self {
        /// A text that does not grow leaves no copy behind.
        const ROOM: usize = 16 * 1024;
        let mut shown = Zeroizing::new(String::with_capacity(ROOM));
        // Writing into a string never fails.
        let _ = write!(shown, "{client:?}");
        read(&shown).map_or(Self::Unknown, Self::Known)
    }

    /// Hides each value, and each part of it that a server may repeat alone.
    pub(super) fn hide_in(&self, redactor: &mut Redactor) {
        match self {
            Self::Known(values) => values.iter().for_each(|value| redactor.hide_header(value)),
            Self::Unknown => redactor.hide_all(),
        }
    }
}

/// The values in `default_headers: {"name": "value", ..}`. `None`: it is not written like this, or a value cannot be
/// told from its escapes.
fn read(shown: &str) -> Option<Vec<Zeroizing<String>>> {
    let (_, mut rest) = shown.split_once("default_headers: {")?;
    let mut values = Vec::new();
    while !rest.starts_with('}') {
        let (name, after) = rest.strip_prefix('"')?.split_once("\": \"")?;
        let (value, after) = after.split_once('"')?;
        if name.contains('"') || value.contains('\\') {
            return None;
        }
        if !PUBLIC.contains(&name) {
            values.push(Zeroizing::new(value.to_owned()));
        }
        rest = after.strip_prefix(", ").unwrap_or(after);
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn values(headers: &[(&'static str, &'static str)]) -> Option<Vec<String>> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let client = reqwest::Client::builder().user_agent("tests").default_headers(headers).build().unwrap();
        match DefaultHeaders::of(&client) {
            DefaultHeaders::Known(values) => {
                Some(values.into_iter().map(|value| value.to_string()).collect())
            }
            DefaultHeaders::Unknown => None,
        }
    }

    #[test]
    fn the_client_s_default_headers_are_known() {
        assert_eq!(values(&[]).unwrap(), [""; 0]);
        let headers = [("x-api-key", "s3cret, }: {"), ("accept-language", "en"), ("x-tenant", "")];
        let mut known = values(&headers).unwrap();
        known.sort();
        assert_eq!(known, ["", "s3cret, }: {"]);
    }

    #[test]
    fn what_cannot_be_read_hides_all() {
        assert!(values(&[("x-api-key", "a\\")]).is_none());
        assert!(values(&[("x-api-key", "a\"b")]).is_none());
        let mut sensitive = HeaderValue::from_static("s3cret");
        sensitive.set_sensitive(true);
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), sensitive)]);
        let client = reqwest::Client::builder().default_headers(headers).build().unwrap();
        assert!(matches!(DefaultHeaders::of(&client), DefaultHeaders::Unknown));
        for shown in
            ["Client", "default_headers: [", "default_headers: {\"a\": \"b\"", "default_headers: {a: b}"]
        {
            assert!(read(shown).is_none(), "{shown}");
        }
        let mut redactor = Redactor::default();
        DefaultHeaders::Unknown.hide_in(&mut redactor);
        assert_eq!(redactor.quoted("any text", 80), None);
    }
}
