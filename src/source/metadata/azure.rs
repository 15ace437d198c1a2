//! Azure's Instance Metadata Service.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::{Server, one_resource, shape};
use crate::duration;
use crate::error::{BuildError, SourceError};
use crate::settings::settings;
use crate::source::json_endpoint::answer::{Ends, Shape};
use crate::source::{FetchContext, TokenSource, UNNAMED};
use crate::token::Token;
use crate::transport::Pointer;

const BASE: &str = "http://169.254.169.254";
const PATH: &str = "/metadata/identity/oauth2/token";
const API_VERSION: &str = "2018-02-01";

/// Tokens of Azure's Instance Metadata Service, for a managed identity of the machine. See
/// [`Metadata::azure_imds`](super::Metadata::azure_imds).
///
/// # Errors of a fetch
/// Transient: the network, 404 (the identity is not there yet), 408, 410 (the service is being updated, for up to
/// 70 s), 425, 429, 5xx, and an answer without a token. The policy decides when the service is called again: in the
/// flight, and after its cooldown, which is 10 s at most by default. Terminal: any other refusal (400: the machine
/// has no such identity), and a redirect.
pub struct AzureImds {
    server: Server,
    shape: Shape,
    is_named: bool,
}

settings! {
    /// The settings of [`AzureImds`], from code or by serde from a file. In a file `resource` is required, and
    /// durations are written like `"3s"`.
    ///
    /// `Debug` hides the URL.
    #[derive(Clone)]
    #[must_use = "it does nothing until it is built"]
    pub struct AzureImdsBuilder {
        resource: String,
        #[serde(default)]
        client_id: Option<String>,
        #[serde(default)]
        object_id: Option<String>,
        #[serde(default)]
        resource_id: Option<String>,
        #[serde(default)]
        base_url: Option<String>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        timeout: Option<Duration>,
    }
}

impl AzureImdsBuilder {
    pub(super) fn new(resource: String) -> Self {
        Self { resource, client_id: None, object_id: None, resource_id: None, base_url: None, timeout: None }
    }

    /// Selects a user-assigned identity by its client id. Default: the machine's own, or its only one.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// The same, with its object id.
    pub fn object_id(mut self, id: impl Into<String>) -> Self {
        self.object_id = Some(id.into());
        self
    }

    /// The same, with its resource id (`/subscriptions/...`).
    pub fn resource_id(mut self, id: impl Into<String>) -> Self {
        self.resource_id = Some(id.into());
        self
    }

    /// Scheme, host and port of the service. Default: `http://169.254.169.254`.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// The time limit of one request. Default 3 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting that cannot work, or two that exclude each other. The error names the setting.
    pub fn build(self) -> Result<AzureImds, BuildError> {
        let mut query = vec![("api-version", API_VERSION), ("resource", one_resource(&self.resource)?)];
        let identities = [
            ("client_id", "client_id", &self.client_id),
            ("object_id", "object_id", &self.object_id),
            ("resource_id", "msi_res_id", &self.resource_id),
        ];
        let mut is_named = false;
        for (field, name, id) in identities {
            let Some(id) = id else { continue };
            if id.trim().is_empty() {
                return Err(BuildError::new(field, "is empty: leave it out for the machine's own identity"));
            }
            if is_named {
                let message = "is one of several names for the identity: keep only one of `client_id`, `object_id` and \
                               `resource_id`";
                return Err(BuildError::new(field, message));
            }
            query.push((name, id));
            is_named = true;
        }
        let server = Server::new(self.base_url.as_deref().unwrap_or(BASE), PATH, &query, self.timeout)?;
        let ends = Ends::At(Pointer::parse("expires_at_pointer", "/expires_on")?);
        let shape = shape(ends, &[StatusCode::NOT_FOUND, StatusCode::GONE])?;
        Ok(AzureImds { server, shape, is_named })
    }
}

impl TokenSource for AzureImds {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        self.shape.read(self.server.ask(("metadata", "true"), |_| {}, cx.time_left()).await?)
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("metadata", "azure_imds");
        self.server.identify(part);
        if !self.is_named {
            part(UNNAMED, "whose identity this machine has (`client_id` names it)");
        }
    }
}

impl fmt::Debug for AzureImdsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureImdsBuilder")
            .field("resource", &self.resource)
            .field("client_id", &self.client_id)
            .field("object_id", &self.object_id)
            .field("resource_id", &self.resource_id)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AzureImds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureImds").field("url", &self.server.endpoint.shown()).finish_non_exhaustive()
    }
}
