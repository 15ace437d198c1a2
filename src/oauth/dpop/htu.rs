//! The URI of a request in a proof: `htu` (RFC 9449 section 4.2).
//!
//! A server compares it with the URI that it has received, after normalising both (section 4.3; RFC 3986 sections
//! 6.2.2 and 6.2.3). Some servers compare the texts. Therefore it is written in its normal form. The URL parsers of
//! browsers and of node produce the same form, except for escapes in lower case (`%c3`), which they leave
//! unchanged.

use std::fmt::Write;

use http::Uri;

/// An absolute URI without query and fragment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Scheme, host and port, if the port is not the default.
    pub(super) origin: String,
    /// Begins with a slash.
    path: String,
}

const RELATIVE: &str = "is bound to a key (DPoP), and its proof needs an absolute URI with scheme and host";
const ODD_PORT: &str = "is bound to a key (DPoP), and the URI of the request has a port that is no number";

impl Target {
    pub(super) fn of(uri: &Uri) -> Result<Self, &'static str> {
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(RELATIVE);
        };
        // Neither user nor password is part of the URI that the server receives.
        let authority = authority.as_str();
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        let (host, port) = match place.rfind(':') {
            // A colon inside of the brackets belongs to the address.
            Some(at) if !place[at..].contains(']') => (&place[..at], &place[at + 1..]),
            _ => (place, ""),
        };
        if host.is_empty() {
            return Err(RELATIVE);
        }
        let mut origin = String::with_capacity(scheme.len() + 3 + place.len());
        let lower =
            |text: &mut String, part: &str| text.extend(part.chars().map(|char| char.to_ascii_lowercase()));
        lower(&mut origin, scheme);
        origin.push_str("://");
        lower(&mut origin, host);
        if !port.is_empty() {
            // Rust's number parser accepts a sign.
            let digits = port.bytes().all(|byte| byte.is_ascii_digit()).then_some(port).ok_or(ODD_PORT)?;
            let number: u16 = digits.parse().map_err(|_| ODD_PORT)?;
            let is_default = matches!(
                (origin.as_bytes().get(..6), number),
                (Some(b"http:/"), 80) | (Some(b"https:"), 443)
            );
            if !is_default {
                // Writing into a string never fails.
                let _ = write!(origin, ":{number}");
            }
        }
        Ok(Self { origin, path: path(uri.path()) })
    }

    /// Appends the `htu`. None of its characters needs an escape in JSON.
    pub(super) fn write(&self, text: &mut String) {
        text.push_str(&self.origin);
        text.push_str(&self.path);
    }

    pub(super) fn len(&self) -> usize {
        self.origin.len() + self.path.len()
    }
}

/// Without dot segments (RFC 3986 section 5.2.4), with the digits of each escape in upper case.
fn path(path: &str) -> String {
    let mut text = String::with_capacity(path.len() + 1);
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match dots(segment) {
            0 => {
                text.push('/');
                escape(segment, &mut text);
                continue;
            }
            1 => {}
            _ => text.truncate(text.rfind('/').unwrap_or_default()),
        }
        if is_last {
            text.push('/');
        }
    }
    text
}

/// Whether a segment is `.` (1) or `..` (2), also if a dot is escaped.
fn dots(segment: &str) -> usize {
    let (mut rest, mut number) = (segment, 0);
    while !rest.is_empty() && number < 3 {
        let is_escaped = rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("%2e"));
        rest = match (rest.strip_prefix('.'), is_escaped) {
            (Some(rest), _) => rest,
            (None, true) => &rest[3..],
            (None, false) => return 0,
        };
        number += 1;
    }
    if rest.is_empty() && number < 3 { number } else { 0 }
}

fn escape(segment: &str, text: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let bytes = segment.as_bytes();
    let push_escaped = |text: &mut String, byte: u8| {
        text.push('%');
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    };
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1), bytes.get(at + 2)) {
            (b'%', Some(high), Some(low)) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                text.push('%');
                text.push(char::from(high.to_ascii_uppercase()));
                text.push(char::from(low.to_ascii_uppercase()));
                at += 3;
                continue;
            }
            // Characters that no URI has (RFC 3986 section 2), and characters that JSON would escape.
            (b'"' | b'<' | b'>' | b'\\' | b'`' | b'{' | b'}' | ..=b' ' | 0x7f.., ..) => {
                push_escaped(text, byte);
            }
            _ => text.push(char::from(byte)),
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn htu(uri: &str) -> Result<String, &'static str> {
        let mut text = String::new();
        Target::of(&uri.parse().unwrap())?.write(&mut text);
        Ok(text)
    }

    #[test]
    fn a_uri_is_named_in_its_normal_form() {
        for (uri, named) in [
            ("https://api.example", "https://api.example/"),
            ("https://api.example?a=b", "https://api.example/"),
            ("HTTPS://API.Example/Orders", "https://api.example/Orders"),
            ("https://api.example:443/a", "https://api.example/a"),
            ("https://api.example:/a", "https://api.example/a"),
            ("https://api.example:0443/a", "https://api.example/a"),
            ("http://api.example:80/a", "http://api.example/a"),
            ("http://api.example:443/a", "http://api.example:443/a"),
            ("https://api.example:80/a", "https://api.example:80/a"),
            ("https://api.example:8443/a", "https://api.example:8443/a"),
            ("https://api.example:65535/", "https://api.example:65535/"),
            ("https://user:secret@api.example/a", "https://api.example/a"),
            ("https://user@api.example:8443/a", "https://api.example:8443/a"),
            ("https://[2001:DB8::1]/a", "https://[2001:db8::1]/a"),
            ("https://[::1]:443/", "https://[::1]/"),
            ("https://[::1]:8443/", "https://[::1]:8443/"),
            ("https://127.0.0.1:8080/a", "https://127.0.0.1:8080/a"),
            ("https://xn--bcher-kva.Example/", "https://xn--bcher-kva.example/"),
            ("https://api.example./", "https://api.example./"),
            ("https://api.example/a?b=/../c#d", "https://api.example/a"),
            ("https://api.example/a/./b", "https://api.example/a/b"),
            ("https://api.example/a/../b", "https://api.example/b"),
            ("https://api.example/../../a", "https://api.example/a"),
            ("https://api.example/a/..", "https://api.example/"),
            ("https://api.example/a/b/..", "https://api.example/a/"),
            ("https://api.example/a/.", "https://api.example/a/"),
            ("https://api.example/a/%2e%2E/b", "https://api.example/b"),
            ("https://api.example/.%2e/b/%2e", "https://api.example/b/"),
            ("https://api.example/a/...", "https://api.example/a/..."),
            ("https://api.example/a/.b/..c", "https://api.example/a/.b/..c"),
            ("https://api.example//a//b/", "https://api.example//a//b/"),
            ("https://api.example/a//../b", "https://api.example/a/b"),
            ("https://api.example/%c3%b6%2F%zz%", "https://api.example/%C3%B6%2F%zz%"),
            ("https://api.example/a:b@c;d=e,f!$&'()*+~_-|^", "https://api.example/a:b@c;d=e,f!$&'()*+~_-|^"),
            ("https://api.example/\"{}\\", "https://api.example/%22%7B%7D%5C"),
            ("https://api.example/ö", "https://api.example/%C3%B6"),
        ] {
            assert_eq!(htu(uri).as_deref(), Ok(named), "{uri}");
        }
    }

    #[test]
    fn what_is_not_absolute_is_refused() {
        for uri in ["/orders", "*", "api.example", "api.example:443"] {
            assert_eq!(htu(uri), Err(RELATIVE), "{uri}");
        }
    }
}
