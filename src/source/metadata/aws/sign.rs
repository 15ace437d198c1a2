//! Signatures of requests to AWS (Signature Version 4).

use std::fmt::Write as _;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use zeroize::Zeroizing;

/// The name of the signing method, at the beginning of the header.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The signed parts of a POST without a query.
pub(crate) struct Signed<'a> {
    pub(crate) path: &'a str,
    /// Lower-case names and trimmed values, sorted by name.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
    /// `20150830T123600Z`.
    pub(crate) date: &'a str,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

impl Signed<'_> {
    /// The place and the date for which the signature is valid.
    pub(crate) fn scope(&self) -> String {
        let day = self.date.get(..8).unwrap_or_default();
        format!("{day}/{}/{}/aws4_request", self.region, self.service)
    }

    /// The names of the signed headers, in their order.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| *name).collect();
        names.join(";")
    }

    pub(crate) fn signature(&self, secret: &str) -> String {
        let mut headers = Zeroizing::new(String::new()); // one of them is the session token
        for (name, value) in self.headers {
            headers.extend([name, ":", value, "\n"]);
        }
        let request = Zeroizing::new(format!(
            "POST\n{}\n\n{}\n{}\n{}",
            self.path,
            *headers,
            self.names(),
            hex(digest(&SHA256, self.body).as_ref())
        ));
        let request = hex(digest(&SHA256, request.as_bytes()).as_ref());
        let text = format!("{ALGORITHM}\n{}\n{}\n{request}", self.date, self.scope());
        let first = Zeroizing::new(format!("AWS4{secret}"));
        let mut key = hmac::Key::new(HMAC_SHA256, first.as_bytes());
        for part in self.scope().split('/') {
            key = hmac::Key::new(HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        hex(hmac::sign(&key, text.as_bytes()).as_ref())
    }
}

/// The form of the header `X-Amz-Date`.
pub(crate) fn date(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn signature(headers: &[(&str, &str)], body: &[u8]) -> String {
        let date = "20150830T123600Z";
        let (path, region, service) = ("/", "us-east-1", "service");
        Signed { path, headers, body, date, region, service }.signature(SECRET)
    }

    /// `post-vanilla` and `post-x-www-form-urlencoded` of AWS' test suite for this method.
    #[test]
    fn the_published_examples_are_signed_as_published() {
        let (host, date) = (("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z"));
        assert_eq!(
            signature(&[host, date], b""),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
        let kind = ("content-type", "application/x-www-form-urlencoded");
        assert_eq!(
            signature(&[kind, host, date], b"Param1=value1"),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }

    #[test]
    fn a_date_is_written_without_separators() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_440_938_160);
        assert_eq!(date(time), "20150830T123600Z");
    }
}
