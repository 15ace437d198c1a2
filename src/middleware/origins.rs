//! The origins that may get a token: scheme, host and port, from an explicit list (promise 15).

use std::fmt;
use std::sync::Arc;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Uri};

use super::target::{Destination, Target, port};
use crate::error::BuildError;
use crate::evidence::{Evidence, Origin};
use crate::host::Host;

/// The origins that may get the token.
#[derive(Debug)]
pub(super) struct Origins {
    allowed: Vec<Allowed>,
    /// The origin for requests whose URI names none.
    base: Option<usize>,
}

#[derive(Debug)]
struct Allowed {
    place: Place,
    reputation: Arc<Origin>,
}

/// An origin (RFC 6454), with its explicit port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    is_https: bool,
    /// In lower case.
    host: String,
    port: u16,
}

impl Origins {
    pub(super) fn build(
        allowed: &[&str],
        base: Option<&str>,
        allow_http: bool,
        evidence: &Evidence,
    ) -> Result<Self, BuildError> {
        let listed = allowed.iter().map(|text| ("allow", *text));
        let mut origins = Self { allowed: Vec::new(), base: None };
        for (field, text) in listed.chain(base.map(|text| ("relative_to", text))) {
            let place = Place::parse(field, text)?;
            place.check_plaintext(field, allow_http)?;
            let known = origins.allowed.iter().position(|allowed| allowed.place == place);
            let at = known.unwrap_or(origins.allowed.len());
            if known.is_none() {
                let reputation = evidence.origin(&place.to_string());
                origins.allowed.push(Allowed { place, reputation });
            }
            if field == "relative_to" {
                origins.base = Some(at);
            }
        }
        if origins.allowed.is_empty() {
            return Err(BuildError::new(
                "allow",
                "is missing: name the origins that may have the token, like \"https://api.example.com\"",
            ));
        }
        Ok(origins)
    }

    /// The origin of this request, if it may get the token.
    ///
    /// Many servers share one address, and `Host` selects one of them. Therefore a `Host` that the caller has set
    /// must be allowed too.
    pub(super) fn find(&self, target: &impl Target, headers: &HeaderMap) -> Option<&Arc<Origin>> {
        let found = self.listed(target.destination()?)?;
        let is_allowed = |host: &http::HeaderValue| {
            let host = Authority::try_from(host.as_bytes()).ok();
            let destination = host.as_ref().and_then(|host| Destination::of(host, found.place.is_https));
            destination.is_some_and(|destination| self.listed(destination).is_some())
        };
        let is_sent_there = !headers.contains_key(HOST) || headers.get_all(HOST).iter().all(is_allowed);
        is_sent_there.then_some(&found.reputation)
    }

    fn listed(&self, destination: Destination<'_>) -> Option<&Allowed> {
        let (is_https, host, port) = match destination {
            Destination::Path => return self.allowed.get(self.base?),
            Destination::Server { is_https, host, port } => (is_https, host, port),
        };
        let is_this = |allowed: &&Allowed| {
            let place = &allowed.place;
            place.is_https == is_https && place.port == port && place.is_at(host)
        };
        self.allowed.iter().find(is_this)
    }
}

impl Place {
    fn parse(field: &'static str, text: &str) -> Result<Self, BuildError> {
        let refused = |message: &'static str| Err(BuildError::new(field, message));
        let example = "is no origin like \"https://api.example.com\" or \"https://api.example.com:8443\"";
        if !text.is_ascii() {
            return refused("has a host that is not ASCII: write it as it is sent (\"xn--...\")");
        }
        let Ok(uri) = text.parse::<Uri>() else { return refused(example) };
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return refused("has a scheme that is neither https nor http"),
            None => return refused(example),
        };
        let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
            return refused(example);
        };
        if authority.as_str().contains('@') {
            return refused("holds a user or password: an origin has none");
        }
        if authority.host().contains('*') {
            return refused("has a wildcard: name each host");
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') {
            return refused("has a path: give only scheme, host and port");
        }
        let Some(port) = port(authority, is_https) else { return refused(example) };
        let host = match Host::parse(authority.host()) {
            Host::V6(address) => format!("[{address}]"),
            Host::V4(address) => address.to_string(),
            // Clients convert the name to the usual form before they send.
            Host::Name(name) if ends_in_a_number(name) => {
                return refused("has an IPv4 address that is not written as four numbers");
            }
            Host::Name(name) => name.to_ascii_lowercase(),
        };
        Ok(Self { is_https, host, port })
    }

    fn is_at(&self, host: &str) -> bool {
        // An IPv6 address has many forms.
        let is_same_address = || match (Host::parse(&self.host), Host::parse(host)) {
            (Host::V6(known), Host::V6(asked)) => known == asked,
            _ => false,
        };
        self.host.eq_ignore_ascii_case(host) || (host.starts_with('[') && is_same_address())
    }

    /// A token goes in clear only inside this machine, or if the user allows it.
    fn check_plaintext(&self, field: &'static str, is_allowed: bool) -> Result<(), BuildError> {
        if self.is_https || is_allowed || Host::parse(&self.host).is_loopback() {
            return Ok(());
        }
        Err(BuildError::new(
            field,
            "is http: every host on the route could read the token; use https, or say `allow_http` if the route is safe",
        ))
    }
}

