//! The client credentials grant as a source (RFC 6749 section 4.4).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::duration;
use crate::error::{BuildError, SourceError};
use crate::oauth::{ClientAuth, ClientCredentialsGrant, ClientIdentity, GrantSettings, TokenEndpoint};
use crate::secret::Secret;
use crate::settings::settings;
use crate::source::{FetchContext, TokenSource, UNNAMED};
use crate::token::Token;
use crate::transport::Settings;

/// Tokens for the application itself, by its id and secret (RFC 6749 section 4.4, "client credentials").
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
/// From a file, with the names that the setters have; unknown keys are refused:
///
/// ```
/// use tokenflight::source::ClientCredentialsBuilder;
///
/// let settings = r#"{
///     "token_url": "https://auth.example.com/token",
///     "client_id": "my-app",
///     "client_secret": "s3cret",
///     "auth_method": "body",
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
/// # Errors of a fetch
/// Terminal, since nothing but a change of settings helps: a 4xx with any of the codes of RFC 6749 section
/// 5.2 (`invalid_client`, `invalid_scope`, …), and any redirect. Transient: the network, 408, 425, 429, 5xx,
/// the codes `temporarily_unavailable`, `server_error` and `slow_down`, and a success that holds no token:
/// HTML, no `access_token`, an `error`, more than `max_body`. The server's `error_description` is quoted on
/// one printable line without the client's secret; no body ever is.
///
/// # Tolerated deviations
/// A missing `token_type` means `Bearer`; `expires_in` may be missing (the policy's `missing_lifetime`), a
/// number in quotes, or have a fraction. A missing `scope` means that all that was asked for is granted
/// (section 5.1). A `refresh_token` is not used: asking anew costs the same (section 4.4.3).
pub struct ClientCredentials {
    endpoint: TokenEndpoint,
    client: ClientIdentity,
    grant: ClientCredentialsGrant,
}

impl ClientCredentials {
    /// Starts from what every client has: the URL of the token endpoint, and its own id and secret there.
    pub fn builder(
        token_url: impl Into<String>,
        client_id: impl Into<String>,
        client_secret: impl Into<String>,
    ) -> ClientCredentialsBuilder {
        ClientCredentialsBuilder {
            token_url: Secret::new(token_url),
            client_id: client_id.into(),
            client_secret: Secret::new(client_secret),
            auth_method: ClientAuth::default(),
            scope: None,
            audience: None,
            resource: Vec::new(),
            extra: BTreeMap::new(),
            timeout: None,
            connect_timeout: None,
            max_body: None,
            http_client: None,
        }
    }
}

#[cfg(any(test, fuzzing))]
impl ClientCredentials {
    /// What it makes of an answer.
    pub(crate) async fn parse_response(
        &self,
        response: http::Response<Vec<u8>>,
    ) -> Result<Token, SourceError> {
        self.endpoint.parse_response(response, &self.grant.scopes).await
    }
}

impl TokenSource for ClientCredentials {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        self.endpoint.ask(self.grant.form.clone(), &self.grant.scopes, cx.time_left()).await
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("grant_type", "client_credentials");
        part("token_url", self.endpoint.url());
        part("client_id", self.client.id());
        part("asked_for", &String::from_utf8_lossy(&self.grant.requested));
        if self.endpoint.is_foreign() {
            part(UNNAMED, "`http_client`");
        }
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        self.client.credential(part);
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("token_url", &self.endpoint.shown())
            .field("client_id", &self.client.id())
            .field("client_secret", &"[redacted]")
            .field("auth_method", &self.client.auth())
            .field("scopes", &self.grant.scopes)
            .finish_non_exhaustive()
    }
}

settings! {
    /// The settings of [`ClientCredentials`], from code or by serde from a file.
    ///
    /// In a file, `token_url`, `client_id` and `client_secret` are required. Durations are written like `"10s"`,
    /// `auth_method` is `"basic"` or `"body"`, `resource` is a list and `extra` a table. `Debug` hides the
    /// secret, the URL and the values of `extra`.
    #[derive(Clone)]
    #[must_use = "it does nothing until it is built"]
    pub struct ClientCredentialsBuilder {
        /// Its query may hold a key, so it is hidden until it has been checked.
        token_url: Secret,
        client_id: String,
        client_secret: Secret,
        #[serde(default)]
        auth_method: ClientAuth,
        #[serde(default)]
        scope: Option<String>,
        #[serde(default)]
        audience: Option<String>,
        #[serde(default)]
        resource: Vec<String>,
        #[serde(default)]
        extra: BTreeMap<String, Secret>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        timeout: Option<Duration>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        connect_timeout: Option<Duration>,
        #[serde(default)]
        max_body: Option<usize>,
        #[serde(skip)]
        http_client: Option<reqwest::Client>,
    }
}

impl ClientCredentialsBuilder {
    /// Where id and secret stand in the request. Default: [`ClientAuth::Basic`].
    pub fn auth_method(mut self, method: ClientAuth) -> Self {
        self.auth_method = method;
        self
    }

    /// The scopes to ask for, with spaces between them (RFC 6749 section 3.3). Default: none, so that the
    /// server chooses.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Whom the token is for, at servers that ask for an `audience`. Default: none.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Adds a resource that the token is for: an absolute URI without a fragment (RFC 8707). Default: none.
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.resource.push(uri.into());
        self
    }

    /// Adds a parameter of the server's own. A second value for the same name replaces the first; names that
    /// have a setting here are refused. Default: none.
    pub fn extra(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.insert(name.into(), Secret::new(value));
        self
    }

    /// How long one request may take, from the connection to the last byte. Default 9 s, just below the
    /// policy's `attempt_timeout`. It ends with the attempt in any case.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// How long it may take to connect. Default 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = Some(limit);
        self
    }

    /// The longest answer that is read, in bytes. Default 65,536.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = Some(bytes);
        self
    }

    /// A client of your own: a proxy, a certificate, a pool to share. Build it with
    /// `redirect(Policy::none())`: what a redirect led to is refused in any case, but only your client can
    /// keep it from being asked. Default: one that follows no redirects, with TLS by this crate's features.
    pub fn http_client(mut self, client: reqwest::Client) -> Self {
        self.http_client = Some(client);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting that cannot work; the error names it.
    pub fn build(self) -> Result<ClientCredentials, BuildError> {
        let client = ClientIdentity::new(self.client_id, self.client_secret, self.auth_method)?;
        let settings = GrantSettings {
            scope: self.scope.as_deref(),
            audience: self.audience.as_deref(),
            resource: &self.resource,
            extra: Some(&self.extra),
        };
        let grant = ClientCredentialsGrant::new(&client, &settings)?;
        let settings = Settings {
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            max_body: self.max_body,
            client: self.http_client,
        };
        let endpoint = TokenEndpoint::new(self.token_url.expose(), &client, settings)?;
        Ok(ClientCredentials { endpoint, client, grant })
    }
}

/// Without the client: its own `Debug` shows the headers that it adds to each request.
impl fmt::Debug for ClientCredentialsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentialsBuilder")
            .field("token_url", &self.token_url)
            .field("client_id", &self.client_id)
            .field("client_secret", &self.client_secret)
            .field("auth_method", &self.auth_method)
            .field("scope", &self.scope)
            .field("audience", &self.audience)
            .field("resource", &self.resource)
            .field("extra", &self.extra)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_body", &self.max_body)
            .finish_non_exhaustive()
    }
}
