//! AWS' Security Token Service of a region.

use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{HeaderName, Method};

use super::keys::{Keys, sensitive};
use super::sign::{ALGORITHM, Signed, date};
use super::xml::element;
use crate::clock::moved;
use crate::error::{BuildError, SourceError};
use crate::source::FetchContext;
use crate::transport::form::MEDIA_TYPE;
use crate::transport::{Answer, Endpoint, Form, Request, ServerClock, Transport};

pub(super) const VERSION: &str = "2011-06-15";
const SERVICE: &str = "sts";
/// How far the clock may be off, in seconds, until a refused request is signed anew. The service accepts minutes.
const TOLERANCE: u64 = 30;
/// The prefixes of a partition's regions, and the domain of its services, if it is not the usual one.
const DOMAINS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
];

pub(super) struct Sts {
    transport: Transport,
    endpoint: Endpoint,
    region: String,
    clock: ServerClock,
}

/// The service's refusal.
pub(super) enum Refused {
    /// Other keys are needed: these are no longer valid, or end before the token would.
    Keys(SourceError),
    Other(SourceError),
}

impl Sts {
    /// The service of a region, or the one at this address.
    pub(super) fn new(transport: Transport, url: Option<&str>, region: &str) -> Result<Self, BuildError> {
        let usual = usual(region);
        let endpoint = Endpoint::below("sts_url", url.unwrap_or(&usual), "scheme, host and port", "/")?;
        endpoint.check_plaintext(false)?;
        transport.check(&endpoint)?;
        Ok(Self { transport, endpoint, region: region.to_owned(), clock: ServerClock::default() })
    }

    pub(super) fn shown(&self) -> &str {
        self.endpoint.shown()
    }

    /// The time by the service's clock, as far as it is known.
    pub(super) fn wall(&self, cx: &FetchContext) -> SystemTime {
        self.clock.wall(cx.clock().now().wall)
    }

    /// Sends a request that a token of another issuer proves. It needs no signature.
    pub(super) async fn ask(&self, request: Request, cx: &FetchContext) -> Result<Answer, SourceError> {
        let answer = self.transport.exchange(&self.endpoint, request, cx.time_left()).await?;
        if answer.is_success() {
            return Ok(answer);
        }
        let (error, code) = refused(&answer);
        // The service may have failed to fetch the issuer's keys. The file may have a newer token at the next attempt.
        let may_pass = code.as_deref().is_some_and(|code| {
            let code = code.strip_suffix("Exception").unwrap_or(code);
            matches!(code, "InvalidIdentityToken" | "ExpiredToken")
        });
        Err(if may_pass { error.into_transient() } else { error })
    }

    /// Sends a request that is signed with these keys.
    pub(super) async fn ask_signed(
        &self,
        form: &Form,
        keys: &Keys,
        cx: &FetchContext,
    ) -> Result<Answer, Refused> {
        let offset = self.clock.offset();
        let date = date(moved(cx.clock().now().wall, offset));
        let request = self.signed(form, keys, &date).map_err(Refused::Other)?;
        let answer = self.transport.exchange(&self.endpoint, request, cx.time_left()).await;
        let answer = answer.map_err(Refused::Other)?;
        self.clock.learn(&answer, cx.clock().now().wall);
        if answer.is_success() {
            return Ok(answer);
        }
        let (error, code) = refused(&answer);
        // Signed with a wrong clock. The next request is signed with the service's own clock.
        let was_late = self.clock.is_far_from(offset, TOLERANCE);
        Err(match code.as_deref() {
            Some("SignatureDoesNotMatch" | "RequestExpired") if was_late => {
                Refused::Other(error.into_transient())
            }
            Some(
                "ExpiredToken"
                | "ExpiredTokenException"
                | "SessionDurationEscalation"
                | "SessionDurationEscalationException",
            ) => Refused::Keys(error.into_transient()),
            Some("InvalidClientTokenId" | "UnrecognizedClientException") => Refused::Keys(error),
            _ => Refused::Other(error),
        })
    }

    fn signed(&self, form: &Form, keys: &Keys, date: &str) -> Result<Request, SourceError> {
        let url = self.endpoint.url();
        let name = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let body = form.encode();
        let mut headers = vec![("content-type", MEDIA_TYPE), ("host", &*host), ("x-amz-date", date)];
        if let Some(session) = &keys.session {
            headers.push(("x-amz-security-token", session.expose()));
        }
        let (path, region) = (url.path(), &*self.region);
        let signed = Signed { path, headers: &headers, body: &body, date, region, service: SERVICE };
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={}",
            keys.id,
            signed.scope(),
            signed.names(),
            signed.signature(keys.secret.expose())
        );
        // With the host of the URL, and the form's media type.
        let mut request = request(form);
        request.redactor.hide_json(keys.secret.expose());
        request.headers.insert(HeaderName::from_static("x-amz-date"), sensitive(date)?);
        if let Some(session) = &keys.session {
            request.redactor.hide_json(session.expose());
            let name = HeaderName::from_static("x-amz-security-token");
            request.headers.insert(name, sensitive(session.expose())?);
        }
        request.headers.insert(AUTHORIZATION, sensitive(&authorization)?);
        Ok(request)
    }
}

/// The service answers in JSON if it is asked for JSON.
pub(super) fn request(form: &Form) -> Request {
    let mut request = Request::new(Method::POST).with_form(form);
    request.accept("text/xml");
    request
}

/// The address of a region's service. Each partition of AWS has its own domain.
fn usual(region: &str) -> String {
    let domain = DOMAINS.iter().find_map(|(start, domain)| region.starts_with(start).then_some(*domain));
    let domain = domain.unwrap_or("amazonaws.com");
    format!("https://sts.{region}.{domain}")
}

/// The error, and the service's code.
fn refused(answer: &Answer) -> (SourceError, Option<String>) {
    let text = answer.text().unwrap_or_default();
    let code = element(text, "Code");
    let message = element(text, "Message").and_then(|message| answer.quoted(&message, 200));
    let shown = code.as_ref().and_then(|code| answer.quoted(code, 80));
    let what = match (&shown, &message) {
        (Some(code), Some(message)) => format!(": {code} ({message})"),
        (Some(code), None) => format!(": {code}"),
        (None, _) => answer.unread(),
    };
    let may_pass = answer.may_pass()
        || answer.retry_after().is_some()
        || matches!(code.as_deref(), Some("Throttling" | "ThrottlingException" | "IDPCommunicationError"));
    (answer.refusal(may_pass, &what), code.map(std::borrow::Cow::into_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_s_service_stands_in_the_domain_of_its_partition() {
        for (region, domain) in [
            ("eu-central-1", "amazonaws.com"),
            ("us-gov-west-1", "amazonaws.com"),
            ("cn-north-1", "amazonaws.com.cn"),
            ("eusc-de-east-1", "amazonaws.eu"),
            ("us-iso-east-1", "c2s.ic.gov"),
            ("us-isob-east-1", "sc2s.sgov.gov"),
            ("us-isof-south-1", "csp.hci.ic.gov"),
            ("eu-isoe-west-1", "cloud.adc-e.uk"),
        ] {
            assert_eq!(usual(region), format!("https://sts.{region}.{domain}"));
        }
    }
}
