//! The host of an address: this machine, the local network, or another host.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The host of an address.
pub(crate) enum Host<'a> {
    Name(&'a str),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    /// The host as it is in a URL: IPv6 in brackets.
    pub(crate) fn parse(text: &'a str) -> Self {
        let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Some(Ok(address)) = inside.map(str::parse) {
            return Self::V6(address);
        }
        // Only the usual form of an IPv4 address is known here. A URL's parser has brought it into that form.
        text.parse().map_or(Self::Name(text), Self::V4)
    }

    /// This machine.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            // RFC 6761 section 6.3.
            Self::Name(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
            }
            Self::V4(address) => address.is_loopback(),
            Self::V6(address) => {
                address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
            }
        }
    }

    /// The network to which this machine is attached. It contains the metadata server of a cloud.
    #[cfg(feature = "http")]
    pub(crate) fn is_link_local(&self) -> bool {
        match self {
            Self::Name(_) => false,
            Self::V4(address) => address.is_link_local(),
            // AWS: the metadata server and the container credentials.
            Self::V6(address) => {
                address.is_unicast_link_local() || matches!(address.segments(), [0xfd00, 0x0ec2, ..])
            }
        }
    }
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_apart() {
        for (host, is_loopback, is_link_local) in [
            ("127.0.0.1", true, false),
            ("127.8.9.1", true, false),
            ("[::1]", true, false),
            ("[::ffff:127.0.0.1]", true, false),
            ("LOCALHOST", true, false),
            ("localhost.", true, false),
            ("a.localhost", true, false),
            ("localhost.example.com", false, false),
            ("127.0.0.1.example.com", false, false),
            ("169.254.169.254", false, true),
            ("[fe80::1]", false, true),
            ("[fd00:ec2::254]", false, true),
            ("10.0.0.1", false, false),
            ("auth.example.com", false, false),
        ] {
            let parsed = Host::parse(host);
            assert_eq!(
                (parsed.is_loopback(), parsed.is_link_local()),
                (is_loopback, is_link_local),
                "{host}"
            );
        }
    }
}