/// Such a name is an IPv4 address in an unusual form ("127.1").
fn ends_in_a_number(name: &str) -> bool {
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let hex = last.strip_prefix("0x");
    let is_hex = hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_hex || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        match (self.is_https, self.port) {
            (true, 443) | (false, 80) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::policy::RefreshPolicy;

    fn build(allowed: &[&str], base: Option<&str>, allow_http: bool) -> Result<Origins, BuildError> {
        let evidence =
            Evidence::new("token".into(), RefreshPolicy::default().settle_rule(), Arc::new(SystemClock));
        Origins::build(allowed, base, allow_http, &evidence)
    }

    #[test]
    fn a_token_goes_to_the_origins_that_are_named_and_nowhere_else() {
        let origins =
            build(&["https://api.example", "https://b.example:8443/", "http://[::1]:80"], None, false)
                .unwrap();
        for (uri, is_allowed) in [
            ("https://api.example/", true),
            ("https://API.Example:443/a?b", true),
            ("https://api.example:/", true),
            ("HTTPS://api.example/", true),
            ("https://b.example:8443/", true),
            ("http://[::1]/", true),
            ("http://api.example/", false),
            ("http://api.example:443/", false),
            ("https://api.example:80/", false),
            ("https://b.example/", false),
            ("https://evil.example.api.example/", false),
            ("https://api.example.evil.example/", false),
            ("https://api.example.evil/", false),
            ("https://evilapi.example/", false),
            ("https://api.example./", false),
            ("https://api.example@evil.example/", false),
            ("https://api.example:443@evil.example/", false),
            ("https://user@api.example/", false),
            ("https://user:pw@api.example/", false),
            ("https://xn--pi-8ka.example/", false),
            ("wss://api.example/", false),
            ("/path", false),
            ("api.example:443", false),
        ] {
            let asked: Uri = uri.parse().unwrap_or_else(|error| panic!("{uri}: {error}"));
            assert_eq!(origins.find(&asked, &HeaderMap::new()).is_some(), is_allowed, "{uri}");
            #[cfg(feature = "http")]
            if let Ok(url) = uri.parse::<reqwest::Url>() {
                assert_eq!(origins.find(&url, &HeaderMap::new()).is_some(), is_allowed, "{url}");
            }
        }
    }

    #[test]
    fn a_host_header_has_to_name_an_allowed_origin_too() {
        let origins =
            build(&["https://api.example", "https://b.example:8443", "http://[::1]:80"], None, false)
                .unwrap();
        for (hosts, is_allowed) in [
            (vec!["api.example"], true),
            (vec!["API.example:443"], true),
            (vec!["b.example:8443"], true),
            (vec!["evil.example"], false),
            (vec!["api.example:80"], false),
            (vec!["[::1]"], false),
            (vec!["user@api.example"], false),
            (vec!["user@api.example:443"], false),
            (vec![""], false),
            (vec!["api.example, evil.example"], false),
            (vec!["api.example", "evil.example"], false),
        ] {
            let headers = hosts.iter().map(|host| (HOST, host.parse().unwrap())).collect();
            let found = origins.find(&Uri::from_static("https://api.example/"), &headers);
            assert_eq!(found.is_some(), is_allowed, "{hosts:?}");
        }
    }

    #[test]
    fn an_ipv6_address_is_the_same_however_it_is_written() {
        let origins = build(&["https://[2001:DB8:0:0::1]"], None, false).unwrap();
        for (uri, is_allowed) in [
            ("https://[2001:db8::1]/", true),
            ("https://[2001:0db8:0:0:0:0:0:1]:443/", true),
            ("https://[2001:db8::2]/", false),
            ("https://[2001:db8::1]:8443/", false),
        ] {
            let found = origins.find(&Uri::from_static(uri), &HeaderMap::new());
            assert_eq!(found.is_some(), is_allowed, "{uri}");
        }
    }

    #[test]
    fn a_request_without_an_origin_belongs_to_the_base() {
        let origins = build(&[], Some("https://api.example"), false).unwrap();
        let find = |uri| origins.find(&uri, &HeaderMap::new());
        assert_eq!(&*find(Uri::from_static("/path")).unwrap().name, "https://api.example");
        assert!(find(Uri::from_static("https://api.example/")).is_some());
        assert!(find(Uri::from_static("https://b.example/")).is_none());
        assert!(find(Uri::from_static("evil.example:443")).is_none());
    }

    #[test]
    fn what_is_no_origin_is_refused_with_the_way_out() {
        for (text, reason) in [
            ("", "is no origin like"),
            ("api.example.com", "is no origin like"),
            ("https://", "is no origin like"),
            ("https://api.example.com:0x1/", "is no origin like"),
            ("ftp://api.example.com", "scheme"),
            ("https://user:s3cret@api.example.com", "user"),
            ("https://*.example.com", "wildcard"),
            ("https://api.example.com/v1", "path"),
            ("https://api.example.com?a", "path"),
            ("https://api.example.com#a", "path"),
            ("https://\u{e4}pi.example", "xn--"),
            ("https://127.1", "four numbers"),
            ("https://0x7f000001", "four numbers"),
            ("https://1.2.3.4.5", "four numbers"),
            ("http://api.example.com", "`allow_http`"),
        ] {
            let error = build(&[text], None, false).expect_err(text);
            assert_eq!(error.field(), "allow");
            let message = error.to_string();
            assert!(message.contains(reason) && !message.contains("s3cret"), "{text}: {message}");
            let error = build(&[], Some(text), false).expect_err(text);
            assert_eq!(error.field(), "relative_to");
        }
        assert!(build(&[], None, false).unwrap_err().to_string().contains("is missing"));
        build(&["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1"], None, false).unwrap();
        build(&["http://api.example.com"], None, true).unwrap();
    }
}
