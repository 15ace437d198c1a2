//! Any source, from one table of settings.

#[cfg(feature = "oauth2")]
mod grants;
#[cfg(feature = "http")]
mod kept;
#[cfg(feature = "http")]
mod linked;
#[cfg(feature = "oauth2")]
mod login;

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::error::BuildError;
use crate::settings::table::{Entries, unknown_kind};
#[cfg(feature = "oauth2")]
use crate::source::{AwsWebIdentityBuilder, GithubAppBuilder, SignedJwtBuilder, VaultBuilder};
#[cfg(feature = "http")]
use crate::source::{AzureArcBuilder, AzureImdsBuilder, GcpMetadataBuilder, JsonEndpointBuilder};
use crate::source::{BoxSource, ExecCredentialBuilder, FileTokenBuilder};

/// The settings of any source. With them a file decides where a program's tokens come from. `kind` selects the
/// source. The other keys are the settings of that source's builder.
///
/// | `kind` | source | feature |
/// |---|---|---|
/// | `file` | [`FileToken`](super::FileToken) | none |
/// | `exec` | [`ExecCredential`](super::ExecCredential) | none |
/// | `json_endpoint` | `JsonEndpoint`; `authorization` is a table of this kind too, and so is each value of `header_token` | `http` |
/// | `gcp_metadata` | `Metadata::gcp` | `http` |
/// | `azure_imds` | `Metadata::azure_imds` | `http` |
/// | `azure_arc` | `Metadata::azure_arc` | `http` |
/// | `client_credentials` | `ClientCredentials` | `oauth2` |
/// | `token_exchange` | `TokenExchange`; `subject` and `actor` are tables of this kind too | `oauth2` |
/// | `jwt_bearer` | `JwtBearer`; `assertion` is a table of this kind too | `oauth2` |
/// | `refresh_token` | `RefreshToken`; `vault` is the place where the refresh token is kept | `oauth2` |
/// | `aws_web_identity` | `Metadata::aws_web_identity` | `oauth2` |
/// | `github_app` | `GithubApp` | `oauth2` |
/// | `signed_jwt` | `SignedJwt` | `oauth2` |
/// | `vault` | `Vault`; `jwt` is a table of this kind too | `oauth2` |
///
/// Unknown keys are refused. The error names the table and the allowed keys. Neither `Debug` nor this crate's
/// errors contain a secret. But a parser's own error may quote the file. The error of `toml` shows the line at
/// fault, and its `Debug` output shows the whole file. (`main` prints a returned error by `Debug`.) Therefore print
/// its `message()`, or keep secrets out of the file: `{ file = ".." }`, `{ env = ".." }`.
///
/// # Links
///
/// A table in the table of another source is a link of a chain. Each OAuth grant accepts `client_assertion` as a
/// link too: the proof of the client's identity. A link keeps its token, and fetches a new one only when its token
/// has ended, like a separate actor. A `signed_jwt` makes a new JWT for each attempt. At most one call of a link is under way. A link makes no second attempt. Only
/// the flight of the whole chain does. If a server refuses a request, the links before it fetch new tokens at the
/// next flight. An error names the links on the way to the one that failed.
///
/// ```
/// # #[cfg(feature = "oauth2")] {
/// use tokenflight::source::SourceSettings;
///
/// // A token of Kubernetes, in exchange for one of the pool, in exchange for one of the service account.
/// let settings = r#"{
///     "kind": "json_endpoint", "method": "POST", "url": "https://iam.example.com/robot:generateAccessToken",
///     "token_pointer": "/accessToken", "expires_at_pointer": "/expireTime",
///     "authorization": {
///         "kind": "token_exchange", "token_url": "https://sts.example.com/v1/token", "client_id": "pool", "auth_method": "none",
///         "subject": { "kind": "file", "path": "/var/run/secrets/tokens/api" }
///     }
/// }"#;
/// let source = serde_json::from_str::<SourceSettings>(settings)?.build()?;
/// # let _ = source;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # The vault of a refresh token
///
/// `vault` is `{ kind = "file", path = ".." }`, with a `lock_timeout` if it is to differ from 5 s, or with feature `redis`
/// `{ kind = "redis", name = "..", keys = [..] }` and the settings of a `RedisStoreBuilder` beside them. `login` is
/// the first refresh token, as a value, `{ file = ".." }` or `{ env = ".." }`. A record in the vault has priority
/// over it. Therefore leave `login` out once there is a login. `grace` and `after_crash` (`"needs_login"` or
/// `"try_once"`) are as in code.
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

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one for a program
enum Kind {
    File(FileTokenBuilder),
    Exec(ExecCredentialBuilder),
    #[cfg(feature = "http")]
    JsonEndpoint(linked::Linked<JsonEndpointBuilder, linked::Headers>),
    #[cfg(feature = "http")]
    GcpMetadata(GcpMetadataBuilder),
    #[cfg(feature = "http")]
    AzureImds(AzureImdsBuilder),
    #[cfg(feature = "http")]
    AzureArc(AzureArcBuilder),
    #[cfg(feature = "oauth2")]
    ClientCredentials(linked::Linked<grants::Granted, grants::Plain>),
    #[cfg(feature = "oauth2")]
    TokenExchange(linked::Linked<grants::Granted, grants::Exchange>),
    #[cfg(feature = "oauth2")]
    JwtBearer(linked::Linked<grants::Granted, grants::Assertion>),
    #[cfg(feature = "oauth2")]
    RefreshToken(linked::Linked<grants::Granted, login::Login>),
    #[cfg(feature = "oauth2")]
    AwsWebIdentity(AwsWebIdentityBuilder),
    #[cfg(feature = "oauth2")]
    GithubApp(GithubAppBuilder),
    #[cfg(feature = "oauth2")]
    SignedJwt(SignedJwtBuilder),
    #[cfg(feature = "oauth2")]
    Vault(linked::Linked<VaultBuilder, grants::Jwt>),
}

