//! The client credentials grant as a source (RFC 6749 section 4.4).

use crate::error::{BuildError, SourceError};
use crate::oauth::{Client, ClientBuilder, Grant, GrantBuilder, GrantSource, Limit};
use crate::source::FetchContext;
use crate::transport::Form;

/// Tokens for the application itself (RFC 6749 section 4.4, "client credentials").
///
/// The short form, for a client with a secret. [`Client`] has all other forms.
///
/// ```
/// use tokenflight::source::ClientCredentials;
///
/// let source = ClientCredentials::builder("https://auth.example.com/token", "my-app", "s3cret")
///     .scope("orders.read orders.write")
///     .build()?;
/// assert!(!format!("{source:?}").contains("s3cret"));
///
/// // Settings are checked here, not at the first request, and the error names the one at fault.
/// let error = ClientCredentials::builder("auth.example.com", "my-app", "s3cret").build().unwrap_err();
/// assert_eq!(error.field(), "token_url");
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// From a file, with the names of the setters of the grant, and of the client [in a file](ClientBuilder). `audience` is
/// the grant's. Unknown keys are refused:
///
/// ```
/// use tokenflight::source::ClientCredentialsBuilder;
///
/// let settings = r#"{
///     "token_url": "https://auth.example.com/token",
///     "client_id": "my-app",
///     "client_secret": "s3cret",
///     "auth_method": "client_secret_post",
///     "resource": ["https://api.example.com/"],
///     "extra": { "tenant": "blue" },
///     "timeout": "3s"
/// }"#;
/// let source = serde_json::from_str::<ClientCredentialsBuilder>(settings)?.build()?;
///
/// let misspelt = settings.replace("timeout", "timeuot");
/// let error = serde_json::from_str::<ClientCredentialsBuilder>(&misspelt).unwrap_err();
/// assert!(error.to_string().contains("unknown field `timeuot`"));
/// # let _ = source;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A `refresh_token` in the answer is not used, because a new request costs the same (section 4.4.3).
pub type ClientCredentials = GrantSource<ClientCredentialsGrant>;

/// The grant of [`ClientCredentials`].
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ClientCredentialsGrant;

impl Grant for ClientCredentialsGrant {
    const TYPE: &'static str = "client_credentials";
    const PARAMETERS: &'static [&'static str] = &[];

    fn check(&self, client: &Client) -> Result<(), BuildError> {
        if client.is_confidential() {
            return Ok(());
        }
        let message =
            "is missing: only a client that can prove its identity may use this grant (RFC 6749 section 4.4)";
        Err(BuildError::new("client_secret", message))
    }

    async fn parameters(&self, _form: &mut Form, _cx: &FetchContext) -> Result<Limit, SourceError> {
        Ok(Limit::default())
    }

    fn identify(&self, _part: &mut dyn FnMut(&str, &str)) {}
}

impl Client {
    /// Tokens for the application itself (RFC 6749 section 4.4).
    pub fn client_credentials(&self) -> GrantBuilder<ClientCredentialsGrant> {
        GrantBuilder::new(self, ClientCredentialsGrant)
    }
}

impl ClientCredentials {
    /// Begins with the URL of the token endpoint, and the client's id and secret there.
    pub fn builder(
        token_url: impl Into<String>,
        client_id: impl Into<String>,
        client_secret: impl Into<String>,
    ) -> ClientCredentialsBuilder {
        let client = Client::with_token_url(token_url, client_id).secret(client_secret);
        GrantBuilder::with(client, ClientCredentialsGrant)
    }
}

/// The settings of [`ClientCredentials`], from code or by serde from a file: those of a [`ClientBuilder`] and of the
/// grant in one table.
pub type ClientCredentialsBuilder = GrantBuilder<ClientCredentialsGrant, ClientBuilder>;
