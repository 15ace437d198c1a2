//! Any source, from one table of settings.

#[cfg(feature = "oauth2")]
mod linked;

use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::error::BuildError;
use crate::settings::OnlyTable;
#[cfg(feature = "http")]
use crate::source::{AzureArcBuilder, AzureImdsBuilder, GcpMetadataBuilder, JsonEndpointBuilder};
use crate::source::{BoxSource, ExecCredentialBuilder, FileTokenBuilder};
#[cfg(feature = "oauth2")]
use crate::source::{ClientCredentialsBuilder, GithubAppBuilder, VaultBuilder};

/// The settings of any source, so that a file decides where a program's tokens come from. `kind` says which source it is; the
/// other keys are the settings of that source's builder.
///
/// | `kind` | source | feature |
/// |---|---|---|
/// | `file` | [`FileToken`](super::FileToken) | none |
/// | `exec` | [`ExecCredential`](super::ExecCredential) | none |
/// | `json_endpoint` | `JsonEndpoint` | `http` |
/// | `gcp_metadata` | `Metadata::gcp` | `http` |
/// | `azure_imds` | `Metadata::azure_imds` | `http` |
/// | `azure_arc` | `Metadata::azure_arc` | `http` |
/// | `client_credentials` | `ClientCredentials` | `oauth2` |
/// | `token_exchange` | `TokenExchange`; `subject` and `actor` are tables of this kind too | `oauth2` |
/// | `jwt_bearer` | `JwtBearer`; `assertion` is a table of this kind too | `oauth2` |
/// | `github_app` | `GithubApp` | `oauth2` |
/// | `vault` | `Vault` | `oauth2` |
///
/// Unknown keys are refused. Neither `Debug` nor an error of the parser shows a secret.
///
/// ```
/// use tokenflight::source::SourceSettings;
///
/// let settings = r#"{ "kind": "file", "path": "/var/run/secrets/tokens/api", "reread": "30s" }"#;
/// let source = serde_json::from_str::<SourceSettings>(settings)?.build()?;
///
/// let misspelt = settings.replace("reread", "reraed");
/// let error = serde_json::from_str::<SourceSettings>(&misspelt).unwrap_err();
/// assert!(error.to_string().contains("unknown field `reraed`"));
/// # let _ = source;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "it does nothing until it is built"]
pub struct SourceSettings(Kind);

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // one for a program
enum Kind {
    File(FileTokenBuilder),
    Exec(ExecCredentialBuilder),
    #[cfg(feature = "http")]
    JsonEndpoint(JsonEndpointBuilder),
    #[cfg(feature = "http")]
    GcpMetadata(GcpMetadataBuilder),
    #[cfg(feature = "http")]
    AzureImds(AzureImdsBuilder),
    #[cfg(feature = "http")]
    AzureArc(AzureArcBuilder),
    #[cfg(feature = "oauth2")]
    ClientCredentials(ClientCredentialsBuilder),
    #[cfg(feature = "oauth2")]
    TokenExchange(linked::Linked<linked::Exchange>),
    #[cfg(feature = "oauth2")]
    JwtBearer(linked::Linked<linked::Assertion>),
    #[cfg(feature = "oauth2")]
    GithubApp(GithubAppBuilder),
    #[cfg(feature = "oauth2")]
    Vault(VaultBuilder),
}

impl SourceSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// A setting that cannot work; the error names it.
    pub fn build(self) -> Result<BoxSource, BuildError> {
        Ok(match self.0 {
            Kind::File(settings) => BoxSource::new(settings.build()?),
            Kind::Exec(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "http")]
            Kind::JsonEndpoint(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "http")]
            Kind::GcpMetadata(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "http")]
            Kind::AzureImds(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "http")]
            Kind::AzureArc(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "oauth2")]
            Kind::ClientCredentials(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "oauth2")]
            Kind::TokenExchange(settings) => settings.build()?,
            #[cfg(feature = "oauth2")]
            Kind::JwtBearer(settings) => settings.build()?,
            #[cfg(feature = "oauth2")]
            Kind::GithubApp(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "oauth2")]
            Kind::Vault(settings) => BoxSource::new(settings.build()?),
        })
    }
}

impl<'de> Deserialize<'de> for SourceSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Kind::deserialize(OnlyTable(deserializer)).map(Self)
    }
}

/// The settings of the source itself, which hide their secrets.
impl fmt::Debug for SourceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SourceSettings").field(&self.0).finish()
    }
}
