//! The identity of a machine from its cloud: metadata servers.

#[cfg(feature = "oauth2")]
pub(crate) mod aws;
mod azure;
mod azure_arc;
mod gcp;

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};

use crate::error::{BuildError, SourceError};
use crate::host::Host;
use crate::source::json_endpoint::answer::{Ends, Shape};
use crate::token::TokenType;
use crate::transport::{Answer, Endpoint, HttpSettings, Limits, Pointer, Request, Transport};

#[cfg(feature = "oauth2")]
pub use aws::{AwsWebIdentity, AwsWebIdentityBuilder};
pub use azure::{AzureImds, AzureImdsBuilder};
pub use azure_arc::{AzureArc, AzureArcBuilder};
pub use gcp::{GcpMetadata, GcpMetadataBuilder};

/// The time limit of one request. A metadata server is near. If there is none, no answer comes.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Sources for the identity that a machine has from its cloud. They need no configured secret.
///
/// | where the program runs | source |
/// |---|---|
/// | Google Compute Engine, GKE, Cloud Run | [`Metadata::gcp`] |
/// | an Azure virtual machine or scale set, AKS | [`Metadata::azure_imds`] |
/// | a machine elsewhere that Azure Arc manages | [`Metadata::azure_arc`] |
/// | AWS: EC2, ECS, EKS | `Metadata::aws_web_identity` (feature `oauth2`) |
///
/// All metadata servers are called in clear, at an address that does not leave the machine or its own network,
/// within 3 s per request, and never through a proxy. Redirects are not followed.
///
/// ```
/// use tokenflight::source::Metadata;
///
/// let google = Metadata::gcp().scope("https://www.googleapis.com/auth/cloud-platform").build()?;
/// let azure = Metadata::azure_imds("https://vault.azure.net").build()?;
/// let arc = Metadata::azure_arc("https://vault.azure.net").build()?;
///
/// let error = Metadata::azure_imds("https://vault.azure.net https://storage.azure.com").build().unwrap_err();
/// assert_eq!(error.field(), "resource");
/// # let _ = (google, azure, arc);
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Metadata {}

impl Metadata {
    /// Google's metadata server: access tokens of the machine's service account, or identity tokens with
    /// [`audience`](GcpMetadataBuilder::audience).
    pub fn gcp() -> GcpMetadataBuilder {
        GcpMetadataBuilder::default()
    }

    /// Azure's Instance Metadata Service: access tokens of a managed identity for this one resource.
    pub fn azure_imds(resource: impl Into<String>) -> AzureImdsBuilder {
        AzureImdsBuilder::new(resource.into())
    }

    /// The agent of Azure Arc on this machine: access tokens of the machine's identity for this one resource.
    pub fn azure_arc(resource: impl Into<String>) -> AzureArcBuilder {
        AzureArcBuilder::new(resource.into())
    }

    /// AWS: JWTs for this API that stand for the identity of the instance, the container or the pod.
    #[cfg(feature = "oauth2")]
    pub fn aws_web_identity(audience: impl Into<String>) -> AwsWebIdentityBuilder {
        AwsWebIdentityBuilder::new(audience.into())
    }
}

/// A metadata server, and the way to call it.
struct Server {
    transport: Transport,
    endpoint: Endpoint,
}

impl Server {
    /// `base` is the setting `base_url`, or the default. `path` and `query` are the server's own.
    fn new(
        base: &str,
        path: &str,
        query: &[(&str, &str)],
        timeout: Option<Duration>,
    ) -> Result<Self, BuildError> {
        Self::at("base_url", base, path, query, timeout)
    }

    /// The same, with a setting of another name.
    fn at(
        field: &'static str,
        base: &str,
        path: &str,
        query: &[(&str, &str)],
        timeout: Option<Duration>,
    ) -> Result<Self, BuildError> {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let separator = if query.is_empty() { "" } else { "?" };
        let path = format!("{path}{separator}{query}");
        let endpoint = Endpoint::below(field, base, "scheme, host and port", &path)?;
        // A request in clear never uses a proxy.
        if endpoint.url().scheme() != "http" {
            return Err(BuildError::new(field, "is https: a metadata server is asked by http"));
        }
        // The token is in the answer in clear.
        let host = Host::parse(endpoint.url().host_str().unwrap_or_default());
        if !host.is_loopback() && !host.is_link_local() {
            return Err(BuildError::new(
                field,
                "is neither on this machine nor on its own network (169.254.0.0/16): the token would go in clear",
            ));
        }
        let limits = Limits { timeout: Some(timeout.unwrap_or(TIMEOUT)), max_body: None };
        let transport = Transport::to(&endpoint, HttpSettings::default(), limits)?;
        Ok(Self { transport, endpoint })
    }

    /// Sends a GET request, with the header that no browser can be made to send.
    async fn ask(
        &self,
        header: (&'static str, &'static str),
        more: impl FnOnce(&mut Request),
        time_left: Option<Duration>,
    ) -> Result<Answer, SourceError> {
        let mut request = Request::new(Method::GET);
        request.headers.insert(header.0, HeaderValue::from_static(header.1));
        more(&mut request);
        self.transport.exchange(&self.endpoint, request, time_left).await
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("url", self.endpoint.url().as_str());
    }
}

/// An answer with an `access_token`. `transient`: the statuses after which a later attempt may succeed, beside 408,
/// 425, 429 and 5xx.
fn shape(ends: Ends, transient: &[StatusCode]) -> Result<Shape, BuildError> {
    Ok(Shape {
        token: Pointer::parse("token_pointer", "/access_token")?,
        ends,
        kind: TokenType::Bearer,
        transient: transient.to_vec(),
        reason: None,
    })
}

/// One resource, in Azure's form. Azure's newer libraries append `/.default` to the resource.
fn one_resource(text: &str) -> Result<&str, BuildError> {
    let refused = |what| Err(BuildError::new("resource", what));
    let text = text.strip_suffix("/.default").unwrap_or(text);
    match text {
        "" => refused("is empty: name the API that the tokens are for, such as \"https://vault.azure.net\""),
        _ if text.contains(|char: char| char.is_whitespace() || char.is_control() || char == ',') => {
            refused("is not one resource: a token is for one, so make a source for each")
        }
        _ => Ok(text),
    }
}
