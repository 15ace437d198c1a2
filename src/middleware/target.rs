//! The target of a request in the clients' types: a `Uri`, or reqwest's `Url`.

use std::borrow::Cow;

use http::Uri;
use http::uri::Authority;
#[cfg(feature = "http")]
use reqwest::Url;

/// The target of a request.
pub(super) trait Target {
    /// `None`: a target that no list of origins can contain.
    fn destination(&self) -> Option<Destination<'_>>;

    /// The same for a proof of possession.
    fn uri(&self) -> Cow<'_, Uri>;
}

#[derive(Clone, Copy)]
pub(super) enum Destination<'a> {
    /// To a server.
    Server { is_https: bool, host: &'a str, port: u16 },
    /// Only a path: the request goes to the server to which the client is connected.
    Path,
}

impl<'a> Destination<'a> {
    pub(super) fn of(authority: &'a Authority, is_https: bool) -> Option<Self> {
        // A user in the address is the caller's own credential.
        if authority.as_str().contains('@') {
            return None;
        }
        Some(Self::Server { is_https, host: authority.host(), port: port(authority, is_https)? })
    }
}

impl Target for Uri {
    fn destination(&self) -> Option<Destination<'_>> {
        let Some(authority) = self.authority() else {
            return self.scheme().is_none().then_some(Destination::Path);
        };
        Destination::of(authority, is_https(self.scheme_str()?)?)
    }

    fn uri(&self) -> Cow<'_, Uri> {
        Cow::Borrowed(self)
    }
}

#[cfg(feature = "http")]
impl Target for Url {
    fn destination(&self) -> Option<Destination<'_>> {
        let is_https = is_https(self.scheme())?;
        // As above.
        if !self.username().is_empty() || self.password().is_some() {
            return None;
        }
        let (host, port) = (self.host_str()?, self.port_or_known_default()?);
        Some(Destination::Server { is_https, host, port })
    }

    /// A URL that `http` cannot express becomes a path without a host, for which there is no proof. No client sends
    /// such a URL.
    fn uri(&self) -> Cow<'_, Uri> {
        Cow::Owned(Uri::try_from(self.as_str()).unwrap_or_default())
    }
}

fn is_https(scheme: &str) -> Option<bool> {
    match scheme {
        "https" => Some(true),
        "http" => Some(false),
        _ => None,
    }
}

/// `None` if the port is invalid.
pub(super) fn port(authority: &Authority, is_https: bool) -> Option<u16> {
    if let Some(port) = authority.port_u16() {
        return Some(port);
    }
    // "host:" is allowed, and means the default port (RFC 3986 section 6.2.3).
    let rest = authority.as_str().strip_prefix(authority.host())?;
    matches!(rest, "" | ":").then_some(if is_https { 443 } else { 80 })
}
