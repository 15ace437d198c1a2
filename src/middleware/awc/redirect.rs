//! Whether a redirect leads to the same origin, and the request that follows it. Without I/O.

use http::{Method, StatusCode, Uri};

use super::super::target::{Destination, Target};

/// The next request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) uri: Uri,
    /// The next request is a GET without the body.
    pub(super) is_get: bool,
}

/// What an answer with this status and this `Location` asks for. `None`: the caller gets the answer, because it is
/// no redirect, or leads to another origin, or its `Location` is no URL.
pub(super) fn follow(asked: &Uri, method: &Method, status: StatusCode, location: &[u8]) -> Option<Redirect> {
    let is_get = match status {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
        // RFC 9110 sections 15.4.2 and 15.4.3: every client does this with a POST.
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => method == Method::POST,
        StatusCode::SEE_OTHER => method != Method::GET && method != Method::HEAD,
        _ => return None,
    };
    let uri = resolve(asked, std::str::from_utf8(location).ok()?)?;
    is_same_origin(asked, &uri).then_some(Redirect { uri, is_get })
}

fn is_same_origin(asked: &Uri, next: &Uri) -> bool {
    let place = |uri: &Uri| match uri.destination()? {
        Destination::Server { is_https, host, port } => Some((is_https, host.to_ascii_lowercase(), port)),
        Destination::Path => None,
    };
    place(asked).is_some_and(|asked| place(next) == Some(asked))
}

/// RFC 3986 section 5.2.2.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?;
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    if has_scheme(location) {
        return location.parse().ok();
    }
    if location.starts_with("//") {
        return format!("{scheme}:{location}").parse().ok();
    }
    let (path, query) = match location.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (location, None),
    };
    let (path, query) = if path.is_empty() {
        (base.path().to_owned(), query.or(base.query()))
    } else if path.starts_with('/') {
        (without_dots(path), query)
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        (without_dots(&format!("{folder}/{path}")), query)
    };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{authority}{path}{query}").parse().ok()
}

/// Whether it is a URL of its own (RFC 3986 section 3.1).
fn has_scheme(location: &str) -> bool {
    let Some((scheme, _)) = location.split_once(':') else { return false };
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    scheme.starts_with(|char: char| char.is_ascii_alphabetic()) && scheme.bytes().all(is_allowed)
}

/// A path from the root without dot segments (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_dot = match segment {
            "." => true,
            ".." => {
                kept.pop();
                true
            }
            _ => false,
        };
        if !is_dot {
            kept.push(segment);
        } else if segments.peek().is_none() {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(asked: &str, location: &str) -> Option<String> {
        let asked = asked.parse().unwrap();
        let next = follow(&asked, &Method::GET, StatusCode::TEMPORARY_REDIRECT, location.as_bytes());
        next.map(|next| next.uri.to_string())
    }

    #[test]
    fn a_location_is_resolved_against_the_url_that_was_asked() {
        for (location, next) in [
            ("https://api.example/d", "https://api.example/d"),
            ("HTTPS://API.example:443/d", "https://API.example:443/d"),
            ("//api.example/d?e", "https://api.example/d?e"),
            ("/d/../e?f=/../g#h", "https://api.example/e?f=/../g"),
            ("d", "https://api.example/a/d"),
            ("./d/", "https://api.example/a/d/"),
            ("..", "https://api.example/"),
            ("../../../d", "https://api.example/d"),
            ("d/.", "https://api.example/a/d/"),
            ("?d", "https://api.example/a/b?d"),
            ("", "https://api.example/a/b?c"),
            ("#d", "https://api.example/a/b?c"),
            ("/@evil.example/", "https://api.example/@evil.example/"),
            ("\\\\evil.example/", "https://api.example/a/\\\\evil.example/"),
            ("@evil.example", "https://api.example/a/@evil.example"),
        ] {
            assert_eq!(led("https://api.example/a/b?c", location).as_deref(), Some(next), "{location}");
        }
    }

    #[test]
    fn what_leads_to_another_origin_is_not_followed() {
        for location in [
            "http://api.example/",
            "https://api.example:8443/",
            "https://evil.example/",
            "//evil.example/",
            "https://api.example.evil.example/",
            "https://api.example./",
            "https://api.example@evil.example/",
            "https://user@api.example/",
            "https:api.example",
            "https:///d",
            "mailto:api@example",
            "a b",
            "https://api.example\\@evil.example/",
        ] {
            assert_eq!(led("https://api.example/", location), None, "{location}");
        }
        assert_eq!(led("/path", "/d"), None, "it is not known where that is");
        let asked = Uri::from_static("https://api.example/");
        assert_eq!(follow(&asked, &Method::GET, StatusCode::FOUND, b"/\xff"), None);
    }

    #[test]
    fn only_some_redirects_keep_the_method_and_the_body() {
        let asked = Uri::from_static("https://api.example/");
        let is_get = |status: u16, method| {
            let status = StatusCode::from_u16(status).unwrap();
            follow(&asked, &method, status, b"/d").map(|next| next.is_get)
        };
        for (status, get, head, post, put) in [
            (301, false, false, true, false),
            (302, false, false, true, false),
            (303, false, false, true, true),
            (307, false, false, false, false),
            (308, false, false, false, false),
        ] {
            for (method, expected) in
                [(Method::GET, get), (Method::HEAD, head), (Method::POST, post), (Method::PUT, put)]
            {
                assert_eq!(is_get(status, method.clone()), Some(expected), "{status} {method}");
            }
        }
        for status in [200, 201, 300, 304, 305, 401] {
            assert_eq!(is_get(status, Method::GET), None, "{status}");
        }
    }
}