impl Kind {
    /// The rest of the table, for its `kind`.
    fn read(kind: &str, table: Entries) -> Result<Self, String> {
        const KINDS: &[&str] = &[
            "file",
            "exec",
            #[cfg(feature = "http")]
            "json_endpoint",
            #[cfg(feature = "http")]
            "gcp_metadata",
            #[cfg(feature = "http")]
            "azure_imds",
            #[cfg(feature = "http")]
            "azure_arc",
            #[cfg(feature = "oauth2")]
            "client_credentials",
            #[cfg(feature = "oauth2")]
            "token_exchange",
            #[cfg(feature = "oauth2")]
            "jwt_bearer",
            #[cfg(feature = "oauth2")]
            "refresh_token",
            #[cfg(feature = "oauth2")]
            "aws_web_identity",
            #[cfg(feature = "oauth2")]
            "github_app",
            #[cfg(feature = "oauth2")]
            "signed_jwt",
            #[cfg(feature = "oauth2")]
            "vault",
        ];
        Ok(match kind {
            "file" => Self::File(table.read_kind(kind)?),
            "exec" => Self::Exec(table.read_kind(kind)?),
            #[cfg(feature = "http")]
            "json_endpoint" => Self::JsonEndpoint(table.read_kind(kind)?),
            #[cfg(feature = "http")]
            "gcp_metadata" => Self::GcpMetadata(table.read_kind(kind)?),
            #[cfg(feature = "http")]
            "azure_imds" => Self::AzureImds(table.read_kind(kind)?),
            #[cfg(feature = "http")]
            "azure_arc" => Self::AzureArc(table.read_kind(kind)?),
            #[cfg(feature = "oauth2")]
            "client_credentials" => Self::ClientCredentials(table.read_kind(kind)?),
            #[cfg(feature = "oauth2")]
            "token_exchange" => Self::TokenExchange(table.read_kind(kind)?),
            #[cfg(feature = "oauth2")]
            "jwt_bearer" => Self::JwtBearer(table.read_kind(kind)?),
            #[cfg(feature = "oauth2")]
            "refresh_token" => Self::RefreshToken(table.read_kind(kind)?),
            #[cfg(feature = "oauth2")]
            "aws_web_identity" => Self::AwsWebIdentity(table.read_kind(kind)?),
            #[cfg(feature = "oauth2")]
            "github_app" => Self::GithubApp(table.read_kind(kind)?),
            #[cfg(feature = "oauth2")]
            "signed_jwt" => Self::SignedJwt(table.read_kind(kind)?),
            #[cfg(feature = "oauth2")]
            "vault" => Self::Vault(table.read_kind(kind)?),
            _ => return Err(unknown_kind(kind, KINDS)),
        })
    }
}

impl SourceSettings {
    /// Whether a link gives its token again until the token's end. A JWT that this process signs costs no call, and
    /// servers accept its `jti` once.
    #[cfg(feature = "http")]
    fn is_kept(&self) -> bool {
        match self.0 {
            #[cfg(feature = "oauth2")]
            Kind::SignedJwt(_) => false,
            _ => true,
        }
    }

    /// Checks the settings.
    ///
    /// # Errors A setting that cannot work. The error names the setting, and for a link the path to its
    /// [table](BuildError::table). With [`BuildError::within`] a program adds the table that contains these
    /// settings.
    pub fn build(self) -> Result<BoxSource, BuildError> {
        Ok(match self.0 {
            Kind::File(settings) => BoxSource::new(settings.build()?),
            Kind::Exec(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "http")]
            Kind::JsonEndpoint(settings) => settings.build()?,
            #[cfg(feature = "http")]
            Kind::GcpMetadata(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "http")]
            Kind::AzureImds(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "http")]
            Kind::AzureArc(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "oauth2")]
            Kind::ClientCredentials(settings) => settings.build()?,
            #[cfg(feature = "oauth2")]
            Kind::TokenExchange(settings) => settings.build()?,
            #[cfg(feature = "oauth2")]
            Kind::JwtBearer(settings) => settings.build()?,
            #[cfg(feature = "oauth2")]
            Kind::RefreshToken(settings) => settings.build()?,
            #[cfg(feature = "oauth2")]
            Kind::AwsWebIdentity(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "oauth2")]
            Kind::GithubApp(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "oauth2")]
            Kind::SignedJwt(settings) => BoxSource::new(settings.build()?),
            #[cfg(feature = "oauth2")]
            Kind::Vault(settings) => settings.build()?,
        })
    }
}

impl<'de> Deserialize<'de> for SourceSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Entries::deserialize(deserializer)?;
        let read = table.take_kind().and_then(|kind| Kind::read(&kind, table));
        read.map(Self).map_err(D::Error::custom)
    }
}

/// The settings of the source itself, which hide their secrets.
impl fmt::Debug for SourceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SourceSettings").field(&self.0).finish()
    }
}
